"""A sheet of images and labels as training sees them."""

import math
import textwrap

import numpy as np

from srn_tf.pictures import Sheet

_COLUMNS = 4
_SIDE, _GAP, _TEXT = 2.4, 0.12, 0.5  # inches: an image, the space between two, and the room for its labels
_LINE = 38  # letters
_MAX_LINES = 3


def label_texts(y, labels):
    """The labels of each image, the surest first, with their weight where it is not 1, such as "dog 0.7, cat 0.3".

    Args:
        y: float32 (B, C) in [0, 1]. What all the labels of the batch have at least, as label smoothing gives, is not
            worth a word.
        labels: C label names.
    Returns:
        list of B str.
    """
    lowest = y.min()
    texts = []
    for row in y:
        shown = [index for index in np.argsort(-row, kind="stable") if row[index] > lowest + 0.005]
        names = (labels[index] + ("" if row[index] > 0.995 else f" {round(float(row[index]), 2):g}") for index in shown)
        texts.append(", ".join(names) or "no label")
    return texts


def draw_images(images, texts, title):
    """Draws images in rows of four, each above its text.

    Args:
        images: float32 (B, S, S, 3), RGB, 0 to 255.
        texts: B str.
        title: str above them.
    Returns:
        matplotlib Figure.
    """
    num_rows = math.ceil(len(images) / _COLUMNS)
    sheet = Sheet(_COLUMNS * (_SIDE + _GAP) + _GAP, 0.4 + num_rows * (_SIDE + _TEXT) + _GAP)
    sheet.write(_GAP, _GAP, title, fontsize=10)
    for number, (image, text) in enumerate(zip(images, texts, strict=True)):
        row, column = divmod(number, _COLUMNS)
        left, top = _GAP + column * (_SIDE + _GAP), 0.4 + row * (_SIDE + _TEXT)
        panel = sheet.panel(left, top, _SIDE, _SIDE)
        panel.imshow(np.clip(np.round(image), 0, 255).astype(np.uint8), interpolation="nearest")
        panel.axis("off")
        lines = textwrap.wrap(text, _LINE, max_lines=_MAX_LINES, placeholder=" ...")
        sheet.write(left, top + _SIDE + 0.03, "\n".join(lines), fontsize=8)
    return sheet.figure
