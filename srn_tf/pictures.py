"""matplotlib figures as files and as pixels, without a display."""

import os

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea

from srn_tf.files import writing


def save_png(figure, path):
    """Writes a figure as a PNG file; InputError if it cannot be written."""
    with writing(path):
        FigureCanvasAgg(figure).print_png(path)


def save_pngs(figures, folder):
    """Writes figures, name -> Figure, as <folder>/<name>.png; returns the paths, a list of str."""
    paths = [os.path.join(folder, f"{name}.png") for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        save_png(figure, path)
    return paths


def to_pixels(figure):
    """Renders a figure: uint8 (height, width, 3) RGB."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


class Sheet:
    """A figure on which things stand at places in inches from the upper left corner; 100 dots an inch.

    Args:
        width, height: inches.

    Attributes:
        figure: the matplotlib Figure.
    """

    def __init__(self, width, height):
        self.figure = Figure(figsize=(width, height), dpi=100, facecolor="white")
        self._size = np.array([width, height])

    def panel(self, left, top, width, height):
        """Adds an empty matplotlib Axes."""
        bottom = self._size[1] - top - height
        panel = self.figure.add_axes((*([left, bottom] / self._size), *([width, height] / self._size)))
        panel.set(xticks=[], yticks=[])
        return panel

    def write(self, left, top, text, **style):
        """Writes text from there to the right and down, as it is: no formulas."""
        x, y = [left, self._size[1] - top] / self._size
        self.figure.text(x, y, text, va="top", parse_math=False, **style)

    def write_in_colours(self, left, top, texts):
        """Writes bold texts side by side, each (text, colour)."""
        style = {"fontsize": 12, "weight": "bold", "parse_math": False}
        parts = [TextArea(text, textprops={**style, "color": colour}) for text, colour in texts]
        place = [left, self._size[1] - top] / self._size
        self.figure.add_artist(
            AnchoredOffsetbox(
                loc="upper left",
                child=HPacker(children=parts, pad=0, sep=14),
                bbox_to_anchor=tuple(place),
                bbox_transform=self.figure.transFigure,
                frameon=False,
                pad=0,
                borderpad=0,
            )
        )
