"""Trunks: networks without their classifier, with the named maps c3, c4 and c5. A trunk can be cut in two at a map.

If the rest of a trunk needs more than the map, the cut carries it under a second key, "shortcut". In pre-activation
ResNets it is the sum before the map's BatchNorm and ReLU.
"""

import collections
import dataclasses
import os
import re

from srn_tf.errors import InputError
from srn_tf.lazy import LazyModule
from srn_tf.models.assigning import USE_RANDOM_WEIGHTS
from srn_tf.models.efficientnet_lite import SCALES, build_efficientnet_lite, load_pretrained
from srn_tf.models.finite import check_finite
from srn_tf.models.resnet_torch import RESNET_TORCH, build_resnet_torch, load_torchvision

keras = LazyModule("keras")
blocks = LazyModule("srn_tf.models.blocks")
own_layers = LazyModule("srn_tf.models.layers")
variables = LazyModule("srn_tf.models.variables")

MAPS = ("c3", "c4", "c5")
"""Maps at strides 8, 16 and 32, named after the stages of ResNets. For "small": strides 2, 4 and 8 of its 56x56 map."""


@dataclasses.dataclass(frozen=True)
class _Application:
    """A network of keras.applications.

    Attributes:
        builder_name: name of its function there.
        weights_file: Keras' file of its ImageNet weights without the classifier.
        scaling: scaling of pixels that those weights expect, a mode of `ScaleInput`.
        block: kind of its residual blocks, see `Trunk`.
        cuts: map -> {map and perhaps "shortcut": name of a layer}. c5 is always the network's end.
        side: whether the maps are "output" or "input" of those layers.
        options: further arguments of the builder.
    """

    builder_name: str
    weights_file: str
    scaling: str
    block: str
    cuts: dict
    side: str = "output"
    options: dict = dataclasses.field(default_factory=dict)


def _resnet(builder_name, num_blocks):
    """ResNets of stages with 3, 4, `num_blocks` and 3 blocks: He et al., "Identity mappings", ECCV 2016, or CVPR 2016.

    v1 strides in the first block of a stage: the stride-16 map after all blocks of stage 4 is exactly the authors'
    res4b22_relu. v2 strides in the last block of a stage: the stride-16 map that has passed the most blocks is the last
    block's pre-activation (22 of 23 blocks for ResNet-101), and that block's shortcut also needs the sum before it.
    """
    is_v2 = builder_name.endswith("V2")
    cuts = {}
    for name, stage, last in (("c3", "conv3", 4), ("c4", "conv4", num_blocks)):
        if is_v2:
            cuts[name] = {name: f"{stage}_block{last}_preact_relu", "shortcut": f"{stage}_block{last - 1}_out"}
        else:
            cuts[name] = {name: f"{stage}_block{last}_out"}
    return _Application(
        builder_name,
        f"{builder_name.lower()}_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "symmetric" if is_v2 else "caffe",
        "preactivation" if is_v2 else "postactivation",
        cuts,
    )


# In networks of inverted bottlenecks, the richest map of a stride is the expanded one, after its activation, of the
# block that leads to the next stride. It has five to six times the channels of the sums between blocks.
_APPLICATIONS = {
    "resnet101v2": _resnet("ResNet101V2", 23),
    "resnet50v2": _resnet("ResNet50V2", 6),
    "resnet101": _resnet("ResNet101", 23),
    "resnet50": _resnet("ResNet50", 6),
    # Keras' documentation says [-1, 1] for all EfficientNetV2. The preprocessing in its builder fits the weights; it
    # uses ImageNet's mean and deviation for B0 to B3.
    "efficientnetv2_b0": _Application(
        "EfficientNetV2B0",
        "efficientnetv2-b0_notop.h5",
        "torch",
        "postactivation",
        {"c3": {"c3": "block4a_expand_activation"}, "c4": {"c4": "block6a_expand_activation"}},
        options={"include_preprocessing": False},
    ),
    "convnext_tiny": _Application(
        "ConvNeXtTiny",
        "convnext_tiny_notop.h5",
        "torch",
        "postactivation",
        {"c3": {"c3": "convnext_tiny_stage_1_block_2_add"}, "c4": {"c4": "convnext_tiny_stage_2_block_8_add"}},
        options={"include_preprocessing": False},
    ),
    # Its activations have no names. At these places only the padding of the strided convolution reads them.
    "mobilenetv3_large": _Application(
        "MobileNetV3Large",
        "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
        "symmetric",
        "postactivation",
        {"c3": {"c3": "expanded_conv_6_depthwise_pad"}, "c4": {"c4": "expanded_conv_12_depthwise_pad"}},
        side="input",
        options={"include_preprocessing": False},
    ),
}

BACKBONES = (*_APPLICATIONS, RESNET_TORCH, *SCALES, "small")

SMALL_CHANNELS = (32, 64, 128)
SMALL_CUTS = {"c3": {"c3": "cnn_stage2_block1_pre_relu"}, "c4": {"c4": "cnn_x_relu"}}
CONVNEXT_DEPTHS = (3, 3, 9, 3)  # blocks of ConvNeXt-Tiny's four stages

# Names that Keras gives if a builder gives none. Their numbers go on from network to network within a process.
_UNNAMED = re.compile(r"(tf\..+?|activation|add|layer_normalization|max_pooling2d|multiply|re_lu)(_\d+)?")


class Trunk:
    """A network without classifier that gives its maps, whole or in two pieces.

    Attributes:
        name: one of `BACKBONES`.
        block: kind of residual block that fits after it: "preactivation", "postactivation" or "small".
        image: symbolic float32 (B, S, S, 3), RGB 0 to 255.
        maps: dict c3, c4, c5 -> symbolic tensors (B, H, W, D) on `image`.
        model: keras.Model "trunk", image -> dict of all maps. It holds every weight of the trunk once.
    """

    def __init__(self, name, block, image, cuts):
        """
        Args:
            name, block, image: as above.
            cuts: map -> dict of what crosses a cut there: the map under its own name, perhaps "shortcut".
        """
        self.name = name
        self.block = block
        self.image = image
        self.maps = {map_name: cuts[map_name][map_name] for map_name in MAPS}
        self.model = keras.Model(image, self.maps, name="trunk")
        self._cuts = cuts

    def until(self, map_name):
        """The layers and weights up to a map.

        Returns:
            keras.Model "trunk_until_<map>": image -> dict with the map and what else `after` needs.
        Raises:
            ValueError: there is no such map.
        """
        _check_map(map_name, MAPS)
        return keras.Model(self.image, self._cuts[map_name], name=f"trunk_until_{map_name}")

    def after(self, map_name):
        """The layers and weights after a map.

        Returns:
            keras.Model "trunk_after_<map>": the dict of `until` -> dict of the later maps, equal to those of `model`.
        Raises:
            ValueError: there is no such map, or no later one.
        """
        _check_map(map_name, MAPS[:-1])
        cut = self._cuts[map_name]
        later = {name: self.maps[name] for name in MAPS[MAPS.index(map_name) + 1 :]}
        # Keras names the inputs of a model that begins inside a graph; Keras 3 needs a dict's inputs named by its keys.
        rest = keras.Model(list(cut.values()), later, name=f"trunk_behind_{map_name}")
        inputs = {key: keras.Input(x.shape[1:], dtype=x.dtype, name=key) for key, x in cut.items()}
        return keras.Model(inputs, rest(list(inputs.values())), name=f"trunk_after_{map_name}")


def _check_map(map_name, expected):
    if map_name not in expected:
        raise ValueError(f"map must be one of {', '.join(expected)}. Received: {map_name!r}.")


def build_trunk(name, image_size, weights="none"):
    """Builds a trunk.

    Paper: Zhu et al., CVPR 2017, Eq. (1): its X is c4, (B, S/16, S/16, D).

    Channels of c3, c4 and c5, at S/8, S/16 and S/32: 512, 1024, 2048 for ResNets, all >= 0 (after a ReLU); 192, 672,
    1280 for EfficientNetV2-B0; 240, 672, 1280 for EfficientNet-Lite0 and 1, 288, 720, 1280 for Lite2, all in [0, 6];
    192, 384, 768 for ConvNeXt-Tiny; 240, 672, 960 for MobileNetV3-Large; 32, 64, 128 for "small", >= 0, whose c4 is
    14x14 for every S that is a multiple of 56.

    Args:
        name: one of `BACKBONES`.
        image_size: side S of the square input, pixels; a multiple of 32 ("small": of 32 or of 56).
        weights: "imagenet" (downloaded by Keras; for EfficientNet-Lite from an installed package), "none" (random), or
            the path of a file for the same architecture: Keras' "notop" .h5; for other formats see
            `efficientnet_lite` and `resnet_torch`.
    Returns:
        Trunk.
    Raises:
        InputError: unknown name, a size that is no such multiple, weights that are missing, misfit or not finite.
    """
    if name not in BACKBONES:
        raise InputError(f"backbone must be one of {', '.join(BACKBONES)}. Received: {name!r}.")
    units_px = (32, 56) if name == "small" else (32,)
    if image_size <= 0 or all(image_size % unit_px for unit_px in units_px):
        units = " or ".join(str(unit_px) for unit_px in units_px)
        raise InputError(f"image_size must be a multiple of {units} for backbone {name}. Received: {image_size}.")
    if name == "small" and weights != "none":
        raise InputError(
            f"Backbone small has no pre-trained weights. Received: {weights!r}. Start from a run with --init_from, or "
            f"{USE_RANDOM_WEIGHTS}."
        )
    if name == "small":
        network = _build_small(image_size)
        return Trunk(name, "small", network.inputs[0], _cut(network, SMALL_CUTS))
    if name in SCALES:
        network, cuts = build_efficientnet_lite(name, image_size)
        if weights != "none":
            load_pretrained(network, name, weights)
        return Trunk(name, "postactivation", network.inputs[0], _cut(network, cuts))
    if name == RESNET_TORCH:
        network, cuts = build_resnet_torch(image_size)
        if weights != "none":
            load_torchvision(network, weights)
        return Trunk(name, "postactivation", network.inputs[0], _cut(network, cuts))
    application = _APPLICATIONS[name]
    network = _build_application(application, image_size, weights)
    if weights != "none":
        arrays = {address: weight.numpy() for address, weight in variables.addresses(network, "trunk")}
        check_finite(arrays, application.weights_file if weights == "imagenet" else weights)
    image, cuts = _give_names(network, _cut(network, application.cuts, application.side))
    return Trunk(name, application.block, image, cuts)


def _cut(network, cuts, side="output"):
    """The tensors at the places of `_Application.cuts`, and c5 at the end of the network."""
    layers = {_plain_name(layer.name): layer for layer in network.layers}
    found = {
        map_name: {key: getattr(layers[layer], side) for key, layer in cut.items()} for map_name, cut in cuts.items()
    }
    return {**found, "c5": {"c5": network.outputs[0]}}


def _give_names(network, cuts):
    """The same network with layer names that are the same in every process and contain no "/".

    Layers that already have such a name stay, with their weights. The others are replaced by new layers with another
    name and the same weights. Dropout is replaced too, by a layer whose random draws can be continued.

    Args:
        network: keras.Model.
        cuts: map -> {key: tensor of the network}.
    Returns:
        (image, cuts): symbolic input and tensors of the renamed network.
    """

    def is_dropout(layer):
        return isinstance(layer, keras.layers.Dropout)

    names, counts = {}, collections.Counter()
    for layer in network.layers:
        unnamed = _UNNAMED.fullmatch(layer.name)
        names[layer.name] = _plain_name(layer.name)
        if unnamed:
            kind = unnamed[1].rpartition(".")[2]
            counts[kind] += 1
            names[layer.name] = f"cnn_{kind}_{counts[kind]}"
    if all(names[layer.name] == layer.name and not is_dropout(layer) for layer in network.layers):
        return network.inputs[0], cuts

    replaced = []

    def rename(layer):
        new_name = names.get(layer.name, layer.name)  # Keras 3 also asks for operations, which are not layers
        if is_dropout(layer):
            return own_layers.SeededDropout(layer.rate, is_per_image=layer.noise_shape is not None, name=new_name)
        if new_name == layer.name:
            return layer
        new = type(layer).from_config({**layer.get_config(), "name": new_name})
        replaced.append((layer, new))
        return new

    keys = [(map_name, key) for map_name, cut in cuts.items() for key in cut]
    tensors = [cuts[map_name][key] for map_name, key in keys]
    renamed = keras.models.clone_model(keras.Model(network.inputs[0], tensors), clone_function=rename)
    for layer, new in replaced:
        new.set_weights(layer.get_weights())
    new_cuts = {map_name: {} for map_name in cuts}
    for (map_name, key), tensor in zip(keys, renamed.outputs, strict=True):
        new_cuts[map_name][key] = tensor
    return renamed.inputs[0], new_cuts


def _plain_name(name):
    """MobileNetV3's names in the form of Keras 3: "Conv/BatchNorm" -> "conv_bn". Other names stay."""
    return name.replace("/BatchNorm", "_bn").replace("/", "_").lower()


def _build_application(application, image_size, weights):
    image = keras.Input((image_size, image_size, 3), name="image")
    scaled = own_layers.ScaleInput(application.scaling, name="cnn_scale_input")(image)
    network = _load_application(application, scaled, weights)
    return _join_convnext(network, image, scaled) if application.builder_name == "ConvNeXtTiny" else network


def _load_application(application, scaled, weights):
    """The keras.applications network on a scaled input, without its ImageNet classifier."""
    build = getattr(keras.applications, application.builder_name)
    if weights not in ("imagenet", "none") and not os.path.isfile(weights):
        raise InputError(
            f"backbone_weights must be imagenet, none or a copy of {application.weights_file}. Received: {weights!r}, "
            "which is not a file. Check the path."
        )
    try:
        return build(
            include_top=False,
            weights=None if weights == "none" else weights,
            input_tensor=scaled,
            **application.options,
        )
    except Exception as error:  # Keras raises several classes for a failed download, and for a misfit
        reason = " ".join(str(error).split())[:300]
        if weights == "imagenet":
            raise InputError(
                f"The ImageNet weights {application.weights_file} could not be downloaded. Received: {reason}. Copy "
                "the file from a machine with network access and give --backbone_weights=FILE, or "
                f"{USE_RANDOM_WEIGHTS}."
            ) from error
        if weights == "none":
            raise
        raise InputError(
            f"backbone_weights must fit {application.builder_name} without its classifier. Received: {weights} "
            f"({reason}). Use a copy of {application.weights_file}."
        ) from error


def _join_convnext(network, image, scaled):
    """Rebuilds keras.applications' ConvNeXt-Tiny from its layers: Liu et al., "A ConvNet for the 2020s", CVPR 2022.

    Its builder reads the source of `input_tensor` and so leaves out `ScaleInput`. Its sums and its last norm have no
    names, and its strided convolutions are in models of their own. Its depthwise convolutions are grouped convolutions,
    which need XLA on CPUs and take 20 times as long as `DepthwiseConv2D`. Its LayerScale cannot be loaded from a .keras
    file. New layers with the same weights replace these.

    Returns:
        keras.Model image -> (B, S/32, S/32, 768), after the last norm.
    """

    x = scaled
    for stage, depth in enumerate(CONVNEXT_DEPTHS):
        entry = "stem" if stage == 0 else f"downsampling_block_{stage - 1}"
        for layer in network.get_layer(f"convnext_tiny_{entry}").layers:
            x = layer(x)
        for block in range(depth):
            prefix = f"convnext_tiny_stage_{stage}_block_{block}"
            convolution, scale = (network.get_layer(f"{prefix}_{name}") for name in ("depthwise_conv", "layer_scale"))
            depthwise = keras.layers.DepthwiseConv2D(7, padding="same", name=convolution.name)
            residual = _stand_in(depthwise, convolution, x)
            for step in ("layernorm", "pointwise_conv_1", "gelu", "pointwise_conv_2"):
                residual = network.get_layer(f"{prefix}_{step}")(residual)
            residual = _stand_in(own_layers.LayerScale(name=scale.name), scale, residual)
            x = keras.layers.Add(name=f"{prefix}_add")([x, residual])
    norm = keras.layers.LayerNormalization(epsilon=1e-6, name="convnext_tiny_last_layernorm")
    return keras.Model(image, _stand_in(norm, network.layers[-1], x))


def _stand_in(new, layer, x):
    """Calls a new layer on x with another's weights: a depthwise kernel (k, k, D, 1) is (k, k, 1, D) there."""
    y = new(x)
    weights = zip(layer.get_weights(), new.weights, strict=True)
    new.set_weights([value.reshape(weight.shape) for value, weight in weights])
    return y


def _build_small(image_size):
    """A pre-activation ResNet for CPUs: S -> 56 -> 28 -> X at 14x14x64 -> 7x7x128.

    Blocks are those of He et al., "Identity mappings", ECCV 2016, Figure 4e, with two 3x3 convolutions.
    The stem's stride is S/56, rounded down and at least 1, so that X is a 14x14 grid for every multiple of 56.
    """
    stem_stride = max(1, image_size // 56)
    image = keras.Input((image_size, image_size, 3), name="image")
    x = own_layers.ScaleInput("symmetric", name="cnn_scale_input")(image)
    x = blocks.conv(x, 16, 2 * stem_stride + 1, "cnn_stem", stem_stride)
    x = blocks.small_block(x, SMALL_CHANNELS[0], 2, "cnn_stage1_block1")
    x = blocks.small_block(x, SMALL_CHANNELS[1], 2, "cnn_stage2_block1")
    X = blocks.norm_relu(x, "cnn_x")
    x = blocks.small_block(X, SMALL_CHANNELS[2], 2, "cls_stage3_block1")
    return keras.Model(image, blocks.norm_relu(x, "cls_last"))
