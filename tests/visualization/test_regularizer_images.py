"""The images to show are read with their boxes, at their size or smaller."""

import numpy as np

from srn_tf.visualization.regularizer_images import read_shown
from tests.analysis import spots


def test_images_and_boxes():
    records, cells, _ = spots.spot_records(6, with_boxes=True)
    shown = read_shown(records, [4, np.int64(1), 4])
    assert sorted(shown) == [1, 4]
    for position, image in shown.items():
        np.testing.assert_array_equal(np.asarray(image.photo), spots.draw(cells[[position]])[0])
        np.testing.assert_allclose(image.boxes, [[*cells[position] / 14, *(cells[position] + 1) / 14]], rtol=1e-6)
        assert image.box_labels.tolist() == [0]


def test_large_images_are_made_smaller():
    images = np.zeros((1, 400, 600, 3), np.uint8)
    none = np.zeros((1, 1, 4), np.float32), np.full((1, 1), -1)
    records = spots.records(images, np.ones((1, 3), np.int8), *none)
    image = read_shown(records, [0])[0]
    assert image.photo.size == (300, 200) and image.boxes.shape == (0, 4)
