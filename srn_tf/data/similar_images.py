"""Equal and nearly equal pictures, found by a hash of what is seen: the same photograph resized, recompressed or toned.

The hash is that of differences (dHash): of the picture in grey, shrunk to 9 x 8 pixels, whether each is brighter than
its right neighbour. It is not made for turned or cut pictures.
"""

import itertools
import os

import numpy as np
from PIL import Image

from srn_tf.data.image_files import open_image_file
from srn_tf.errors import InputError

MAX_DIFFERENT = 3
"""Of the 64 bits of two similar pictures' hashes, so many may differ at most."""

# Of six parts of two hashes that differ in three bits, three agree. So hashes are compared that have some three parts
# in common, about 32 bits: of a million pictures few do by chance, where many would agree in one part of four.
_PARTS = [0x7FF << place for place in (53, 42, 31, 20)] + [0x3FF << place for place in (10, 0)]
_MASKS = [sum(parts) for parts in itertools.combinations(_PARTS, len(_PARTS) - MAX_DIFFERENT)]


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
    for mask in _MASKS:
        buckets = {}
        for value, index in first.items():
            buckets.setdefault(value & mask, []).append((value, index))
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
