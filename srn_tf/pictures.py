"""Pictures of attention: the image, its labels, and where each label was seen (the paper's Figure 3)."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLOURS = "jet"  # as the author draws them
_PANEL_INCHES = 1.9
_DPI = 100


def draw_attention(images, A, U, probabilities, labels, truths=None, titles=None, num_labels=3):
    """Draws a row an image: the picture, then A and U of its most probable labels.

    Maps are drawn nearest-neighbour over the picture on one constant colour scale for the whole
    drawing: from 0 to the highest attention in it.

    Args:
        images: uint8 (N, S, S, 3) RGB, as the network saw them.
        A: float32 (N, H, W, C), attention.
        U: float32 (N, H, W, C), weighted attention.
        probabilities: float32 (N, C).
        labels: C label names.
        truths: bool (N, C); true labels are named under each picture, and marked. None if unknown.
        titles: N strings over the pictures, or None.
        num_labels: labels drawn an image.
    Returns:
        matplotlib Figure; save it with `save_png` or turn it into pixels with `to_pixels`.
    """
    rows, columns = len(images), 1 + 2 * num_labels
    figure = Figure(figsize=(columns * _PANEL_INCHES, rows * (_PANEL_INCHES + 0.55)), dpi=_DPI, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    shown = np.argsort(-probabilities, axis=1, kind="stable")[:, :num_labels]  # (N, num_labels)
    highest = max(float(A[row, ..., shown[row]].max()) for row in range(rows))
    drawn = None
    for row in range(rows):
        title = titles[row] if titles else ""
        true_names = "" if truths is None else "true: " + _wrapped([labels[i] for i in np.flatnonzero(truths[row])])
        _panel(panels[row][0], images[row], title, true_names)
        for column, label in enumerate(shown[row]):
            is_true = None if truths is None else bool(truths[row][label])
            mark = "" if is_true is None else (" (true)" if is_true else " (not true)")
            for offset, (symbol, maps) in enumerate((("A", A), ("U", U))):
                panel = panels[row][1 + 2 * column + offset]
                text = f"{labels[label]}\n{probabilities[row][label]:.2f}{mark}" if symbol == "A" else "\nweighted"
                _panel(panel, images[row], text, "")
                drawn = panel.imshow(
                    maps[row, ..., label],
                    cmap=COLOURS,
                    vmin=0.0,
                    vmax=highest,
                    alpha=0.6,
                    interpolation="nearest",
                    extent=(0, images.shape[2], images.shape[1], 0),
                )
    bar = figure.colorbar(drawn, ax=panels, shrink=0.6, aspect=30, pad=0.01)
    bar.set_label("attention a cell", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def save_png(figure, path):
    """Writes a figure as a PNG file."""
    FigureCanvasAgg(figure).print_png(path)


def to_pixels(figure):
    """Renders a figure: uint8 (height, width, 3) RGB."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _panel(panel, image, title, caption):
    panel.imshow(image, extent=(0, image.shape[1], image.shape[0], 0))
    panel.set_title(title, fontsize=8)
    panel.set_xlabel(caption, fontsize=7)
    panel.set_xticks([])
    panel.set_yticks([])


def _wrapped(names):
    """Names on lines of two, so that they fit under a panel."""
    pairs = [", ".join(names[i : i + 2]) for i in range(0, len(names), 2)]
    return ",\n".join(pairs) or "none"
