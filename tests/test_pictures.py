"""Figures as files and as pixels."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from srn_tf import pictures
from srn_tf.errors import InputError


@pytest.fixture
def figure():
    """4 x 2 inches at 50 pixels an inch: the left half red, the right half blue."""
    figure = Figure(figsize=(4, 2), dpi=50)
    panel = figure.add_axes((0, 0, 1, 1))
    panel.axis("off")
    panel.imshow([[(1.0, 0.0, 0.0), (0.0, 0.0, 1.0)]], aspect="auto", interpolation="nearest")
    return figure


def test_to_pixels(figure):
    pixels = pictures.to_pixels(figure)
    assert pixels.shape == (100, 200, 3) and pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels[50, [20, 180]], [(255, 0, 0), (0, 0, 255)])


def test_save_png(figure, tmp_path):
    pictures.save_png(figure, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), pictures.to_pixels(figure))


def test_a_picture_that_cannot_be_written(figure, tmp_path):
    path = tmp_path / "none" / "figure.png"
    with pytest.raises(InputError, match=f"{path} must be a writable file. Received: No such file"):
        pictures.save_png(figure, path)
