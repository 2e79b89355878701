"""Image files: the bytes of a picture that any plain decoder shows as a person would see it.

A plain decoder (`tf.io.decode_image` with 3 channels) ignores EXIF rotation, drops an alpha channel, shows the
colours of a BMP's palette as greys and cannot read some files at all. So whatever is not an ordinary 8-bit picture is
decoded here, once, and written again without loss.
"""

import contextlib
import functools
import glob
import io
import logging
import os
import warnings

import numpy as np
from PIL import Image, ImageChops

from srn_tf.data.arrow_images import read_bytes
from srn_tf.errors import InputError

logger = logging.getLogger("srn_tf")

MAX_PIXELS = 100_000_000
"""Largest width x height that is decoded (100 megapixels: 0.3 GB as RGB); above it a file may be a bomb."""

EXTENSIONS = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"),
)
"""File name endings, lower case, by which `list_images` knows the images of a folder."""

# Pillow's own list also has formats that are drawn by running another program (EPS) and formats without
# a magic number, for which any file may pass.
_FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

# What reads the kinds that not every Pillow reads, by the brand behind "ftyp" (ISO/IEC 23008-12) in the file.
_READERS = {
    **dict.fromkeys((b"avif", b"avis"), ("AVIF", "Pillow 11.3 or newer")),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), ("HEIC", "pillow-heif")),
}

# EXIF 2.32, tag 0x0112: what to do to the stored pixels so that they stand upright.
_ORIENTATION_TAG, _SHORT = 0x0112, 3
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_PNG_END = b"IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"


def read_image_file(path, check_jpeg=True):
    """Reads an image file into bytes that a plain decoder shows as a person would see the picture.

    An ordinary 8-bit RGB or grey JPEG or PNG or 24-bit BMP that stands upright is returned byte for byte. Anything
    else comes back as an 8-bit RGB PNG of the same pixels:
      - alpha, or a transparent colour: composed over white;
      - palette, 1-bit and CMYK (inverted or not, as its Adobe marker says): converted;
      - 16 bits: the high byte, as decoders do. 32-bit integers: likewise if they fit in 16 bits, else divided
        by their maximum. Floats: white is 1 if they stay below it, else 255, else their maximum. A range
        that goes below 0 is stretched from its minimum to its maximum. Nothing is clipped;
      - EXIF orientation: applied;
      - an animation: its first frame. Every GIF is rewritten, since decoders give it a frame axis;
      - another container (WebP, TIFF, JPEG 2000, PPM; AVIF and HEIC where Pillow or pillow-heif reads them): rewritten.
    Colour profiles are not applied. The picture is decoded completely, so damaged data is noticed here.

    Args:
        path: str or path of the file.
        check_jpeg: False returns an ordinary JPEG that has its end marker without decoding it, which takes 0.1 ms in
            place of 3: for a caller who decodes it next and deals with damage then.
    Returns:
        bytes of a JPEG, PNG or BMP, which decode to uint8 (height, width, 3), RGB.
    Raises:
        InputError: the file is missing, unreadable, empty, not an image, truncated or damaged, or larger
            than `MAX_PIXELS`.
    """
    data, image = open_image_file(path, check_jpeg)
    return data if data is not None else encode_png(image)


def open_image_file(path, check_jpeg=True):
    """Reads and decodes an image file, see `read_image_file`.

    Args:
        path: str or path of the file.
        check_jpeg: as of `read_image_file`; where it leaves a file undecoded, the image is None.
    Returns:
        pair: bytes of the file if a plain decoder shows them rightly, else None; PIL image, RGB, upright.
    Raises:
        InputError: as `read_image_file`.
    """
    data = _read_bytes(path)
    try:
        # Pillow's warnings are about tags and sizes; what matters here is an error or checked below.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=_known_formats())
            _check_size(image, path)
            if not check_jpeg and image.format == "JPEG" and data.endswith(_JPEG_END) and _is_plain(image, data):
                return data, None
            image.load()
            if image.format == "PNG":
                _check_png(data)
            return data if _is_plain(image, data) else None, to_upright_rgb(image)
    except InputError:
        raise
    except Image.UnidentifiedImageError:
        raise InputError(_unknown(path, data)) from None
    except Image.DecompressionBombError:  # Pillow's own limit, met before the size can be asked for.
        raise InputError(_too_large(path, f"over {2 * Image.MAX_IMAGE_PIXELS}")) from None
    # Damaged data surfaces from Pillow's readers as nearly any type: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        raise InputError(
            f"{path} must be an undamaged image. Received: a truncated or damaged file, or an unsupported kind "
            f"({_one_line(error)}). Replace or remove the file."
        ) from error


def encode_png(image):
    """Returns an RGB PIL image as PNG bytes, without the tags and profiles of the file it came from."""
    image.info.clear()
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def to_upright_rgb(image):
    """Returns a decoded PIL image of any mode as RGB, over white, turned upright; see `read_image_file`."""
    orientation = _read_orientation(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = _scale_to_8_bits(image)
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        image = ImageChops.invert(image)  # Pillow inverts every CMYK JPEG; only those of Adobe are stored inverted.
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    return image


def list_images(paths):
    """Lists image files: folders and patterns expanded, other paths as they are given.

    A folder is searched with its subfolders for the names that end in one of `EXTENSIONS` (upper or lower
    case). What is left out there, a warning counts: other files, hidden names (".x") and linked folders. A pattern such
    as "photos/**/*.jpg" is what a shell makes of it ("**": any folders), unless it is itself the name of a file. A file
    that is named or matched is listed whatever its ending; one that is named also if it is missing, which is for
    whoever reads it to say.

    Args:
        paths: one path, or an iterable of paths (str or path objects) of files and folders, and patterns.
    Returns:
        list of str: in the order of `paths`, the files of each folder and pattern sorted by path, no path twice.
    Raises:
        InputError: no path at all, a folder or a pattern without images, or a folder that cannot be read.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    paths = [os.fspath(path) for path in paths]
    found = []
    for path in paths:
        images = _expand(path)
        if not images:
            raise InputError(
                f"A folder or pattern must have at least one image. Received: {path}, which has no file that ends in "
                f"{', '.join(EXTENSIONS)}. Check the path."
            )
        found += images
    if not found:
        raise InputError("At least one image is needed. Received: an empty list of paths. Give paths of images.")
    return list(dict.fromkeys(found))


def _expand(path):
    """Returns the paths of a folder's images or of a pattern's, sorted, or else the path alone, in a list."""
    if os.path.isdir(path):
        return sorted(_walk_images(path))
    if not any(sign in path for sign in "*?[") or os.path.exists(path):
        return [path]
    matches = glob.iglob(path, recursive=True)
    return sorted(image for match in matches for image in (_walk_images(match) if os.path.isdir(match) else [match]))


def _walk_images(folder):
    """Yields the paths of a folder's images, subfolders included, in no particular order; warns of what it leaves."""

    def refuse(error):
        raise InputError(
            f"Folder {error.filename} must be readable. Received: {error.strerror}. Check its permissions."
        )

    others, links, hidden = [], [], []
    for parent, subfolders, names in os.walk(folder, onerror=refuse):
        hidden += [os.path.join(parent, name) for name in [*subfolders, *names] if name.startswith(".")]
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        links += [path for name in subfolders if os.path.islink(path := os.path.join(parent, name))]
        for path in (os.path.join(parent, name) for name in names if not name.startswith(".")):
            if path.lower().endswith(EXTENSIONS):
                yield path
            else:
                others.append(path)
    kinds = {"files with other endings": others, "linked folders": links, "hidden files or folders": hidden}
    left = [f"{len(paths)} {kind} (such as {min(paths)})" for kind, paths in kinds.items() if paths]
    if left:
        logger.warning("Skipped in %s: %s. To read them, give their paths.", folder, ", ".join(left))


def _read_bytes(path):
    """Returns a file's bytes, at least one; InputError otherwise."""
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        raise InputError(f"An image file must exist. Received: {path}, which does not exist. Check the path.") from None
    except OSError as error:
        raise InputError(
            f"{path} must be a readable image file. Received: {error.strerror}. Check the path and its permissions."
        ) from None
    if not data:
        raise InputError(f"{path} must be an image. Received: an empty file. Replace or remove it.")
    return data


@functools.cache
def _known_formats():
    """Returns the readers there are, among those wanted: older Pillows lack AVIF, and HEIF needs pillow-heif."""
    Image.init()
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    return [name for name in _FORMATS if name in Image.OPEN]


def _unknown(path, data):
    """The message about a file that none of the readers knows."""
    if data[4:8] == b"ftyp" and data[8:12] in _READERS:
        kind, reader = _READERS[data[8:12]]
        return f"{path} must be a readable image. Received: {kind}, which needs {reader}. Install it."
    return (
        f"{path} must be an image. Received: {len(data)} bytes of none of the formats {', '.join(_known_formats())}. "
        "Replace or remove the file."
    )


def _check_size(image, path):
    """Raises InputError if an opened, not yet decoded image is larger than `MAX_PIXELS`."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InputError(_too_large(path, f"{width} x {height}"))


def _too_large(path, received):
    return f"{path} must have at most {MAX_PIXELS} pixels. Received: {received}. Make the image smaller, or remove it."


def _check_png(data):
    """Raises if a PNG is cut after its pixels or a checksum is wrong: Pillow shows it, stricter decoders do not."""
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        image.verify()
    if _PNG_END not in data:
        raise OSError("no end chunk")


def _read_orientation(image):
    """Returns the EXIF orientation of an image (1 upright, 2 to 8), 1 if there is none, or one of another form.

    That of EXIF data alone, by the rule of `image_headers.jpeg_orientation`. Pillow's own `getexif` also takes one from
    XMP and from texts of a PNG, as viewers do not, and stops at a damaged entry. (A TIFF Pillow turns itself.)
    """
    data = image.info.get("exif", b"").removeprefix(b"Exif\0\0")
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(data[:4])
    if order is None:
        return 1

    def number(position, size):
        return int.from_bytes(data[position : position + size], order)

    orientation, first = 1, number(4, 4) + 2
    for entry in range(first, min(first + 12 * number(first - 2, 2), len(data)), 12):
        tag, kind, count, value = number(entry, 2), number(entry + 2, 2), number(entry + 4, 4), number(entry + 8, 2)
        if (tag, kind, count) == (_ORIENTATION_TAG, _SHORT, 1) and 1 <= value <= 8:
            orientation = value
    return orientation


def _is_plain(image, data):
    """Tells whether a plain decoder shows a file's own bytes rightly: upright, 8-bit RGB or grey, not transparent."""
    if image.mode not in ("RGB", "L") or "transparency" in image.info or _read_orientation(image) in _UPRIGHT:
        return False
    if image.format in ("JPEG", "MPO"):  # MPO: a JPEG followed by further pictures (some phones).
        return True
    if image.format == "PNG":
        return data[24] == 8  # IHDR: bits per channel.
    if image.format == "BMP":
        header_bytes, bits, compression = (
            int.from_bytes(data[i:j], "little") for i, j in ((14, 18), (28, 30), (30, 34))
        )
        return header_bytes >= 40 and bits == 24 and compression == 0
    return False


def _scale_to_8_bits(image):
    """Returns a 16-bit, 32-bit integer or float image as 8-bit grey, by the rules of `read_image_file`.

    A transparent grey value becomes an alpha channel (mode LA).
    """
    values = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = values.min(), values.max()
    if low < 0.0:
        grey = (values - low) * (255.0 / max(high - low, 1e-300))
    elif image.mode == "F":
        grey = values * (255.0 / (1.0 if high <= 1.0 else max(high, 255.0)))
    elif high <= 65535.0:
        grey = values // 256.0
    else:
        grey = values * (255.0 / high)
    grey = Image.fromarray(np.rint(grey).astype(np.uint8))
    if "transparency" in image.info:
        grey.putalpha(Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)))
    return grey


def _one_line(error):
    return " ".join(str(error).split()) or type(error).__name__
