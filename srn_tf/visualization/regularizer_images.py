"""The images that pictures of neurons show, with their boxes, read from the records."""

import dataclasses
import io

import numpy as np
from PIL import Image

_LONGEST_PX = 300  # side of what is kept


@dataclasses.dataclass(frozen=True)
class Shown:
    """One image.

    Attributes:
        photo: PIL image, RGB, in its own aspect ratio.
        boxes: float (K, 4), ymin xmin ymax xmax in fractions; K may be 0.
        box_labels: int (K,).
    """

    photo: Image.Image
    boxes: np.ndarray
    box_labels: np.ndarray


def read_shown(records, positions):
    """Reads some of a split's images.

    Args:
        records: see `data.pipeline.read_records`.
        positions: ints, places in the stored order.
    Returns:
        dict: position -> Shown.
    """
    wanted, shown = set(map(int, positions)), {}
    for position, record in enumerate(records.as_numpy_iterator()):
        if position in wanted:
            with Image.open(io.BytesIO(record["image"])) as image:
                image.thumbnail((_LONGEST_PX, _LONGEST_PX))
                photo = image.convert("RGB")
            shown[position] = Shown(photo, record["objects"]["bbox"], record["objects"]["label"])
            if len(shown) == len(wanted):
                break
    return shown
