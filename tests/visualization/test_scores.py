"""The numbers of the page are the evaluator's, and plain counts."""

import numpy as np
import pytest

from srn_tf.evaluation.metrics import average_precision, log_odds
from srn_tf.evaluation.protocols import COCO, VOC2007, WIDER_ATTRIBUTE, evaluate, protocol_named
from srn_tf.visualization.explained import Answers
from srn_tf.visualization.scores import (
    STEPS,
    interpolated_curve,
    score_answers,
    thinned_curve,
    wrongness,
)

NAMES = ["a", "b", "c", "never"]
THRESHOLDS = np.array([0.5, 0.3, 0.07, 0.5])


def answers(num_images=300, values=(0, 1), seed=0):
    """Answers with many equal and round probabilities; the label "never" is never true."""
    random = np.random.default_rng(seed)
    labels = random.choice(values, (num_images, 4)).astype(np.int8)
    labels[:, 3] = min(values)
    probabilities = np.round(random.random((num_images, 4)), 2).astype(np.float32)
    return Answers(probabilities, probabilities > THRESHOLDS, labels)


def area(curve):
    return float(np.sum(np.diff(curve[:, 0], prepend=0.0) * curve[:, 1]))


@pytest.mark.parametrize("protocol", ["coco", "wider_attribute"])
def test_counts_at_every_threshold_are_those_of_plain_counting(protocol):
    given = answers(values=(-1, 0, 1))
    scores = score_answers(given, protocol_named(protocol), NAMES, THRESHOLDS)
    assert scores.predicted.shape == scores.right.shape == (1 + STEPS, 4)
    truth = given.labels == 1
    np.testing.assert_array_equal(scores.positive, truth.sum(axis=0))
    np.testing.assert_array_equal(scores.predicted[0], given.predicted.sum(axis=0))
    for step in range(1, 100):
        # As a browser has them: a float32 probability and a float64 threshold, both as doubles.
        predicted = [[float(p) > step / 100 for p in row] for row in given.probabilities]
        np.testing.assert_array_equal(scores.predicted[step], np.sum(predicted, axis=0))
        np.testing.assert_array_equal(scores.right[step], np.sum(predicted & truth, axis=0))


def test_ap_and_rates_are_those_of_the_evaluator():
    given = answers()
    scores = score_answers(given, COCO, NAMES, THRESHOLDS)
    expected = evaluate(log_odds(given.probabilities), given.labels, COCO, NAMES, THRESHOLDS)
    assert scores.AP == expected["AP"] and scores.AP[3] is None
    assert scores.mAP == expected["all"]["mAP"]
    assert scores.without_positives == ["never"]
    columns = ("P-O", "R-O", "F1-O", "P-C", "R-C", "F1-C")
    np.testing.assert_allclose(scores.rates[0], [expected["all"][column] for column in columns])
    for step in (1, 35, 99):
        table = evaluate(log_odds(given.probabilities), given.labels, COCO, NAMES, step / 100 + 1e-9)["all"]
        # Probabilities have two digits, so none lies between the threshold and the one a little higher.
        np.testing.assert_allclose(scores.rates[step], [table[column] for column in columns])


@pytest.mark.parametrize("protocol", [COCO, WIDER_ATTRIBUTE, VOC2007])
def test_area_under_each_curve_is_the_ap(protocol):
    scores = score_answers(answers(values=(-1, 0, 1)), protocol, NAMES, THRESHOLDS)
    for AP, curve in zip(scores.AP[:3], scores.curves[:3], strict=True):
        assert 100 * area(curve) == pytest.approx(AP, abs=1e-9)
    assert scores.curves[3].shape == (0, 2)


def test_unspecified_labels_are_left_out_of_ap():
    given = answers(values=(-1, 0, 1))
    known = given.labels[:, 0] != 0
    expected = average_precision(given.probabilities[known, :1], given.labels[known, :1] == 1)
    assert score_answers(given, WIDER_ATTRIBUTE, NAMES, THRESHOLDS).AP[0] == pytest.approx(100 * expected[0])


def test_curve_by_hand():
    # Ranked: right, false, right, right, false. Precision at the positives: 1, 2/3, 3/4; interpolated 1, 3/4, 3/4.
    curve = interpolated_curve(np.array([0.9, 0.8, 0.7, 0.6, 0.1]), np.array([True, False, True, True, False]))
    np.testing.assert_allclose(curve, [[1 / 3, 1.0], [1.0, 0.75]])


@pytest.mark.parametrize("num_steps", [1, 7, 300])
def test_thinned_curve_keeps_its_area_and_end(num_steps):
    recall = np.sort(np.random.default_rng(1).random(1000))
    curve = np.stack([recall, np.linspace(1.0, 0.2, 1000)], axis=1)
    thin = thinned_curve(curve, num_steps)
    assert len(thin) <= num_steps and thin[-1, 0] == recall[-1]
    assert area(thin) == pytest.approx(area(curve), abs=1e-12)
    assert (np.diff(thin[:, 1]) < 0).all()
    assert thinned_curve(thin, num_steps) is thin


def test_wrongness_is_the_cross_entropy():
    probabilities = np.array([[0.9, 0.2], [0.5, 0.4]], np.float32)
    labels = np.array([[1, -1], [-1, 0]], np.int8)
    expected = [-np.log(0.9) - np.log(0.8), -np.log(0.5) - np.log(0.6)]
    np.testing.assert_allclose(wrongness(probabilities, labels, COCO), expected, rtol=1e-6)
    known = [expected[0], -np.log(0.5)]
    np.testing.assert_allclose(wrongness(probabilities, labels, WIDER_ATTRIBUTE), known, rtol=1e-6)
