"""ResNet-101 as torchvision has it, so that its weights fit, and those of networks that were trained from them.

He et al., CVPR 2016, with the stride in a block's 3x3 convolution and no biases in front of BatchNorms.
Keras' own ResNet-101 has the stride in the first 1x1 convolution, biases, and pixels scaled in another way.
"""

import logging

from srn_tf.errors import InputError
from srn_tf.lazy import LazyModule
from srn_tf.models.assigning import USE_RANDOM_WEIGHTS, assign_arrays
from srn_tf.models.finite import check_finite
from srn_tf.models.published import in_keras_axes, is_weight, trunk_address
from srn_tf.models.torch_file import read_torch_file

logger = logging.getLogger("srn_tf")

keras = LazyModule("keras")
own_layers = LazyModule("srn_tf.models.layers")
variables = LazyModule("srn_tf.models.variables")

RESNET_TORCH = "resnet101_torch"

_BLOCKS = (3, 4, 23, 3)  # of each stage
_WIDTH = 64  # of the stem, and of the 3x3 convolutions of the first stage
_EXPANSION = 4  # a block's outer channels for each inner one
_FIRST = "layer1.0.conv1.weight"  # by which the prefix of all names is found
_NO_TRUNK = ("fc", "conv_buffer0", "conv_buffer1", "conv_buffer2")  # classifier, and what MSRN's authors keep beside


def build_resnet_torch(image_size, num_blocks=_BLOCKS, width=_WIDTH):
    """The network without its classifier.

    A layer "conv1", "layer1.0.bn1" or the like of torchvision is named cnn_conv1, cnn_layer1_0_bn1.

    Args:
        image_size: side S, pixels.
        num_blocks: of each of the four stages.
        width: of the stem, channels.
    Returns:
        (network, cuts): keras.Model image -> (B, S/32, S/32, 32 * width), >= 0; see `backbones._Application.cuts`.
    """
    image = keras.Input((image_size, image_size, 3), name="image")
    x = own_layers.ScaleInput("torch", name="cnn_scale_input")(image)
    x = _norm_relu(_conv(x, width, 7, "conv1", 2), "bn1")
    # The map is >= 0 here, so that zeros around it are no maximum that PyTorch's minus infinities would not be.
    x = keras.layers.ZeroPadding2D(1, name="cnn_maxpool_pad")(x)
    x = keras.layers.MaxPooling2D(3, 2, name="cnn_maxpool")(x)
    for stage, blocks in enumerate(num_blocks):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            x = _bottleneck(x, width * 2**stage, stride, f"layer{stage + 1}_{block}")
    cuts = {
        name: {name: f"cnn_layer{stage}_{num_blocks[stage - 1] - 1}_relu"} for name, stage in (("c3", 2), ("c4", 3))
    }
    return keras.Model(image, x), cuts


def _bottleneck(x, channels, stride, name):
    """1x1, 3x3 with the stride, and 1x1 convolutions, and a shortcut with a convolution where its shape is another."""
    outer = channels * _EXPANSION
    residual = _norm_relu(_conv(x, channels, 1, f"{name}_conv1"), f"{name}_bn1")
    residual = _norm_relu(_conv(residual, channels, 3, f"{name}_conv2", stride), f"{name}_bn2")
    residual = _norm(_conv(residual, outer, 1, f"{name}_conv3"), f"{name}_bn3")
    if stride > 1 or x.shape[-1] != outer:
        x = _norm(_conv(x, outer, 1, f"{name}_downsample_0", stride), f"{name}_downsample_1")
    x = keras.layers.Add(name=f"cnn_{name}_sum")([residual, x])
    return keras.layers.ReLU(name=f"cnn_{name}_relu")(x)


def _conv(x, channels, kernel, name, stride=1):
    """A convolution with as many zeros on each side, as PyTorch's; "same" has fewer on two sides at stride 2."""
    if kernel > 1 and stride > 1:
        x = keras.layers.ZeroPadding2D(kernel // 2, name=f"cnn_{name}_pad")(x)
    return keras.layers.Conv2D(
        channels,
        kernel,
        stride,
        "valid" if stride > 1 else "same",
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        name=f"cnn_{name}",
    )(x)


def _norm(x, name):
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"cnn_{name}")(x)


def _norm_relu(x, name):
    return keras.layers.ReLU(name=f"cnn_{name}_relu")(_norm(x, name))


def load_torchvision(network, path):
    """Gives a network of `build_resnet_torch` weights from a PyTorch file.

    Args:
        network: keras.Model.
        path: file of a state dict: torchvision's, or one of a larger network in which a ResNet of torchvision's names
            lies under a prefix, such as that of MSRN's authors ("resnet_101."). What lies beside it is not read.
    Raises:
        InputError: no file; or one that is damaged, asks for more than tensors, is not finite or does not fit.
    """
    if path == "imagenet":
        raise InputError(
            f"The ImageNet weights of {RESNET_TORCH} are torchvision's. srn_tf does not download them. Download "
            "resnet101-63fe2227.pth from download.pytorch.org/models and give --backbone_weights=FILE, or "
            f"{USE_RANDOM_WEIGHTS}."
        )
    published = read_torch_file(path)
    prefixes = [name.removesuffix(_FIRST) for name in published if name.endswith(_FIRST)]
    prefix = prefixes[0] if len(prefixes) == 1 else ""
    own = {name.removeprefix(prefix): array for name, array in published.items() if name.startswith(prefix)}
    arrays = {
        trunk_address(name, array): in_keras_axes(name, array)
        for name, array in own.items()
        if is_weight(name) and name.split(".")[0] not in _NO_TRUNK
    }
    check_finite(arrays, path)
    assign_arrays(dict(variables.addresses(network, "trunk")), arrays, path)
    logger.info("Backbone %s starts from the weights in %s.", RESNET_TORCH, path)
