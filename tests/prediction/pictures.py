"""Image files whose answers are known by hand, damaged ones, and a predictor that gives those answers."""

import csv
import io
import struct
import threading
import zlib

import numpy as np
from PIL import Image

from srn_tf.errors import ImageError

LABELS = ["red", "green, light", 'the "blue" one']


class ColourPredictor:
    """Gives as probabilities the colour of an image's first pixel over 255: red, green, blue. Predicted: over 0.5.

    Attributes:
        asked: number of images of each call, in order.
        before: a function called with the number of each call, counted from 0, before it is answered.
    """

    labels = LABELS
    identity = "colours"

    def __init__(self, before=lambda call: None):
        self.asked = []
        self.before = before
        self._lock = threading.Lock()

    def answer(self, images):
        with self._lock:
            call = len(self.asked)
            self.asked.append(len(images))
        self.before(call)
        try:
            colours = [Image.open(io.BytesIO(image)).convert("RGB").getpixel((0, 0)) for image in images]
        except OSError as error:
            raise ImageError(f"Every image must be one that can be decoded. Received: {error}.", "It is odd") from error
        probabilities = (np.array(colours).reshape(-1, 3) / 255).astype(np.float32)
        return {"probabilities": probabilities, "predicted": probabilities > 0.5}


def colour_of(index):
    """Another colour for every index below 2 ** 20, as three ints."""
    return 16 + index % 128, 16 + index // 128 % 128, 200 - index // 16384


def write_pictures(folder, count):
    """Writes PNG files 00000.png, ... of 4 x 3 pixels; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:05d}.png" for index in range(count)]
    for index, path in enumerate(paths):
        Image.new("RGB", (4, 3), colour_of(index)).save(path)
    return [str(path) for path in paths]


def cells_of(index):
    """The probabilities of `write_pictures`' file as CSV has them."""
    return [f"{value / 255:.6f}" for value in colour_of(index)]


def encode(image, image_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def _large_png():
    data = encode(Image.new("RGB", (4, 4)), "PNG")
    header = b"IHDR" + struct.pack(">II", 20_000, 6_000) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


_JPEG = encode(Image.effect_mandelbrot((64, 48), (-2, -1, 1, 1), 50).convert("RGB"), "JPEG")
_PNG = encode(Image.effect_mandelbrot((64, 48), (-2, -1, 1, 1), 50).convert("RGB"), "PNG")

DAMAGED = {
    "empty": (b"", "must be an image. Received: an empty file"),
    "text": (b"This is not a picture.\n", "must be an image. Received: 23 bytes of none of the formats"),
    "half_jpeg": (_JPEG[: len(_JPEG) // 2], "must be an undamaged image. Received: a truncated"),
    # Its header and its end are those of a good file, but in its middle it begins again: only decoding shows that.
    "spoilt_jpeg": (_JPEG[:-40] + b"\xff\xd8" + _JPEG[-38:], "must be an undamaged image. Received: a truncated"),
    "half_png": (_PNG[: len(_PNG) // 2], "must be an undamaged image. Received: a truncated"),
    "too_large": (_large_png(), "must have at most 100000000 pixels. Received: 20000 x 6000"),
    "missing": (None, "An image file must exist"),
}
"""Kind of damage -> (bytes of the file, None for no file; what the error says)."""


def damage(path, kind):
    """Puts a damaged file in the place of another."""
    data, _ = DAMAGED[kind]
    path.unlink()
    if data is not None:
        path.write_bytes(data)


def read_csv(path):
    """The rows of a CSV file, the header first."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.reader(file))
