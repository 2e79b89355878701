"""Metrics in plain loops, written from their definitions to check srn_tf.evaluation; shares no code with it.

Labels are 1, 0 or -1. Values are fractions.
"""

import fractions
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


def without_zeros(scores, labels):
    """The scores and labels of the images whose label is not 0."""
    kept = [(score, label) for score, label in zip(scores, labels, strict=True) if label != 0]
    return [score for score, _ in kept], [label for _, label in kept]


def ap_rank(scores, labels):
    """Precision at the rank of each positive, averaged; NaN without positives."""
    order = sorted(range(len(scores)), key=lambda row: (-scores[row], row))
    found, precisions = 0, []
    for rank, row in enumerate(order, start=1):
        if labels[row] == 1:
            found += 1
            precisions.append(found / rank)
    return sum(precisions) / found if found else math.nan


def ap_sklearn(scores, labels):
    """Sum over distinct scores, from the highest, of change of recall x precision; NaN without positives."""
    num_positives = sum(1 for label in labels if label == 1)
    if num_positives == 0:
        return math.nan
    area = previous_recall = 0.0
    for threshold in sorted(set(scores), reverse=True):
        retrieved = [label for score, label in zip(scores, labels, strict=True) if score >= threshold]
        found = sum(1 for label in retrieved if label == 1)
        area += (found / num_positives - previous_recall) * found / len(retrieved)
        previous_recall = found / num_positives
    return area


def ap_voc_11_point(scores, labels):
    """The highest precision at recall >= 0, 0.1 ... 1, averaged; NaN without positives."""
    order = sorted(range(len(scores)), key=lambda row: (-scores[row], row))
    num_positives = sum(1 for label in labels if label == 1)
    if num_positives == 0:
        return math.nan
    points, found = [], 0
    for rank, row in enumerate(order, start=1):
        found += labels[row] == 1
        points.append((fractions.Fraction(found, num_positives), found / rank))
    tenths = [fractions.Fraction(tenth, 10) for tenth in range(11)]
    return sum(max(precision for recall, precision in points if recall >= tenth) for tenth in tenths) / 11


AP = {"voc_all_points": ap_voc, "rank": ap_rank, "sklearn": ap_sklearn, "voc_11_point": ap_voc_11_point}


def calibration(scores, labels):
    """(ECE, bins) of pairs; a bin is (pairs, mean probability, share of true pairs), the last two None if empty."""
    bins = [[] for _ in range(15)]
    for score, label in zip(scores, labels, strict=True):
        probability = sigmoid(score)
        place = next(place for place in range(15) if probability <= (place + 1) / 15)
        bins[place].append((probability, label == 1))
    error, described = 0.0, []
    for pairs in bins:
        if not pairs:
            described.append((0, None, None))
            continue
        confidence = sum(probability for probability, _ in pairs) / len(pairs)
        frequency = sum(is_true for _, is_true in pairs) / len(pairs)
        error += len(pairs) / len(scores) * abs(confidence - frequency)
        described.append((len(pairs), confidence, frequency))
    return error, described


def ranking(scores, labels, predicted):
    """LRAP, coverage error, ranking loss, Hamming loss and subset accuracy, each a mean over images."""
    totals = [0.0] * 5
    for row, truth, chosen in zip(scores, labels, predicted, strict=True):
        true_scores = [score for score, label in zip(row, truth, strict=True) if label == 1]
        false_scores = [score for score, label in zip(row, truth, strict=True) if label != 1]
        wrong = sum((label == 1) != bool(is_chosen) for label, is_chosen in zip(truth, chosen, strict=True))
        if true_scores and false_scores:
            shares = [
                sum(other >= score for other in true_scores) / sum(other >= score for other in row)
                for score in true_scores
            ]
            totals[0] += sum(shares) / len(shares)
            misordered = sum(false >= true for false in false_scores for true in true_scores)
            totals[2] += misordered / (len(true_scores) * len(false_scores))
        else:
            totals[0] += 1
        totals[1] += sum(other >= min(true_scores) for other in row) if true_scores else 0
        totals[3] += wrong / len(row)
        totals[4] += wrong == 0
    return [total / len(scores) for total in totals]


def predicted_above(scores, thresholds):
    """thresholds: a probability a label."""
    return [[sigmoid(score) > at for score, at in zip(row, thresholds, strict=True)] for row in scores]


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


def rates(predicted, labels, convention="authors", exclude_zeros=False):
    """Precision, recall and F1 under the names of the tables; a label entry is positive where it is 1."""
    num_images, num_labels = len(labels), len(labels[0])
    one_column = {"authors": _authors_column, "plain": _plain_column}[convention]
    per_label = []
    pooled = [0, 0, 0]
    for label in range(num_labels):
        counts = [0, 0, 0]
        for image in range(num_images):
            if exclude_zeros and labels[image][label] == 0:
                continue
            is_predicted, is_positive = bool(predicted[image][label]), labels[image][label] == 1
            counts[0] += is_predicted and is_positive
            counts[1] += is_predicted
            counts[2] += is_positive
        per_label.append(one_column(*counts))
        pooled = [total + count for total, count in zip(pooled, counts, strict=True)]
    p_c, r_c, f1_c = (sum(column) / num_labels for column in zip(*per_label, strict=True))
    p_o, r_o, f1_o = one_column(*pooled)
    return {
        "F1-C": f1_c,
        "P-C": p_c,
        "R-C": r_c,
        "F1-O": f1_o,
        "P-O": p_o,
        "R-O": r_o,
        "F1-C-harmonic": 2 / (1 / p_c + 1 / r_c) if p_c and r_c else 0.0,
    }


def _authors_column(true_positives, predicted, positive):
    precision = (true_positives + EPS) / (predicted + EPS)
    recall = (true_positives + EPS) / (positive + EPS) + EPS
    return precision, recall, 2 * precision * recall / (precision + recall)


def _plain_column(true_positives, predicted, positive):
    precision = true_positives / predicted if predicted else 0.0
    recall = true_positives / positive if positive else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0
