"""Decision thresholds tuned on a run's validation predictions, and the file that keeps them.

A label is predicted where its probability exceeds the threshold. Between two neighbouring probabilities every
threshold decides alike, so their midpoints are all the candidates there are, and the best of them is the optimum.
Of equally good candidates the one nearest to 0.5 is taken; 0.5 itself stands for the gap it lies in, so that a
threshold moves only where the metric gains.
Axes: N images, C labels, M counted pairs, K candidates.
"""

import json
import os
from dataclasses import dataclass

import numpy as np

from srn_tf.errors import InputError
from srn_tf.evaluation import metrics
from srn_tf.evaluation.blocks import columns, row_blocks
from srn_tf.evaluation.predictions import load_predictions
from srn_tf.evaluation.protocols import evaluate, protocol_named
from srn_tf.labels import check_same_labels
from srn_tf.program import command
from srn_tf.runs.checkpoint import digest_of
from srn_tf.runs.work_dir import WorkDir

METRICS = ("F1-C", "F1-O")
FILE_NAME = "thresholds.json"
_ROUNDING = 1e-9  # sums of per-label F1 that differ by less are equal


@dataclass(frozen=True)
class Thresholds:
    """Thresholds as read from a file.

    Attributes:
        path: str, the file, for messages.
        labels: tuple of C label names in order.
        output: str, name of the output they were tuned for.
        values: float64 () or (C,), in (0, 1).
        run: str, the work folder they were tuned in, or "" where the file does not say.
        weights: str, digest of that run's final weights, or "" where it had none or the file does not say.
    """

    path: str
    labels: tuple
    output: str
    values: np.ndarray
    run: str
    weights: str

    def check_fit(self, labels, outputs, weights_path):
        """Makes sure that they were tuned for this very model: another one, of the same labels, needs others.

        Args:
            labels: label names in order.
            outputs: names of its outputs.
            weights_path: file of its weights.
        Raises:
            InputError: other labels (shows the first difference), it has no output of that name, or other weights.
        """
        check_same_labels(labels, self.labels, self.path)
        if self.output not in outputs:
            raise InputError(
                f"{self.path} must be tuned for an output of the model ({', '.join(outputs)}). Received: "
                f"{self.output!r}. {_make_it()}"
            )
        expected = digest_of(weights_path)
        if self.weights != expected:
            raise InputError(
                f"{self.path} must be tuned on predictions of the same weights. Expected: weights {expected[:12]}, of "
                f"{weights_path}. Received: {self.origin}. {_make_it()}"
            )

    @property
    def origin(self):
        """str, what they were tuned on."""
        if not self.weights:
            return "thresholds tuned on unknown weights"
        return f"thresholds tuned on weights {self.weights[:12]}, of the run {self.run}"

    @property
    def statement(self):
        """str, what is decided by them, for the user."""
        lowest, highest = self.values.min(), self.values.max()
        span = f"{lowest:.4g}" if lowest == highest else f"{lowest:.4g} to {highest:.4g}"
        return f"{self.output} uses the thresholds of {self.path} ({span}) instead of 0.5"


def tune_run(work_dir, split, metric, per_label):
    """Tunes thresholds on the predictions that a run keeps of a split.

    Args:
        work_dir: str, a run's work folder.
        split: "validation"; "train" is allowed, but says little about unseen images.
        metric: one of METRICS.
        per_label: bool, a threshold for each label; else one for all.
    Returns:
        dict, ready for JSON:
        "run": its folder, absolute; "weights": digest of its final weights, None if it has none;
        "output": name of the run's final output;
        "kind": "per_label" or "global"; "metric"; "split"; "images": N; "protocol": name;
        "is_training_data": bool, whether the model was trained on these very images;
        "before", "after": {"F1-C", "F1-O"} in percent at 0.5 and at the new thresholds, by protocols.evaluate;
        "labels_without_positives": names, which keep 0.5 if per_label;
        "labels": C names; "values": C thresholds if per_label, else one.
    Raises:
        InputError: the test split, an unknown metric, no predictions on the split, or none with a positive.
    """
    if split == "test":
        raise InputError(
            "Thresholds must not be tuned on the test split, because its metrics would then say nothing about other "
            "images. Received: --split=test. Tune on validation."
        )
    if metric not in METRICS:
        raise InputError(f"metric must be one of {', '.join(METRICS)}. Received: {metric!r}.")
    work = WorkDir(work_dir)
    run = work.read_run()
    protocol = protocol_named(run["protocol"])
    predictions = load_predictions(work.predictions(split))
    output, scores = next(iter(predictions.logits.items()))  # the final one comes first
    labels, names = predictions.labels, predictions.label_names
    before = evaluate(scores, labels, protocol, names)
    values = tune(scores, labels, protocol, metric, per_label)
    after = evaluate(scores, labels, protocol, names, values)
    return {
        "run": os.path.abspath(work.path),
        "weights": digest_of(work.final) if os.path.isfile(work.final) else None,
        "output": output,
        "kind": "per_label" if per_label else "global",
        "metric": metric,
        "split": split,
        "images": len(labels),
        "protocol": protocol.name,
        "is_training_data": split == "train" or run["validation_is_train"],
        "before": {name: before["all"][name] for name in METRICS},
        "after": {name: after["all"][name] for name in METRICS},
        "labels_without_positives": before["labels_without_positives"],
        "labels": list(names),
        "values": values.tolist(),
    }


def tune(scores, labels, protocol, metric, per_label):
    """The thresholds at which `protocols.evaluate` gives the highest F1-C or F1-O in its table "all".

    Args:
        scores: float (N, C), logits, finite.
        labels: int (N, C), -1, 0 or 1.
        protocol: protocols.Protocol.
        metric: one of METRICS.
        per_label: bool; a label without positives then keeps 0.5.
    Returns:
        float64 (C,) if per_label, else (); in (0, 1).
    Raises:
        InputError: no label has a positive.
    """
    has_positives = np.zeros(labels.shape[1], bool)
    for rows in row_blocks(labels):
        has_positives |= (labels[rows] == 1).any(axis=0)
    if not has_positives.any():
        raise InputError(
            f"Thresholds need a positive label to be tuned on. Received: {len(labels)} images without one. Use a "
            "split with labels."
        )
    excludes = protocol.zero_in_rates == "excluded"
    if not per_label:
        p, positives = metrics.sigmoid(scores), labels == 1
        counted = labels != 0 if excludes else np.ones(labels.shape, bool)
        cuts = _Cuts(p[counted], positives[counted])
        if metric == "F1-O":
            return cuts.thresholds[cuts.best(cuts.f1)]
        return cuts.thresholds[cuts.best(_sum_of_f1(cuts, np.nonzero(counted)[1]), _ROUNDING)]
    values = np.full(labels.shape[1], 0.5)
    all_cuts, other_predicted = [], 0
    for label, (column, truth) in enumerate(zip(columns(scores), columns(labels), strict=True)):
        counted = truth != 0 if excludes else slice(None)
        p = metrics.sigmoid(column)[counted]
        if not has_positives[label]:
            other_predicted += np.count_nonzero(p > 0.5)
            continue
        cuts = _Cuts(p, truth[counted] == 1)
        if metric == "F1-C":
            values[label] = cuts.thresholds[cuts.best(cuts.f1)]
        else:
            all_cuts.append(cuts)
    if metric == "F1-O":
        chosen = _jointly_best(all_cuts, other_predicted)
        values[has_positives] = [cuts.thresholds[index] for cuts, index in zip(all_cuts, chosen, strict=True)]
    return values


def load_thresholds(path):
    """Reads a file of `tune_run`'s thresholds.

    Args:
        path: str.
    Returns:
        Thresholds.
    Raises:
        InputError: the file is missing, is not JSON, has no labels, output or values, or a value outside (0, 1).
    """
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
    except FileNotFoundError:
        raise InputError(f"{path} must exist. Received: no such file. {_make_it()}") from None
    except (OSError, ValueError) as error:  # ValueError: neither UTF-8 nor JSON
        raise InputError(f"{path} must be a JSON file of thresholds. Received: {error}. {_make_it()}") from None
    record = record if isinstance(record, dict) else {}
    labels, output, values = record.get("labels"), record.get("output"), record.get("values")
    if not isinstance(labels, list) or not isinstance(output, str) or values is None:
        raise InputError(
            f"{path} must have labels, output and values. Received: {', '.join(record) or 'none'}. {_make_it()}"
        )
    each = values if isinstance(values, list) else [values]
    if isinstance(values, list) and len(values) != len(labels):
        raise InputError(
            f"{path} must have one value, or one for each label. Received: {len(values)} values, {len(labels)} labels. "
            "Tune again."
        )
    for place, value in enumerate(each):
        if type(value) not in (int, float) or not 0 < value < 1:
            raise InputError(
                f"{path}: a threshold must be above 0 and below 1. Received: {value!r}, value {place} (from 0). "
                "Correct it, or tune again."
            )
    origin = (str(record.get(name) or "") for name in ("run", "weights"))
    return Thresholds(path, tuple(labels), output, np.array(values, np.float64), *origin)


class _Cuts:
    """Every division of pairs by a threshold on their probability, from none predicted to all.

    Args:
        p: float64 (M,), probabilities.
        is_positive: bool (M,).

    Attributes:
        order: int64 (M,), the pairs from the highest probability down.
        is_positive: bool (M,), in that order.
        thresholds: float64 (K,), in (0, 1), descending; one of them is 0.5.
        predicted: int64 (K,), how many pairs are above.
        true_positive: int64 (K,), how many of those are positive.
    """

    def __init__(self, p, is_positive):
        self.order = metrics.descending_order(p)
        self.is_positive = is_positive[self.order]
        ranked = p[self.order]
        predicted = np.concatenate([[0], np.flatnonzero(np.diff(ranked)) + 1, [p.size]])
        above, below = np.append(1.0, ranked)[predicted], np.append(ranked, 0.0)[predicted]
        middle = (above + below) / 2
        thresholds = np.where(middle < above, middle, below)  # between neighbouring floats there is nothing
        thresholds[(below <= 0.5) & (0.5 < above)] = 0.5
        is_inside = (thresholds > 0) & (thresholds < 1)
        self.thresholds, self.predicted = thresholds[is_inside], predicted[is_inside]
        self.true_positive = _sums(self.is_positive)[self.predicted]

    @property
    def f1(self):
        """float64 (K,), F1 of the pairs."""
        return _f1(self.true_positive, self.predicted, np.count_nonzero(self.is_positive))

    def best(self, values, tolerance=0):
        """Index of the highest of K values; of those within the tolerance, the threshold nearest to 0.5."""
        equal = np.flatnonzero(values >= values.max() - tolerance)
        return equal[np.argmin(np.abs(self.thresholds[equal] - 0.5))]


def _sum_of_f1(cuts, label_of):
    """Sum over labels of each one's F1, at every threshold common to all labels.

    Args:
        cuts: _Cuts of all pairs.
        label_of: int (M,), the label of each pair.
    Returns:
        float64 (K,), less what the sum is while nothing is predicted.
    """
    label_of = label_of[cuts.order]
    gains = np.empty(label_of.size)  # of its label's F1 when a pair becomes predicted
    for label in np.unique(label_of):
        places = np.flatnonzero(label_of == label)
        true_positive = _sums(cuts.is_positive[places])
        f1 = _f1(true_positive, np.arange(places.size + 1), true_positive[-1])
        gains[places] = np.diff(f1)
    return _sums(gains)[cuts.predicted]


def _jointly_best(cuts, other_predicted):
    """Each label's cut where all of them together have the highest F1-O.

    F1-O is twice the ratio of T, all true positives, to D, all positives and predicted pairs. The best ratio is the
    one at which the largest sum over labels of T D' - T' D, where T' and D' are those of the ratio, is zero: each
    label can be maximised alone, and the ratio found is the next to try. Whole numbers: no rounding decides.
    Source: Dinkelbach, On Nonlinear Fractional Programming, Management Science 13(7), 1967.

    Args:
        cuts: list of _Cuts, one per label.
        other_predicted: int, predicted pairs of labels that keep 0.5, none of them positive.
    Returns:
        list of indices.
    """
    fixed = other_predicted + sum(np.count_nonzero(cut.is_positive) for cut in cuts)

    def ratio(chosen):
        pairs = list(zip(cuts, chosen, strict=True))
        numerator = sum(int(cut.true_positive[index]) for cut, index in pairs)
        return numerator, int(fixed + sum(cut.predicted[index] for cut, index in pairs))

    numerator, denominator = ratio([np.flatnonzero(cut.thresholds == 0.5)[0] for cut in cuts])
    while True:
        chosen = [cut.best(cut.true_positive * denominator - cut.predicted * numerator) for cut in cuts]
        better = ratio(chosen)
        if better[0] * denominator <= numerator * better[1]:
            return chosen
        numerator, denominator = better


def _sums(values):
    """The sum of none, of the first, of the first two ... of M values: (M + 1,)."""
    return np.concatenate([[0], np.cumsum(values)])


def _f1(true_positive, predicted, positive):
    """F1 of counts; without positives 1 while nothing is predicted, as in metrics.precision_recall_f1."""
    if positive == 0:
        return (predicted == 0).astype(np.float64)
    return 2 * true_positive / (predicted + positive)


def _make_it():
    return f"Make one: {command('tune_thresholds')} --work_dir=RUN"
