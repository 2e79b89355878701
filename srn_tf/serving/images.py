"""Whatever a caller has of an image, as the bytes of a file that the exported graph decodes."""

import io
import os
import re
import warnings

import numpy as np
from PIL import Image

from srn_tf.data.image_files import MAX_PIXELS, read_image_file, to_upright_rgb
from srn_tf.errors import ImageError, InputError

_RULE = re.compile(r"assertion failed: \[([^\]]*)\]")  # of `data.preprocessing`, in an error of the graph
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


def to_image_files(images):
    """Turns images of any of four kinds into the bytes of image files.

    - path (str or PathLike): read as a person sees the picture, see `data.image_files.read_image_file`;
    - bytes of a JPEG, PNG, BMP or GIF: as they are; the graph reads them, or refuses them with a reason, as it does
      behind a server, see `data.preprocessing.preprocess_upright`;
    - uint8 array (H, W, 3), RGB: without loss;
    - PIL image of 8 bits a channel: EXIF orientation applied, transparency laid over white, then RGB, without loss.

    The decoders of Pillow and TensorFlow give a JPEG's pixels some grey levels apart, so an array or PIL image that was
    read from one gets a slightly different answer from the file itself.

    Nothing larger than `data.image_files.MAX_PIXELS` gets into a decoder.

    Args:
        images: list or tuple of N.
    Returns:
        list of N bytes. Those given as bytes have not been decoded and may turn out damaged.
    Raises:
        InputError: not a list, an image of another kind, too large, or a file that cannot be read.
    """
    if not isinstance(images, (list, tuple)):
        raise InputError(
            "Images must be a list, even of one image: paths, bytes of image files, uint8 (H, W, 3) arrays or PIL "
            f"images. Received: {_shown(images)}."
        )
    return [_to_file(image, position) for position, image in enumerate(images)]


def refusal(position, count, error, by=""):
    """Says which image an exported graph has refused, and why.

    Args:
        position: of the image, from 0; count: of how many.
        error: text of TensorFlow's error.
        by: address of the server that has refused it, "" without one.
    Returns:
        errors.ImageError.
    """
    rule = _RULE.search(error)
    reason = rule[1] if rule else "The decoder reports damage. Replace it"
    return ImageError(
        "Every image must be a JPEG, PNG, BMP or GIF that can be decoded. "
        f"Received{by and f' by {by}'}: image {position} (from 0) of {count}, which cannot be decoded. {reason}.",
        reason,
    )


def _to_file(image, position):
    if isinstance(image, (str, os.PathLike)):
        return read_image_file(image)
    if isinstance(image, bytes):
        _check_size(_header_size(image), position)
        return image
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        _check_size(image.shape[1::-1], position)
        if image.size:
            return _encode(Image.fromarray(np.ascontiguousarray(image)))
    if isinstance(image, Image.Image) and image.mode in _EIGHT_BIT_MODES:
        _check_size(image.size, position)
        return _encode(to_upright_rgb(_loaded(image, position)))
    raise InputError(
        "An image must be a path, the bytes of an image file, a uint8 (H, W, 3) array or a PIL image of 8 bits per "
        f"channel. Received: {_shown(image)}, image {position} (from 0)."
    )


def _header_size(data):
    """(width, height) as the header of a file says, without decoding; (0, 0) if Pillow does not know it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large images, which are refused below
            with Image.open(io.BytesIO(data)) as image:
                return image.size
    except Image.DecompressionBombError:  # Pillow's own limit, above ours
        return (MAX_PIXELS + 1, 1)
    except Exception:  # damaged headers surface as nearly any type; the graph refuses such an image
        return (0, 0)


def _check_size(size, position):
    width, height = size
    if width * height > MAX_PIXELS:
        raise InputError(
            f"An image must have at most {MAX_PIXELS} pixels. Received: {width} x {height} or more, image {position} "
            "(from 0). Make it smaller."
        )


def _loaded(image, position):
    """A PIL image, decoded (which turns a TIFF)."""
    try:
        image.load()
    except Exception as error:  # damaged data surfaces as nearly any type
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"A PIL image must be undamaged. Received: image {position} (from 0), which cannot be decoded ({reason}). "
            "Replace it."
        ) from error
    return image


def _encode(image):
    """An RGB PIL image as BMP: without loss, and several times faster to write and read than PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="BMP")
    return buffer.getvalue()


def _shown(value):
    """A value of the wrong kind, in a few words."""
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}"
    if isinstance(value, Image.Image):
        return f"a PIL image of mode {value.mode}"
    return repr(value)[:80]
