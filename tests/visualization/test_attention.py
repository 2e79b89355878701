"""Drawings of attention follow the maps, the photographs and the truth, in the photographs' own aspect ratio."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from srn_tf.evaluation.protocols import COCO, WIDER_ATTRIBUTE
from srn_tf.pictures import to_pixels
from srn_tf.visualization.attention import colour_map, draw_attention, evenness_note, highest_value
from srn_tf.visualization.explained import Explained
from tests.visualization.stand_ins import MAPS

LABELS = ["disk", "square", "cross", "ring"]
THRESHOLDS = np.array([0.5, 0.05, 0.5, 0.15])
GRID = 7


def explained_image(seed=0, size_px=(60, 30), shown=(2, 0), labels=(1, 0, 0, 1)):
    random = np.random.default_rng(seed)
    A = random.random((4, GRID, GRID)).astype(np.float32)
    A /= A.sum(axis=(1, 2), keepdims=True)
    probabilities = np.array([0.7, 0.1, 0.9, 0.12], np.float32)
    return Explained(
        position=0,
        name=f"photo {seed}",
        photo=Image.fromarray(random.integers(0, 256, (size_px[1], size_px[0], 3), np.uint8)),
        probabilities=probabilities,
        predicted=probabilities > THRESHOLDS,
        labels=np.array(labels, np.int8),
        maps={label: (A[label], A[label] * 0.5) for label in shown},
    )


def draw(images, protocol=COCO, labels=LABELS, **options):
    return draw_attention(images, labels, THRESHOLDS, MAPS, protocol, **options)


def texts(figure):
    """Everything that is written in a figure."""
    found = [text.get_text() for text in figure.texts]
    for panel in figure.axes:
        found += [panel.get_title(), panel.get_title(loc="left"), panel.get_ylabel()]
        found += [text.get_text() for text in panel.texts]
        found += [text.get_text() for text in panel.legend_.get_texts()] if panel.legend_ else []
    return [text for text in found if text]


def map_panels(figure):
    """The panels with a photograph and a map over it; A and U of the first label, of the second, ..."""
    return [panel for panel in figure.axes if len(panel.images) == 2 and not panel.get_title().startswith("value of")]


def test_labels_are_named_with_probability_and_what_became_of_them():
    found = texts(draw([explained_image()]))
    for text in ("photo 0", "cross 0.90", "disk 0.70", "attention A", "weighted U"):
        assert text in found
    # The list: most probable first. disk is true, ring missed, square and cross false.
    listed = [text for text in found if text.split()[0] in LABELS and "." not in text]
    assert listed == ["cross ✗", "disk ✓", "ring ○", "square ✗"]
    assert {"predicted and true ✓", "predicted but not true ✗", "true but not predicted ○", "threshold"} < set(found)


def test_labels_of_unknown_truth():
    found = texts(draw([explained_image(shown=(2, 3))], protocol=None))
    assert [text for text in found if text.split()[0] in LABELS and "." not in text] == [
        *("cross ✓", "disk ✓", "ring", "square ✓")
    ]
    assert "predicted ✓" in found and "not predicted" in found
    found = texts(draw([explained_image(labels=(1, 0, -1, 0))], WIDER_ATTRIBUTE))
    assert {"disk ✓", "square ?", "cross ✗"} < set(found) and "predicted, truth unknown ?" in found


def test_long_and_odd_names():
    odd = ["$x^2$ and $", "a" * 60, "cross", "ring"]
    found = texts(draw([dataclasses.replace(explained_image(shown=(0, 1)), name="b" * 90)], labels=odd))
    assert "$x^2$ and $ 0.70" in found and f"{'a' * 16}… 0.10" in found and f"…{'b' * 39}" in found
    to_pixels(draw([explained_image(shown=(0, 1))], labels=odd))  # "$" starts no formula, which would fail here


@pytest.mark.parametrize("size_px", [(60, 30), (30, 60), (40, 40), (200, 10)])
def test_maps_and_photographs_keep_the_aspect_ratio(size_px):
    figure = draw([explained_image(size_px=size_px)])
    width, height = figure.get_size_inches()
    panels = map_panels(figure)
    assert len(panels) == 4
    for panel in panels:
        box = panel.get_position()
        assert box.width * width / (box.height * height) == pytest.approx(size_px[0] / size_px[1])
        for image in panel.images:
            assert tuple(image.get_extent()) == (0, size_px[0], size_px[1], 0)
    assert figure.axes[0].get_aspect() == 1.0


def test_a_map_is_drawn_cell_by_cell_the_right_way_up():
    """All attention in the upper left cell: its pixels alone are red."""
    A = np.zeros((GRID, GRID), np.float32)
    A[0, 0] = 1.0
    image = dataclasses.replace(explained_image(shown=(2,)), maps={2: (A, A)}, photo=Image.new("RGB", (70, 35), "grey"))
    figure = draw([image])
    pixels = to_pixels(figure).astype(int)
    box = map_panels(figure)[0].get_position()
    rows, columns = pixels.shape[:2]
    inside = pixels[round((1 - box.y1) * rows) : round((1 - box.y0) * rows)]
    inside = inside[:, round(box.x0 * columns) : round(box.x1 * columns)]
    red = (inside[..., 0] - inside[..., 2]) > 50
    cells = red[: red.shape[0] // GRID - 1, : red.shape[1] // GRID - 1]
    assert cells[3:, 3:].all()  # but for the panel's edge
    assert red.sum() == pytest.approx(red.size / GRID**2, rel=0.15)


@pytest.mark.parametrize("highest", [1.0, 0.0])  # of all maps; 0: there is nothing but 0
def test_where_a_map_is_0_there_is_the_photograph(highest):
    colour = (37, 120, 200)
    maps = {2: np.zeros((GRID, GRID), np.float32), 0: np.full((GRID, GRID), highest, np.float32)}
    image = dataclasses.replace(
        explained_image(), maps={label: (A, A) for label, A in maps.items()}, photo=Image.new("RGB", (70, 35), colour)
    )
    figure = draw([image])
    pixels = to_pixels(figure)
    rows, columns = pixels.shape[:2]
    is_photo = []
    for panel in map_panels(figure)[::2]:
        box = panel.get_position()
        inside = pixels[round((1 - box.y1) * rows) + 3 : round((1 - box.y0) * rows) - 3]
        inside = inside[:, round(box.x0 * columns) + 3 : round(box.x1 * columns) - 3]  # without the panel's edge
        assert len(inside) > 50
        is_photo.append((inside[..., :3] == colour).all(axis=-1).mean())
    assert is_photo == [1.0, 0.0 if highest else 1.0]


def test_opacity_grows_with_the_attention_from_none():
    opacity = colour_map(np.linspace(0.0, 0.3, 100), 0.3)[:, 3]
    assert opacity[0] == 0 and (np.diff(opacity) > 0).all() and 0.8 < opacity[-1] < 1


def test_even_attention_hides_nothing_and_is_said():
    """A map that sums to one starts to show above its even share; the scale is never shorter than four times that."""
    image = explained_image()
    cells = GRID**2
    even, weighted = np.full((GRID, GRID), 1 / cells, np.float32), np.full((GRID, GRID), 0.7 / cells, np.float32)
    even[0, 0] *= 1.2
    flat = dataclasses.replace(image, maps={2: (even, weighted), 0: (even, weighted)})
    assert highest_value([flat]) == pytest.approx(4 / cells)
    A, U = (panel.images[1].get_array() for panel in map_panels(draw([flat]))[:2])
    assert A[1:, :, 3].max() == 0 and A[0, 0, 3] == pytest.approx(0.85 * (0.2 / 3) ** 0.5, rel=1e-3)
    np.testing.assert_allclose(U[..., 3], 0.85 * (0.7 / 4) ** 0.5, rtol=1e-3)
    (note,) = evenness_note([flat], MAPS)
    assert any(note in text for text in texts(draw([flat])))
    peaked = even.copy()
    peaked[0, 0] = 2.1 / cells
    sharp = dataclasses.replace(image, maps={2: (peaked, weighted), 0: (peaked, weighted)})
    assert evenness_note([sharp], MAPS) == evenness_note([], MAPS) == []


def test_one_colour_scale_for_all():
    images = [explained_image(0), explained_image(1)]
    A = images[1].maps[0][0]
    A[3, 3] = 0.8
    assert highest_value(images) == pytest.approx(0.8)
    drawn = [panel.images[1].get_array() for panel in map_panels(draw(images))]
    maps = [one for image in images for A, U in image.maps.values() for one in ((A, 1 / GRID**2), (U, 0.0))]
    for colours, (values, lowest) in zip(drawn, maps, strict=True):
        np.testing.assert_array_equal(colours, colour_map(values, np.float32(0.8), lowest))
    alone = map_panels(draw(images[:1]))[0].images[1].get_array()
    assert (alone != drawn[0]).any()
    shared = map_panels(draw(images[:1], highest=np.float32(0.8)))[0].images[1].get_array()
    np.testing.assert_array_equal(shared, drawn[0])


def test_scale_is_marked_in_percent():
    figure = draw([explained_image()], highest=0.4)
    scale = next(panel for panel in figure.axes if panel.get_title().startswith("value of one cell"))
    assert [text.get_text() for text in scale.get_xticklabels()] == ["0", "4", "20", "40"]
    np.testing.assert_allclose(scale.get_xticks(), np.sqrt([0, 0.1, 0.5, 1]))


def test_bars_show_probabilities_and_thresholds():
    figure = draw([explained_image()])
    bars = figure.axes[1]
    widths = [bar.get_width() for bar in bars.patches]
    np.testing.assert_allclose(widths, [1, 0.9, 1, 0.7, 1, 0.12, 1, 0.1], rtol=1e-6)
    marks = [lines.get_segments()[0][0][0] for lines in bars.collections]
    np.testing.assert_allclose(marks, [0.5, 0.5, 0.15, 0.05])


def test_more_labels_than_there_is_room_for():
    num_labels = 40
    probabilities = np.linspace(0.9, 0.1, num_labels).astype(np.float32)
    maps = np.ones((2, GRID, GRID), np.float32) / GRID**2
    image = Explained(0, "x", Image.new("RGB", (90, 30)), probabilities, probabilities > 0, None, {0: tuple(maps)})
    figure = draw_attention([image], [f"label {i}" for i in range(num_labels)], np.full(num_labels, 0.5), MAPS)
    found = texts(figure)
    assert "label 0 ✓" in found and "label 39 ✓" not in found
    shown = sum(text.endswith("✓") and text.startswith("label") for text in found)
    assert f"and {num_labels - shown} more" in found
