"""Tuned thresholds: cases worked out by hand, the optimum against every possible choice, and the file."""

import hashlib
import itertools
import json
import math

import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.evaluation import thresholds
from srn_tf.evaluation.metrics import sigmoid
from srn_tf.evaluation.protocols import COCO, WIDER_ATTRIBUTE, Protocol, evaluate
from tests.comparison.small_runs import LABELS, TRUTH, WEAK, write_run

# 0 is left out of precision, recall and F1, which no data set's own protocol does.
EXCLUDING = Protocol("excluding", "unspecified", zero_in_ap="excluded", zero_in_rates="excluded")
MODES = [(metric, per_label) for metric in thresholds.METRICS for per_label in (False, True)]


def logits(p):
    p = np.asarray(p, np.float64)
    return np.log(p / (1 - p))


def measured(scores, labels, protocol, metric, values=None):
    return evaluate(scores, labels, protocol, thresholds=values)["all"][metric]


# One label. F1 when the first 0, 1, 2 ... of five are predicted:
#   positives 2nd, 3rd:  0, 0, 1/2, 4/5, 2/3, 4/7: the first three
#   positives 1st, 4th:  0, 2/3, 1/2, 2/5, 2/3, 4/7: the first, or the first four
#   positives 1st, 2nd:  0, 2/3, 1, ...: the first two
#   positive 5th:        0, 0, 0, 0, 0, 1/3: all
#   positive 1st:        0, 1, ...: the first
@pytest.mark.parametrize(
    ("p", "positive", "expected"),
    [
        ([0.8, 0.6, 0.4, 0.3, 0.1], (1, 2), 0.35),
        ([0.8, 0.6, 0.4, 0.3, 0.1], (0, 3), 0.7),  # nearer to 0.5 than 0.2
        ([0.98, 0.94, 0.4, 0.3, 0.1], (0, 3), 0.2),  # nearer than 0.96
        ([0.8, 0.6, 0.4, 0.3, 0.1], (0, 1), 0.5),  # in the gap from 0.4 to 0.6
        ([0.8, 0.7, 0.4, 0.3, 0.1], (0, 1), 0.5),  # also where it is not the middle
        ([0.5, 0.5, 0.4, 0.3, 0.1], (0, 1), 0.45),  # a probability of 0.5 does not exceed 0.5
        ([0.8, 0.6, 0.4, 0.3, 0.1], (4,), 0.05),
        ([0.8, 0.6, 0.4, 0.3, 0.1], (0,), 0.7),
    ],
)
def test_one_label_by_hand(p, positive, expected):
    labels = np.zeros((5, 1), np.int8)
    labels[list(positive)] = 1
    for metric, per_label in MODES:  # with one label they are the same
        values = thresholds.tune(logits(p)[:, np.newaxis], labels, COCO, metric, per_label)
        assert np.shape(values) == ((1,) if per_label else ())
        assert values == pytest.approx(expected, abs=1e-12)


# Two labels, four images; + is positive. Label a: .9+ .7 .4+ .2+; label b: .8 .6+ .3 .1.
# Alone: a, first 1 to 4 predicted: 1/2, 2/5, 2/3, 6/7: below all, .1. b: 0, 2/3, 1/2, 2/5: between .6 and .3, so 0.5.
#   Mean (6/7 + 2/3) / 2 = 16/21.
# Together over all pairs, T true positives of P predicted, F1 = 2 T / (P + 4): a all and b two: T 4 of 6: 4/5.
# One for both, in the order .9+ .8 .7 .6+ .4+ .3 .2+ .1:
#   F1-O: 2/5 2/6 2/7 4/8 6/9 6/10 8/11 8/12: highest below .2, so .15.
#   F1-C: sums of a's and b's F1 at 4 (a .9 .7, b .8 .6): 2/5 + 2/3 = 1.067; 5: 2/3 + 2/3 = 1.333; 6: 2/3 + 1/2 = 1.167;
#   7: 6/7 + 1/2 = 1.357; 8: 6/7 + 2/5 = 1.257: highest after 7, so .15.
TWO_P = [[0.9, 0.8], [0.7, 0.6], [0.4, 0.3], [0.2, 0.1]]
TWO_LABELS = np.array([[1, 0], [0, 1], [1, 0], [1, 0]], np.int8)


@pytest.mark.parametrize(
    ("metric", "per_label", "expected", "percent"),
    [
        ("F1-C", True, [0.1, 0.5], 100 * 16 / 21),
        ("F1-O", True, [0.1, 0.5], 80),
        ("F1-C", False, 0.15, 100 * (6 / 7 + 1 / 2) / 2),
        ("F1-O", False, 0.15, 100 * 8 / 11),
    ],
)
def test_two_labels_by_hand(metric, per_label, expected, percent):
    values = thresholds.tune(logits(TWO_P), TWO_LABELS, COCO, metric, per_label)
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-12)
    assert measured(logits(TWO_P), TWO_LABELS, COCO, metric, values) == pytest.approx(percent)


def test_f1_o_gives_up_a_label_that_costs_too_much():
    """a is perfect, pooled 6/7. b, alone best when all four are predicted, adds 1 right and 4 predicted: 8/11."""
    scores = logits([[0.9, 0.8], [0.9, 0.7], [0.9, 0.6], [0.1, 0.4]])
    labels = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.int8)
    np.testing.assert_allclose(thresholds.tune(scores, labels, COCO, "F1-C", True), [0.5, 0.2])
    np.testing.assert_allclose(thresholds.tune(scores, labels, COCO, "F1-O", True), [0.5, 0.9])
    assert measured(scores, labels, COCO, "F1-O", [0.5, 0.9]) == pytest.approx(100 * 6 / 7)


def every_threshold(p):
    """One in each gap between 0, the probabilities and 1."""
    edges = np.unique(np.concatenate([[0, 1], p.ravel()]))
    return (edges[1:] + edges[:-1]) / 2


def draw(rng, protocol):
    """Scores and labels of few images, with ties, a label without positives and all values of a label."""
    scores = np.round(rng.normal(size=(6, 3)), 1) + rng.integers(-1, 2, 3)
    labels = rng.choice([-1, 0, 1], (6, 3)).astype(np.int8)
    labels[:, 2] = np.minimum(labels[:, 2], 0) if rng.random() < 0.5 else labels[:, 2]
    labels[0, 0] = 1
    return scores, labels


@pytest.mark.parametrize("protocol", [COCO, WIDER_ATTRIBUTE, EXCLUDING], ids=lambda protocol: protocol.name)
@pytest.mark.parametrize(("metric", "per_label"), MODES)
def test_nothing_is_better_than_the_optimum(metric, per_label, protocol):
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(25):
        scores, labels = draw(rng, protocol)
        values = thresholds.tune(scores, labels, protocol, metric, per_label)
        received = measured(scores, labels, protocol, metric, values)
        p = sigmoid(scores)
        if per_label:
            has_positives = (labels == 1).any(axis=0)
            choices = [every_threshold(p[:, label]) if has else [0.5] for label, has in enumerate(has_positives)]
            assert (values[~has_positives] == 0.5).all()
            candidates = itertools.product(*choices)
        else:
            candidates = every_threshold(p)
        best = max(f1(p, labels, protocol, metric, candidate) for candidate in candidates)
        assert received == pytest.approx(100 * best, abs=1e-9)
        gains.append(received - measured(scores, labels, protocol, metric))
    assert min(gains) >= 0 and max(gains) > 1


def f1(p, labels, protocol, metric, values):
    """F1 from its definition, per label as the authors: 1 where nothing is positive and nothing predicted."""
    counted = labels != 0 if protocol is EXCLUDING else np.ones(labels.shape, bool)
    predicted = (p > np.asarray(values)) & counted
    T, P, Y = (np.sum(flags, axis=0) for flags in (predicted & (labels == 1), predicted, labels == 1))
    if metric == "F1-O":
        return 2 * T.sum() / (P.sum() + Y.sum())
    return np.mean([1.0 if p_l + y_l == 0 else 2 * t_l / (p_l + y_l) for t_l, p_l, y_l in zip(T, P, Y, strict=True)])


@pytest.mark.parametrize(("metric", "per_label"), MODES)
def test_a_threshold_moves_only_where_the_metric_gains(metric, per_label):
    labels = (np.random.default_rng(1).random((40, 5)) < 0.3).astype(np.int8)
    values = thresholds.tune(2.0 * labels - 1, labels, COCO, metric, per_label)
    assert (values == 0.5).all()


def test_equal_sums_are_equal_whatever_their_rounding():
    """At 0.5 label a, .05 .18+ .56+ .44, has F1 2/3 and b, .82+ .95 .31 .69+, 4/5; at .115 a has 4/5 and b 2/3."""
    scores = logits([[0.05, 0.82], [0.18, 0.95], [0.56, 0.31], [0.44, 0.69]])
    labels = np.array([[0, 1], [1, 0], [1, 0], [0, 1]], np.int8)
    assert thresholds.tune(scores, labels, COCO, "F1-C", per_label=False) == 0.5


@pytest.mark.parametrize(("metric", "per_label"), MODES)
def test_probabilities_that_rounding_has_made_equal(metric, per_label):
    """Logits of 40 and 50 are both probability 1, which no threshold parts; -800 is 0, which none reaches."""
    scores = np.array([[50.0], [40.0], [36.0], [35.0], [-30.0], [-800.0]])
    labels = np.array([[1], [0], [1], [0], [0], [1]], np.int8)  # F1 of the first 2, 3, 4, 5: 2/5 2/3 4/7 1/2
    values = thresholds.tune(scores, labels, COCO, metric, per_label)
    assert (sigmoid(scores)[:, 0] > values).tolist() == [True] * 3 + [False] * 3
    labels[:, 0] = [0, 0, 0, 0, 1, 1]  # 0 0 0 1/2
    values = thresholds.tune(scores, labels, COCO, metric, per_label)
    assert 0 < values < sigmoid(scores)[4, 0]


@pytest.mark.parametrize(("metric", "per_label"), MODES)
def test_neighbouring_floats_are_told_apart(metric, per_label):
    scores = np.array([[1.0], [1.0]])
    while sigmoid(scores)[0] == sigmoid(scores)[1]:
        scores[0] = np.nextafter(scores[0], 2)
    high, low = sigmoid(scores)[:, 0]
    assert high == np.nextafter(low, 1)
    assert thresholds.tune(scores, np.array([[1], [0]], np.int8), COCO, metric, per_label) == low


def test_many_images_agree_with_brute_force():
    """1,000 images: the sums run over many steps. 8 labels, of different frequency and noise."""
    rng = np.random.default_rng(2)
    labels = (rng.random((1000, 8)) < np.linspace(0.02, 0.5, 8)).astype(np.int8)
    scores = (labels + rng.normal(size=labels.shape) - 1).astype(np.float32)
    p = sigmoid(scores)
    grid = np.unique(p)
    T, P, Y = np.zeros((len(grid), 8)), np.zeros((len(grid), 8)), labels.sum(axis=0)
    for label in range(8):
        order = np.argsort(p[:, label])
        above = 1000 - np.searchsorted(p[order, label], grid, side="right")
        P[:, label] = above
        T[:, label] = np.append(0, np.cumsum(labels[order, label][::-1]))[above]
    each = 2 * T / (P + Y)
    best = {
        ("F1-C", False): each.mean(axis=1).max(),
        ("F1-C", True): each.max(axis=0).mean(),
        ("F1-O", False): (2 * T.sum(axis=1) / (P + Y).sum(axis=1)).max(),
    }
    for (metric, per_label), value in best.items():
        values = thresholds.tune(scores, labels, COCO, metric, per_label)
        assert measured(scores, labels, COCO, metric, values) == pytest.approx(100 * value, abs=1e-9)
    # Per label for F1-O: no label's threshold can be moved to gain.
    values = thresholds.tune(scores, labels, COCO, "F1-O", True)
    at = np.searchsorted(grid, values, side="right") - 1
    T_0, P_0 = T[at, range(8)], P[at, range(8)]
    received = measured(scores, labels, COCO, "F1-O", values)
    assert received == pytest.approx(100 * 2 * T_0.sum() / (P_0.sum() + Y.sum()))
    for label in range(8):
        moved = 2 * (T_0.sum() - T_0[label] + T[:, label]) / (P_0.sum() - P_0[label] + P[:, label] + Y.sum())
        assert 100 * moved.max() <= received + 1e-9


def test_no_positive_at_all():
    with pytest.raises(InputError, match="need a positive label to be tuned on. Received: 4 images without one"):
        thresholds.tune(np.zeros((4, 2)), np.zeros((4, 2), np.int8), COCO, "F1-C", True)


def write(folder, description=None, **options):
    """A run as of tests.comparison.small_runs with predictions on validation, WEAK unless told."""
    path = write_run(folder, {"seed": "0"}, **{"scores": WEAK, "split": "validation", **options})
    run = folder / "run.json"
    run.write_text(json.dumps(json.loads(run.read_text()) | (description or {})))
    return path


def test_a_run_by_hand(tmp_path):
    """disk: -1 must be reached, so between the logits -1 and -2; the other labels cannot gain."""
    description = {"validation_fraction": 0.1, "validation_is_train": False}
    result = thresholds.tune_run(write(tmp_path, description), "validation", "F1-C", per_label=True)
    disk = (1 / (1 + math.exp(1)) + 1 / (1 + math.exp(2))) / 2
    assert result.pop("values") == [pytest.approx(disk, abs=1e-7), 0.5, 0.5]
    assert result.pop("before") == {"F1-C": pytest.approx(100 * 37 / 45), "F1-O": pytest.approx(80)}
    assert result.pop("after") == {"F1-C": pytest.approx(100 * 14 / 15), "F1-O": pytest.approx(100 * 10 / 11)}
    assert result == {
        "run": str(tmp_path),
        "weights": None,
        "output": "y_hat",
        "kind": "per_label",
        "metric": "F1-C",
        "split": "validation",
        "images": 4,
        "protocol": "scenes",
        "is_training_data": False,
        "labels_without_positives": [],
        "labels": list(LABELS),
    }


def test_labels_without_positives_keep_half_and_are_named(tmp_path):
    labels = TRUTH.copy()
    labels[:, 1] = [0, -1, 0, -1]
    result = thresholds.tune_run(write(tmp_path, labels=labels), "validation", "F1-O", per_label=True)
    assert result["labels_without_positives"] == ["ring"]
    assert result["values"][0] < 0.5 and result["values"][1:] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("description", "split", "expected"),
    [
        ({"validation_fraction": 0.0, "validation_is_train": True}, "validation", True),
        ({"validation_fraction": 0.0, "validation_is_train": False}, "validation", False),  # the data set has its own
        ({"validation_fraction": 0.1, "validation_is_train": False}, "train", True),
    ],
)
def test_images_that_the_model_was_trained_on(tmp_path, description, split, expected):
    result = thresholds.tune_run(write(tmp_path, description, split=split), split, "F1-C", per_label=False)
    assert result["is_training_data"] is expected
    assert (result["kind"], result["split"], result["values"]) == ("global", split, 0.5)


def test_what_is_refused(tmp_path):
    path = write(tmp_path)
    with pytest.raises(InputError, match="must not be tuned on the test split, .* say nothing about other images"):
        thresholds.tune_run(path, "test", "F1-C", per_label=False)
    with pytest.raises(InputError, match="metric must be one of F1-C, F1-O. Received: 'mAP'"):
        thresholds.tune_run(path, "validation", "mAP", per_label=False)
    with pytest.raises(InputError, match="train.npz must exist. .*Evaluate the run on that split"):
        thresholds.tune_run(path, "train", "F1-C", per_label=False)


RECORD = {"labels": ["dog", "cat"], "output": "y_hat", "values": [0.25, 0.75]}


def written(tmp_path, **changes):
    path = tmp_path / "thresholds.json"
    path.write_text(json.dumps({**RECORD, **changes}))
    return str(path)


def test_load(tmp_path):
    path = written(tmp_path)
    read = thresholds.load_thresholds(path)
    assert (read.labels, read.output, read.values.tolist()) == (("dog", "cat"), "y_hat", [0.25, 0.75])
    assert read.statement == f"y_hat uses the thresholds of {path} (0.25 to 0.75) instead of 0.5"
    shared = thresholds.load_thresholds(written(tmp_path, values=0.4))
    assert shared.values.shape == () and shared.values == 0.4
    assert "(0.4)" in shared.statement


@pytest.mark.parametrize(
    ("values", "received"),
    [
        (0.0, "0.0, value 0"),
        (1, "1, value 0"),
        (True, "True, value 0"),
        ("0.5", "'0.5', value 0"),
        ([0.5, 1.5], "1.5, value 1"),
        ([0.5, -0.1], "-0.1, value 1"),
        ([math.nan, 0.5], "nan, value 0"),
        ([0.5, None], "None, value 1"),
        ([0.5, [0.5]], r"\[0.5\], value 1"),
    ],
)
def test_values_outside(tmp_path, values, received):
    with pytest.raises(InputError, match=f"thresholds.json: a threshold must be above 0 and .* Received: {received}"):
        thresholds.load_thresholds(written(tmp_path, values=values))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be a JSON file of thresholds. Received: Expecting value"),
        (b"threshold=0.5", "must be a JSON file of thresholds"),
        (b"\xff\xfe", "must be a JSON file of thresholds. Received: .* can't decode"),
        (b"[0.5, 0.5]", "must have labels, output and values. Received: none."),
        (b'{"labels": ["dog"], "values": 0.5}', "must have labels, output and values. Received: labels, values"),
        (b'{"labels": "dog", "output": "y", "values": 0.5}', "must have labels, output and values"),
        (
            b'{"labels": ["dog"], "output": "y", "values": [0.5, 0.6]}',
            "must have one value, or one for each label. Received: 2 values, 1 labels",
        ),
    ],
)
def test_files_of_another_kind(tmp_path, content, message):
    path = tmp_path / "thresholds.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"^{path} {message}") as raised:
        thresholds.load_thresholds(str(path))
    assert "\n" not in str(raised.value)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="none.json must exist. Received: no such file. Make one: .*tune_thresholds"):
        thresholds.load_thresholds(str(tmp_path / "none.json"))
    with pytest.raises(InputError, match="must be a JSON file of thresholds. Received: .*directory"):
        thresholds.load_thresholds(str(tmp_path))


def test_thresholds_of_another_model(tmp_path):
    weights = tmp_path / "final.npz"
    weights.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    read = thresholds.load_thresholds(written(tmp_path, weights=digest, run="/runs/one"))
    read.check_fit(["dog", "cat"], ["y_cls", "y_hat"], weights)
    for recorded, received in (
        ({"weights": "0" * 64, "run": "/runs/other"}, "tuned on weights 000000000000, of the run /runs/other"),
        ({"weights": None}, "tuned on unknown weights"),
        ({}, "tuned on unknown weights"),
    ):
        other = thresholds.load_thresholds(written(tmp_path, **recorded))
        with pytest.raises(InputError, match=f"Expected: weights {digest[:12]}, of .* Received: .* {received}. Make"):
            other.check_fit(["dog", "cat"], ["y_hat"], weights)
    with pytest.raises(
        InputError,
        match="thresholds.json must have the same labels .* Expected at position 1: 'cow'. Received: 'cat'",
    ):
        read.check_fit(["dog", "cow"], ["y_hat"], weights)
    with pytest.raises(InputError, match=r"an output of the model \(y_cls\). Received: 'y_hat'"):
        read.check_fit(["dog", "cat"], ["y_cls"], weights)


def test_thresholds_know_the_weights_they_were_tuned_on(tmp_path):
    path = write(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "final.npz").write_bytes(b"weights")
    result = thresholds.tune_run(path, "validation", "F1-C", per_label=False)
    assert (result["run"], result["weights"]) == (path, hashlib.sha256(b"weights").hexdigest())
