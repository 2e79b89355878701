"""A region proposal network: what it is made of, what it proposes, and what it learns from boxes.

Source: Ren et al., "Faster R-CNN", NIPS 2015, in the form of DenseCap's localization layer: Johnson et al., CVPR 2016,
numbers as in the authors' repository jcjohnson/densecap. Axes as in `boxes`; k = 12 anchors per cell,
K boxes per image.
"""

import keras
import numpy as np
import tensorflow as tf

from srn_tf.models import boxes as geometry

SAMPLES = 256  # anchors of an image that its loss counts
MOST_POSITIVES = 128  # of them
POSITIVE_OVERLAP, NEGATIVE_OVERLAP = 0.7, 0.3
OBJECTNESS_WEIGHT, BOX_WEIGHT, OFFSET_DECAY = 0.1, 0.05, 5e-5


def build_rpn(map_shape, channels):
    """A 3x3 convolution, then for every anchor of a cell four offsets and one score.

    The source has two scores an anchor under a softmax: their difference is this one under a sigmoid.

    Args:
        map_shape: (H, W, D).
        channels: of the hidden layer.
    Returns:
        keras.Model "rpn": (B, H, W, D) -> dict of float32 "offsets" (B, H, W, k, 4), see `boxes.encode`, and
        "objectness" (B, H, W, k), logits.
    """
    height, width, _ = map_shape

    def normal():
        return keras.initializers.RandomNormal(stddev=0.01)

    x = inputs = keras.Input(map_shape, name="rpn_input")
    x = keras.layers.Conv2D(
        channels, 3, padding="same", activation="relu", kernel_initializer=normal(), name="rpn_conv"
    )(x)
    exact = {"dtype": "float32"}  # under any Keras policy
    offsets = keras.layers.Conv2D(
        4 * geometry.PER_CELL, 1, kernel_initializer="zeros", **exact, name="rpn_offsets_conv"
    )(x)
    objectness = keras.layers.Conv2D(
        geometry.PER_CELL, 1, kernel_initializer=normal(), **exact, name="rpn_objectness_conv"
    )(x)
    shape = (height, width, geometry.PER_CELL, 4)
    offsets = keras.layers.Reshape(shape, **exact, name="rpn_offsets_of_anchors")(offsets)
    return keras.Model(inputs, {"offsets": offsets, "objectness": objectness}, name="rpn")


@keras.saving.register_keras_serializable(package="srn_tf")
class Proposals(keras.layers.Layer):
    """The R regions that a region proposal network is surest of, after non-maximum suppression.

    Boxes are cut off at the image's edges. A box without area, or with an offset beyond 10, is no region. An image
    without any region has one: the whole of it.

    Args:
        count: R, at most the anchors of the grid.
        threshold: intersection over union above which the less sure of two boxes is dropped.

    Call: offsets (B, H, W, k, 4), objectness (B, H, W, k) -> boxes float32 (B, R, 4), in the order of their anchors,
    zeros at the end where there are fewer than R; is_region bool (B, R).
    """

    def __init__(self, count, threshold=0.7, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.count, self.threshold = count, threshold

    def call(self, inputs):
        offsets, objectness = inputs
        anchors = geometry.make_anchors(*offsets.shape[1:3])
        offsets = tf.reshape(offsets, [-1, len(anchors), 4])
        largest = geometry.LARGEST_OFFSET
        is_usable = tf.reduce_all(tf.abs(offsets) <= largest, axis=2)
        found = geometry.decode(tf.clip_by_value(offsets, -largest, largest), anchors)
        found = tf.clip_by_value(found, 0.0, 1.0)
        is_usable &= tf.reduce_all(found[..., 2:] > found[..., :2], axis=2)
        scores = tf.reshape(objectness, [-1, len(anchors)])
        kept, is_region = geometry.suppress(found, scores, is_usable, self.count, self.threshold)
        instead = np.zeros((self.count, 4), np.float32)
        instead[0, 2:] = 1.0  # which shows where not even the first is a region
        regions = tf.where(is_region[..., None], tf.gather(found, kept, batch_dims=1), instead)
        return regions, is_region | (tf.range(self.count) == 0)

    def get_config(self):
        return {**super().get_config(), "count": self.count, "threshold": self.threshold}


def rpn_loss(offsets, objectness, boxes, is_box, seed):
    """What the network's anchors say of an image against the boxes in it.

    An anchor is positive if it lies within the image and overlaps with a box by more than 0.7, or if no other overlaps
    more with one of the boxes; negative if it lies within the image and overlaps with every box by less than 0.3. Of
    256 anchors, drawn anew in every step, at most 128 are positive. The loss is 0.1 of the objectness' cross-entropy
    (its mean over positives and its mean over negatives), 0.05 of the smooth L1 distance of the positives' offsets from
    those of the box that each overlaps with most (mean over them and over the four), and half the squared length of all
    offsets times 5e-5. What there is nothing of counts 0.

    Differs from DenseCap, which matches the decoded boxes instead of their anchors: as in Faster R-CNN,
    what an anchor is to learn does not change while it learns.

    Args:
        offsets, objectness: as of `build_rpn`.
        boxes: float32 (B, K, 4).
        is_box: bool (B, K), False for filling.
        seed: two integers, for what is drawn.
    Returns:
        float32 (B,), >= 0.
    """
    anchors = geometry.make_anchors(*objectness.shape[1:3])
    logits = tf.reshape(objectness, [-1, len(anchors)])
    offsets = tf.reshape(offsets, [-1, len(anchors), 4])
    is_positive, is_negative, matched = match(anchors, boxes, is_box)
    is_positive, is_negative = draw_samples(is_positive, is_negative, seed)
    objectness_loss = _mean_of(tf.nn.softplus(-logits), is_positive) + _mean_of(tf.nn.softplus(logits), is_negative)
    targets = geometry.encode(tf.where(is_positive[..., None], matched, anchors), anchors)
    distance = tf.abs(offsets - targets)
    smooth = tf.where(distance < 1.0, 0.5 * distance**2, distance - 0.5)
    box_loss = _mean_of(tf.reduce_mean(smooth, axis=2), is_positive)
    decay = 0.5 * tf.reduce_sum(offsets**2, axis=[1, 2])
    return OBJECTNESS_WEIGHT * objectness_loss + BOX_WEIGHT * box_loss + OFFSET_DECAY * decay


def match(anchors, boxes, is_box):
    """Which anchors stand for a box and which for none, see `rpn_loss`.

    Args:
        anchors: float32 array (A, 4).
        boxes, is_box: as of `rpn_loss`.
    Returns:
        (is_positive, is_negative, matched): bool (B, A) twice; float32 (B, A, 4), the box that each overlaps with most.
    """
    overlaps = tf.where(is_box[:, None], geometry.overlap(anchors, boxes), 0.0)  # (B, A, K)
    is_inside = ((anchors >= 0.0) & (anchors <= 1.0)).all(axis=1)
    most = tf.reduce_max(overlaps, axis=2)
    is_best = (overlaps == tf.reduce_max(overlaps, axis=1, keepdims=True)) & (overlaps > 0.0)
    is_best = tf.reduce_any(is_best, axis=2)
    is_positive = (is_inside & (most > POSITIVE_OVERLAP)) | is_best
    is_negative = is_inside & (most < NEGATIVE_OVERLAP) & ~is_best
    return is_positive, is_negative, tf.gather(boxes, tf.argmax(overlaps, axis=2), batch_dims=1)


def draw_samples(is_positive, is_negative, seed):
    """Draws 256 anchors of each image: at most 128 positives, and negatives for the rest.

    Args:
        is_positive, is_negative: bool (B, A).
        seed: two integers.
    Returns:
        bool (B, A) twice, those of each that were drawn; fewer where there are no more.
    """
    keys = tf.random.stateless_uniform(tf.shape(is_positive), seed)
    positives = _highest(keys, is_positive, tf.fill([tf.shape(keys)[0]], MOST_POSITIVES))
    return positives, _highest(keys, is_negative, SAMPLES - tf.math.count_nonzero(positives, axis=1, dtype=tf.int32))


def _highest(keys, is_candidate, counts):
    """The candidates of the highest keys, so many of each image: float32, bool (B, A), int32 (B,) -> bool (B, A)."""
    keys = tf.where(is_candidate, keys, -1.0)
    best = tf.math.top_k(keys, min(SAMPLES, keys.shape[1])).values
    lowest = tf.gather(best, tf.minimum(counts, best.shape[1])[:, None] - 1, batch_dims=1)
    return is_candidate & (keys >= lowest)


def _mean_of(values, is_in):
    """The mean over those that are in, 0 over none: (B, A), bool (B, A) -> (B,)."""
    values = tf.where(is_in, values, 0.0)
    return tf.reduce_sum(values, axis=1) / tf.maximum(tf.math.count_nonzero(is_in, axis=1, dtype=tf.float32), 1.0)
