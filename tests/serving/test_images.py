"""Every kind of image becomes a file of the same pixels, and what is too large never reaches a decoder."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from srn_tf.data.image_files import MAX_PIXELS, read_image_file
from srn_tf.errors import InputError
from srn_tf.serving import images as images_module
from srn_tf.serving.images import to_image_files

PIXELS = np.random.default_rng(0).integers(0, 256, (21, 34, 3), dtype=np.uint8)


def file_of(image, file_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options)
    return buffer.getvalue()


def decoded(file):
    return tf.io.decode_image(file, channels=3).numpy()


def test_arrays_and_pil_images_keep_their_pixels():
    grey = Image.fromarray(PIXELS[..., 0])
    files = to_image_files([PIXELS, PIXELS[::-1, ::2], Image.fromarray(PIXELS), grey])
    for file, expected in zip(files, [PIXELS, PIXELS[::-1, ::2], PIXELS, np.repeat(PIXELS[..., :1], 3, axis=2)]):
        np.testing.assert_array_equal(decoded(file), expected)


def test_pil_images_stand_upright_over_white():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned = Image.open(io.BytesIO(file_of(Image.fromarray(PIXELS), exif=exif)))
    clear = Image.fromarray(np.dstack([PIXELS, np.zeros(PIXELS.shape[:2], np.uint8)]), "RGBA")
    half = Image.fromarray(np.full((2, 2, 2), [100, 51], np.uint8), "LA")  # 51 / 255 is a fifth
    files = to_image_files([turned, clear, half])
    np.testing.assert_array_equal(decoded(files[0]), np.rot90(PIXELS, -1))
    assert (decoded(files[1]) == 255).all() and decoded(files[1]).shape == PIXELS.shape
    np.testing.assert_array_equal(decoded(files[2]), np.full((2, 2, 3), 100 * 0.2 + 255 * 0.8))


def test_paths_are_read_as_a_person_sees_them_and_bytes_are_left_alone(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    data = file_of(Image.fromarray(PIXELS), "JPEG", exif=exif)
    (tmp_path / "a.jpg").write_bytes(data)
    from_path, from_str, from_bytes = to_image_files([tmp_path / "a.jpg", str(tmp_path / "a.jpg"), data])
    assert from_path == from_str == read_image_file(tmp_path / "a.jpg") != data
    assert from_bytes == data
    assert to_image_files([]) == [] and to_image_files((data,)) == [data]


def header_of_png(width, height):
    """A PNG that says how large it is, and has no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [struct.pack(">I", 13), header, struct.pack(">I", zlib.crc32(header))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", 0x35AF061E)


@pytest.mark.parametrize("size", [(10001, 10000), (30000, 30000)])  # the second is above Pillow's own limit too
def test_files_that_are_too_large_are_refused_by_their_header(size):
    with pytest.raises(InputError, match=rf"at most {MAX_PIXELS} pixels\. Received: .* image 1 \(from 0\)"):
        to_image_files([PIXELS, header_of_png(*size)])
    assert to_image_files([header_of_png(10000, 10000)])  # the largest allowed; it is not decoded here


def test_arrays_and_pil_images_that_are_too_large_are_refused(monkeypatch):
    monkeypatch.setattr(images_module, "MAX_PIXELS", 21 * 34 - 1)
    for image in (PIXELS, Image.fromarray(PIXELS)):
        with pytest.raises(InputError, match="at most 713 pixels. Received: 34 x 21"):
            to_image_files([image])


@pytest.mark.parametrize(
    "bad, shown",
    [
        (3, "3"),
        (None, "None"),
        (bytearray(b"x"), "bytearray"),
        (PIXELS.astype(np.float32), r"a float32 array of shape \(21, 34, 3\)"),
        (PIXELS[..., 0], r"a uint8 array of shape \(21, 34\)"),
        (PIXELS[..., :2], r"a uint8 array of shape \(21, 34, 2\)"),
        (PIXELS[:0], r"a uint8 array of shape \(0, 34, 3\)"),
        (Image.new("I;16", (3, 3)), "a PIL image of mode I;16"),
        (Image.new("F", (3, 3)), "a PIL image of mode F"),
    ],
)
def test_images_of_another_kind_are_named(bad, shown):
    with pytest.raises(InputError, match=f"^An image must be a path, .* Received: {shown}.*, image 1 .from 0.\\.$"):
        to_image_files([PIXELS, bad])


@pytest.mark.parametrize("bad", [PIXELS, b"x", "a.jpg", Image.new("RGB", (2, 2)), {"a": 1}, None])
def test_images_that_are_no_list(bad):
    with pytest.raises(InputError, match="^Images must be a list, even of one image"):
        to_image_files(bad)


def test_a_path_that_is_missing(tmp_path):
    with pytest.raises(InputError, match="An image file must exist. Received: .*missing.jpg"):
        to_image_files([tmp_path / "missing.jpg"])
