"""The SRN heads as functional models, in the two architectures that share the name.

"paper" is the text of sections 3.2 and 3.3. "released" is the net the authors published numbers
from: two more bottlenecks before the heads, a two-layer confidence, BatchNorm before each ReLU.
What scores labels is float32 under any Keras policy.
"""

import keras

from srn_tf.models.layers import DepthwiseOverGrid

SRN_HEADS = ("released", "paper")

CONV4_KERNELS_PER_CHANNEL = 4  # "each group of 4 kernels", section 3.3


def build_neck(grid, channels):
    """The released nets' two bottlenecks D - D/4 - D and a last BatchNorm and ReLU, before both heads.

    Args:
        grid: (H, W) of X.
        channels: D, a multiple of 4.
    Returns:
        keras.Model f_neck: (B, H, W, D) -> (B, H, W, D).
    """
    X = keras.Input((*grid, channels), name="neck_input")
    x = X
    for block in ("neck_block1", "neck_block2"):
        residual = _norm_relu(x, f"{block}_pre")
        residual = _conv(residual, channels // 4, 1, f"{block}_1", use_bias=False)
        residual = _conv(_norm_relu(residual, f"{block}_1"), channels // 4, 3, f"{block}_2", use_bias=False)
        residual = _conv(_norm_relu(residual, f"{block}_2"), channels, 1, f"{block}_3", use_bias=False)
        x = keras.layers.Add(name=f"{block}_sum")([x, residual])
    return keras.Model(X, _norm_relu(x, "neck_last"), name="f_neck")


def build_attention(grid, channels, num_labels, head_channels=512, head="released"):
    """f_att, Eq. (3): 1x1, 3x3 and 1x1 convolutions.

    Args:
        grid: (H, W) of X.
        channels: D.
        num_labels: C.
        head_channels: width of the hidden convolutions, 512 in the paper.
        head: one of `SRN_HEADS`.
    Returns:
        keras.Model f_att: (B, H, W, D) -> scores Z (B, H, W, C).
    """
    X = keras.Input((*grid, channels), name="att_input")
    x = _conv_relu(X, head_channels, 1, "att_1", head)
    x = _conv_relu(x, head_channels, 3, "att_2", head)
    return keras.Model(X, _conv(x, num_labels, 1, "att_3", dtype="float32"), name="f_att")


def build_confidence(grid, channels, num_labels, head_channels=512, head="released"):
    """The label-specific linear classifiers of Eq. (7), "conv1"; two layers in the released nets.

    Args: as `build_attention`.
    Returns:
        keras.Model f_conf: (B, H, W, D) -> confidences S (B, H, W, C), logits.
    """
    X = keras.Input((*grid, channels), name="conf_input")
    x = _conv_relu(X, head_channels, 1, "conf_1", head) if head == "released" else X
    return keras.Model(X, _conv(x, num_labels, 1, "conf_2", dtype="float32"), name="f_conf")


def build_regularizer(grid, num_labels, head_channels=512, head="released"):
    """f_sr, Eq. (9) and Figure 4: two 1x1 convolutions, conv4 over the whole grid, a linear layer.

    A sums to 1 over the grid, so U is about 1/(H*W) a cell: fed plainly, its signal drowns in the
    biases (and in BatchNorm's epsilon), and f_sr stays at chance. The first layer multiplies by H*W,
    which is the same function with conv2's kernel written in other units.

    Args:
        grid: (H, W) of the maps; conv4's kernel is as large.
        num_labels: C.
        head_channels: channels of conv2 and conv3, 512 in the paper.
        head: one of `SRN_HEADS`.
    Returns:
        keras.Model f_sr: U (B, H, W, C) -> y_sr, logits (B, C).
    """
    height, width = grid
    U = keras.Input((height, width, num_labels), name="sr_input")
    x = keras.layers.Rescaling(float(height * width), name="sr_units")(U)
    x = _conv_relu(x, head_channels, 1, "sr_conv2", head)
    x = _conv_relu(x, head_channels, 1, "sr_conv3", head)
    x = DepthwiseOverGrid(
        (height, width),
        depth_multiplier=CONV4_KERNELS_PER_CHANNEL,
        use_bias=head == "paper",
        # Each output sees H*W inputs; Keras' own fan counts the channels too and would start far too small.
        depthwise_initializer=keras.initializers.RandomNormal(stddev=(2.0 / (height * width)) ** 0.5),
        name="sr_conv4",
    )(x)
    x = _norm_relu(x, "sr_conv4") if head == "released" else keras.layers.ReLU(name="sr_conv4_relu")(x)
    x = keras.layers.Flatten(name="sr_flatten")(x)  # (B, 4 * head_channels)
    return keras.Model(U, keras.layers.Dense(num_labels, dtype="float32", name="sr_logits")(x), name="f_sr")


def _conv_relu(x, channels, kernel, name, head):
    if head == "released":
        return _norm_relu(_conv(x, channels, kernel, name, use_bias=False), name)
    return keras.layers.ReLU(name=f"{name}_relu")(_conv(x, channels, kernel, name))


def _conv(x, channels, kernel, name, use_bias=True, dtype=None):
    return keras.layers.Conv2D(
        channels,
        kernel,
        padding="same",
        use_bias=use_bias,
        kernel_initializer="he_normal",
        dtype=dtype,
        name=f"{name}_conv",
    )(x)


def _norm_relu(x, name):
    x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)
