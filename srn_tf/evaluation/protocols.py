"""What each dataset's table means: which entries are positive, which are left out, and the top-3 rule."""

from dataclasses import dataclass

import numpy as np

from srn_tf.errors import InputError
from srn_tf.evaluation import metrics

_AP = (
    "AP is the all-points area under the interpolated precision-recall curve (VOC 2010 on, equal scores in file "
    "order) and mAP its plain mean over the labels that have positives"
)
_F1 = "F1-C is the mean over labels of F1 and F1-C-harmonic the harmonic mean of P-C and R-C"


@dataclass(frozen=True)
class Protocol:
    """How one dataset's labels are read and which tables it has.

    Attributes:
        name: str, the key in PROTOCOLS.
        is_zero_unspecified: bool. In every dataset label 1 is positive and -1 negative. False: 0 is negative
            too. True: 0 is unspecified, left out of that label's AP but negative in precision, recall and F1.
        use_top3: bool, whether there is a table of the three highest labels of each image.
        top3_min_probability: float or None; of the three, only those with sigmoid(score) >= it are predicted.
        all_key: str, name in score-file results of the table predicted by sigmoid(score) > 0.5.
        top3_key: str or None, name in score-file results of the top-3 table.
        definition: str, one sentence that goes into every output.
    """

    name: str
    is_zero_unspecified: bool
    use_top3: bool
    top3_min_probability: float | None
    all_key: str
    top3_key: str | None
    definition: str


# NUS-WIDE: 1 positive, 0 and -1 negative; top-3 predicts exactly three labels for every image.
NUS_WIDE = Protocol(
    name="nus_wide",
    is_zero_unspecified=False,
    use_top3=True,
    top3_min_probability=None,
    all_key="all",
    top3_key="top3",
    definition=(
        f"Label 1 is positive, 0 and -1 are negative; {_AP}; a label is predicted where sigmoid(score) > 0.5 (all) "
        f"or as one of exactly the three highest of its image (top3); {_F1}."
    ),
)

_COCO_DEFINITION = (
    f"Label 1 is positive, 0 and -1 are negative; {_AP}; a label is predicted where sigmoid(score) > 0.5 (all) or as "
    f"one of the three highest of its image if also sigmoid(score) >= 0.5 (top3); {_F1}."
)

# COCO: 1 positive, 0 and -1 negative; top-3 predicts those of the three highest with probability >= 0.5.
COCO = Protocol(
    name="coco",
    is_zero_unspecified=False,
    use_top3=True,
    top3_min_probability=0.5,
    all_key="all",
    top3_key="top3_min05",
    definition=_COCO_DEFINITION,
)

# The embedded scenes: evaluated as COCO.
SCENES = Protocol(
    name="scenes",
    is_zero_unspecified=False,
    use_top3=True,
    top3_min_probability=0.5,
    all_key="all",
    top3_key="top3_min05",
    definition=_COCO_DEFINITION,
)

# WIDER-Attribute: 1 positive, -1 negative, 0 unspecified: not in AP, negative in P, R, F1; no top-3.
WIDER_ATTRIBUTE = Protocol(
    name="wider_attribute",
    is_zero_unspecified=True,
    use_top3=False,
    top3_min_probability=None,
    all_key="wider",
    top3_key=None,
    definition=(
        f"Label 1 is positive, -1 negative and 0 unspecified; {_AP}, unspecified entries left out; a label is "
        f"predicted where sigmoid(score) > 0.5, and precision, recall and F1 count unspecified as negative; {_F1}."
    ),
)

PROTOCOLS = {protocol.name: protocol for protocol in (NUS_WIDE, COCO, WIDER_ATTRIBUTE, SCENES)}


def protocol_named(name):
    """The protocol of that name.

    Raises:
        InputError: there is none.
    """
    if name not in PROTOCOLS:
        raise InputError(f"protocol must be one of {', '.join(PROTOCOLS)}. Received: {name!r}.")
    return PROTOCOLS[name]


def evaluate(scores, labels, protocol, label_names=None):
    """Evaluates one output of a model under a dataset's protocol.

    Args:
        scores: real (N, C), logits, finite, N >= 1.
        labels: real (N, C), each -1, 0 or 1; what 0 means is the protocol's.
        protocol: Protocol.
        label_names: C strings or None.
    Returns:
        dict, ready for JSON, all values in percent:
        "all": {"mAP", "F1-C", "P-C", "R-C", "F1-O", "P-O", "R-O", "F1-C-harmonic"};
        "top3": the same keys (mAP too, which does not depend on the rule), where the protocol has it and C >= 3;
        "AP": C values, None where the label has no positive;
        "labels_without_positives": their names, or without `label_names` their columns counted from 0.
        mAP is over the other labels only, None if there are none; P, R and F1 are over all labels.
    Raises:
        InputError: scores and labels differ in shape, are not matrices of numbers or have no rows; a score
            is NaN or infinite; a label is not -1, 0 or 1; label_names does not have C entries.
    """
    scores, labels = _checked_scores_and_labels(scores, labels)
    num_labels = scores.shape[1]
    if label_names is not None and len(label_names) != num_labels:
        raise InputError(
            f"label_names must have one name per column of scores. Received: {len(label_names)} names for "
            f"{num_labels} columns."
        )
    positives = labels == 1
    counted = labels != 0 if protocol.is_zero_unspecified else None
    ap = 100 * metrics.average_precision(scores, positives, counted)
    has_positives = ~np.isnan(ap)
    # Plain mean over the labels that have positives.
    mean_ap = float(ap[has_positives].mean()) if has_positives.any() else None

    result = {"all": _table(mean_ap, metrics.predict_positive(scores), positives)}
    if protocol.use_top3 and num_labels >= 3:
        chosen = metrics.top_k(scores, 3, protocol.top3_min_probability)
        result["top3"] = _table(mean_ap, chosen, positives)
    result["AP"] = [float(value) if known else None for value, known in zip(ap, has_positives, strict=True)]
    names = range(num_labels) if label_names is None else label_names
    result["labels_without_positives"] = [name for name, has in zip(names, has_positives, strict=True) if not has]
    return result


def _table(mean_ap, predicted, positives):
    rates = metrics.precision_recall_f1(predicted, positives)
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


def _checked_scores_and_labels(scores, labels):
    scores, labels = _as_matrix(scores, "scores"), _as_matrix(labels, "labels")
    if scores.shape != labels.shape:
        raise InputError(
            f"scores and labels must have the same shape, images x labels. Received: scores {scores.shape}, "
            f"labels {labels.shape}."
        )
    if scores.size == 0:
        raise InputError(f"there must be at least one image and one label. Received: shape {scores.shape}.")
    is_bad_score = ~np.isfinite(scores)
    if is_bad_score.any():
        row, column = np.argwhere(is_bad_score)[0]
        raise InputError(
            f"scores must be finite. Received: {np.count_nonzero(is_bad_score)} NaN or infinite, the first at row "
            f"{row}, column {column} (counted from 0)."
        )
    is_bad_label = (labels != 1) & (labels != 0) & (labels != -1)
    if is_bad_label.any():
        values = np.unique(labels[is_bad_label])
        shown = ", ".join(f"{value:g}" for value in values[:5]) + (", ..." if values.size > 5 else "")
        row, column = np.argwhere(is_bad_label)[0]
        raise InputError(
            f"labels must be -1, 0 or 1. Received: {shown} in {np.count_nonzero(is_bad_label)} entries, the first at "
            f"row {row}, column {column} (counted from 0)."
        )
    return scores, labels


def _as_matrix(values, name):
    try:
        values = np.asarray(values)
    except ValueError:  # NumPy's error for rows of different lengths
        raise InputError(f"{name} must be a matrix, images x labels. Received: rows of different lengths.") from None
    if values.dtype.kind not in "fiub":
        raise InputError(f"{name} must be real numbers. Received: values of type {values.dtype}.")
    if values.ndim != 2:
        raise InputError(f"{name} must be a matrix, images x labels. Received: shape {values.shape}.")
    return values
