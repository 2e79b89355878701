"""The views of test-time augmentation against NumPy's slices."""

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.data.views import Views
from srn_tf.errors import InputError


def numpy_views(squares, tta, size):
    """Of squares (B, R, R, 3) the views, in their order."""
    end = squares.shape[1] - size
    origins = [(0, 0), (0, end), (end, 0), (end, end), (end // 2, end // 2)] if "5crop" in tta else [(0, 0)]
    for top, left in origins:
        view = squares[:, top : top + size, left : left + size]
        yield view
        if "flip" in tta:
            yield view[:, :, ::-1]


@pytest.mark.parametrize(("tta", "count", "side_px"), [("flip", 2, 28), ("flip,5crop", 10, 32)])
def test_views_and_their_mean(tta, count, side_px):
    views = Views(tta, 28)
    assert (views.count, views.square_px) == (count, side_px)
    squares = np.random.default_rng(0).integers(0, 256, (3, side_px, side_px, 3)).astype(np.float32)
    expected = list(numpy_views(squares, tta, 28))
    assert len(expected) == count
    for index, view in enumerate(expected):
        np.testing.assert_array_equal(views.cut(squares.astype(np.uint8), index), view)
    weights = np.random.default_rng(1).normal(0, 0.05, (28, 28, 3)).astype(np.float32)
    seen = []

    def answer(image):
        seen.append(image.shape)
        return {"p": tf.sigmoid(tf.einsum("bhwc,hwc->b", image / 255.0, weights)[:, None])}

    mean = tf.function(lambda squares: views.mean(answer, squares))(tf.constant(squares))["p"]
    np.testing.assert_allclose(mean, np.mean([answer(tf.constant(view))["p"] for view in expected], axis=0), rtol=1e-5)
    assert len(seen) - count == min(count, 2)  # traced once, however many views


def test_grey_levels_are_whole():
    squares = tf.constant([0.4, 0.6, 254.7, 255.2, -0.3])
    assert Views("flip", 56).rounded(squares).numpy().tolist() == [0, 1, 255, 255, 0]


def test_an_unknown_augmentation():
    with pytest.raises(InputError, match="tta must be one of none; flip; 5crop; flip,5crop. Received: '10crop'."):
        Views("10crop", 56)
