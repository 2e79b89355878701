"""BatchNorms as products: against the equation in NumPy, and what is replaced."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from srn_tf.models.norm_products import NormAsProduct, with_norm_products
from tests.models.small import small_model
from tests.training import small


def kept_norms(network):
    """Names of the BatchNorms, and of their products, that a network holds."""
    layers = list(all_layers(network))
    return tuple(
        {layer.name for layer in layers if isinstance(layer, kind)}
        for kind in (keras.layers.BatchNormalization, NormAsProduct)
    )


def all_layers(network):
    for layer in network.layers:
        yield layer
        yield from all_layers(layer) if hasattr(layer, "layers") else ()


@pytest.mark.parametrize("scale, center", [(True, True), (False, False)])
def test_a_product_is_the_equation(scale, center):
    x = keras.Input((3, 3, 4))
    norm = keras.layers.BatchNormalization(epsilon=1e-3, scale=scale, center=center, name="norm")
    network = with_norm_products(keras.Model(x, norm(keras.layers.ReLU()(x))), answers_only=True)
    assert kept_norms(network) == (set(), {"norm"})
    rng = np.random.default_rng(0)
    gamma, variance = rng.uniform(0.5, 2.0, (2, 4))
    beta, mean = rng.normal(size=(2, 4))
    norm.set_weights([*([gamma] if scale else []), *([beta] if center else []), mean, variance])  # after it was made
    image = rng.normal(size=(2, 3, 3, 4))
    expected = (np.maximum(image, 0.0) - mean) / np.sqrt(variance + 1e-3)
    expected = expected * (gamma if scale else 1.0) + (beta if center else 0.0)
    for training in (False, True):
        np.testing.assert_allclose(network(tf.constant(image, tf.float32), training=training), expected, atol=1e-5)


def test_frozen_norms_behind_a_sum_are_replaced_and_trained_ones_train():
    model = small_model("srn", 3, head_channels=8)
    small.randomize(model)
    plain = model.network
    model.parts["trunk"].trainable = False
    frozen = {layer.name for layer in model.parts["trunk"].layers if isinstance(layer, keras.layers.BatchNormalization)}
    network = with_norm_products(plain)
    norms, products = kept_norms(network)
    assert products and products < frozen and norms | products == kept_norms(plain)[0]
    for name in products:  # what stays is behind a convolution, which has no bias here
        assert not isinstance(producer(model.parts["trunk"], name), keras.layers.Conv2D)
    for name in norms & frozen:
        assert isinstance(producer(model.parts["trunk"], name), keras.layers.Conv2D)
    assert {id(weight) for weight in network.weights} == {id(weight) for weight in plain.weights}
    image = small.random_batch(2)["image"]
    answers, expected = network(image, training=False), plain(image, training=False)
    for name, value in expected.items():
        np.testing.assert_allclose(answers[name], value, rtol=0, atol=1e-5 * np.abs(value).max(), err_msg=name)
    before = {address: weight.numpy() for address, weight in model.weights.items()}
    network(image, training=True)
    moved = {address for address, weight in model.weights.items() if not np.array_equal(weight, before[address])}
    assert moved and all(address.split("/")[-1] in ("moving_mean", "moving_variance") for address in moved)
    assert not any(address.startswith("trunk/") for address in moved)


def producer(network, name):
    """The layer whose output another one reads."""
    read = network.get_layer(name).input
    return next(layer for layer in network.layers if layer.output is read)


def test_where_nothing_is_frozen_the_network_stays():
    model = small_model("main_net", 2)
    assert with_norm_products(model.network) is model.network
