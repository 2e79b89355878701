"""Dropped training labels: how many, which, the same every time; what is refused."""

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.data.dropping import DroppedLabels, Dropping, read_dropping
from srn_tf.errors import InputError

NUM_IMAGES, NUM_LABELS = 410, 6


@pytest.fixture(scope="module")
def stored():
    """int8 (N, C) of 1, -1 and 0; the last label is on three images only."""
    labels = np.random.default_rng(0).choice(np.int8([-1, 0, 1]), (NUM_IMAGES, NUM_LABELS), p=[0.6, 0.1, 0.3])
    labels[:, -1] = -1
    labels[[4, 40, 400], -1] = 1
    return labels


def records_of(labels):
    """Records in which an image has a box of each label that is positive or unspecified."""
    boxes = tf.ragged.constant([np.flatnonzero(row >= 0).tolist() for row in labels], tf.int64, ragged_rank=1)
    records = tf.data.Dataset.from_tensor_slices((labels, boxes))

    def record(row, label):
        label = label.to_tensor()[0] if isinstance(label, tf.RaggedTensor) else label
        bbox = tf.cast(label, tf.float32)[:, None] * tf.ones((1, 4))
        return {"labels": row, "name": "", "objects": {"bbox": bbox, "label": label}}

    return records.map(record)


def dropped(labels, rule, amount, seed=0, is_zero_unspecified=True):
    """What is left of labels: int8 (N, C), and of boxes: bool (N, C)."""
    records = records_of(labels)
    left = list(DroppedLabels(Dropping(rule, amount), records, seed, is_zero_unspecified)(records).as_numpy_iterator())
    for record in left:
        np.testing.assert_array_equal(record["objects"]["bbox"][:, 0], record["objects"]["label"])
    boxes = np.stack([np.isin(np.arange(NUM_LABELS), record["objects"]["label"]) for record in left])
    return np.stack([record["labels"] for record in left]), boxes


def test_rps_drops_a_share_and_nothing_else(stored):
    kept, boxes = dropped(stored, "rps", 0.9)
    is_kept = kept != 0
    np.testing.assert_array_equal(kept[is_kept], stored[is_kept])
    assert 0.08 < is_kept.sum() / (stored != 0).sum() < 0.12
    np.testing.assert_array_equal(boxes, (stored == 0) | (stored == 1) & is_kept)  # that of an unspecified label stays
    more, _ = dropped(stored, "rps", 0.5)
    assert 0.46 < (more != 0).sum() / (stored != 0).sum() < 0.54
    assert (more != 0)[is_kept].all()  # the same labels and others: nothing but the seed decides
    assert (dropped(stored, "rps", 0.9, seed=1)[0] != kept).any()


def test_a_zero_that_is_negative_is_dropped_or_becomes_minus_one(stored):
    kept, _ = dropped(np.maximum(stored, 0), "rps", 0.5, is_zero_unspecified=False)
    assert set(np.unique(kept)) == {-1, 0, 1}
    assert 0.46 < (kept != 0).mean() < 0.54
    np.testing.assert_array_equal(kept[kept != 0] == 1, stored[kept != 0] == 1)


@pytest.mark.parametrize("count", [20, 10_000])
def test_fpc_keeps_as_many_of_each_label_and_side(stored, count):
    kept, _ = dropped(stored, "fpc", count)
    np.testing.assert_array_equal(kept[kept != 0], stored[kept != 0])
    for side in (1, -1):
        np.testing.assert_array_equal((kept == side).sum(axis=0), np.minimum((stored == side).sum(axis=0), count))


def test_the_flag():
    assert read_dropping("none") is None
    assert read_dropping("rps:0.9") == Dropping("rps", 0.9)
    assert read_dropping("fpc:1000") == Dropping("fpc", 1000)


@pytest.mark.parametrize("text", ["", "rps", "rps:1", "rps:-0.1", "rps:nan", "fpc:0", "fpc:1.5", "fpc:x", "half:2"])
def test_a_flag_that_cannot_be_read(text):
    with pytest.raises(InputError) as error:
        read_dropping(text)
    assert str(error.value) == (
        "drop_labels must be none, rps:P (drop each label with probability P, 0 <= P < 1) or fpc:N (keep N positive "
        f"and N negative images of each label). Received: {text!r}."
    )
