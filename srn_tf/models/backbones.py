"""Main nets, each cut in two at the map X that the SRN heads read: f_cnn (image -> X) and f_cls (X -> y_cls).

f_cnn returns a dict with X and, where the rest of the main net needs more than X, a second entry
"shortcut" (see `_APPLICATIONS`). f_cls takes that dict and returns one with y_cls and what y_cls comes of.
"""

import dataclasses
import os

import keras

from srn_tf.errors import InputError
from srn_tf.models.finite import check_finite
from srn_tf.models.layers import ScaleInput


@dataclasses.dataclass(frozen=True)
class _Application:
    """A network of keras.applications and where X lies in it."""

    builder_name: str
    weights_file: str
    scaling: str
    is_preactivation: bool
    cut: dict  # names of the layers whose outputs f_cnn returns


# v1 strides in a stage's first block: the output after all blocks of stage 4 is at stride 16, exactly
# the authors' res4b22_relu. v2 strides in a stage's last block: the stride-16 map with the most
# blocks behind it is the last block's pre-activation (22 of 23 blocks for ResNet-101), and that
# block's shortcut also needs the sum before the pre-activation.
_APPLICATIONS = {
    "resnet101v2": _Application(
        "ResNet101V2",
        "resnet101v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "symmetric",
        True,
        {"X": "conv4_block23_preact_relu", "shortcut": "conv4_block22_out"},
    ),
    "resnet50v2": _Application(
        "ResNet50V2",
        "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "symmetric",
        True,
        {"X": "conv4_block6_preact_relu", "shortcut": "conv4_block5_out"},
    ),
    "resnet101": _Application(
        "ResNet101",
        "resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "caffe",
        False,
        {"X": "conv4_block23_out"},
    ),
    "resnet50": _Application(
        "ResNet50",
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "caffe",
        False,
        {"X": "conv4_block6_out"},
    ),
}

BACKBONES = (*_APPLICATIONS, "small")

SMALL_CHANNELS = (32, 64, 128)
BOTTLENECK = 4  # a bottleneck's outer channels for each inner one, as in every ResNet


def build_backbone(name, image_size, num_labels, weights="none"):
    """Builds a main net as two functional models.

    Paper: Zhu et al., CVPR 2017, Eq. (1) and (2).

    Args:
        name: one of `BACKBONES`.
        image_size: side S of the square input, pixels; a multiple of 32 (of 56 for "small").
        num_labels: C.
        weights: "imagenet" (downloaded by Keras), "none" (random), or the path of a Keras
            "notop" .h5 file of the same architecture.
    Returns:
        (f_cnn, f_cls): float32 (B, S, S, 3) RGB 0 to 255 -> dict with X (B, H, W, D), H = W = S/16
        (14 for "small"); and that dict -> dict with "last_map" (B, h, w, D'), >= 0 (the paper's res5c_relu), its
        mean over the grid "pooled" (B, D') (pool5) and "y_cls", logits (B, C). D' = 2048 (128 for "small").
    Raises:
        InputError: unknown name, a size that does not divide, weights that cannot be had, do not fit or are not finite.
    """
    if name not in BACKBONES:
        raise InputError(f"backbone must be one of {', '.join(BACKBONES)}. Received: {name!r}.")
    unit_px = 56 if name == "small" else 32
    if image_size <= 0 or image_size % unit_px:
        raise InputError(f"image_size must be a multiple of {unit_px} for backbone {name}. Received: {image_size}.")
    if name == "small":
        if weights != "none":
            raise InputError(
                "Backbone small has no pre-trained weights: use --backbone_weights=none, or --init_from to start "
                f"from a run of this project. Received: {weights!r}."
            )
        return _build_small(image_size, num_labels)
    return _build_application(_APPLICATIONS[name], image_size, num_labels, weights)


def build_more_blocks(name, map_shape):
    """Two more residual blocks of a backbone's own kind, at stride 1: what ResNet-107 has more than ResNet-101.

    Paper: section 4.1, two blocks with 2048 output channels "following the last block of ResNet-101 (the layer
    res5c_relu)": bottlenecks 2048-512-2048 with pre-activation (v2) or post-activation (v1); for "small" two of its
    own blocks. What they read is behind a ReLU, so with pre-activation a BatchNorm and ReLU end them as well. The
    text calls their size "approximately equal" to SRN's 6 million weights; they have 8.9 million.

    Args:
        name: one of `BACKBONES`.
        map_shape: (H, W, D) of the main net's last map.
    Returns:
        keras.Model f_more: (B, H, W, D) -> (B, H, W, D), >= 0.
    """
    channels = map_shape[-1]
    x = last_map = keras.Input(map_shape, name="more_input")
    for block in ("more_block1", "more_block2"):
        if name == "small":
            x = _small_block(x, channels, 1, block)
        elif _APPLICATIONS[name].is_preactivation:
            x = _preactivation_bottleneck(x, channels, block)
        else:
            x = _postactivation_bottleneck(x, channels, block)
    if name == "small" or _APPLICATIONS[name].is_preactivation:
        x = _batch_norm_relu(x, "more_last")
    return keras.Model(last_map, x, name="f_more")


def _preactivation_bottleneck(x, channels, name):
    residual = _conv(_batch_norm_relu(x, f"{name}_pre"), channels // BOTTLENECK, 1, 1, f"{name}_1")
    residual = _conv(_batch_norm_relu(residual, f"{name}_1"), channels // BOTTLENECK, 3, 1, f"{name}_2")
    residual = _conv(_batch_norm_relu(residual, f"{name}_2"), channels, 1, 1, f"{name}_3")
    return keras.layers.Add(name=f"{name}_sum")([x, residual])


def _postactivation_bottleneck(x, channels, name):
    residual = _batch_norm_relu(_conv(x, channels // BOTTLENECK, 1, 1, f"{name}_1"), f"{name}_1")
    residual = _batch_norm_relu(_conv(residual, channels // BOTTLENECK, 3, 1, f"{name}_2"), f"{name}_2")
    residual = _batch_norm(_conv(residual, channels, 1, 1, f"{name}_3"), f"{name}_3")
    x = keras.layers.Add(name=f"{name}_sum")([x, residual])
    return keras.layers.ReLU(name=f"{name}_sum_relu")(x)


def _build_application(application, image_size, num_labels, weights):
    image = keras.Input((image_size, image_size, 3), name="image")
    scaled = ScaleInput(application.scaling, name="cnn_scale_input")(image)
    base = _load_application(application, scaled, weights)
    if weights != "none":
        values = {
            f"{layer.name}/{weight.name.split('/')[-1].split(':')[0]}": weight.numpy()
            for layer in base.layers
            for weight in layer.weights
        }
        check_finite(values, application.weights_file if weights == "imagenet" else weights)
    features = {name: base.get_layer(layer).output for name, layer in application.cut.items()}
    f_cnn = keras.Model(image, features, name="f_cnn")
    return f_cnn, _build_classifier(features, base.output, num_labels)


def _load_application(application, scaled, weights):
    """The keras.applications network on a scaled input, without its ImageNet classifier."""
    build = getattr(keras.applications, application.builder_name)
    if weights not in ("imagenet", "none") and not os.path.isfile(weights):
        raise InputError(
            f"backbone_weights must be imagenet, none or a file. Received: {weights!r}, which is not a file; "
            f"expected a copy of {application.weights_file}."
        )
    try:
        return build(include_top=False, weights=None if weights == "none" else weights, input_tensor=scaled)
    except Exception as error:  # Keras reports a failed download and a misfit each in several classes
        reason = " ".join(str(error).split())[:200]
        if weights == "imagenet":
            raise InputError(
                f"The ImageNet weights {application.weights_file} could not be downloaded ({reason}). Bring the "
                "file from a machine with network and pass --backbone_weights=FILE, or start from random "
                "weights with --backbone_weights=none."
            ) from error
        if weights == "none":
            raise
        raise InputError(
            f"The weight file {weights} does not fit {application.builder_name} without its classifier ({reason}). "
            f"Expected a copy of {application.weights_file}."
        ) from error


def _build_small(image_size, num_labels):
    """A pre-activation ResNet for CPUs: S -> 56 -> 28 -> X at 14x14x64 -> 7x7x128 -> y_cls.

    Blocks are those of He et al., "Identity mappings", ECCV 2016, Figure 4e, with two 3x3 convolutions.
    The stem's stride is S/56, so that X is a 14x14 grid whatever the input.
    """
    stem_stride = image_size // 56
    image = keras.Input((image_size, image_size, 3), name="image")
    x = ScaleInput("symmetric", name="cnn_scale_input")(image)
    x = _conv(x, 16, 2 * stem_stride + 1, stem_stride, "cnn_stem")
    x = _small_block(x, SMALL_CHANNELS[0], 2, "cnn_stage1_block1")
    x = _small_block(x, SMALL_CHANNELS[1], 2, "cnn_stage2_block1")
    X = _batch_norm_relu(x, "cnn_x")
    x = _small_block(X, SMALL_CHANNELS[2], 2, "cls_stage3_block1")
    x = _batch_norm_relu(x, "cls_last")
    return keras.Model(image, {"X": X}, name="f_cnn"), _build_classifier({"X": X}, x, num_labels)


def _build_classifier(features, last_map, num_labels):
    pooled = keras.layers.GlobalAveragePooling2D(name="cls_pool")(last_map)
    y_cls = keras.layers.Dense(num_labels, dtype="float32", name="cls_logits")(pooled)
    return keras.Model(features, {"last_map": last_map, "pooled": pooled, "y_cls": y_cls}, name="f_cls")


def _small_block(x, channels, stride, name):
    preact = _batch_norm_relu(x, f"{name}_pre")
    shortcut = x if stride == 1 else _conv(preact, channels, 1, stride, f"{name}_shortcut")
    residual = _conv(preact, channels, 3, stride, f"{name}_1")
    residual = _conv(_batch_norm_relu(residual, f"{name}_mid"), channels, 3, 1, f"{name}_2")
    return keras.layers.Add(name=f"{name}_sum")([shortcut, residual])


def _conv(x, channels, kernel, stride, name):
    return keras.layers.Conv2D(
        channels, kernel, stride, "same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)


def _batch_norm_relu(x, name):
    return keras.layers.ReLU(name=f"{name}_relu")(_batch_norm(x, name))


def _batch_norm(x, name):
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
