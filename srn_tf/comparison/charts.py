"""Charts of where two rows of a comparison differ: label by label, and against how many labels come along.

After Figure 7 of Zhu et al., CVPR 2017. `pictures.save_png` writes a figure to a file.
"""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import IdentityTransform

from srn_tf.comparison.bootstrap import LEVEL

_DPI = 100
_HIGHER, _LOWER = "#0072b2", "#d55e00"  # Okabe and Ito: distinct to colour-blind people too
_OTHER = "#999999"
_PALE = 0.35  # opacity where the interval holds 0
_GRID = {"color": "#dddddd", "linewidth": 0.6}
# Where a name is tried around its point: pixels away, then degrees.
_DISTANCES = (9, 18, 30, 45, 65, 90, 120, 160)
_ANGLES = (0, 180, 90, 270, 45, 135, 315, 225, 22, 158, 202, 338, 67, 113, 247, 293)
_MANY = 40  # labels; beyond, the scatter is drawn larger


def draw_ap_differences(labels, difference, cooccurring):
    """Draws the AP difference of each label, the highest at the top, beside how many labels come along with it.

    Args:
        labels: C label names.
        difference: differences.Difference; labels where it is NaN are left out.
        cooccurring: float (C,), see differences.mean_cooccurring.
    Returns:
        matplotlib Figure.
    """
    known = np.flatnonzero(~np.isnan(difference.ap))
    order = known[np.argsort(-difference.ap[known], kind="stable")]
    values, low, high = difference.ap[order], difference.ap_low[order], difference.ap_high[order]
    figure = Figure(figsize=(11, 1.9 + 0.21 * len(order)), dpi=_DPI, layout="constrained")
    panel, beside = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    places = np.arange(len(order))
    bars = panel.barh(places, values, 0.75, color=_colours(values))
    for bar, is_pale in zip(bars, ~_is_clear(low, high), strict=True):
        bar.set_alpha(_PALE if is_pale else 1.0)
    panel.hlines(places, low, high, color="#222222", linewidth=1)
    panel.axvline(0, color="black", linewidth=0.8)
    panel.set_title("difference of AP, points", fontsize=9)
    panel.set_yticks(places, [labels[index] for index in order], fontsize=8, parse_math=False)
    panel.set_ylim(len(order) - 0.4, -0.6)
    beside.barh(places, cooccurring[order], 0.75, color=_OTHER)
    beside.set_title("mean number of other labels", fontsize=9)
    beside.tick_params(axis="y", length=0)
    for axes in (panel, beside):
        axes.grid(axis="x", **_GRID)
        axes.tick_params(axis="x", labelsize=8, labeltop=True)
        _plain(axes)
    figure.suptitle(f"AP of each label: {difference.row} minus {difference.reference}", fontsize=11, parse_math=False)
    figure.legend(
        handles=[
            Patch(facecolor=_HIGHER, label=f"{difference.row} higher"),
            Patch(facecolor=_LOWER, label=f"{difference.reference} higher"),
            Patch(facecolor=_OTHER, alpha=_PALE, label=f"pale: not clear, the {LEVEL} % interval (line) holds 0"),
        ],
        loc="outside lower center",
        ncols=3,
        fontsize=8,
        frameon=False,
    )
    return figure


def draw_against_cooccurrence(labels, difference, cooccurring, correlation):
    """Draws the AP difference of each label over the mean number of labels that come along, a named point a label.

    A name that finds no free place near its point is left out; `draw_ap_differences` has them all.

    Args:
        labels, difference, cooccurring: as `draw_ap_differences`.
        correlation: float or None, see differences.correlation.
    Returns:
        matplotlib Figure.
    """
    known = np.flatnonzero(~(np.isnan(difference.ap) | np.isnan(cooccurring)))
    x, y = cooccurring[known], difference.ap[known]
    figure = Figure(figsize=(13, 9.5) if len(known) > _MANY else (11, 7), dpi=_DPI)
    panel = figure.subplots()
    figure.subplots_adjust(0.07, 0.08, 0.98, 0.94)
    panel.axhline(0, color="black", linewidth=0.8)
    panel.scatter(x, y, 26, _colours(y), zorder=3)
    panel.margins(0.08)
    panel.set_xlabel("mean number of other labels on the label's images")
    panel.set_ylabel("difference of AP, points")
    panel.grid(**_GRID)
    _plain(panel)
    value = "not defined" if correlation is None else f"{correlation:+.2f}"
    panel.set_title(
        f"{difference.row} minus {difference.reference}: correlation {value} over {len(known)} labels",
        fontsize=11,
        parse_math=False,
    )
    _name_points(figure, panel, x, y, [labels[index] for index in known])
    return figure


def _colours(values):
    return np.where(values >= 0, _HIGHER, _LOWER)


def _is_clear(low, high):
    """Whether an interval leaves out 0."""
    return (low > 0) | (high < 0)


def _name_points(figure, panel, x, y, names):
    """Writes each name at the first place around its point that is free, with a line to a point farther away."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    panel.autoscale_view()  # which Matplotlib puts off, so that the points would still move
    points = panel.transData.transform(np.column_stack([x, y]))  # (L, 2), pixels
    inside = panel.get_window_extent(renderer)
    taken = [(*(point - 5), *(point + 5)) for point in points]  # x and y from, x and y to
    for point, name in zip(points, names, strict=True):
        text = panel.text(0, 0, name, fontsize=8, transform=IdentityTransform(), zorder=4, parse_math=False)
        box = text.get_window_extent(renderer)
        for distance in _DISTANCES:
            corner = _free_place(point, distance, box.width, box.height, taken, inside)
            if corner is not None:
                text.set_position(corner - box.min)
                taken.append((*corner, *(corner + box.size)))
                if distance > _DISTANCES[0]:
                    nearest = np.clip(point, corner, corner + box.size)
                    panel.add_artist(
                        Line2D(*zip(point, nearest), color="#aaaaaa", linewidth=0.7, transform=IdentityTransform())
                    )
                break
        else:
            text.remove()


def _free_place(point, distance, width, height, taken, inside):
    """The lower left corner, in pixels, of a free place of that size around a point; None if there is none."""
    for angle in np.radians(_ANGLES):
        towards = np.array([np.cos(angle), np.sin(angle)])
        # At 0 degrees the text begins there, at 180 it ends there, in between it is centred.
        corner = point + distance * towards + (towards - 1) / 2 * (width, height)
        x_from, y_from, x_to, y_to = *corner, *(corner + (width, height))
        is_inside = inside.x0 <= x_from and x_to <= inside.x1 and inside.y0 <= y_from and y_to <= inside.y1
        if is_inside and not any(
            x_from < right and left < x_to and y_from < top and bottom < y_to for left, bottom, right, top in taken
        ):
            return corner
    return None


def _plain(panel):
    """No frame but the axes, and the grid behind the bars."""
    panel.spines[["top", "right"]].set_visible(False)
    panel.set_axisbelow(True)
