"""Counts of a handful of records worked out by hand, and of many random ones against plain NumPy."""

import io
import json
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from srn_tf.data.statistics import (
    WARM_UP_BATCHES,
    conditional_probabilities,
    cooccurrence,
    count_records,
    images_per_second,
    summarize,
    summary_table,
)
from srn_tf.errors import InputError

LABELS = ["dog", "cat", "cow"]
DOG, CAT, COW = range(3)


def encoded(width, height, kind="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, kind)
    return buffer.getvalue()


def record(labels, size=(4, 3), boxes=(), kind="PNG"):
    """A record as `read_records` has it; `boxes` are the labels of its boxes."""
    return {
        "image": encoded(*size, kind),
        "name": b"a/b.jpg",
        "labels": np.array(labels, np.int8),
        "objects": {"bbox": np.zeros((len(boxes), 4), np.float32), "label": np.array(boxes, np.int64)},
    }


# Four images: dog and cat, dog, nothing, cat. Entries that are 0: one of the dog, three of the cow.
RECORDS = [
    record([1, 1, 0], (4, 3), [DOG, DOG, CAT], "JPEG"),
    record([1, -1, 0], (6, 3), [DOG]),
    record([0, -1, 0], (4, 9)),
    record([-1, 1, -1], (6, 3), kind="BMP"),
]


@pytest.fixture
def counts():
    return count_records(RECORDS, len(LABELS))


def test_counts_worked_out_by_hand(counts):
    assert counts.positives.tolist() == [2, 2, 0]
    labels, together = cooccurrence(counts)
    assert (labels.tolist(), together.tolist()) == ([DOG, CAT, COW], [[2, 1, 0], [1, 2, 0], [0, 0, 0]])
    assert counts.zeros.tolist() == [1, 0, 3]
    assert counts.boxes.tolist() == [3, 1, 0]
    assert (counts.images, counts.images_with_boxes) == (4, 2)
    assert counts.labels_per_image == {2: 1, 1: 2, 0: 1}
    assert counts.sizes == {(4, 3): 1, (6, 3): 2, (4, 9): 1}  # width first


def test_conditional_probabilities_are_of_the_column_given_the_row():
    # Of 4 images with label 0, 1 has label 1; of 2 with label 1, 1 has label 0; no image has label 2.
    together = np.array([[4, 1, 0], [1, 2, 0], [0, 0, 0]])
    expected = [[1.0, 0.25, 0.0], [0.5, 1.0, 0.0], [np.nan, np.nan, np.nan]]
    np.testing.assert_array_equal(conditional_probabilities(together), expected)


def test_summary_where_zero_is_negative(counts):
    summary = summarize(counts, LABELS, is_zero_unspecified=False)
    assert summary == {
        "images": 4,
        "images_without_label": 1,
        "labels_per_image": {"mean": 1.0, "min": 0, "median": 1.0, "max": 2, "histogram": {"0": 1, "1": 2, "2": 1}},
        "width_px": {"mean": 5.0, "min": 4, "median": 5.0, "max": 6, "histogram": {"4": 2, "6": 2}},
        "height_px": {"mean": 4.5, "min": 3, "median": 3.0, "max": 9, "histogram": {"3": 3, "9": 1}},
        "boxes": {"boxes": 4, "images_with_boxes": 2},
        "labels": [
            {"name": "dog", "positives": 2, "negatives": 2, "unspecified": 0, "positive_rate": 0.5, "boxes": 3},
            {"name": "cat", "positives": 2, "negatives": 2, "unspecified": 0, "positive_rate": 0.5, "boxes": 1},
            {"name": "cow", "positives": 0, "negatives": 4, "unspecified": 0, "positive_rate": 0.0, "boxes": 0},
        ],
        "cooccurrence_labels": LABELS,
        "cooccurrence": [[2, 1, 0], [1, 2, 0], [0, 0, 0]],
        "conditional_probability": [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [None, None, None]],
    }
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_unspecified_entries_are_neither_positive_nor_negative(counts):
    labels = summarize(counts, LABELS, is_zero_unspecified=True)["labels"]
    assert [(label["positives"], label["negatives"], label["unspecified"]) for label in labels] == [
        (2, 1, 1),
        (2, 2, 0),
        (0, 1, 3),
    ]
    assert [label["positive_rate"] for label in labels] == [pytest.approx(2 / 3), 0.5, 0.0]


def test_a_label_that_is_nowhere_specified_has_no_rate():
    counts = count_records([record([1, -1, 0]), record([1, -1, 0])], 3)
    cow = summarize(counts, LABELS, is_zero_unspecified=True)["labels"][COW]
    assert cow == {"name": "cow", "positives": 0, "negatives": 0, "unspecified": 2, "positive_rate": None}


def test_without_boxes_none_are_listed():
    summary = summarize(count_records([record([1, 0, 0])], 3), LABELS, is_zero_unspecified=False)
    assert summary["boxes"] is None
    assert all("boxes" not in label for label in summary["labels"])


@pytest.mark.parametrize(
    ("widths", "median"), [([5], 5.0), ([2, 9], 5.5), ([2, 2, 9], 2.0), ([2, 3, 9, 9], 6.0), ([9, 1, 9, 4, 4], 4.0)]
)
def test_median(widths, median):
    summary = summarize(count_records([record([1, 0, 0], (w, 2)) for w in widths], 3), LABELS, False)
    assert summary["width_px"]["median"] == median


def test_many_records_against_numpy():
    rng = np.random.default_rng(0)
    num_images, num_labels = 200, 7
    y = rng.choice([-1, 0, 1], (num_images, num_labels), p=[0.5, 0.2, 0.3]).astype(np.int8)
    y[:, 6] = -1  # a label that no image has
    sizes = rng.integers(1, 20, (num_images, 2))
    boxes = [rng.integers(0, num_labels, rng.integers(0, 4)) for _ in range(num_images)]
    records = (record(*parts) for parts in zip(y, sizes.tolist(), boxes, strict=True))  # a stream, read once
    counts = count_records(records, num_labels)
    summary = summarize(counts, [str(i) for i in range(num_labels)], is_zero_unspecified=True)

    is_positive = y == 1
    table = np.array([list(label.values())[1:] for label in summary["labels"]], np.float64)
    np.testing.assert_array_equal(table[:, 0], is_positive.sum(axis=0))
    np.testing.assert_array_equal(table[:, 1], (y == -1).sum(axis=0))
    np.testing.assert_array_equal(table[:, 2], (y == 0).sum(axis=0))
    np.testing.assert_allclose(table[:, 3], is_positive.sum(axis=0) / (y != 0).sum(axis=0))
    np.testing.assert_array_equal(table[:, 4], np.bincount(np.concatenate(boxes), minlength=num_labels))
    for i in range(num_labels):
        for j in range(num_labels):
            assert summary["cooccurrence"][i][j] == (is_positive[:, i] & is_positive[:, j]).sum()
            p = summary["conditional_probability"][i][j]
            assert p == (pytest.approx(is_positive[is_positive[:, i], j].mean()) if i != 6 else None)
    for key, values in (
        ("labels_per_image", is_positive.sum(axis=1)),
        ("width_px", sizes[:, 0]),
        ("height_px", sizes[:, 1]),
    ):
        spread = summary[key]
        assert spread["mean"] == pytest.approx(values.mean())
        assert (spread["min"], spread["median"], spread["max"]) == (values.min(), np.median(values), values.max())
        assert spread["histogram"] == {str(value): number for value, number in sorted(Counter(values.tolist()).items())}
    assert summary["images_without_label"] == (~is_positive.any(axis=1)).sum() > 0
    assert summary["boxes"] == {"boxes": sum(map(len, boxes)), "images_with_boxes": sum(len(b) > 0 for b in boxes)}


def test_the_sum_of_two_parts_is_the_whole(counts):
    total = count_records(RECORDS[:1], 3) + count_records(RECORDS[1:], 3)
    assert summarize(total, LABELS, True) == summarize(counts, LABELS, True)


def test_of_many_labels_the_most_frequent_are_paired():
    """10,000 labels: neither the counts nor their summary grow with the pairs."""
    rng = np.random.default_rng(0)
    num_labels = 10_000
    positives = [np.unique((num_labels * rng.random(20) ** 4).astype(int)) for _ in range(300)]
    y = np.full((300, num_labels), -1, np.int8)
    for row, of_row in zip(y, positives, strict=True):
        row[of_row] = 1
    image = encoded(4, 3)
    tracemalloc.start()
    counts = count_records(({**record([1]), "image": image, "labels": row} for row in y), num_labels)
    summary = summarize(counts + counts, [f"label {i}" for i in range(num_labels)], False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6  # one table of all pairs would be 800 MB
    assert len(json.dumps(summary)) < 5e6
    frequency = (y == 1).sum(axis=0)
    paired = [int(name.removeprefix("label ")) for name in summary["cooccurrence_labels"]]
    assert len(paired) == 100 and paired == sorted(paired)
    assert frequency[paired].min() >= np.delete(frequency, paired).max()
    of_paired = (y[:, paired] == 1).astype(int)
    assert summary["cooccurrence"] == (2 * of_paired.T @ of_paired).tolist()


def test_images_are_not_decoded():
    """A JPEG cut after its header, which no decoder would take, has a size."""
    whole = record([1, 0, 0], (300, 200), kind="JPEG")
    counts = count_records([{**whole, "image": whole["image"][:700]}], 3)
    assert counts.sizes == {(300, 200): 1}


@pytest.mark.parametrize("image", [b"", b"not an image"])
def test_an_image_without_a_header_is_named(image):
    with pytest.raises(InputError, match=rf"record a/b.jpg must be a JPEG.*Received: {len(image)} bytes") as error:
        count_records([{**record([1, 0, 0]), "image": image}], 3)
    assert "\n" not in str(error.value)


def test_nothing_to_describe():
    with pytest.raises(InputError, match="at least one image"):
        summarize(count_records([], 3), LABELS, False)


# The table.


TABLE = """\
                      train               test
--------------------  ------------------  ------------------
images                4                   1
labels                3                   3
labels per image      mean 1.00 (0 to 2)  mean 3.00 (3 to 3)
without any label     1 (25.0%)           0 (0.0%)
most frequent labels  dog: 2 (50.0%)      dog: 1 (100.0%)
                      cat: 2 (50.0%)      cat: 1 (100.0%)
                                          cow: 1 (100.0%)
rarest labels         dog: 2 (50.0%)      dog: 1 (100.0%)
                      cat: 2 (50.0%)      cat: 1 (100.0%)
                                          cow: 1 (100.0%)
labels of no image    1                   0
unspecified entries   4 (33.3%)           none
boxes                 4                   none
width, px             median 5 (4 to 6)   5
height, px            median 3 (3 to 9)   5
"""


def test_table_of_two_splits(counts):
    single = count_records([record([1, 1, 1], (5, 5))], 3)
    summaries = {"train": summarize(counts, LABELS, True), "test": summarize(single, LABELS, True)}
    assert [line.rstrip() for line in summary_table(summaries).splitlines()] == TABLE.splitlines()


def test_the_three_most_frequent_and_rarest_labels_are_listed_in_order():
    # Label i of five has i images, label 0 none.
    y = np.tril(np.ones((5, 5), np.int8), -1).T
    summary = summarize(count_records([record(row) for row in y], 5), list("abcde"), False)
    lines = [" ".join(line.split()) for line in summary_table({"all": summary}).splitlines()]
    start = lines.index("most frequent labels e: 4 (80.0%)")
    assert lines[start + 1 : start + 7] == [
        *("d: 3 (60.0%)", "c: 2 (40.0%)"),
        *("rarest labels b: 1 (20.0%)", "c: 2 (40.0%)", "d: 3 (60.0%)"),
        "labels of no image 1",
    ]


# Speed.


def test_images_per_second_leaves_out_the_warm_up():
    now = [0.0]
    seconds = [100.0] * WARM_UP_BATCHES + [1.0, 2.0, 1.0]  # each batch takes

    def batches():
        for taken in seconds:
            now[0] += taken
            yield {"image": np.zeros((6, 2, 2, 3))}

    assert images_per_second(batches(), clock=lambda: now[0]) == pytest.approx(18 / 4)
