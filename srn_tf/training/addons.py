"""Validation metrics of tensorflow-addons, the one module that uses that package.

tensorflow-addons ended its life in 2024 and ties the project to TensorFlow 2.15; to leave it, this
file is the only one to replace.
"""

import functools
import operator
import warnings

import numpy as np

from srn_tf.evaluation.blocks import row_blocks
from srn_tf.evaluation.metrics import count_decisions

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its end-of-life notice, printed at every import
    import tensorflow_addons as tfa

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
    # Counted here, and only the scores are that package's: its own counts are of float32, and take 34 bytes a pair.
    true_positive = counts.true_positive
    false_positive, false_negative = counts.predicted - true_positive, counts.positive - true_positive
    true_negative = len(y) - true_positive - false_positive - false_negative
    f1 = {}
    for average, total in (("macro", np.asarray), ("micro", np.sum)):
        score = tfa.metrics.F1Score(y.shape[1], average=average, threshold=THRESHOLD)
        score.true_positives.assign(total(true_positive))
        score.false_positives.assign(total(false_positive))
        score.false_negatives.assign(total(false_negative))
        f1[f"F1-{average}"] = 100.0 * float(score.result())
    confusion = np.stack([true_negative, false_positive, false_negative, true_positive], axis=1)
    return {**f1, "confusion": confusion.tolist()}
