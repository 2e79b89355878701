"""Multi-label metrics in NumPy: average precision, precision / recall / F1, and which labels are predicted.

The main definitions are those of the authors' MATLAB functions AP_VOC, get_mAP_eccv16, precision_recall_f1 and evaluate
(github.com/zhufengx/SRN_multilabel), so that numbers can be compared with the published tables. The others are those of
papers and packages that give the same names another meaning.
All values here are fractions in [0, 1]; srn_tf.evaluation.protocols turns them into percent.
Axes: N images, C labels.
"""

from dataclasses import dataclass

import numpy as np

from srn_tf.errors import InputError
from srn_tf.evaluation.blocks import columns, row_blocks

# MATLAB's eps, which the authors add to counts instead of testing for zero.
EPS = float(np.finfo(np.float64).eps)
AP_DEFINITIONS = ("voc_all_points", "rank", "sklearn", "voc_11_point")
AP_BOUNDS = ("lowest", "highest")  # of voc_all_points, over all orders of images with equal scores
_MANY_TIES = 16  # tied scores among a label's positives from which on ranking all images is faster


@dataclass(frozen=True)
class DecisionCounts:
    """Number of images for which a label is predicted and true, predicted, and true; int (C,) each."""

    true_positive: np.ndarray
    predicted: np.ndarray
    positive: np.ndarray

    def __add__(self, other):
        """The counts over the images of both."""
        return DecisionCounts(
            self.true_positive + other.true_positive, self.predicted + other.predicted, self.positive + other.positive
        )


@dataclass(frozen=True)
class PrecisionRecallF1:
    """Precision, recall and F1 per class (mean over labels) and overall (all decisions pooled); fractions.

    f1_c is the mean of the labels' F1, as in SRN's own table rows. f1_c_harmonic is the harmonic mean of p_c and r_c,
    as in the older rows (KNN, WARP, CNN-RNN).
    """

    p_c: float
    r_c: float
    f1_c: float
    f1_c_harmonic: float
    p_o: float
    r_o: float
    f1_o: float


def average_precision(scores, positives, counted=None, definition="voc_all_points"):
    """Average precision of each label under one definition.

    Args:
        scores, positives, counted: as for `average_precisions`.
        definition: one of AP_DEFINITIONS.
    Returns:
        float64 (C,), in [0, 1]; NaN where a label has no counted positive.
    Raises:
        InputError: the arrays are not of one shape (N, C), or there is no such definition.
    """
    if definition not in AP_DEFINITIONS:
        raise InputError(f"definition must be one of {', '.join(AP_DEFINITIONS)}. Received: {definition!r}.")
    return average_precisions(scores, positives, counted)[definition]


def average_precisions(scores, positives, counted=None):
    """Average precision of each label under every definition of AP_DEFINITIONS, from one sort per label.

    Images are ranked by descending score. Precision at a positive is the share of positives among all
    images down to its rank.

    - voc_all_points: mean over the positives of the highest precision at their rank or later. This is the area under
      the interpolated precision-recall curve at all points (VOC since 2010). Source: AP_VOC.m; with `counted`,
      get_mAP_eccv16.m, which equals AP_VOC.m on the counted rows.
    - rank: mean over the positives of the precision. Source: ML-GCN, ASL.
    - sklearn: sum over distinct scores of precision * change of recall; equal scores enter together. Source:
      sklearn.metrics.average_precision_score. Without equal scores it is the same as rank.
    - voc_11_point: mean over the recalls 0, 0.1 ... 1 of the highest precision at that recall or later (VOC 2007).

    Except for sklearn, images with equal scores keep their order, as in the authors' code. AP_BOUNDS show how much that
    order matters: they are voc_all_points if, among equal scores, the positives come last ("lowest") or first
    ("highest").

    Args:
        scores: float (N, C), finite; logits, probabilities or any monotone function of them.
        positives: bool (N, C), where the label is true.
        counted: bool (N, C) or None; False leaves that image out for that label. None counts all.
    Returns:
        dict: each of AP_DEFINITIONS, AP_BOUNDS -> float64 (C,), in [0, 1]; NaN where a label has no counted positive.
    Raises:
        InputError: the arrays are not of one shape (N, C).
    """
    scores, positives = np.asarray(scores), np.asarray(positives, dtype=bool)
    _check_same_matrix("scores", scores, "positives", positives)
    if counted is not None:
        counted = np.asarray(counted, dtype=bool)
        _check_same_matrix("scores", scores, "counted", counted)
    by_label = zip(columns(scores), columns(positives), columns(counted), strict=False)
    return average_precisions_by_label(by_label, scores.shape[1])


def average_precisions_by_label(by_label, num_labels):
    """Like `average_precisions`, but labels come one by one, so that no matrix is needed.

    Args:
        by_label: C tuples (scores, positives, counted), (N,) each; counted may be None.
        num_labels: C.
    Returns:
        dict definition -> float64 (C,), as from `average_precisions`.
    """
    names = AP_DEFINITIONS + AP_BOUNDS
    ap = np.full((len(names), num_labels), np.nan)
    for label, (column, is_positive, is_counted) in enumerate(by_label):
        if is_counted is not None:
            column, is_positive = column[is_counted], is_positive[is_counted]
        if is_positive.any():
            ap[:, label] = _label_ap(*_positive_ranks(as_floats(column), is_positive))
    return dict(zip(names, ap, strict=True))


def _label_ap(ranks, first_ranks, last_ranks):
    """AP of one label under AP_DEFINITIONS and AP_BOUNDS, in this order, from the results of `_positive_ranks`."""
    precision = np.arange(1, ranks.size + 1) / ranks
    interpolated = _interpolated(precision)
    lowest = highest = interpolated.mean()
    if (first_ranks < last_ranks).any():
        place = np.arange(ranks.size)
        above = np.searchsorted(last_ranks, last_ranks)  # positives with higher scores
        below = np.searchsorted(last_ranks, last_ranks, side="right")  # including those with the same score
        lowest = _interpolated((place + 1) / (last_ranks - (below - 1 - place))).mean()
        highest = _interpolated((place + 1) / (first_ranks + (place - above))).mean()
    # Equal scores enter together, so each positive has the precision at the last rank of its score.
    grouped = np.searchsorted(ranks, last_ranks, side="right") / last_ranks
    # The first positive with recall >= t / 10, in whole numbers, so that rounding does not matter.
    firsts = np.maximum(-(-np.arange(11) * ranks.size // 10), 1) - 1
    return interpolated.mean(), precision.mean(), grouped.mean(), interpolated[firsts].mean(), lowest, highest


def _interpolated(precision):
    """The highest precision at each positive or later."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def _positive_ranks(scores, is_positive):
    """Ranks of the positives of one label among its images, from the highest score down.

    Sorts values, which NumPy does many times faster than it ranks indices. The order of the images matters only if
    scores are equal.

    Args:
        scores: float32 or float64 (N,), finite.
        is_positive: bool (N,), P of them true.
    Returns:
        ranks: int64 (P,), ascending, from 1; images with equal scores keep their order.
        first_ranks, last_ranks: int64 (P,), for each positive the ranks of the first and the last image with its score.
    """
    ascending = np.sort(scores)
    values = np.sort(scores[is_positive])[::-1]
    first_ranks = scores.size + 1 - np.searchsorted(ascending, values, side="right")
    last_ranks = scores.size - np.searchsorted(ascending, values)
    tied = np.unique(values[first_ranks < last_ranks])
    if tied.size > _MANY_TIES:
        ranks = np.flatnonzero(is_positive[descending_order(scores)]) + 1
    else:
        ranks = first_ranks.copy()
        for value in tied:
            ranks[values == value] += np.flatnonzero(is_positive[scores == value])
    return ranks, first_ranks, last_ranks


def descending_order(scores):
    """Indices that rank the scores from the highest down; equal scores keep their given order.

    Equals np.argsort(-scores, kind="stable") and is several times as fast, because it sorts plain integers: the score
    rounded to float32 in the upper 32 bits, the index in the lower 32. Rounding keeps the order but may make close
    float64 scores equal; a stable sort of the almost sorted result corrects that.

    Args:
        scores: float32 or float64 (N,), finite, N below 2**32.
    Returns:
        int64 (N,), a permutation of 0..N-1.
    """
    with np.errstate(over="ignore"):  # values beyond float32 become infinity, which keeps the order too
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


def count_decisions(predicted, positives, counted=None):
    """Counts, label by label, the decisions that `precision_recall_f1` needs.

    Args:
        predicted: bool (N, C), the labels that the model predicts.
        positives: bool (N, C), where the label is true.
        counted: bool (N, C) or None; False leaves that image out for that label. None counts all.
    Returns:
        DecisionCounts.
    Raises:
        InputError: the arrays are not of one shape (N, C).
    """
    predicted = np.asarray(predicted, dtype=bool)
    positives = np.asarray(positives, dtype=bool)
    _check_same_matrix("predicted", predicted, "positives", positives)
    if counted is not None:
        counted = np.asarray(counted, dtype=bool)
        _check_same_matrix("predicted", predicted, "counted", counted)
        predicted, positives = predicted & counted, positives & counted
    return DecisionCounts(
        true_positive=_sum_over_images(predicted & positives),
        predicted=_sum_over_images(predicted),
        positive=_sum_over_images(positives),
    )


def precision_recall_f1(counts, convention="authors"):
    """Precision, recall and F1 of counted decisions.

    authors: eps = 2**-52 is added to the true positive, predicted and positive counts: P = TP / predicted,
    R = TP / positive + eps, F1 = 2 P R / (P + R). So a label that is never predicted has P = 1 and F1 about
    0, a label without positives has R = 1, and a label with neither has P = R = F1 = 1.
    Source: precision_recall_f1.m.

    plain: a rate with nothing to divide by is 0: P of a label that is never predicted, R of a label without positives,
    F1 if P + R is 0.

    Args:
        counts: DecisionCounts.
        convention: "authors" or "plain".
    Returns:
        PrecisionRecallF1, fractions.
    Raises:
        InputError: there is no such convention.
    """
    if convention not in _RATES:
        raise InputError(f"convention must be one of {', '.join(_RATES)}. Received: {convention!r}.")
    rates = _RATES[convention]
    P, R, F1 = rates(counts.true_positive, counts.predicted, counts.positive)  # (C,) each
    p_o, r_o, f1_o = rates(counts.true_positive.sum(), counts.predicted.sum(), counts.positive.sum())
    p_c, r_c = P.mean(), R.mean()  # mean over labels
    return PrecisionRecallF1(
        p_c=float(p_c),
        r_c=float(r_c),
        f1_c=float(F1.mean()),
        f1_c_harmonic=float(_ratio(2 * p_c * r_c, p_c + r_c)),
        p_o=float(p_o),
        r_o=float(r_o),
        f1_o=float(f1_o),
    )


def sigmoid(scores):
    """Turns logits into probabilities. A very negative logit gives 0 without a warning.

    Args:
        scores: real array of at least one axis.
    Returns:
        float64, the same shape.
    """
    p = np.negative(as_floats(scores), dtype=np.float64)
    with np.errstate(over="ignore"):
        np.exp(p, out=p)
    p += 1.0
    return np.divide(1.0, p, out=p)


def log_odds(probabilities):
    """The logits of probabilities.

    Args:
        probabilities: float (N, C), in [0, 1].
    Returns:
        float64 (N, C), in the same order. Probabilities that were rounded to 0 or 1 give finite values too: half a step
        of the dtype beyond the nearest probability that was not.
    """
    probabilities = as_floats(probabilities)
    limits = np.finfo(probabilities.dtype)
    p = probabilities.astype(np.float64)
    with np.errstate(divide="ignore"):
        odds = np.log(p) - np.log1p(-p)
    return np.clip(odds, np.log(np.float64(limits.smallest_subnormal)) - 1, -np.log(np.float64(limits.eps) / 4))


def check_k(k, num_labels):
    """Raises InputError if k is not in 1..C."""
    if not 1 <= k <= num_labels:
        raise InputError(f"k must be from 1 to the number of labels. Received: k = {k} for {num_labels} labels.")


def top_k(scores, k, min_probability=None):
    """The k highest labels of each image. Among equal scores, the first label wins.

    Args:
        scores: float (N, C), logits, finite.
        k: int, 1 to C.
        min_probability: float in [0, 1] or None; with it, only those of the k with sigmoid(score) >= min_probability.
    Returns:
        bool (N, C); k true values per row, or at most k with `min_probability`.
    Raises:
        InputError: scores is not rank 2, or k is not in 1..C.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2:
        raise InputError(f"scores must be a matrix, images x labels. Received: shape {scores.shape}.")
    num_labels = scores.shape[1]
    check_k(k, num_labels)
    is_chosen = np.zeros(scores.shape, dtype=bool)
    for block in row_blocks(scores):
        left = np.array(as_floats(scores[block]), order="C")
        rows = np.arange(len(left))
        for _ in range(k):
            highest = left.argmax(axis=1)  # the first of equal ones
            passes = min_probability is None or sigmoid(left[rows, highest]) >= min_probability
            is_chosen[block][rows, highest] = passes
            left[rows, highest] = -np.inf
    return is_chosen


def _authors_rates(true_positive, predicted, positive):
    """Precision, recall and F1 of counts (scalars or arrays of one shape); see precision_recall_f1."""
    P = (true_positive + EPS) / (predicted + EPS)
    R = (true_positive + EPS) / (positive + EPS) + EPS
    return P, R, 2 * P * R / (P + R)


def _plain_rates(true_positive, predicted, positive):
    """The same under the plain convention; 2 TP / (predicted + positive) equals 2 P R / (P + R)."""
    return (
        _ratio(true_positive, predicted),
        _ratio(true_positive, positive),
        _ratio(2 * true_positive, predicted + positive),
    )


_RATES = {"authors": _authors_rates, "plain": _plain_rates}


def _sum_over_images(flags):
    """bool (N, C) -> int64 (C,). Summing bytes in 32 bits is twice as fast as np.count_nonzero."""
    return flags.view(np.uint8).sum(axis=0, dtype=np.uint32).astype(np.int64)


def _ratio(numerator, denominator):
    """The quotient, or 0 where the denominator is 0; scalars or arrays of one shape."""
    denominator = np.asarray(denominator, dtype=np.float64)
    return np.divide(numerator, denominator, out=np.zeros(denominator.shape), where=denominator > 0)


def as_floats(values):
    """An array of float32 or float64. Other real dtypes become float64, so that it is safe to negate."""
    values = np.asarray(values)
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)


def _check_same_matrix(name, array, other_name, other):
    if array.ndim != 2 or array.shape != other.shape:
        raise InputError(
            f"{name} and {other_name} must be matrices of one shape, images x labels. "
            f"Received: {name} {array.shape}, {other_name} {other.shape}."
        )
