"""Responses are those of conv4, computed here by hand; places are those of boxes, or of attention."""

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.analysis.responses import neuron_network, places_of_boxes, places_of_maps, read_responses
from srn_tf.errors import InputError
from tests.analysis import spots
from tests.models.small import small_model

NAN = np.nan


@pytest.mark.parametrize(("head", "reads"), [("released", "U"), pytest.param("paper", "A", marks=pytest.mark.slow)])
def test_neurons_are_those_of_conv4_in_numpy(head, reads):
    tf.keras.utils.set_random_seed(1)
    model = small_model("srn" if reads == "U" else "srn_att", 3, srn_head=head, head_channels=6)
    f_sr = model.parts["f_sr"]
    for layer in f_sr.layers:  # no weight as it starts
        layer.set_weights([np.random.uniform(0.2, 1.0, weight.shape) for weight in layer.get_weights()])
    image = np.random.default_rng(2).uniform(0, 255, (5, 56, 56, 3)).astype(np.float32)
    outputs = neuron_network(model, reads)(image, training=False)

    maps = model.network(image, training=False)
    x = maps[reads].numpy() * 14 * 14
    for name in ("sr_conv2", "sr_conv3"):
        kernel, *bias = f_sr.get_layer(f"{name}_conv").get_weights()
        x = np.einsum("bhwc,cd->bhwd", x, kernel[0, 0]) + (bias[0] if bias else 0.0)
        x = np.maximum(normalise(f_sr, name, x) if head == "released" else x, 0.0)
    kernel, *bias = f_sr.get_layer("sr_conv4").get_weights()
    neurons = np.stack([(x[..., k // 4] * kernel[..., k // 4, k % 4]).sum(axis=(1, 2)) for k in range(24)], axis=1)
    neurons += bias[0] if bias else 0.0
    neurons = np.maximum(normalise(f_sr, "sr_conv4", neurons) if head == "released" else neurons, 0.0)

    np.testing.assert_allclose(outputs["neurons"], neurons, rtol=1e-4)
    np.testing.assert_allclose(outputs["channels"], x.mean(axis=(1, 2)), rtol=1e-4)
    np.testing.assert_allclose(outputs["A"], maps["A"], rtol=1e-5)


def normalise(f_sr, name, x):
    gamma, beta, mean, variance = f_sr.get_layer(f"{name}_bn").get_weights()
    return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta


def test_places_of_boxes():
    boxes = np.array([[[0.0, 0.2, 0.4, 0.4], [0.6, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.5]], np.zeros((3, 4))])
    places = places_of_boxes(boxes, np.array([[1, 1, 0], [-1, -1, -1]]), 3)
    # Label 1 of the first image: the mean of (0.2, 0.3) and (0.8, 0.5).
    np.testing.assert_allclose(places[0], [[0.5, 0.25], [0.5, 0.4], [NAN, NAN]], rtol=1e-6)
    assert np.isnan(places[1]).all() and places.dtype == np.float32


def test_places_of_maps():
    A = np.zeros((1, 2, 4, 2), np.float32)
    A[0, 1, 0, 0] = 1.0
    A[0, 0, 3, 1], A[0, 1, 2, 1] = 0.75, 0.25
    np.testing.assert_allclose(places_of_maps(A)[0], [[0.75, 0.125], [0.375, 0.75 * 0.875 + 0.25 * 0.625]], rtol=1e-6)


@pytest.mark.parametrize("with_boxes", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_split_whose_last_batch_is_filled_up(with_boxes):
    records, cells, labels = spots.spot_records(70, with_boxes)
    responses = read_responses(spots.build_model(), "A", records)
    assert responses.has_boxes == with_boxes
    np.testing.assert_array_equal(responses.labels, labels)
    np.testing.assert_allclose(responses.neurons[:, 0], cells[:, 0], atol=1e-3)
    np.testing.assert_allclose(responses.neurons[:, 1], cells[:, 1], atol=1e-3)
    np.testing.assert_allclose(responses.neurons[:, 2], 1.0, atol=1e-3)
    assert responses.neurons.shape == (70, 8) and (responses.neurons[:, 3:] == 0).all()
    np.testing.assert_allclose(responses.channels, np.repeat([[1.0, 0.0]], 70, axis=0).repeat(4, axis=1), atol=1e-3)
    np.testing.assert_allclose(responses.places[:, 0], (cells + 0.5) / 14, atol=1e-3)
    # Where there are boxes, only "spot" has some; else attention places every label that is there.
    assert np.isfinite(responses.places[:, 1, 0]).tolist() == [bool(label) and not with_boxes for label in labels[:, 1]]


def test_no_image():
    records, _, _ = spots.spot_records(1, True)
    with pytest.raises(InputError, match="Received: no image"):
        read_responses(spots.build_model(), "A", records.take(0))
