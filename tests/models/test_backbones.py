"""The trunks: where their maps lie, that cutting changes nothing, and weights from a file or not to be had."""

import dataclasses

import keras
import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.models.backbones import BACKBONES, MAPS, build_trunk
from srn_tf.models.efficientnet_lite import SCALES
from srn_tf.models.layers import SeededDropout
from tests.models import reference
from tests.models.trunk_checks import as_numpy, check_cuts, check_gradients, check_maps

S_PX = 64
IS_KERAS_2 = keras.__version__.startswith("2.")
RELU_NETWORKS = ("resnet101v2", "resnet50v2", "resnet101", "resnet50", "small")


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a network: builder and module in keras.applications, weights without its classifier as in
    Keras' documentation, channels of c3, c4 and c5, and how many sums of residual blocks lie before each.
    """

    builder: str
    module: str
    num_weights: int
    channels: tuple
    sums: tuple
    block: str


RESNET = (512, 1024, 2048)
FACTS = {
    "resnet101v2": Facts("ResNet101V2", "resnet_v2", 42_626_560, RESNET, (6, 29, 33), "preactivation"),
    "resnet50v2": Facts("ResNet50V2", "resnet_v2", 23_564_800, RESNET, (6, 12, 16), "preactivation"),
    "resnet101": Facts("ResNet101", "resnet", 42_658_176, RESNET, (7, 30, 33), "postactivation"),
    "resnet50": Facts("ResNet50", "resnet", 23_587_712, RESNET, (7, 13, 16), "postactivation"),
    "efficientnetv2_b0": Facts(
        "EfficientNetV2B0", "efficientnet_v2", 5_919_312, (4 * 48, 6 * 112, 1280), (2, 8, 15), "postactivation"
    ),
    "convnext_tiny": Facts("ConvNeXtTiny", "convnext", 27_820_128, (192, 384, 768), (6, 15, 18), "postactivation"),
    "mobilenetv3_large": Facts(
        "MobileNetV3Large", "mobilenet_v3", 2_996_352, (6 * 40, 6 * 112, 960), (4, 8, 10), "postactivation"
    ),
}
# Layers of the uncut network whose outputs c3 and c4 are, where they have names.
LAYERS = {
    "resnet101v2": ("conv3_block4_preact_relu", "conv4_block23_preact_relu"),
    "resnet50v2": ("conv3_block4_preact_relu", "conv4_block6_preact_relu"),
    "resnet101": ("conv3_block4_out", "conv4_block23_out"),
    "resnet50": ("conv3_block4_out", "conv4_block6_out"),
    "efficientnetv2_b0": ("block4a_expand_activation", "block6a_expand_activation"),
}
NETWORKS = pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in FACTS])


class Built:
    """A trunk that was built from the file of an uncut network with its own preprocessing, beside that network."""

    def __init__(self, name, folder):
        self.facts = FACTS[name]
        self.uncut = getattr(keras.applications, self.facts.builder)(
            include_top=False, weights=None, input_shape=(S_PX, S_PX, 3)
        )
        reference.randomise(self.uncut, seed=1)
        if name == "mobilenetv3_large":  # whose random weights let little of an image through
            for weight in self.uncut.weights:
                if "gamma" in weight.name:
                    weight.assign(3.0 * weight)
        self.preprocess_input = getattr(keras.applications, self.facts.module).preprocess_input
        self.file = str(folder / f"{name}_notop{'' if IS_KERAS_2 else '.weights'}.h5")  # Keras 3 writes no other name
        self.uncut.save_weights(self.file)
        self.trunk = build_trunk(name, S_PX, self.file)
        images = np.random.default_rng(0).uniform(0, 255, (2, S_PX, S_PX, 3)).astype(np.float32)
        self.images = images
        self.maps = as_numpy(self.trunk.model(images))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A function: name -> Built, each made once."""
    folder, cache = tmp_path_factory.mktemp("weights"), {}

    def get(name):
        if name not in cache:
            cache[name] = Built(name, folder)
        return cache[name]

    return get


def names_of(trunk):
    return [layer.name for layer in trunk.model.layers]


def sums(model):
    """The sums that end residual blocks."""
    return sum(isinstance(layer, keras.layers.Add) for layer in model.layers)


def test_the_list():
    assert BACKBONES == (*FACTS, "resnet101_torch", *SCALES, "small")


@NETWORKS
def test_maps(built, name):
    network = built(name)
    trunk, facts = network.trunk, network.facts
    assert (trunk.name, trunk.block, trunk.model.name) == (name, facts.block, "trunk")
    assert set(trunk.maps) == set(network.maps) == set(MAPS)
    check_maps(trunk.maps, S_PX // 8, facts.channels)
    check_maps(network.maps, S_PX // 8, facts.channels)
    for value in network.maps.values():
        assert np.isfinite(value).all() and np.ptp(value, axis=0).max() > 1e-3  # two images, two maps
        assert value.max() > 0.0 and (name not in RELU_NETWORKS or value.min() == 0.0)
    assert tuple(sums(trunk.until(map_name)) for map_name in MAPS) == facts.sums


@NETWORKS
def test_the_trunk_equals_the_uncut_network_on_the_same_file(built, name):
    """Weights, layers and scaling: the uncut network reads pixels through its own preprocessing."""
    network = built(name)
    uncut, pixels = network.uncut, network.preprocess_input(network.images.copy())
    outputs = {"c5": uncut.outputs[0]}
    for map_name, layer in zip(MAPS, LAYERS.get(name, ()), strict=False):
        outputs[map_name] = uncut.get_layer(layer).output
    for map_name, expected in as_numpy(keras.Model(uncut.inputs[0], outputs)(pixels)).items():
        largest = np.abs(expected).max()
        np.testing.assert_allclose(network.maps[map_name], expected, rtol=1e-3, atol=1e-4 * largest)


@NETWORKS
def test_no_weight_is_lost_or_doubled(built, name):
    network = built(name)
    weights = network.trunk.model.weights
    dropouts = sum(isinstance(layer, SeededDropout) for layer in network.trunk.model.layers)  # one count of draws each
    assert len({id(weight) for weight in weights}) == len(weights) == len(network.uncut.weights) + dropouts
    assert network.uncut.count_params() == network.facts.num_weights
    assert network.trunk.model.count_params() == network.facts.num_weights + dropouts


@NETWORKS
def test_a_cut_changes_nothing(built, name):
    check_cuts(built(name).trunk, built(name).images)


@NETWORKS
def test_gradients_cross_the_cut(built, name):
    check_gradients(built(name).trunk, built(name).images)


@NETWORKS
def test_another_size_has_another_grid_and_the_same_names(built, name):
    """Weights are addressed by the names of layers: two trunks in one process must not differ in them."""
    trunk = build_trunk(name, 96)
    check_maps(trunk.maps, 12, FACTS[name].channels)
    names = names_of(trunk)
    assert names == names_of(built(name).trunk) and len(set(names)) == len(names)
    assert not [layer for layer in names if "/" in layer]
    uncounted = {"add", "multiply", "re_lu", "activation", "layer_normalization", "max_pooling2d"}
    assert not [layer for layer in names if layer.startswith("tf.") or layer.rstrip("_0123456789") in uncounted]


@pytest.mark.slow
def test_the_grid_of_the_paper():
    check_maps(build_trunk("resnet101v2", 224).maps, 28, RESNET)


# small.


@pytest.mark.parametrize(
    "size_px, side",
    [
        *((56, 28), (448, 28), (96, 48)),
        *(pytest.param(*s, marks=pytest.mark.slow) for s in ((112, 28), (224, 28), (32, 16), (64, 32), (128, 32))),
    ],
)
def test_small_has_a_c4_of_14_for_multiples_of_56(size_px, side):
    trunk = build_trunk("small", size_px)
    check_maps(trunk.maps, side, (32, 64, 128))
    assert (trunk.name, trunk.block) == ("small", "small")
    assert tuple(sums(trunk.until(name)) for name in MAPS) == (1, 2, 3)  # one block a stage


def test_small_cut_and_its_gradients():
    trunk = build_trunk("small", S_PX)
    reference.randomise(trunk.model, seed=1)
    images = np.random.default_rng(0).uniform(0, 255, (2, S_PX, S_PX, 3)).astype(np.float32)
    check_cuts(trunk, images)
    check_gradients(trunk, images)
    for value in as_numpy(trunk.model(images)).values():
        assert value.min() == 0.0 and value.max() > 0.0


def test_small_keeps_its_names():
    """Weights are addressed by them."""
    with_weights = [layer.name for layer in build_trunk("small", 56).model.layers if layer.weights]
    blocks = ("cnn_stage1_block1", "cnn_stage2_block1", "cls_stage3_block1")
    of_blocks = [
        f"{block}_{end}" for block in blocks for end in ("pre_bn", "shortcut_conv", "1_conv", "mid_bn", "2_conv")
    ]
    assert sorted(with_weights) == sorted(["cnn_stem_conv", *of_blocks, "cnn_x_bn", "cls_last_bn"])


def test_small_tells_images_apart_at_initialisation():
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(1).uniform(0, 255, (2, 56, 56, 3)).astype(np.float32)
    images[1, :28] = 0.0
    first, second = np.asarray(build_trunk("small", 56).model(images)["c5"]).mean(axis=(1, 2))
    assert np.abs(first - second).max() > 0.05


# Bad input: one message of one line.


def message_of(*arguments):
    with pytest.raises(InputError) as error:
        build_trunk(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_how_smalls_layers_start():
    reference.assert_starts(build_trunk("small", 56).model)


@pytest.mark.parametrize("is_file", [True, False])
def test_weights_that_are_not_finite(tmp_path, monkeypatch, is_file):
    def build(include_top, weights, input_tensor):
        layer = keras.layers.Conv2D(2, 3, name="conv1_conv", kernel_initializer=keras.initializers.Constant(np.nan))
        layer.build(input_tensor.shape)
        return keras.Model(input_tensor, layer(input_tensor))

    monkeypatch.setattr(keras.applications, "ResNet50V2", build)
    path = tmp_path / "weights.h5"
    path.touch()
    source = path if is_file else "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5"
    with pytest.raises(InputError) as error:
        build_trunk("resnet50v2", S_PX, str(path) if is_file else "imagenet")
    assert str(error.value).startswith(
        f"The weights in {source} must be finite numbers. Received: NaN or infinity in 54 of 54 values of "
        "trunk/conv1_conv/kernel"
    )


def test_name_must_be_known():
    assert message_of("resnet152", 224) == (
        "backbone must be one of resnet101v2, resnet50v2, resnet101, resnet50, efficientnetv2_b0, convnext_tiny, "
        "mobilenetv3_large, resnet101_torch, efficientnet_lite0, efficientnet_lite1, efficientnet_lite2, small. "
        "Received: 'resnet152'."
    )


@pytest.mark.parametrize(
    "name, size_px, units",
    [("resnet101v2", 100, "32"), ("convnext_tiny", 56, "32"), ("resnet50", 0, "32"), ("small", 80, "32 or 56")],
)
def test_size_must_be_a_multiple(name, size_px, units):
    expected = f"image_size must be a multiple of {units} for backbone {name}. Received: {size_px}."
    assert message_of(name, size_px) == expected


def test_map_must_be_known():
    trunk = build_trunk("small", 32)
    with pytest.raises(ValueError, match="map must be one of c3, c4, c5. Received: 'c6'"):
        trunk.until("c6")
    with pytest.raises(ValueError, match="map must be one of c3, c4. Received: 'c5'"):
        trunk.after("c5")


@pytest.mark.parametrize("weights", ["imagenet", "weights.h5"])
def test_small_has_no_weights_to_load(weights):
    message = message_of("small", 56, weights)
    assert "small has no pre-trained weights" in message and "--backbone_weights=none" in message
    assert repr(weights) in message


WEIGHT_FILES = {
    "resnet101v2": "resnet101v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "resnet50v2": "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "resnet101": "resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "resnet50": "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "efficientnetv2_b0": "efficientnetv2-b0_notop.h5",
    "convnext_tiny": "convnext_tiny_notop.h5",
    "mobilenetv3_large": "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
}


@pytest.mark.parametrize("name", WEIGHT_FILES)
def test_weight_file_missing(name, tmp_path):
    path = str(tmp_path / "missing.h5")
    message = message_of(name, S_PX, path)
    assert message.startswith("backbone_weights must be imagenet, none or a copy of")
    assert f"or a copy of {WEIGHT_FILES[name]}. Received: {path!r}" in message


@pytest.mark.slow
@pytest.mark.parametrize("name, other", [("resnet50v2", "resnet50"), ("convnext_tiny", "mobilenetv3_large")])
def test_weight_file_of_another_architecture(built, name, other):
    path = built(other).file
    message = message_of(name, S_PX, path)
    assert message.startswith(f"backbone_weights must fit {FACTS[name].builder}")
    assert f"Use a copy of {WEIGHT_FILES[name]}." in message


@pytest.mark.slow
def test_weight_file_that_is_no_weight_file(tmp_path):
    path = tmp_path / "weights.h5"
    path.write_text("<html>not found</html>")
    message = message_of("mobilenetv3_large", S_PX, str(path))
    assert message.startswith(f"The weight file {path} does not fit MobileNetV3Large")
    assert WEIGHT_FILES["mobilenetv3_large"] in message


@pytest.mark.parametrize(
    "name", [name if name == "resnet50v2" else pytest.param(name, marks=pytest.mark.slow) for name in FACTS]
)
def test_imagenet_without_network(monkeypatch, name):
    """The name in the message is that of the file that Keras asks for."""
    asked = []

    def fail(fname, origin, **options):
        asked.append(fname)
        # Word for word what Keras raises.
        raise Exception(f"URL fetch failure on {origin}: None -- [Errno -3] Temporary failure in name resolution")

    monkeypatch.setattr(f"keras.src.utils.{'data' if IS_KERAS_2 else 'file'}_utils.get_file", fail)
    message = message_of(name, S_PX, "imagenet")
    assert asked == [WEIGHT_FILES[name]]
    assert f"{WEIGHT_FILES[name]} could not be downloaded" in message
    assert "--backbone_weights=FILE" in message and "--backbone_weights=none" in message
    assert "Temporary failure in name resolution" in message
