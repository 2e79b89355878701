"""mAP by how often labels come in training: head, middle and tail, a third of the labels each.

Axis: C labels.
"""

import numpy as np

GROUPS = ("head", "middle", "tail")
NOTE = (
    "mAP by frequency: labels in the order of their positive training images, in three groups that are equal to one "
    "label: head (most images), middle and tail (fewest). Equal counts keep the order of the labels. mAP of a group is "
    "the mean of AP over its labels that have positives."
)


def frequency_groups(positives):
    """Divides labels by their number of positive training images.

    Args:
        positives: int (C,).
    Returns:
        dict: one of `GROUPS` -> int (n,), labels, the most frequent first. The first groups have one label more where
        C is no multiple of three.
    """
    order = np.argsort(-np.asarray(positives, np.int64), kind="stable")
    return dict(zip(GROUPS, np.array_split(order, len(GROUPS)), strict=True))


def mean_ap_by_frequency(ap, positives):
    """mAP of each group of `frequency_groups`.

    Args:
        ap: C values, percent; None for a label without positives in the images that were evaluated.
        positives: int (C,), training images with each label.
    Returns:
        dict, ready for JSON: "mAP_by_frequency", percent, None for a group without such a label; "frequency", over how
        many "labels" that is, and the fewest and most "training_images" of a group's labels (None without a label).
    """
    ap, positives = np.array(ap, np.float64), np.asarray(positives)
    groups = frequency_groups(positives)
    known = {group: ap[labels][~np.isnan(ap[labels])] for group, labels in groups.items()}
    counts = {group: positives[labels] for group, labels in groups.items()}
    return {
        "mAP_by_frequency": {group: float(values.mean()) if len(values) else None for group, values in known.items()},
        "frequency": {
            "labels": {group: len(values) for group, values in known.items()},
            "training_images": {
                group: [int(values.min()), int(values.max())] if len(values) else None
                for group, values in counts.items()
            },
        },
    }
