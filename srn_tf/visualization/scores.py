"""What a page says of the answers to all images of a split: AP, its curves, and the counts at every threshold."""

import dataclasses

import numpy as np

from srn_tf.evaluation import metrics
from srn_tf.evaluation.blocks import row_blocks
from srn_tf.evaluation.protocols import evaluate

STEPS = 99
"""Thresholds a page can be set to: 0.01, 0.02 ... 0.99, and those of the export."""

_CURVE_STEPS = 300  # more than a page has pixels for
_RATES = ("p_o", "r_o", "f1_o", "p_c", "r_c", "f1_c")


@dataclasses.dataclass(frozen=True)
class Scores:
    """A model's answers against the truth, under a data set's protocol.

    Row 0 of what has 1 + STEPS rows is at the thresholds of the export, row k at k / 100 for every label.

    Attributes:
        AP: C floats, percent; None where a label has no positive. mAP is their mean, None if there is none.
        mAP: float or None.
        without_positives: names of the labels left out of mAP.
        definition: str, what AP and the rates mean.
        positive: int32 (C,), images where the label is true.
        predicted: int32 (1 + STEPS, C), images where it is predicted.
        right: int32 (1 + STEPS, C), images where it is both.
        rates: float64 (1 + STEPS, 6), percent: P-O, R-O, F1-O, P-C, R-C, F1-C as of `metrics.precision_recall_f1`.
        curves: C arrays float64 (K, 2), K <= 300, see `interpolated_curve` and `thinned_curve`.
    """

    AP: list
    mAP: float | None
    without_positives: list
    definition: str
    positive: np.ndarray
    predicted: np.ndarray
    right: np.ndarray
    rates: np.ndarray
    curves: list


def score_answers(answers, protocol, label_names, thresholds):
    """Scores a model's answers by the evaluator.

    Args:
        answers: explained.Answers whose labels are known.
        protocol: evaluation.protocols.Protocol.
        label_names: C names.
        thresholds: float (C,), of the export.
    Returns:
        Scores.
    """
    scores = metrics.log_odds(answers.probabilities)
    evaluated = evaluate(scores, answers.labels, protocol, label_names, thresholds)
    positives = answers.labels == 1
    counted_in_ap, counted = counted_labels(answers.labels, protocol)
    counts = None
    for rows in row_blocks(positives):
        probabilities = answers.probabilities[rows].astype(np.float64)  # as the page compares them
        decisions = [answers.predicted[rows], *(probabilities > step / 100 for step in range(1, STEPS + 1))]
        more = [metrics.count_decisions(decision, positives[rows], counted[rows]) for decision in decisions]
        counts = [a + b for a, b in zip(counts, more, strict=True)] if counts else more
    rates = [metrics.precision_recall_f1(count) for count in counts]
    return Scores(
        AP=evaluated["AP"],
        mAP=evaluated["all"]["mAP"],
        without_positives=evaluated["labels_without_positives"],
        definition=protocol.definition,
        positive=counts[0].positive.astype(np.int32),
        predicted=np.stack([count.predicted for count in counts]).astype(np.int32),
        right=np.stack([count.true_positive for count in counts]).astype(np.int32),
        rates=100 * np.array([[getattr(rate, name) for name in _RATES] for rate in rates]),
        curves=[
            thinned_curve(interpolated_curve(scores[rows, label], positives[rows, label]), _CURVE_STEPS)
            for label, rows in enumerate(counted_in_ap.T)
        ],
    )


def counted_labels(labels, protocol):
    """Which labels are known well enough to be counted, under a protocol.

    Args:
        labels: int (N, C) as stored.
        protocol: evaluation.protocols.Protocol.
    Returns:
        bool (N, C) twice: in AP, and in precision, recall and F1.
    """
    known = (labels != 0) | (not protocol.is_zero_unspecified)
    return tuple(known | (policy == "negative") for policy in (protocol.zero_in_ap, protocol.zero_in_rates))


def interpolated_curve(scores, positives):
    """The interpolated precision-recall curve of one label; the area under it is the AP named voc_all_points.

    Source: VOC 2010 devkit; see `metrics.average_precisions`.

    Args:
        scores: float (N,), finite; images with equal scores keep their order.
        positives: bool (N,).
    Returns:
        float64 (K, 2), K <= number of positives: steps of (recall, precision) in order of recall; each precision holds
        from the recall of the step before, the first from 0, to its own. K is 0 without positives.
    """
    ranks = np.flatnonzero(positives[metrics.descending_order(scores)]) + 1
    if not ranks.size:
        return np.empty((0, 2))
    precision = np.arange(1, ranks.size + 1) / ranks
    interpolated = np.maximum.accumulate(precision[::-1])[::-1]
    ends = np.flatnonzero(np.append(interpolated[1:] < interpolated[:-1], True))
    return np.stack([(ends + 1) / ranks.size, interpolated[ends]], axis=1)


def thinned_curve(curve, num_steps):
    """A curve with fewer steps and the same area: each step has the mean precision of those it stands for.

    Args:
        curve: float64 (K, 2), see `interpolated_curve`.
        num_steps: int, the most it may have.
    Returns:
        float64 (min(K, num_steps) or fewer, 2).
    """
    if len(curve) <= num_steps:
        return curve
    recall, precision = curve.T
    area = np.cumsum(np.diff(recall, prepend=0.0) * precision)
    ends = np.unique(np.searchsorted(recall, np.linspace(0.0, recall[-1], num_steps + 1)[1:]))
    return np.stack([recall[ends], np.diff(area[ends], prepend=0.0) / np.diff(recall[ends], prepend=0.0)], axis=1)


def wrongness(probabilities, labels, protocol):
    """How wrong every answer is: its cross-entropy, a sum over the labels that count in AP.

    Args:
        probabilities: float (N, C).
        labels: int (N, C) as stored.
        protocol: evaluation.protocols.Protocol.
    Returns:
        float64 (N,), from 0.
    """
    wrong = np.empty(len(labels))
    for rows in row_blocks(labels):
        counted, _ = counted_labels(labels[rows], protocol)
        signed = np.where(labels[rows] == 1, 1.0, -1.0) * metrics.log_odds(probabilities[rows])
        wrong[rows] = np.sum(np.logaddexp(0.0, -signed), axis=1, where=counted)
    return wrong
