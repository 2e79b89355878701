"""Sampling for long tails: images of rare labels come more than once in an epoch.

Source: Gupta, Dollar and Girshick, "LVIS", CVPR 2019, appendix: a label on the share f of the training images has the
factor max(1, sqrt(t / f)), an image the largest factor of its labels.
"""

import logging

import numpy as np

from srn_tf.data.label_facts import label_blocks

logger = logging.getLogger("srn_tf")

_STREAM = 1  # of random numbers, so that they are not those of the fixed versions


def repeat_factors(records, threshold):
    """How often each image comes in an epoch, on average; read in one pass over the labels.

    Args:
        records: see `pipeline.read_records`.
        threshold: t in (0, 1], share of the images below which a label is rare.
    Returns:
        float64 (N,), >= 1; 1 for an image without a rare label.
    """
    rows, columns, num_images, num_labels = [], [], 0, 0
    for labels in label_blocks(records):
        found = np.nonzero(labels == 1)
        rows.append(found[0] + num_images)
        columns.append(found[1])
        num_images, num_labels = num_images + len(labels), labels.shape[1]
    rows, columns = np.concatenate(rows), np.concatenate(columns)
    positives = np.bincount(columns, minlength=num_labels)
    of_label = np.sqrt(np.maximum(1.0, threshold * num_images / np.maximum(positives, 1)))
    factors = np.ones(num_images)
    np.maximum.at(factors, rows, of_label[columns])
    logger.info(
        "Images of rare labels are repeated: %d of %d training images, up to %.2f times. An epoch has %d images.",
        np.count_nonzero(factors > 1),
        num_images,
        factors.max(),
        images_of_an_epoch(factors),
    )
    return factors


def images_of_an_epoch(factors):
    """How many images an epoch has, the same for all epochs: int, the sum of the factors, rounded down."""
    whole, rest = _whole_and_rest(factors)
    return int(whole.sum()) + _num_extra(rest)


def repeats_of_an_epoch(factors, seed, epoch):
    """How often each image comes in one epoch: its factor, rounded up or down at random.

    What is beyond whole numbers is drawn by systematic sampling in random order: laid end to end, it is an image's own
    extra place where a mark of a scale with steps of 1 falls on it. So all epochs are equally long.

    Args:
        factors: float64 (N,), see `repeat_factors`.
        seed, epoch: ints that decide the rounding.
    Returns:
        int64 (N,), >= 1; the sum is `images_of_an_epoch`.
    """
    whole, rest = _whole_and_rest(factors)
    num_extra = _num_extra(rest)
    if not num_extra:
        return whole
    random = np.random.default_rng((seed, epoch, _STREAM))
    order = random.permutation(len(rest))
    ends = np.cumsum(rest[order])
    ends *= num_extra / ends[-1]
    marks = np.minimum(np.floor(ends - random.random()).astype(np.int64) + 1, num_extra)  # up to each end
    marks[-1] = num_extra
    repeats = whole.copy()
    repeats[order] += np.diff(marks, prepend=0)
    return repeats


def _whole_and_rest(factors):
    whole = np.floor(factors)
    return whole.astype(np.int64), factors - whole


def _num_extra(rest):
    return int(rest.sum() + 1e-6)  # a whole sum may come out smaller by rounding
