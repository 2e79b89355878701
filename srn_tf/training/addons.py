"""Validation metrics of tensorflow-addons, the one module that uses that package.

tensorflow-addons ended its life in 2024 and ties the project to TensorFlow 2.15; to leave it, this
file is the only one to replace.
"""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its end-of-life notice, printed at every import
    import tensorflow_addons as tfa

THRESHOLD = 0.5


def f1_and_confusion(probabilities, y):
    """Macro and micro F1 and the confusion matrix of each label at probability 0.5.

    Args:
        probabilities: float32 (N, C).
        y: float32 (N, C) in {0, 1}.
    Returns:
        dict: "F1-macro" and "F1-micro" in percent, "confusion" a list of C rows
        [true negatives, false positives, false negatives, true positives].
    """
    num_labels = y.shape[1]
    macro = tfa.metrics.F1Score(num_labels, average="macro", threshold=THRESHOLD)
    micro = tfa.metrics.F1Score(num_labels, average="micro", threshold=THRESHOLD)
    confusion = tfa.metrics.MultiLabelConfusionMatrix(num_labels)
    macro.update_state(y, probabilities)
    micro.update_state(y, probabilities)
    confusion.update_state(y, (probabilities > THRESHOLD).astype("float32"))
    return {
        "F1-macro": 100.0 * float(macro.result()),
        "F1-micro": 100.0 * float(micro.result()),
        "confusion": confusion.result().numpy().astype(int).reshape(num_labels, 4).tolist(),
    }
