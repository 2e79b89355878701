"""Partial labels by simulation: training labels that are dropped at random, as if nobody had given them.

The two rules are those of Ben-Baruch et al., "Multi-label classification with partial annotations using class-aware
selective loss", CVPR 2022. Every label of every image has a number drawn from the seed and the image's place in the
stored order, in [0, 1); a label is kept if its number is below a limit. So what is kept depends on nothing else, and
what is kept of a data set at one share is kept at every larger one.
"""

import dataclasses
import math

import numpy as np

from srn_tf.errors import InputError
from srn_tf.lazy import LazyModule

tf = LazyModule("tensorflow")  # the options, which load without it, read only what a flag says

_BLOCK = 1024  # images
_DRAW = 19  # sets these numbers apart from others that are drawn from the same seed
_NEGATIVE, _POSITIVE = 0, 1


@dataclasses.dataclass(frozen=True)
class Dropping:
    """A rule.

    Attributes:
        rule: "rps", every label is dropped with a probability, or "fpc", of every label a number of positive and as
            many negative images is kept.
        amount: that probability, or that number.
    """

    rule: str
    amount: float


def read_dropping(text):
    """Reads a flag.

    Args:
        text: "none", "rps:P" with a probability 0 <= P < 1, or "fpc:N" with a whole number N >= 1.
    Returns:
        Dropping, or None.
    Raises:
        InputError: it is none of these.
    """
    if text == "none":
        return None
    rule, _, number = text.partition(":")
    try:
        amount = {"rps": float, "fpc": int}[rule](number)
        is_good = 0 <= amount < 1 if rule == "rps" else amount >= 1
    except (KeyError, ValueError):
        is_good = False
    if not is_good:
        raise InputError(
            "drop_labels must be none, rps:P (drop each label with probability P, 0 <= P < 1) or fpc:N (keep N "
            f"positive and N negative images of each label). Received: {text!r}."
        )
    return Dropping(rule, amount)


class DroppedLabels:
    """The labels that training images lose: a function of their records.

    Args:
        dropping: Dropping.
        records: the training records, see `pipeline.read_records`; all are read once for the rule "fpc".
        seed: int.
        is_zero_unspecified: whether a stored 0 says that the truth is not known; else it is a negative.
    """

    def __init__(self, dropping, records, seed, is_zero_unspecified):
        self._seed, self._is_zero_unspecified = seed, is_zero_unspecified
        num_labels = records.element_spec["labels"].shape[0]
        if dropping.rule == "rps":
            self._limits = np.full((2, num_labels), 1.0 - dropping.amount)
        else:
            self._limits = self._limits_for(records, dropping.amount, num_labels)

    def __call__(self, records):
        """Drops labels.

        Args:
            records: all training records, in stored order.
        Returns:
            tf.data.Dataset of the same dicts: "labels" are 1, -1 negative and 0 unspecified, and "objects" is without
            the boxes of dropped labels.
        """
        return records.enumerate().map(self._drop)

    def _drop(self, place, record):
        side = self._sides(record["labels"])
        limits = tf.constant(self._limits)
        limit = tf.where(side == 1, limits[_POSITIVE], limits[_NEGATIVE])
        is_dropped = self._draw(place, limit.shape[0]) >= limit
        is_left = ~tf.gather(is_dropped & (side != 0), record["objects"]["label"])
        objects = {name: tf.boolean_mask(values, is_left) for name, values in record["objects"].items()}
        return {**record, "labels": tf.where(is_dropped, tf.zeros_like(side), side), "objects": objects}

    def _sides(self, labels):
        """int8 (C,): 1 positive, -1 negative, 0 unspecified."""
        return labels if self._is_zero_unspecified else tf.where(labels == 1, labels, -tf.ones_like(labels))

    def _draw(self, place, num_labels):
        """float64 (C,), a number for each label of the image at a place."""
        seed = tf.random.experimental.stateless_fold_in(tf.stack([tf.constant(self._seed, tf.int64), place]), _DRAW)
        return tf.random.stateless_uniform([num_labels], seed, dtype=tf.float64)

    def _limits_for(self, records, count, num_labels):
        """float64 (2, C): below them lie the numbers of `count` negative and positive images, or of all there are."""
        drawn = records.enumerate().map(
            lambda place, record: (self._sides(record["labels"]), self._draw(place, num_labels))
        )
        count = min(count, int(records.cardinality()))
        lowest = np.full((2, count + 1, num_labels), math.inf)  # ascending
        for sides, numbers in drawn.batch(_BLOCK).as_numpy_iterator():
            for row, side in ((_NEGATIVE, -1), (_POSITIVE, 1)):
                more = np.concatenate([lowest[row], np.where(sides == side, numbers, math.inf)])
                lowest[row] = np.sort(more, axis=0)[: count + 1]
        return lowest[:, count]
