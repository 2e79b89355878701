"""Convolutions, norms and residual blocks that several networks are made of; NHWC, names are addresses of weights."""

import keras

BOTTLENECK = 4  # a bottleneck's outer channels for each inner one, as in every ResNet


def torch_uniform():
    """PyTorch's initial kernel of convolutions and linear layers, U(+-1 / sqrt(inputs)): a Keras initializer."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


def conv(x, channels, kernel, name, stride=1, use_bias=False, dtype=None, kernel_initializer="he_normal"):
    """A convolution with padding "same", layer `<name>_conv`.

    Args:
        x: (B, H, W, D).
        channels, kernel, stride: int.
        name: prefix.
        use_bias: whether it has one; not before a BatchNorm.
        dtype: of its computation; None is the Keras policy's.
        kernel_initializer: as Keras'; He's by default.
    Returns:
        (B, ceil(H / stride), ceil(W / stride), channels).
    """
    return keras.layers.Conv2D(
        channels,
        kernel,
        stride,
        "same",
        use_bias=use_bias,
        kernel_initializer=kernel_initializer,
        dtype=dtype,
        name=f"{name}_conv",
    )(x)


def norm(x, name):
    """A BatchNorm, layer `<name>_bn`."""
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)


def norm_relu(x, name):
    """A BatchNorm and a ReLU, layers `<name>_bn` and `<name>_relu`."""
    return keras.layers.ReLU(name=f"{name}_relu")(norm(x, name))


def small_block(x, channels, stride, name):
    """A pre-activation residual block of two 3x3 convolutions: He et al., "Identity mappings", ECCV 2016, Figure 4e."""
    preact = norm_relu(x, f"{name}_pre")
    shortcut = x if stride == 1 else conv(preact, channels, 1, f"{name}_shortcut", stride)
    residual = conv(preact, channels, 3, f"{name}_1", stride)
    residual = conv(norm_relu(residual, f"{name}_mid"), channels, 3, f"{name}_2")
    return keras.layers.Add(name=f"{name}_sum")([shortcut, residual])


def preactivation_bottleneck(x, channels, name):
    """1x1, 3x3 and 1x1 convolutions behind BatchNorm and ReLU each, `channels` to a quarter and back, stride 1."""
    residual = conv(norm_relu(x, f"{name}_pre"), channels // BOTTLENECK, 1, f"{name}_1")
    residual = conv(norm_relu(residual, f"{name}_1"), channels // BOTTLENECK, 3, f"{name}_2")
    residual = conv(norm_relu(residual, f"{name}_2"), channels, 1, f"{name}_3")
    return keras.layers.Add(name=f"{name}_sum")([x, residual])


def postactivation_bottleneck(x, channels, name):
    """As `preactivation_bottleneck` with BatchNorm and ReLU behind each convolution: He et al., CVPR 2016."""
    residual = norm_relu(conv(x, channels // BOTTLENECK, 1, f"{name}_1"), f"{name}_1")
    residual = norm_relu(conv(residual, channels // BOTTLENECK, 3, f"{name}_2"), f"{name}_2")
    residual = norm(conv(residual, channels, 1, f"{name}_3"), f"{name}_3")
    x = keras.layers.Add(name=f"{name}_sum")([x, residual])
    return keras.layers.ReLU(name=f"{name}_sum_relu")(x)
