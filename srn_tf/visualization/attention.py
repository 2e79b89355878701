"""Draws where a model looked for its labels: the paper's Figure 3, with or without known true labels."""

import math

import numpy as np
from matplotlib import colormaps
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from srn_tf.pictures import Sheet

COLOURS = "jet"  # as the author draws them
_OPACITY = 0.85  # of a map over its photograph where it is highest
_SHORTEST_SCALE = 4.0  # ends at so many times the even share of a cell: attention that is nearly even stays pale
_ALMOST_EVEN = 2.0  # times the even share, which most maps do not reach anywhere
_REGION_COLOURS = ("#d1495b", "#a06a00", "#5b5b63")  # of the best region of a label, the second and the third
_MAX_LETTERS = 17  # of a label's name
_MIN_COLUMNS = 3  # for which the sheet is wide enough, so that there is room for the keys
# What a label is -> (sign, colour, meaning); the colours can be told apart by everyone.
_KINDS = {
    "right": ("✓", "#0072b2", "predicted and true"),
    "false": ("✗", "#d1495b", "predicted but not true"),
    "missed": ("○", "#e69f00", "true but not predicted"),
    "predicted": ("✓", "#0072b2", "predicted"),
    "unknown": ("?", "#7a5195", "predicted, truth unknown"),
    "neither": ("", "#777777", "neither"),
    "not predicted": ("", "#777777", "not predicted"),
}
# Inches.
_PHOTO, _NAMES, _BARS, _NUMBERS, _MAP, _GAP = 3.0, 1.45, 0.9, 0.65, 1.75, 0.1
_MARGIN, _TITLE, _HEAD, _FOOT = 0.25, 0.5, 0.7, 0.8
_BAR, _LOWEST_ROW = 0.25, 1.75


def draw_attention(images, labels, thresholds, maps, protocol=None, highest=None, regions=()):
    """Draws a row per image: the photograph, its labels as bars of probability, then maps and regions of each label.

    Everything is drawn in the photograph's own aspect ratio: the network saw it squashed to a square, so its grid is
    stretched over the whole photograph. Maps are drawn nearest-neighbour over the photograph, on one constant scale of
    colour and opacity for the whole drawing, see `colour_map`.

    Args:
        images: list of explained.Explained, at least one, each with maps or regions.
        labels: C label names.
        thresholds: float (C,), marked in the bars.
        maps: list of models.model.Map, what the images' maps are.
        protocol: evaluation.protocols.Protocol of the images' labels; None where the truth is not known.
        highest: float, end of the colour scale where several drawings share one; None is `highest_value`.
        regions: list of models.model.Regions, what the images' regions are: the best of each label are drawn.
    Returns:
        matplotlib Figure; save it with `pictures.save_png` or turn it into pixels with `pictures.to_pixels`.
    """
    columns = max(_MIN_COLUMNS, *(len(image.maps) for image in images))
    boxes = [_map_box(image.photo) for image in images]
    lines = [*maps, *regions]
    rows = [max(len(lines) * (height + _GAP) - _GAP, _LOWEST_ROW) for _, height in boxes]
    width = 2 * _MARGIN + _PHOTO + _NAMES + _BARS + _NUMBERS + columns * (_MAP + _GAP) - _GAP
    height = _HEAD + len(images) * _TITLE + sum(rows) + _FOOT
    sheet = Sheet(width, height)
    highest = highest or highest_value(images)
    drawn_kinds, top = set(), _HEAD
    for image, box, row in zip(images, boxes, rows, strict=True):
        top += _TITLE
        kinds = [_kind(image, label, protocol) for label in range(len(labels))]
        _draw_photo(sheet.panel(_MARGIN, top, _PHOTO, row), image)
        left = _MARGIN + _PHOTO + _NAMES
        drawn_kinds |= _draw_bars(sheet.panel(left, top, _BARS, row), image, kinds, labels, thresholds, row)
        left += _BARS + _NUMBERS
        for column, (label, values_of) in enumerate(image.maps.items()):
            title = f"{_short(labels[label])} {image.probabilities[label]:.2f}"
            colour = _KINDS[kinds[label]][1]
            for line, values in enumerate((*values_of, *image.regions.get(label, ()))):
                panel = sheet.panel(left + column * (_MAP + _GAP), top + line * (box[1] + _GAP), *box)
                if line < len(maps):
                    _draw_map(panel, image.photo, values, highest, lowest_shown(maps[line], values.shape))
                else:
                    _draw_regions(panel, image.photo, *values)
                if line == 0:
                    panel.set_title(title, fontsize=9.5, color=colour, weight="bold", parse_math=False)
                if column == 0:
                    panel.set_ylabel(lines[line].title, fontsize=8.5)
        top += row
    sheet.write(_MARGIN, 0.15, "Where the model looks for a label", fontsize=13, weight="bold")
    sheet.write(_MARGIN, 0.42, " ".join([*(line.meaning for line in lines), *evenness_note(images, maps)]), fontsize=9)
    _draw_keys(sheet, highest if maps else None, [kind for kind in _KINDS if kind in drawn_kinds], width, height)
    return sheet.figure


def highest_value(images):
    """The end of the colour scale for the maps of a list of explained.Explained, 0 without maps.

    It is the highest value in them, but at least four times the even share of a cell.
    """
    values = (values for image in images for maps in image.maps.values() for values in maps)
    return max((max(float(one.max()), min(_SHORTEST_SCALE / one.size, 1.0)) for one in values), default=0.0)


def lowest_shown(a_map, grid):
    """The value up to which a map hides nothing of the photograph.

    Args:
        a_map: models.model.Map.
        grid: (H, W).
    Returns:
        float: the even share of a cell if the map's cells sum to one, else 0.
    """
    return 1.0 / math.prod(grid) if a_map.sums_to_one else 0.0


def evenness_note(images, maps):
    """What to say of attention without places: a list of one sentence, or of none.

    Args:
        images: list of explained.Explained.
        maps: list of models.model.Map, what their maps are.
    """
    peaks = [
        values.max() * values.size
        for image in images
        for of_label in image.maps.values()
        for a_map, values in zip(maps, of_label, strict=True)
        if a_map.sums_to_one
    ]
    if not peaks or np.median(peaks) >= _ALMOST_EVEN:
        return []
    return ["Most of this attention is almost even: more images or epochs may be needed to learn places."]


def colour_map(values, highest, lowest=0.0):
    """Colours of a map, by the square root of its values: most attention is spread over many cells.

    Args:
        values: float (..., ), 0 to `highest`.
        highest: float, the value of the last colour; 0 of maps that are 0 everywhere.
        lowest: float, up to which all of what is below shines through, see `lowest_shown`.
    Returns:
        float (..., 4), red, green, blue and opacity, 0 to 1.
    """
    colours = colormaps[COLOURS](np.sqrt(values / (highest or 1.0)))
    colours[..., 3] = _OPACITY * np.sqrt(np.clip((values - lowest) / ((highest - lowest) or 1.0), 0.0, 1.0))
    return colours


def _kind(image, label, protocol):
    """What a label is in an image: a key of `_KINDS`."""
    is_predicted = image.predicted[label]
    if protocol is None:
        return "predicted" if is_predicted else "not predicted"
    if image.labels[label] == 1:
        return "right" if is_predicted else "missed"
    if not is_predicted:
        return "neither"
    return "unknown" if image.labels[label] == 0 and protocol.is_zero_unspecified else "false"


def _draw_photo(panel, image):
    panel.imshow(image.photo, aspect="equal", interpolation="nearest" if max(image.photo.size) < 100 else "antialiased")
    panel.set_anchor("NW")
    panel.axis("off")
    name = image.name if len(image.name) <= 40 else f"…{image.name[-39:]}"
    panel.set_title(name, fontsize=8.5, color="#444444", loc="left", parse_math=False)


def _draw_bars(panel, image, kinds, labels, thresholds, height):
    """Draws the labels that are true, predicted or have maps, the most probable on top; returns their kinds."""
    listed = [label for label, kind in enumerate(kinds) if _KINDS[kind][0] or label in image.maps]
    listed.sort(key=lambda label: -image.probabilities[label])
    shown = listed[: int(height / _BAR) - 1]
    panel.set(xlim=(0, 1), ylim=(height / _BAR - 0.5, -0.5))
    panel.axis("off")
    style = {"va": "center", "fontsize": 8.5, "parse_math": False}
    for line, label in enumerate(shown):
        sign, colour, _ = _KINDS[kinds[label]]
        probability = float(image.probabilities[label])
        panel.barh(line, 1, 0.62, color="#eeeeee")
        panel.barh(line, probability, 0.62, color=colour)
        panel.vlines(thresholds[label], line - 0.42, line + 0.42, color="black", linewidth=1.2)
        name = f"{_short(labels[label])} {sign}".rstrip()
        panel.text(-0.06, line, name, ha="right", color=colour, **style)
        panel.text(1.05, line, f"{probability:.2f}", ha="left", **style)
    if len(listed) > len(shown):
        panel.text(-0.06, len(shown), f"and {len(listed) - len(shown)} more", ha="right", **style)
    return {kinds[label] for label in shown}


def _map_box(photo):
    """Width and height of a map of a photograph, in its aspect ratio, inches."""
    aspect = photo.width / photo.height
    return _MAP * min(1.0, aspect), _MAP * min(1.0, 1 / aspect)


def _draw_below(panel, photo):
    """The photograph, below a map or regions; returns where it lies."""
    extent = (0, photo.width, photo.height, 0)
    panel.imshow(photo, extent=extent, aspect="auto")
    return extent


def _draw_map(panel, photo, values, highest, lowest):
    """A map over the whole photograph."""
    extent = _draw_below(panel, photo)
    panel.imshow(colour_map(values, highest, lowest), interpolation="nearest", extent=extent, aspect="auto")


def _draw_regions(panel, photo, boxes, scores):
    """The best boxes over the photograph, each with its score at its upper left corner; the best on top."""
    _draw_below(panel, photo)
    panel.set(xlim=(0, photo.width), ylim=(photo.height, 0))
    best = list(zip(boxes * np.tile([photo.height, photo.width], 2), scores, _REGION_COLOURS))
    for (top, left, bottom, right), score, colour in best[::-1]:
        frame = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.8)
        panel.add_patch(frame)
        place = "bottom" if top > photo.height / 8 else "top"  # above the box, where there is room
        style = {"va": place, "fontsize": 7.5, "color": "white", "clip_on": True}
        panel.text(left, top, f"{score:.2f}", bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.0}, **style)


def _draw_keys(sheet, highest, kinds, width, height):
    """What signs and colours of the bars mean and, unless `highest` is None, the colour scale of maps."""
    meanings = [_KINDS[kind] for kind in kinds]
    handles = [Patch(color=colour, label=f"{meaning} {sign}".rstrip()) for sign, colour, meaning in meanings]
    handles.append(Line2D([], [], color="black", marker="|", linestyle="", markersize=11, label="threshold"))
    legend = sheet.panel(_MARGIN, height - 0.45, 1.0, 0.3)
    legend.axis("off")
    legend.legend(handles=handles, loc="center left", ncols=len(handles), fontsize=8.5, frameon=False, borderpad=0)
    if highest is None:
        return
    scale = sheet.panel(width - _MARGIN - 3.0, height - 0.42, 2.8, 0.15)
    shades = np.linspace(0.0, 1.0, 256) ** 2  # the colours go by the square root
    scale.imshow(np.full((1, 1), 160), cmap="gray", vmin=0, vmax=255, extent=(0, 1, 0, 1), aspect="auto")
    scale.imshow(colour_map(shades[None], 1.0), extent=(0, 1, 0, 1), aspect="auto")
    marks = np.array([0.0, 0.1, 0.5, 1.0])
    scale.set_xticks(np.sqrt(marks), [f"{100 * highest * mark:.3g}" for mark in marks], fontsize=8)
    scale.set_title("value of one cell, percent", fontsize=8.5)


def _short(name):
    return name if len(name) <= _MAX_LETTERS else f"{name[: _MAX_LETTERS - 1]}…"
