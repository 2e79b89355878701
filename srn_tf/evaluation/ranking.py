"""Metrics of the order and of the whole set of an image's labels, by scikit-learn."""

from srn_tf.errors import InputError

_NOTE = "Unspecified entries count as negative; a label is predicted where its probability exceeds the threshold."


def ranking_metrics(scores, positives, predicted):
    """Label ranking average precision, coverage error, ranking loss, Hamming loss and subset accuracy.

    Source: the functions of sklearn.metrics by those names (subset accuracy is accuracy_score); each is a mean over
    images.

    Args:
        scores: float (N, C), finite; any monotone scale.
        positives: bool (N, C), where the label is true.
        predicted: bool (N, C), the labels the model gives.
    Returns:
        dict, ready for JSON: "LRAP", "ranking_loss", "hamming_loss" and "subset_accuracy" in percent,
        "coverage_error" in labels, and "note".
    Raises:
        InputError: there is only one label.
    """
    from sklearn import metrics  # here: it takes a second to load

    if scores.shape[1] < 2:
        raise InputError("Ranking metrics need at least two labels. Received: 1 label. Leave them out.")
    return {
        "LRAP": float(100 * metrics.label_ranking_average_precision_score(positives, scores)),
        "coverage_error": float(metrics.coverage_error(positives, scores)),
        "ranking_loss": float(100 * metrics.label_ranking_loss(positives, scores)),
        "hamming_loss": float(100 * metrics.hamming_loss(positives, predicted)),
        "subset_accuracy": float(100 * metrics.accuracy_score(positives, predicted)),
        "note": _NOTE,
    }


def mean_of_blocks(parts):
    """The metrics of all images from those of blocks of them.

    Args:
        parts: list of (number of images, dict of `ranking_metrics`), not empty.
    Returns:
        dict as of `ranking_metrics`.
    """
    total = sum(count for count, _ in parts)
    means = {
        name: sum(count * values[name] for count, values in parts) / total for name in parts[0][1] if name != "note"
    }
    return {**means, "note": _NOTE}
