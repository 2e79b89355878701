"""The main net alone: the paper's baseline "ResNet-101", and the first stage of every SRN.

Equations (1) and (2) of Zhu et al., CVPR 2017: a trunk, its last map pooled, a linear layer.
"""

import dataclasses

from srn_tf.errors import InputError
from srn_tf.models.classifier import ClassifierSettings, build_classifier
from srn_tf.models.model import MultiLabelModel, Stage, label_loss
from srn_tf.models.settings import setting

STAGES = {
    "cls": Stage(trains=("trunk", "classifier"), fixed=(), terms=(label_loss("y_cls"),), watched="y_cls"),
}


@dataclasses.dataclass(frozen=True)
class MainNetSettings(ClassifierSettings):
    """Settings of the main net alone.

    Raises:
        InputError: a read-out at every place behind another pooling than the mean.
    """

    csra_at_test: float = setting(
        0.0,
        "Factor lambda of CSRA's read-out, which needs no training: the answer y_csra is y_cls plus lambda times the "
        "label's highest score at any place. Needs --pooling=mean. 0: the answer is y_cls.",
        lowest=0.0,
    )

    stages = STAGES

    def __post_init__(self):
        super().__post_init__()
        if self.csra_at_test and self.pooling != "mean":
            raise InputError(
                "csra_at_test needs pooling=mean: only then is the answer a mean of scores at every place. Received: "
                f"csra_at_test={self.csra_at_test:g} and pooling={self.pooling}. Use csra_at_test=0."
            )


def build(trunk, labels, settings):
    """Builds the main net as a model of its own.

    Args:
        trunk: backbones.Trunk.
        labels: labels.LabelSpace.
        settings: MainNetSettings.
    Returns:
        MultiLabelModel with the logits y_cls, the pooled features they come of, and no maps; with csra_at_test also the
        logits y_csra, its answer, which are not trained.
    """
    classifier = build_classifier(trunk.maps["c5"], len(labels), settings.pooling, settings.csra_at_test)
    last_map = trunk.model(trunk.image)["c5"]
    outputs = dict(classifier(last_map))
    return MultiLabelModel(
        image=trunk.image,
        outputs=outputs,
        parts={"trunk": trunk.model, "classifier": classifier},
        stages=settings.stages,
        logits=("y_csra", "y_cls") if "y_csra" in outputs else ("y_cls",),
        embedding="pooled",
        features={"c5": last_map},
    )


def with_csra_at_test(description, factor):
    """A stored run of the main net as if it had been trained with another csra_at_test, which changes no weight.

    Args:
        description: its run.json.
        factor: lambda, >= 0.
    Returns:
        dict in the same form, in which the model's own answer is served.
    Raises:
        InputError: a run of another method.
    """
    record = description["model"]
    if record["model"] != "main_net":
        raise InputError(
            f"--csra_at_test needs a run of --model=main_net. Received: a run of --model={record['model']}. Remove "
            "--csra_at_test."
        )
    changed = {**record, "settings": {**record["settings"], "csra_at_test": factor}}
    kept = {name: value for name, value in description.items() if name not in ("final", "choice")}
    return {**kept, "model": changed}
