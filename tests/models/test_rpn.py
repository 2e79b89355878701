"""The region proposal network: its anchors' sides, its loss against NumPy, and what it proposes."""

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.models import boxes as geometry
from srn_tf.models.rpn import Proposals, build_rpn, draw_samples, match, rpn_loss
from tests.models.test_boxes import overlap_of, random_boxes

FILLING = [0.0, 0.0, 1.0, 1.0]


def test_sides_of_anchors_by_hand():
    anchors = np.float32(
        [
            *([0, 0, 0.5, 0.5], [0, 0.5, 0.5, 1], [0.5, 0, 1, 0.5]),
            *([-0.1, 0, 0.4, 0.5], [0.5, 0.5, 1, 1], [0.5, 0.6, 1, 1.1]),
        ]
    )
    # 0.9 of the first, 0.61 of the fourth, which crosses the edge; the second box a third of two, a fifth of the last.
    boxes = np.float32([[[0, 0, 0.5, 0.45], [0.5, 0.25, 1, 0.75], FILLING], [FILLING] * 3])
    is_box = np.array([[True, True, False], [False] * 3])
    is_positive, is_negative, matched = (value.numpy() for value in match(anchors, boxes, is_box))
    assert is_positive.tolist() == [[True, False, True, False, True, False], [False] * 6]
    assert is_negative.tolist() == [
        [False, True, False, False, False, False],
        [True, True, True, False, True, False],  # without boxes all within the image
    ]
    np.testing.assert_array_equal(matched[0, [0, 2, 4]], boxes[0, [0, 1, 1]])


def test_the_best_anchor_of_a_box_is_positive_beyond_the_edge_too():
    anchors = np.float32([[-0.2, 0, 0.2, 0.4], [0.5, 0.5, 0.9, 0.9]])
    is_positive, is_negative, _ = match(anchors, np.float32([[[0, 0, 0.2, 0.4]]]), np.array([[True]]))
    assert is_positive.numpy().tolist() == [[True, False]] and is_negative.numpy().tolist() == [[False, True]]


@pytest.mark.parametrize(
    "positives, negatives, expected",
    [(300, 600, (128, 128)), (10, 600, (10, 246)), (0, 600, (0, 256)), (300, 5, (128, 5)), (0, 0, (0, 0))],
)
def test_samples_are_drawn(positives, negatives, expected):
    is_positive = np.arange(1000) < positives
    is_negative = np.arange(1000) >= 1000 - negatives
    drawn = [draw_samples(is_positive[None], is_negative[None], (7, seed)) for seed in (0, 0, 1)]
    for some, from_which in zip(drawn[0], (is_positive, is_negative), strict=True):
        assert not (some.numpy()[0] & ~from_which).any()
    assert tuple(int(tf.math.count_nonzero(some)) for some in drawn[0]) == expected
    same = [all(bool((a.numpy() == b.numpy()).all()) for a, b in zip(drawn[0], other)) for other in drawn[1:]]
    assert same == [True, positives <= 128 and negatives <= 128]


def loss_of(offsets, logits, boxes, is_box):
    """The loss of one image whose anchors are few enough for none to be left out, written out."""
    anchors = geometry.make_anchors(*logits.shape[:2])
    offsets, logits = offsets.reshape(-1, 4).astype(np.float64), logits.reshape(-1).astype(np.float64)
    boxes = boxes[is_box]
    overlaps = np.array([[overlap_of(anchor, box) for box in boxes] for anchor in anchors])
    positives, negatives, distances = [], [], []
    for a, anchor in enumerate(anchors):
        is_inside = anchor.min() >= 0 and anchor.max() <= 1
        most = overlaps[a].max() if len(boxes) else 0.0
        is_best = any(overlaps[a, k] == overlaps[:, k].max() > 0 for k in range(len(boxes)))
        if is_best or (is_inside and most > 0.7):
            positives.append(np.log1p(np.exp(-logits[a])))
            box = boxes[overlaps[a].argmax()]
            size, anchor_size = box[2:] - box[:2], anchor[2:] - anchor[:2]
            centres = (box[2:] + box[:2] - anchor[2:] - anchor[:2]) / 2 / anchor_size
            away = np.abs(offsets[a] - np.concatenate([centres, np.log(size / anchor_size)]))
            distances.append(np.mean([0.5 * d * d if d < 1 else d - 0.5 for d in away]))
        elif is_inside and most < 0.3:
            negatives.append(np.log1p(np.exp(logits[a])))
    assert len(positives) <= 128 and len(positives) + len(negatives) <= 256

    def mean(values):
        return np.mean(values) if values else 0.0

    return 0.1 * (mean(positives) + mean(negatives)) + 0.05 * mean(distances) + 5e-5 * (offsets**2).sum() / 2


def test_loss():
    """Of images with boxes, with one and without any, which trains without NaN."""
    rng = np.random.default_rng(0)
    offsets = rng.normal(size=(3, 3, 4, 12, 4)).astype(np.float32)
    logits = rng.normal(size=(3, 3, 4, 12)).astype(np.float32)
    boxes = random_boxes(rng, 3, 4)
    is_box = np.array([[True] * 4, [True, False, False, False], [False] * 4])
    boxes[~is_box] = 0.0
    given = tf.constant(offsets), tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(given)
        received = rpn_loss(*given, tf.constant(boxes), tf.constant(is_box), (0, 1))
    expected = [loss_of(offsets[i], logits[i], boxes[i], is_box[i]) for i in range(3)]
    np.testing.assert_allclose(received, expected, rtol=1e-4)
    gradients = [gradient.numpy() for gradient in tape.gradient(received, given)]
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    np.testing.assert_allclose(gradients[0][2], 5e-5 * offsets[2], rtol=1e-5)  # no box: the offsets' decay alone


def test_network():
    network = build_rpn((3, 4, 5), 6)
    found = network(np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32))
    assert found["offsets"].shape == (2, 3, 4, 12, 4) and found["objectness"].shape == (2, 3, 4, 12)
    assert not found["offsets"].numpy().any()  # starts at the anchors themselves
    assert network.count_params() == 9 * 5 * 6 + 6 + 6 * 48 + 48 + 6 * 12 + 12


def test_proposals_by_hand():
    anchors = geometry.make_anchors(2, 2)
    offsets, objectness = np.zeros((3, 48, 4), np.float32), np.full((3, 48), -5.0, np.float32)
    objectness[0, [40, 2]] = 9.0, 8.0
    offsets[0, 40] = [1.0, 0.0, 0.0, 0.0]  # a height further down, cut off at the edge or beyond it
    offsets[1:] = 11.0  # of no use
    offsets[1, 3], offsets[1, 30] = 0.0, [10.0, 0.0, -10.0, -10.0]  # the latter is outside of the image
    layer = Proposals(4)
    shaped = offsets.reshape(3, 2, 2, 12, 4), objectness.reshape(3, 2, 2, 12)
    found, is_region = (value.numpy() for value in layer([tf.constant(value) for value in shaped]))
    assert is_region.tolist() == [[True] * 4, [True, False, False, False], [True, False, False, False]]
    expected = anchors[40] + (anchors[40, 2] - anchors[40, 0]) * np.float32([1, 0, 1, 0])
    places = np.flatnonzero((np.abs(found[0] - np.clip(expected, 0, 1)) < 1e-6).all(axis=1))
    assert len(places) == 1
    assert (np.abs(found[0] - np.clip(anchors[2], 0, 1)) < 1e-6).all(axis=1).any()
    np.testing.assert_allclose(found[1], [np.clip(anchors[3], 0, 1), [0] * 4, [0] * 4, [0] * 4], atol=1e-6)
    np.testing.assert_array_equal(found[2], [[0, 0, 1, 1], [0] * 4, [0] * 4, [0] * 4])  # the whole image
