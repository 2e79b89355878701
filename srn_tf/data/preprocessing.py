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
        lambda: tf.cast(tf.io.decode_jpeg(image_bytes, channels=3), tf.float32),
        lambda: _over_background(tf.io.decode_image(image_bytes, channels=0, expand_animations=False)),
    )
    image.set_shape([None, None, 3])
    return image


def _over_background(image):
    """uint8 (height, width, 1 to 4 channels: grey, grey+alpha, RGB, RGBA) -> float32 (height, width, 3)."""
    image = tf.cast(image, tf.float32)
    channels = tf.shape(image)[-1]
    has_alpha = tf.logical_or(tf.equal(channels, 2), tf.equal(channels, 4))
    num_colours = tf.where(has_alpha, channels - 1, channels)
    colours = image[..., :num_colours]
    alpha = tf.cond(has_alpha, lambda: image[..., -1:] / 255.0, lambda: tf.ones_like(image[..., :1]))
    colours = tf.tile(colours, [1, 1, 4 - num_colours])[..., :3]  # grey is repeated, RGB is kept
    return colours * alpha + BACKGROUND * (1.0 - alpha)


def squash(image, size_px):
    """Resizes to a square without keeping the aspect, as the authors test: bilinear, antialiased when it shrinks.

    Args:
        image: float32 (..., height, width, 3).
        size_px: side of the result, pixels.
    Returns:
        float32 (..., size_px, size_px, 3).
    """
    return tf.image.resize(image, [size_px, size_px], antialias=True)


def preprocess(image_bytes, size_px):
    """The whole path for one image: decode, then squash.

    Args:
        image_bytes: string scalar.
        size_px: side S of the network's input, pixels.
    Returns:
        float32 (S, S, 3), RGB, 0 to 255.
    """
    return squash(decode_image(image_bytes), size_px)
