"""The options of a training run: their flags, and the frozen record that the rest of the code gets.

This module alone reads flags. A run writes its options to `flags.txt`, itself a flagfile.
"""

import dataclasses
import math

from absl import flags

from srn_tf.errors import InputError

# Names only, so that `--help` answers without loading TensorFlow; a test holds them to the packages' own lists.
DATASETS = ("scenes", "coco2014", "nus_wide", "wider_attribute", "voc2007", "apparel", "csv")
_STAGES = {
    "srn": ("cls", "att", "sr", "all"),
    "srn_att": ("cls", "att", "sr", "all"),
    "main_net": ("cls",),
    "resnet107": ("cls",),
    "semantic": ("cls", "sem", "all"),
}
_BACKBONES = ("resnet101v2", "resnet50v2", "resnet101", "resnet50", "small")
_CACHES = ("none", "encoded", "decoded")
_LOSSES = ("sigmoid", "softmax", "pairwise", "warp", "warp_exact", "focal", "asymmetric")
# Where, and how fast, but not what: never part of a run's flagfile, so that a run may move or continue otherwise.
_UNRECORDED = ("data_dir", "work_dir", "prepared_dir", "cache")


@dataclasses.dataclass(frozen=True)
class Options:
    """A training run. Every field is the flag of the same name; see `define_flags`."""

    data_dir: str
    work_dir: str
    prepared_dir: str
    dataset: str
    validation_fraction: float
    model: str
    backbone: str
    backbone_weights: str
    image_size: int
    srn_head: str
    head_channels: int
    learn_alpha: bool
    stages: tuple
    epochs: tuple
    init_from: str
    loss: str
    focal_gamma: float
    asl_gamma_pos: float
    asl_gamma_neg: float
    asl_margin: float
    positive_weights: str
    batch_size: int
    learning_rate: tuple
    learning_rate_min: float
    momentum: float
    weight_decay: float
    patience: int
    ema_decay: float
    crops: bool
    mirror: bool
    max_distortion: int
    shuffle_buffer: int
    cache: str
    logical_cpus: int
    seed: int

    def as_flagfile(self):
        """The options as lines of a flagfile, without the places and the cache."""
        lines = []
        for field in dataclasses.fields(self):
            if field.name in _UNRECORDED:
                continue
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                value = ",".join(str(entry) for entry in value)
            elif isinstance(value, bool):
                value = str(value).lower()
            lines.append(f"--{field.name}={value}")
        return "\n".join(lines) + "\n"


def define_flags():
    """Defines the flags of `Options` with the paper's defaults; call once, before parsing."""
    flags.DEFINE_string("data_dir", None, "Folder of the data set: prepared, or in its official layout.", required=True)
    flags.DEFINE_string("work_dir", None, "Folder for everything the run leaves behind.", required=True)
    flags.DEFINE_string("prepared_dir", "", "Where an official layout is prepared to. Default: <work_dir>/dataset.")
    flags.DEFINE_enum("dataset", "coco2014", DATASETS, "Data set.")
    flags.DEFINE_float(
        "validation_fraction",
        0.1,
        "Share of the training images held out for validation, where the data set has no validation split; "
        "0 watches the training images themselves. Never taken from test.",
        lower_bound=0.0,
        upper_bound=0.9,
    )
    flags.DEFINE_enum(
        "model",
        "srn",
        tuple(_STAGES),
        "The paper's ResNet-SRN, ResNet-SRN-att (f_sr reads attention unweighted), ResNet-101, ResNet-107 and "
        "ResNet-101-semantic, in this order.",
    )
    flags.DEFINE_enum("backbone", "resnet101v2", _BACKBONES, "Main net. The paper's is a pre-activation ResNet-101.")
    flags.DEFINE_string("backbone_weights", "imagenet", "imagenet (downloaded by Keras), none, or a Keras .h5 file.")
    flags.DEFINE_integer("image_size", 224, "Side of the square input in pixels; a multiple of 32 (small: of 56).", 32)
    flags.DEFINE_enum("srn_head", "released", ("released", "paper"), "Heads of the released nets or of the text.")
    flags.DEFINE_integer("head_channels", 512, "Width of the heads' hidden convolutions. Paper: 512.", 1)
    flags.DEFINE_bool("learn_alpha", False, "Learn the weight of y_cls in y_hat. Paper: fixed at 0.5.")
    flags.DEFINE_list("stages", None, "Stages to train, in order. Default: all of the model's (srn: cls,att,sr,all).")
    flags.DEFINE_list("epochs", "100", "At most so many epochs, one number for all stages or one per stage.")
    flags.DEFINE_string("init_from", "", "Weights to start from: a run's work folder or one of its .npz files.")
    flags.DEFINE_enum(
        "loss",
        "sigmoid",
        _LOSSES,
        "Loss of every output. Paper: sigmoid. softmax, pairwise, warp (negatives drawn) and warp_exact (all of them) "
        "only rank labels: of their results read mAP, not what is predicted at 0.5.",
    )
    flags.DEFINE_float("focal_gamma", 2.0, "loss=focal: exponent of (1 - p).", 0.0)
    flags.DEFINE_float("asl_gamma_pos", 0.0, "loss=asymmetric: exponent of positives.", 0.0)
    flags.DEFINE_float("asl_gamma_neg", 4.0, "loss=asymmetric: exponent of negatives.", 0.0)
    flags.DEFINE_float("asl_margin", 0.05, "loss=asymmetric: negatives below this probability cost nothing.", 0.0, 0.99)
    flags.DEFINE_enum(
        "positive_weights",
        "none",
        ("none", "balanced"),
        "loss=sigmoid: factor of each label's positive term; balanced is its negatives / positives in the training "
        "images, at most 100. Paper: none.",
    )
    flags.DEFINE_integer("batch_size", 96, "Images a step over all devices. Paper: 96.", 1)
    flags.DEFINE_list(
        "learning_rate", "0.001", "First learning rate, one number for all stages or one per stage. Paper: 0.001."
    )
    flags.DEFINE_float("learning_rate_min", 1e-5, "The stage ends when the rate would fall below. Paper: 0.00001.", 0.0)
    flags.DEFINE_float("momentum", 0.9, "SGD momentum. Paper: 0.9.", 0.0, 1.0)
    flags.DEFINE_float("weight_decay", 5e-4, "L2 factor inside the gradient, all weights. Paper: 0.0005.", 0.0)
    flags.DEFINE_integer("patience", 3, "Epochs without a lower validation loss before the rate is divided by 10.", 1)
    flags.DEFINE_float("ema_decay", 0.0, "Decay of the moving average of the weights; 0 keeps none.", 0.0, 0.999999)
    flags.DEFINE_bool("crops", True, "The paper's corner crops in training; off squashes the whole image.")
    flags.DEFINE_bool("mirror", False, "Mirror half of the training images (not in the paper's text).")
    flags.DEFINE_integer(
        "max_distortion", -1, "Steps a crop's width and height may lie apart; -1 no limit (paper's text).", -1
    )
    flags.DEFINE_integer(
        "shuffle_buffer", 20_000, "Training images among which the next is drawn; all of them mixes best.", 1
    )
    flags.DEFINE_enum(
        "cache",
        "none",
        _CACHES,
        "What stays in memory after the first epoch: the training images as stored, or decoded and resized "
        "(0.8 MB an image at the paper's sizes). No result depends on it.",
    )
    flags.DEFINE_integer("logical_cpus", 0, "Split the CPU into so many devices; 0 uses the GPUs, or one CPU.", 0)
    flags.DEFINE_integer("seed", 0, "Seed of weights, order and augmentation.", 0, 2**31 - 1)


def read_options(values=flags.FLAGS):
    """Reads the parsed flags.

    Args:
        values: parsed absl FlagValues.
    Returns:
        Options.
    Raises:
        InputError: no stage, weights for a loss that has none, or a list that is not of positive numbers or not one
            value per stage.
    """
    options = {field.name: values[field.name].value for field in dataclasses.fields(Options)}
    options["stages"] = _STAGES[options["model"]] if options["stages"] is None else tuple(options["stages"])
    if not options["stages"]:
        raise InputError("stages must name at least one stage. Received: ''.")
    if len(set(options["stages"])) < len(options["stages"]):
        raise InputError(f"stages must name each stage once. Received: {','.join(options['stages'])!r}.")
    for name, value in options.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{name} must be a finite number. Received: {value}.")
    if options["positive_weights"] != "none" and options["loss"] != "sigmoid":
        raise InputError(
            f"positive_weights belong to --loss=sigmoid. Received: --positive_weights={options['positive_weights']} "
            f"and --loss={options['loss']}. Use --positive_weights=none."
        )
    options["epochs"] = _per_stage("epochs", options["epochs"], int, options["stages"])
    options["learning_rate"] = _per_stage("learning_rate", options["learning_rate"], float, options["stages"])
    options["prepared_dir"] = options["prepared_dir"] or f"{options['work_dir']}/dataset"
    return Options(**options)


def _per_stage(name, texts, kind, stages):
    try:
        numbers = tuple(kind(text) for text in texts)
    except ValueError:
        numbers = ()
    if not numbers or not all(number > 0 and math.isfinite(number) for number in numbers):
        raise InputError(f"{name} must be positive numbers separated by commas. Received: {','.join(texts)!r}.")
    if len(numbers) not in (1, len(stages)):
        raise InputError(
            f"{name} must be one number or one per stage ({len(stages)}: {','.join(stages)}). "
            f"Received: {','.join(texts)}."
        )
    return numbers if len(numbers) > 1 else numbers * len(stages)
