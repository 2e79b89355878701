"""The mathematics of boxes against NumPy and by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.models import boxes as geometry


def random_boxes(rng, *shape):
    first, last = np.sort(rng.random((2, *shape, 2)), axis=0)
    return np.concatenate([first, last], axis=-1).astype(np.float32)


def overlap_of(one, other):
    """Intersection over union of two boxes, written out."""
    height = min(one[2], other[2]) - max(one[0], other[0])
    width = min(one[3], other[3]) - max(one[1], other[1])
    shared = height * width if height > 0 and width > 0 else 0.0
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - shared
    return shared / union if shared else 0.0


def test_anchors_by_hand():
    anchors = geometry.make_anchors(2, 3)
    assert anchors.shape == (2 * 3 * 12, 4) and anchors.dtype == np.float32
    y, x = 0.25, 0.5  # the second cell of the first row
    for place, (width, height) in ((12, (45, 90)), (13, (90, 45)), (23, (512, 512))):
        half_height, half_width = height / 1440, width / 1440
        expected = [y - half_height, x - half_width, y + half_height, x + half_width]
        np.testing.assert_allclose(anchors[place], expected, atol=1e-7)
    np.testing.assert_allclose(anchors[3 * 12 : 4 * 12] - anchors[: 1 * 12], [[0.5, 0, 0.5, 0]] * 12, atol=1e-6)


def test_coding_of_boxes():
    rng = np.random.default_rng(0)
    boxes, anchors = random_boxes(rng, 3, 40), geometry.make_anchors(2, 2)[:40]
    offsets = geometry.encode(boxes, anchors).numpy()
    for box, anchor, offset in zip(boxes[0], anchors, offsets[0], strict=True):
        height, width = anchor[2] - anchor[0], anchor[3] - anchor[1]
        expected = [
            (box[0] + box[2] - anchor[0] - anchor[2]) / 2 / height,
            (box[1] + box[3] - anchor[1] - anchor[3]) / 2 / width,
            math.log((box[2] - box[0]) / height),
            math.log((box[3] - box[1]) / width),
        ]
        np.testing.assert_allclose(offset, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(geometry.decode(offsets, anchors), boxes, atol=1e-5)
    np.testing.assert_allclose(geometry.decode(np.zeros((40, 4), np.float32), anchors), anchors, atol=1e-6)
    (moved,) = geometry.decode(np.float32([[1, 0, 0, math.log(2)]]), np.float32([[0.25, 0.5, 0.5, 0.75]]))
    np.testing.assert_allclose(moved, [0.5, 0.375, 0.75, 0.875], atol=1e-6)


def test_overlap():
    rng = np.random.default_rng(1)
    boxes, others = random_boxes(rng, 2, 9), random_boxes(rng, 2, 5)
    boxes[:, 0] = others[:, 0]  # the same
    boxes[:, 1, 2] = boxes[:, 1, 0]  # without height
    boxes[:, 2] = others[:, 1] = 0.0  # filling, and of both kinds
    others[0, 2], boxes[0, 3] = [0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5]  # touch
    received = geometry.overlap(boxes, others).numpy()
    expected = [[[overlap_of(box, other) for other in others[i]] for box in boxes[i]] for i in range(2)]
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-6)
    assert received[0, 0, 0] == pytest.approx(1.0) and received[0, 3, 2] == received[0, 1].max() == 0.0
    np.testing.assert_allclose(geometry.overlap(boxes[0], others), geometry.overlap(np.stack([boxes[0]] * 2), others))


def kept_of(boxes, scores, is_candidate, count, threshold):
    """Greedy suppression, written out."""
    kept = []
    for place in sorted(np.flatnonzero(is_candidate), key=lambda place: -scores[place]):  # stable
        if len(kept) < count and all(overlap_of(boxes[place], boxes[other]) <= threshold for other in kept):
            kept.append(place)
    return sorted(kept)


@pytest.mark.parametrize("count, threshold", [(5, 0.3), (30, 0.2), (30, 0.7), (1, 0.7)])
def test_suppression(count, threshold):
    """Ties, boxes without area, which overlap with nothing, boxes that are no candidates, and too few of them."""
    rng = np.random.default_rng(2)
    boxes = random_boxes(rng, 3, 30)
    boxes[:, 5] = boxes[:, 6]  # twice the same
    boxes[:, 7, 3] = boxes[:, 7, 1]  # without width
    scores = rng.integers(-5, 5, (3, 30)).astype(np.float32)
    is_candidate = rng.random((3, 30)) < 0.8
    is_candidate[2, 4:] = False
    received, is_real = (value.numpy() for value in geometry.suppress(boxes, scores, is_candidate, count, threshold))
    assert received.shape == is_real.shape == (3, count)
    for i in range(3):
        expected = kept_of(boxes[i], scores[i], is_candidate[i], count, threshold)
        assert received[i].tolist() == expected + [0] * (count - len(expected))
        assert is_real[i].tolist() == [True] * len(expected) + [False] * (count - len(expected))


def test_of_equal_scores_the_first_box_stays_and_the_threshold_itself_is_allowed():
    boxes = np.float32([[[0, 0, 1, 1], [0, 0, 1, 0.5], [0, 0, 1, 0.25]]])
    scores, all_of_them = np.zeros((1, 3), np.float32), np.ones((1, 3), bool)
    for threshold, expected in ((0.5, [0, 1, 2]), (0.49, [0, 2]), (0.2, [0])):
        kept, is_real = geometry.suppress(boxes, scores, all_of_them, 3, threshold)
        assert kept.numpy()[is_real.numpy()].tolist() == expected


def sampled(features, boxes, side):
    """Bilinear samples, written out: (H, W, D), (R, 4) -> (R, side, side, D), float64."""
    height, width, channels = features.shape
    values = np.zeros((len(boxes), side, side, channels))
    for r, (top, left, bottom, right) in enumerate(boxes.astype(np.float64)):
        for i in range(side):
            for j in range(side):
                u, v = (0.5, 0.5) if side == 1 else (i / (side - 1), j / (side - 1))
                y, x = (top + (bottom - top) * u) * (height - 1), (left + (right - left) * v) * (width - 1)
                for row in range(height):
                    for column in range(width):
                        weight = max(0.0, 1 - abs(y - row)) * max(0.0, 1 - abs(x - column))
                        values[r, i, j] += weight * features[row, column]
    return values


@pytest.mark.parametrize("shape, side", [((5, 7), 3), ((4, 4), 1), ((1, 6), 2), ((2, 2), 7)])
def test_samples(shape, side):
    rng = np.random.default_rng(3)
    features = rng.normal(size=(2, *shape, 3)).astype(np.float32)
    boxes = random_boxes(rng, 2, 4)
    boxes[:, 0], boxes[:, 1] = [0, 0, 1, 1], [0, 0, 0, 0]
    received = geometry.sample(tf.constant(features), tf.constant(boxes), side).numpy()
    for i in range(2):
        np.testing.assert_allclose(received[i], sampled(features[i], boxes[i], side), rtol=1e-4, atol=1e-5)
    if side > 1:  # TensorFlow's own, whose gradient of the map is another one each time
        of_tensorflow = tf.image.crop_and_resize(features, boxes.reshape(-1, 4), np.repeat([0, 1], 4), [side, side])
        np.testing.assert_allclose(received.reshape(of_tensorflow.shape), of_tensorflow, rtol=1e-4, atol=1e-5)


def test_the_whole_image_is_the_map_with_aligned_corners():
    features = tf.reshape(tf.range(4.0), [1, 2, 2, 1])
    received = geometry.sample(features, tf.constant([[[0.0, 0.0, 1.0, 1.0]]]), 3)
    np.testing.assert_allclose(received[0, 0, ..., 0], [[0, 0.5, 1], [1, 1.5, 2], [2, 2.5, 3]], atol=1e-6)
    features = tf.random.stateless_normal([1, 5, 5, 2], (0, 1))
    same = geometry.sample(features, tf.constant([[[0.0, 0.0, 1.0, 1.0]]]), 5)
    np.testing.assert_allclose(same[:, 0], features, atol=1e-5)


def test_gradients_of_samples_by_finite_differences():
    rng = np.random.default_rng(4)
    features = rng.normal(size=(1, 4, 5, 2)).astype(np.float32)
    boxes = np.float32([[[0.11, 0.23, 0.74, 0.81], [0.42, 0.06, 0.58, 0.93]]])  # no point near a cell's middle
    pull = rng.normal(size=(2, 2, 2, 2)).astype(np.float32)

    def value(features, boxes):
        return tf.reduce_sum(pull * geometry.sample(features, boxes, 2), axis=[1, 2, 3, 4])

    given = tf.constant(features), tf.constant(boxes)
    with tf.GradientTape() as tape:
        tape.watch(given)
        total = value(*given)
    for which, gradient in enumerate(tape.gradient(total, given)):
        steps = 1e-2 * np.eye(gradient.shape.num_elements(), dtype=np.float32).reshape(-1, *gradient.shape[1:])
        ends = []
        for step in (-steps, steps):  # every number moved by itself, in an image of its own
            moved = [np.repeat(value, len(steps), axis=0) for value in (features, boxes)]
            moved[which] = moved[which] + step
            ends.append(value(*map(tf.constant, moved)).numpy())
        expected = ((ends[1] - ends[0]) / 2e-2).reshape(gradient.shape)
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-3)
