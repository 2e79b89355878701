"""Pictures of attention: plausible pixels that follow the maps, the labels and the images."""

import numpy as np
import pytest
from PIL import Image

from srn_tf import pictures

N, S_PX, GRID, C = 2, 56, 14, 4
LABELS = ["disk", "square", "cross", "ring"]


@pytest.fixture
def drawn():
    """Arguments of draw_attention whose most probable labels are 2, 0 for the first image, 3, 1 for the second."""
    rng = np.random.default_rng(0)
    A = rng.uniform(0, 1, (N, GRID, GRID, C)).astype(np.float32)
    A /= A.sum(axis=(1, 2), keepdims=True)
    return {
        "images": rng.integers(0, 256, (N, S_PX, S_PX, 3)).astype(np.uint8),
        "A": A,
        "U": A * 0.5,
        "probabilities": np.array([[0.7, 0.1, 0.9, 0.2], [0.1, 0.4, 0.2, 0.8]], np.float32),
        "labels": LABELS,
        "num_labels": 2,
    }


def texts(figure):
    """All titles and captions, panel by panel."""
    return [f"{panel.get_title()}|{panel.get_xlabel()}" for panel in figure.axes]


def render(arguments, **changes):
    return pictures.to_pixels(pictures.draw_attention(**{**arguments, **changes}))


def test_size_and_content(drawn):
    pixels = render(drawn)
    height, width = pixels.shape[:2]
    assert pixels.dtype == np.uint8 and pixels.shape[2] == 3
    # 2 rows of 5 panels (the image, then A and U of two labels): wider than high, each panel 100 to 300 pixels.
    assert 200 <= height <= 600 and 500 <= width <= 1500 and width > 1.5 * height
    assert pixels.std() > 20  # not a blank sheet


def test_the_most_probable_labels_are_named_in_order(drawn):
    named = texts(pictures.draw_attention(**drawn))
    assert [text.split("|")[0] for text in named[:10]] == [
        *("", "cross\n0.90", "\nweighted", "disk\n0.70", "\nweighted"),
        *("", "ring\n0.80", "\nweighted", "square\n0.40", "\nweighted"),
    ]


def test_truths_and_titles(drawn):
    truths = np.array([[True, False, False, True], [False, False, False, False]])
    named = texts(pictures.draw_attention(**drawn, truths=truths, titles=["first", "second"]))
    assert named[0] == "first|true: disk, ring" and named[5] == "second|true: none"
    assert named[1] == "cross\n0.90 (not true)|" and named[3] == "disk\n0.70 (true)|"


def test_the_same_arguments_give_the_same_pixels(drawn):
    np.testing.assert_array_equal(render(drawn), render(drawn))


@pytest.mark.parametrize("maps", ["A", "U"])
def test_pixels_change_with_the_maps_that_are_shown(drawn, maps):
    before = render(drawn)
    shown, hidden = drawn[maps].copy(), drawn[maps].copy()
    shown[0, :7, :, 2] = 0.0  # label 2 is shown for image 0
    hidden[0, :, :, 3] = 0.0  # label 3 is not
    assert (render(drawn, **{maps: shown}) != before).any()
    np.testing.assert_array_equal(render(drawn, **{maps: hidden}), before)


def test_pixels_change_with_the_image(drawn):
    assert (render(drawn, images=255 - drawn["images"]) != render(drawn)).any()


def test_a_map_is_drawn_the_right_way_up(drawn):
    """Attention on the top rows alone reddens the upper half of its panel (jet: high is red, low is blue)."""
    A = np.zeros_like(drawn["A"])
    A[:, : GRID // 2, :, :] = 1.0 / (GRID * GRID / 2)
    grey = np.full_like(drawn["images"], 128)
    figure = pictures.draw_attention(**{**drawn, "images": grey, "A": A})
    pixels = pictures.to_pixels(figure).astype(int)
    left, bottom, width, height = figure.axes[1].get_position().bounds
    rows, columns = pixels.shape[:2]
    top_row, last_row = round((1 - bottom - height) * rows) + 5, round((1 - bottom) * rows) - 5
    middle = round((left + width / 2) * columns)
    column = pixels[top_row:last_row, middle]
    redness = column[:, 0] - column[:, 2]
    half = len(redness) // 2
    assert (redness[: half - 3] > 50).all() and (redness[half + 3 :] < -50).all()


def test_one_image_one_label(drawn):
    single = {name: drawn[name][:1] for name in ("images", "A", "U", "probabilities")}
    pixels = render({**drawn, **single}, num_labels=1)
    assert pixels.shape[0] >= 100 and pixels.shape[1] >= 200


def test_save_png(drawn, tmp_path):
    figure = pictures.draw_attention(**drawn)
    pictures.save_png(figure, tmp_path / "attention.png")
    with Image.open(tmp_path / "attention.png") as image:
        assert image.format == "PNG"
        saved = np.asarray(image.convert("RGB"))
    assert saved.shape == pictures.to_pixels(figure).shape
