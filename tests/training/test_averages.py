"""The moving average against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.training.averages import WeightAverage
from tests.training import small


def numpy_average(values, decay):
    """`values`: the start, then the weight at every update."""
    average = values[0].astype(np.float64)
    for n, value in enumerate(values[1:]):
        d = min(decay, (1 + n) / (10 + n))
        average = d * average + (1 - d) * value
    return average


@pytest.mark.parametrize(("decay", "updates"), [(0.9, 100), (0.999, 30), (0.05, 5)])
def test_equals_numpy_with_the_ramp(decay, updates):
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(2, 3)).astype(np.float32) for _ in range(updates + 1)]
    weight = tf.Variable(values[0])
    average = WeightAverage([weight], decay)
    update = tf.function(average.update)
    for value in values[1:]:
        weight.assign(value)
        update()
    np.testing.assert_allclose(average.averages[0], numpy_average(values, decay), rtol=1e-5, atol=1e-6)
    assert int(average.updates) == updates
    np.testing.assert_array_equal(weight, values[-1])


def test_the_first_update_by_hand():
    """The ramp starts at 1/10."""
    weight = tf.Variable(1.0)
    average = WeightAverage([weight], 0.99)
    weight.assign(11.0)
    average.update()
    assert float(average.averages[0]) == pytest.approx(0.1 * 1.0 + 0.9 * 11.0)


def test_swapped_in_restores_bit_for_bit():
    model = small.build_two_parts()
    weights = list(model.weights.values())
    average = WeightAverage(weights, 0.9)
    small.randomize(model)
    average.update()
    raw = small.weights_of(model)
    expected = [value.numpy().copy() for value in average.averages]
    with average.swapped_in():
        for weight, value in zip(weights, expected, strict=True):
            np.testing.assert_array_equal(weight, value)
        assert all((weight.numpy() != raw[name]).any() for name, weight in model.weights.items())
    small.assert_bit_equal(small.weights_of(model), raw)
    for value, kept in zip(average.averages, expected, strict=True):
        np.testing.assert_array_equal(value, kept)


def test_swapped_in_restores_after_an_error():
    weight = tf.Variable(1.0)
    average = WeightAverage([weight], 0.9)
    weight.assign(2.0)
    with pytest.raises(KeyError), average.swapped_in():
        raise KeyError
    assert float(weight) == 2.0
