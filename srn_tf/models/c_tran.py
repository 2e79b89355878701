"""C-Tran: a transformer over the last map and the labels together, which also takes labels that are known already.

Lanchantin, Wang, Ordonez, Qi: General Multi-label Image Classification with Transformers, CVPR 2021 (arXiv 2011.14027).
What the text leaves open is as in the authors' repository QData/C-Tran, 560cf6f.
"""

import dataclasses

from srn_tf.lazy import LazyModule
from srn_tf.models.model import Map, MultiLabelModel, Stage, label_loss
from srn_tf.models.settings import Settings, setting

keras = LazyModule("keras")
layers = LazyModule("srn_tf.models.layers")
token_layers = LazyModule("srn_tf.models.token_layers")
transformer = LazyModule("srn_tf.models.transformer")

HEADS = 4
LAYERS = 3
MOST_KNOWN = 0.75  # share of the labels that a step of training may know

ATTENTION = Map(
    "A",
    "attention",
    "Attention shows where a label looks in the last layer, as the mean over its heads; the rest of it goes to labels.",
    sums_to_one=False,
)

STAGES = {
    "all": Stage(
        trains=("trunk", "label_mask", "label_tokens", "transformer", "label_fc"),
        fixed=(),
        terms=(label_loss("y_known", counts="is_unknown"),),
        watched="y_ctran",
    ),
}


@dataclasses.dataclass(frozen=True)
class CTranSettings(Settings):
    """Settings of C-Tran."""

    ctran_width: int = setting(
        0,
        "Channels D of the tokens, a multiple of 4, behind a linear projection of the last map. 0: the map's own, "
        "without a projection, as in the paper (2048).",
        lowest=0,
    )
    ctran_hidden: int = setting(
        0, "Width of the feed-forward layers. 0: that of the tokens, as in the paper.", lowest=0
    )
    ctran_dropout: float = setting(0.1, "Dropout rate everywhere in the transformer. Paper: 0.1.", None, 0.0, 0.9)

    stages = STAGES


def build(trunk, labels, settings):
    """Builds C-Tran on a trunk's last map.

    Args:
        trunk: backbones.Trunk.
        labels: labels.LabelSpace.
        settings: CTranSettings.
    Returns:
        MultiLabelModel with the logits y_ctran of images of which nothing is known, the map A of the labels' attention,
        and the pooled last map. Taught, with the states of labels in the place of the truth: the logits y_known, and
        is_unknown, which labels they answer. In training most of what is known is hidden.
    Raises:
        InputError: a width that the heads cannot share.
    """
    map_shape, num_labels = trunk.maps["c5"].shape[1:], len(labels)
    width = settings.ctran_width or map_shape[-1]
    transformer.check_width("ctran_width", width, HEADS)
    label_mask = token_layers.LabelMask(MOST_KNOWN, name="label_mask")
    label_tokens = token_layers.LabelTokens(num_labels, width, name="label_tokens")
    encoder = build_transformer(map_shape, num_labels, settings)
    label_fc = layers.GroupLinear(num_labels, 1, is_uniform=True, name="label_fc")

    last_map = trunk.model(trunk.image)["c5"]
    nothing = token_layers.AllUnknown(num_labels, name="all_unknown")(last_map)
    answer = encoder({"last_map": last_map, "labels": label_tokens(nothing)})
    truth = keras.Input((num_labels,), name="truth")
    states = label_mask(truth)
    informed = encoder({"last_map": last_map, "labels": label_tokens(states)})
    return MultiLabelModel(
        image=trunk.image,
        outputs={
            "y_ctran": label_fc(answer["labels"]),
            "A": layers.AttentionMaps(map_shape[:2], num_labels, 1, name="attention_maps")(answer["attention"]),
            "pooled": keras.layers.GlobalAveragePooling2D(name="ctran_pool")(last_map),
        },
        parts={
            **{"trunk": trunk.model, "label_mask": label_mask, "label_tokens": label_tokens},
            **{"transformer": encoder, "label_fc": label_fc},
        },
        stages=settings.stages,
        logits=("y_ctran",),
        maps=(ATTENTION,),
        embedding="pooled",
        label_free=("trunk", "transformer"),
        features={"c5": last_map},
        truth=truth,
        taught={
            "y_known": label_fc(informed["labels"]),
            "is_unknown": token_layers.IsUnknown(name="is_unknown")(states),
        },
        informed="y_known",
    )


def build_transformer(map_shape, num_labels, settings):
    """Layers of self-attention over the places of the map, which do not know where they are, and the labels.

    The last layer computes the labels alone, because nothing reads the places behind it.

    Args:
        map_shape: (H, W, F) of the last map.
        num_labels: C.
        settings: CTranSettings.
    Returns:
        keras.Model transformer: dict of last_map (B, H, W, F) and labels (B, C, D) -> dict of labels (B, C, D) and
        attention float32 (B, 4, C, H * W) of the last layer, each label's share for the places.
    """
    num_places, rate = map_shape[0] * map_shape[1], settings.ctran_dropout
    width = settings.ctran_width or map_shape[-1]
    last_map = keras.Input(map_shape, name="last_map")
    labels = keras.Input((num_labels, width), name="labels")
    places = transformer.tokens_of(last_map, "tran_places")
    if settings.ctran_width:
        places = transformer.linear(places, width, "tran_project")
    t = keras.layers.Concatenate(axis=1, name="tran_tokens")([places, labels])
    t = transformer.norm(t, "tran_norm")
    for number in range(1, LAYERS + 1):
        name = f"tran{number}"
        asked = t if number < LAYERS else keras.layers.Cropping1D((num_places, 0), name="tran_labels")(t)
        t, attention = transformer.attend(asked, asked, t, t, HEADS, rate, name, 1)
        t = transformer.feed_forward(t, settings.ctran_hidden or width, rate, name, 2)
    of_places = keras.layers.Cropping2D(
        ((0, 0), (0, num_labels)), data_format="channels_first", dtype="float32", name="tran_of_places"
    )(attention)
    return keras.Model(
        {"last_map": last_map, "labels": labels}, {"labels": t, "attention": of_places}, name="transformer"
    )
