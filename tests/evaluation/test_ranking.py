"""Metrics of the order of labels, worked by hand; random cases are in test_protocols."""

import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.evaluation.ranking import ranking_metrics


def test_by_hand():
    """The first image is right throughout; the second has its one true label third of three and none predicted."""
    scores = np.array([[3.0, 2.0, -1.0], [1.0, 0.5, -2.0]])
    positives = np.array([[1, 1, 0], [0, 0, 1]], bool)
    predicted = np.array([[1, 1, 0], [0, 0, 0]], bool)
    found = ranking_metrics(scores, positives, predicted)
    assert found.pop("note")
    assert found == pytest.approx(
        {
            "LRAP": 100 * (1 + 1 / 3) / 2,
            "coverage_error": (2 + 3) / 2,
            "ranking_loss": 100 * (0 + 1) / 2,
            "hamming_loss": 100 * 1 / 6,
            "subset_accuracy": 50,
        }
    )


def test_one_label_has_no_order():
    with pytest.raises(InputError, match="at least two labels. Received: 1 label"):
        ranking_metrics(np.zeros((2, 1)), np.zeros((2, 1), bool), np.zeros((2, 1), bool))
