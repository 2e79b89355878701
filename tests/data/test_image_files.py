"""Image files: what a plain decoder shows of the returned bytes, against NumPy's account of the picture."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from srn_tf.data import image_files
from srn_tf.data.image_files import list_images, read_image_file
from srn_tf.errors import InputError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def smooth_rgb(height=24, width=40):
    """uint8 (height, width, 3); differs under every flip and turn; smooth, so that JPEG stays close to it."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([4 * columns, 8 * rows, 3 * columns + 3 * rows], axis=-1).astype(np.uint8)


def encode(image, image_format, **options):
    """Bytes of an array or PIL image in a format."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def orientation_exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def read(tmp_path, data, name="picture"):
    path = tmp_path / name
    path.write_bytes(data)
    return read_image_file(path)


def decode(data):
    """What the plain decoder shows: uint8 (height, width, 3)."""
    return tf.io.decode_image(data, channels=3).numpy()


def assert_shown(tmp_path, data, expected, atol=0):
    """The file is rewritten as PNG and shown as `expected`."""
    result = read(tmp_path, data)
    assert result.startswith(PNG_SIGNATURE) and result != data
    assert Image.open(io.BytesIO(result)).mode == "RGB"
    shown = decode(result)
    assert shown.shape == expected.shape
    np.testing.assert_allclose(shown.astype(int), expected.astype(int), atol=atol)


def grey_as_rgb(grey):
    return np.repeat(np.asarray(grey)[..., None], 3, axis=-1)


def over_white(colour, alpha):
    """colour (H, W, 3), alpha (H, W), 0 to 255 -> float (H, W, 3)."""
    opacity = alpha[..., None] / 255.0
    return np.rint(colour * opacity + 255.0 * (1.0 - opacity))


# Ordinary files: as they are.

RGB = smooth_rgb()
GREY = smooth_rgb()[..., 2]
PLAIN = {
    "jpeg": encode(RGB, "JPEG", quality=95),
    "jpeg_grey": encode(GREY, "JPEG", quality=95),
    "jpeg_progressive": encode(RGB, "JPEG", quality=95, progressive=True),
    "jpeg_upright": encode(RGB, "JPEG", quality=95, exif=orientation_exif(1)),
    "jpeg_orientation_unknown": encode(RGB, "JPEG", quality=95, exif=orientation_exif(0)),
    "mpo": encode(
        Image.fromarray(RGB), "MPO", quality=95, save_all=True, append_images=[Image.fromarray(RGB[::-1].copy())]
    ),
    "png": encode(RGB, "PNG"),
    "png_grey": encode(GREY, "PNG"),
    "bmp": encode(RGB, "BMP"),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_ordinary_file_is_returned_byte_for_byte(tmp_path, kind):
    data = PLAIN[kind]
    assert read(tmp_path, data) == data
    expected = grey_as_rgb(GREY) if "grey" in kind else RGB
    tolerance = 12 if kind.startswith(("jpeg", "mpo")) else 0
    shown = decode(data)
    assert shown.shape == expected.shape
    np.testing.assert_allclose(shown.astype(int), expected.astype(int), atol=tolerance)


# Everything else: rewritten.


def test_alpha_is_composed_over_white(tmp_path):
    alpha = np.linspace(0, 255, GREY.size).reshape(GREY.shape).astype(np.uint8)
    rgba = np.concatenate([RGB, alpha[..., None]], axis=-1)
    assert_shown(tmp_path, encode(rgba, "PNG"), over_white(RGB, alpha), atol=1)
    grey_alpha = Image.merge("LA", (Image.fromarray(GREY), Image.fromarray(alpha)))
    assert_shown(tmp_path, encode(grey_alpha, "PNG"), over_white(grey_as_rgb(GREY), alpha), atol=1)


@pytest.mark.parametrize("image_format", ["PNG", "GIF"])
def test_palette(tmp_path, image_format):
    indices = (np.arange(12 * 20).reshape(12, 20) % 3).astype(np.uint8)
    colours = np.array([[250, 10, 20], [30, 240, 40], [50, 60, 230]], np.uint8)
    image = Image.fromarray(indices, mode="P")
    image.putpalette(colours.tobytes())
    assert_shown(tmp_path, encode(image, image_format), colours[indices])
    colours[1] = 255  # The transparent colour shows the white behind it.
    assert_shown(tmp_path, encode(image, image_format, transparency=1), colours[indices])


def test_bmp_of_other_than_24_bits(tmp_path):
    assert_shown(tmp_path, encode(GREY, "BMP"), grey_as_rgb(GREY))
    palette = Image.fromarray(RGB).quantize(16)
    assert_shown(tmp_path, encode(palette, "BMP"), np.asarray(palette.convert("RGB")))
    unused = np.dstack([RGB, np.zeros_like(GREY)])  # the fourth byte has no meaning there
    assert_shown(tmp_path, encode(unused, "BMP"), RGB)


def test_transparent_colour(tmp_path):
    expected = np.where(np.all(RGB == RGB[3, 5], axis=-1, keepdims=True), 255, RGB)
    assert (expected != RGB).any()
    assert_shown(tmp_path, encode(RGB, "PNG", transparency=tuple(int(v) for v in RGB[3, 5])), expected)
    expected = grey_as_rgb(np.where(GREY == 30, 255, GREY))
    assert_shown(tmp_path, encode(GREY, "PNG", transparency=30), expected)


def test_one_bit(tmp_path):
    bits = (np.arange(15 * 9).reshape(15, 9) % 2).astype(bool)
    assert_shown(tmp_path, encode(Image.fromarray(bits), "PNG"), grey_as_rgb(np.where(bits, 255, 0)))


def test_16_bit_is_scaled(tmp_path):
    deep = np.linspace(0, 65535, 20 * 30).reshape(20, 30).astype(np.uint16)
    shown = grey_as_rgb(deep >> 8)
    assert shown.max() == 255 and len(np.unique(shown)) == 256
    assert_shown(tmp_path, encode(deep, "PNG"), shown)
    assert_shown(tmp_path, encode(deep, "TIFF"), shown)
    assert_shown(tmp_path, b"P5 30 20 65535\n" + deep.astype(">u2").tobytes(), shown)
    big_endian = Image.frombytes("I;16B", (30, 20), deep.astype(">u2").tobytes())
    assert_shown(tmp_path, encode(big_endian, "TIFF"), shown)
    colour = np.stack([deep, deep[::-1], deep[:, ::-1]], axis=-1)
    assert_shown(tmp_path, tf.io.encode_png(colour).numpy(), colour >> 8)
    transparent = int(deep[4, 7])
    expected = np.where((deep == transparent)[..., None], 255, shown)
    assert_shown(tmp_path, encode(deep, "PNG", transparency=transparent), expected)


@pytest.mark.parametrize(
    "low, high, white",
    [(0, 65535, 65535), (0, 1000, 65535), (0, 2_000_000_000, 2_000_000_000), (-1000, 3000, None)],
)
def test_32_bit_integers_are_scaled(tmp_path, low, high, white):
    values = np.linspace(low, high, 20 * 30).reshape(20, 30).astype(np.int32)
    expected = values / white * 255 if low == 0 else (values - low) / (high - low) * 255
    assert_shown(tmp_path, encode(values, "TIFF"), grey_as_rgb(expected), atol=1)


@pytest.mark.parametrize(
    "low, high, white", [(0.0, 1.0, 1.0), (0.0, 0.5, 1.0), (0.0, 255.0, 255.0), (0.0, 9e9, 9e9), (-2.0, 2.0, None)]
)
def test_floats_are_scaled(tmp_path, low, high, white):
    values = np.linspace(low, high, 20 * 30).reshape(20, 30).astype(np.float32)
    expected = values / white * 255 if low == 0 else (values - low) / (high - low) * 255
    assert_shown(tmp_path, encode(values, "TIFF"), grey_as_rgb(expected), atol=1)


def test_float_that_is_not_finite_is_black(tmp_path):
    values = np.full((2, 3), 0.5, np.float32)
    values[0, 0], values[1, 2] = np.nan, np.inf
    assert_shown(tmp_path, encode(values, "TIFF"), grey_as_rgb([[0, 128, 128], [128, 128, 0]]))


def cmyk_jpeg(cyan, magenta, yellow, black):
    """A flat CMYK JPEG, stored inverted with an Adobe marker, and the position of the marker."""
    data = encode(Image.new("CMYK", (32, 16), (cyan, magenta, yellow, black)), "JPEG", quality=100)
    return data, data.index(b"\xff\xee\x00\x0eAdobe")


def ink_on_paper(cyan, magenta, yellow, black):
    """(16, 32, 3): inks take their share from white, 255 being full."""
    rgb = (255 - np.array([cyan, magenta, yellow])) * (255 - black) / 255
    return np.broadcast_to(rgb, (16, 32, 3))


def test_cmyk(tmp_path):
    inks = (40, 90, 160, 60)
    data, marker = cmyk_jpeg(*inks)
    assert_shown(tmp_path, data, ink_on_paper(*inks), atol=2)
    assert_shown(tmp_path, encode(Image.new("CMYK", (32, 16), inks), "TIFF"), ink_on_paper(*inks), atol=1)
    # Without Adobe's marker the stored samples are the inks themselves.
    data = data[:marker] + data[marker + 16 :]
    assert_shown(tmp_path, data, ink_on_paper(*(255 - ink for ink in inks)), atol=2)


def test_ycck(tmp_path):
    # Stored Y 100, Cb 128, Cr 128, K 200: the inverse of what is saved. Y alone makes R = G = B = 100, whose
    # complement 155 is the stored ink; Adobe stores inks inverted: C = M = Y = 100, K = 55.
    data, marker = cmyk_jpeg(155, 127, 127, 55)
    assert data[marker + 15] == 0  # The marker's last byte: 0 CMYK, 2 YCCK.
    data = data[: marker + 15] + b"\x02" + data[marker + 16 :]
    assert_shown(tmp_path, data, ink_on_paper(100, 100, 100, 55), atol=2)


UPRIGHT = {
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),  # Turned clockwise.
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}


def test_orientation_that_viewers_do_not_read(tmp_path):
    """Pillow also takes one from XMP, which disagreed with what is shown everywhere else."""
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    data = encode(RGB, "JPEG", quality=95, xmp=xmp)
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == 6
    assert read(tmp_path, data) == data
    both = encode(RGB, "JPEG", quality=95, xmp=xmp, exif=orientation_exif(3))
    assert_shown(tmp_path, both, RGB[::-1, ::-1], atol=12)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied_once(tmp_path, image_format, orientation):
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = encode(RGB, image_format, exif=orientation_exif(orientation), **options)
    assert_shown(tmp_path, data, UPRIGHT[orientation](RGB))


def test_rotated_jpeg(tmp_path):
    data = encode(RGB, "JPEG", quality=95, exif=orientation_exif(6))
    assert_shown(tmp_path, data, np.rot90(RGB, -1), atol=12)
    grey = encode(GREY, "JPEG", quality=95, exif=orientation_exif(8))
    assert_shown(tmp_path, grey, grey_as_rgb(np.rot90(GREY, 1)), atol=12)


def test_damaged_exif_leaves_the_picture(tmp_path):
    data = encode(RGB, "JPEG", quality=95, exif=b"Exif\0\0nonsense")
    assert read(tmp_path, data) == data


def test_first_frame_of_an_animation(tmp_path):
    first, second = Image.new("RGB", (12, 9), (200, 30, 40)), Image.new("RGB", (12, 9), (10, 220, 60))
    expected = np.broadcast_to(np.array([200, 30, 40]), (9, 12, 3))
    data = encode(first, "GIF", save_all=True, append_images=[second])
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert_shown(tmp_path, data, expected)
    assert_shown(tmp_path, encode(first, "WEBP", lossless=True, save_all=True, append_images=[second]), expected)
    data = encode(first, "PNG", save_all=True, append_images=[second])
    np.testing.assert_array_equal(decode(read(tmp_path, data)), expected)


@pytest.mark.parametrize("image_format, options", [("WEBP", {"lossless": True}), ("TIFF", {}), ("PPM", {})])
def test_other_containers(tmp_path, image_format, options):
    assert_shown(tmp_path, encode(RGB, image_format, **options), RGB)


def test_tags_of_the_source_do_not_follow(tmp_path):
    data = encode(Image.new("CMYK", (4, 4)), "TIFF", icc_profile=b"a profile for inks")
    assert Image.open(io.BytesIO(data)).info["icc_profile"]
    assert "icc_profile" not in Image.open(io.BytesIO(read(tmp_path, data))).info


def test_reading_twice_gives_the_same(tmp_path):
    data = encode(Image.fromarray(RGB).convert("P"), "GIF")
    assert read(tmp_path, data) == read(tmp_path, data)


# Bad input: one line, with the path.


def with_png_size(data, width, height):
    """A PNG that claims another size."""
    header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


BAD = {
    "empty": (b"", "must be an image. Received: an empty file"),
    "text": (b"This is not a picture.\n" * 20, "must be an image. Received: 460 bytes of none of the formats"),
    "half_jpeg": (PLAIN["jpeg"][: len(PLAIN["jpeg"]) // 2], "must be an undamaged image. Received: a truncated"),
    "jpeg_without_end": (PLAIN["jpeg"][:-2], "must be an undamaged image. Received: a truncated"),
    "half_progressive": (PLAIN["jpeg_progressive"][:-150], "must be an undamaged image. Received: a truncated"),
    "half_png": (PLAIN["png"][: len(PLAIN["png"]) // 2], "must be an undamaged image. Received: a truncated"),
    "png_without_end": (PLAIN["png"][:-12], "must be an undamaged image. Received: a truncated"),
    "png_end_cut": (PLAIN["png"][:-2], "must be an undamaged image. Received: a truncated"),
    "half_bmp": (PLAIN["bmp"][: len(PLAIN["bmp"]) // 2], "must be an undamaged image. Received: a truncated"),
    "half_gif": (encode(RGB, "GIF")[:-200], "must be an undamaged image. Received: a truncated"),
    "half_webp": (encode(RGB, "WEBP")[:-40], "must be"),
    "too_large": (with_png_size(PLAIN["png"], 10_001, 10_000), "at most 100000000 pixels. Received: 10001 x 10000"),
    "bomb": (with_png_size(PLAIN["png"], 100_000, 100_000), "must have at most 100000000 pixels. Received: over"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_file(tmp_path, kind):
    data, message = BAD[kind]
    path = tmp_path / f"{kind}.jpg"
    path.write_bytes(data)
    with pytest.raises(InputError) as error:
        read_image_file(path)
    text = str(error.value)
    assert text.startswith(str(path)) and message in text and "\n" not in text


def test_ordinary_jpeg_can_be_left_undecoded(tmp_path):
    """Its pixels may then be damaged; all else is checked as ever."""
    path = tmp_path / "a.jpg"
    jpeg = PLAIN["jpeg"]
    path.write_bytes(jpeg[:-40] + b"\xff\xd8" + jpeg[-38:])  # in its middle it begins again
    assert read_image_file(path, check_jpeg=False) == path.read_bytes()
    with pytest.raises(InputError, match="must be an undamaged image"):
        read_image_file(path)
    rotated = encode(RGB, "JPEG", exif=orientation_exif(6))
    cmyk = encode(Image.new("CMYK", (8, 8)), "JPEG")
    for data in (rotated, cmyk, encode(RGB, "GIF"), PLAIN["png"], PLAIN["jpeg"]):
        path.write_bytes(data)
        assert read_image_file(path, check_jpeg=False) == read_image_file(path)
    for data, message in BAD.values():
        path.write_bytes(data)
        with pytest.raises(InputError, match=message):
            read_image_file(path, check_jpeg=False)


def test_largest_size_is_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "MAX_PIXELS", RGB.shape[0] * RGB.shape[1])
    assert read(tmp_path, PLAIN["png"]) == PLAIN["png"]
    monkeypatch.setattr(image_files, "MAX_PIXELS", RGB.shape[0] * RGB.shape[1] - 1)
    with pytest.raises(InputError, match="must have at most 959 pixels. Received: 40 x 24"):
        read(tmp_path, PLAIN["png"])


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def test_heic_and_avif_name_their_reader(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "_known_formats", lambda: ["JPEG"])
    path = tmp_path / "a.heic"
    for data, needed in ((HEIC, "HEIC, which needs pillow-heif"), (encode(RGB, "AVIF"), "AVIF, which needs Pillow")):
        path.write_bytes(data)
        with pytest.raises(InputError, match=f"a.heic must be a readable image. Received: {needed}"):
            read_image_file(path)


def test_heic_is_read_by_pillow_heif(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    turned = encode(RGB, "HEIF", quality=-1, chroma=444, matrix_coefficients=0, exif=orientation_exif(6).tobytes())
    assert_shown(tmp_path, turned, np.rot90(RGB, -1), atol=2)
    with pytest.raises(InputError, match="must be"):
        read(tmp_path, turned[:-400])


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match="An image file must exist. Received: .*absent.jpg"):
        read_image_file(tmp_path / "absent.jpg")
    with pytest.raises(InputError, match="must be a readable image file. Received: Is a directory"):
        read_image_file(tmp_path)


# Lists.


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_folders_are_expanded_sorted(tmp_path):
    touch(tmp_path, "b.JPG", "a/z.png", "a/c.jpeg", "notes.txt", "c.WebP", ".hidden.jpg", ".cache/x.png", "d.jpg.part")
    assert list_images(tmp_path) == [str(tmp_path / name) for name in ("a/c.jpeg", "a/z.png", "b.JPG", "c.WebP")]
    assert list_images([str(tmp_path)]) == list_images(tmp_path)


def test_what_is_left_out_of_a_folder_is_counted(tmp_path, caplog):
    touch(tmp_path, "in/a.HEIC", "in/b.jpg", "in/b", "in/c/IMG_1", "in/c/x.txt", "in/.DS_Store", "in/.cache/y.jpg")
    touch(tmp_path, "elsewhere/d.jpg")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "e.jpg").symlink_to(tmp_path / "elsewhere" / "d.jpg")  # a linked file is one
    inside = tmp_path / "in"
    caplog.set_level("INFO", "srn_tf")
    assert list_images(inside) == [f"{inside}/{name}" for name in ("a.HEIC", "b.jpg", "e.jpg")]
    assert [record.getMessage() for record in caplog.records] == [
        f"Skipped in {inside}: 3 files with other endings (such as {inside}/b), 1 linked folders (such as "
        f"{inside}/link), 2 hidden files or folders (such as {inside}/.DS_Store). To read them, give their paths."
    ]
    caplog.clear()
    assert list_images([inside / "b", inside / "link"]) == [f"{inside}/b", f"{inside}/link/d.jpg"]
    assert caplog.records == []


def test_named_files_keep_their_order_and_come_once(tmp_path):
    touch(tmp_path, "in/b.jpg", "in/a.jpg", "odd.name")
    inside, odd = str(tmp_path / "in"), str(tmp_path / "odd.name")
    b, a = f"{inside}/b.jpg", f"{inside}/a.jpg"
    assert list_images([odd, b, inside]) == [odd, b, a]


def test_patterns_are_expanded_as_by_a_shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "b.jpg", "a.txt", "in/c.jpg", "in/deep/d.png", "in/notes.txt", "x[1].jpg", "x1.jpg", ".hidden.jpg")
    assert list_images(["?.*", "*.jpg"]) == ["a.txt", "b.jpg", "x1.jpg", "x[1].jpg"]
    assert list_images("i*") == ["in/c.jpg", "in/deep/d.png"]
    assert list_images("in/**/*.*") == ["in/c.jpg", "in/deep/d.png", "in/notes.txt"]
    assert list_images("x[1].jpg") == ["x[1].jpg"]  # the name of a file first


def test_missing_file_is_listed(tmp_path):
    touch(tmp_path, "a.jpg")
    assert list_images([tmp_path / "absent.jpg", tmp_path]) == [f"{tmp_path}/absent.jpg", f"{tmp_path}/a.jpg"]


def test_bad_lists(tmp_path):
    touch(tmp_path, "only/notes.txt", "a.jpg")
    for empty in (tmp_path / "only", tmp_path / "*.png"):
        with pytest.raises(InputError) as error:
            list_images([tmp_path / "a.jpg", empty])
        assert f"must have at least one image. Received: {empty}, which has no file" in str(error.value)
        assert ".jpeg, .jpg" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(InputError, match="an empty list of paths"):
        list_images([])
