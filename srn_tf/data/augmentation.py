"""The paper's augmentation (section 3.4): crops of random width and height at the corners or the centre.

Of an image, and in the same way of the boxes of what is in it.
"""

import numpy as np
import tensorflow as tf

# The paper's sizes for an image resized to 256 and a network input of 224.
_RESIZED_PX = 256
_INPUT_PX = 224
_CROP_PX = (256, 224, 192, 168, 128)
# (top, left) of a crop as a share of the free room: four corners and the centre.
_POSITIONS = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5))


def resized_px(size_px):
    """Side the image is resized to before cropping: 256 for an input of 224, in proportion otherwise."""
    return round(size_px * _RESIZED_PX / _INPUT_PX)


def random_crop(size_px, seed, max_distortion=None):
    """Draws a crop at one of five positions with random width and height.

    Args:
        size_px: side S of the network's input, pixels, to which the crop is to be squashed.
        seed: int (2,), a stateless seed; equal seeds give equal crops.
        max_distortion: how many steps width and height may lie apart in the list of sizes; None sets
            no limit (the paper's text), 1 is the limit of its source (temporal segment networks). All pairs of width
            and height that are left are equally likely, as there: 13 with a limit of 1.
    Returns:
        int32 (4,): top, left, height, width in a square of side resized_px(size_px), pixels.
    """
    seeds = tf.random.split(seed)
    side_px = resized_px(size_px)
    sizes = [round(px * side_px / _RESIZED_PX) for px in _CROP_PX]
    reach = len(sizes) if max_distortion is None else max_distortion
    pairs = [(sizes[i], sizes[j]) for i, j in np.ndindex(len(sizes), len(sizes)) if abs(i - j) <= reach]
    extent = tf.constant(pairs)[tf.random.stateless_uniform([], seeds[0], 0, len(pairs), tf.int32)]
    position = tf.constant(_POSITIONS)[tf.random.stateless_uniform([], seeds[1], 0, len(_POSITIONS), tf.int32)]
    origin = tf.round(position * tf.cast(side_px - extent, tf.float32))
    return tf.concat([tf.cast(origin, tf.int32), extent], 0)


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
