"""ML-Decoder: one cross-attention of queries over the last map, then a linear layer for each query's labels.

Ridnik, Sharir, Ben-Cohen, Ben-Baruch, Noy: ML-Decoder: Scalable and Versatile Classification Head, WACV 2023
(arXiv 2111.12933). What the text leaves open is as in the authors' repository Alibaba-MIIL/ML_Decoder, 8a9e984.
"""

import dataclasses

from srn_tf.errors import InputError
from srn_tf.lazy import LazyModule
from srn_tf.models.model import Map, MultiLabelModel, Stage, label_loss
from srn_tf.models.settings import Settings, setting

keras = LazyModule("keras")
layers = LazyModule("srn_tf.models.layers")

MOST_QUERIES = 100  # where no number of groups is asked for
HEADS = 8

ATTENTION = Map(
    "A", "cross-attention", "Cross-attention shows where a label's query looks, as the mean over its heads."
)

STAGES = {
    "all": Stage(
        trains=("trunk", "decoder", "group_fc"),
        fixed=("queries",),
        terms=(label_loss("y_dec"),),
        watched="y_dec",
    ),
}


@dataclasses.dataclass(frozen=True)
class MLDecoderSettings(Settings):
    """Settings of ML-Decoder."""

    decoder_width: int = setting(768, "Channels D of queries and tokens, a multiple of 8. Paper: 768.", lowest=8)
    decoder_hidden: int = setting(2048, "Width of the decoder's feed-forward layer. Paper: 2048.", lowest=1)
    decoder_dropout: float = setting(0.1, "Dropout rate everywhere in the decoder. Paper: 0.1.", None, 0.0, 0.9)
    decoder_groups: int = setting(
        0, "Number of queries, each for a group of consecutive labels. 0: one per label, at most 100.", lowest=0
    )

    stages = STAGES


def build(trunk, labels, settings):
    """Builds ML-Decoder on a trunk's last map.

    Args:
        trunk: backbones.Trunk.
        labels: labels.LabelSpace; their order decides which share a query, where there are fewer queries than labels.
        settings: MLDecoderSettings.
    Returns:
        MultiLabelModel with the logits y_dec, the map A of the cross-attention, and the pooled last map.
    Raises:
        InputError: a width that the heads cannot share.
    """
    width, num_labels = settings.decoder_width, len(labels)
    if width % HEADS:
        raise InputError(f"decoder_width must be a multiple of {HEADS}. Received: {width}.")
    num_queries = min(settings.decoder_groups or MOST_QUERIES, num_labels)
    group = int(num_labels / num_queries + 0.999)  # labels a query; the authors' rounding up
    *grid, _ = trunk.maps["c5"].shape[1:]
    queries = layers.Vectors(num_queries, width, is_learned=False, name="queries")
    decoder = build_decoder(trunk.maps["c5"].shape[1:], num_queries, settings)
    group_fc = layers.GroupLinear(num_labels, group, name="group_fc")

    last_map = trunk.model(trunk.image)["c5"]
    decoded = decoder({"last_map": last_map, "queries": queries(last_map)})
    return MultiLabelModel(
        image=trunk.image,
        outputs={
            "y_dec": group_fc(decoded["queries"]),
            "A": layers.AttentionMaps(grid, num_labels, group, name="attention_maps")(decoded["attention"]),
            "pooled": keras.layers.GlobalAveragePooling2D(name="dec_pool")(last_map),
        },
        parts={"trunk": trunk.model, "queries": queries, "decoder": decoder, "group_fc": group_fc},
        stages=settings.stages,
        logits=("y_dec",),
        maps=(ATTENTION,),
        embedding="pooled",
        label_free=("trunk", "decoder"),
        features={"c5": last_map},
    )


def build_decoder(map_shape, num_queries, settings):
    """One decoder layer with norms behind its sums, without self-attention and without positions.

    Args:
        map_shape: (H, W, F) of the last map.
        num_queries: Q.
        settings: MLDecoderSettings, D its width.
    Returns:
        keras.Model decoder: dict of last_map (B, H, W, F) and queries (B, Q, D) -> dict of queries (B, Q, D) and
        attention (B, 8, Q, H * W), each query of each head sums to 1.
    """
    height, width_px, channels = map_shape
    width, rate = settings.decoder_width, settings.decoder_dropout
    last_map = keras.Input(map_shape, name="last_map")
    queries = keras.Input((num_queries, width), name="queries")
    tokens = keras.layers.Reshape((height * width_px, channels), name="dec_tokens")(last_map)
    tokens = _linear(tokens, width, "dec_embed", "relu")

    t = _norm(_sum(queries, _dropout(queries, rate, "dec_drop1"), "dec_sum1"), "dec_norm1")
    # Xavier's uniform values of PyTorch's packed projection (3D, D).
    limit = (6.0 / (4 * width)) ** 0.5
    of_query, of_key, of_value = (
        keras.layers.Dense(width, kernel_initializer=keras.initializers.RandomUniform(-limit, limit), name=name)(x)
        for name, x in (("dec_query", t), ("dec_key", tokens), ("dec_value", tokens))
    )
    attention = layers.HeadAttention(HEADS, name="dec_attention")([of_query, of_key])
    mixed = layers.HeadMix(name="dec_mix")([_dropout(attention, rate, "dec_drop_attention"), of_value])
    looked = _linear(mixed, width, "dec_out")
    t = _norm(_sum(t, _dropout(looked, rate, "dec_drop2"), "dec_sum2"), "dec_norm2")
    hidden = _dropout(_linear(t, settings.decoder_hidden, "dec_hidden", "relu"), rate, "dec_drop_hidden")
    thought = _dropout(_linear(hidden, width, "dec_thought"), rate, "dec_drop3")
    t = _norm(_sum(t, thought, "dec_sum3"), "dec_norm3")
    return keras.Model(
        {"last_map": last_map, "queries": queries}, {"queries": t, "attention": attention}, name="decoder"
    )


def _linear(x, channels, name, activation=None):
    """A Dense layer with PyTorch's initial kernel, U(+-1 / sqrt(inputs))."""
    initializer = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    return keras.layers.Dense(channels, activation, kernel_initializer=initializer, name=name)(x)


def _norm(x, name):
    return keras.layers.LayerNormalization(epsilon=1e-5, name=name)(x)


def _sum(x, y, name):
    return keras.layers.Add(name=name)([x, y])


def _dropout(x, rate, name):
    return layers.SeededDropout(rate, name=name)(x)
