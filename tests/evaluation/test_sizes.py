"""mAP by size against cases worked by hand, and against AP of the rows that are left."""

import json

import numpy as np
import pytest

from srn_tf.evaluation import metrics
from srn_tf.evaluation.protocols import COCO, VOC2007
from srn_tf.evaluation.sizes import BoxSizes, LabelSizes, mean_ap_by_size


def test_the_largest_box_counts():
    sizes = BoxSizes()
    assert sizes.result() is None
    sizes.update([[0, 0, 0.5, 0.5], [0, 0, 0.1, 0.1], [0.25, 0.5, 0.5, 1.5]], [2, 0, 2])  # one leaves the image
    sizes.update(np.zeros((0, 4)), [])
    sizes.update([[0, 0, 0.1, 0.2], [0.5, 0.5, 1, 1]], np.array([1, 1]))
    found = sizes.result()
    assert (found.rows.tolist(), found.labels.tolist()) == ([0, 0, 2], [0, 2, 1])
    np.testing.assert_allclose(found.shares, [0.01, 0.25, 0.25])


# Label 0: positives in rows 0 (small), 2 (large), 3 (small), 5 (without a box); row 6 is not known.
SCORES = np.array([[9, 0], [8, 0], [7, 0], [6, 0], [5, 0], [8.5, 0], [9.5, 1]], np.float32)
LABELS = np.array([[1, -1], [-1, -1], [1, -1], [1, -1], [-1, -1], [1, -1], [0, -1]], np.int8)
FOUND = LabelSizes(np.array([0, 0, 2, 3]), np.array([0, 1, 0, 0]), np.array([0.002, 0.5, 0.1, 0.0099]))


def test_by_hand():
    """Small: rows 0, 1 (negative), 3, 4 (negative): precisions 1 and 2/3. Large: 1, 2, 4: 1/2. A box of no positive
    is of no size; nor is row 5, which is no negative either. Where 0 is negative, row 6 stands before all."""
    result = mean_ap_by_size(SCORES, LABELS, VOC2007, FOUND)
    assert json.loads(json.dumps(result)) == result
    assert result["mAP_by_size"] == pytest.approx({"small": 100 * 5 / 6, "medium": None, "large": 50.0})
    assert result["sizes"]["labels"] == {"small": 1, "medium": 0, "large": 1}
    assert result["sizes"]["pairs"] == {"small": 2, "medium": 0, "large": 1}
    by_size = mean_ap_by_size(SCORES, LABELS, COCO, FOUND)["mAP_by_size"]
    assert by_size == pytest.approx({"small": 50.0, "medium": None, "large": 100 / 3})


def test_equals_ap_without_the_other_positives():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(200, 6)).astype(np.float32).round(1), rng.choice([-1, 1], (200, 6), p=[0.7, 0.3])
    rows, columns = np.nonzero(rng.random((200, 6)) < 0.6)
    shares = rng.choice([0.005, 0.05, 0.5], len(rows))
    result = mean_ap_by_size(scores, labels, COCO, LabelSizes(rows, columns, shares))
    for size, share in {"small": 0.005, "medium": 0.05, "large": 0.5}.items():
        is_of_size = np.zeros(labels.shape, bool)
        is_of_size[rows[shares == share], columns[shares == share]] = True
        positives = (labels == 1) & is_of_size
        ap = metrics.average_precision(scores, positives, positives | (labels == -1))
        assert result["mAP_by_size"][size] == pytest.approx(100 * ap.mean())
        assert result["sizes"]["pairs"][size] == positives.sum() > 0
