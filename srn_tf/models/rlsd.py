"""RLSD: labels of the regions that a region proposal network finds, by an LSTM; the best region answers for each label.

Zhang, Wu, Shen, Zhang, Lu: "Multi-label image classification with regional latent semantic dependencies", IEEE TMM
20(10), 2018 (arXiv 1612.01082). docs/methods.md says what is the paper's, what inherited and what a choice of ours.
"""

import dataclasses

from srn_tf.errors import InputError
from srn_tf.lazy import LazyModule
from srn_tf.models.model import MultiLabelModel, Regions, Stage, Term, label_loss
from srn_tf.models.settings import Settings, setting

keras = LazyModule("keras")
tf = LazyModule("tensorflow")
label_path = LazyModule("srn_tf.models.label_path")
layers = LazyModule("srn_tf.models.layers")
region_layers = LazyModule("srn_tf.models.region_layers")
rpn = LazyModule("srn_tf.models.rpn")

REGIONS = Regions(
    "boxes",
    "scores",
    "regions",
    "Regions are proposed independently of labels. A region's score is the label's probability in it; the highest "
    "score is the image's probability.",
)


def rpn_loss(outputs, batch, seed):
    """Per image: see `rpn.rpn_loss`. The labels of boxes are not looked at."""
    is_box = batch["box_labels"] >= 0
    return rpn.rpn_loss(outputs["rpn_offsets"], outputs["rpn_objectness"], batch["boxes"], is_box, seed)


def sequence_loss(outputs, batch, seed):
    """Per image: minus the mean log-likelihood of its labels in order of frequency and of END."""
    return outputs["sequence_loss"]


RPN = Term("rpn", ("rpn_offsets", "rpn_objectness"), rpn_loss)
SEQUENCE = Term("sequence", ("sequence_loss",), sequence_loss)
STAGES = {
    "rpn": Stage(
        trains=("rpn",),
        fixed=("trunk", "region_net", "label_lstm"),
        terms=(RPN,),
        watched="rpn",
        needs=("boxes",),
        is_default=False,  # its boxes are those of another data set
    ),
    "heads": Stage(
        trains=("region_net", "label_lstm"),
        fixed=("trunk", "rpn"),
        terms=(label_loss("y_rlsd"),),
        watched="y_rlsd",
    ),
    "joint": Stage(
        trains=("trunk", "region_net", "label_lstm"),
        fixed=("rpn",),
        terms=(label_loss("y_rlsd"),),
        watched="y_rlsd",
    ),
}
FT_RPN_STAGES = {
    "rpn": dataclasses.replace(STAGES["rpn"], is_default=True),
    "heads": STAGES["heads"],
    "joint": Stage(
        trains=("trunk", "rpn", "region_net", "label_lstm"),
        fixed=(),
        terms=(label_loss("y_rlsd"), RPN),
        watched="y_rlsd",
        needs=("boxes",),
    ),
}


@dataclasses.dataclass(frozen=True)
class RLSDSettings(Settings):
    """Settings of RLSD."""

    x_stride: int = setting(
        16,
        "Stride in pixels of the map X that the heads read. Paper: 16. 32: the last map, for larger images.",
        (16, 32),
    )
    regions: int = setting(50, "Regions R per image after non-maximum suppression.", lowest=1)
    rpn_width: int = setting(512, "Channels of the region proposal network's hidden layer. DenseCap: 512.", lowest=1)
    region_grid: int = setting(7, "Side of the grid of samples in each region. DenseCap: 7.", lowest=1)
    region_width: int = setting(4096, "Width of a region's two fully connected layers. DenseCap: 4096.", lowest=1)
    region_dropout: float = setting(
        0.5, "Dropout rate after each of a region's fully connected layers. DenseCap: 0.5.", None, 0.0, 0.9
    )
    region_lstm_width: int = setting(512, "Width of the hidden state of each region's LSTM. DenseCap: 512.", lowest=1)
    region_embedding_width: int = setting(512, "Width of the input of each region's LSTM. DenseCap: 512.", lowest=1)
    region_steps: int = setting(6, "Steps of each region's LSTM, one label per step.", lowest=2)
    region_sequence: str = setting(
        "soft",
        "What a step of the LSTM reads from the step before. soft: the mean embedding of the labels; training with "
        "--loss on the image's logits. ordered: the label of the most confident region; training with the likelihood "
        "of the labels in order of frequency.",
        ("soft", "ordered"),
    )

    stages_if_soft = STAGES

    @property
    def stages(self):
        """The stage table. With region_sequence "ordered", the loss of the sequence replaces --loss."""
        if self.region_sequence == "soft":
            return self.stages_if_soft
        return {name: _with_sequence(stage) for name, stage in self.stages_if_soft.items()}

    @property
    def label_fields(self):
        """Counts of the labels if region_sequence is "ordered"."""
        return ("counts",) if self.region_sequence == "ordered" else ()


@dataclasses.dataclass(frozen=True)
class RLSDFtRPNSettings(RLSDSettings):
    """Settings of RLSD+ft-RPN, which learns its regions from the boxes of the data set that it labels."""

    stages_if_soft = FT_RPN_STAGES


def build(trunk, labels, settings):
    """Builds RLSD on a trunk.

    Args:
        trunk: backbones.Trunk.
        labels: labels.LabelSpace, with counts for an ordered sequence, which learns labels in their order.
        settings: RLSDSettings.
    Returns:
        MultiLabelModel with the logits y_rlsd, its regions (boxes and scores), what the region proposal network says of
        its anchors, and the pooled map X.
    Raises:
        InputError: more regions than anchors.
    """
    X_name = {16: "c4", 32: "c5"}[settings.x_stride]
    f_cnn = trunk.model if X_name == "c5" else trunk.until(X_name)  # nothing reads what is behind X
    height, width, channels = trunk.maps[X_name].shape[1:]
    proposals = rpn.build_rpn((height, width, channels), settings.rpn_width)
    num_anchors = height * width * proposals.output["objectness"].shape[3]
    if settings.regions > num_anchors:
        raise InputError(
            f"regions must be at most {num_anchors}, the anchors of a map of {height} x {width}. Received: "
            f"{settings.regions}. Use fewer regions, or a larger --image_size."
        )
    num_samples = settings.region_grid**2 * channels
    region_net = build_region_net(settings.regions, num_samples, settings.region_width, settings.region_dropout)
    label_lstm = build_label_lstm(settings.regions, settings.region_width, len(labels), settings)
    is_ordered = settings.region_sequence == "ordered"

    X = f_cnn(trunk.image)[X_name]
    proposed = proposals(X)
    boxes, is_region = rpn.Proposals(settings.regions, name="proposals")([proposed["offsets"], proposed["objectness"]])
    samples = region_layers.RegionSamples(settings.region_grid, name="region_samples")([X, boxes])
    features = region_net(samples)
    found = label_lstm([features, is_region] if is_ordered else features)
    logits, more = found["logits"], {}
    if is_ordered:
        more["counts"] = layers.Constant(labels.counts, name="counts")
        truth = keras.Input((len(labels),), name="truth")
        most_labels = min(settings.region_steps, len(labels))
        path = label_path.TruePath(most_labels, name="true_path")([truth, more["counts"](truth)])
        sequence = label_lstm.get_layer("lstm_labels")
        taught = {"sequence_loss": sequence([found["inputs"], is_region], path=path)}
    return MultiLabelModel(
        image=trunk.image,
        outputs={
            "y_rlsd": region_layers.MaxOverRegions(name="max_over_regions")([logits, is_region]),
            "boxes": boxes,
            "scores": region_layers.RegionProbabilities(name="region_probabilities")([logits, is_region]),
            "rpn_offsets": proposed["offsets"],
            "rpn_objectness": proposed["objectness"],
            "pooled": keras.layers.GlobalAveragePooling2D(name="rlsd_pool")(X),
        },
        parts={"trunk": f_cnn, "rpn": proposals, "region_net": region_net, "label_lstm": label_lstm, **more},
        stages=settings.stages,
        logits=("y_rlsd",),
        regions=(REGIONS,),
        embedding="pooled",
        label_free=("trunk", "rpn", "region_net"),
        features={X_name: X},
        **({"truth": truth, "taught": taught} if is_ordered else {}),
    )


def _with_sequence(stage):
    """The stage with the loss of the sequence in the place of --loss on the image's logits, counts being fixed."""
    terms = tuple(SEQUENCE if term.function is None else term for term in stage.terms)
    return dataclasses.replace(stage, terms=terms, fixed=(*stage.fixed, "counts"))


def build_region_net(num_regions, num_samples, width, dropout):
    """Two fully connected layers, the same for every region.

    Args:
        num_regions: R.
        num_samples: numbers of a region, see `region_layers.RegionSamples`.
        width: V.
        dropout: rate behind each layer.
    Returns:
        keras.Model "region_net": (B, R, num_samples) -> (B, R, V), >= 0.
    """
    x = inputs = keras.Input((num_regions, num_samples), name="region_input")
    for number in (1, 2):
        x = keras.layers.Dense(width, "relu", kernel_initializer="he_normal", name=f"region_fc{number}")(x)
        x = layers.SeededDropout(dropout, name=f"region_drop{number}")(x)
    return keras.Model(inputs, x, name="region_net")


def build_label_lstm(num_regions, width, num_labels, settings):
    """Each region's LSTM over labels: all that knows of them.

    Args:
        num_regions: R.
        width: V, of a region's features.
        num_labels: C.
        settings: RLSDSettings.
    Returns:
        keras.Model "label_lstm": region features (B, R, V), and for an ordered sequence is_region bool (B, R) -> dict
        of "inputs" (B, R, E), which the LSTM reads, and "logits" float32 (B, R, C).
    """
    v = keras.Input((num_regions, width), name="lstm_input")
    embed = keras.layers.Dense(
        settings.region_embedding_width, "relu", kernel_initializer="he_normal", dtype="float32", name="lstm_region"
    )
    u = embed(v)
    arguments = num_labels, settings.region_lstm_width, settings.region_steps
    if settings.region_sequence == "soft":
        inputs, logits = v, region_layers.LabelSequence(*arguments, name="lstm_labels")(u)
    else:
        is_region = keras.Input((num_regions,), dtype="bool", name="lstm_is_region")
        inputs = [v, is_region]
        logits = region_layers.OrderedLabelSequence(*arguments, name="lstm_labels")([u, is_region])
    return keras.Model(inputs, {"inputs": u, "logits": logits}, name="label_lstm")
