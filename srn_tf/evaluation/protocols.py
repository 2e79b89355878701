"""What each dataset's table means: which entries are positive, which are left out, and the top-3 rule."""

from dataclasses import dataclass, replace

import numpy as np

from srn_tf.errors import InputError
from srn_tf.evaluation import metrics
from srn_tf.evaluation.blocks import columns, row_blocks
from srn_tf.evaluation.calibration import Reliability
from srn_tf.evaluation.ranking import mean_of_blocks, ranking_metrics

_TOP = 3  # labels per image in the papers' second table
_AP = (
    "AP: all-points area under the interpolated precision-recall curve (VOC 2010 on). Equal scores are ranked in file "
    "order.",
    "mAP: plain mean of AP over the labels that have positives.",
    "mAP_by_definition: the same, and mAP by three other definitions. rank: mean precision at the ranks of the "
    "positives. sklearn: change of recall x precision over distinct scores. voc_11_point: mean over the recalls 0, 0.1 "
    "... 1 of the highest precision from there on.",
)
_RATES = (
    "F1-C: mean of F1 over labels. F1-C-harmonic: harmonic mean of P-C and R-C.",
    "A label that is never predicted has P = 1, and a label without positives has R = 1, as in the authors' code. In "
    "the tables named plain both are 0.",
)
_CALIBRATION = "ECE: expected calibration error over 15 equal bins of all pairs of image and label."


@dataclass(frozen=True)
class Protocol:
    """How one dataset's labels are read and which tables it has. Label 1 is positive and -1 negative.

    Attributes:
        name: str, the key in PROTOCOLS.
        zero_means: str, what label 0 says: "negative", or "unspecified" or "difficult", that it is not known.
        zero_in_ap: "negative" or "excluded", what label 0 is in AP and calibration.
        zero_in_rates: "negative" or "excluded", what it is in precision, recall and F1.
        use_top3: bool, whether there is a table of the three highest labels of each image.
        top3_min_probability: float or None; of the three, only those with sigmoid(score) >= it are predicted.
        all_key: str, name in score-file results of the table predicted by sigmoid(score) > threshold.
    Raises:
        InputError: a policy is neither of the two, or excludes a 0 that is negative.
    """

    name: str
    zero_means: str = "negative"
    zero_in_ap: str = "negative"
    zero_in_rates: str = "negative"
    use_top3: bool = False
    top3_min_probability: float | None = None
    all_key: str = "all"

    def __post_init__(self):
        allowed = ("negative", "excluded") if self.is_zero_unspecified else ("negative",)
        for field in ("zero_in_ap", "zero_in_rates"):
            if getattr(self, field) not in allowed:
                raise InputError(
                    f"{field} must be {' or '.join(allowed)} in protocol {self.name}, where 0 means {self.zero_means}. "
                    f"Received: {getattr(self, field)!r}."
                )

    @property
    def is_zero_unspecified(self):
        """bool, whether label 0 says that the truth is not known."""
        return self.zero_means != "negative"

    def with_given(self):
        """The same protocol where the model was given some labels: these are 0, and left out of everything."""
        meaning = "given to the model" if self.zero_means == "negative" else f"{self.zero_means}, or given to the model"
        policies = {"zero_in_ap": "excluded", "zero_in_rates": "excluded"}
        return replace(self, zero_means=meaning, use_top3=False, **policies)

    @property
    def definition(self):
        """str, what the numbers mean, one thing per line; it goes into every output."""
        return "\n".join([self._labels(), *_AP, self._predicted(), *_RATES, _CALIBRATION])

    def _labels(self):
        if not self.is_zero_unspecified:
            return "Labels: 1 is positive, 0 and -1 are negative."
        treated = {"excluded": "left out of", "negative": "negative in"}
        return (
            f"Labels: 1 is positive, -1 is negative, 0 is {self.zero_means}. 0 is {treated[self.zero_in_ap]} AP and "
            f"calibration, and {treated[self.zero_in_rates]} precision, recall and F1."
        )

    def _predicted(self):
        rule = "Predicted labels: in all, those with sigmoid(score) > threshold."
        if not self.use_top3:
            return rule
        if self.top3_min_probability is None:
            return f"{rule} In top3, exactly the three highest of each image."
        return f"{rule} In top3, those of the three highest with sigmoid(score) >= {self.top3_min_probability:g}."


# NUS-WIDE: 1 positive, 0 and -1 negative; top-3 predicts exactly three labels for every image.
NUS_WIDE = Protocol("nus_wide", use_top3=True)

# COCO: 1 positive, 0 and -1 negative; top-3 predicts those of the three highest with probability >= 0.5.
COCO = Protocol("coco", use_top3=True, top3_min_probability=0.5)

# The embedded scenes: evaluated as COCO.
SCENES = Protocol("scenes", use_top3=True, top3_min_probability=0.5)

# WIDER-Attribute: 1 positive, -1 negative, 0 unspecified: not in AP, negative in P, R, F1; no top-3.
WIDER_ATTRIBUTE = Protocol("wider_attribute", "unspecified", zero_in_ap="excluded", all_key="wider")

# PASCAL VOC 2007: 1 positive, -1 negative, 0 only difficult objects: not in AP, negative in P, R, F1 (as ML-GCN).
VOC2007 = Protocol("voc2007", "difficult", zero_in_ap="excluded")

# Partly labelled images of one's own: 1 positive, -1 negative, 0 unspecified and left out everywhere; top-3 as COCO.
PARTIAL = Protocol(
    "partial",
    "unspecified",
    zero_in_ap="excluded",
    zero_in_rates="excluded",
    use_top3=True,
    top3_min_probability=0.5,
)

PROTOCOLS = {protocol.name: protocol for protocol in (NUS_WIDE, COCO, WIDER_ATTRIBUTE, VOC2007, SCENES, PARTIAL)}


def protocol_named(name, zero_in_ap=None, zero_in_rates=None):
    """The protocol of that name, or it with other policies.

    Args:
        name: key of PROTOCOLS.
        zero_in_ap, zero_in_rates: see `Protocol`; None is the protocol's own.
    Raises:
        InputError: there is none, or a policy does not go with it.
    """
    if name not in PROTOCOLS:
        raise InputError(f"protocol must be one of {', '.join(PROTOCOLS)}. Received: {name!r}.")
    policies = {"zero_in_ap": zero_in_ap, "zero_in_rates": zero_in_rates}
    return replace(PROTOCOLS[name], **{field: value for field, value in policies.items() if value is not None})


def evaluate(scores, labels, protocol, label_names=None, thresholds=None, ranking=False, top_k=None, top_k_floor=None):
    """Evaluates one output of a model under a dataset's protocol.

    Args:
        scores: real (N, C), logits, finite, N >= 1.
        labels: real (N, C), each -1, 0 or 1; what 0 means is the protocol's.
        protocol: Protocol.
        label_names: C strings or None.
        thresholds: a probability or C of them, each in (0, 1), for the table "all"; None is 0.5.
        ranking: bool, whether to add the metrics of `ranking.ranking_metrics`.
        top_k: int in 1..C or None; with it there is a table that predicts the k highest labels of each image.
        top_k_floor: float in [0, 1] or None; of those, only labels with sigmoid(score) >= it are predicted.
    Returns:
        dict, ready for JSON, rates in percent:
        "all": {"mAP", "F1-C", "P-C", "R-C", "F1-O", "P-O", "R-O", "F1-C-harmonic"}, in the authors' convention, and
        "all_plain": the same in the plain one, see `metrics.precision_recall_f1`;
        "top3", "top3_plain": the same keys (mAP too, which does not depend on the rule), where the protocol has
        them and C >= 3; "top_k", "top_k_plain": where asked for;
        "AP": C values, None where the label has no positive;
        "mAP_by_definition": mAP under each of metrics.AP_DEFINITIONS;
        "num_labels_in_mAP": over how many labels mAP is the mean;
        "labels_without_positives": the others' names, or without `label_names` their columns counted from 0;
        "labels_without_negatives": likewise those of the mean whose AP is 100 whatever the scores;
        "ties": {"mAP_lowest", "mAP_highest": mAP if images with equal scores stood in another order, "constant_labels":
        likewise those whose score is the same for all of several images};
        "threshold": 0.5, or `thresholds` as given;
        "calibration": see `calibration.Reliability`; "ranking": where asked for.
        mAP is None if no label has positives; P, R and F1 are over all labels.
    Raises:
        InputError: scores and labels differ in shape, are not matrices of numbers or have no rows; a score
            is NaN or infinite; a label is not -1, 0 or 1, or 0 is excluded and none is -1; label_names or thresholds do
            not have C entries; a threshold or k is out of range.
    """
    scores, labels = _checked_scores_and_labels(scores, labels)
    num_labels = scores.shape[1]
    if label_names is not None and len(label_names) != num_labels:
        raise InputError(
            f"There must be one label name per column of scores. Received: {len(label_names)} names for {num_labels} "
            "columns."
        )
    thresholds = _checked_thresholds(thresholds, num_labels)
    _check_negatives(labels, protocol)
    counts, reliability, rankings = {}, Reliability(), []
    for rows in row_blocks(scores, labels):
        block = np.ascontiguousarray(metrics.as_floats(scores[rows]))
        truth = np.ascontiguousarray(labels[rows])
        positives, specified = truth == 1, truth != 0
        probabilities = metrics.sigmoid(block)
        pairs = specified if protocol.zero_in_ap == "excluded" else slice(None)
        reliability.update(probabilities[pairs].ravel(), positives[pairs].ravel())
        predicted = {"all": probabilities > thresholds}
        if protocol.use_top3 and num_labels >= _TOP:
            predicted["top3"] = metrics.top_k(block, _TOP, protocol.top3_min_probability)
        if top_k is not None:
            predicted["top_k"] = metrics.top_k(block, top_k, top_k_floor)
        counted = specified if protocol.zero_in_rates == "excluded" else None
        for group, decisions in predicted.items():
            counted_here = metrics.count_decisions(decisions, positives, counted)
            counts[group] = counts[group] + counted_here if group in counts else counted_here
        if ranking:
            rankings.append((len(block), ranking_metrics(block, positives, predicted["all"])))

    ap = average_precisions(scores, labels, protocol)
    has_positives = ~np.isnan(ap["voc_all_points"])
    mean_ap = {name: _mean_of_known(values) for name, values in ap.items()}
    result = {}
    for group, counts_of_group in counts.items():
        result[group] = _table(mean_ap["voc_all_points"], metrics.precision_recall_f1(counts_of_group))
        rates = metrics.precision_recall_f1(counts_of_group, "plain")
        result[f"{group}_plain"] = _table(mean_ap["voc_all_points"], rates)
    result["AP"] = [
        float(value) if known else None for value, known in zip(ap["voc_all_points"], has_positives, strict=True)
    ]
    result["mAP_by_definition"] = {definition: mean_ap[definition] for definition in metrics.AP_DEFINITIONS}
    result["num_labels_in_mAP"] = int(has_positives.sum())

    def named(is_meant):
        return [label if label_names is None else label_names[label] for label in np.flatnonzero(is_meant).tolist()]

    result["labels_without_positives"] = named(~has_positives)
    result["labels_without_negatives"] = named(has_positives & ~_has_negatives(labels, protocol))
    result["ties"] = {f"mAP_{bound}": mean_ap[bound] for bound in metrics.AP_BOUNDS}
    result["ties"]["constant_labels"] = named(is_constant(scores))
    result["threshold"] = thresholds.tolist()
    result["calibration"] = reliability.result()
    if ranking:
        result["ranking"] = mean_of_blocks(rankings)
    return result


def top_k_key(k, min_probability):
    """The name in score-file results of a table of the k highest labels: "top3", with a floor of 0.5 "top3_min05"."""
    return f"top{k}" if min_probability is None else f"top{k}_min{min_probability:g}".replace(".", "")


def with_top_k_named(evaluated, k, min_probability):
    """What `evaluate` returned with the table "top_k" under a name of its own, as metrics.json has it.

    Args:
        evaluated: dict.
        k, min_probability: its top_k and top_k_floor.
    Returns:
        dict; the name is that of `top_k_key`, or "top3_forced", since what "top3" is, with or without a floor, is the
        protocol's.
    """
    key = top_k_key(k, min_probability)
    key = "top3_forced" if key == "top3" else key
    names = {"top_k": key, "top_k_plain": f"{key}_plain"}
    return {names.get(table, table): values for table, values in evaluated.items()}


def is_constant(scores):
    """bool (C,), whether a label has the same score in every image; of one image, no label has."""
    first = scores[0]
    return _all_images(scores, lambda rows: rows == first) & (len(scores) > 1)


def _check_negatives(labels, protocol):
    """Raises InputError for truth in which an excluded 0 stands for what is absent."""
    policies = {"AP": protocol.zero_in_ap, "precision, recall and F1": protocol.zero_in_rates}
    left_out = [what for what, policy in policies.items() if policy == "excluded"]
    if left_out and not _labels_with(labels, -1).any() and all(_labels_with(labels, value).any() for value in (0, 1)):
        raise InputError(
            f"In protocol {protocol.name}, absent labels must be -1. 0 means {protocol.zero_means} and is left out of "
            f"{' and of '.join(left_out)}, which would be 100 whatever the scores. Received: only 0 and 1. Write -1 "
            "for absent labels, or use a protocol in which 0 is negative: coco, nus_wide."
        )


def _has_negatives(labels, protocol):
    """bool (C,), whether a label has a negative that counts in AP."""
    has = _labels_with(labels, -1)
    return has if protocol.zero_in_ap == "excluded" else has | _labels_with(labels, 0)


def _labels_with(labels, value):
    """bool (C,), whether a label has that value in any image."""
    return ~_all_images(labels, lambda rows: rows != value)


def _all_images(matrix, is_so):
    """bool (C,), whether something is so of a column in all rows; `is_so` is asked of a block of rows at a time."""
    found = np.ones(matrix.shape[1], dtype=bool)
    for rows in row_blocks(matrix):
        found &= is_so(matrix[rows]).all(axis=0)
    return found


def average_precisions(scores, labels, protocol):
    """Average precision of every label, the part of `evaluate` that needs all images at once.

    Args:
        scores, labels, protocol: as of `evaluate`, and as it asks for.
    Returns:
        dict definition (`metrics.AP_DEFINITIONS`) -> float64 (C,), percent; NaN where the label has no positive.
    """
    excludes = protocol.zero_in_ap == "excluded"
    by_label = (
        (column, truth == 1, truth != 0 if excludes else None)
        for column, truth in zip(columns(scores), columns(labels), strict=True)
    )
    ap = metrics.average_precisions_by_label(by_label, scores.shape[1])
    return {definition: 100 * values for definition, values in ap.items()}


def mean_average_precision(scores, labels, protocol):
    """The mAP of `evaluate` alone, percent; None if no label has a positive. Arguments as of `average_precisions`."""
    return _mean_of_known(average_precisions(scores, labels, protocol)["voc_all_points"])


def _mean_of_known(ap):
    """Plain mean over the labels that have positives, float; None if there are none."""
    known = ap[~np.isnan(ap)]
    return float(known.mean()) if known.size else None


def _table(mean_ap, rates):
    return {
        "mAP": mean_ap,
        "F1-C": 100 * rates.f1_c,
        "P-C": 100 * rates.p_c,
        "R-C": 100 * rates.r_c,
        "F1-O": 100 * rates.f1_o,
        "P-O": 100 * rates.p_o,
        "R-O": 100 * rates.r_o,
        "F1-C-harmonic": 100 * rates.f1_c_harmonic,
    }


def _checked_thresholds(thresholds, num_labels):
    """float64 () or (C,)."""
    try:
        checked = np.asarray(0.5 if thresholds is None else thresholds, dtype=np.float64)
    except (TypeError, ValueError):
        checked = None
    # "not all inside" rather than "any outside": NaN is refused too.
    if checked is None or checked.shape not in ((), (num_labels,)) or not ((checked > 0) & (checked < 1)).all():
        raise InputError(
            f"thresholds must be one probability or one per label ({num_labels}), each above 0 and below 1. "
            f"Received: {' '.join(str(thresholds).split())[:80]}."
        )
    return checked


def _checked_scores_and_labels(scores, labels):
    scores, labels = _as_matrix(scores, "scores"), _as_matrix(labels, "labels")
    if scores.shape != labels.shape:
        raise InputError(
            f"scores and labels must have the same shape, images x labels. Received: scores {scores.shape}, "
            f"labels {labels.shape}."
        )
    if scores.size == 0:
        raise InputError(
            f"scores and labels must have at least one image and one label. Received: shape {scores.shape}."
        )
    bad_scores, bad_labels = _Bad(), _Bad()
    for rows in row_blocks(scores, labels):
        bad_scores.add(rows, scores[rows], np.isfinite(scores[rows]))
        truth = labels[rows]
        bad_labels.add(rows, truth, (truth == 1) | (truth == 0) | (truth == -1))
    if bad_scores.count:
        row, column = bad_scores.first
        raise InputError(
            f"scores must be finite. Received: {bad_scores.count} NaN or infinite, the first at row {row}, column "
            f"{column} (counted from 0)."
        )
    if bad_labels.count:
        values = sorted(bad_labels.values)
        shown = ", ".join(f"{value:g}" for value in values[:5]) + (", ..." if len(values) > 5 else "")
        row, column = bad_labels.first
        raise InputError(
            f"labels must be -1, 0 or 1. Received: {shown} in {bad_labels.count} entries, the first at row {row}, "
            f"column {column} (counted from 0)."
        )
    return scores, labels


class _Bad:
    """Entries of a matrix that are not as they must be, counted block by block."""

    def __init__(self):
        self.count, self.first, self.values = 0, None, set()

    def add(self, rows, block, is_good):
        """Adds those of a block of rows: block and is_good are (K, C)."""
        if is_good.all():
            return
        if self.first is None:
            row, column = np.argwhere(~is_good)[0]
            self.first = rows.start + row, column
        self.count += np.count_nonzero(~is_good)
        self.values.update(np.unique(block[~is_good]).tolist())


def _as_matrix(values, name):
    try:
        values = np.asarray(values)
    except ValueError:  # NumPy's error for rows of different lengths
        raise InputError(f"{name} must be a matrix, images x labels. Received: rows of different lengths.") from None
    if values.dtype.kind not in "fiub":
        raise InputError(f"{name} must be real numbers. Received: type {values.dtype}.")
    if values.ndim != 2:
        raise InputError(f"{name} must be a matrix, images x labels. Received: shape {values.shape}.")
    return values
