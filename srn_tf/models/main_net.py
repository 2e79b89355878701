"""The main net alone: the paper's baseline "ResNet-101", and the first stage of every SRN.

Equations (1) and (2) of Zhu et al., CVPR 2017: a trunk, its last map pooled, a linear layer.
"""

import dataclasses

from srn_tf.models.classifier import ClassifierSettings, build_classifier
from srn_tf.models.model import MultiLabelModel, Stage, label_loss

STAGES = {
    "cls": Stage(trains=("trunk", "classifier"), fixed=(), terms=(label_loss("y_cls"),), watched="y_cls"),
}


@dataclasses.dataclass(frozen=True)
class MainNetSettings(ClassifierSettings):
    """Settings of the main net alone."""

    stages = STAGES


def build(trunk, labels, settings):
    """Builds the main net as a model of its own.

    Args:
        trunk: backbones.Trunk.
        labels: labels.LabelSpace.
        settings: MainNetSettings.
    Returns:
        MultiLabelModel with the logits y_cls, the pooled features they come of, and no maps.
    """
    classifier = build_classifier(trunk.maps["c5"], len(labels), settings.pooling)
    last_map = trunk.model(trunk.image)["c5"]
    answer = classifier(last_map)
    return MultiLabelModel(
        image=trunk.image,
        outputs={"y_cls": answer["y_cls"], "pooled": answer["pooled"]},
        parts={"trunk": trunk.model, "classifier": classifier},
        stages=settings.stages,
        logits=("y_cls",),
        embedding="pooled",
        features={"c5": last_map},
    )
