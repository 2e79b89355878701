"""The table of methods, name -> settings and build function; and how a plain description becomes a model."""

import dataclasses
import functools

from srn_tf.errors import InputError
from srn_tf.labels import LabelSpace
from srn_tf.lazy import LazyModule
from srn_tf.models import (
    add_gcn,
    c_tran,
    cnn_rnn,
    csra,
    main_net,
    ml_decoder,
    ml_gcn,
    msrn,
    query2label,
    resnet107,
    rlsd,
    semantic,
    srn,
)

backbones = LazyModule("srn_tf.models.backbones")


@dataclasses.dataclass(frozen=True)
class Method:
    """A row of the table of methods.

    Attributes:
        title: name of the method, for --help and the model card.
        settings: subclass of settings.Settings, whose `stages` is the method's stage table.
        build: function (trunk, labels, settings) -> model.MultiLabelModel; `labels` has the settings' `label_fields`.
    """

    title: str
    settings: type
    build: object


METHODS = {
    "srn": Method("ResNet-SRN", srn.SRNSettings, srn.build),
    "srn_att": Method(
        "ResNet-SRN-att, whose f_sr reads unweighted attention",
        srn.SRNSettings,
        functools.partial(srn.build, use_weighted_attention=False),
    ),
    "main_net": Method("main net alone", main_net.MainNetSettings, main_net.build),
    "resnet107": Method("ResNet-107", resnet107.ResNet107Settings, resnet107.build),
    "semantic": Method("ResNet-101-semantic", semantic.SemanticSettings, semantic.build),
    "cnn_rnn": Method("CNN-RNN", cnn_rnn.CNNRNNSettings, cnn_rnn.build),
    "ml_decoder": Method("ML-Decoder", ml_decoder.MLDecoderSettings, ml_decoder.build),
    "query2label": Method("Query2Label", query2label.Query2LabelSettings, query2label.build),
    "c_tran": Method("C-Tran", c_tran.CTranSettings, c_tran.build),
    "csra": Method("CSRA", csra.CSRASettings, csra.build),
    "ml_gcn": Method("ML-GCN", ml_gcn.MLGCNSettings, ml_gcn.build),
    "add_gcn": Method("ADD-GCN", add_gcn.ADDGCNSettings, add_gcn.build),
    "msrn": Method("MSRN", msrn.MSRNSettings, msrn.build),
    "rlsd": Method("RLSD, with regions learned from boxes of other data", rlsd.RLSDSettings, rlsd.build),
    "rlsd_ft_rpn": Method("RLSD+ft-RPN, with regions learned from its own boxes", rlsd.RLSDFtRPNSettings, rlsd.build),
}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What determines a model's architecture besides its labels; stored with every run and export.

    Attributes:
        model: key of `METHODS`.
        backbone: one of `backbones.BACKBONES`.
        image_size: side S of the square input, pixels.
        settings: the method's; None: its defaults.

    Raises:
        InputError: no such model.
    """

    model: str
    backbone: str
    image_size: int
    settings: object = None

    def __post_init__(self):
        if self.model not in METHODS:
            raise InputError(f"model must be one of {', '.join(METHODS)}. Received: {self.model!r}.")
        if self.settings is None:
            object.__setattr__(self, "settings", METHODS[self.model].settings())

    @classmethod
    def from_record(cls, record):
        """The config of a stored run.

        Args:
            record: "model" of its run.json, a config turned into a dict by dataclasses.asdict.
        Returns:
            ModelConfig.
        Raises:
            InputError: another version of this project wrote it.
        """
        try:
            settings = METHODS[record["model"]].settings(**record["settings"])
            return cls(**{**record, "settings": settings})
        except (KeyError, TypeError) as error:
            raise InputError(
                f"The run's model must be one of this version of srn_tf. Received: {record} ({error}). Train the run "
                "again, or use the version that wrote it."
            ) from None


def build_model(config, labels, backbone_weights="none"):
    """Builds the described model.

    Args:
        config: ModelConfig.
        labels: C label names, or a LabelSpace. Fields that the method needs and that are missing become zeros, see
            `LabelSpace.with_zeros`; stored weights bring their values.
        backbone_weights: "imagenet", "none" or a file, see `backbones.build_trunk`.
    Returns:
        MultiLabelModel.
    Raises:
        InputError: an image size that does not fit the backbone, or weights that cannot be loaded.
    """
    trunk = backbones.build_trunk(config.backbone, config.image_size, backbone_weights)
    labels = labels if isinstance(labels, LabelSpace) else LabelSpace(labels)
    return METHODS[config.model].build(trunk, labels.with_zeros(config.settings), config.settings)
