"""CSRA: a label's score is its mean over places plus a share of what its own attention finds there.

Zhu, Wu: Residual Attention: A Simple but Effective Method for Multi-Label Recognition, ICCV 2021 (arXiv 2108.02456),
written from its formulas. The same read-out of a main net that was trained without it is `main_net`'s csra_at_test.
"""

import dataclasses

from srn_tf.lazy import LazyModule
from srn_tf.models.model import Map, MultiLabelModel, Stage, label_loss
from srn_tf.models.settings import Settings, setting

keras = LazyModule("keras")
residual_attention = LazyModule("srn_tf.models.residual_attention")

TEMPERATURES = {
    1: (1.0,),
    2: (1.0, None),
    4: (1.0, 2.0, 4.0, None),
    6: (1.0, 2.0, 3.0, 4.0, 5.0, None),
    8: (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, None),
}
"""Number of heads -> their temperatures; None is infinite: the highest score."""

ATTENTION = Map(
    "A",
    "residual attention",
    "Attention is a softmax of a label's scores over the places, as the mean over its heads of finite temperature. "
    "This mean is our reading: each head is weighed by itself.",
)

STAGES = {
    "all": Stage(trains=("trunk", "scores"), fixed=(), terms=(label_loss("y_csra"),), watched="y_csra"),
}


@dataclasses.dataclass(frozen=True)
class CSRASettings(Settings):
    """Settings of CSRA."""

    csra_heads: int = setting(1, "Attention heads, each with weights of its own. Paper: 1 to 8.", tuple(TEMPERATURES))
    csra_lambda: float = setting(
        0.1, "Factor lambda of the attention. Paper: 0.1 for VOC 2007, 0.3 for WIDER, 0.4 to 0.5 for COCO.", lowest=0.0
    )

    stages = STAGES


def build(trunk, labels, settings):
    """Builds CSRA on a trunk's last map.

    Args:
        trunk: backbones.Trunk.
        labels: labels.LabelSpace.
        settings: CSRASettings.
    Returns:
        MultiLabelModel with the logits y_csra, the map A of the attention, and the pooled last map.
    """
    temperatures = TEMPERATURES[settings.csra_heads]
    scores = residual_attention.NormedScores(settings.csra_heads, len(labels), name="scores")
    last_map = trunk.model(trunk.image)["c5"]
    s = scores(last_map)
    *grid, _ = trunk.maps["c5"].shape[1:]
    return MultiLabelModel(
        image=trunk.image,
        outputs={
            "y_csra": residual_attention.ResidualAttention(temperatures, settings.csra_lambda, name="csra_logits")(s),
            "A": residual_attention.ResidualAttentionMaps(grid, temperatures, name="csra_maps")(s),
            "pooled": keras.layers.GlobalAveragePooling2D(name="csra_pool")(last_map),
        },
        parts={"trunk": trunk.model, "scores": scores},
        stages=settings.stages,
        logits=("y_csra",),
        maps=(ATTENTION,),
        embedding="pooled",
        features={"c5": last_map},
    )
