import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from srn_tf.errors import InputError
from srn_tf.evaluation import metrics
from srn_tf.evaluation.blocks import BLOCK_ROWS
from tests.evaluation import reference

GOLDEN = Path(__file__).parents[1] / "golden"

# Scores, labels, then by hand: AP_VOC and scikit-learn's (0 is negative), ML-GCN's and get_mAP_eccv16 (0 is left out).
TOY_AP = [
    ([0.9, 0.8, 0.7, 0.6, 0.5], [1, -1, -1, 1, 1], 0.73333, 0.70000, 0.70000, 0.73333),
    ([0.9, 0.8, 0.8, 0.4], [1, -1, 1, -1], 0.83333, 0.83333, 0.83333, 0.83333),
    ([0.9, 0.8, 0.8, 0.4], [1, 1, -1, -1], 1.0, 0.83333, 1.0, 1.0),
    ([0.95, 0.9, 0.8, 0.7, 0.6], [0, 1, -1, 0, 1], 0.45, 0.45, 0.83333, 0.83333),
]


@pytest.mark.parametrize(("scores", "labels", "ap_voc", "ap_sklearn", "ap_ml_gcn", "ap_eccv16"), TOY_AP)
def test_average_precision_of_the_toy_table(scores, labels, ap_voc, ap_sklearn, ap_ml_gcn, ap_eccv16):
    scores, labels = np.array(scores)[:, np.newaxis], np.array(labels)[:, np.newaxis]
    all_rows = metrics.average_precisions(scores, labels == 1)
    specified = metrics.average_precisions(scores, labels == 1, labels != 0)
    np.testing.assert_allclose(all_rows["voc_all_points"], [ap_voc], atol=5e-6)
    np.testing.assert_allclose(all_rows["sklearn"], [ap_sklearn], atol=5e-6)
    np.testing.assert_allclose(specified["rank"], [ap_ml_gcn], atol=5e-6)
    np.testing.assert_allclose(specified["voc_all_points"], [ap_eccv16], atol=5e-6)


def test_11_point_by_hand():
    # Precision at the positives 1, 2/4, 3/5: at recall >= 0 ... 0.3 at best 1, at >= 0.4 ... 1 at best 3/5.
    scores, positives = np.array([[5.0], [4], [3], [2], [1]]), np.array([[1], [0], [0], [1], [1]]) == 1
    ap = metrics.average_precision(scores, positives, definition="voc_11_point")
    np.testing.assert_allclose(ap, [(4 * 1 + 7 * 0.6) / 11])
    # Ten positives, the first three found at once: recall 0.3 is reached exactly, and 1 reaches as far as 0.3.
    positives = np.array([1, 1, 1] + [0] * 7 + [1] * 7)[:, np.newaxis] == 1
    ap = metrics.average_precision(-np.arange(17.0)[:, np.newaxis], positives, definition="voc_11_point")
    np.testing.assert_allclose(ap, [(4 * 1 + 7 * 10 / 17) / 11])


def test_unknown_definition_and_convention():
    with pytest.raises(InputError, match="definition must be one of voc_all_points, rank, .* Received: 'coco'"):
        metrics.average_precision(np.zeros((1, 1)), np.ones((1, 1)), definition="coco")
    counts = metrics.count_decisions(np.ones((1, 1)), np.ones((1, 1)))
    with pytest.raises(InputError, match="convention must be one of authors, plain. Received: 'eps'"):
        metrics.precision_recall_f1(counts, "eps")


def test_many_images_with_few_and_with_many_ties():
    """Scores of so many images tie often, or now and then: both ways to rank give what NumPy's stable sort does."""
    rng = np.random.default_rng(0)
    scores = np.stack([rng.normal(size=4000).round(decimals) for decimals in (1, 2, 3, 4, 5, 16)], axis=1)
    positives = rng.random(scores.shape) < 0.1
    found = metrics.average_precisions(scores, positives)["rank"]
    for label in range(scores.shape[1]):
        ranks = np.flatnonzero(positives[np.argsort(-scores[:, label], kind="stable"), label]) + 1
        assert found[label] == pytest.approx((np.arange(1, ranks.size + 1) / ranks).mean(), abs=1e-12)


def test_more_images_than_are_looked_at_together():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2 * BLOCK_ROWS + 100, 5))
    highest = np.argsort(-scores, axis=1)[:, :2]
    chosen = metrics.top_k(scores, 2)
    assert (np.take_along_axis(chosen, highest, axis=1)).all() and (chosen.sum(axis=1) == 2).all()
    counts = metrics.count_decisions(chosen, np.ones_like(chosen))
    assert counts.positive.tolist() == [len(scores)] * 5 and counts.predicted.sum() == 2 * len(scores)


def test_average_precision_leaves_its_arguments_as_they_are():
    scores, positives = np.array([[1.0], [3.0], [2.0]]), np.array([[True], [False], [True]])
    metrics.average_precisions(scores, positives, np.ones((3, 1), bool))
    metrics.average_precisions(scores, positives)
    metrics.top_k(scores, 1)
    assert scores.ravel().tolist() == [1, 3, 2] and positives.ravel().tolist() == [True, False, True]


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
    counts = metrics.count_decisions(predicted, positives)
    rates = metrics.precision_recall_f1(counts)
    # Per label P = 1, 1, 1; R = .5, 1, 1; F1 = .6667, 1, 1: the third has no positives and no predictions.
    assert rates.p_c == pytest.approx(1)
    assert rates.r_c == pytest.approx(2.5 / 3)
    assert rates.f1_c == pytest.approx((2 / 3 + 2) / 3)
    assert rates.f1_c_harmonic == pytest.approx(10 / 11)
    assert (rates.p_o, rates.r_o, rates.f1_o) == pytest.approx((1, 2 / 3, 0.8))
    # The same in the plain convention, but for the third label: P = R = F1 = 0.
    rates = metrics.precision_recall_f1(counts, "plain")
    assert (rates.p_c, rates.r_c, rates.f1_c) == pytest.approx((2 / 3, 1.5 / 3, (2 / 3 + 1) / 3))
    assert rates.f1_c_harmonic == pytest.approx(4 / 7)
    assert (rates.p_o, rates.r_o, rates.f1_o) == pytest.approx((1, 2 / 3, 0.8))


@pytest.mark.parametrize(
    ("predicted", "positives", "authors", "plain"),
    [
        ([False, False], [False, False], (1, 1, 1), (0, 0, 0)),  # neither positives nor predictions
        ([False, False], [True, False], (1, 0, 0), (0, 0, 0)),  # never predicted
        ([True, False], [False, False], (0, 1, 0), (0, 0, 0)),  # no positives
        ([True, False], [False, True], (0, 0, 0), (0, 0, 0)),  # never right
        ([True, False], [True, True], (1, 0.5, 2 / 3), (1, 0.5, 2 / 3)),
    ],
)
def test_precision_recall_f1_of_empty_labels(predicted, positives, authors, plain):
    counts = metrics.count_decisions(np.array(predicted)[:, np.newaxis], np.array(positives)[:, np.newaxis])
    for convention, expected in (("authors", authors), ("plain", plain)):
        rates = metrics.precision_recall_f1(counts, convention)
        assert (rates.p_c, rates.r_c, rates.f1_c) == pytest.approx(expected, abs=1e-12)
        assert (rates.p_o, rates.r_o, rates.f1_o) == pytest.approx(expected, abs=1e-12)


def test_count_decisions_leaves_out_what_is_not_counted():
    predicted, positives = np.array([[1, 1], [1, 0], [0, 1]]), np.array([[1, 0], [0, 0], [1, 1]])
    counts = metrics.count_decisions(predicted, positives)
    assert [c.tolist() for c in (counts.true_positive, counts.predicted, counts.positive)] == [[1, 1], [2, 2], [2, 1]]
    counts = metrics.count_decisions(predicted, positives, np.array([[1, 0], [0, 1], [0, 1]]))
    assert [c.tolist() for c in (counts.true_positive, counts.predicted, counts.positive)] == [[1, 1], [1, 1], [1, 1]]


def test_sigmoid_without_warning():
    p = metrics.sigmoid(np.array([[0.0, -1e4, 1e4, np.log(3)]]))
    assert p.dtype == np.float64
    np.testing.assert_allclose(p, [[0.5, 0, 1, 0.75]], rtol=1e-15)
    assert metrics.sigmoid(np.float32([1e-8])) > 0.5  # float32 would make it 0.5
    assert metrics.sigmoid(np.array([0, 1])).tolist() == [0.5, 1 / (1 + np.exp(-1))]


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
        metrics.count_decisions(np.zeros((2, 3), dtype=bool), bad)


def random_case(seed):
    """Scores with few decimals, so with ties, and labels among which 0 is unspecified and one may have no positive."""
    rng = np.random.default_rng(seed)
    num_images, num_labels = rng.integers(1, 40), rng.integers(3, 8)
    scores = rng.normal(0, 2, (num_images, num_labels)).round(int(rng.integers(0, 4)))
    labels = rng.choice([-1, 0, 1], size=scores.shape, p=rng.dirichlet([1, 1, 1]))
    if seed % 3 == 0:
        labels[:, 0] = rng.choice([-1, 0], size=num_images)
    return scores, labels


SEEDS = [*range(40), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(40, 200))]


@pytest.mark.parametrize("seed", SEEDS)
def test_random_average_precision_equals_the_reference_and_scikit_learn(seed):
    scores, labels = random_case(seed)
    for counted in (None, labels != 0):
        found = metrics.average_precisions(scores, labels == 1, counted)
        assert tuple(found) == metrics.AP_DEFINITIONS + metrics.AP_BOUNDS
        for label in range(labels.shape[1]):
            column = scores[:, label].tolist(), labels[:, label].tolist()
            if counted is not None:
                column = reference.without_zeros(*column)
            for definition, reference_ap in reference.AP.items():
                expected = reference_ap(*column)
                assert found[definition][label] == pytest.approx(expected, abs=1e-12, nan_ok=True), definition
            for bound, is_descending in (("lowest", False), ("highest", True)):  # positives last, positives first
                pairs = sorted(zip(*column, strict=True), key=lambda pair: pair[1] == 1, reverse=is_descending)
                expected = reference.AP["voc_all_points"](*map(list, zip(*pairs, strict=True))) if pairs else np.nan
                assert found[bound][label] == pytest.approx(expected, abs=1e-12, nan_ok=True), bound
            if 1 in column[1]:
                expected = average_precision_score(np.array(column[1]) == 1, column[0])
                assert found["sklearn"][label] == pytest.approx(expected, abs=1e-12)
                assert found["voc_all_points"][label] >= found["rank"][label] - 1e-12
    eccv16 = [reference.ap_eccv16(scores[:, label], labels[:, label]) for label in range(labels.shape[1])]
    np.testing.assert_allclose(found["voc_all_points"], eccv16, atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_rank_is_scikit_learns_without_ties(seed):
    rng = np.random.default_rng(seed)
    scores, positives = rng.normal(size=(200, 4)), rng.random((200, 4)) < 0.1
    positives[0] = True
    found = metrics.average_precisions(scores, positives)
    np.testing.assert_allclose(found["rank"], found["sklearn"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found["rank"], average_precision_score(positives, scores, average=None), atol=1e-12)
    assert (found["voc_all_points"] > found["rank"]).any()  # and yet another definition


@pytest.mark.parametrize("seed", SEEDS)
def test_random_rates_equal_the_reference(seed):
    scores, labels = random_case(seed)
    k = seed % scores.shape[1] + 1
    for actual, predicted in (
        (metrics.sigmoid(scores) > 0.5, reference.predicted_above(scores, [0.5] * scores.shape[1])),
        (metrics.top_k(scores, k), reference.predicted_top_k(scores, k)),
        (metrics.top_k(scores, k, 0.4), reference.predicted_top_k(scores, k, 0.4)),
    ):
        np.testing.assert_array_equal(actual, predicted)
        for counted in (None, labels != 0):
            counts = metrics.count_decisions(actual, labels == 1, counted)
            for convention in ("authors", "plain"):
                rates = metrics.precision_recall_f1(counts, convention)
                expected = reference.rates(predicted, labels, convention, counted is not None)
                received = (rates.f1_c, rates.p_c, rates.r_c, rates.f1_o, rates.p_o, rates.r_o, rates.f1_c_harmonic)
                assert received == pytest.approx(tuple(expected.values()), abs=1e-12)


def test_importing_evaluation_imports_nothing_slow():
    code = (
        "import sys\n"
        "from srn_tf.evaluation import calibration, metrics, pointing, protocols, ranking, report, score_files\n"
        "sys.exit(not {'tensorflow', 'sklearn', 'matplotlib'}.isdisjoint(sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)


def test_log_odds_are_the_logits_and_finite():
    logits = np.linspace(-12, 12, 50).reshape(10, 5)
    np.testing.assert_allclose(metrics.log_odds(metrics.sigmoid(logits).astype(np.float32)), logits, atol=0.02)
    for dtype, least, step in ((np.float32, 2.0**-149, 2.0**-24), (np.float64, 5e-324, 2.0**-53)):
        extremes = metrics.log_odds(np.array([[0.0, least, 1e-40, 0.5, 1 - step, 1.0]], dtype))[0]
        assert np.isfinite(extremes).all() and (np.diff(extremes) > 0).all() and extremes[3] == 0, dtype
