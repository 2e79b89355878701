"""CSRA: the worked example, parameter counts of the published models, NumPy, and the read-out without training."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from srn_tf.errors import InputError
from srn_tf.models import csra, main_net
from srn_tf.models.residual_attention import NormedScores, ResidualAttention, ResidualAttentionMaps
from tests.models.small import small_model
from tests.training import small

C = 5
# Four places, two channels and w = (3, 4): s = 0.6, 0.8, 1.4, 0.
PLACES = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], np.float32).reshape(1, 2, 2, 2)
EXAMPLE = {1: 1.169687, 2: 2.569687, 4: 5.192433}  # heads -> logit with lambda 0.5


def head(num_heads, w, factor):
    """(logits, maps, the layer of the weights) of PLACES, each head with the same w."""
    temperatures = csra.TEMPERATURES[num_heads]
    layer = NormedScores(num_heads, 1)
    layer.build((None, 2, 2, 2))
    layer.set_weights([np.broadcast_to(np.reshape(w, (2, 1, 1)), (2, num_heads, 1))])
    s = layer(PLACES)
    return ResidualAttention(temperatures, factor)(s).numpy(), ResidualAttentionMaps((2, 2), temperatures)(s).numpy()


def test_the_worked_example():
    for num_heads, expected in EXAMPLE.items():
        np.testing.assert_allclose(head(num_heads, [3, 4], 0.5)[0], [[expected]], rtol=1e-6)
        np.testing.assert_allclose(head(num_heads, [30, 40], 0.5)[0], [[expected]], rtol=1e-6)  # |w| does not matter
        np.testing.assert_allclose(head(num_heads, [3, 4], 0.0)[0], [[0.7 * num_heads]], rtol=1e-6)  # the mean alone
    e = np.exp([0.6, 0.8, 1.4, 0.0])
    np.testing.assert_allclose(head(2, [3, 4], 0.5)[1].ravel(), e / e.sum(), rtol=1e-6)  # of the finite head alone


def test_the_gradient_flows_through_the_norm():
    """A step along w would change nothing: the gradient is orthogonal to it."""
    layer = NormedScores(1, 1)
    layer.build((None, 2, 2, 2))
    layer.set_weights([np.reshape([3.0, 4.0], (2, 1, 1))])
    with tf.GradientTape() as tape:
        logits = ResidualAttention((1.0,), 0.5)(layer(PLACES))
    (gradient,) = (np.ravel(values) for values in tape.gradient(logits, layer.trainable_weights))
    assert abs(gradient @ [3.0, 4.0]) < 1e-6 < np.linalg.norm(gradient)


# Channels, labels, heads -> weights.
PUBLISHED = [
    *((2048, 80, 1, 163_840), (2048, 80, 4, 655_360), (2048, 80, 6, 983_040), (2048, 20, 1, 40_960)),
    (768, 14, 1, 10_752),
]


@pytest.mark.parametrize("channels, num_labels, num_heads, weights", PUBLISHED)
def test_parameter_counts_of_the_published_models(channels, num_labels, num_heads, weights):
    layer = NormedScores(num_heads, num_labels)
    layer.build((None, 7, 7, channels))
    assert layer.count_params() == weights
    assert len(csra.TEMPERATURES[num_heads]) == num_heads


def softmax(x):
    shares = np.exp(x - x.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def test_a_model_equals_numpy():
    model = small_model("csra", C, csra_heads=4, csra_lambda=0.3)
    small.randomize(model)
    image = small.random_batch(2)["image"]
    outputs = {name: value.numpy() for name, value in model.network(image).items()}
    x = model.parts["trunk"](image)["c5"].numpy().astype(np.float64).reshape(2, 49, -1)
    expected, attention = 0.0, 0.0
    for k, temperature in enumerate((1, 2, 4, None)):
        w = model.weights["scores/kernel"].numpy().astype(np.float64)[:, k]  # (D, C)
        s = x @ (w / np.linalg.norm(w, axis=0))
        weights = None if temperature is None else softmax(temperature * s)
        expected += s.mean(axis=1) + 0.3 * (s.max(axis=1) if weights is None else (weights * s).sum(axis=1))
        attention += 0.0 if weights is None else weights / 3
    np.testing.assert_allclose(outputs["y_csra"], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs["A"], attention.reshape(2, 7, 7, C), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(outputs["A"].sum(axis=(1, 2)), 1.0, rtol=1e-5)
    np.testing.assert_allclose(outputs["pooled"], x.mean(axis=1), rtol=1e-5)


def test_bad_settings():
    with pytest.raises(InputError, match="csra_heads must be one of 1, 2, 4, 6, 8. Received: 3."):
        csra.CSRASettings(csra_heads=3)
    with pytest.raises(InputError, match="csra_lambda must be a finite number. Received: inf."):
        csra.CSRASettings(csra_lambda=float("inf"))


# The read-out of a main net that was trained without it.


def test_the_read_out_of_a_main_net():
    plain, model = small_model("main_net", C), small_model("main_net", C, csra_at_test=0.2)
    small.randomize(plain)
    assert list(model.weights) == list(plain.weights) and model.stages == plain.stages
    for address, weight in model.weights.items():
        weight.assign(plain.weights[address])
    image = small.random_batch(2)["image"]
    outputs = {name: value.numpy() for name, value in model.network(image).items()}
    y_cls = plain.network(image)["y_cls"].numpy()
    x = plain.parts["trunk"](image)["c5"].numpy().astype(np.float64)
    kernel, bias = plain.parts["classifier"].get_layer("cls_logits").get_weights()
    np.testing.assert_array_equal(outputs["y_cls"], y_cls)
    np.testing.assert_allclose(
        outputs["y_csra"], y_cls + 0.2 * (x @ kernel + bias).max(axis=(1, 2)), rtol=1e-4, atol=1e-5
    )
    assert (model.logits, plain.logits) == (("y_csra", "y_cls"), ("y_cls",))


@pytest.mark.slow
def test_the_read_out_is_saved_and_loaded(tmp_path):
    network = small_model("main_net", C, csra_at_test=0.2).network
    network.save(tmp_path / "network.keras")
    loaded, image = keras.models.load_model(tmp_path / "network.keras"), small.random_batch(2)["image"]
    np.testing.assert_allclose(loaded(image)["y_csra"], network(image)["y_csra"], rtol=1e-5, atol=1e-5)


def test_models_that_cannot_have_the_read_out():
    with pytest.raises(InputError, match="csra_at_test needs pooling=mean: .* csra_at_test=0.2 and pooling=max. Use"):
        main_net.MainNetSettings(csra_at_test=0.2, pooling="max")
    with pytest.raises(InputError, match="needs a run of --model=main_net. Received: a run of --model=srn. Remove"):
        main_net.with_csra_at_test({"model": {"model": "srn", "settings": {}}}, 0.2)
    settings = dataclasses.asdict(main_net.MainNetSettings())
    description = {"labels": ["a"], "model": {"model": "main_net", "settings": settings}, "final": "y_cls"}
    changed = main_net.with_csra_at_test(description, 0.2)
    assert changed == {"labels": ["a"], "model": {"model": "main_net", "settings": {**settings, "csra_at_test": 0.2}}}
    assert description["final"] == "y_cls" and description["model"]["settings"]["csra_at_test"] == 0.0
