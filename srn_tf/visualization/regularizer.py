"""Draws what neurons of a regularizer respond to, as Figures 5 and 6 of the paper do."""

import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from srn_tf.pictures import Sheet

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")  # Okabe and Ito: distinct to everyone
_GREY = "#555555"
_EXAMPLES = 3  # images of the lowest and of the highest response
_EXCITING = 8  # images per neuron
_HEADLINE = {"fontsize": 15, "weight": "bold"}
# Inches.
_WIDTH, _MARGIN, _GAP = 12.0, 0.25, 0.12
_IMAGE = 1.3
_SCATTER_LEFT, _SCATTER = 0.78, 2.1
_HEAD, _TITLE, _FOOT = 0.62, 0.52, 0.68
# (axis, whether the response rises) -> words for a place, and for an offset.
_PLACES = {(0, True): "lower", (0, False): "higher", (1, True): "farther right", (1, False): "farther left"}
_OFFSETS = {(0, True): "below", (0, False): "above", (1, True): "right of", (1, False): "left of"}


def draw_locations(findings, responses, shown):
    """Draws a row per finding: responses over places, then the images of lowest and of highest response.

    Args:
        findings: list of analysis.regularizer.Finding, at least one.
        responses: analysis.responses.Responses.
        shown: position -> regularizer_images.Shown, with all of `example_images`.
    Returns:
        matplotlib Figure.
    """
    row = _TITLE + _IMAGE + _FOOT
    sheet = Sheet(_WIDTH, _HEAD + len(findings) * row)
    sheet.write(_MARGIN, 0.14, "Neurons of conv4 that respond to places", **_HEADLINE)
    lows, highs = _example_lefts()
    for line, finding in enumerate(findings):
        top = _HEAD + line * row
        sheet.write(_MARGIN, top, _sentence(finding), fontsize=12, weight="bold")
        sheet.write(_MARGIN, top + 0.25, _numbers(finding), fontsize=10, color=_GREY)
        top += _TITLE
        _draw_scatter(sheet.panel(_SCATTER_LEFT, top, _SCATTER, _IMAGE), finding, responses)
        for left, index in zip(lows + highs, _example_indices(finding, responses), strict=True):
            panel = sheet.panel(left, top, _IMAGE, _IMAGE)
            _draw_example(panel, finding, responses, shown, index)
        for lefts, name in ((lows, "lowest responses"), (highs, "highest responses")):
            middle = (lefts[0] + lefts[-1] + _IMAGE) / 2
            sheet.write(middle, top + _IMAGE + 0.22, name, fontsize=9.5, color=_GREY, ha="center")
    return sheet.figure


def draw_excitations(excitations, labels, shown):
    """Draws a row per neuron: the images that excite it most, and in them the labels that these have in common.

    Args:
        excitations: list of analysis.excitation.Excitation, at least one, each of at least one image.
        labels: C label names.
        shown: position -> regularizer_images.Shown, with all of `exciting_images`.
    Returns:
        matplotlib Figure.
    """
    row = _TITLE + _IMAGE + 0.35
    sheet = Sheet(_WIDTH, _HEAD + len(excitations) * row)
    sheet.write(_MARGIN, 0.14, "Images that excite a neuron of conv4 most, and their common labels", **_HEADLINE)
    for line, excitation in enumerate(excitations):
        top = _HEAD + line * row
        drawn = dict(zip((common.label for common in excitation.common), COLOURS))  # the first few
        names = [(f"Neuron {excitation.neuron}", "black")]
        for common in excitation.common[: len(COLOURS)]:
            text = f"{labels[common.label]}: {common.count} of {len(excitation.images)}, {common.lift:.1f}x"
            names.append((text, drawn[common.label]))
        sheet.write_in_colours(_MARGIN, top, names if drawn else [*names, ("no common labels", _GREY)])
        examples = zip(excitation.images[:_EXCITING], excitation.responses)
        for column, (position, response) in enumerate(examples):
            panel = sheet.panel(_MARGIN + column * (_IMAGE + _GAP), top + 0.35, _IMAGE, _IMAGE)
            _draw_photo(panel, shown[int(position)], response)
            for label, colour in drawn.items():
                _draw_boxes(panel, shown[int(position)], label, colour)
    return sheet.figure


def example_images(findings, responses):
    """Positions of the images that `draw_locations` shows: list of ints."""
    return [int(finding.target.images[index]) for finding in findings for index in _example_indices(finding, responses)]


def exciting_images(excitations):
    """Positions of the images that `draw_excitations` shows: list of ints."""
    return [int(image) for excitation in excitations for image in excitation.images[:_EXCITING]]


def _example_lefts():
    """Left sides of the images of low and of high response, inches; the last one ends at the right margin."""
    step = _IMAGE + _GAP
    highs = [_WIDTH - _MARGIN - _IMAGE - step * (_EXAMPLES - 1 - index) for index in range(_EXAMPLES)]
    lows = [left - step * _EXAMPLES - 0.2 for left in highs]
    return lows, highs


def _example_indices(finding, responses):
    """Indices into the target's images: the lowest responses upwards, then the highest upwards."""
    order = np.argsort(responses.neurons[finding.target.images, finding.neuron], kind="stable")
    return [*order[:_EXAMPLES], *order[-_EXAMPLES:]]


def _sentence(finding):
    target, key = finding.target, (finding.axis, finding.r > 0)
    if target.partners is None:
        return f"Neuron {finding.neuron}: the {_PLACES[key]} {target.name} is, the stronger the response"
    return f"Neuron {finding.neuron}: stronger response if {target.name} is {_OFFSETS[key]} {target.partner_name}"


def _numbers(finding):
    """r, and r without the neuron's kernel, which says whether the neuron finds the place or an earlier layer does."""
    if finding.is_own:
        verdict = "found by the neuron itself"
    else:
        verdict = ("" if abs(finding.r_blind) >= abs(finding.r) else "partly ") + "found by an earlier layer"
    by_chance = finding.correlations.by_chance
    num_images = len(finding.target.images)
    return (
        f"r = {finding.r:+.2f} over {num_images} images; at most {by_chance:.2f} by chance. The mean of its input, "
        f"which knows no places, has r = {finding.r_blind:+.2f}: {verdict}"
    )


def _draw_scatter(panel, finding, responses):
    """Responses against the place, which is on the axis that it has in the image."""
    target, axis = finding.target, finding.axis
    place, response = target.values[:, axis], responses.neurons[target.images, finding.neuron]
    for label, colour in _subject_colours(target).items():
        dots = target.subjects == label
        x, y = (response[dots], place[dots]) if axis == 0 else (place[dots], response[dots])
        panel.scatter(x, y, 8, colour, linewidths=0, alpha=0.55)
    if target.partners is None:
        limits, ticks = (0.0, 1.0), ((0.0, 1.0), (("top", "bottom"), ("left", "right"))[axis])
    else:
        farthest = 1.1 * float(np.abs(place).max())
        limits = (-farthest, farthest)
        ticks = ((-0.6 * farthest, 0.6 * farthest), (("above", "below"), ("left", "right"))[axis])
        (panel.axhline if axis == 0 else panel.axvline)(0.0, color="#999999", linewidth=0.8)
    if axis == 0:
        panel.set_ylim(*reversed(limits))  # down is down
        panel.set_yticks(*ticks)
        panel.set_xlabel("response", fontsize=9, labelpad=2)
        panel.xaxis.set_major_locator(MaxNLocator(4))
    else:
        panel.set_xlim(*limits)
        panel.set_xticks(*ticks)
        panel.set_ylabel("response", fontsize=9)
        panel.yaxis.set_major_locator(MaxNLocator(4))
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=9, length=2)


def _draw_example(panel, finding, responses, shown, index):
    """One image with what stands there, solid, and what it is measured from, dashed."""
    target = finding.target
    image = shown[int(target.images[index])]
    _draw_photo(panel, image, responses.neurons[target.images[index], finding.neuron])
    subject, place = target.subjects[index], target.subject_places[index]
    _draw_place(panel, image, subject, place, _subject_colours(target)[subject], "solid")
    if target.partners is not None:
        _draw_place(panel, image, target.partners[index], place - target.values[index], "#333333", (0, (2, 1.5)))


def _draw_photo(panel, image, response):
    is_small = max(image.photo.size) < 100
    panel.imshow(image.photo, interpolation="nearest" if is_small else "antialiased")
    panel.spines[:].set_visible(False)
    panel.set_xlabel(f"{response:.2f}", fontsize=9.5, labelpad=3)


def _draw_place(panel, image, label, place, colour, line):
    """The label's boxes, or a cross at its place where the data set has no boxes."""
    if (image.box_labels == label).any():
        _draw_boxes(panel, image, label, colour, line)
    else:
        y, x = np.array(place) * (image.photo.height, image.photo.width) - 0.5
        panel.plot(x, y, "P", color=colour, markersize=9, markeredgecolor="white", markeredgewidth=1.2)


def _draw_boxes(panel, image, label, colour, line="solid"):
    scale = np.array([image.photo.height, image.photo.width] * 2)
    for box in image.boxes[image.box_labels == label]:
        y_min, x_min, y_max, x_max = box * scale - 0.5  # pixel centres are whole numbers
        corner, size = (x_min, y_min), (x_max - x_min, y_max - y_min)
        panel.add_patch(Rectangle(*(corner, *size), fill=False, edgecolor="white", linewidth=3.0))
        panel.add_patch(Rectangle(*(corner, *size), fill=False, edgecolor=colour, linewidth=1.6, linestyle=line))


def _subject_colours(target):
    return dict(zip(np.unique(target.subjects), COLOURS))
