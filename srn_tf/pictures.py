"""matplotlib figures as files and as pixels, without a display."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg


def save_png(figure, path):
    """Writes a figure as a PNG file."""
    FigureCanvasAgg(figure).print_png(path)


def to_pixels(figure):
    """Renders a figure: uint8 (height, width, 3) RGB."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
