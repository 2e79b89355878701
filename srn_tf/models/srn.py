"""The Spatial Regularization Network: its stages, the paper's equations in the paper's order, and its heads.

Zhu, Li, Ouyang, Yu, Wang: Learning Spatial Regularization with Image-level Supervisions for
Multi-label Image Classification, CVPR 2017 (arXiv 1702.05891).

Two architectures share the name. "paper" follows the text of sections 3.2 and 3.3. "released" is the net behind the
authors' published numbers: two more bottlenecks before the heads, a two-layer confidence, BatchNorm before each ReLU.
"""

import dataclasses

from srn_tf.errors import InputError
from srn_tf.lazy import LazyModule
from srn_tf.models.classifier import ClassifierSettings, build_classifier
from srn_tf.models.model import Map, MultiLabelModel, Stage, label_loss
from srn_tf.models.settings import setting

keras = LazyModule("keras")
blocks = LazyModule("srn_tf.models.blocks")
layers = LazyModule("srn_tf.models.layers")

CONV4_KERNELS_PER_CHANNEL = 4  # "each group of 4 kernels", section 3.3

ATTENTION = Map("A", "attention A", "Attention A shows where the model looks for a label.")
WEIGHTED = Map(
    "U", "weighted U", "Weighted attention U keeps the parts of A that support the label.", sums_to_one=False
)

# Section 3.4 as printed.
PAPER_STAGES = {
    "cls": Stage(
        trains=("trunk", "classifier"),
        fixed=("f_att", "f_conf", "f_sr", "mix"),
        terms=(label_loss("y_cls"),),
        watched="y_cls",
    ),
    "att": Stage(
        trains=("f_att", "f_conf"),
        fixed=("trunk", "classifier", "f_sr", "mix"),
        terms=(label_loss("y_att"),),
        watched="y_att",
    ),
    "sr": Stage(
        trains=("f_sr",),
        fixed=("trunk", "classifier", "f_att", "f_conf", "mix"),
        terms=(label_loss("y_sr"),),
        watched="y_sr",
    ),
    "all": Stage(
        trains=("trunk", "classifier", "f_att", "f_conf", "f_sr", "mix"),
        fixed=(),
        terms=(label_loss("y_hat"), label_loss("y_att")),
        watched="y_hat",
    ),
}

# The released nets: two more bottlenecks (f_neck) are trained with the attention, and the last stage has three separate
# losses ("slightly better and stable", says the author in issue 13 of his repository).
RELEASED_STAGES = {
    "cls": Stage(
        trains=("trunk", "classifier"),
        fixed=("f_neck", "f_att", "f_conf", "f_sr", "mix"),
        terms=(label_loss("y_cls"),),
        watched="y_cls",
    ),
    "att": Stage(
        trains=("f_neck", "f_att", "f_conf"),
        fixed=("trunk", "classifier", "f_sr", "mix"),
        terms=(label_loss("y_att"),),
        watched="y_att",
    ),
    "sr": Stage(
        trains=("f_sr",),
        fixed=("trunk", "classifier", "f_neck", "f_att", "f_conf", "mix"),
        terms=(label_loss("y_sr"),),
        watched="y_sr",
    ),
    "all": Stage(
        trains=("trunk", "classifier", "f_neck", "f_att", "f_conf", "f_sr", "mix"),
        fixed=(),
        terms=(label_loss("y_att"), label_loss("y_sr"), label_loss("y_cls")),
        watched="y_hat",
    ),
}


# The outputs that y_hat averages.
ANSWERS = {"cls_sr": ("y_cls", "y_sr"), "cls_att_sr": ("y_cls", "y_att", "y_sr")}

# Makes f_conf the classifier, applied to each cell.
CONFIDENCE_FROM_CLASSIFIER = {
    "f_conf/conf_2_conv/kernel": "classifier/cls_logits/kernel",
    "f_conf/conf_2_conv/bias": "classifier/cls_logits/bias",
}


@dataclasses.dataclass(frozen=True)
class SRNSettings(ClassifierSettings):
    """Settings of ResNet-SRN and ResNet-SRN-att.

    With init_confidence "classifier", the first stage that trains f_conf copies the classifier into it. That is `att`,
    or `all` if `att` is not in --stages. An f_conf that has already learned (--init_from) keeps its weights.

    Raises:
        InputError: also for init_confidence "classifier" if X is not the map whose mean the classifier reads.
    """

    srn_head: str = setting(
        "released", "Heads: those of the authors' released nets, or those of the paper's text.", ("released", "paper")
    )
    neck_blocks: int = setting(
        2,
        "srn_head=released: number of bottlenecks between X and the heads. 0, for small data sets: the heads read X "
        "itself. Released nets: 2.",
        lowest=0,
    )
    head_channels: int = setting(512, "Channels of the heads' hidden convolutions. Paper: 512.", lowest=1)
    head_dropout: float = setting(
        0.0,
        "Dropout rate at the input of f_att and before the last layer of each head that has hidden layers; for small "
        "data sets. Paper: 0.",
        lowest=0.0,
        highest=0.9,
    )
    answer: str = setting(
        "cls_sr",
        "Outputs averaged in y_hat. cls_sr: y_cls and y_sr. cls_att_sr: also y_att. Paper: cls_sr.",
        tuple(ANSWERS),
    )
    learn_alpha: bool = setting(
        False, "Learned instead of equal weights of the outputs averaged in y_hat. Paper: equal and fixed."
    )
    x_stride: int = setting(
        16,
        "Stride in pixels of the map X that the heads read. Paper: 16. 32: the last map, for larger images.",
        (16, 32),
    )
    init_confidence: str = setting(
        "random",
        "Initial weights of f_conf. Paper: random. classifier, for small data sets: f_conf is one 1x1 convolution on X "
        "and starts as a copy of the trained classifier, so that uniform attention gives y_att = y_cls. It needs "
        "x_stride=32 and pooling=mean.",
        ("random", "classifier"),
    )

    def __post_init__(self):
        super().__post_init__()
        if self.init_confidence == "classifier" and (self.x_stride, self.pooling) != (32, "mean"):
            raise InputError(
                "init_confidence=classifier needs x_stride=32 and pooling=mean: f_conf must read the map whose mean "
                f"the classifier reads. Received: x_stride={self.x_stride} and pooling={self.pooling}."
            )

    @property
    def has_neck(self):
        """Whether the heads read f_neck(X) instead of X."""
        return self.srn_head == "released" and self.neck_blocks > 0

    @property
    def stages(self):
        """The stage table under these settings: dict, name -> Stage."""
        table = RELEASED_STAGES if self.srn_head == "released" else PAPER_STAGES
        if not self.has_neck:
            table = {name: _without_neck(stage) for name, stage in table.items()}
        if self.learn_alpha and "y_hat" not in table["all"].reads:
            # The released net's last stage has no loss on y_hat, the only output that the weights of the mean are in.
            terms = (label_loss("y_hat"), *table["all"].terms)
            table = {**table, "all": dataclasses.replace(table["all"], terms=terms)}
        if self.init_confidence == "classifier":
            table = {
                name: dataclasses.replace(stage, starts_from=CONFIDENCE_FROM_CLASSIFIER)
                if "f_conf" in stage.trains
                else stage
                for name, stage in table.items()
            }
        return table


def _without_neck(stage):
    trains, fixed = (tuple(name for name in names if name != "f_neck") for names in (stage.trains, stage.fixed))
    return dataclasses.replace(stage, trains=trains, fixed=fixed)


def build(trunk, labels, settings, use_weighted_attention=True):
    """Builds ResNet-SRN (or ResNet-SRN-att) on a trunk.

    Args:
        trunk: backbones.Trunk.
        labels: labels.LabelSpace.
        settings: SRNSettings.
        use_weighted_attention: True: f_sr reads U (ResNet-SRN); False: f_sr reads A (ResNet-SRN-att).
    Returns:
        MultiLabelModel with the logits y_hat, y_cls, y_att and y_sr, the maps A and U, and also S and the main net's
        pooled features.
    """
    X_name = {16: "c4", 32: "c5"}[settings.x_stride]
    *grid, channels = trunk.maps[X_name].shape[1:]
    num_labels, width, head = len(labels), settings.head_channels, settings.srn_head
    dropout = settings.head_dropout
    classifier = build_classifier(trunk.maps["c5"], num_labels, settings.pooling)
    is_classifier = settings.init_confidence == "classifier"
    f_att = build_attention(grid, channels, num_labels, width, head, dropout, starts_uniform=is_classifier)
    f_conf = build_confidence(grid, channels, num_labels, width, "paper" if is_classifier else head, dropout)
    f_sr = build_regularizer(grid, num_labels, width, head, dropout)
    mix = layers.WeightedMean(learned=settings.learn_alpha, dtype="float32", name="mix")
    parts = {
        **{"trunk": trunk.model, "classifier": classifier},
        **{"f_att": f_att, "f_conf": f_conf, "f_sr": f_sr, "mix": mix},
    }
    if settings.has_neck:
        parts["f_neck"] = build_neck(grid, channels, settings.neck_blocks)

    if X_name == "c5":
        X = last_map = trunk.model(trunk.image)["c5"]  # Eq. (1)
    else:  # in two pieces, so that the heads need nothing that lies after X
        features = trunk.until(X_name)(trunk.image)
        X = features[X_name]  # Eq. (1)
        last_map = trunk.after(X_name)(features)["c5"]
    main_net = classifier(last_map)
    y_cls = main_net["y_cls"]  # Eq. (2)
    X_heads = parts["f_neck"](X) if settings.has_neck else X
    Z = f_att(X_heads)  # Eq. (3)
    exact = {"dtype": "float32"}  # under any Keras policy
    A = layers.SoftmaxOverGrid(**exact, name="attention")(Z)  # Eq. (4)
    S = f_conf(X if is_classifier else X_heads)
    AS = keras.layers.Multiply(**exact, name="att_product")([A, S])
    y_att = layers.SumOverGrid(**exact, name="att_sum")(AS)  # Eq. (5) to (7)
    p_S = keras.layers.Activation("sigmoid", **exact, name="conf_sigmoid")(S)
    U = keras.layers.Multiply(**exact, name="weighted_attention")([p_S, A])  # Eq. (8)
    y_sr = f_sr(U if use_weighted_attention else A)  # Eq. (9)
    answers = {"y_cls": y_cls, "y_att": y_att, "y_sr": y_sr}
    y_hat = mix([answers[name] for name in ANSWERS[settings.answer]])  # section 3.4

    return MultiLabelModel(
        image=trunk.image,
        outputs={
            **{"y_hat": y_hat, **answers},
            **{"A": A, "S": S, "U": U, "pooled": main_net["pooled"]},
        },
        parts=parts,
        stages=settings.stages,
        logits=("y_hat", "y_cls", "y_att", "y_sr"),
        maps=(ATTENTION, WEIGHTED),
        explained=("S",),
        embedding="pooled",
        label_free=("trunk", "f_neck"),
        features={"c5": last_map} if X_name == "c5" else {X_name: X, "c5": last_map},
    )


def build_neck(grid, channels, num_blocks=2):
    """The released nets' two bottlenecks D - D/4 - D with a last BatchNorm and ReLU, before both heads.

    Args:
        grid: (H, W) of X.
        channels: D, a multiple of 4.
        num_blocks: number of bottlenecks, at least 1.
    Returns:
        keras.Model f_neck: (B, H, W, D) -> (B, H, W, D).
    """
    X = x = keras.Input((*grid, channels), name="neck_input")
    for number in range(1, num_blocks + 1):
        x = blocks.preactivation_bottleneck(x, channels, f"neck_block{number}")
    return keras.Model(X, blocks.norm_relu(x, "neck_last"), name="f_neck")


def build_attention(grid, channels, num_labels, head_channels=512, head="released", dropout=0.0, starts_uniform=False):
    """f_att, Eq. (3): 1x1, 3x3 and 1x1 convolutions.

    Args:
        grid: (H, W) of X.
        channels: D.
        num_labels: C.
        head_channels: width of the hidden convolutions, 512 in the paper.
        head: "released" or "paper".
        dropout: dropout rate in training at the input of the first and of the last convolution.
        starts_uniform: whether the last kernel starts at 0, so that all places of an image are alike.
    Returns:
        keras.Model f_att: (B, H, W, D) -> scores Z (B, H, W, C).
    """
    X = keras.Input((*grid, channels), name="att_input")
    x = _conv_relu(_dropped(X, dropout, "att_x"), head_channels, 1, "att_1", head)
    x = _dropped(_conv_relu(x, head_channels, 3, "att_2", head), dropout, "att")
    kernel_initializer = "zeros" if starts_uniform else "he_normal"
    Z = blocks.conv(x, num_labels, 1, "att_3", use_bias=True, dtype="float32", kernel_initializer=kernel_initializer)
    return keras.Model(X, Z, name="f_att")


def build_confidence(grid, channels, num_labels, head_channels=512, head="released", dropout=0.0):
    """The label-specific linear classifiers of Eq. (7), "conv1"; two layers in the released nets.

    Args: as for `build_attention`; without a hidden layer there is no dropout.
    Returns:
        keras.Model f_conf: (B, H, W, D) -> confidences S (B, H, W, C), logits.
    """
    X = keras.Input((*grid, channels), name="conf_input")
    x = _dropped(_conv_relu(X, head_channels, 1, "conf_1", head), dropout, "conf") if head == "released" else X
    return keras.Model(X, blocks.conv(x, num_labels, 1, "conf_2", use_bias=True, dtype="float32"), name="f_conf")


def build_regularizer(grid, num_labels, head_channels=512, head="released", dropout=0.0):
    """f_sr, Eq. (9) and Figure 4: two 1x1 convolutions, conv4 over the whole grid, a linear layer.

    A sums to 1 over the grid, so U is about 1/(H*W) per cell. Used directly, such a signal drowns in the biases and in
    BatchNorm's epsilon, and f_sr stays at chance. So the first layer multiplies by H*W. This is the same function; only
    conv2's kernel has other units.

    Args:
        grid: (H, W) of the maps; conv4's kernel is as large.
        num_labels: C.
        head_channels: channels of conv2 and conv3, 512 in the paper.
        head: "released" or "paper".
        dropout: dropout rate in training before the linear layer.
    Returns:
        keras.Model f_sr: U (B, H, W, C) -> y_sr, logits (B, C).
    """
    height, width = grid
    U = keras.Input((height, width, num_labels), name="sr_input")
    x = keras.layers.Rescaling(float(height * width), name="sr_units")(U)
    x = _conv_relu(x, head_channels, 1, "sr_conv2", head)
    x = _conv_relu(x, head_channels, 1, "sr_conv3", head)
    x = layers.DepthwiseOverGrid(
        (height, width),
        depth_multiplier=CONV4_KERNELS_PER_CHANNEL,
        use_bias=head == "paper",
        # Each output sees H*W inputs. Keras' own fan also counts the channels, which would start far too small.
        depthwise_initializer=keras.initializers.RandomNormal(stddev=(2.0 / (height * width)) ** 0.5),
        name="sr_conv4",
    )(x)
    x = blocks.norm_relu(x, "sr_conv4") if head == "released" else keras.layers.ReLU(name="sr_conv4_relu")(x)
    x = _dropped(keras.layers.Flatten(name="sr_flatten")(x), dropout, "sr")  # (B, 4 * head_channels)
    return keras.Model(U, keras.layers.Dense(num_labels, dtype="float32", name="sr_logits")(x), name="f_sr")


def _dropped(x, rate, name):
    """Dropout if the rate is not 0. Its layer has a weight, which a model without dropout must not have."""
    return layers.SeededDropout(rate, name=f"{name}_dropout")(x) if rate else x


def _conv_relu(x, channels, kernel, name, head):
    if head == "released":
        return blocks.norm_relu(blocks.conv(x, channels, kernel, name), name)
    return keras.layers.ReLU(name=f"{name}_relu")(blocks.conv(x, channels, kernel, name, use_bias=True))
