"""Correlations against SciPy; the limit of chance keeps what it promises."""

import numpy as np
import pytest
from scipy import stats

from srn_tf.analysis.correlation import chance_limit, largest_by_chance, pearson
from srn_tf.analysis.targets import Target


def target(images, values):
    return Target("a", "", images, values, np.zeros(len(images), int), values)


def test_pearson_is_scipys():
    rng = np.random.default_rng(0)
    responses = rng.normal(size=(40, 5)).astype(np.float32) + 100.0
    values = rng.normal(size=(40, 2)) + responses[:, :2]
    r = pearson(responses, values)
    expected = [[stats.pearsonr(responses[:, i], values[:, j]).statistic for j in range(2)] for i in range(5)]
    np.testing.assert_allclose(r, expected, atol=1e-5)


def test_pearson_by_hand():
    # Means 2 and 5, deviations (-1, 0, 1) and (-4, 2, 2): 6 / sqrt(2 * 24).
    np.testing.assert_allclose(pearson([[1], [2], [3]], [[1], [7], [7]]), [[6 / np.sqrt(48)]])


def test_a_constant_has_no_correlation():
    """Also one whose mean is rounded: of six times 0.1."""
    rng = np.random.default_rng(0)
    constant, varied = np.full(6, 0.1), rng.random(6)
    responses, values = np.stack([constant, varied], axis=1), np.stack([varied[::-1], constant], axis=1)
    assert constant.mean() != 0.1
    assert np.isnan(pearson(responses, values)).tolist() == [[True, True], [False, True]]


def normal_limit(num_tests):
    """Of independent tests, each atanh(r) sqrt(n - 3) a standard normal: Bonferroni's limit, two-sided, 5 %."""
    return stats.norm.isf(0.05 / (2 * num_tests))


def test_chance_without_dependence_is_bonferronis():
    rng = np.random.default_rng(1)
    responses = rng.normal(size=(400, 30))
    targets = [target(np.sort(rng.permutation(400)[:n]), rng.normal(size=(n, 2))) for n in (60, 150, 400)]
    limit = chance_limit(responses, targets)
    assert limit == pytest.approx(normal_limit(30 * 3 * 2), rel=0.08)
    assert limit == chance_limit(responses, targets)  # the same permutations
    assert largest_by_chance(limit, 60) == pytest.approx(np.tanh(limit / np.sqrt(57)))
    assert largest_by_chance(limit, 400) < largest_by_chance(limit, 60)


def test_equal_neurons_count_once():
    rng = np.random.default_rng(2)
    one = rng.normal(size=(300, 1))
    values = rng.normal(size=(300, 2))
    limit = chance_limit(np.repeat(one, 500, axis=1), [target(np.arange(300), values)])
    assert limit == pytest.approx(normal_limit(2), rel=0.12) and limit < 0.8 * normal_limit(1000)


def test_what_is_not_chance_exceeds_it():
    rng = np.random.default_rng(3)
    responses, values = rng.normal(size=(100, 40)), rng.normal(size=(100, 2))
    responses[:, 7] += 1.5 * values[:, 0]
    responses[:, 9] = 0.0  # a neuron that never fires
    limit = chance_limit(responses, [target(np.arange(100), values)])
    clear = np.argwhere(np.abs(pearson(responses, values)) > largest_by_chance(limit, 100))
    assert clear.tolist() == [[7, 0]]


def test_nothing_to_test():
    assert chance_limit(np.zeros((5, 2)), []) == 0.0
