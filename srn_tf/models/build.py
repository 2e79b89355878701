"""From a plain description to a model; the description is stored with every run and export."""

import dataclasses

from srn_tf.errors import InputError
from srn_tf.models.main_net import build_main_net
from srn_tf.models.srn import build_srn

MODELS = ("srn", "main_net")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What decides a model's architecture. The last four fields matter to "srn" alone.

    Attributes:
        model: one of `MODELS`.
        backbone: one of `backbones.BACKBONES`.
        image_size: side S of the square input, pixels.
        srn_head, regularize_from, head_channels, learn_alpha: see `build_srn`.
    """

    model: str
    backbone: str
    image_size: int
    srn_head: str = "released"
    regularize_from: str = "weighted"
    head_channels: int = 512
    learn_alpha: bool = False


def build_model(config, num_labels, backbone_weights="none"):
    """Builds the described model.

    Args:
        config: ModelConfig.
        num_labels: C.
        backbone_weights: "imagenet", "none" or a file, see `build_backbone`.
    Returns:
        MultiLabelModel.
    Raises:
        InputError: a value outside its set, or weights that cannot be had.
    """
    if config.model == "main_net":
        return build_main_net(config.backbone, config.image_size, num_labels, backbone_weights)
    if config.model == "srn":
        return build_srn(
            config.backbone,
            config.image_size,
            num_labels,
            backbone_weights,
            head=config.srn_head,
            regularize_from=config.regularize_from,
            head_channels=config.head_channels,
            learn_alpha=config.learn_alpha,
        )
    raise InputError(f"model must be one of {', '.join(MODELS)}. Received: {config.model!r}.")
