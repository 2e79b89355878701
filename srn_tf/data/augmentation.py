"""What of an image is seen: the paper's crops (section 3.4) of random width and height at one of some places, crops of
random area anywhere; and mirroring.

Of an image, and in the same way of the boxes of what is in it.
"""

import math

import tensorflow as tf

from srn_tf.data.crops import RandomResizedCrop

# The paper's: an image is resized to 256 for a network input of 224.
_RESIZED_PX = 256
_INPUT_PX = 224
_TRIES = 10  # of a crop of random area, as in torchvision


def resized_px(size_px):
    """Side the image is resized to before cropping: 256 for an input of 224, in proportion otherwise."""
    return round(size_px * _RESIZED_PX / _INPUT_PX)


def random_crop(size_px, seed, crops):
    """Draws a crop: first its height and width, then its place.

    Of crops.Crops, all pairs of height and width are equally likely. Of crops.RandomResizedCrop, the area is uniform,
    and so is the logarithm of width / height; the first of ten draws that fits is taken. If none does, the first is
    cut to the square (torchvision: the largest crop in the centre).

    Args:
        size_px: side S of the network's input, pixels, to which the crop is to be squashed.
        seed: int (2,), a stateless seed; equal seeds give equal crops.
        crops: crops.Crops or crops.RandomResizedCrop.
    Returns:
        int32 (4,): top, left, height, width in a square of side resized_px(size_px), pixels.
    """
    seeds = tf.random.split(seed)
    side_px = resized_px(size_px)
    if isinstance(crops, RandomResizedCrop):
        return _crop_of_random_area(side_px, seeds, crops)
    pairs = [[round(scale * side_px) for scale in pair] for pair in crops.pairs]
    extent = tf.constant(pairs)[tf.random.stateless_uniform([], seeds[0], 0, len(pairs), tf.int32)]
    positions = crops.positions
    position = tf.constant(positions)[tf.random.stateless_uniform([], seeds[1], 0, len(positions), tf.int32)]
    origin = tf.round(position * tf.cast(side_px - extent, tf.float32))
    return tf.concat([tf.cast(origin, tf.int32), extent], 0)


def _crop_of_random_area(side_px, seeds, crops):
    drawn = tf.random.stateless_uniform([2, _TRIES], seeds[0])
    area = crops.min_area + (1.0 - crops.min_area) * drawn[0]
    ratio = tf.exp(math.log(crops.max_ratio) * (2.0 * drawn[1] - 1.0))
    sides = tf.sqrt(tf.stack([area / ratio, area * ratio], axis=1))  # (tries, 2), height and width as shares
    extent = sides[tf.argmax(tf.reduce_all(sides <= 1.0, axis=1), output_type=tf.int32)]
    extent = tf.clip_by_value(tf.cast(tf.round(extent * side_px), tf.int32), 1, side_px)
    places = zip(tf.unstack(tf.random.split(seeds[1])), tf.unstack(side_px - extent))
    origin = [tf.random.stateless_uniform([], seed, 0, room + 1, tf.int32) for seed, room in places]
    return tf.concat([origin, extent], 0)


def random_mirror(image, seed):
    """Mirrors left to right with probability one half: float32 (S, S, 3), int (2,) -> float32 (S, S, 3)."""
    return tf.cond(_is_mirrored(seed), lambda: tf.reverse(image, axis=[1]), lambda: image)


def crop_boxes(boxes, crop, side_px):
    """Boxes as they lie in a crop, cut off at its edges.

    Args:
        boxes: float32 (K, 4), ymin, xmin, ymax, xmax in fractions of the image.
        crop: int32 (4,): top, left, height, width in a square of side `side_px`, pixels, see `random_crop`.
        side_px: int.
    Returns:
        (boxes, is_seen): float32 (K, 4), in fractions of the crop; bool (K,), False where none of the box's area is
        in the crop.
    """
    origin, extent = tf.split(tf.cast(crop, tf.float32), 2)
    moved = (boxes * float(side_px) - tf.tile(origin, [2])) / tf.tile(extent, [2])
    boxes = tf.clip_by_value(moved, 0.0, 1.0)
    return boxes, tf.reduce_all(boxes[:, 2:] > boxes[:, :2], axis=1)


def random_mirror_boxes(boxes, seed):
    """Mirrors boxes (K, 4) exactly where `random_mirror` mirrors the image with the same seed."""
    top, left, bottom, right = tf.unstack(boxes, axis=1)
    mirrored = tf.stack([top, 1.0 - right, bottom, 1.0 - left], axis=1)
    return tf.where(_is_mirrored(seed), mirrored, boxes)


def _is_mirrored(seed):
    return tf.random.stateless_uniform([], seed) < 0.5
