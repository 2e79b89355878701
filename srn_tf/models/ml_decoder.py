"""ML-Decoder: one cross-attention of queries over the last map, then a linear layer for each query's labels.

Ridnik, Sharir, Ben-Cohen, Ben-Baruch, Noy: ML-Decoder: Scalable and Versatile Classification Head, WACV 2023
(arXiv 2111.12933). What the text leaves open is as in the authors' repository Alibaba-MIIL/ML_Decoder, 8a9e984.
"""

import dataclasses

from srn_tf.lazy import LazyModule
from srn_tf.models.model import Map, MultiLabelModel, Stage, label_loss
from srn_tf.models.settings import Settings, setting

keras = LazyModule("keras")
layers = LazyModule("srn_tf.models.layers")
transformer = LazyModule("srn_tf.models.transformer")

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
    transformer.check_width("decoder_width", width, HEADS)
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
    width, rate = settings.decoder_width, settings.decoder_dropout
    last_map = keras.Input(map_shape, name="last_map")
    queries = keras.Input((num_queries, width), name="queries")
    tokens = transformer.linear(transformer.tokens_of(last_map, "dec_tokens"), width, "dec_embed", "relu")

    t = transformer.add_and_norm(queries, queries, rate, "dec", 1)
    t, attention = transformer.attend(t, t, tokens, tokens, HEADS, rate, "dec", 2)
    t = transformer.feed_forward(t, settings.decoder_hidden, rate, "dec", 3)
    return keras.Model(
        {"last_map": last_map, "queries": queries}, {"queries": t, "attention": attention}, name="decoder"
    )
