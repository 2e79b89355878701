"""What the tests of the client ask a served model, and what they hold its answers against."""

import io

import numpy as np
from PIL import Image

from srn_tf.serving.client import ServerPredictor

LABELS = ["dog", "cat, small", "Straße"]


def picture(width, height, file_format):
    """A file of coloured noise around a colour of its own, so that every picture has another answer."""
    random = np.random.default_rng(width)
    pixels = random.uniform(0, 255, 3) * random.uniform(0.5, 1, (height, width, 3))
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, format=file_format)
    return buffer.getvalue()


IMAGES = [picture(40 + 7 * i, 90 - 9 * i, ("JPEG", "PNG", "BMP", "GIF")[i % 4]) for i in range(8)]


def ask(server, **options):
    """A ServerPredictor; `requests` of the server then counts from here."""
    predictor = ServerPredictor(server.address, **options)
    server.requests.clear()
    return predictor


def assert_same(answer, expected):
    assert answer["probabilities"].dtype == np.float32 and answer["predicted"].dtype == bool
    np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(answer["predicted"], expected["predicted"])
