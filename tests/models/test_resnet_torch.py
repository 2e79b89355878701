"""torchvision's ResNet-101: its blocks against NumPy, and weights from files as PyTorch writes them."""

import keras
import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.models.backbones import MAPS, build_trunk
from srn_tf.models.resnet_torch import build_resnet_torch, load_torchvision
from tests.models import reference, torch_files
from tests.models.trunk_checks import check_cuts, check_gradients, check_maps

S_PX = 64
KINDS = ("weight", "bias", "running_mean", "running_var")  # of a BatchNorm, in Keras' order
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def small_network(num_blocks=(2, 1, 1, 1), width=4):
    """(network, cuts) with values in BatchNorms that are not those of new ones."""
    network, cuts = build_resnet_torch(S_PX, num_blocks, width)
    reference.randomise(network, seed=1)
    return network, cuts


def published(network, prefix=""):
    """The weights of a network by torchvision's names, in PyTorch's order of axes, and what else is in its file."""
    named = {"fc.weight": np.zeros((10, 8), np.float32), "fc.bias": np.zeros(10, np.float32)}
    for layer in network.layers:
        values, name = layer.get_weights(), layer.name.removeprefix("cnn_")
        if name.startswith("layer"):
            stage, block, rest = name.split("_", 2)
            name = f"{stage}.{block}.{rest.replace('downsample_', 'downsample.')}"
        if len(values) == 1:
            named[f"{name}.weight"] = np.moveaxis(values[0], (3, 2), (0, 1))
        elif values:
            named |= {f"{name}.{kind}": value for kind, value in zip(KINDS, values, strict=True)}
            named[f"{name}.num_batches_tracked"] = np.array(3, np.int64)
    return {f"{prefix}{name}": array for name, array in named.items()}


def convolve(x, kernel, stride, margin):
    """PyTorch's conv2d: x (D, H, W), kernel (N, D, k, k), zeros around -> (N, H', W'), each sum written out."""
    size = kernel.shape[-1]
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin)))
    height, width = ((side + 2 * margin - size) // stride + 1 for side in x.shape[1:])
    result = np.empty((len(kernel), height, width))
    for i, j in np.ndindex(height, width):
        window = padded[:, i * stride : i * stride + size, j * stride : j * stride + size]
        result[:, i, j] = (kernel * window).sum(axis=(1, 2, 3))
    return result


def forward(arrays, image, num_blocks):
    """ResNet of torchvision's names on one image (S, S, 3): the maps c3, c4 and c5, (H, W, D)."""

    def norm(x, name):
        gamma, beta, mean, variance = (arrays[f"{name}.{kind}"][:, None, None] for kind in KINDS)
        return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta

    def bottleneck(x, name, stride):
        convolutions = ((1, 1, 0), (2, stride, 1), (3, 1, 0))  # number, stride, zeros around
        residual = x
        for number, step, margin in convolutions:
            residual = norm(
                convolve(residual, arrays[f"{name}.conv{number}.weight"], step, margin), f"{name}.bn{number}"
            )
            residual = np.maximum(residual, 0.0) if number < 3 else residual
        if f"{name}.downsample.0.weight" in arrays:
            x = norm(convolve(x, arrays[f"{name}.downsample.0.weight"], stride, 0), f"{name}.downsample.1")
        return np.maximum(residual + x, 0.0)

    x = ((image / 255.0 - MEAN) / STD).transpose(2, 0, 1)
    x = np.maximum(norm(convolve(x, arrays["conv1.weight"], 2, 3), "bn1"), 0.0)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    side = x.shape[1] // 2
    x = np.stack(
        [[padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max(axis=(1, 2)) for j in range(side)] for i in range(side)]
    ).transpose(2, 0, 1)
    maps = []
    for stage, blocks in enumerate(num_blocks, 1):
        for block in range(blocks):
            x = bottleneck(x, f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1)
        maps.append(x.transpose(1, 2, 0))
    return maps[1:]


def test_equals_numpy():
    """The stem, blocks with and without a stride, with and without a convolution in the shortcut."""
    num_blocks = (2, 1, 1, 1)
    network, cuts = small_network(num_blocks)
    image = np.random.default_rng(0).uniform(0, 255, (S_PX, S_PX, 3)).astype(np.float32)
    expected = forward(
        {name: array.astype(np.float64) for name, array in published(network).items()}, image, num_blocks
    )
    outputs = {name: network.get_layer(cuts[name][name]).output for name in ("c3", "c4")} | {"c5": network.outputs[0]}
    received = keras.Model(network.inputs[0], outputs)(image[None])
    for name, value in zip(MAPS, expected, strict=True):
        assert received[name].shape == (1, *value.shape) and value.std() > 0.1
        np.testing.assert_allclose(received[name][0], value, rtol=1e-4, atol=1e-4, err_msg=name)


def write(arrays, path, monkeypatch, layout="archive"):
    torch_files.install(monkeypatch)
    torch_files.write({name: torch_files.tensor(array) for name, array in arrays.items()}, path, layout)
    return str(path)


@pytest.mark.parametrize("prefix, layout", [("", "stream"), ("module.resnet_101.", "archive")])
def test_a_state_dict(prefix, layout, tmp_path, monkeypatch):
    """torchvision's own, and that of a network around it, whose other weights are left alone."""
    network, _ = small_network()
    arrays = published(network, prefix)
    if prefix:
        arrays |= {f"{prefix}conv_buffer1.{kind}": np.zeros((2, 2), np.float32) for kind in ("weight", "bias")}
        arrays |= {"module.fc1.weight": np.zeros((2, 2), np.float32)}
    path = write(arrays, tmp_path / "resnet.pth", monkeypatch, layout)
    other, _ = build_resnet_torch(S_PX, (2, 1, 1, 1), 4)
    load_torchvision(other, path)
    for received, expected in zip(other.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(received, expected)


def test_weights_that_cannot_be_had_or_do_not_fit(tmp_path, monkeypatch):
    network, _ = small_network()
    before = network.get_weights()

    def failure(arrays):
        path = arrays if isinstance(arrays, str) else write(arrays, tmp_path / "weights.pth", monkeypatch)
        with pytest.raises(InputError) as raised:
            load_torchvision(network, path)
        for received, expected in zip(network.get_weights(), before, strict=True):
            np.testing.assert_array_equal(received, expected)
        return str(raised.value)

    message = failure("imagenet")
    assert "resnet101-63fe2227.pth" in message and "--backbone_weights=FILE" in message
    assert "not a file" in failure(str(tmp_path / "missing.pth"))
    arrays = published(network)
    assert "20 weights are missing" in failure({k: v for k, v in arrays.items() if not k.startswith("layer4")})
    assert "1 are unknown (first trunk/cnn_head/beta)" in failure(arrays | {"head.bias": np.zeros(3, np.float32)})
    shorter = arrays | {"layer2.0.conv2.weight": arrays["layer2.0.conv2.weight"][:4]}
    assert "cnn_layer2_0_conv2/kernel: expected (3, 3, 8, 8), received (3, 3, 8, 4)" in failure(shorter)
    assert "must be finite" in failure(arrays | {"bn1.bias": np.full(4, np.nan, np.float32)})
    assert "must fit the model" in failure({"conv1.weight": np.zeros((4, 3, 7, 7), np.float32)})


@pytest.mark.slow
def test_the_whole_network(tmp_path, monkeypatch):
    """torchvision counts 44,549,160 parameters, 2,049,000 of them the classifier's; BatchNorms' statistics beside."""
    trunk = build_trunk("resnet101_torch", S_PX)
    check_maps(trunk.maps, S_PX // 8, (512, 1024, 2048))
    trained = sum(int(np.prod(weight.shape)) for weight in trunk.model.trainable_weights)
    assert (trunk.block, trained) == ("postactivation", 44_549_160 - 2_049_000)
    reference.randomise(trunk.model, seed=1)
    images = np.random.default_rng(0).uniform(0, 255, (2, S_PX, S_PX, 3)).astype(np.float32)
    check_cuts(trunk, images)
    check_gradients(trunk, images)
    path = write(published(trunk.model), tmp_path / "resnet101.pth", monkeypatch)
    again = build_trunk("resnet101_torch", 96, path)
    for received, expected in zip(again.model.get_weights(), trunk.model.get_weights(), strict=True):
        np.testing.assert_array_equal(received, expected)
