"""What the charts show: bars and points at their values, names that can be read."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from srn_tf.comparison.charts import draw_against_cooccurrence, draw_ap_differences
from srn_tf.comparison.differences import Difference
from srn_tf.pictures import to_pixels

LABELS = ("dog", "cat $x", "sky", "never")
DIFFERENCE = Difference(
    row="srn",
    reference="main_net",
    metrics={},
    ap=np.array([-2.0, 5.0, 1.0, np.nan]),
    ap_low=np.array([-3.0, 4.0, -0.5, np.nan]),
    ap_high=np.array([-1.0, 6.0, 2.0, np.nan]),
)
COOCCURRING = np.array([0.5, 3.0, 1.5, np.nan])


def test_bars_are_sorted_and_the_unclear_ones_pale():
    figure = draw_ap_differences(LABELS, DIFFERENCE, COOCCURRING)
    panel, beside = figure.axes
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["cat $x", "sky", "dog"]
    assert [bar.get_width() for bar in panel.patches] == [5, 1, -2]
    assert [bar.get_alpha() for bar in panel.patches] == [1, 0.35, 1]
    assert [to_hex(bar.get_facecolor()) for bar in panel.patches] == ["#0072b2", "#0072b2", "#d55e00"]
    assert [bar.get_width() for bar in beside.patches] == [3, 1.5, 0.5]
    intervals = [segment[:, 0].tolist() for segment in panel.collections[0].get_segments()]
    assert intervals == [[4, 6], [-0.5, 2], [-3, -1]]
    low, high = panel.get_ylim()
    assert low > high  # the first bar is at the top
    assert figure.get_suptitle() == "AP of each label: srn minus main_net"
    assert to_pixels(figure).std() > 10


def names_drawn(figure):
    return {text.get_text(): text for text in figure.axes[0].texts}


@pytest.mark.parametrize(("correlation", "shown"), [(0.8712, "+0.87"), (-0.5, "-0.50"), (None, "not defined")])
def test_points_have_names(correlation, shown):
    figure = draw_against_cooccurrence(LABELS, DIFFERENCE, COOCCURRING, correlation)
    (panel,) = figure.axes
    assert panel.collections[0].get_offsets().tolist() == [[0.5, -2], [3, 5], [1.5, 1]]
    assert list(names_drawn(figure)) == ["dog", "cat $x", "sky"]
    assert panel.get_title() == f"srn minus main_net: correlation {shown} over 3 labels"


def test_each_name_is_at_its_point():
    figure = draw_against_cooccurrence(LABELS, DIFFERENCE, COOCCURRING, None)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    points = figure.axes[0].transData.transform(np.column_stack([COOCCURRING, DIFFERENCE.ap])[:3])
    for name, (x, y) in zip(LABELS, points):
        box = names_drawn(figure)[name].get_window_extent(renderer)
        assert 0 < box.x0 - x < 15 and box.y0 < y < box.y1  # to the right, where nothing is in the way


def test_many_names_do_not_overlap():
    rng = np.random.default_rng(0)
    labels = [f"label number {index}" for index in range(81)]
    ap = rng.normal(size=81)
    figure = draw_against_cooccurrence(labels, Difference("a", "b", {}, ap, ap - 1, ap + 1), rng.normal(3, 1, 81), 0.1)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    boxes = [text.get_window_extent(renderer) for text in names_drawn(figure).values()]
    assert len(boxes) >= 75
    for one, other in itertools.combinations(boxes, 2):
        assert min(one.x1, other.x1) - max(one.x0, other.x0) < 1 or min(one.y1, other.y1) - max(one.y0, other.y0) < 1
    panel = figure.axes[0].get_window_extent(renderer)
    assert all(panel.x0 <= box.x0 and box.x1 <= panel.x1 + 1 and panel.y0 <= box.y0 for box in boxes)


def test_a_name_without_a_free_place_is_left_out():
    labels = [f"label number {index}" for index in range(120)]
    same = Difference("a", "b", {}, np.zeros(120), np.zeros(120), np.zeros(120))
    names = names_drawn(draw_against_cooccurrence(labels, same, np.zeros(120), None))
    assert 0 < len(names) < 120
