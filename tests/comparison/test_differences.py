"""Differences to the first row: exact values, intervals against plain repetition, co-occurrence, correlation."""

import numpy as np
import pytest

from srn_tf.comparison.bootstrap import draw_resamples
from srn_tf.comparison.differences import correlation, differences_to_first, mean_cooccurring
from srn_tf.comparison.rows import compare_runs
from srn_tf.evaluation.protocols import SCENES, evaluate
from tests.comparison.small_runs import PERFECT, TRUTH, WEAK, write_run


def compared(tmp_path, *runs):
    """A comparison of runs given as (flags, scores)."""
    paths = [write_run(tmp_path / f"run{number}", flags, scores) for number, (flags, scores) in enumerate(runs)]
    return compare_runs(paths, "test")


def test_one_row_has_no_difference(tmp_path):
    assert differences_to_first(compared(tmp_path, ({"model": "srn"}, WEAK)), 100, seed=0) == []


def test_every_row_is_compared_with_the_first(tmp_path):
    comparison = compared(
        tmp_path, ({"model": "weak"}, WEAK), ({"model": "same"}, WEAK.copy()), ({"model": "perfect"}, PERFECT)
    )
    same, perfect = differences_to_first(comparison, 200, seed=0)
    assert (same.row, same.reference, perfect.row, perfect.reference) == ("same", "weak", "perfect", "weak")
    assert same.metrics == {metric: (0, 0, 0) for metric in ("mAP", "F1-C", "F1-O")}
    assert perfect.ap == pytest.approx([0, 100 / 3, 0])
    found = {metric: values[0] for metric, values in perfect.metrics.items()}
    assert found == pytest.approx({"mAP": 100 / 9, "F1-C": 800 / 45, "F1-O": 20})
    for _, low, high in perfect.metrics.values():
        assert 0 <= low < high <= 100
    # Disk and star are ranked without a mistake by both, whatever is drawn.
    np.testing.assert_array_equal(perfect.ap_low[[0, 2]], 0)
    np.testing.assert_array_equal(perfect.ap_high[[0, 2]], 0)
    assert perfect.ap_low[1] == 0 < perfect.ap_high[1]


def test_intervals_are_those_of_the_repeated_images_averaged_over_seeds(tmp_path):
    rng = np.random.default_rng(2)
    first, *others = (rng.normal(size=TRUTH.shape).astype(np.float32) for _ in range(3))
    comparison = compared(
        tmp_path, ({"model": "a"}, first), *(({"model": "b", "seed": i}, s) for i, s in enumerate(others))
    )
    (difference,) = differences_to_first(comparison, 100, seed=7)

    def metrics(scores, rows):
        result = evaluate(scores[rows], TRUTH[rows], SCENES)
        return np.array([*(result["all"][metric] for metric in ("mAP", "F1-C", "F1-O")), *result["AP"]], float)

    drawn = [np.repeat(np.arange(4), counts) for counts in draw_resamples(4, 100, seed=7)]
    values = [(metrics(others[0], rows) + metrics(others[1], rows)) / 2 - metrics(first, rows) for rows in drawn]
    low, high = np.nanpercentile(values, [2.5, 97.5], axis=0)
    expected = {metric: (low[place], high[place]) for place, metric in enumerate(("mAP", "F1-C", "F1-O"))}
    for metric, interval in expected.items():
        assert difference.metrics[metric][1:] == pytest.approx(interval), metric
    np.testing.assert_allclose(difference.ap_low, low[3:])
    np.testing.assert_allclose(difference.ap_high, high[3:])


def test_the_seed_decides_the_resamples(tmp_path):
    rng = np.random.default_rng(0)
    comparison = compared(
        tmp_path,
        ({"model": "a"}, rng.normal(size=TRUTH.shape).astype(np.float32)),
        ({"model": "b"}, rng.normal(size=TRUTH.shape).astype(np.float32)),
    )
    found = [differences_to_first(comparison, 100, seed)[0].metrics["mAP"] for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_a_label_without_positives_has_no_difference(tmp_path):
    truth = TRUTH.copy()
    truth[3, 2] = 0
    paths = [
        write_run(tmp_path / "a", {"model": "a"}, WEAK, labels=truth),
        write_run(tmp_path / "b", {"model": "b"}, PERFECT, labels=truth),
    ]
    (difference,) = differences_to_first(compare_runs(paths, "test"), 100, seed=0)
    assert difference.ap == pytest.approx([0, 100 / 3, np.nan], nan_ok=True)
    assert np.isnan(difference.ap_low[2]) and np.isnan(difference.ap_high[2])
    assert difference.metrics["mAP"][0] == pytest.approx(100 / 6)


def test_mean_cooccurring():
    """Disk is on a (alone) and b (with ring), ring on b and c, star on d alone; 0 and -1 are no labels."""
    assert mean_cooccurring(TRUTH) == pytest.approx([1 / 2, 1 / 2, 0])
    labels = np.array([[1, 1, 1, -1], [1, -1, 0, -1], [1, 1, -1, 0]])
    assert mean_cooccurring(labels) == pytest.approx([(2 + 0 + 1) / 3, (2 + 1) / 2, 2, np.nan], nan_ok=True)


def test_correlation():
    x = np.array([1.0, 2.0, 3.0, np.nan, 9.0])
    assert correlation(x, np.array([2.0, 4.0, 6.0, 0.0, np.nan])) == pytest.approx(1)
    assert correlation(x, np.array([3.0, 2.0, 1.0, 0.0, np.nan])) == pytest.approx(-1)
    # Deviations (-1, 0, 1) and (0, -1, 1): 1 / sqrt(2 * 2).
    assert correlation(x, np.array([2.0, 1.0, 3.0, 0.0, np.nan])) == pytest.approx(0.5)


@pytest.mark.parametrize("y", [[1, 2, np.nan], [5, 5, 5]], ids=["two labels", "all the same"])
def test_correlation_that_is_not_defined(y):
    assert correlation(np.array([1.0, 2.0, 3.0]), np.array(y, float)) is None
