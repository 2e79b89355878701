"""Augmentations of a whole batch: Mixup, CutMix and SpliceMix, which make images of several; and label smoothing.

A batch is {"image": float32 (b, S, S, 3), "y": float32 (b, C) in {0, 1}} and perhaps "counted": float32 (b, C), 0 where
a label is not known, else 1. Whatever is drawn depends on the seed alone.

Mixup and CutMix mix the losses of two images rather than their labels, which for known labels is the same: a label that
is known of one image only counts with that image's share. So "counted" becomes the weight of an entry, in [0, 1], and
"y" its label in [0, 1] among what is known.
"""

import functools

import tensorflow as tf

from srn_tf.data.augments import SPLICED

_GRIDS = {(1, 2): 0.15, (2, 1): 0.15, (2, 2): 0.4, (2, 3): 0.15, (3, 2): 0.15}
"""SpliceMix: (rows, columns) -> probability."""

BLANK = (123.675, 116.28, 103.53)
"""Colour of a blank cell: ImageNet's mean, which is 0 for a network that subtracts it."""


def mixed(batch, seed, effects):
    """A batch as training sees it.

    Args:
        batch: see the module; with label smoothing alone there may be anything in place of images.
        seed: int (2,), a stateless seed.
        effects: augments.Effects.
    Returns:
        The batch; with SpliceMix larger by a quarter, see `splicemix`.
    """
    if effects.mix == "mixup":
        batch = mixup(batch, seed, effects.mixup_alpha)
    elif effects.mix == "cutmix":
        batch = cutmix(batch, seed, effects.cutmix_alpha)
    elif effects.mix == "splicemix":
        batch = splicemix(batch, seed, effects.splicemix_blanks)
    if "label_smoothing" in effects.names:
        batch = {**batch, "y": smoothed(batch["y"], effects.smoothing)}
    return batch


def smoothed(y, share):
    """Moves labels towards 1/2: y (1 - share) + share / 2, as Keras' BinaryCrossentropy does."""
    return y * (1.0 - share) + share / 2.0


def mixup(batch, seed, alpha):
    """Lays over each image another one of the batch.

    Source: Zhang et al., "mixup", ICLR 2018. Differs from it: every image has a share of its own, not every batch.

    Args:
        batch, seed: see `mixed`.
        alpha: of Beta(alpha, alpha), from which an image's share of itself is drawn.
    Returns:
        The batch, of the same size.
    """
    seeds = tf.random.split(seed)
    partners, kept = _partners(batch, seeds[0]), _beta(batch, seeds[1], alpha)
    share = kept[:, None, None, None]
    image = share * batch["image"] + (1.0 - share) * tf.gather(batch["image"], partners)
    return {**batch, "image": image, **_mixed_labels(batch, partners, kept)}


def cutmix(batch, seed, alpha):
    """Replaces a rectangle of each image by the same one of another image of the batch.

    The rectangle has the image's shape and 1 - s of its area, s from Beta(alpha, alpha). Its centre is anywhere; what
    lies outside is cut off. Labels are mixed by the area that is left. Source: Yun et al., "CutMix", ICCV 2019. Differs
    from it: every image has a rectangle of its own, not every batch.

    Args and return value: as of `mixup`.
    """
    seeds = tf.random.split(seed, 3)
    partners, kept = _partners(batch, seeds[0]), _beta(batch, seeds[1], alpha)
    size_px = batch["image"].shape[1]
    half = tf.sqrt(1.0 - kept)[:, None] / 2.0
    centre = tf.random.stateless_uniform([tf.size(kept), 2], seeds[2])
    first, last = (tf.round((centre + side) * size_px)[:, :, None] for side in (-half, half))
    places = tf.range(size_px, dtype=tf.float32)
    rows, columns = tf.unstack((places >= first) & (places < last), axis=1)
    is_other = rows[:, :, None] & columns[:, None, :]
    image = tf.where(is_other[..., None], tf.gather(batch["image"], partners), batch["image"])
    kept = 1.0 - tf.reduce_mean(tf.cast(is_other, tf.float32), axis=[1, 2])
    return {**batch, "image": image, **_mixed_labels(batch, partners, kept)}


def splicemix(batch, seed, blanks):
    """Adds a spliced image behind every four images of the batch: a grid of its images, made smaller.

    Every batch has one grid, of `_GRIDS`; the images in it come from random orders of the batch, laid end to end. With
    probability `blanks`, every grid of the batch has a number of blank cells, from 1 to all but one, each drawn for
    itself. A spliced image has the labels of all its cells that are not blank. A label counts if it is known to be true
    in one cell, or known in all.

    Source: "SpliceMix: a cross-scale and semantic blending augmentation strategy for multi-label image classification",
    in the default setting of its authors' code, without its consistency loss. Differs from it: spliced images stand
    behind every four of the batch, so that equal shares of a batch hold equally many.

    Args:
        batch: see the module; b is a multiple of 4.
        seed: see `mixed`.
        blanks: probability.
    Returns:
        The batch with b + b / 4 images.
    """
    seeds = tf.random.split(seed, 3)
    bounds = tf.cumsum(list(_GRIDS.values()), exclusive=True)[1:]
    grid = tf.reduce_sum(tf.cast(tf.random.stateless_uniform([], seeds[0]) >= bounds, tf.int32))
    branches = [functools.partial(_spliced, batch, seeds[1:], blanks, *sides) for sides in _GRIDS]
    spliced = tf.switch_case(grid, branches)
    b = batch["y"].shape[0]

    def behind_each_four(values, new):
        parts = tf.concat([tf.reshape(values, [b // SPLICED, SPLICED, *values.shape[1:]]), new[:, None]], 1)
        return tf.reshape(parts, [b + b // SPLICED, *values.shape[1:]])

    return {name: behind_each_four(values, spliced[name]) for name, values in batch.items()}


def _spliced(batch, seeds, blanks, rows, columns):
    """The b / 4 spliced images of a batch, of this grid."""
    image, y = batch["image"], batch["y"]
    counted = batch.get("counted", tf.ones_like(y))
    b, size_px, cells = image.shape[0], image.shape[1], rows * columns
    count = b // SPLICED
    orders = tf.argsort(tf.random.stateless_uniform([-(-cells // SPLICED), b], seeds[0]), axis=1)
    sources = tf.reshape(orders, [-1])[: count * cells]
    draws = tf.random.split(seeds[1], 3)
    num_blanks = tf.random.stateless_uniform([], draws[0], 1, cells, tf.int32)
    num_blanks = tf.where(tf.random.stateless_uniform([], draws[1]) < blanks, num_blanks, 0)
    ranks = tf.argsort(tf.argsort(tf.random.stateless_uniform([count, cells], draws[2]), axis=1), axis=1)
    is_shown = ranks >= num_blanks  # (count, cells)

    cell_px = [size_px // rows, size_px // columns]
    parts = _resized(tf.gather(image, sources), cell_px)
    parts = tf.where(tf.reshape(is_shown, [-1, 1, 1, 1]), parts, tf.constant(BLANK))
    parts = tf.reshape(parts, [count, rows, columns, *cell_px, 3])
    whole = tf.reshape(tf.transpose(parts, [0, 1, 3, 2, 4, 5]), [count, rows * cell_px[0], columns * cell_px[1], 3])

    # 0 false, 1/2 not known, 1 true: the highest of the cells.
    truth = tf.reshape(tf.gather(y * counted + 0.5 * (1.0 - counted), sources), [count, cells, -1])
    truth = tf.reduce_max(truth * tf.cast(is_shown, tf.float32)[..., None], axis=1)
    spliced = {"image": _resized(whole, [size_px, size_px]), "y": tf.cast(truth == 1.0, tf.float32)}
    return spliced | ({"counted": tf.cast(truth != 0.5, tf.float32)} if "counted" in batch else {})


def _resized(images, size_px):
    """Bilinear, corner pixels on corner pixels; nothing if that is their size."""
    if images.shape[1:3] == size_px:
        return images
    return tf.raw_ops.ResizeBilinear(images=images, size=size_px, align_corners=True, half_pixel_centers=False)


def _partners(batch, seed):
    """For each image another one, or itself: a random order, int32 (b,)."""
    return tf.argsort(tf.random.stateless_uniform([tf.shape(batch["y"])[0]], seed))


def _beta(batch, seed, alpha):
    """Draws from Beta(alpha, alpha): float32 (b,)."""
    count = tf.shape(batch["y"])[0]
    # In float64: for a small alpha, nearly all draws from Gamma(alpha) are next to 0.
    one, other = tf.unstack(tf.random.stateless_gamma([2, count], seed, alpha, dtype=tf.float64))
    return tf.cast(tf.math.divide_no_nan(one, one + other), tf.float32)


def _mixed_labels(batch, partners, kept):
    """ "y", and "counted" if the batch has it, of images that keep a share of themselves."""
    kept = kept[:, None]
    y, other_y = batch["y"], tf.gather(batch["y"], partners)
    if "counted" not in batch:
        return {"y": kept * y + (1.0 - kept) * other_y}
    own = kept * batch["counted"]
    others = (1.0 - kept) * tf.gather(batch["counted"], partners)
    return {"y": tf.math.divide_no_nan(own * y + others * other_y, own + others), "counted": own + others}
