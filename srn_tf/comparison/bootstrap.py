"""Bootstrap over images: how far a metric moves when the images of the split are drawn again, with replacement.

Two models are compared on the same draws (a paired bootstrap), so that what is hard or easy in a draw is so for
both. A resample is never built: an image drawn n times counts n times, in one ranking made once.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile intervals).
Axes: R resamples, N images, C labels.
"""

import numpy as np

from srn_tf.evaluation import metrics
from srn_tf.evaluation.blocks import columns, row_blocks

LEVEL = 95  # percent of the resamples inside an interval
_BLOCK = 64  # resamples multiplied at a time


def draw_resamples(num_images, num_resamples, seed):
    """Draws N of N images with replacement, R times.

    Args:
        num_images: int, N.
        num_resamples: int, R.
        seed: int; the same seed draws the same.
    Returns:
        uint16 (R, N), how often each image is drawn; each row sums to N.
    """
    rng = np.random.default_rng(seed)
    counts = np.empty((num_resamples, num_images), np.uint16)
    for row in counts:
        row[:] = np.bincount(rng.integers(num_images, size=num_images), minlength=num_images)
    return counts


def resampled_metrics(scores, labels, protocol, counts, on_label=None):
    """The metrics of one output on every resample, as `protocols.evaluate` gives them for the drawn images.

    Args:
        scores: float (N, C), logits, finite.
        labels: int (N, C), -1, 0 or 1.
        protocol: protocols.Protocol.
        counts: uint16 (R, N), see `draw_resamples`.
        on_label: called without arguments after every label, or None; most of the time goes by labels.
    Returns:
        dict, percent: "AP" float64 (R, C), NaN where no positive of the label was drawn; "mAP" (R,), its mean over
        the other labels, NaN if there are none; "F1-C" and "F1-O" (R,), of sigmoid(score) > 0.5.
    """
    ap = np.empty((len(counts), labels.shape[1]))
    for label, (column, truth) in enumerate(zip(columns(scores), columns(labels), strict=True)):
        rows = np.flatnonzero(truth) if protocol.zero_in_ap == "excluded" else np.arange(len(labels))
        ap[:, label] = 100 * resampled_average_precision(column[rows], truth[rows] == 1, rows, counts)
        if on_label:
            on_label()
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN where no label has a positive
        mean_ap = np.nansum(ap, axis=1) / np.count_nonzero(~np.isnan(ap), axis=1)  # mean over labels
    return {"AP": ap, "mAP": mean_ap, **_resampled_f1(scores, labels, protocol, counts)}


def resampled_average_precision(scores, is_positive, rows, counts):
    """Average precision of one label (all points, interpolated) on every resample.

    Equals metrics.average_precision of the rows repeated as often as drawn: copies have one score and so
    stand together, and the precision at the last of them is the highest.

    Args:
        scores: float (M,), of the images that count for this label.
        is_positive: bool (M,).
        rows: int (M,), which images those are, ascending.
        counts: uint16 (R, N).
    Returns:
        float64 (R,), in [0, 1]; NaN where no positive was drawn.
    """
    ap = np.full(len(counts), np.nan)
    order = np.argsort(-scores, kind="stable")
    places = np.flatnonzero(is_positive[order])  # (P,), of the positives in the ranking
    if not places.size:
        return ap
    order = rows[order[: places[-1] + 1]]  # what comes after the last positive does not matter
    for resample, drawn in enumerate(counts):
        ranked = drawn[order]
        weights = ranked[places]
        retrieved = np.cumsum(ranked, dtype=np.int64)[places]
        true_positives = np.cumsum(weights, dtype=np.int64)
        if true_positives[-1]:
            precision = true_positives / np.maximum(retrieved, 1)  # 0 until something is retrieved
            interpolated = np.maximum.accumulate(precision[::-1])[::-1]
            ap[resample] = weights @ interpolated / true_positives[-1]  # mean over the positives drawn
    return ap


def interval(values):
    """The percentile interval that holds `LEVEL` percent of the resamples.

    Args:
        values: float (R,); NaN, a resample without the metric, is left out.
    Returns:
        (low, high), floats; (NaN, NaN) if nothing is left.
    """
    known = values[~np.isnan(values)]
    if not known.size:
        return np.nan, np.nan
    low, high = np.percentile(known, [50 - LEVEL / 2, 50 + LEVEL / 2])
    return float(low), float(high)


def _resampled_f1(scores, labels, protocol, counts):
    """F1-C and F1-O on every resample, percent, in the authors' convention."""
    num_labels = labels.shape[1]
    sums = np.zeros((len(counts), 3, num_labels))  # of true positives, predicted and positive, over the drawn images
    for rows in row_blocks(scores, labels):
        positives = labels[rows] == 1
        predicted = metrics.sigmoid(scores[rows]) > 0.5
        if protocol.zero_in_rates == "excluded":
            predicted &= labels[rows] != 0
        decisions = np.concatenate([predicted & positives, predicted, positives], axis=1).astype(np.float32)
        for start in range(0, len(counts), _BLOCK):
            # Whole numbers, which float32 holds exactly up to 2**24.
            part = counts[start : start + _BLOCK, rows].astype(np.float32) @ decisions  # (block, 3 C)
            sums[start : start + _BLOCK] += part.reshape(-1, 3, num_labels)
    f1_c, f1_o = np.empty(len(counts)), np.empty(len(counts))
    for resample, of_resample in enumerate(sums):
        rates = metrics.precision_recall_f1(metrics.DecisionCounts(*of_resample))
        f1_c[resample], f1_o[resample] = 100 * rates.f1_c, 100 * rates.f1_o
    return {"F1-C": f1_c, "F1-O": f1_o}
