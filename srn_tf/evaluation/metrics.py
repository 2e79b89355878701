"""Multi-label metrics in NumPy: average precision, precision / recall / F1, and which labels are predicted.

The definitions are those of the authors' MATLAB functions AP_VOC, get_mAP_eccv16, precision_recall_f1
and evaluate (github.com/zhufengx/SRN_multilabel), so that numbers compare with the published tables.
All values here are fractions in [0, 1]; srn_tf.evaluation.protocols turns them into percent.
Axes: N images, C labels.
"""

from dataclasses import dataclass

import numpy as np

from srn_tf.errors import InputError

# MATLAB's eps, which the authors add to counts instead of testing for zero.
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class PrecisionRecallF1:
    """Precision, recall and F1 per class (mean over labels) and overall (all decisions pooled); fractions.

    f1_c is the mean over labels of each label's F1, the form of SRN's own table rows; f1_c_harmonic is
    the harmonic mean of p_c and r_c, the form of the older rows (KNN, WARP, CNN-RNN).
    """

    p_c: float
    r_c: float
    f1_c: float
    f1_c_harmonic: float
    p_o: float
    r_o: float
    f1_o: float


def average_precision(scores, positives, counted=None):
    """Average precision of each label: the all-points area under the interpolated precision-recall curve.

    Images are ranked by descending score; images with equal scores keep their order. With the precision
    at each positive replaced by the highest precision at that rank or later, AP is the mean of it over
    the positives, which is the sum of (change of recall) * precision of the VOC definition (2010 on).

    Source: AP_VOC.m; with `counted`, get_mAP_eccv16.m, which equals AP_VOC.m on the counted rows.

    Args:
        scores: float (N, C), finite; any monotone scale (logits or probabilities).
        positives: bool (N, C), where the label is true.
        counted: bool (N, C) or None; False leaves that image out for that label. None counts all.
    Returns:
        float64 (C,), in [0, 1]; NaN where a label has no counted positive.
    Raises:
        InputError: the arrays are not of one shape (N, C).
    """
    scores = _as_floats(scores)
    positives = np.asarray(positives, dtype=bool)
    _check_same_matrix("scores", scores, "positives", positives)
    if counted is not None:
        counted = np.asarray(counted, dtype=bool)
        _check_same_matrix("scores", scores, "counted", counted)

    ap = np.full(scores.shape[1], np.nan)
    # Label by label: the memory beside the inputs is a few columns of N.
    for label in range(scores.shape[1]):
        rows = slice(None) if counted is None else counted[:, label]
        column = np.ascontiguousarray(scores[rows, label])
        is_positive = np.ascontiguousarray(positives[rows, label])
        ranks = np.flatnonzero(is_positive[descending_order(column)]) + 1
        if ranks.size:
            precision = np.arange(1, ranks.size + 1) / ranks
            ap[label] = np.maximum.accumulate(precision[::-1]).mean()  # mean over the positives
    return ap


def descending_order(scores):
    """Indices that rank the scores from the highest down, equal scores in their given order.

    The same as np.argsort(-scores, kind="stable") and several times as fast, because it sorts plain
    integers: the score rounded to float32 in the upper 32 bits, the index in the lower 32. Rounding keeps
    the order but may make close float64 scores equal; a stable sort of the almost sorted rest mends that.

    Args:
        scores: float32 or float64 (N,), finite, N below 2**32.
    Returns:
        int64 (N,), a permutation of 0..N-1.
    """
    with np.errstate(over="ignore"):  # beyond float32 is infinity, which keeps the order too
        rounded = (-scores).astype(np.float32) + np.float32(0)  # adding zero makes -0 and 0 one
    bits = rounded.view(np.int32)
    bits ^= (bits >> 31) & np.int32(0x7FFFFFFF)  # IEEE 754 to integers of the same order
    keys = (bits.astype(np.int64) << 32) | np.arange(scores.size)
    keys.sort()
    order = keys & 0xFFFFFFFF
    ranked = scores[order]
    if (ranked[1:] > ranked[:-1]).any():
        order = order[np.argsort(-ranked, kind="stable")]
    return order


def precision_recall_f1(predicted, positives):
    """Precision, recall and F1 with the authors' eps convention.

    With eps = 2**-52 added to the true positive, predicted and positive counts:
    P = TP / predicted, R = TP / positive + eps, F1 = 2 P R / (P + R).
    So a label that is never predicted has P = 1 and F1 about 0, a label without positives has R = 1,
    and a label with neither has P = R = F1 = 1.

    Source: precision_recall_f1.m.

    Args:
        predicted: bool (N, C), the labels the model gives.
        positives: bool (N, C), where the label is true.
    Returns:
        PrecisionRecallF1, fractions.
    Raises:
        InputError: the arrays are not of one shape (N, C).
    """
    predicted = np.asarray(predicted, dtype=bool)
    positives = np.asarray(positives, dtype=bool)
    _check_same_matrix("predicted", predicted, "positives", positives)
    true_positive_counts = np.count_nonzero(predicted & positives, axis=0)  # (C,), sum over images
    predicted_counts = np.count_nonzero(predicted, axis=0)
    positive_counts = np.count_nonzero(positives, axis=0)

    P, R, F1 = _rates(true_positive_counts, predicted_counts, positive_counts)  # (C,) each
    p_o, r_o, f1_o = _rates(true_positive_counts.sum(), predicted_counts.sum(), positive_counts.sum())
    p_c, r_c = P.mean(), R.mean()  # mean over labels
    return PrecisionRecallF1(
        p_c=float(p_c),
        r_c=float(r_c),
        f1_c=float(F1.mean()),
        f1_c_harmonic=float(2 * p_c * r_c / (p_c + r_c)),
        p_o=float(p_o),
        r_o=float(r_o),
        f1_o=float(f1_o),
    )


def predict_positive(scores):
    """The labels whose probability is above one half: sigmoid(score) > 0.5, strictly.

    Source: evaluate.m.

    Args:
        scores: float (N, C), logits.
    Returns:
        bool (N, C).
    """
    return _sigmoid(scores) > 0.5


def top_k(scores, k, min_probability=None):
    """The k highest labels of each image; of equal scores, the label that comes first.

    Args:
        scores: float (N, C), logits.
        k: int, 1 to C.
        min_probability: float in [0, 1] or None; with it, those of the k with sigmoid(score) >= min_probability.
    Returns:
        bool (N, C); k true values in each row, with `min_probability` at most k.
    Raises:
        InputError: scores is not rank 2, or k is not in 1..C.
    """
    scores = _as_floats(scores)
    if scores.ndim != 2:
        raise InputError(f"scores must be a matrix, images x labels. Received: shape {scores.shape}.")
    num_labels = scores.shape[1]
    if not 1 <= k <= num_labels:
        raise InputError(f"k must be from 1 to the number of labels. Received: k = {k} for {num_labels} labels.")
    highest = np.argsort(-scores, axis=1, kind="stable")[:, :k]  # (N, k)
    is_chosen = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(is_chosen, highest, True, axis=1)
    if min_probability is not None:
        is_chosen &= _sigmoid(scores) >= min_probability
    return is_chosen


def _rates(true_positives, predicted, positive):
    """Precision, recall and F1 of counts (scalars or arrays of one shape); see precision_recall_f1."""
    P = (true_positives + EPS) / (predicted + EPS)
    R = (true_positives + EPS) / (positive + EPS) + EPS
    return P, R, 2 * P * R / (P + R)


def _sigmoid(scores):
    """Logits of any real dtype to float64 probabilities; a very negative logit gives 0 without a warning."""
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-np.asarray(scores, dtype=np.float64)))


def _as_floats(values):
    """An array of float32 or float64; other real dtypes become float64, so that negating is safe."""
    values = np.asarray(values)
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)


def _check_same_matrix(name, array, other_name, other):
    if array.ndim != 2 or array.shape != other.shape:
        raise InputError(
            f"{name} and {other_name} must be matrices of one shape, images x labels. "
            f"Received: {name} {array.shape}, {other_name} {other.shape}."
        )
