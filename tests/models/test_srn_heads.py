"""The heads: sizes against the published counts, values against NumPy, and a signal that arrives in f_sr."""

import keras
import numpy as np
import pytest

from srn_tf.models import srn
from tests.models import reference

GRID, D, C = (14, 14), 1024, 80
HEADS = ("paper", "released")

# Kernel parameters at D = 1024, C = 80 on a 14x14 grid, part by part, from sections 3.2 and 3.3.
KERNELS = {
    "paper": {"f_att": 2_924_544, "f_conf": 81_920, "f_sr": 868_352},
    "released": {"f_att": 2_924_544, "f_conf": 565_248, "f_sr": 868_352, "f_neck": 2_228_224},
}
TOTALS = {"paper": 3_874_816, "released": 6_586_368}
REGULARIZER_KERNELS = {"sr_conv2_conv": 40_960, "sr_conv3_conv": 262_144, "sr_conv4": 401_408, "sr_logits": 163_840}


def build_parts(head, grid=GRID, channels=D, num_labels=C, head_channels=512):
    parts = {
        "f_att": srn.build_attention(grid, channels, num_labels, head_channels, head),
        "f_conf": srn.build_confidence(grid, channels, num_labels, head_channels, head),
        "f_sr": srn.build_regularizer(grid, num_labels, head_channels, head),
    }
    if head == "released":
        parts["f_neck"] = srn.build_neck(grid, channels)
    return parts


@pytest.fixture(scope="module")
def full_size():
    return {head: build_parts(head) for head in HEADS}


def kernel_parameters(layer):
    return sum(int(np.prod(weight.shape)) for weight in layer.weights if "kernel" in weight.name.split("/")[-1])


def batch_norms(part):
    return [layer for layer in part.layers if isinstance(layer, keras.layers.BatchNormalization)]


# Sizes.


@pytest.mark.parametrize("head", HEADS)
def test_kernel_parameters_of_each_part(full_size, head):
    counts = {name: kernel_parameters(part) for name, part in full_size[head].items()}
    assert counts == KERNELS[head]
    assert sum(counts.values()) == TOTALS[head]


@pytest.mark.parametrize("head", HEADS)
def test_kernel_parameters_inside_the_regularizer(full_size, head):
    layers = {layer.name: kernel_parameters(layer) for layer in full_size[head]["f_sr"].layers if layer.weights}
    assert {name: count for name, count in layers.items() if count} == REGULARIZER_KERNELS


@pytest.mark.parametrize("head", HEADS)
def test_names_and_shapes(full_size, head):
    outputs = {name: part.output_shape for name, part in full_size[head].items()}
    assert outputs.pop("f_neck", (None, 14, 14, D)) == (None, 14, 14, D)
    assert outputs == {"f_att": (None, 14, 14, C), "f_conf": (None, 14, 14, C), "f_sr": (None, C)}
    for name, part in full_size[head].items():
        assert part.name == name
        assert not any("/" in layer.name for layer in part.layers)


@pytest.mark.parametrize("grid", [(14, 14), (7, 7), (12, 12), (5, 9)])
@pytest.mark.parametrize("head", HEADS)
def test_conv4_has_four_kernels_as_large_as_the_grid_for_each_channel(head, grid):
    f_sr = srn.build_regularizer(grid, num_labels=3, head_channels=8, head=head)
    conv4 = f_sr.get_layer("sr_conv4")
    assert isinstance(conv4, keras.layers.DepthwiseConv2D)
    assert conv4.depth_multiplier == 4
    assert conv4.weights[0].shape == (*grid, 8, 4)
    assert tuple(conv4.output.shape) == (None, 1, 1, 32)
    assert f_sr.input_shape == (None, *grid, 3)


def test_the_paper_has_no_batch_norm_and_a_bias_in_every_layer(full_size):
    for part in full_size["paper"].values():
        assert batch_norms(part) == []
        for layer in part.layers:
            assert len(layer.weights) in (0, 2), layer.name  # kernel and bias


def test_the_released_nets_have_batch_norm_before_every_relu(full_size):
    counts = {name: len(batch_norms(part)) for name, part in full_size["released"].items()}
    assert counts == {"f_att": 2, "f_conf": 1, "f_sr": 3, "f_neck": 7}
    for part in full_size["released"].values():
        normed = {id(layer.output) for layer in batch_norms(part)}
        for layer in part.layers:
            if isinstance(layer, keras.layers.ReLU):
                assert id(layer.input) in normed, layer.name


@pytest.mark.parametrize("head", HEADS)
def test_how_the_layers_start(full_size, head):
    """A convolution before a BatchNorm has no bias, which the BatchNorm would take away."""
    for part in full_size[head].values():
        every = {layer.name for layer in part.layers}
        reference.assert_starts(part, {"att_3_conv", "conf_2_conv"} if head == "released" else every)


# Values.


@pytest.mark.parametrize("head", HEADS)
def test_values_equal_numpy(head):
    grid, channels, num_labels = (5, 4), 12, 6
    parts = build_parts(head, grid, channels, num_labels, head_channels=7)
    for seed, name in enumerate(sorted(parts)):
        reference.randomise(parts[name], seed)
    rng = np.random.default_rng(3)
    X = rng.normal(0, 1, (3, *grid, channels)).astype(np.float32)
    U = rng.uniform(0, 0.1, (3, *grid, num_labels)).astype(np.float32)
    expected = {
        "f_att": (X, reference.attention_scores(parts["f_att"], X, head)),
        "f_conf": (X, reference.confidence(parts["f_conf"], X, head)[0]),
        "f_sr": (U, reference.regularizer(parts["f_sr"], U, head)),
    }
    if head == "released":
        expected["f_neck"] = (X, reference.neck(parts["f_neck"], X))
    assert sorted(expected) == sorted(parts)
    for name, (read, value) in expected.items():
        np.testing.assert_allclose(parts[name](read), value, rtol=1e-3, atol=1e-4, err_msg=name)


# The signal. A sums to 1 over the grid, so that U is of order 1/(H*W) a cell.


def random_maps(count, seed):
    """Maps as an untrained f_att and f_conf make them: U = sigmoid(S) * A with scores of order 1."""
    rng = np.random.default_rng(seed)
    A = reference.softmax_over_grid(rng.normal(0, 1, (count, *GRID, C)))
    return (A * reference.sigmoid(rng.normal(0, 1, A.shape))).astype(np.float32)


@pytest.mark.parametrize("head", HEADS)
def test_even_attention_reaches_the_first_hidden_layer_at_full_size(full_size, head):
    f_sr = full_size[head]["f_sr"]
    first = keras.Model(f_sr.input, f_sr.get_layer("sr_conv2_conv").output)
    U = np.full((1, *GRID, C), 1.0 / (14 * 14), np.float32)
    spread = float(np.std(first(U)))  # over the channels; fed plainly it would be about 0.007
    assert 0.5 < spread < 3.0


@pytest.mark.parametrize("head", HEADS)
def test_regularizer_depends_on_its_maps_at_initialisation(full_size, head):
    f_sr = full_size[head]["f_sr"]
    y_1, y_2 = f_sr(random_maps(1, seed=1)).numpy(), f_sr(random_maps(1, seed=2)).numpy()
    assert np.linalg.norm(y_1 - y_2) > 0.1 * np.linalg.norm(y_1)
    # And in units of a logit: fed plainly, U would move y_sr by about 0.004.
    assert np.abs(y_1 - y_2).mean() > 0.05


def test_batch_norm_in_training_is_not_drowned_by_its_epsilon():
    f_sr = srn.build_regularizer(GRID, C)  # of its own: training=True moves the statistics
    first = keras.Model(f_sr.input, f_sr.get_layer("sr_conv2_bn").output)
    normalised = first(random_maps(4, seed=3), training=True).numpy()
    spread = normalised.std(axis=(0, 1, 2))  # of each channel, over the batch and the grid
    assert spread.min() > 0.99
