"""What a prepared data set holds: counted in one pass over its records, summed up for JSON and for reading."""

import array
import io
import time
from collections import Counter
from dataclasses import dataclass, field, fields

import numpy as np
import scipy.sparse
from PIL import Image
from tabulate import tabulate

from srn_tf.errors import InputError

WARM_UP_BATCHES = 2  # of `images_per_second`, not timed
MOST_PAIRED_LABELS = 100  # in the table of pairs: of more labels only the most frequent are
_SHOWN_LABELS = 3  # of the most frequent and of the rarest, in the table


@dataclass
class Counts:
    """Sums over records, and which labels came together.

    Attributes:
        positives: int64 (C,), images with each label.
        zeros: int64 (C,), images whose entry is 0.
        boxes: int64 (C,), boxes.
        entries: array of int32, the positive labels of one image after the other: 4 bytes each, where a table of
            all pairs would take 8 C * C.
        lengths: array of int32, how many of them each image has.
        images: int.
        images_with_boxes: int.
        labels_per_image: number of positive labels -> images.
        sizes: (width, height) in pixels -> images.
    """

    positives: np.ndarray
    zeros: np.ndarray
    boxes: np.ndarray
    entries: array.array = field(default_factory=lambda: array.array("i"))
    lengths: array.array = field(default_factory=lambda: array.array("i"))
    images: int = 0
    images_with_boxes: int = 0
    labels_per_image: Counter = field(default_factory=Counter)
    sizes: Counter = field(default_factory=Counter)

    def __add__(self, other):
        return Counts(**{item.name: getattr(self, item.name) + getattr(other, item.name) for item in fields(self)})


def count_records(records, num_labels):
    """Counts labels, sizes and boxes. Images are not decoded: the size is in the header.

    Args:
        records: iterable of dicts of NumPy values as `pipeline.read_records` has them: image (bytes), name,
            labels int8 (C,), objects {label int64 (K,)}.
        num_labels: C.
    Returns:
        Counts.
    Raises:
        InputError: an image has no readable header; names the record.
    """
    counts = Counts(*np.zeros((3, num_labels), np.int64))
    for record in records:
        positives = np.flatnonzero(record["labels"] == 1)
        box_labels = record["objects"]["label"]
        counts.positives[positives] += 1
        counts.entries.extend(positives.tolist())
        counts.lengths.append(len(positives))
        counts.zeros += record["labels"] == 0
        counts.boxes += np.bincount(box_labels, minlength=num_labels)
        counts.images += 1
        counts.images_with_boxes += len(box_labels) > 0
        counts.labels_per_image[len(positives)] += 1
        counts.sizes[_size_px(record)] += 1
    return counts


def cooccurrence(counts, most=MOST_PAIRED_LABELS):
    """How often labels come together: all of them, or of many the most frequent.

    Args:
        counts: Counts.
        most: int, labels to look at.
    Returns:
        labels: int (K,), K <= most, which they are, ascending; of equally frequent ones the first.
        together: int64 (K, K), images with both labels; the diagonal is the positives of each label.
    """
    labels = np.sort(np.argsort(-counts.positives, kind="stable")[:most])
    place = np.full(len(counts.positives), -1)
    place[labels] = np.arange(len(labels))
    columns = place[np.frombuffer(counts.entries, np.intc)]
    is_kept = columns >= 0
    rows = np.repeat(np.arange(counts.images), np.frombuffer(counts.lengths, np.intc))[is_kept]
    ones = np.ones(len(rows), np.int64)
    y = scipy.sparse.csr_matrix((ones, (rows, columns[is_kept])), (counts.images, len(labels)))
    return labels, (y.T @ y).toarray()


def conditional_probabilities(together):
    """How often a label comes along with another one.

    Args:
        together: int (K, K), as of `cooccurrence`.
    Returns:
        float64 (K, K) in [0, 1]: P(label j | label i) at row i, column j, 1 on the diagonal; a row is NaN where
        no image has label i.
    """
    positives = np.diag(together).astype(np.float64)
    return together / np.where(positives > 0, positives, np.nan)[:, None]


def summarize(counts, labels, is_zero_unspecified):
    """Puts counts into words and numbers that JSON can hold.

    Args:
        counts: Counts of at least one image.
        labels: C label names.
        is_zero_unspecified: whether an entry 0 is unspecified (`Protocol.is_zero_unspecified`), not negative.
    Returns:
        dict: "images", "images_without_label" (no positive entry), "labels_per_image", "width_px", "height_px"
        (each {"mean", "min", "median", "max", "histogram": value -> images}), "boxes" (None without any, else
        {"boxes", "images_with_boxes"}), "labels" (a dict a label: "name", "positives", "negatives", "unspecified",
        "positive_rate" = positives / (positives + negatives) or None, and "boxes" where the images have any),
        "cooccurrence_labels" (names of the K labels, of many the most frequent, that the next two are about),
        "cooccurrence" (K lists of K numbers of images) and "conditional_probability" (likewise, P(column | row); None
        in the row of a label that no image has).
    Raises:
        InputError: there is no image.
    """
    if counts.images == 0:
        raise InputError(
            "A split must have at least one image to be described. Received: no image. Prepare the data set again."
        )
    positives = counts.positives
    unspecified = counts.zeros if is_zero_unspecified else np.zeros_like(counts.zeros)
    specified = counts.images - unspecified
    has_boxes = counts.images_with_boxes > 0
    per_label = []
    for index, name in enumerate(labels):
        label = {
            "name": name,
            "positives": int(positives[index]),
            "negatives": int(specified[index] - positives[index]),
            "unspecified": int(unspecified[index]),
            "positive_rate": float(positives[index] / specified[index]) if specified[index] else None,
        }
        per_label.append({**label, "boxes": int(counts.boxes[index])} if has_boxes else label)
    paired, together = cooccurrence(counts)
    conditional = conditional_probabilities(together)
    return {
        "images": counts.images,
        "images_without_label": counts.labels_per_image[0],
        "labels_per_image": _spread(counts.labels_per_image),
        "width_px": _spread(_marginal(counts.sizes, 0)),
        "height_px": _spread(_marginal(counts.sizes, 1)),
        "boxes": {"boxes": int(counts.boxes.sum()), "images_with_boxes": counts.images_with_boxes}
        if has_boxes
        else None,
        "labels": per_label,
        "cooccurrence_labels": [labels[index] for index in paired],
        "cooccurrence": together.tolist(),
        "conditional_probability": [[None if np.isnan(p) else p for p in row] for row in conditional.tolist()],
    }


def summary_table(summaries):
    """The summaries as text: a column per split.

    Args:
        summaries: split name -> dict of `summarize`.
    Returns:
        str, lines without a trailing newline.
    """
    rows = {
        "images": [f"{split['images']:,}" for split in summaries.values()],
        "labels": [str(len(split["labels"])) for split in summaries.values()],
        "labels per image": [_mean_and_range(split["labels_per_image"]) for split in summaries.values()],
        "without any label": [_with_share(split["images_without_label"], split) for split in summaries.values()],
        "most frequent labels": [_extreme_labels(split, -1) for split in summaries.values()],
        "rarest labels": [_extreme_labels(split, 1) for split in summaries.values()],
        "labels of no image": [
            str(sum(not label["positives"] for label in split["labels"])) for split in summaries.values()
        ],
        "unspecified entries": [_unspecified(split) for split in summaries.values()],
        "boxes": [f"{split['boxes']['boxes']:,}" if split["boxes"] else "none" for split in summaries.values()],
        "width, px": [_median_and_range(split["width_px"]) for split in summaries.values()],
        "height, px": [_median_and_range(split["height_px"]) for split in summaries.values()],
    }
    return tabulate([[name, *cells] for name, cells in rows.items()], ["", *summaries], disable_numparse=True)


def images_per_second(batches, clock=time.perf_counter):
    """Measures how fast batches come to a consumer that does nothing else.

    Args:
        batches: iterable of {"image": (B, ...), ...}. The first `WARM_UP_BATCHES`, while buffers fill, are not
            timed; at least one more must come.
        clock: function without arguments, time in seconds.
    Returns:
        float, images per second.
    """
    iterator = iter(batches)
    for _ in range(WARM_UP_BATCHES):
        next(iterator)
    start_s = clock()
    num_images = sum(len(batch["image"]) for batch in iterator)
    return num_images / (clock() - start_s)


def _size_px(record):
    """(width, height) of a record's image, from its header."""
    try:
        with Image.open(io.BytesIO(record["image"])) as image:
            return image.size
    except OSError:  # Pillow's UnidentifiedImageError is one.
        raise InputError(
            f"The image of record {record['name'].decode()} must be a JPEG, PNG or BMP. Received: "
            f"{len(record['image'])} bytes of another kind. Prepare the data set again."
        ) from None


def _marginal(sizes, axis):
    """Sums (width, height) -> images to one of the two: 0 width, 1 height."""
    sums = Counter()
    for size, images in sizes.items():
        sums[size[axis]] += images
    return sums


def _spread(histogram):
    """Mean, min, median, max and histogram of a value -> images, not empty."""
    values = np.array(sorted(histogram))
    images = np.array([histogram[value] for value in values.tolist()])
    total = int(images.sum())
    # The two middle ranks, which are one where the total is odd; counted from 0.
    middle = values[np.searchsorted(np.cumsum(images), [(total - 1) // 2, total // 2], side="right")]
    return {
        "mean": float((values * images).sum() / total),
        "min": int(values[0]),
        "median": float(middle.mean()),
        "max": int(values[-1]),
        "histogram": {str(value): int(count) for value, count in zip(values, images, strict=True)},
    }


def _mean_and_range(spread):
    return f"mean {spread['mean']:.2f} ({spread['min']} to {spread['max']})"


def _median_and_range(spread):
    if spread["min"] == spread["max"]:
        return str(spread["min"])
    return f"median {spread['median']:g} ({spread['min']} to {spread['max']})"


def _with_share(images, split):
    return f"{images:,} ({images / split['images']:.1%})"


def _extreme_labels(split, direction):
    """A line for each of the rarest (direction 1) or most frequent (-1) labels that images have.

    Ties are in the order of the labels.
    """
    present = [label for label in split["labels"] if label["positives"]]
    ordered = sorted(present, key=lambda label: direction * label["positives"])
    return "\n".join(f"{label['name']}: {_with_share(label['positives'], split)}" for label in ordered[:_SHOWN_LABELS])


def _unspecified(split):
    entries = sum(label["unspecified"] for label in split["labels"])
    return f"{entries:,} ({entries / (split['images'] * len(split['labels'])):.1%})" if entries else "none"
