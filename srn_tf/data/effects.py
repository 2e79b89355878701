"""Augmentations that change the pixels of one image: RandAugment, colour jitter, Cutout.

An image is float32 (S, S, 3), RGB, 0 to 255, before and after. Whatever is drawn depends on the seed alone. Written
here because Keras 2 has no RandAugment, and the layers of Keras 3 and KerasCV draw from a state of their own, with
which a run could not continue exactly.
"""

import functools
import math

import tensorflow as tf

GREY = 128.0  # what rotated, sheared or moved images leave empty, as in the authors' code
MAX_MAGNITUDE = 30
_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as in Pillow's grey images
_SMOOTH = ((1.0, 1.0, 1.0), (1.0, 5.0, 1.0), (1.0, 1.0, 1.0))  # Pillow's SMOOTH, times 13


def with_effects(image, seed, effects):
    """Applies all effects of an image.

    Args:
        image: see the module.
        seed: int (2,), a stateless seed.
        effects: augments.Effects.
    Returns:
        The image.
    """
    functions = {
        "colour_jitter": functools.partial(colour_jitter, strength=effects.jitter_strength),
        "randaugment": functools.partial(
            randaugment, num_ops=effects.randaugment_ops, magnitude=effects.randaugment_magnitude
        ),
        "cutout": functools.partial(cutout, side=effects.cutout_side),
    }
    for number, (name, function) in enumerate(functions.items()):
        if name in effects.per_image:
            image = function(image, tf.random.experimental.stateless_fold_in(seed, number))
    return image


def colour_jitter(image, seed, strength):
    """Changes brightness, contrast and saturation, in this order, each by a factor in [1 - strength, 1 + strength].

    Source: torchvision's ColorJitter without a change of hue, as in timm. Differs from it: there the order is drawn.

    Args:
        image, seed: see `with_effects`.
        strength: in [0, 1].
    Returns:
        The image.
    """
    factors = tf.random.stateless_uniform([3], seed, 1.0 - strength, 1.0 + strength)
    for number, degenerate in enumerate((_black, _mean_grey, _grey)):
        image = _blend(degenerate(image), image, factors[number])
    return image


def cutout(image, seed, side):
    """Covers a square of one random colour; its centre is anywhere, so that a part of it may lie outside.

    Source: DeVries and Taylor, 2017; size and colour as in the training of ASL and ML-Decoder.

    Args:
        image, seed: see `with_effects`.
        side: of the square, a share of the image's.
    Returns:
        The image.
    """
    size_px = image.shape[0]
    side_px = int(side * size_px + 0.5)
    seeds = tf.random.split(seed)
    first = tf.random.stateless_uniform([2, 1], seeds[0], 0, size_px, tf.int32) - side_px // 2
    places = tf.range(size_px)
    rows, columns = tf.unstack((places >= first) & (places < first + side_px))
    colour = tf.cast(tf.random.stateless_uniform([3], seeds[1], 0, 256, tf.int32), tf.float32)
    return tf.where((rows[:, None] & columns)[..., None], colour, image)


# RandAugment.


def randaugment(image, seed, num_ops, magnitude):
    """Applies operations drawn of `OPERATIONS`, one after the other, all of one magnitude.

    Source: Cubuk et al., "RandAugment", 2020, whose operations these are; ranges as in torchvision. Differs from it:
    images are rotated and sheared about their centre, pixels are interpolated, and grey levels are not rounded.

    Args:
        image, seed: see `with_effects`.
        num_ops: how many operations.
        magnitude: 0 to 30.
    Returns:
        The image.
    """
    size = image.shape
    for number in range(num_ops):
        seeds = tf.random.split(tf.random.experimental.stateless_fold_in(seed, number))
        index = tf.random.stateless_uniform([], seeds[0], 0, len(OPERATIONS), tf.int32)
        sign = tf.where(tf.random.stateless_uniform([], seeds[1]) < 0.5, -1.0, 1.0)
        m = sign * magnitude / MAX_MAGNITUDE
        branches = [functools.partial(operation, image, m) for operation in OPERATIONS.values()]
        image = tf.ensure_shape(tf.switch_case(index, branches), size)
    return image


def _black(image):
    return tf.zeros_like(image)


def _grey(image):
    return tf.reduce_sum(image * _LUMA, axis=-1, keepdims=True)


def _mean_grey(image):
    return tf.reduce_mean(_grey(image))


def _smooth(image):
    """Smoothed inside; the outermost pixels stay."""
    kernel = tf.constant(_SMOOTH)[:, :, None, None] / 13.0
    inner = tf.nn.depthwise_conv2d(image[None], tf.tile(kernel, [1, 1, 3, 1]), [1, 1, 1, 1], "VALID")[0]
    places = tf.range(tf.shape(image)[0])
    is_inner = (places > 0) & (places < tf.shape(image)[0] - 1)
    padded = tf.pad(inner, [[1, 1], [1, 1], [0, 0]])
    return tf.where((is_inner[:, None] & is_inner)[..., None], padded, image)


def _blend(degenerate, image, factor):
    """The image drawn nearer to its degenerate form (factor < 1) or farther from it (factor > 1)."""
    return tf.clip_by_value(degenerate + (image - degenerate) * factor, 0.0, 255.0)


def _enhance(degenerate, image, m):
    return _blend(degenerate(image), image, 1.0 + 0.9 * m)


def _posterize(image, m):
    bits = 8.0 - tf.round(4.0 * tf.abs(m))
    step = 2.0 ** (8.0 - bits)
    return tf.floor(tf.round(image) / step) * step


def _solarize(image, m):
    return tf.where(image < 255.0 * (1.0 - tf.abs(m)), image, 255.0 - image)


def _autocontrast(image, m):
    """Stretches each channel to 0 ... 255."""
    low, high = tf.reduce_min(image, axis=[0, 1]), tf.reduce_max(image, axis=[0, 1])
    stretched = (image - low) * tf.math.divide_no_nan(255.0, high - low)
    return tf.where(high > low, stretched, image)


def _equalize(image, m):
    """Makes the grey levels of each channel equally frequent, in Pillow's way."""
    levels = tf.cast(tf.round(image), tf.int32)
    channels = tf.range(3)
    counts = tf.math.unsorted_segment_sum(tf.ones_like(levels), levels + 256 * channels, 3 * 256)
    counts = tf.reshape(counts, [3, 256])
    last = tf.gather(counts, tf.reduce_max(levels, axis=[0, 1]), batch_dims=1)  # of the highest level that occurs
    step = (tf.reduce_sum(counts, axis=1) - last) // 255
    divisor = tf.maximum(step, 1)[:, None]
    table = tf.minimum((divisor // 2 + tf.cumsum(counts, axis=1, exclusive=True)) // divisor, 255)
    equal = tf.gather(tf.reshape(table, [-1]), levels + 256 * channels)
    return tf.where(step > 0, tf.cast(equal, tf.float32), image)


def _warp(image, x_of_x, x_of_y, y_of_x, y_of_y, x_moved=0.0, y_moved=0.0):
    """Each pixel from where (x, y), counted from the centre, is mapped to; bilinear, grey outside."""
    centre = (tf.cast(tf.shape(image)[0], tf.float32) - 1.0) / 2.0
    a = [x_of_x, x_of_y, centre + x_moved - (x_of_x + x_of_y) * centre]
    b = [y_of_x, y_of_y, centre + y_moved - (y_of_x + y_of_y) * centre]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack([tf.cast(value, tf.float32) for value in (*a, *b, 0.0, 0.0)])[None],
        output_shape=tf.shape(image)[:2],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=GREY,
    )[0]


def _rotate(image, m):
    angle = math.radians(30.0) * m
    return _warp(image, tf.cos(angle), -tf.sin(angle), tf.sin(angle), tf.cos(angle))


def _moved(image, m):
    """How far an image is moved, pixels; at most 150 of 331, as in AutoAugment's policy for ImageNet."""
    return tf.round(150.0 / 331.0 * m * tf.cast(tf.shape(image)[0], tf.float32))


OPERATIONS = {
    "identity": lambda image, m: tf.identity(image),
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "rotate": _rotate,
    "solarize": _solarize,
    "posterize": _posterize,
    "brightness": functools.partial(_enhance, _black),
    "contrast": functools.partial(_enhance, _mean_grey),
    "colour": functools.partial(_enhance, _grey),
    "sharpness": functools.partial(_enhance, _smooth),
    "shear_x": lambda image, m: _warp(image, 1.0, 0.3 * m, 0.0, 1.0),
    "shear_y": lambda image, m: _warp(image, 1.0, 0.0, 0.3 * m, 1.0),
    "translate_x": lambda image, m: _warp(image, 1.0, 0.0, 0.0, 1.0, x_moved=_moved(image, m)),
    "translate_y": lambda image, m: _warp(image, 1.0, 0.0, 0.0, 1.0, y_moved=_moved(image, m)),
}
"""name -> function (image, m) -> image; m in [-1, 1], whose sign only matters where there are two directions."""
