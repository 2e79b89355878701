"""Charts: every label is named, the numbers and bars are those given, and it all fits on the sheet."""

from collections import Counter

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from srn_tf.data import charts
from srn_tf.pictures import save_png, to_pixels

LABELS = ["dog", "cat", "traffic light", "$5 and $6"]
POSITIVES = {"train": np.array([10, 1500, 0, 40]), "test": np.array([90, 30, 0, 30])}
IMAGES = {"train": 3000, "test": 100}
CONDITIONAL = np.array([[1.0, 0.25, 0.0, 1.0], [0.5, 1.0, 0.125, 0.0], [np.nan] * 4, [0.0, 0.875, 0.5, 1.0]])
SIZES = Counter({(640, 480): 50, (480, 640): 30, (500, 375): 15, (100, 700): 5})


def many(count):
    return [f"label number {i}" for i in range(count)]


def strings(figure):
    """All texts of a figure."""
    return [item.get_text() for item in figure.findobj(Text)]


def assert_nothing_is_cut_off(figure):
    """The sheet has a white rim, and the names of the axes are on it."""
    pixels = to_pixels(figure)
    for rim in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (rim == 255).all()
    height, width = pixels.shape[:2]
    for panel in figure.axes:
        for item in (panel.xaxis.label, panel.yaxis.label, panel.title):
            if item.get_text():
                box = item.get_window_extent()
                assert 0 <= box.x0 and box.x1 <= width and 0 <= box.y0 and box.y1 <= height, item.get_text()


def apart(items, side):
    """Smallest distance in pixels between the middles of neighbouring texts, along "x" or "y"."""
    middles = sorted(sum(getattr(item.get_window_extent(), f"interval{side}")) / 2 for item in items)
    return min(np.diff(middles))


# Labels.


def bars(panel):
    return [patch.get_width() for patch in panel.patches]


def test_labels_are_sorted_by_frequency_and_numbered():
    figure = charts.draw_labels(LABELS, POSITIVES, IMAGES)
    train, test = figure.axes
    # Over both splits: cat 1530, dog 100, "$5 and $6" 70, traffic light 0.
    assert [item.get_text() for item in train.get_yticklabels()] == ["cat", "dog", "$5 and $6", "traffic light"]
    assert train.get_ylim()[0] > train.get_ylim()[1]  # the first one at the top
    assert (train.get_title(), test.get_title()) == ("train: 3,000 images", "test: 100 images")
    assert bars(train) == pytest.approx([50.0, 100 * 10 / 3000, 100 * 40 / 3000, 0.0])  # percent of the split
    assert bars(test) == pytest.approx([30.0, 90.0, 30.0, 0.0])
    assert train.get_xlim() == test.get_xlim()
    assert [item.get_text() for item in train.texts] == ["1,500  (50.0%)", "10  (0.3%)", "40  (1.3%)", "0"]
    assert [item.get_text() for item in test.texts] == ["30  (30.0%)", "90  (90.0%)", "30  (30.0%)", "0"]


@pytest.mark.parametrize("count", [*(pytest.param(count, marks=pytest.mark.slow) for count in (1, 81)), 16])
def test_labels_chart_fits(count):
    rng = np.random.default_rng(count)
    positives = {split: rng.integers(0, 123_456, count) for split in ("train", "validation", "test")}
    figure = charts.draw_labels(many(count), positives, dict.fromkeys(positives, 123_456))
    assert set(many(count)) <= set(strings(figure))
    assert_nothing_is_cut_off(figure)
    if count > 1:
        names = figure.axes[0].get_yticklabels()
        assert apart(names, "y") >= max(item.get_window_extent().height for item in names)


def test_no_label_anywhere_is_still_a_chart():
    figure = charts.draw_labels(["dog"], {"train": np.array([0])}, {"train": 5})
    assert bars(figure.axes[0]) == [0.0] and "0" in strings(figure)


# Labels an image.


def test_labels_per_image_are_shares_of_each_split():
    figure = charts.draw_labels_per_image({"train": {0: 1, 2: 3}, "test": Counter({1: 5, 3: 5})})
    (panel,) = figure.axes
    heights = [[bar.get_height() for bar in group] for group in panel.containers]
    assert heights == [[25.0, 0.0, 75.0, 0.0], [0.0, 50.0, 0.0, 50.0]]
    middles = np.array([[bar.get_x() + bar.get_width() / 2 for bar in group] for group in panel.containers])
    np.testing.assert_allclose(middles.mean(axis=0), [0, 1, 2, 3], atol=1e-9)  # the groups stand over their numbers
    assert (np.diff(middles, axis=0) > 0).all()
    assert {"train: 4 images, mean 1.50 labels", "test: 10 images, mean 2.00 labels"} <= set(strings(figure))


@pytest.mark.parametrize("highest", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (7, 18)), 90])
def test_labels_per_image_chart_fits(highest):
    figure = charts.draw_labels_per_image(dict.fromkeys(("train", "validation", "test"), {highest: 12_345}))
    assert_nothing_is_cut_off(figure)
    height, width = to_pixels(figure).shape[:2]
    assert 300 <= height <= 600 and 500 <= width <= 2000


# Co-occurrence.


def heat_map(figure):
    return figure.axes[0].images[0]


def test_cooccurrence_shows_percent_and_leaves_out_what_is_none():
    figure = charts.draw_cooccurrence(LABELS, CONDITIONAL)
    shown = heat_map(figure).get_array()
    expected = [
        [None, 25.0, None, 100.0],  # the label itself; never together
        [50.0, None, 12.5, None],
        [None] * 4,  # no image has this label
        [None, 87.5, 50.0, None],
    ]
    assert shown.tolist() == expected
    assert heat_map(figure).get_clim() == (0, 100)
    assert [item.get_text() for item in figure.axes[0].get_xticklabels()] == LABELS
    assert [item.get_text() for item in figure.axes[0].get_yticklabels()] == LABELS
    numbers = {(item.get_position()[::-1], item.get_text()) for item in figure.axes[0].texts}  # (row, column)
    assert numbers == {
        *(((0, 1), "25"), ((0, 3), "100"), ((1, 0), "50"), ((1, 2), "12")),
        *(((3, 1), "88"), ((3, 2), "50")),
    }


def test_cells_have_the_colours_of_the_key():
    """Row 0: the label itself grey, 25 % lighter than 100 %, never together white."""
    figure = charts.draw_cooccurrence(LABELS, CONDITIONAL)
    pixels = to_pixels(figure)
    to_sheet = figure.axes[0].transData.transform

    def colour(row, column):
        x, y = to_sheet((column - 0.35, row - 0.35))  # beside the number
        return pixels[len(pixels) - 1 - int(y), int(x)].astype(int)

    own, some, never, always = (colour(0, column) for column in range(4))
    assert np.ptp(own) == 0 and 150 < own[0] < 220
    assert never.tolist() == [255, 255, 255]
    assert always.sum() < 30 < 100 + always.sum() < some.sum()
    np.testing.assert_array_equal(colour(1, 1), own)
    np.testing.assert_array_equal(colour(2, 2), own)


@pytest.mark.parametrize("count", [*(pytest.param(count, marks=pytest.mark.slow) for count in (1, 2, 81)), 16])
def test_cooccurrence_chart_fits(count):
    rng = np.random.default_rng(count)
    figure = charts.draw_cooccurrence(many(count), rng.uniform(0, 1, (count, count)), "the most frequent labels")
    assert "the most frequent labels" in strings(figure)
    assert all(strings(figure).count(name) >= 2 for name in many(count))  # on both axes
    assert_nothing_is_cut_off(figure)
    if count > 1:
        for axis, side in ((figure.axes[0].xaxis, "x"), (figure.axes[0].yaxis, "y")):
            names = [tick.label1 for tick in axis.get_major_ticks()]
            thickness = max(min(item.get_window_extent().width, item.get_window_extent().height) for item in names)
            assert apart(names, side) >= thickness
    cell = np.abs(figure.axes[0].transData.transform((1, 1)) - figure.axes[0].transData.transform((0, 0)))
    assert 0.7 <= cell[0] / cell[1] <= 1.4 and cell.min() >= 14  # about square


# Sizes.


def test_image_sizes_histograms():
    figure = charts.draw_image_sizes(SIZES)
    of_width, both, of_height, _ = figure.axes
    assert both.get_xlabel() == "width, pixels" and both.get_ylabel() == "height, pixels"
    counted = both.collections[0].get_array()  # (height, width)
    assert counted.sum() == 100 and sorted(counted.compressed()) == [5, 15, 30, 50]
    edges = both.collections[0].get_coordinates()[0, :, 0]
    row, column = np.argwhere(counted == 5)[0]
    assert edges[column] <= 100 < edges[column + 1] and edges[row] <= 700 < edges[row + 1]
    assert sorted(bar.get_height() for bar in of_width.patches if bar.get_height()) == pytest.approx([5, 15, 30, 50])
    assert sorted(bar.get_width() for bar in of_height.patches if bar.get_width()) == pytest.approx([5, 15, 30, 50])
    title = "100 images; most common: 640 x 480: 50%, 480 x 640: 30%, 500 x 375: 15%"
    assert title in strings(figure)


@pytest.mark.parametrize(
    "sizes",
    [
        *(pytest.param(sizes, marks=pytest.mark.slow) for sizes in ({(56, 56): 6000}, SIZES)),
        {(1, 1): 1, (9000, 20): 2, (300, 4000): 100_000},
    ],
    ids=["one", "some", "far apart"],
)
def test_image_sizes_chart_fits(sizes):
    figure = charts.draw_image_sizes(sizes)
    assert figure.axes[1].collections[0].get_array().sum() == sum(sizes.values())  # every image is on the sheet
    assert_nothing_is_cut_off(figure)
    panel = figure.axes[1].get_window_extent()
    boxes = [item.get_window_extent() for item in figure.axes[1].get_xticklabels() if item.get_text()]
    boxes = sorted((box.x0, box.x1) for box in boxes if panel.x0 <= (box.x0 + box.x1) / 2 <= panel.x1)
    assert len(boxes) >= 2
    assert all(left[1] < right[0] for left, right in zip(boxes, boxes[1:], strict=False))  # none on another


def test_saved_charts_are_pictures(tmp_path):
    figure = charts.draw_labels(LABELS, POSITIVES, IMAGES)
    save_png(figure, tmp_path / "labels.png")
    with Image.open(tmp_path / "labels.png") as image:
        assert image.format == "PNG" and 400 <= image.width <= 2000 and 100 <= image.height <= 1000
        assert np.asarray(image.convert("L")).std() > 20  # not a blank sheet
