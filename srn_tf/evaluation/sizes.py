"""mAP by the size of what is to be seen: of a label in an image its largest box, as a share of the image's area.

Axes: N images, C labels, M pairs of an image and a label that has a box there.
"""

from dataclasses import dataclass

import numpy as np

from srn_tf.evaluation.blocks import columns
from srn_tf.evaluation.metrics import average_precisions_by_label

SMALL, LARGE = 0.01, 0.1  # of a square image boxes of a tenth and of a third of its side; a choice of this project
SIZES = {"small": (0.0, SMALL), "medium": (SMALL, LARGE), "large": (LARGE, np.inf)}  # share in [low, high)
NOTE = (
    f"A label is small in an image where its largest box there covers less than {SMALL:.0%} of the image, large from "
    f"{LARGE:.0%} on, else medium. Of a size, AP has the positives of that size and all negatives."
)


@dataclass(frozen=True)
class LabelSizes:
    """Of each image and each label with a box there the largest one.

    Attributes:
        rows, labels: int64 (M,), which image and which label, image by image.
        shares: float64 (M,), of the image's area, in [0, 1].
    """

    rows: np.ndarray
    labels: np.ndarray
    shares: np.ndarray


class BoxSizes:
    """Collects the sizes of labels image by image."""

    def __init__(self):
        self._num_images, self._found = 0, []

    def update(self, boxes, box_labels):
        """Adds the next image.

        Args:
            boxes: float (K, 4), ymin xmin ymax xmax as fractions of the image; K may be 0.
            box_labels: int (K,).
        """
        if len(boxes):
            y_min, x_min, y_max, x_max = np.clip(np.asarray(boxes, np.float64), 0.0, 1.0).T
            labels, places = np.unique(box_labels, return_inverse=True)
            shares = np.zeros(len(labels))
            np.maximum.at(shares, places.ravel(), (y_max - y_min) * (x_max - x_min))
            self._found.append((np.full(len(labels), self._num_images), labels, shares))
        self._num_images += 1

    def result(self):
        """LabelSizes of the images so far; None if none of them has a box."""
        return LabelSizes(*map(np.concatenate, zip(*self._found, strict=True))) if self._found else None


def mean_ap_by_size(scores, labels, protocol, sizes):
    """mAP over the positives of each size, against all negatives.

    Args:
        scores: float (N, C), finite.
        labels: int (N, C), 1 is positive; a positive without a box is of no size and left out.
        protocol: protocols.Protocol.
        sizes: LabelSizes.
    Returns:
        dict, ready for JSON: "mAP_by_size", percent, the mean over the labels that have positives of that size, None
        without one; "sizes", over how many "labels" and "pairs" that is, and "note".
    """
    order = np.argsort(sizes.labels, kind="stable")
    rows, shares = sizes.rows[order], sizes.shares[order]
    starts = np.searchsorted(sizes.labels[order], np.arange(scores.shape[1] + 1))
    pairs = dict.fromkeys(SIZES, 0)

    def by_label_and_size():
        for label, (column, truth) in enumerate(zip(columns(scores), columns(labels), strict=True)):
            own = slice(starts[label], starts[label + 1])
            is_negative = truth == -1 if protocol.zero_in_ap == "excluded" else truth != 1
            for size, (low, high) in SIZES.items():
                found = rows[own][(low <= shares[own]) & (shares[own] < high)]
                found = found[truth[found] == 1]
                pairs[size] += len(found)
                is_positive = np.zeros(len(truth), bool)
                is_positive[found] = True
                # Without a positive there is nothing to rank.
                yield column, is_positive, is_positive | is_negative if len(found) else is_positive

    ap = average_precisions_by_label(by_label_and_size(), len(SIZES) * scores.shape[1])["voc_all_points"]
    ap = dict(zip(SIZES, 100 * ap.reshape(-1, len(SIZES)).T, strict=True))
    known = {size: values[~np.isnan(values)] for size, values in ap.items()}
    return {
        "mAP_by_size": {size: float(values.mean()) if len(values) else None for size, values in known.items()},
        "sizes": {"labels": {size: len(values) for size, values in known.items()}, "pairs": pairs, "note": NOTE},
    }
