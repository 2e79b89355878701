import json

import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.evaluation.pointing import PointingGame, box_mask


def test_box_mask_marks_the_cells_whose_centre_is_inside():
    # A 2 x 4 grid: centres at y = .25, .75 and x = .125, .375, .625, .875.
    boxes = np.array([[0.0, 0.0, 0.5, 0.5], [0.6, 0.5, 1.0, 0.9], [0.0, 0.8, 1.0, 1.0]])
    mask = box_mask(boxes, np.array([0, 2, 2]), 2, 4, 3)
    assert mask.shape == (2, 4, 3)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask[..., 0], [[1, 1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(mask[..., 1], np.zeros((2, 4)))
    np.testing.assert_array_equal(mask[..., 2], [[0, 0, 0, 1], [0, 0, 1, 1]])


def test_a_box_edge_on_a_centre_is_inside():
    mask = box_mask([[0.25, 0.25, 0.75, 0.75]], [0], 2, 2, 1)
    np.testing.assert_array_equal(mask[..., 0], [[1, 1], [1, 1]])


@pytest.mark.parametrize(
    ("box", "cell"),
    [
        ([0.1, 0.3, 0.2, 0.4], (0, 1)),  # small, between the centres
        ([0.5, 0.5, 0.5, 0.5], (2, 2)),  # a point on the corner of four cells falls to the lower right one
        ([1.0, 1.0, 1.0, 1.0], (3, 3)),  # a point on the image's edge stays in the grid
        ([0.0, 0.3, 1.0, 0.32], (2, 1)),  # higher than the grid but between two columns of centres
    ],
)
def test_a_box_without_a_centre_claims_the_cell_of_its_own(box, cell):
    mask = box_mask(np.array([box]), np.array([0]), 4, 4, 1)
    assert [tuple(found) for found in np.argwhere(mask[..., 0])] == [cell]


def test_no_boxes():
    assert not box_mask(np.zeros((0, 4)), [], 3, 3, 2).any()


@pytest.mark.parametrize(
    ("boxes", "box_labels", "message"),
    [
        (np.zeros((2, 3)), [0, 0], r"boxes must have shape \(K, 4\) .* Received: boxes \(2, 3\), box_labels \(2,\)"),
        (np.zeros((2, 4)), [0], r"Received: boxes \(2, 4\), box_labels \(1,\)"),
        ([[0.5, 0.0, 0.4, 1.0]], [0], r"each maximum at least its minimum. Received: \[0.5, 0.0, 0.4, 1.0\]"),
        ([[0.0, 0.0, np.nan, 1.0]], [0], r"finite .* Received: \[0.0, 0.0, nan, 1.0\]"),
        ([[0.0, 0.0, 1.0, 1.0]], [2], r"box_labels must be integers from 0 to 1. Received: \[2\]"),
        ([[0.0, 0.0, 1.0, 1.0]], [-1], r"box_labels must be integers from 0 to 1. Received: \[-1\]"),
        ([[0.0, 0.0, 1.0, 1.0]], [0.5], r"box_labels must be integers from 0 to 1. Received: \[0.5\]"),
    ],
)
def test_bad_boxes(boxes, box_labels, message):
    with pytest.raises(InputError, match=message):
        box_mask(boxes, box_labels, 2, 2, 2)


def test_hand_worked_game():
    game = PointingGame(grid_height=2, grid_width=2, num_labels=3)
    # Image 1: label 0's box is the upper left cell, label 1's the right column; label 2 is true without a box.
    boxes = np.array([[0.0, 0.0, 0.5, 0.5], [0.0, 0.5, 1.0, 1.0]])
    game.update(np.array([0, 2, 1]), boxes, np.array([0, 1]), np.array([True, True, True]))
    # Image 2: label 0's box is the whole image, label 1's the lower left cell but label 1 is not true.
    boxes = np.array([[0.0, 0.0, 1.0, 1.0], [0.5, 0.0, 1.0, 0.5]])
    game.update(np.array([3, 2, 0]), boxes, np.array([0, 1]), np.array([1, -1, 0]))
    # Image 3: nothing.
    game.update(np.array([0, 0, 0]), np.zeros((0, 4)), np.zeros(0), np.zeros(3, dtype=bool))

    result = game.result()
    # Pairs: (1, label 0) hit, 1/4 of the cells; (1, label 1) missed, 2/4; (2, label 0) hit, 4/4.
    assert (result["hits"], result["pairs"]) == (2, 3)
    assert result["accuracy"] == pytest.approx(200 / 3)
    assert result["chance"] == pytest.approx(100 * (0.25 + 0.5 + 1) / 3)
    assert result["per_label"] == [
        {"hits": 2, "pairs": 2, "accuracy": 100.0, "chance": 62.5},
        {"hits": 0, "pairs": 1, "accuracy": 0.0, "chance": 50.0},
        {"hits": 0, "pairs": 0, "accuracy": None, "chance": None},
    ]
    assert json.loads(json.dumps(result)) == result


def test_no_pairs():
    none = {"hits": 0, "pairs": 0, "accuracy": None, "chance": None}
    assert PointingGame(2, 2, 1).result() == {**none, "per_label": [none]}


@pytest.mark.parametrize(
    ("argmax_cells", "positives", "message"),
    [
        ([0], [True, True], r"shape \(2,\), one value per label. Received: argmax_cells \(1,\), positives \(2,\)"),
        ([0, 0], [True], r"Received: argmax_cells \(2,\), positives \(1,\)"),
        ([0, 6], [True, True], "integers from 0 to 5, cells of the 2 x 3 grid. Received: 0 to 6, int64"),
        ([-1, 0], [True, True], "Received: -1 to 0, int64"),
        ([0.0, 1.0], [True, True], "Received: 0.0 to 1.0, float64"),
    ],
)
def test_bad_update(argmax_cells, positives, message):
    with pytest.raises(InputError, match=message):
        PointingGame(2, 3, 2).update(argmax_cells, np.zeros((0, 4)), [], positives)
