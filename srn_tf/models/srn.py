"""The Spatial Regularization Network: the paper's equations, in the paper's order.

Zhu, Li, Ouyang, Yu, Wang: Learning Spatial Regularization with Image-level Supervisions for
Multi-label Image Classification, CVPR 2017 (arXiv 1702.05891).
"""

import dataclasses

import keras

from srn_tf.errors import InputError
from srn_tf.models import heads
from srn_tf.models.backbones import build_backbone
from srn_tf.models.layers import SoftmaxOverGrid, SumOverGrid, WeightedMean
from srn_tf.models.model import MultiLabelModel, Stage

# Section 3.4 as printed.
PAPER_STAGES = {
    "cls": Stage(
        trains=("f_cnn", "f_cls"),
        fixed=("f_att", "f_conf", "f_sr", "mix"),
        losses={"y_cls": 1.0},
        watched="y_cls",
    ),
    "att": Stage(
        trains=("f_att", "f_conf"),
        fixed=("f_cnn", "f_cls", "f_sr", "mix"),
        losses={"y_att": 1.0},
        watched="y_att",
    ),
    "sr": Stage(
        trains=("f_sr",),
        fixed=("f_cnn", "f_cls", "f_att", "f_conf", "mix"),
        losses={"y_sr": 1.0},
        watched="y_sr",
    ),
    "all": Stage(
        trains=("f_cnn", "f_cls", "f_att", "f_conf", "f_sr", "mix"),
        fixed=(),
        losses={"y_hat": 1.0, "y_att": 1.0},
        watched="y_hat",
    ),
}

# The released nets: two more bottlenecks (f_neck) learn with the attention, and the last stage has
# three separate losses ("slightly better and stable", the author in his repository's issue 13).
RELEASED_STAGES = {
    "cls": Stage(
        trains=("f_cnn", "f_cls"),
        fixed=("f_neck", "f_att", "f_conf", "f_sr", "mix"),
        losses={"y_cls": 1.0},
        watched="y_cls",
    ),
    "att": Stage(
        trains=("f_neck", "f_att", "f_conf"),
        fixed=("f_cnn", "f_cls", "f_sr", "mix"),
        losses={"y_att": 1.0},
        watched="y_att",
    ),
    "sr": Stage(
        trains=("f_sr",),
        fixed=("f_cnn", "f_cls", "f_neck", "f_att", "f_conf", "mix"),
        losses={"y_sr": 1.0},
        watched="y_sr",
    ),
    "all": Stage(
        trains=("f_cnn", "f_cls", "f_neck", "f_att", "f_conf", "f_sr", "mix"),
        fixed=(),
        losses={"y_att": 1.0, "y_sr": 1.0, "y_cls": 1.0},
        watched="y_hat",
    ),
}


def build_srn(
    backbone,
    image_size,
    num_labels,
    backbone_weights="none",
    head="released",
    use_weighted_attention=True,
    head_channels=512,
    learn_alpha=False,
):
    """Builds ResNet-SRN (or ResNet-SRN-att) on a main net.

    Args:
        backbone: one of `backbones.BACKBONES`.
        image_size: side S of the square input, pixels.
        num_labels: C.
        backbone_weights: "imagenet", "none" or a file, see `build_backbone`.
        head: "released" or "paper", see `heads`.
        use_weighted_attention: True: f_sr reads U (ResNet-SRN); False: f_sr reads A (ResNet-SRN-att).
        head_channels: width of the heads' hidden convolutions, 512 in the paper.
        learn_alpha: learn the mixing weight, in the last stage, which then has a loss on y_hat with either
            head; False keeps it at 0.5.
    Returns:
        MultiLabelModel with logits y_hat, y_cls, y_att, y_sr, maps A, U, and beside them S and the main net's pooled
        features.
    Raises:
        InputError: a value outside its set.
    """
    if head not in heads.SRN_HEADS:
        raise InputError(f"srn_head must be one of {', '.join(heads.SRN_HEADS)}. Received: {head!r}.")
    f_cnn, f_cls = build_backbone(backbone, image_size, num_labels, backbone_weights)
    *grid, channels = f_cnn.output_shape["X"][1:]
    f_att = heads.build_attention(grid, channels, num_labels, head_channels, head)
    f_conf = heads.build_confidence(grid, channels, num_labels, head_channels, head)
    f_sr = heads.build_regularizer(grid, num_labels, head_channels, head)
    mix = WeightedMean(learned=learn_alpha, dtype="float32", name="mix")
    parts = {"f_cnn": f_cnn, "f_cls": f_cls, "f_att": f_att, "f_conf": f_conf, "f_sr": f_sr, "mix": mix}
    if head == "released":
        parts["f_neck"] = heads.build_neck(grid, channels)

    image = keras.Input((image_size, image_size, 3), name="image")
    features = f_cnn(image)  # Eq. (1)
    X = features["X"]
    main_net = f_cls(features)
    y_cls = main_net["y_cls"]  # Eq. (2)
    X_heads = parts["f_neck"](X) if head == "released" else X
    Z = f_att(X_heads)  # Eq. (3)
    exact = {"dtype": "float32"}  # under any Keras policy
    A = SoftmaxOverGrid(**exact, name="attention")(Z)  # Eq. (4)
    S = f_conf(X_heads)
    AS = keras.layers.Multiply(**exact, name="att_product")([A, S])
    y_att = SumOverGrid(**exact, name="att_sum")(AS)  # Eq. (5) to (7)
    p_S = keras.layers.Activation("sigmoid", **exact, name="conf_sigmoid")(S)
    U = keras.layers.Multiply(**exact, name="weighted_attention")([p_S, A])  # Eq. (8)
    y_sr = f_sr(U if use_weighted_attention else A)  # Eq. (9)
    y_hat = mix([y_cls, y_sr])  # section 3.4

    stages = RELEASED_STAGES if head == "released" else PAPER_STAGES
    if learn_alpha and "y_hat" not in stages["all"].losses:
        # The released net's last stage does not train y_hat, the one output that alpha is in.
        losses = {"y_hat": 1.0, **stages["all"].losses}
        stages = {**stages, "all": dataclasses.replace(stages["all"], losses=losses)}
    return MultiLabelModel(
        image=image,
        outputs={
            **{"y_hat": y_hat, "y_cls": y_cls, "y_att": y_att, "y_sr": y_sr},
            **{"A": A, "S": S, "U": U, "pooled": main_net["pooled"]},
        },
        parts=parts,
        stages=stages,
        logits=("y_hat", "y_cls", "y_att", "y_sr"),
        maps=("A", "U"),
        attention="A",
        explanation=("A", "S", "U", "y_cls", "y_att", "y_sr", "y_hat"),
        embedding="pooled",
    )
