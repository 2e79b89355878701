"""From the bytes of an image file to what the network sees: the one path of training, evaluation and export.

Scaling to the range a backbone expects is the network's own first layer (`models.layers.ScaleInput`).
"""

import tensorflow as tf

BACKGROUND = 255.0  # what transparent pixels are laid over: white


def decode_image(image_bytes):
    """Decodes one image inside the graph.

    Grey becomes RGB, transparency is laid over white, CMYK is converted, 16 bits a channel become 8,
    of an animation the first frame is taken. EXIF orientation is not applied here (TensorFlow's
    decoders do not read it); `image_files.read_image_file` applies it before bytes get here.

    Args:
        image_bytes: string scalar; JPEG, PNG, BMP or GIF.
    Returns:
        float32 (height, width, 3), RGB, 0 to 255.
    """
    # A CMYK JPEG has four components as well, so JPEG never takes the path that reads the fourth as alpha.
    image = tf.cond(
        tf.io.is_jpeg(image_bytes),
        lambda: tf.cast(_decode_jpeg(image_bytes), tf.float32),
        lambda: _decode_other(image_bytes),
    )
    image.set_shape([None, None, 3])
    return image


def _decode_jpeg(image_bytes):
    """uint8 (height, width, 3). A CMYK JPEG has four components as well, but its fourth is no alpha."""
    return tf.io.decode_jpeg(image_bytes, channels=3)


def _decode_other(image_bytes):
    """float32 (height, width, 3), over white."""
    image = tf.cast(tf.io.decode_image(image_bytes, channels=0, expand_animations=False), tf.float32)
    channels = tf.shape(image)[-1]  # 1 to 4: grey, grey+alpha, RGB, RGBA
    has_alpha = tf.logical_or(tf.equal(channels, 2), tf.equal(channels, 4))
    num_colours = tf.where(has_alpha, channels - 1, channels)
    colours = image[..., :num_colours]
    alpha = tf.cond(has_alpha, lambda: image[..., -1:] / 255.0, lambda: tf.ones_like(image[..., :1]))
    colours = tf.tile(colours, [1, 1, 4 - num_colours])[..., :3]  # grey is repeated, RGB is kept
    image = colours * alpha + BACKGROUND * (1.0 - alpha)
    image.set_shape([None, None, 3])
    return image


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


def preprocess(image_bytes, size_px):
    """The whole path for one image: decode, then squash.

    Args:
        image_bytes: string scalar.
        size_px: side S of the network's input, pixels.
    Returns:
        float32 (S, S, 3), RGB, 0 to 255.
    """
    # `decode_image` and `squash` in each branch: a large JPEG is never held in float32.
    return tf.cond(
        tf.io.is_jpeg(image_bytes),
        lambda: squash(_decode_jpeg(image_bytes), size_px),
        lambda: squash(_decode_other(image_bytes), size_px),
    )


def crop_image(image, crop):
    """Cuts a crop out.

    Args:
        image: (height, width, 3).
        crop: int32 (4,): top, left, height, width, pixels.
    Returns:
        (crop height, crop width, 3) of the image's dtype.
    """
    return tf.image.crop_to_bounding_box(image, crop[0], crop[1], crop[2], crop[3])


def preprocess_crop(image_bytes, size_px, crop):
    """`crop_image` of what `preprocess` gives, but for rounding: of a JPEG no more than that is decoded and resized.

    Args:
        image_bytes: string scalar.
        size_px: side of the square that the crop is of, pixels.
        crop: int32 (4,): top, left, height, width in that square, pixels.
    Returns:
        float32 (crop height, crop width, 3), RGB, 0 to 255.
    """
    return tf.cond(
        tf.io.is_jpeg(image_bytes),
        lambda: _crop_of_jpeg(image_bytes, size_px, crop),
        lambda: crop_image(preprocess(image_bytes, size_px), crop),
    )


def _crop_of_jpeg(image_bytes, size_px, crop):
    shape = tf.io.extract_jpeg_shape(image_bytes)[:2]
    step = tf.cast(shape, tf.float32) / tf.cast(size_px, tf.float32)  # pixels of the file to one of the square
    origin, extent = tf.cast(crop[:2], tf.float32), tf.cast(crop[2:], tf.float32)
    # The filter reads half a step, at least a pixel, beyond the crop. The decoder is wrong in two pixels more, at most:
    # where it cuts, it does not see the colour beside.
    reach = tf.maximum(step / 2.0, 1.0) + 2.0
    first = tf.cast(tf.maximum(origin * step - reach, 0.0), tf.int32)
    last = tf.minimum(tf.cast(tf.math.ceil((origin + extent) * step + reach), tf.int32), shape)
    part = tf.io.decode_and_crop_jpeg(image_bytes, tf.concat([first, last - first], 0), channels=3)

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

    return tf.cond(tf.reduce_all(shape == size_px), cut, resize)
