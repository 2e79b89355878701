"""The paper's ResNet-101-semantic: relations of labels without places (section 4.1)."""

import dataclasses

from srn_tf.lazy import LazyModule
from srn_tf.models.classifier import ClassifierSettings, build_classifier
from srn_tf.models.model import MultiLabelModel, Stage, label_loss

keras = LazyModule("keras")

# The paper does not say how its semantic model was trained. Here as SRN (section 3.4): the main net, what is added to
# it, all; in the last stage the initial confidences keep their loss, as y_att does in SRN's.
STAGES = {
    "cls": Stage(
        trains=("trunk", "classifier"),
        fixed=("f_sem",),
        terms=(label_loss("y_cls"),),
        watched="y_cls",
    ),
    "sem": Stage(
        trains=("f_sem",),
        fixed=("trunk", "classifier"),
        terms=(label_loss("y_hat"),),
        watched="y_hat",
    ),
    "all": Stage(
        trains=("trunk", "classifier", "f_sem"),
        fixed=(),
        terms=(label_loss("y_hat"), label_loss("y_cls")),
        watched="y_hat",
    ),
}


@dataclasses.dataclass(frozen=True)
class SemanticSettings(ClassifierSettings):
    """Settings of ResNet-101-semantic."""

    stages = STAGES


def build(trunk, labels, settings):
    """Builds a main net whose confidences and pooled features three fully connected layers turn into final ones.

    Args:
        trunk: backbones.Trunk.
        labels: labels.LabelSpace.
        settings: SemanticSettings.
    Returns:
        MultiLabelModel with the logits y_hat (final) and y_cls (initial), the pooled features, and no maps.
    """
    classifier = build_classifier(trunk.maps["c5"], len(labels), settings.pooling)
    f_sem = build_relations(trunk.maps["c5"].shape[-1], len(labels))
    last_map = trunk.model(trunk.image)["c5"]
    initial = classifier(last_map)
    y_hat = f_sem({"y_cls": initial["y_cls"], "pooled": initial["pooled"]})
    return MultiLabelModel(
        image=trunk.image,
        outputs={"y_hat": y_hat, "y_cls": initial["y_cls"], "pooled": initial["pooled"]},
        parts={"trunk": trunk.model, "classifier": classifier, "f_sem": f_sem},
        stages=settings.stages,
        logits=("y_hat", "y_cls"),
        embedding="pooled",
        features={"c5": last_map},
    )


def build_relations(channels, num_labels):
    """f_sem: the initial confidences beside the features of "pool5", then layers of 2048, 2048 and C neurons.

    The confidences are the logits, which is what the paper calls so. The text leaves open what stands between the
    layers: ReLU. The hidden layers are as wide as the features: 2048, and 128 on "small".

    Args:
        channels: D of the pooled features.
        num_labels: C.
    Returns:
        keras.Model f_sem: dict of y_cls (B, C) and pooled (B, D) -> y_hat, logits (B, C).
    """
    y_cls = keras.Input((num_labels,), name="y_cls")
    pooled = keras.Input((channels,), name="pooled")
    x = keras.layers.Concatenate(name="sem_concat")([y_cls, pooled])
    for name in ("sem_1", "sem_2"):
        x = keras.layers.Dense(channels, "relu", kernel_initializer="he_normal", name=name)(x)
    y_hat = keras.layers.Dense(num_labels, dtype="float32", name="sem_logits")(x)
    return keras.Model({"y_cls": y_cls, "pooled": pooled}, y_hat, name="f_sem")
