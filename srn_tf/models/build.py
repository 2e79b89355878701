"""From a plain description to a model; the description is stored with every run and export."""

import dataclasses
import functools

from srn_tf.errors import InputError
from srn_tf.models.baselines import build_resnet107, build_semantic
from srn_tf.models.main_net import build_main_net
from srn_tf.models.srn import build_srn


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What decides a model's architecture. The last three fields matter to "srn" and "srn_att" alone.

    Attributes:
        model: one of `MODELS`.
        backbone: one of `backbones.BACKBONES`.
        image_size: side S of the square input, pixels.
        srn_head, head_channels, learn_alpha: see `build_srn`.
    """

    model: str
    backbone: str
    image_size: int
    srn_head: str = "released"
    head_channels: int = 512
    learn_alpha: bool = False

    @classmethod
    def from_record(cls, record):
        """The config of a stored run.

        Args:
            record: "model" of its run.json. Older runs have regularize_from there, which is the model now.
        Returns:
            ModelConfig.
        """
        record = dict(record)
        if record.pop("regularize_from", "weighted") == "attention" and record["model"] == "srn":
            record["model"] = "srn_att"
        return cls(**record)


def _build_srn(config, num_labels, backbone_weights, use_weighted_attention):
    return build_srn(
        config.backbone,
        config.image_size,
        num_labels,
        backbone_weights,
        head=config.srn_head,
        use_weighted_attention=use_weighted_attention,
        head_channels=config.head_channels,
        learn_alpha=config.learn_alpha,
    )


def _build_baseline(build, config, num_labels, backbone_weights):
    return build(config.backbone, config.image_size, num_labels, backbone_weights)


# The rows of the paper's Tables 1 to 3 that are its authors' own.
_BUILDERS = {
    "srn": functools.partial(_build_srn, use_weighted_attention=True),  # ResNet-SRN
    "srn_att": functools.partial(_build_srn, use_weighted_attention=False),  # ResNet-SRN-att
    "main_net": functools.partial(_build_baseline, build_main_net),  # ResNet-101
    "resnet107": functools.partial(_build_baseline, build_resnet107),  # ResNet-107
    "semantic": functools.partial(_build_baseline, build_semantic),  # ResNet-101-semantic
}
MODELS = tuple(_BUILDERS)


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
    if config.model not in _BUILDERS:
        raise InputError(f"model must be one of {', '.join(MODELS)}. Received: {config.model!r}.")
    return _BUILDERS[config.model](config, num_labels, backbone_weights)
