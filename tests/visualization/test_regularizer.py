"""Pictures of neurons: what is said, which images are shown, and where boxes are."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.offsetbox import TextArea
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from srn_tf.analysis.excitation import CommonLabel, Excitation
from srn_tf.analysis.regularizer import Correlations, Finding
from srn_tf.analysis.targets import Target
from srn_tf.pictures import to_pixels
from srn_tf.visualization import regularizer
from srn_tf.visualization.regularizer_images import Shown

LABELS = ("dog", "cat", "$5 and $6")
N = 20


def finding(r, axis, blind, is_offset=False):
    """Neuron 3 on images 10 to 29, whose responses fall from image to image; two labels stand for the same thing."""
    images = np.arange(10, 10 + N)
    places = np.stack([np.linspace(0.1, 0.9, N), np.linspace(0.9, 0.1, N)], axis=1)
    offset = np.where(np.arange(N)[:, None] < 10, -0.2, 0.2) * np.ones(2)
    subjects = np.where(np.arange(N) < 10, 0, 1) if is_offset else np.zeros(N, int)
    target = Target(
        *("dog", "its cat", images, offset, subjects, places, np.full(N, 2))
        if is_offset
        else ("dog", "", images, places, subjects, places)
    )
    all_r, all_blind = np.zeros((5, 2)), np.zeros((5, 2))
    all_r[3, axis], all_blind[3, axis] = r, blind
    return Finding(Correlations(target, 0.3, all_r, all_blind, None), 3, axis)


@pytest.fixture
def responses():
    neurons = np.zeros((40, 5))
    neurons[:, 3] = np.linspace(4.0, 0.0, 40)
    return SimpleNamespace(neurons=neurons)


def shown(positions, size=(60, 30), box_labels=(0, 1, 2)):
    """Images 60 wide and 30 high; label l has the box from (0.1 l, 0.2) to (0.1 l + 0.5, 0.6)."""
    boxes = np.array([[0.1 * label, 0.2, 0.1 * label + 0.5, 0.6] for label in box_labels]).reshape(-1, 4)
    image = Shown(Image.new("RGB", size, (90, 140, 90)), boxes, np.array(box_labels, int))
    return dict.fromkeys(positions, image)


def strings(figure):
    """All texts; of texts in an offset box those of their areas."""
    return [item.get_text() for item in figure.findobj(lambda item: isinstance(item, (Text, TextArea)))]


def assert_nothing_is_cut_off(figure):
    pixels = to_pixels(figure)
    assert pixels.shape[1] == 1200
    for rim in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (rim == 255).all()


def rectangles(panel):
    """The coloured boxes of a panel: x, y, width and height; each has a white one below it."""
    boxes = [patch for patch in panel.patches if isinstance(patch, Rectangle)]
    return [(*box.get_xy(), box.get_width(), box.get_height()) for box in boxes[1::2]], boxes


@pytest.mark.parametrize(
    ("one", "sentence", "verdict"),
    [
        (finding(0.5, 0, 0.1), "Neuron 3: the lower dog is, the stronger the response", "found by the neuron itself"),
        (
            finding(-0.5, 0, -0.6),
            "Neuron 3: the higher dog is, the stronger the response",
            ": found by an earlier layer",
        ),
        (
            finding(0.5, 1, 0.4),
            "Neuron 3: the farther right dog is, the stronger the response",
            "partly found by an earlier layer",
        ),
        (
            finding(-0.5, 1, 0.0),
            "Neuron 3: the farther left dog is, the stronger the response",
            "found by the neuron itself",
        ),
        (finding(0.5, 0, 0.0, True), "Neuron 3: stronger response if dog is below its cat", "r = +0.00"),
        (finding(-0.5, 0, 0.0, True), "Neuron 3: stronger response if dog is above its cat", "r = -0.50"),
        (finding(0.5, 1, 0.0, True), "Neuron 3: stronger response if dog is right of its cat", "over 20 images"),
        (finding(-0.5, 1, 0.0, True), "Neuron 3: stronger response if dog is left of its cat", "at most 0.30"),
    ],
)
def test_a_finding_is_said(responses, one, sentence, verdict):
    figure = regularizer.draw_locations([one], responses, shown(range(40)))
    texts = strings(figure)
    assert sentence in texts
    assert any(verdict in text for text in texts)


def test_extreme_images_and_their_responses(responses):
    one = finding(-0.5, 0, 0.0)
    positions = regularizer.example_images([one], responses)
    assert positions == [29, 28, 27, 12, 11, 10]  # responses fall from image to image
    figure = regularizer.draw_locations([one], responses, shown(positions))
    panels = figure.axes[1:]
    assert [panel.get_xlabel() for panel in panels] == [f"{4 - 4 * position / 39:.2f}" for position in positions]
    for panel in panels:
        boxes, _ = rectangles(panel)
        # Label 0: rows 0 to 15 of 30, columns 12 to 36 of 60, from the edge of the first pixel.
        np.testing.assert_allclose(boxes, [(11.5, -0.5, 24, 15)])
    assert_nothing_is_cut_off(figure)


def test_the_scatter_is_on_the_axis_of_the_image(responses):
    values = responses.neurons[10:30, 3]
    for axis in (0, 1):
        one = finding(0.5, axis, 0.0)
        scatter = regularizer.draw_locations([one], responses, shown(range(40))).axes[0]
        dots = np.asarray(scatter.collections[0].get_offsets())
        np.testing.assert_allclose(dots[:, axis], values)
        np.testing.assert_allclose(dots[:, 1 - axis], one.target.values[:, axis])
        limits = scatter.get_ylim() if axis == 0 else scatter.get_xlim()
        assert limits == ((1.0, 0.0) if axis == 0 else (0.0, 1.0))  # top above, left on the left


def test_an_offset_has_two_colours_and_the_partners_box(responses):
    one = finding(0.5, 0, 0.0, is_offset=True)
    figure = regularizer.draw_locations([one], responses, shown(range(40)))
    scatter, *panels = figure.axes
    assert [len(dots.get_offsets()) for dots in scatter.collections] == [10, 10]
    low, high = panels[0], panels[-1]  # images 29 and 10: labels 1 and 0
    for panel, top in ((low, 2.5), (high, -0.5)):
        boxes, patches = rectangles(panel)
        np.testing.assert_allclose(boxes, [(11.5, top, 24, 15), (11.5, 5.5, 24, 15)])
        assert patches[1].get_linestyle() == "solid" and patches[3].get_linestyle() != "solid"
    assert patches[1].get_edgecolor() != rectangles(low)[1][1].get_edgecolor()
    assert_nothing_is_cut_off(figure)


def test_a_place_without_boxes_is_a_cross(responses):
    one = finding(0.5, 0, 0.0, is_offset=True)
    figure = regularizer.draw_locations([one], responses, shown(range(40), box_labels=()))
    subject, partner = figure.axes[1].lines
    y, x = one.target.subject_places[-1]  # of image 29, the lowest
    np.testing.assert_allclose(subject.get_xydata(), [[x * 60 - 0.5, y * 30 - 0.5]])
    np.testing.assert_allclose(partner.get_xydata(), [[(x - 0.2) * 60 - 0.5, (y - 0.2) * 30 - 0.5]])


def test_exciting_images_and_common_labels():
    many = Excitation(7, np.arange(20), np.linspace(9, 5, 20), [CommonLabel(2, 18, 3.6, 1e-9)])
    few = Excitation(0, np.array([4, 2]), np.array([1.0, 0.5]), [])
    assert regularizer.exciting_images([many, few]) == [*range(8), 4, 2]
    figure = regularizer.draw_excitations([many, few], LABELS, shown(range(8), size=(40, 100)))
    texts = strings(figure)
    for text in ("Neuron 7", "$5 and $6: 18 of 20, 3.6x", "Neuron 0", "no common labels", "9.00", "0.50"):
        assert text in texts
    assert len(figure.axes) == 10
    boxes, _ = rectangles(figure.axes[0])
    np.testing.assert_allclose(boxes, [(7.5, 19.5, 16, 50)])
    assert rectangles(figure.axes[-1])[0] == []
    assert_nothing_is_cut_off(figure)
