"""Metrics in plain loops, written from their definitions to check srn_tf.evaluation; shares no code with it.

Labels are 1, 0 or -1. Values are fractions.
"""

import math

EPS = 2.0**-52


def sigmoid(score):
    if score >= 0:
        return 1 / (1 + math.exp(-score))
    return math.exp(score) / (1 + math.exp(score))


def ap_voc(scores, labels):
    """AP_VOC.m for one label: every label other than 1 is a false positive; NaN without positives."""
    return _area(scores, [1 if label == 1 else -1 for label in labels])


def ap_eccv16(scores, labels):
    """get_mAP_eccv16.m for one label: 0 is neither a true nor a false positive."""
    return _area(scores, labels)


def _area(scores, labels):
    order = sorted(range(len(scores)), key=lambda row: (-scores[row], row))
    num_positives = sum(1 for label in labels if label == 1)
    if num_positives == 0:
        return math.nan
    recall, precision = [0.0], [0.0]
    true_positives = false_positives = 0
    for row in order:
        if labels[row] == 1:
            true_positives += 1
        elif labels[row] == -1:
            false_positives += 1
        retrieved = true_positives + false_positives
        recall.append(true_positives / num_positives)
        precision.append(true_positives / retrieved if retrieved else 0.0)
    recall.append(1.0)
    precision.append(0.0)
    for point in range(len(precision) - 2, -1, -1):
        precision[point] = max(precision[point], precision[point + 1])
    area = 0.0
    for point in range(1, len(recall)):
        if recall[point] != recall[point - 1]:
            area += (recall[point] - recall[point - 1]) * precision[point]
    return area


def predicted_above_half(scores):
    return [[sigmoid(score) > 0.5 for score in row] for row in scores]


def predicted_top_k(scores, k, min_probability=None):
    predicted = []
    for row in scores:
        chosen = [False] * len(row)
        for _ in range(k):
            best = None
            for label, score in enumerate(row):
                if not chosen[label] and (best is None or score > row[best]):
                    best = label
            chosen[best] = True
        if min_probability is not None:
            chosen = [c and sigmoid(score) >= min_probability for c, score in zip(chosen, row, strict=True)]
        predicted.append(chosen)
    return predicted


def rates(predicted, labels):
    """Precision, recall and F1 under the names of the tables; a label entry is positive where it is 1."""
    num_images, num_labels = len(labels), len(labels[0])
    per_label = []
    pooled = [0, 0, 0]
    for label in range(num_labels):
        counts = [0, 0, 0]
        for image in range(num_images):
            is_predicted, is_positive = bool(predicted[image][label]), labels[image][label] == 1
            counts[0] += is_predicted and is_positive
            counts[1] += is_predicted
            counts[2] += is_positive
        per_label.append(_one_column(*counts))
        pooled = [total + count for total, count in zip(pooled, counts, strict=True)]
    p_c, r_c, f1_c = (sum(column) / num_labels for column in zip(*per_label, strict=True))
    p_o, r_o, f1_o = _one_column(*pooled)
    return {
        "F1-C": f1_c,
        "P-C": p_c,
        "R-C": r_c,
        "F1-O": f1_o,
        "P-O": p_o,
        "R-O": r_o,
        "F1-C-harmonic": 2 / (1 / p_c + 1 / r_c),
    }


def _one_column(true_positives, predicted, positive):
    precision = (true_positives + EPS) / (predicted + EPS)
    recall = (true_positives + EPS) / (positive + EPS) + EPS
    return precision, recall, 2 * precision * recall / (precision + recall)
