"""Decoding and squashing against Pillow and NumPy, for every kind of file, in and out of a graph."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from srn_tf.data.preprocessing import crop_image, decode_image, halvings, preprocess, preprocess_crop, squash

HEIGHT, WIDTH = 41, 67


def waves(channels):
    """A smooth picture whose channels differ, uint8 (HEIGHT, WIDTH, channels)."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [128 + 110 * np.sin(y / 7 + k) * np.cos(x / (9 + k)) for k in range(channels)]
    return np.stack(planes, axis=-1).round().astype(np.uint8)


def encode(image, file_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


RGB = Image.fromarray(waves(3))
GREY = Image.fromarray(waves(1)[..., 0])
RGBA = Image.fromarray(waves(4), "RGBA")
GREY_ALPHA = Image.fromarray(waves(2), "LA")
CMYK = Image.fromarray(waves(4), "CMYK")
PALETTE = RGB.convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
DEEP = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(np.uint16)

FILES = {
    "grey png": encode(GREY, "PNG"),
    "rgb png": encode(RGB, "PNG"),
    "rgba png": encode(RGBA, "PNG"),
    "grey+alpha png": encode(GREY_ALPHA, "PNG"),
    "palette png": encode(PALETTE, "PNG"),
    "16-bit png": tf.io.encode_png(DEEP).numpy(),
    "jpeg": encode(RGB, "JPEG", quality=90),
    "grey jpeg": encode(GREY, "JPEG", quality=90),
    "cmyk jpeg": encode(CMYK, "JPEG", quality=95),
    "bmp": encode(RGB, "BMP"),
    "gif": encode(PALETTE, "GIF"),
    "animation": encode(PALETTE, "GIF", save_all=True, append_images=[Image.new("P", PALETTE.size)]),
}
EVERY_FILE = pytest.mark.parametrize("kind", FILES)


def over_white(colours, alpha):
    share = alpha.astype(np.float64)[..., None] / 255.0
    return colours * share + 255.0 * (1.0 - share)


# What is stored without loss, (height, width, 3) 0 to 255.
EXPECTED = {
    "grey png": np.repeat(waves(1), 3, axis=-1),
    "rgb png": waves(3),
    "rgba png": over_white(waves(4)[..., :3], waves(4)[..., 3]),
    "grey+alpha png": over_white(np.repeat(waves(2)[..., :1], 3, axis=-1), waves(2)[..., 1]),
    "palette png": np.asarray(PALETTE.convert("RGB")),
    "16-bit png": DEEP >> 8,  # the high byte
    "bmp": waves(3),
    "gif": np.asarray(PALETTE.convert("RGB")),
    "animation": np.asarray(PALETTE.convert("RGB")),  # its first frame
}


# Decoding.


@EVERY_FILE
def test_shape_and_range(kind):
    image = decode_image(FILES[kind])
    assert image.dtype == tf.float32 and image.shape == (HEIGHT, WIDTH, 3)
    assert 0.0 <= image.numpy().min() and image.numpy().max() <= 255.0


@pytest.mark.parametrize("kind", EXPECTED)
def test_what_is_stored_without_loss_is_decoded_without_loss(kind):
    np.testing.assert_allclose(decode_image(FILES[kind]), EXPECTED[kind], atol=1e-3)


@pytest.mark.parametrize("kind", ["jpeg", "grey jpeg", "cmyk jpeg"])
def test_jpeg_is_near_pillow(kind):
    # Two decoders differ in the cosine transform: up to 6 of 255 here, 1.5 on average.
    expected = np.asarray(Image.open(io.BytesIO(FILES[kind])).convert("RGB"), np.float32)
    difference = np.abs(decode_image(FILES[kind]) - expected)
    assert difference.max() <= 8.0 and difference.mean() <= 2.0


def test_cmyk_is_not_taken_for_transparency():
    ink = {"cyan": (255, 0, 0, 0), "magenta": (0, 255, 0, 0), "yellow": (0, 0, 255, 0), "black": (0, 0, 0, 255)}
    colours = {"cyan": (0, 255, 255), "magenta": (255, 0, 255), "yellow": (255, 255, 0), "black": (0, 0, 0)}
    for name, amounts in ink.items():
        decoded = decode_image(encode(Image.new("CMYK", (16, 16), amounts), "JPEG", quality=95))
        np.testing.assert_allclose(decoded, np.broadcast_to(colours[name], (16, 16, 3)), atol=3, err_msg=name)


def test_transparent_pixels_become_white_and_half_transparent_ones_lighter():
    image = Image.new("RGBA", (3, 1))
    image.putdata([(10, 20, 30, 0), (10, 20, 30, 255), (0, 100, 255, 51)])
    expected = [[[255, 255, 255], [10, 20, 30], [204, 224, 255]]]  # 51 / 255 is a fifth
    np.testing.assert_allclose(decode_image(encode(image, "PNG")), expected, atol=1e-3)


def test_not_an_image():
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_image(b"no image")


# Squashing.


@pytest.mark.parametrize("size_px", [14, 32, 56, 224])
@pytest.mark.parametrize("height, width", [(41, 67), (300, 20), (56, 56)])
def test_squash_equals_pillow(height, width, size_px):
    """Pillow's bilinear filter also widens when it shrinks; mode "F" computes in floats."""
    image = np.random.default_rng(0).uniform(0, 255, (height, width, 3)).astype(np.float32)
    squashed = squash(image, size_px).numpy()
    assert squashed.shape == (size_px, size_px, 3) and squashed.dtype == np.float32
    for channel in range(3):
        plane = Image.fromarray(image[..., channel], "F")
        expected = np.asarray(plane.resize((size_px, size_px), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(squashed[..., channel], expected, atol=0.01)


def test_squash_worked_by_hand():
    # One row of 4 to 2, each output over the 4 inputs within a triangle of half-width 2 around its centre:
    # weights 0.75 0.75 0.25 (0.25 lies outside the image), of sum 1.75 for the first output.
    row = np.array([0.0, 70.0, 140.0, 210.0], np.float32)
    image = np.broadcast_to(row[None, :, None], (2, 4, 3))
    first = (0.75 * 0 + 0.75 * 70 + 0.25 * 140) / 1.75
    np.testing.assert_allclose(squash(image, 2)[0, :, 0], [first, 210 - first], rtol=1e-5)


def test_squash_of_the_same_size_changes_nothing():
    image = waves(3)[:41, :41].astype(np.float32)
    np.testing.assert_array_equal(squash(image, 41), image)


@pytest.mark.parametrize("size_px", [30, 41, 56, 90])  # shrinks, one side or both stay, one grows, both grow
def test_squash_of_whole_numbers_is_that_of_floats(size_px):
    image = waves(3)
    squashed = squash(image, size_px)
    assert squashed.dtype == tf.float32
    np.testing.assert_array_equal(squashed, squash(image.astype(np.float32), size_px))


def test_squash_of_a_batch_is_that_of_each():
    images = np.random.default_rng(1).uniform(0, 255, (2, 30, 45, 3)).astype(np.float32)
    np.testing.assert_array_equal(squash(images, 14), np.stack([squash(image, 14) for image in images]))


@pytest.mark.parametrize("size_px", [14, 56, 224])
def test_a_constant_image_stays_constant(size_px):
    image = Image.new("RGB", (90, 37), (3, 120, 251))
    result = preprocess(encode(image, "PNG"), size_px)
    np.testing.assert_allclose(result, np.broadcast_to((3, 120, 251), (size_px, size_px, 3)), atol=1e-3)


# Crops.


def photo(height, width, **options):
    """JPEG with fine detail in its colours, where what a decoder sees beside a pixel matters."""
    pixels = np.random.default_rng(3).integers(0, 256, (height // 3, width // 3, 3), np.uint8)
    return encode(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC), "JPEG", **options)


PHOTOS = {
    "smaller": photo(50, 61, quality=90, subsampling=0),
    "smaller, colours at half": photo(50, 61, quality=90, subsampling=2),
    "of this size": photo(64, 64, quality=90, subsampling=0),
    "of this size, colours at half": photo(64, 64, quality=90, subsampling=2),
    "larger": photo(160, 213, quality=90, subsampling=0),
    "larger, colours at half": photo(160, 213, quality=90, subsampling=2),
    "larger, colours at half in width, progressive": photo(160, 213, quality=90, subsampling=1, progressive=True),
    "tall": photo(201, 40, quality=90, subsampling=2),
    "much larger": photo(420, 700, quality=90, subsampling=0),
    **FILES,
}
FAST_CROPS = ("smaller, colours at half", "larger, colours at half", "cmyk jpeg", "rgba png")


@tf.function(input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([4], tf.int32)])
def crop_out_of_64(data, crop):
    return preprocess_crop(data, 64, crop)


@pytest.mark.parametrize(
    "kind", [kind if kind in FAST_CROPS else pytest.param(kind, marks=pytest.mark.slow) for kind in PHOTOS]
)
def test_a_crop_is_cut_out_of_the_whole(kind):
    whole = preprocess(PHOTOS[kind], 64).numpy()
    sizes = (64, 42, 1)
    crops = [(0, 0, h, w) for h in sizes for w in sizes]
    crops += [(64 - h, 64 - w, h, w) for h in sizes for w in sizes]
    crops += [(8, 0, 48, 42), (0, 13, 42, 42), (11, 22, 42, 32), (23, 0, 3, 64)]
    for top, left, height, width in crops:
        result = crop_out_of_64(PHOTOS[kind], tf.constant((top, left, height, width)))
        expected = whole[top : top + height, left : left + width]
        np.testing.assert_allclose(result, expected, atol=5e-3, err_msg=f"{top, left, height, width}")


# JPEGs decoded at a part of their size.


SMOOTH = RGB.resize((880, 720), Image.Resampling.BICUBIC)  # 5.6 x 128 is 716.8
LARGE = encode(SMOOTH, "JPEG", quality=92, subsampling=2)


@pytest.mark.parametrize("shorter_px, expected", [(40, 0), (358, 0), (359, 1), (716, 1), (717, 2), (9000, 2)])
def test_a_jpeg_is_halved_as_long_as_enough_is_left(shorter_px, expected):
    """2.8 pixels for one of 64: 179.2, times 2 and 4."""
    assert halvings([shorter_px, 9000], 64) == halvings([9000, shorter_px], 64) == expected


@pytest.mark.parametrize("size_px, ratio", [(128, 2), (64, 4)])
def test_a_part_of_a_jpeg_is_pillows(size_px, ratio):
    """Pillow's draft mode has libjpeg scale as well. All sides are multiples of the ratio.

    Colours at full size: libjpeg leaves those at half their size as they are where it halves the image, and their
    transform is TensorFlow's, which is less accurate than Pillow's.
    """
    data = encode(SMOOTH, "JPEG", quality=92, subsampling=0)
    part = Image.open(io.BytesIO(data))
    part.draft("RGB", (880 // ratio, 720 // ratio))
    assert part.size == (880 // ratio, 720 // ratio)
    planes = [Image.fromarray(plane.astype(np.float32)) for plane in np.moveaxis(np.asarray(part), -1, 0)]
    expected = [np.asarray(plane.resize((size_px, size_px), Image.Resampling.BILINEAR)) for plane in planes]
    np.testing.assert_allclose(preprocess(data, size_px, fast=True), np.stack(expected, axis=-1), atol=0.02)


@pytest.mark.parametrize("size_px", [129, 128, 64])  # at 1/1, 1/2 and 1/4
@pytest.mark.parametrize("subsampling", [0, 2])
def test_a_crop_decoded_fast_is_cut_out_of_the_whole(size_px, subsampling):
    data = encode(SMOOTH.crop((0, 0, 877, 719)), "JPEG", quality=92, subsampling=subsampling)
    whole = preprocess(data, size_px, fast=True).numpy()
    half, rest = size_px // 2, size_px - size_px // 3
    for top, left, height, width in [
        (0, 0, size_px, size_px),
        (3, 9, half, half + 5),
        (half, rest, half, size_px // 3),
    ]:
        result = preprocess_crop(data, size_px, tf.constant((top, left, height, width)), fast=True)
        expected = whole[top : top + height, left : left + width]
        np.testing.assert_allclose(result, expected, atol=5e-3, err_msg=f"{top, left, height, width}")


@pytest.mark.parametrize("size_px", [128, 64])
def test_a_jpeg_decoded_fast_is_near_the_whole(size_px):
    """As near as photographs are (docs/measurements.md), and of the same region."""
    top, left, side = size_px // 8, size_px // 4, size_px // 2
    exact, below = (preprocess_crop(LARGE, size_px, tf.constant((top + move, left, side, side))) for move in (0, 2))
    fast = preprocess_crop(LARGE, size_px, tf.constant((top, left, side, side)), fast=True)
    assert 0.0 < np.abs(fast - exact).mean() < 1.1
    assert np.abs(fast - below).mean() > 2.0


@pytest.mark.parametrize("data", [*PHOTOS.values(), encode(SMOOTH, "PNG"), encode(SMOOTH, "BMP")])
def test_small_jpegs_and_other_files_have_no_other_path(data):
    crop = tf.constant((3, 2, 91, 120))
    np.testing.assert_array_equal(preprocess(data, 160, fast=True), preprocess(data, 160))
    np.testing.assert_array_equal(preprocess_crop(data, 160, crop, fast=True), preprocess_crop(data, 160, crop))


def test_a_damaged_jpeg_fails_fast_as_well():
    for fast in (False, True):
        with pytest.raises(tf.errors.InvalidArgumentError, match="Invalid JPEG data"):
            preprocess(LARGE[: len(LARGE) // 2], 64, fast)


def test_crop_image():
    image = waves(3)
    np.testing.assert_array_equal(crop_image(image, (5, 7, 11, 13)), image[5:16, 7:20])


# The whole path, wherever it runs.


@EVERY_FILE
def test_preprocess_is_decode_then_squash(kind):
    result = preprocess(FILES[kind], 56)
    assert result.shape == (56, 56, 3)
    np.testing.assert_array_equal(result, squash(decode_image(FILES[kind]), 56))


def test_eager_equals_tf_data_equals_tf_function():
    files = list(FILES.values())  # of one graph: each takes its own path through the same operations
    eager = [preprocess(data, 56).numpy() for data in files]

    dataset = tf.data.Dataset.from_tensor_slices(files).map(
        lambda data: preprocess(data, 56), num_parallel_calls=tf.data.AUTOTUNE
    )
    assert dataset.element_spec.shape == (56, 56, 3)
    in_tf_data = list(dataset.as_numpy_iterator())

    function = tf.function(preprocess, input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)])
    in_function = [function(data, 56).numpy() for data in files]

    for kind, expected, first, second in zip(FILES, eager, in_tf_data, in_function, strict=True):
        np.testing.assert_array_equal(first, expected, err_msg=kind)
        # A graph optimizer writes "/ 255" as a product: the last bit may differ where there is alpha.
        np.testing.assert_allclose(second, expected, atol=1e-4, err_msg=kind)
