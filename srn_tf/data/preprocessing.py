"""From the bytes of an image file to what the network sees: the one path of training, evaluation and export.

Scaling to the range a backbone expects is the network's own first layer (`models.layers.ScaleInput`).
"""

import functools

import tensorflow as tf

from srn_tf.data import image_headers as headers

BACKGROUND = 255.0  # what transparent pixels are laid over: white
LEAST_PIXELS = 2.8
"""Least pixels of a JPEG decoded at a part of its size for one of the square that it is resized to, along its shorter
side. With fewer, the square differs more from that of the whole JPEG; see docs/measurements.md."""
_HALVINGS = (0, 1, 2)  # 1/1, 1/2, 1/4; libjpeg has 1/8 as well, which is less exact and no faster than 1/4

_KIND_RULE = (
    "An image must be a JPEG, PNG, BMP or GIF by its first bytes. Received: another kind. Save it as one of them"
)
_BMP_RULE = "A BMP must have 24 or 32 bits per pixel, not compressed, or 256 greys. Received: another. Save it as PNG"
_GIF_RULE = "The first frame of a GIF must cover it and have no transparent colour. Received: another. Save it as PNG"


def decode_image(image_bytes):
    """Decodes one image inside the graph, as a person sees it but for EXIF, see `preprocess_upright`.

    Grey and palettes become RGB, transparency is laid over white, CMYK is converted, 16 bits a channel become 8, of an
    animation the first frame is taken. Whatever TensorFlow's decoders would show otherwise is refused:
      - a BMP other than of 24 or 32 bits a pixel, uncompressed, or of 256 greys in order;
      - a GIF whose first frame has a transparent colour or does not cover the picture.
    No decoder gets a file of another kind than it is for by its first bytes: not all of them survive one.

    Args:
        image_bytes: string scalar; JPEG, PNG, BMP or GIF.
    Returns:
        float32 (height, width, 3), RGB, 0 to 255.
    Raises:
        tf.errors.InvalidArgumentError: another kind of file, or a damaged one.
    """
    return tf.cond(
        tf.io.is_jpeg(image_bytes),
        lambda: tf.cast(_decode_jpeg(image_bytes), tf.float32),
        lambda: _decode_other(image_bytes)[0],
    )


def _decode_jpeg(image_bytes):
    """uint8 (height, width, 3). A CMYK JPEG has four components as well, but its fourth is no alpha."""
    return tf.io.decode_jpeg(image_bytes, channels=3)


@headers.of_file
def _decode_other(image_bytes):
    """Decodes what is no JPEG.

    Returns:
        (image, exif): float32 (height, width, 3), over white; string scalar, see `headers.png_chunks`.
    """
    image, exif = tf.cond(
        headers.is_png(image_bytes), lambda: _decode_png(image_bytes), lambda: (_decode_bmp_or_gif(image_bytes), "")
    )
    image.set_shape([None, None, 3])
    return image, exif


def _decode_png(image_bytes):
    has_transparency, exif = headers.png_chunks(image_bytes)
    image = tf.cast(tf.io.decode_png(image_bytes, channels=4), tf.float32)
    # A product: a quotient some graphs round otherwise.
    alpha = tf.where(has_transparency, image[..., 3:] * (1.0 / 255.0), 1.0)
    return image[..., :3] * alpha + BACKGROUND * (1.0 - alpha), exif


def _decode_bmp_or_gif(image_bytes):
    is_bmp, is_gif = headers.is_bmp(image_bytes), headers.is_gif(image_bytes)
    size, is_whole = headers.gif_header(image_bytes)
    rule = tf.where(is_gif, _GIF_RULE, tf.where(is_bmp, _BMP_RULE, _KIND_RULE))
    is_right = is_whole | (is_bmp & headers.has_plain_bmp_pixels(image_bytes))
    # Not tf.debugging.Assert, which is a branch.
    with tf.control_dependencies([tf.raw_ops.Assert(condition=is_right, data=[rule])]):
        checked = tf.identity(image_bytes)
    # Not decode_gif, which decodes all frames at once. A later frame may be larger than the picture.
    image = tf.io.decode_image(checked, expand_animations=False)
    height, width = tf.unstack(tf.where(is_gif, size, tf.shape(image, tf.int64)[:2]))
    return tf.cast(tf.broadcast_to(image[:height, :width, :3], [height, width, 3]), tf.float32)


def squash(image, size_px):
    """Resizes to a square without keeping the aspect, as the authors test: bilinear, antialiased when it shrinks.

    Args:
        image: float32 or uint8 (..., height, width, 3).
        size_px: side of the result, pixels.
    Returns:
        float32 (..., size_px, size_px, 3).
    """
    # The filter that shrinks takes much longer than the one that enlarges, even where it changes nothing.
    shape = tf.shape(image)[-3:-1]
    shrunk = tf.minimum(shape, size_px)
    image = tf.cond(
        tf.reduce_all(shrunk == shape),
        lambda: tf.cast(image, tf.float32),
        lambda: tf.image.resize(image, shrunk, antialias=True),
    )
    return tf.image.resize(image, [size_px, size_px])


def preprocess(image_bytes, size_px, fast=False):
    """The whole path for one image: decode, then squash.

    Args:
        image_bytes: string scalar.
        size_px: side S of the network's input, pixels.
        fast: bool; whether a large JPEG may be decoded at a part of its size, see `halvings`. Only for training.
    Returns:
        float32 (S, S, 3), RGB, 0 to 255.
    """

    def exact():
        return squash(_decode_jpeg(image_bytes), size_px)

    def jpeg():
        return _fast(image_bytes, size_px, tf.constant([0, 0, size_px, size_px]), exact) if fast else exact()

    # `decode_image` and `squash` in each branch: a large JPEG is never held in float32.
    return tf.cond(tf.io.is_jpeg(image_bytes), jpeg, lambda: squash(_decode_other(image_bytes)[0], size_px))


def halvings(shape, size_px):
    """How often the size of a JPEG is halved while it is decoded fast: the most that leave `LEAST_PIXELS`.

    It does not depend on the crop: crops are cut from the square that the whole image is resized to.

    Args:
        shape: int32 (2,): height and width of the JPEG, pixels.
        size_px: side of that square, pixels.
    Returns:
        int32 scalar, 0 to 2: decoded at 1/1, 1/2 or 1/4 of its size. 0 is the exact path.
    """
    least = [LEAST_PIXELS * size_px * 2**number for number in _HALVINGS[1:]]
    return tf.reduce_sum(tf.cast(tf.cast(tf.reduce_min(shape), tf.float32) >= least, tf.int32))


def _fast(image_bytes, size_px, crop, exact):
    """A crop of a JPEG, decoded at a part of its size if it is large, else as the function `exact` gives it."""
    parts = [functools.partial(crop_of_jpeg, image_bytes, size_px, crop, number) for number in _HALVINGS[1:]]
    return tf.switch_case(halvings(tf.io.extract_jpeg_shape(image_bytes)[:2], size_px), [exact, *parts])


def preprocess_upright(image_bytes, size_px):
    """As `preprocess`, but for files from anywhere: turned upright as the EXIF data of a JPEG or PNG says.

    Args:
        image_bytes: string scalar.
        size_px: side S of the network's input, pixels.
    Returns:
        float32 (S, S, 3), RGB, 0 to 255.
    """

    def jpeg():
        is_cmyk = tf.io.extract_jpeg_shape(image_bytes)[2] == 4
        image = tf.cond(
            is_cmyk | headers.jpeg_may_be_turned(image_bytes),
            # To the pixel as Pillow decodes it, who turns and converts those that come as paths; slower.
            lambda: tf.io.decode_jpeg(image_bytes, channels=3, dct_method="INTEGER_ACCURATE"),
            lambda: _decode_jpeg(image_bytes),
        )
        return squash(image, size_px), headers.jpeg_exif(image_bytes)

    def other():
        image, exif = _decode_other(image_bytes)
        return squash(image, size_px), exif

    image, exif = tf.cond(tf.io.is_jpeg(image_bytes), jpeg, other)
    orientation = headers.orientation_of(exif)
    return _turned(image, orientation)


def _turned(image, orientation):
    """Turns a square image (S, S, 3) upright by its EXIF orientation, int64 scalar (EXIF 2.32, tag 0x0112)."""
    is_transposed = tf.gather([False] * 4 + [True] * 4, orientation - 1)
    are_reversed = tf.gather([[False, False], [False, True], [True, True], [True, False]] * 2, orientation - 1)
    image = tf.transpose(image, tf.where(is_transposed, [1, 0, 2], [0, 1, 2]))
    return tf.raw_ops.Reverse(tensor=image, dims=tf.concat([are_reversed, [False]], 0))


def crop_image(image, crop):
    """Cuts a crop out.

    Args:
        image: (height, width, 3).
        crop: int32 (4,): top, left, height, width, pixels.
    Returns:
        (crop height, crop width, 3) of the image's dtype.
    """
    return tf.image.crop_to_bounding_box(image, crop[0], crop[1], crop[2], crop[3])


def preprocess_crop(image_bytes, size_px, crop, fast=False):
    """`crop_image` of what `preprocess` gives, but for rounding: of a JPEG no more than that is decoded and resized.

    Args:
        image_bytes: string scalar.
        size_px: side of the square that the crop is of, pixels.
        crop: int32 (4,): top, left, height, width in that square, pixels.
        fast: as for `preprocess`.
    Returns:
        float32 (crop height, crop width, 3), RGB, 0 to 255.
    """

    def exact():
        return crop_of_jpeg(image_bytes, size_px, crop)

    return tf.cond(
        tf.io.is_jpeg(image_bytes),
        lambda: _fast(image_bytes, size_px, crop, exact) if fast else exact(),
        lambda: crop_image(preprocess(image_bytes, size_px), crop),
    )


def crop_of_jpeg(image_bytes, size_px, crop, num_halvings=0):
    """The crop of `preprocess_crop`, of a JPEG decoded at 1 / 2^num_halvings of its size (int, 0 to 3)."""
    ratio = 2**num_halvings
    file_shape = tf.io.extract_jpeg_shape(image_bytes)[:2]
    shape = -(-file_shape // ratio)  # as decoded: the last row and column may reach beyond the file's
    step = tf.cast(file_shape, tf.float32) / tf.cast(size_px * ratio, tf.float32)  # pixels to one of the square
    origin, extent = tf.cast(crop[:2], tf.float32), tf.cast(crop[2:], tf.float32)
    # The filter reads half a step, at least a pixel, beyond the crop. The decoder is wrong in two pixels more, at most:
    # where it cuts, it does not see the colour beside.
    reach = tf.maximum(step / 2.0, 1.0) + 2.0
    first = tf.cast(tf.maximum(origin * step - reach, 0.0), tf.int32)
    last = tf.minimum(tf.cast(tf.math.ceil((origin + extent) * step + reach), tf.int32), shape)
    part = tf.io.decode_and_crop_jpeg(image_bytes, tf.concat([first, last - first], 0), channels=3, ratio=ratio)

    def cut():
        return tf.cast(crop_image(part, tf.concat([crop[:2] - first, crop[2:]], 0)), tf.float32)

    def resize():
        return tf.raw_ops.ScaleAndTranslate(
            images=part[tf.newaxis],
            size=crop[2:],
            scale=1.0 / step,
            translation=tf.cast(first, tf.float32) / step - origin,
            kernel_type="triangle",
            antialias=True,
        )[0]

    return resize() if num_halvings else tf.cond(tf.reduce_all(shape == size_px), cut, resize)
