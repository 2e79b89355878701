"""What stands for a served model and for a data set in these tests: answers that are known, image by image."""

import io

import numpy as np
from PIL import Image

from srn_tf.errors import InputError
from srn_tf.evaluation.protocols import protocol_named
from srn_tf.models.model import Regions
from srn_tf.models.srn import ATTENTION, WEIGHTED

GRID = (4, 5)
MAPS = [ATTENTION, WEIGHTED]
REGIONS = Regions("boxes", "found", "proposals", "Proposals are where a label may be.")


class StandInSource:
    """Images of N names; the image of position i has its place in the shade of its first pixel.

    Args:
        names: N str.
        labels: int8 (N, C) or None.
        protocol: name of an evaluation protocol, if there are labels.
        sizes_px: (width, height) of the images, one after the other and over again.
    """

    title = "shades, test split"

    def __init__(self, names, labels=None, protocol="coco", sizes_px=((60, 30), (30, 60), (40, 40))):
        self.names, self.labels = names, labels
        self.protocol = None if labels is None else protocol_named(protocol)
        self._sizes_px = sizes_px

    def __len__(self):
        return len(self.names)

    def read(self, wanted=None):
        for position in range(len(self.names)):
            if wanted is None or position in wanted:
                labels = None if self.labels is None else self.labels[position]
                yield position, shaded_png(position, self._sizes_px[position % len(self._sizes_px)]), labels


class StandInPredictor:
    """Answers that were laid down for every position of a `StandInSource`; counts how often each is asked about.

    Args:
        labels: C names.
        probabilities: float32 (N, C).
        thresholds: float (C,).
        maps: dict of float32 (N, H, W, C), or None for a model without.
        regions: dict of the outputs of `REGIONS`, or None likewise.
    """

    def __init__(self, labels, probabilities, thresholds, maps=None, regions=None):
        self.labels, self.probabilities, self.thresholds = labels, probabilities, thresholds
        self._seen = {**(maps or {}), **(regions or {})}
        self.regions = [] if regions is None else [REGIONS]
        self.maps = [] if maps is None else MAPS
        self.asked = np.zeros(len(probabilities), int)

    def answer(self, images):
        places = [_position(image) for image in images]
        np.add.at(self.asked, places, 1)
        probabilities = self.probabilities[places]
        return {"probabilities": probabilities, "predicted": probabilities > self.thresholds}

    def explain_batch(self, images):
        if not self._seen:
            raise InputError("This model explains nothing.")
        places = [_position(image) for image in images]
        return self.answer(images) | {name: values[places] for name, values in self._seen.items()}


def random_maps(num_images, num_labels, seed=0):
    """Maps A, which sum to 1 over the grid, U and S."""
    random = np.random.default_rng(seed)
    A = random.random((num_images, *GRID, num_labels)).astype(np.float32) ** 4
    A /= A.sum(axis=(1, 2), keepdims=True)
    S = random.normal(size=A.shape).astype(np.float32)
    return {"A": A, "S": S, "U": A / (1 + np.exp(-S))}


def random_regions(num_images, num_labels, num_regions=7, seed=0):
    """The outputs of `REGIONS`; the last region of each image is none."""
    random = np.random.default_rng(seed)
    first, last = np.sort(random.random((2, num_images, num_regions, 2)).astype(np.float32), axis=0)
    scores = random.uniform(0.1, 1, (num_images, num_regions, num_labels)).astype(np.float32)
    scores[:, -1] = 0
    return {"boxes": np.concatenate([first, last], axis=-1), "found": scores}


def shaded_png(position, size_px):
    """A PNG file, all of one shade of grey but for a red upper half: shade 5 + position."""
    pixels = np.full((size_px[1], size_px[0], 3), 5 + position, np.uint8)
    pixels[: size_px[1] // 2, :, 0] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _position(image):
    with Image.open(io.BytesIO(image)) as opened:
        return opened.getpixel((0, 0))[1] - 5
