"""F1 and confusion of validation: of tensorflow-addons where there is one, else of keras.metrics.

The one module that uses tensorflow-addons, which ended its life in 2024 and ties the card's stack to TensorFlow 2.15.
"""

import functools
import operator
import warnings

import numpy as np

from srn_tf import stack
from srn_tf.evaluation.blocks import row_blocks
from srn_tf.evaluation.metrics import count_decisions

if stack.HAS_ADDONS:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its end-of-life notice, printed at every import
        from tensorflow_addons.metrics import F1Score
else:
    from keras.metrics import F1Score

THRESHOLD = 0.5


def f1_and_confusion(probabilities, y):
    """Macro and micro F1 and the confusion matrix of each label at probability 0.5.

    Args:
        probabilities: float32 (N, C), an array or blocks.Derived.
        y: float32 (N, C) in {0, 1}, likewise.
    Returns:
        dict: "F1-macro" and "F1-micro" in percent, "confusion" a list of C rows
        [true negatives, false positives, false negatives, true positives].
    """
    blocks = row_blocks(probabilities, y)
    counts = [count_decisions(probabilities[rows] > THRESHOLD, y[rows] == 1) for rows in blocks]
    counts = functools.reduce(operator.add, counts)
    # Counted here, and only the scores are the metric's: its own counts are of float32, and take 34 bytes a pair.
    true_positive = counts.true_positive
    false_positive, false_negative = counts.predicted - true_positive, counts.positive - true_positive
    true_negative = len(y) - true_positive - false_positive - false_negative
    f1 = {}
    for average, total in (("macro", np.asarray), ("micro", np.sum)):
        score = _f1_score(y.shape[1], average)
        score.true_positives.assign(total(true_positive))
        score.false_positives.assign(total(false_positive))
        score.false_negatives.assign(total(false_negative))
        f1[f"F1-{average}"] = 100.0 * float(score.result())
    confusion = np.stack([true_negative, false_positive, false_negative, true_positive], axis=1)
    return {**f1, "confusion": confusion.tolist()}


def _f1_score(num_labels, average):
    """The metric with its counts, all 0."""
    if stack.HAS_ADDONS:
        return F1Score(num_labels, average=average, threshold=THRESHOLD)
    score = F1Score(average=average, threshold=THRESHOLD)
    nothing = np.zeros((1, num_labels), np.float32)
    score.update_state(nothing, nothing)  # only then are there counts
    return score
