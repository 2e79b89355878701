"""The bootstrap: counting an image as often as drawn is the same as repeating its row."""

import dataclasses

import numpy as np
import pytest

from srn_tf.comparison.bootstrap import draw_resamples, interval, resampled_average_precision, resampled_metrics
from srn_tf.evaluation.protocols import COCO, VOC2007, WIDER_ATTRIBUTE, evaluate

WIDER_EXCLUDED = dataclasses.replace(WIDER_ATTRIBUTE, zero_in_rates="excluded")


def test_resamples_draw_as_many_images_as_there_are():
    counts = draw_resamples(50, 30, seed=3)
    assert counts.shape == (30, 50) and (counts.sum(axis=1) == 50).all()
    np.testing.assert_array_equal(counts, draw_resamples(50, 30, seed=3))
    assert (counts != draw_resamples(50, 30, seed=4)).any()
    assert len(np.unique(counts, axis=0)) == 30 and counts.max() > 1


def test_every_image_is_drawn_equally_often():
    means = draw_resamples(20, 4000, seed=0).mean(axis=0)  # expected 1, standard error 0.015
    assert np.abs(means - 1).max() < 0.08


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([1, 1, 1], (1 + 2 / 3) / 2),
        ([1, 2, 2], (1 + 3 / 5 + 3 / 5) / 3),  # the two copies of the last image: 3 of 5 retrieved
        ([0, 2, 1], 1 / 3),
        ([2, 0, 1], 1),
        ([0, 3, 0], np.nan),
    ],
)
def test_average_precision_by_hand(counts, expected):
    found = resampled_average_precision(
        np.array([3.0, 2.0, 1.0]), np.array([True, False, True]), np.arange(3), np.array([counts], np.uint16)
    )
    assert found == pytest.approx([expected], nan_ok=True)


def test_only_the_rows_named_count():
    """The second of three images is left out: the ranking is image 2, then image 0."""
    counts = np.array([[1, 1, 1], [2, 0, 1], [0, 2, 1]], np.uint16)
    found = resampled_average_precision(np.array([1.0, 2.0]), np.array([True, False]), np.array([0, 2]), counts)
    assert found == pytest.approx([1 / 2, 2 / 3, np.nan], nan_ok=True)


def test_a_label_without_positives_has_no_average_precision():
    counts = draw_resamples(3, 5, seed=0)
    assert np.isnan(resampled_average_precision(np.arange(3.0), np.zeros(3, bool), np.arange(3), counts)).all()


@pytest.mark.parametrize(
    "protocol", [COCO, VOC2007, WIDER_ATTRIBUTE, WIDER_EXCLUDED], ids=["coco", "voc", "wider", "wider excluded"]
)
@pytest.mark.parametrize("ties", [False, True], ids=["no ties", "ties"])
def test_equals_the_metrics_of_repeated_rows(protocol, ties):
    rng = np.random.default_rng(5)
    labels = rng.choice([1, 0, -1], size=(25, 4), p=[0.2, 0.2, 0.6]).astype(np.int8)
    labels[1:, 3] = -1
    labels[0, 3] = 1  # one positive: many resamples are without
    scores = rng.normal(size=(25, 4)).astype(np.float32) + labels
    if ties:
        scores = np.round(scores)
    counts = draw_resamples(25, 40, seed=1)
    found = resampled_metrics(scores, labels, protocol, counts)
    assert 0 < np.isnan(found["AP"][:, 3]).sum() < 40
    for resample, drawn in enumerate(counts):
        rows = np.repeat(np.arange(25), drawn)
        expected = evaluate(scores[rows], labels[rows], protocol)
        np.testing.assert_allclose(found["AP"][resample], np.array(expected["AP"], float), rtol=1e-12)
        for metric in ("mAP", "F1-C", "F1-O"):
            assert found[metric][resample] == pytest.approx(expected["all"][metric], rel=1e-9), metric


def test_mean_ap_is_unknown_without_any_positive():
    labels = np.array([[1, 1], [-1, -1]], np.int8)
    counts = np.array([[1, 1], [0, 2]], np.uint16)
    found = resampled_metrics(np.array([[1.0, -1.0], [0.0, 0.0]]), labels, COCO, counts)
    assert found["mAP"] == pytest.approx([75.0, np.nan], nan_ok=True)  # AP 1 and 1/2


def test_progress_is_told_label_by_label():
    calls = []
    labels = np.eye(3, dtype=np.int8)
    resampled_metrics(labels.astype(float), labels, COCO, draw_resamples(3, 2, 0), lambda: calls.append(1))
    assert len(calls) == 3


def test_interval():
    assert interval(np.arange(1001.0)) == pytest.approx((25.0, 975.0))
    assert interval(np.array([np.nan, *range(1001)])) == pytest.approx((25.0, 975.0))
    assert np.isnan(interval(np.full(4, np.nan))).all()
