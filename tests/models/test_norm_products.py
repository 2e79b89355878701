"""BatchNorms as products: against the equation in NumPy, and what is replaced."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from srn_tf.models.norm_products import NormAsProduct, with_norm_products
from srn_tf.models.variables import variable_of
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


def test_frozen_norms_are_replaced_and_trained_ones_train():
    model = small_model("srn", 3, head_channels=8)
    small.randomize(model)
    plain = model.network
    model.parts["trunk"].trainable = False
    frozen = {layer.name for layer in model.parts["trunk"].layers if isinstance(layer, keras.layers.BatchNormalization)}
    network = with_norm_products(plain)
    norms, products = kept_norms(network)
    assert products == frozen and norms == kept_norms(plain)[0] - frozen
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


LAYERS = {
    "bias": lambda: keras.layers.Conv2D(6, 3, strides=2, padding="same"),
    "no bias": lambda: keras.layers.Conv2D(6, 3, padding="valid", dilation_rate=2, use_bias=False),
    "depthwise": lambda: keras.layers.DepthwiseConv2D(3, 2, "same", depth_multiplier=3, use_bias=False),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_convolution_before_a_frozen_norm_is_trained_as_without_products(kind):
    x = keras.Input((7, 7, 4))
    convolution, norm = LAYERS[kind](), keras.layers.BatchNormalization(name="norm")
    model = keras.Model(x, keras.layers.ReLU()(norm(convolution(x))))
    rng = np.random.default_rng(0)
    norm.set_weights([rng.uniform(0.5, 2.0, weight.shape) for weight in norm.get_weights()])
    convolution.set_weights([rng.normal(size=weight.shape) for weight in convolution.get_weights()])
    norm.trainable = False
    network = with_norm_products(model)
    assert kept_norms(network) == (set(), {"norm"})
    assert not any(type(layer) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D) for layer in network.layers)
    assert {id(weight) for weight in network.weights} == {id(weight) for weight in model.weights}
    weights = list(convolution.weights)
    image = tf.constant(rng.normal(size=(2, 7, 7, 4)), tf.float32)
    results = []
    for each in (model, network):
        with tf.GradientTape() as tape:
            y = each(image, training=True)
            loss = tf.reduce_sum(tf.sin(y))
        results.append([y, *tape.gradient(loss, [variable_of(weight) for weight in weights])])
    for value, expected in zip(results[1], results[0], strict=True):
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_convolution_whose_sum_the_norm_does_not_read_alone_stays():
    x = keras.Input((3, 3, 4))
    convolutions = {
        "answer": keras.layers.Conv2D(4, 1),
        "read_twice": keras.layers.Conv2D(4, 1),
        "relu": keras.layers.Conv2D(4, 1, activation="relu"),
        "groups": keras.layers.Conv2D(4, 1, groups=2),
    }
    maps = {name: layer(x) for name, layer in convolutions.items()}
    normed = [keras.layers.BatchNormalization(name=name)(y) for name, y in maps.items()]
    model = keras.Model(x, [maps["answer"], keras.layers.ReLU()(maps["read_twice"]), *normed])
    network = with_norm_products(model, answers_only=True)
    assert kept_norms(network) == (set(), set(convolutions))
    assert all(layer in network.layers for layer in convolutions.values())
    image = np.random.default_rng(0).normal(size=(2, 3, 3, 4)).astype(np.float32)
    for value, expected in zip(network(image), model(image), strict=True):
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-5)


def test_where_nothing_is_frozen_the_network_stays():
    model = small_model("main_net", 2)
    assert with_norm_products(model.network) is model.network
