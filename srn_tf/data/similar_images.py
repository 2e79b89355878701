"""Equal and nearly equal pictures, found by a hash of what is seen: the same photograph resized, recompressed or toned.

The hash is that of differences (dHash): of the picture in grey, shrunk to 9 x 8 pixels, whether each is brighter than
its right neighbour. It is not made for turned or cut pictures.
"""

import os

import numpy as np
from PIL import Image

from srn_tf.data.image_files import open_image_file
from srn_tf.errors import InputError

MAX_DIFFERENT = 3
"""Of the 64 bits of two similar pictures' hashes, so many may differ at most."""

_BANDS = MAX_DIFFERENT + 1  # Hashes that differ in fewer bits than that agree in one of so many parts.


class Groups:
    """Groups of numbers that are joined one by one.

    Args:
        number: int, how many there are; each is a group at first.
    """

    def __init__(self, number):
        self._above = list(range(number))

    def of(self, index):
        """The number that stands for the group of a number."""
        while self._above[index] != index:
            self._above[index] = self._above[self._above[index]]
            index = self._above[index]
        return index

    def join(self, one, other):
        """Makes one group of those of two numbers."""
        one, other = sorted((self.of(one), self.of(other)))
        self._above[other] = one


def similar_pairs(paths):
    """Finds pictures that look the same.

    Args:
        paths: list of N paths of image files; damaged ones are like no other.
    Yields:
        pairs of indices: enough of them to join every two pictures whose hashes differ in `MAX_DIFFERENT` bits or less.
    """
    hashes = [picture_hash(path) for path in paths]
    first = {}
    for index, value in enumerate(hashes):  # equal ones need no comparison with each other
        if value is not None and first.setdefault(value, index) != index:
            yield first[value], index
    width = 64 // _BANDS
    for band in range(_BANDS):
        buckets = {}
        for value, index in first.items():
            buckets.setdefault((value >> (band * width)) & ((1 << width) - 1), []).append((value, index))
        for bucket in buckets.values():
            for place, (value, index) in enumerate(bucket):
                for other, other_index in bucket[:place]:
                    if (value ^ other).bit_count() <= MAX_DIFFERENT:
                        yield other_index, index


def picture_hash(path):
    """The hash of a picture as a person sees it: int of 64 bits; None if it cannot be opened or has one colour.

    Args:
        path: str or path.
    """
    try:
        _, image = open_image_file(os.fspath(path))
    except InputError:  # The checks will say so.
        return None
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    bits = (grey[:, :-1] > grey[:, 1:]).ravel()
    return int("".join("1" if bit else "0" for bit in bits), 2) if bits.any() else None
