import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.evaluation import metrics
from tests.evaluation import reference

GOLDEN = Path(__file__).parents[1] / "golden"

# Scores, labels, AP_VOC (0 is negative), get_mAP_eccv16 (0 is left out); worked by hand.
TOY_AP = [
    ([0.9, 0.8, 0.7, 0.6, 0.5], [1, -1, -1, 1, 1], 0.73333, 0.73333),
    ([0.9, 0.8, 0.8, 0.4], [1, -1, 1, -1], 0.83333, 0.83333),
    ([0.9, 0.8, 0.8, 0.4], [1, 1, -1, -1], 1.0, 1.0),
    ([0.95, 0.9, 0.8, 0.7, 0.6], [0, 1, -1, 0, 1], 0.45, 0.83333),
]


@pytest.mark.parametrize(("scores", "labels", "ap_voc", "ap_eccv16"), TOY_AP)
def test_average_precision_of_the_toy_table(scores, labels, ap_voc, ap_eccv16):
    scores, labels = np.array(scores)[:, np.newaxis], np.array(labels)[:, np.newaxis]
    np.testing.assert_allclose(metrics.average_precision(scores, labels == 1), [ap_voc], atol=5e-6)
    np.testing.assert_allclose(metrics.average_precision(scores, labels == 1, labels != 0), [ap_eccv16], atol=5e-6)


@pytest.mark.parametrize("name", ["dev", "dev_ties"])
def test_average_precision_equals_the_authors_functions(name):
    scores, labels, wider_labels, ap = (
        np.loadtxt(GOLDEN / f"{name}_{what}.csv", delimiter=",") for what in ("scores", "labels", "wider_labels", "ap")
    )
    np.testing.assert_allclose(metrics.average_precision(scores, labels == 1), ap[:, 0], atol=1e-6)
    wider = metrics.average_precision(scores, wider_labels == 1, wider_labels != 0)
    np.testing.assert_allclose(wider, ap[:, 1], atol=1e-6)


def test_average_precision_is_nan_without_counted_positives():
    scores = np.array([[1.0, 2.0, 3.0], [0.5, 1.0, 2.0]])
    positives = np.array([[True, False, True], [False, False, False]])
    counted = np.array([[True, True, False], [True, True, True]])
    ap = metrics.average_precision(scores, positives, counted)
    assert ap.dtype == np.float64
    np.testing.assert_array_equal(ap, [1.0, np.nan, np.nan])


def test_average_precision_ignores_the_scale_and_the_dtype_of_scores():
    rng = np.random.default_rng(0)
    scores = rng.integers(-20, 20, (300, 5))
    positives = rng.random(scores.shape) < 0.2
    expected = metrics.average_precision(scores.astype(np.float64), positives)
    np.testing.assert_array_equal(metrics.average_precision(scores, positives), expected)
    np.testing.assert_array_equal(metrics.average_precision(scores.astype(np.float32), positives), expected)
    np.testing.assert_array_equal(metrics.average_precision(1e300 * scores.astype(np.float64), positives), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "scores",
    [
        np.random.default_rng(1).normal(size=50_000),
        np.random.default_rng(2).normal(size=5_000).round(1),
        1 + 1e-12 * np.random.default_rng(3).integers(-50, 50, 1_000),  # equal in float32, not in float64
        np.array([0.0, -0.0, 1e-320, -1e-320, 0.0]),
        np.zeros(0),
    ],
)
def test_descending_order_is_the_stable_one(scores, dtype):
    scores = scores.astype(dtype)
    np.testing.assert_array_equal(metrics.descending_order(scores), np.argsort(-scores, kind="stable"))


def test_descending_order_beyond_float32():
    scores = np.array([1e200, 1e300, -1e300, 1e300, -1e200, 0.0])
    np.testing.assert_array_equal(metrics.descending_order(scores), [1, 3, 0, 5, 4, 2])


def test_precision_recall_f1_toy():
    predicted = np.array([[1, 0, 0], [0, 1, 0]], dtype=bool)
    positives = np.array([[1, 0, 0], [1, 1, 0]], dtype=bool)
    rates = metrics.precision_recall_f1(predicted, positives)
    # Per label P = 1, 1, 1; R = .5, 1, 1; F1 = .6667, 1, 1: the third has no positives and no predictions.
    assert rates.p_c == pytest.approx(1)
    assert rates.r_c == pytest.approx(2.5 / 3)
    assert rates.f1_c == pytest.approx((2 / 3 + 2) / 3)
    assert rates.f1_c_harmonic == pytest.approx(10 / 11)
    assert (rates.p_o, rates.r_o, rates.f1_o) == pytest.approx((1, 2 / 3, 0.8))


@pytest.mark.parametrize(
    ("predicted", "positives", "expected"),
    [
        ([False, False], [False, False], (1, 1, 1)),  # neither positives nor predictions
        ([False, False], [True, False], (1, 0, 0)),  # never predicted
        ([True, False], [False, False], (0, 1, 0)),  # no positives
    ],
)
def test_precision_recall_f1_of_empty_labels(predicted, positives, expected):
    rates = metrics.precision_recall_f1(np.array(predicted)[:, np.newaxis], np.array(positives)[:, np.newaxis])
    assert (rates.p_c, rates.r_c, rates.f1_c) == pytest.approx(expected, abs=1e-12)
    assert (rates.p_o, rates.r_o, rates.f1_o) == pytest.approx(expected, abs=1e-12)


def test_predict_positive_is_strict():
    predicted = metrics.predict_positive(np.array([[0.0, 1e-6, -1e-6, 1000.0, -1000.0]]))
    np.testing.assert_array_equal(predicted, [[False, True, False, True, False]])


def test_predict_positive_of_a_small_float32():
    np.testing.assert_array_equal(metrics.predict_positive(np.array([[1e-8]], dtype=np.float32)), [[True]])


def test_top_k_takes_the_first_of_equal_labels():
    scores = np.array([[1.0, 2.0, 2.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(metrics.top_k(scores, 2), [[0, 1, 1, 0, 0], [1, 1, 0, 0, 0]])


def test_top_k_with_min_probability_is_not_strict():
    scores = np.array([[0.0, -0.1, 3.0, -5.0]])
    np.testing.assert_array_equal(metrics.top_k(scores, 3, 0.5), [[True, False, True, False]])


def test_top_k_of_all_labels():
    np.testing.assert_array_equal(metrics.top_k(np.array([[3.0, -1.0]]), 2), [[True, True]])


@pytest.mark.parametrize("k", [0, -1, 4])
def test_top_k_rejects_k_outside_the_labels(k):
    with pytest.raises(InputError, match=f"k must be from 1 to the number of labels. Received: k = {k} for 3 labels"):
        metrics.top_k(np.zeros((2, 3)), k)


def test_top_k_rejects_a_vector():
    with pytest.raises(InputError, match=r"scores must be a matrix, images x labels. Received: shape \(3,\)"):
        metrics.top_k(np.zeros(3), 1)


def test_shape_mismatch_shows_both_shapes():
    bad = np.zeros((2, 4), dtype=bool)
    with pytest.raises(InputError, match=r"Received: scores \(2, 3\), positives \(2, 4\)"):
        metrics.average_precision(np.zeros((2, 3)), bad)
    with pytest.raises(InputError, match=r"Received: scores \(2, 4\), counted \(2, 3\)"):
        metrics.average_precision(np.zeros((2, 4)), bad, np.ones((2, 3), dtype=bool))
    with pytest.raises(InputError, match=r"Received: predicted \(2, 3\), positives \(2, 4\)"):
        metrics.precision_recall_f1(np.zeros((2, 3), dtype=bool), bad)


@pytest.mark.parametrize("seed", range(200))
def test_random_cases_equal_the_reference(seed):
    rng = np.random.default_rng(seed)
    num_images, num_labels = rng.integers(1, 40), rng.integers(3, 8)
    scores = rng.normal(0, 2, (num_images, num_labels)).round(int(rng.integers(0, 4)))  # few decimals: ties
    chances = rng.dirichlet([1, 1, 1])
    labels = rng.choice([-1, 0, 1], size=scores.shape, p=chances)
    if seed % 3 == 0:
        labels[:, 0] = rng.choice([-1, 0], size=num_images)  # a label without positives

    voc = [reference.ap_voc(scores[:, label], labels[:, label]) for label in range(num_labels)]
    eccv16 = [reference.ap_eccv16(scores[:, label], labels[:, label]) for label in range(num_labels)]
    np.testing.assert_allclose(metrics.average_precision(scores, labels == 1), voc, atol=1e-12)
    np.testing.assert_allclose(metrics.average_precision(scores, labels == 1, labels != 0), eccv16, atol=1e-12)

    for actual, predicted in (
        (metrics.predict_positive(scores), reference.predicted_above_half(scores)),
        (metrics.top_k(scores, 3), reference.predicted_top_k(scores, 3)),
        (metrics.top_k(scores, 3, 0.5), reference.predicted_top_k(scores, 3, 0.5)),
    ):
        np.testing.assert_array_equal(actual, predicted)
        rates = metrics.precision_recall_f1(actual, labels == 1)
        expected = reference.rates(predicted, labels)
        assert rates.p_c == pytest.approx(expected["P-C"], abs=1e-12)
        assert rates.r_c == pytest.approx(expected["R-C"], abs=1e-12)
        assert rates.f1_c == pytest.approx(expected["F1-C"], abs=1e-12)
        assert rates.f1_c_harmonic == pytest.approx(expected["F1-C-harmonic"], abs=1e-12)
        assert rates.p_o == pytest.approx(expected["P-O"], abs=1e-12)
        assert rates.r_o == pytest.approx(expected["R-O"], abs=1e-12)
        assert rates.f1_o == pytest.approx(expected["F1-O"], abs=1e-12)


def test_importing_evaluation_does_not_import_tensorflow():
    code = (
        "import sys\n"
        "from srn_tf.evaluation import metrics, pointing, protocols, report, score_files\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)
