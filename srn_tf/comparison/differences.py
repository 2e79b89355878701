"""Differences between the rows of a comparison: of the metrics, with intervals, and of each label's AP."""

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from srn_tf.comparison import bootstrap
from srn_tf.evaluation.blocks import row_blocks

METRICS = ("mAP", "F1-C", "F1-O")


@dataclass(frozen=True)
class Difference:
    """One row less another, percent points; each is first the mean over the row's runs.

    Attributes:
        row, reference: names.
        metrics: key of METRICS -> (difference, low, high); NaN where the metric is not known.
        ap: float64 (C,), of the labels' AP; NaN for a label without positives.
        ap_low, ap_high: float64 (C,), its interval, each label's on its own.
    """

    row: str
    reference: str
    metrics: dict
    ap: np.ndarray
    ap_low: np.ndarray
    ap_high: np.ndarray


def differences_to_first(comparison, num_resamples, seed, title=None):
    """Compares every row with the first, on the same resamples of the images.

    On each resample a metric is first averaged over the runs of a row. So the intervals say what other test
    images would change, not what other seeds would.

    Args:
        comparison: comparison.Comparison.
        num_resamples: int.
        seed: int, of the resamples.
        title: text of the progress bar; None shows none.
    Returns:
        list of Difference, one for every row but the first.
    """
    if len(comparison.rows) == 1:
        return []
    num_images, num_labels = comparison.labels.shape
    counts = bootstrap.draw_resamples(num_images, num_resamples, seed)
    total = num_labels * sum(len(row.runs) for row in comparison.rows)
    with tqdm(total=total, desc=title, unit="label", leave=False, disable=None if title else True) as progress:
        resampled = [_resampled(row, comparison, counts, progress.update) for row in comparison.rows]
    reference, first = comparison.rows[0], resampled[0]
    return [
        _difference(row, reference, values, first)
        for row, values in zip(comparison.rows[1:], resampled[1:], strict=True)
    ]


def mean_cooccurring(labels):
    """How many other labels come along with each label, in the mean over the images that have it.

    Source: Zhu et al., CVPR 2017, Figure 7 (the number of concurrent labels).

    Args:
        labels: int (N, C), 1 is positive.
    Returns:
        float64 (C,); NaN for a label that no image has.
    """
    images, others = np.zeros((2, labels.shape[1]), np.int64)
    for rows in row_blocks(labels):
        positives = labels[rows] == 1
        images += positives.sum(axis=0)
        others += positives.T @ (positives.sum(axis=1) - 1)
    return np.divide(others, images, out=np.full(len(images), np.nan), where=images > 0)


def correlation(x, y):
    """Pearson's correlation of two values of the labels.

    Args:
        x, y: float (C,); labels where one is NaN are left out.
    Returns:
        float in [-1, 1]; None with fewer than three labels, or if one value is the same for all.
    """
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _resampled(row, comparison, counts, on_label):
    """Metric -> values on the resamples, each the mean over the row's runs."""
    runs = [
        bootstrap.resampled_metrics(run.scores, comparison.labels, comparison.protocol, counts, on_label)
        for run in row.runs
    ]
    return {metric: np.mean([run[metric] for run in runs], axis=0) for metric in runs[0]}


def _difference(row, reference, values, first):
    intervals = {metric: bootstrap.interval(values[metric] - first[metric]) for metric in METRICS}
    of_labels = np.array([bootstrap.interval(column) for column in (values["AP"] - first["AP"]).T])
    return Difference(
        row.name,
        reference.name,
        {metric: (_mean(row, metric) - _mean(reference, metric), *intervals[metric]) for metric in METRICS},
        row.ap - reference.ap,
        *of_labels.T,
    )


def _mean(row, metric):
    values = row.values("all", metric)
    return np.nan if values is None else float(values.mean())
