"""The project's own layers against NumPy, and their way through a .keras file without custom code."""

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from srn_tf.models.layers import (
    CAFFE_MEAN_BGR,
    Constant,
    DepthwiseOverGrid,
    LayerScale,
    ScaleInput,
    SeededDropout,
    SoftmaxOverGrid,
    SumOverGrid,
    WeightedMean,
)
from tests.models import reference


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(0.0, 2.0, shape).astype(np.float32)


# DepthwiseOverGrid.


@pytest.mark.parametrize("use_bias", [False, True])
def test_a_kernel_over_the_grid_computes_what_keras_does(use_bias):
    """Outputs and gradients, on a grid that is no square, by the layer it stands for."""
    x = tf.constant(random(3, 4, 5, 6))
    layers = [
        kind((4, 5), depth_multiplier=2, use_bias=use_bias)
        for kind in (DepthwiseOverGrid, keras.layers.DepthwiseConv2D)
    ]
    results = []
    for layer in layers:
        layer.build(x.shape)
        layer.set_weights([random(*weight.shape, seed=1) for weight in layer.weights])
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(y * tf.constant(random(3, 1, 1, 12, seed=2)))
        results.append([y, *tape.gradient(loss, [x, *layer.trainable_weights])])
    assert len(results[0]) == 3 + use_bias and results[0][0].shape == (3, 1, 1, 12)
    for received, expected in zip(*results, strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4)


def test_a_kernel_over_the_grid_is_as_large_as_the_grid():
    with pytest.raises(ValueError, match=r"Expected: \(4, 5\). Received: \(4, 4\)"):
        DepthwiseOverGrid((4, 4))(random(1, 4, 5, 2))


# ScaleInput.


def test_symmetric_scaling():
    image = np.array([[[[0, 127.5, 255], [51, 102, 204]]]], np.float32)
    expected = [[[[-1, 0, 1], [-0.6, -0.2, 0.6]]]]
    np.testing.assert_allclose(ScaleInput("symmetric")(image), expected, atol=1e-6)


def test_caffe_scaling_is_blue_green_red_minus_the_mean():
    image = np.array([[[[10, 20, 30], [255, 0, 128]]]], np.float32)
    expected = [[[[30 - 103.939, 20 - 116.779, 10 - 123.68], [128 - 103.939, 0 - 116.779, 255 - 123.68]]]]
    np.testing.assert_allclose(ScaleInput("caffe")(image), expected, atol=1e-4)


def test_torch_scaling_is_red_green_blue_in_standard_deviations():
    image = np.array([[[[0, 127.5, 255], [51, 102, 204]]]], np.float32)
    expected = [[[[-0.485 / 0.229, 0.044 / 0.224, 0.594 / 0.225], [-0.285 / 0.229, -0.056 / 0.224, 0.394 / 0.225]]]]
    np.testing.assert_allclose(ScaleInput("torch")(image), expected, rtol=1e-5)


@pytest.mark.parametrize("mode, module", [("symmetric", "resnet_v2"), ("caffe", "resnet"), ("torch", "densenet")])
def test_scaling_is_that_of_keras_applications(mode, module):
    image = np.random.default_rng(0).uniform(0, 255, (2, 5, 7, 3)).astype(np.float32)
    expected = getattr(keras.applications, module).preprocess_input(image.copy())
    np.testing.assert_allclose(ScaleInput(mode)(image), expected, atol=1e-4)


@pytest.mark.parametrize("policy, dtype", [("mixed_float16", np.float16), ("mixed_bfloat16", ml_dtypes.bfloat16)])
@pytest.mark.parametrize("mode", ["symmetric", "caffe"])
def test_scaling_rounds_once_under_mixed_precision(mode, policy, dtype):
    """The float32 values, rounded; inside a model, too, and from pixels that the policy's type does not have."""
    image = np.random.default_rng(0).uniform(0, 255, (2, 5, 7, 3)).astype(np.float32)
    expected = image / np.float32(127.5) - np.float32(1) if mode == "symmetric" else image[..., ::-1] - CAFFE_MEAN_BGR
    expected = expected.astype(np.float32).astype(dtype)
    given = keras.Input((5, 7, 3))
    layer = ScaleInput(mode, dtype=policy)
    for received in (layer(image), keras.Model(given, layer(given))(image)):
        assert received.dtype.as_numpy_dtype == dtype
        np.testing.assert_array_equal(np.asarray(received, np.float32), expected.astype(np.float32))


def test_scaling_mode_must_be_known():
    with pytest.raises(ValueError, match="mode must be one of symmetric, caffe, torch. Received: 'bgr'"):
        ScaleInput("bgr")


# SoftmaxOverGrid, Eq. (4).


def test_softmax_worked_by_hand():
    Z = np.log(np.array([[1, 10], [3, 10], [4, 10], [8, 10]], np.float32)).reshape(1, 2, 2, 2)
    A = SoftmaxOverGrid()(Z).numpy()
    np.testing.assert_allclose(A[0, ..., 0], [[1 / 16, 3 / 16], [4 / 16, 8 / 16]], rtol=1e-6)
    np.testing.assert_allclose(A[0, ..., 1], [[0.25, 0.25], [0.25, 0.25]], rtol=1e-6)


@pytest.mark.parametrize("shape", [(3, 14, 14, 5), (2, 4, 7, 3), (1, 1, 1, 2)])
def test_softmax_equals_numpy_and_sums_to_1_per_label(shape):
    Z = random(*shape)
    A = SoftmaxOverGrid()(Z).numpy()
    assert A.shape == shape and A.dtype == np.float32
    assert (A >= 0).all()
    np.testing.assert_allclose(A.sum(axis=(1, 2)), np.ones((shape[0], shape[3])), rtol=1e-5)
    np.testing.assert_allclose(A, reference.softmax_over_grid(Z), rtol=1e-4, atol=1e-7)


def test_softmax_of_large_scores_stays_finite():
    Z = np.zeros((1, 2, 2, 1), np.float32)
    Z[0, 1, 0, 0] = 1e4
    np.testing.assert_array_equal(SoftmaxOverGrid()(Z)[0, ..., 0], [[0, 0], [1, 0]])


# SumOverGrid.


def test_sum_over_grid():
    maps = random(3, 4, 7, 5)
    y = SumOverGrid()(maps)
    assert y.shape == (3, 5)
    np.testing.assert_allclose(y, maps.astype(np.float64).sum(axis=1).sum(axis=1), rtol=1e-4, atol=1e-4)


# WeightedMean, section 3.4.


def test_fixed_mean_has_no_weight_and_halves():
    first, second = random(4, 3, seed=1), random(4, 3, seed=2)
    mix = WeightedMean()
    np.testing.assert_allclose(mix([first, second]), (first + second) / 2, rtol=1e-5, atol=1e-6)
    assert mix.weights == []


def test_learned_mean_starts_at_a_half_and_follows_its_weight():
    first, second = random(4, 3, seed=1), random(4, 3, seed=2)
    mix = WeightedMean(learned=True)
    np.testing.assert_allclose(mix([first, second]), (first + second) / 2, rtol=1e-5, atol=1e-6)
    (weight,) = mix.trainable_weights
    assert weight.shape == ()
    weight.assign(np.log(3.0))  # alpha / (1 - alpha) = 3
    np.testing.assert_allclose(mix([first, second]), 0.75 * first + 0.25 * second, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("logits", [None, (0.0, 0.0), (1.5, -0.7)])
def test_a_mean_of_three(logits):
    """Fixed, and as learned: weights are exp(logit) over their sum, the last one's logit being 0."""
    values = [random(4, 3, seed=seed) for seed in range(3)]
    mix = WeightedMean(learned=logits is not None)
    received = mix(values)
    weights = np.exp([*(logits or (0.0, 0.0)), 0.0])
    if logits is not None:
        mix.set_weights([np.float32(logits)])
        received = mix(values)
    np.testing.assert_allclose(received, np.average(values, axis=0, weights=weights), rtol=1e-5, atol=1e-6)


def test_gradient_of_the_learned_weight():
    first, second = tf.constant([[2.0]]), tf.constant([[-1.0]])
    mix = WeightedMean(learned=True)
    with tf.GradientTape() as tape:
        y_hat = mix([first, second])
    # d alpha / d logit = alpha (1 - alpha) = 1/4, times first - second.
    assert float(tape.gradient(y_hat, mix.alpha_logit)) == pytest.approx(0.75)


# LayerScale.


def test_layer_scale_starts_small_and_has_one_factor_for_each_channel():
    maps = random(2, 3, 4, 5)
    scale = LayerScale()
    np.testing.assert_allclose(scale(maps), 1e-6 * maps, rtol=1e-6)
    scale.set_weights([np.arange(5, dtype=np.float32)])
    np.testing.assert_allclose(scale(maps), maps * [0, 1, 2, 3, 4], rtol=1e-6)


# Files.


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("mode", ["symmetric", "caffe", "torch"])
def test_a_saved_model_loads_without_custom_objects(tmp_path, mode, learned):
    image = keras.Input((6, 8, 3))
    Z = keras.layers.Conv2D(4, 3, padding="same")(ScaleInput(mode)(image))
    Z = LayerScale(name="scale")(Z)
    A = SoftmaxOverGrid()(Z)
    first, second = SumOverGrid()(keras.layers.Multiply()([A, Z])), SumOverGrid()(Z)
    mix = WeightedMean(learned=learned, name="mix")
    model = keras.Model(image, {"A": A, "y_hat": mix([first, second])})
    model.get_layer("scale").set_weights([np.array([1.0, 2.0, 3.0, 4.0], np.float32)])
    if learned:
        mix.alpha_logit.assign(-1.3)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 6, 8, 3)).astype(np.float32)
    expected, received = model(pixels), loaded(pixels)
    for name in expected:
        np.testing.assert_allclose(received[name], expected[name], rtol=1e-6)  # of two executions
    assert len(loaded.weights) == 3 + learned


# Dropout whose draws are weights.


def test_a_constant_is_a_weight_that_nothing_trains(tmp_path):
    values = random(2, 3)
    image = keras.Input((5,))
    model = keras.Model(image, Constant(values, name="words")(image))
    assert model.trainable_weights == [] and model.weights[0].shape == (2, 3)
    np.testing.assert_array_equal(model(np.zeros((7, 5), np.float32)), values)
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "m.keras").weights[0], values)


def test_dropout_draws_on_from_its_weight():
    layer = SeededDropout(0.25)
    x = tf.ones([50, 40])
    assert layer(x, training=True).shape == x.shape
    start = layer.draws.numpy()
    masks = [layer(x, training=True).numpy() for _ in range(2)]
    assert set(np.unique(masks)) == {np.float32(0.0), np.float32(1 / 0.75)}
    assert abs((masks[0] == 0).mean() - 0.25) < 4 * (0.25 * 0.75 / x.shape.num_elements()) ** 0.5
    assert (masks[0] != masks[1]).any() and layer.draws.numpy() == start + 2
    layer.draws.assign(start)
    np.testing.assert_array_equal(layer(x, training=True), masks[0])


def test_dropout_does_nothing_where_it_is_frozen_or_answers():
    layer = SeededDropout(0.5)
    x = tf.ones([4, 3])
    layer(x, training=True)
    before = layer.draws.numpy()
    np.testing.assert_array_equal(layer(x, training=False), x)
    layer.trainable = False
    np.testing.assert_array_equal(layer(x, training=True), x)
    assert layer.draws.numpy() == before


def test_dropout_of_whole_images():
    y = SeededDropout(0.5, is_per_image=True)(tf.ones([64, 2, 2, 3]), training=True).numpy()
    per_image = y.reshape(64, -1)
    assert (per_image == per_image[:, :1]).all() and set(np.unique(y)) == {0.0, 2.0}


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_dropout_of_a_rate_outside_0_to_1(rate):
    with pytest.raises(ValueError, match="rate must be in"):
        SeededDropout(rate)
