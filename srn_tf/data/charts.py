"""Charts of what a data set holds: label frequencies, labels per image, co-occurrence, image sizes.

`pictures.save_png` writes a figure to a file.
"""

import numpy as np
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

_DPI = 100
_SPLIT_COLOURS = ("#0072b2", "#e69f00", "#009e73")  # Okabe and Ito: distinct to colour-blind people too
# Perceptually even, light is little; the second one stays visible on white.
_SEQUENTIAL = "magma_r"
_SEQUENTIAL_ON_WHITE = "viridis_r"
_NEUTRAL = "#b8b8b8"
_GRID = {"color": "#dddddd", "linewidth": 0.6}
_MAX_LABELS_WITH_NUMBERS = 25  # in the heat map, where more would be too small to read
_SIZE_BINS = 75
_WHOLE_NUMBERS = FuncFormatter(lambda number, _: f"{number:,.0f}")


def draw_labels(labels, positives, images, note=""):
    """Draws how many images have each label: a bar a label, the most frequent at the top, a panel a split.

    Bars are shares of the split's images, on one scale, so that splits compare; the numbers are images.

    Args:
        labels: C label names.
        positives: split name -> (C,) images with each label.
        images: split name -> images of the split, at least 1.
        note: str above the chart, such as which labels these are.
    Returns:
        matplotlib Figure.
    """
    # Frequency over all splits; ties in the order of the labels.
    order = np.argsort(-np.sum(list(positives.values()), axis=0), kind="stable")
    height = 1.2 + 0.19 * len(labels)
    figure = Figure(figsize=(2.2 + 3.6 * len(positives), height), dpi=_DPI, layout="constrained")
    panels = figure.subplots(1, len(positives), squeeze=False, sharey=True)[0]
    shares = {split: 100 * np.asarray(positives[split])[order] / images[split] for split in positives}
    longest = max(max(share.max() for share in shares.values()), 1e-9)
    rows = np.arange(len(labels))
    for panel, split, colour in zip(panels, positives, _SPLIT_COLOURS):
        panel.barh(rows, shares[split], height=0.75, color=colour)
        for row, (share, count) in enumerate(zip(shares[split], np.asarray(positives[split])[order], strict=True)):
            number = f"{count:,}  ({share:.1f}%)" if count else "0"
            panel.text(share + 0.015 * longest, row, number, va="center", fontsize=7)
        panel.set_title(f"{split}: {images[split]:,} images", fontsize=10)
        panel.set_xlim(0, 1.4 * longest)  # room for the numbers
        panel.set_xlabel("images with the label, percent of the split", fontsize=8)
        panel.tick_params(labelsize=8)
        panel.grid(axis="x", **_GRID)
        _plain(panel)
    panels[0].set_yticks(rows, [labels[index] for index in order], parse_math=False)
    panels[0].set_ylim(len(labels) - 0.4, -0.6)
    if note:
        figure.suptitle(note, fontsize=10)
    return figure


def draw_labels_per_image(histograms):
    """Draws how many labels images carry: groups of bars, one a split.

    Args:
        histograms: split name -> {number of labels: images}, at least one image each.
    Returns:
        matplotlib Figure.
    """
    highest = max(max(histogram) for histogram in histograms.values())
    figure = Figure(figsize=(min(max(6.0, 1.5 + 0.45 * (highest + 1)), 20.0), 4.2), dpi=_DPI, layout="constrained")
    panel = figure.subplots()
    width = 0.84 / len(histograms)
    for index, (split, histogram) in enumerate(histograms.items()):
        numbers = np.arange(highest + 1)
        images = np.array([histogram.get(number, 0) for number in numbers])
        mean = (numbers * images).sum() / images.sum()
        panel.bar(
            numbers + (index - (len(histograms) - 1) / 2) * width,
            100 * images / images.sum(),
            width,
            color=_SPLIT_COLOURS[index],
            label=f"{split}: {images.sum():,} images, mean {mean:.2f} labels",
        )
    panel.set_xticks(np.arange(0, highest + 1, 1 if highest <= 40 else 5))
    panel.set_xlabel("labels per image")
    panel.set_ylabel("share of the split's images, percent")
    panel.grid(axis="y", **_GRID)
    figure.legend(fontsize=9, frameon=False, loc="outside upper left")
    _plain(panel)
    return figure


def draw_cooccurrence(labels, conditional, note=""):
    """Draws how often a label comes along with another as a heat map, rows and columns in the order of the labels.

    Args:
        labels: C label names.
        conditional: float (C, C), P(column | row) in [0, 1], NaN in rows of labels that no image has; the
            diagonal is not shown.
        note: str above the chart, such as which labels these are.
    Returns:
        matplotlib Figure.
    """
    conditional = np.asarray(conditional, np.float64)
    num_labels = len(labels)
    has_numbers = num_labels <= _MAX_LABELS_WITH_NUMBERS
    font = 9 if has_numbers else 7
    cells = num_labels * (0.42 if has_numbers else 0.17)  # inches, as the next two
    names = max(map(len, labels)) * 0.009 * font
    side = max(cells, 4.0) + names
    names_above = 0.0 if has_numbers else names  # a column of many is hard to follow down
    figure = Figure(figsize=(side + 1.7, side + names_above + 0.9), dpi=_DPI, layout="constrained")
    panel = figure.subplots()
    own = np.eye(num_labels, dtype=bool)
    absent = np.isnan(conditional) & ~own
    shown = np.ma.array(100 * conditional, mask=own | absent | (conditional == 0))
    drawn = panel.imshow(shown, cmap=_SEQUENTIAL, vmin=0, vmax=100, aspect="auto", interpolation="nearest")
    for row in np.flatnonzero(absent.any(axis=1)):
        # Under the cells.
        panel.axhspan(row - 0.5, row + 0.5, facecolor="white", edgecolor=_NEUTRAL, hatch="////", linewidth=0, zorder=-1)
    panel.imshow(np.ma.array(own, mask=~own), cmap=ListedColormap([_NEUTRAL]), aspect="auto")
    if has_numbers:
        for row, column in np.argwhere(~shown.mask):
            value = shown[row, column]
            panel.text(
                column,
                row,
                f"{value:.0f}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if value > 50 else "black",
            )
    ticks = np.arange(num_labels)
    panel.set_xticks(ticks, labels, rotation=90, fontsize=font, parse_math=False)
    panel.set_yticks(ticks, labels, fontsize=font, parse_math=False)
    panel.set_xticks(ticks[:-1] + 0.5, minor=True)
    panel.set_yticks(ticks[:-1] + 0.5, minor=True)
    panel.grid(which="minor", color="#eeeeee", linewidth=0.4)
    panel.tick_params(which="minor", length=0)
    panel.tick_params(axis="x", labeltop=not has_numbers)
    panel.set_ylabel("images with this label ...")
    panel.set_xlabel("... have this label too")
    figure.legend(
        handles=[
            Patch(facecolor=_NEUTRAL, label="the label itself"),
            Patch(facecolor="white", edgecolor=_NEUTRAL, label="never together"),
            Patch(facecolor="white", edgecolor=_NEUTRAL, hatch="////", label="no image has the row's label"),
        ],
        loc="outside upper center",
        ncols=3,
        fontsize=9,
        frameon=False,
    )
    bar = figure.colorbar(drawn, ax=panel, shrink=0.6, aspect=30, pad=0.01)
    bar.set_label("P(column | row), percent of the row label's images", fontsize=9)
    if note:
        figure.suptitle(note, fontsize=10)
    return figure


def draw_image_sizes(sizes):
    """Draws the images' widths and heights: a 2-D histogram, with that of each alone at its side.

    The axes are logarithmic, so that a few large images do not press the others together.

    Args:
        sizes: (width, height) in pixels -> images, not empty.
    Returns:
        matplotlib Figure.
    """
    widths, heights = np.array(list(sizes)).T
    images = np.array(list(sizes.values()))
    shares = 100 * images / images.sum()
    smallest, largest = min(widths.min(), heights.min()), max(widths.max(), heights.max())
    edges = np.geomspace(smallest / 1.5, largest * 1.5, _SIZE_BINS + 1)
    span = edges[-1] / edges[0]
    ticks = range(1, 10) if span < 10 else (1, 2, 5) if span < 1000 else (1,)  # of each power of ten
    figure = Figure(figsize=(7.6, 8.2), dpi=_DPI, layout="constrained")
    (of_width, empty), (both, of_height) = figure.subplots(
        2, 2, sharex="col", sharey="row", width_ratios=(4, 1), height_ratios=(1, 4)
    )
    empty.remove()
    counted = np.histogram2d(widths, heights, [edges, edges], weights=images)[0]
    drawn = both.pcolormesh(
        edges,
        edges,
        np.ma.masked_equal(counted.T, 0),
        cmap=_SEQUENTIAL_ON_WHITE,
        norm=LogNorm(1, max(counted.max(), 10)),
    )
    both.plot(edges[[0, -1]], edges[[0, -1]], color="#888888", linewidth=0.8, linestyle="--", label="square")
    both.legend(loc="upper left", fontsize=8, frameon=False)
    both.set_xlabel("width, pixels")
    both.set_ylabel("height, pixels")
    both.set(xscale="log", yscale="log", xlim=edges[[0, -1]], ylim=edges[[0, -1]])
    for axis in (both.xaxis, both.yaxis):
        axis.set_major_locator(LogLocator(subs=ticks))
        axis.set_major_formatter(_WHOLE_NUMBERS)
        axis.set_minor_locator(NullLocator())
    of_width.hist(widths, edges, weights=shares, color=_SPLIT_COLOURS[0])
    of_width.set_ylabel("images, percent")
    of_height.hist(heights, edges, weights=shares, color=_SPLIT_COLOURS[0], orientation="horizontal")
    of_height.set_xlabel("images, percent")
    for panel in (of_width, both, of_height):
        panel.grid(**_GRID)
        _plain(panel)
    bar = figure.colorbar(drawn, ax=both, location="bottom", shrink=0.8, aspect=40, pad=0.02, format=_WHOLE_NUMBERS)
    bar.ax.minorticks_off()
    bar.set_label(f"images in a cell, which is {edges[1] / edges[0] - 1:.1%} wide and high")
    common = [f"{widths[i]} x {heights[i]}: {shares[i]:.3g}%" for i in np.argsort(-images, kind="stable")[:3]]
    figure.suptitle(f"{images.sum():,} images; most common: " + ", ".join(common), fontsize=10)
    return figure


def _plain(panel):
    """No frame but the axes, and the grid behind the bars."""
    panel.spines[["top", "right"]].set_visible(False)
    panel.set_axisbelow(True)
