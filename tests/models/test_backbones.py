"""The main nets: where X lies, that cutting changes nothing, and weights from a file or not to be had."""

import keras
import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.models.backbones import BACKBONES, build_backbone, build_more_blocks
from tests.models import reference

S_PX, C = 64, 5

# name -> builder and module in keras.applications, residual blocks behind X, all blocks, and the weights of the
# network without its classifier (trainable or not), as in Keras' own documentation.
UNCUT = {
    "resnet50v2": ("ResNet50V2", "resnet_v2", 3 + 4 + 5, 16, 23_564_800),
    "resnet50": ("ResNet50", "resnet", 3 + 4 + 6, 16, 23_587_712),
    "resnet101v2": ("ResNet101V2", "resnet_v2", 3 + 4 + 22, 33, 42_626_560),
    "resnet101": ("ResNet101", "resnet", 3 + 4 + 23, 33, 42_658_176),
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("resnet101v2", "resnet101")]


class Built:
    """A cut network that was built from the file of an uncut one, beside that uncut one."""

    def __init__(self, name, folder):
        builder, module, self.blocks_behind_x, self.blocks, self.num_weights = UNCUT[name]
        self.uncut = getattr(keras.applications, builder)(
            include_top=False, weights=None, input_shape=(S_PX, S_PX, 3), pooling="avg"
        )
        reference.randomise(self.uncut, seed=1)
        self.preprocess_input = getattr(keras.applications, module).preprocess_input
        self.file = str(folder / f"{name}_notop.h5")
        self.uncut.save_weights(self.file)
        self.f_cnn, self.f_cls = build_backbone(name, S_PX, C, self.file)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A function: name -> Built, each made once."""
    folder, cache = tmp_path_factory.mktemp("weights"), {}

    def get(name):
        if name not in cache:
            cache[name] = Built(name, folder)
        return cache[name]

    return get


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(0, 255, (2, S_PX, S_PX, 3)).astype(np.float32)


def sums(model, prefix=""):
    """The sums that end residual blocks."""
    layers = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Add)]
    return [name for name in layers if name.startswith(prefix)]


RESNETS = pytest.mark.parametrize("name", ["resnet50v2", pytest.param("resnet50", marks=pytest.mark.slow), *SLOW])


def test_the_list():
    assert set(BACKBONES) == {*UNCUT, "small"}


@RESNETS
def test_x_is_at_stride_16_with_1024_channels(built, images, name):
    network = built(name)
    X = network.f_cnn(images)["X"].numpy()
    assert X.shape == (2, S_PX // 16, S_PX // 16, 1024)
    assert X.min() == 0.0 and X.max() > 0.0  # behind a ReLU
    assert (network.f_cnn.name, network.f_cls.name) == ("f_cnn", "f_cls")
    side = S_PX // 32
    assert network.f_cls.output_shape == {
        "last_map": (None, side, side, 2048),
        "pooled": (None, 2048),
        "y_cls": (None, C),
    }


@RESNETS
def test_the_cut_network_equals_the_uncut_one_on_the_same_file(built, images, name):
    network = built(name)
    kernel, bias = network.f_cls.get_layer("cls_logits").get_weights()
    features = network.uncut(network.preprocess_input(images.copy())).numpy()
    expected = features @ kernel + bias
    received = network.f_cls(network.f_cnn(images))["y_cls"].numpy()
    assert np.abs(expected).max() > 1e-3 and np.ptp(expected, axis=0).max() > 1e-6
    np.testing.assert_allclose(received, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@RESNETS
def test_what_y_cls_comes_of(built, images, name):
    network = built(name)
    received = {key: value.numpy() for key, value in network.f_cls(network.f_cnn(images)).items()}
    kernel, bias = network.f_cls.get_layer("cls_logits").get_weights()
    assert received["last_map"].min() == 0.0 and received["last_map"].max() > 0.0  # behind a ReLU
    np.testing.assert_allclose(received["pooled"], received["last_map"].mean(axis=(1, 2)), rtol=1e-4, atol=1e-5)
    expected = received["pooled"] @ kernel + bias
    np.testing.assert_allclose(received["y_cls"], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@RESNETS
def test_residual_blocks_behind_x(built, name):
    network = built(name)
    assert len(sums(network.f_cnn)) == network.blocks_behind_x
    assert len(sums(network.f_cls)) == network.blocks - network.blocks_behind_x
    # All of stage 4 for v1; all but the block that strides for v2.
    behind = {"resnet50v2": 5, "resnet50": 6, "resnet101v2": 22, "resnet101": 23}[name]
    assert len(sums(network.f_cnn, "conv4_")) == behind
    assert len(sums(network.f_cls, "conv4_")) == (1 if name.endswith("v2") else 0)


@RESNETS
def test_no_weight_is_lost_or_doubled(built, name):
    network = built(name)
    classifier = 2048 * C + C
    assert network.f_cnn.count_params() + network.f_cls.count_params() == network.num_weights + classifier
    in_f_cnn = {id(weight) for weight in network.f_cnn.weights}
    assert not in_f_cnn & {id(weight) for weight in network.f_cls.weights}


def test_another_size_has_another_grid():
    f_cnn, f_cls = build_backbone("resnet50", 96, C)
    assert f_cnn.output_shape["X"] == (None, 6, 6, 1024)
    assert f_cls.output_shape["last_map"] == (None, 3, 3, 2048)


@pytest.mark.slow
def test_the_grid_of_the_paper():
    f_cnn, _ = build_backbone("resnet101v2", 224, 80)
    assert f_cnn.output_shape["X"] == (None, 14, 14, 1024)


# small.


@pytest.mark.parametrize("size_px", [56, 112, 224])
def test_small_has_a_grid_of_14_whatever_the_input(size_px):
    f_cnn, f_cls = build_backbone("small", size_px, C)
    images = np.random.default_rng(0).uniform(0, 255, (2, size_px, size_px, 3)).astype(np.float32)
    features = f_cnn(images)
    assert set(features) == {"X"}
    assert features["X"].shape == (2, 14, 14, 64)
    shapes = {name: value.shape for name, value in f_cls(features).items()}
    assert shapes == {"last_map": (2, 7, 7, 128), "pooled": (2, 128), "y_cls": (2, C)}
    assert len(sums(f_cnn)) == 2 and len(sums(f_cls)) == 1  # one block a stage


def test_small_tells_images_apart_at_initialisation():
    keras.utils.set_random_seed(0)
    f_cnn, f_cls = build_backbone("small", 56, C)
    images = np.random.default_rng(1).uniform(0, 255, (2, 56, 56, 3)).astype(np.float32)
    images[1, :28] = 0.0
    first, second = f_cls(f_cnn(images))["y_cls"].numpy()
    assert np.abs(first - second).max() > 0.05


def test_how_smalls_layers_start():
    for part in (*build_backbone("small", 56, C), build_more_blocks("small", (7, 7, 128))):
        reference.assert_starts(part)


# The two blocks that ResNet-107 has more.


def more_blocks(weights, x, kind):
    """What they compute, in NumPy. Pre-activation: BatchNorm, ReLU, convolution, and a last BatchNorm and ReLU."""

    def norm(x, name):
        return reference.batch_norm(x, *weights[f"{name}_bn"])

    def convolve(x, name):
        return reference.convolve(x, *weights[f"{name}_conv"])

    for block in ("more_block1", "more_block2"):
        if kind == "v1":
            residual = reference.relu(norm(convolve(x, f"{block}_1"), f"{block}_1"))
            residual = reference.relu(norm(convolve(residual, f"{block}_2"), f"{block}_2"))
            x = reference.relu(x + norm(convolve(residual, f"{block}_3"), f"{block}_3"))
        else:
            residual = convolve(reference.relu(norm(x, f"{block}_pre")), f"{block}_1")
            names = (("mid", "2"),) if kind == "small" else (("1", "2"), ("2", "3"))
            for before, after in names:
                residual = convolve(reference.relu(norm(residual, f"{block}_{before}")), f"{block}_{after}")
            x = x + residual
    return x if kind == "v1" else reference.relu(norm(x, "more_last"))


KINDS = pytest.mark.parametrize(
    "name, kind",
    [("resnet101v2", "v2"), ("resnet50v2", "v2"), ("resnet101", "v1"), ("resnet50", "v1"), ("small", "small")],
)


@KINDS
def test_more_blocks_equal_numpy(name, kind):
    f_more = build_more_blocks(name, (3, 2, 8))
    reference.randomise(f_more, seed=2)
    x = np.random.default_rng(3).uniform(0, 2, (2, 3, 2, 8)).astype(np.float32)
    expected = more_blocks(reference.weights_of(f_more), x, kind)
    assert np.abs(expected - x).max() > 0.1
    np.testing.assert_allclose(f_more(x), expected, rtol=1e-4, atol=1e-4)


@KINDS
def test_weights_of_more_blocks(name, kind):
    """A bottleneck's kernels have 2048 * 512 + 9 * 512 * 512 + 512 * 2048 = 4,456,448 weights, its BatchNorms 4 a
    channel: 4 * (2048 + 512 + 512). Small's block has two kernels of 9 * 128 * 128 and BatchNorms of 4 * 256.
    """
    f_more = build_more_blocks(name, (7, 7, 128 if kind == "small" else 2048))
    expected = {"v1": 2 * 4_468_736, "v2": 2 * 4_468_736 + 4 * 2048, "small": 2 * 295_936 + 4 * 128}
    assert f_more.count_params() == expected[kind]
    assert f_more.output_shape == f_more.input_shape and len(sums(f_more)) == 2


# Bad input: one message of one line.


def message_of(*arguments):
    with pytest.raises(InputError) as error:
        build_backbone(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_name_must_be_known():
    assert message_of("resnet152", 224, C) == (
        "backbone must be one of resnet101v2, resnet50v2, resnet101, resnet50, small. Received: 'resnet152'."
    )


@pytest.mark.parametrize("name, size_px, unit_px", [("resnet101v2", 100, 32), ("resnet50", 0, 32), ("small", 64, 56)])
def test_size_must_be_a_multiple(name, size_px, unit_px):
    expected = f"image_size must be a multiple of {unit_px} for backbone {name}. Received: {size_px}."
    assert message_of(name, size_px, C) == expected


@pytest.mark.parametrize("weights", ["imagenet", "weights.h5"])
def test_small_has_no_weights_to_load(weights):
    message = message_of("small", 56, C, weights)
    assert "small has no pre-trained weights" in message and "--backbone_weights=none" in message
    assert repr(weights) in message


@pytest.mark.parametrize("name", UNCUT)
def test_weight_file_missing(name, tmp_path):
    path = str(tmp_path / "missing.h5")
    message = message_of(name, S_PX, C, path)
    assert message.startswith(f"backbone_weights must be imagenet, none or a file. Received: {path!r}")
    assert f"{name}_weights_tf_dim_ordering_tf_kernels_notop.h5" in message


@pytest.mark.slow
def test_weight_file_of_another_architecture(built):
    path = built("resnet50").file
    message = message_of("resnet50v2", S_PX, C, path)
    assert message.startswith(f"The weight file {path} does not fit ResNet50V2")
    assert "Expected a copy of resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5." in message


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
    message = message_of("resnet50v2", S_PX, C, str(path) if is_file else "imagenet")
    assert message.startswith(
        f"The weights in {source} must be finite numbers. Received: 54 of 54 values of conv1_conv/"
    )


def test_weight_file_that_is_no_weight_file(tmp_path):
    path = tmp_path / "weights.h5"
    path.write_text("<html>not found</html>")
    message = message_of("resnet50", S_PX, C, str(path))
    assert message.startswith(f"The weight file {path} does not fit ResNet50")
    assert "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5" in message


def test_imagenet_without_network(monkeypatch):
    def fail(name, origin, **options):
        # Word for word what Keras raises.
        raise Exception(f"URL fetch failure on {origin}: None -- [Errno -3] Temporary failure in name resolution")

    monkeypatch.setattr("keras.src.utils.data_utils.get_file", fail)
    message = message_of("resnet50v2", S_PX, C, "imagenet")
    assert "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5 could not be downloaded" in message
    assert "--backbone_weights=FILE" in message and "--backbone_weights=none" in message
    assert "Temporary failure in name resolution" in message
