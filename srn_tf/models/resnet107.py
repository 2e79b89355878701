"""The paper's ResNet-107: the main net with two more residual blocks between its last map and its pooling."""

import dataclasses

from srn_tf.lazy import LazyModule
from srn_tf.models.classifier import ClassifierSettings, build_classifier
from srn_tf.models.model import MultiLabelModel, Stage, label_loss

keras = LazyModule("keras")
blocks = LazyModule("srn_tf.models.blocks")

STAGES = {
    "cls": Stage(
        trains=("trunk", "classifier", "f_more"),
        fixed=(),
        terms=(label_loss("y_cls"),),
        watched="y_cls",
    ),
}


@dataclasses.dataclass(frozen=True)
class ResNet107Settings(ClassifierSettings):
    """Settings of ResNet-107."""

    stages = STAGES


def build(trunk, labels, settings):
    """Builds a main net with two more residual blocks.

    Args:
        trunk: backbones.Trunk.
        labels: labels.LabelSpace.
        settings: ResNet107Settings.
    Returns:
        MultiLabelModel with the logits y_cls, the pooled features they come of, and no maps.
    """
    classifier = build_classifier(trunk.maps["c5"], len(labels), settings.pooling)
    f_more = build_more_blocks(trunk.block, trunk.maps["c5"].shape[1:])
    last_map = trunk.model(trunk.image)["c5"]
    answer = classifier(f_more(last_map))
    return MultiLabelModel(
        image=trunk.image,
        outputs={"y_cls": answer["y_cls"], "pooled": answer["pooled"]},
        parts={"trunk": trunk.model, "classifier": classifier, "f_more": f_more},
        stages=settings.stages,
        logits=("y_cls",),
        embedding="pooled",
        label_free=("trunk", "f_more"),
        features={"c5": last_map},
    )


def build_more_blocks(block, map_shape):
    """Two more residual blocks of a backbone's own kind, at stride 1.

    Paper: section 4.1, two blocks with 2048 output channels "following the last block of ResNet-101 (the layer
    res5c_relu)": bottlenecks 2048-512-2048 with pre-activation (v2) or post-activation (v1); for "small" two of its
    own blocks. What they read is behind a ReLU, so with pre-activation a BatchNorm and ReLU end them as well. The
    text calls their size "approximately equal" to SRN's 6 million weights; they have 8.9 million.

    Args:
        block: kind of block, see `backbones.Trunk`.
        map_shape: (H, W, D) of the main net's last map.
    Returns:
        keras.Model f_more: (B, H, W, D) -> (B, H, W, D), >= 0.
    """
    channels = map_shape[-1]
    x = last_map = keras.Input(map_shape, name="more_input")
    for name in ("more_block1", "more_block2"):
        if block == "small":
            x = blocks.small_block(x, channels, 1, name)
        elif block == "preactivation":
            x = blocks.preactivation_bottleneck(x, channels, name)
        else:
            x = blocks.postactivation_bottleneck(x, channels, name)
    if block != "postactivation":
        x = blocks.norm_relu(x, "more_last")
    return keras.Model(last_map, x, name="f_more")
