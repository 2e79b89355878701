"""Effects on pixels against Pillow's operations and by hand."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from srn_tf.data import effects
from srn_tf.data.augments import Effects

SIDE = 40


@functools.cache
def photo():
    """uint8 (40, 40, 3): smooth, with an edge, not in the whole range of grey levels, no two channels alike."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    red, green = 60 + 120 * rows, 200 - 150 * columns * rows
    blue = np.where(rows + columns > 1.1, 30.0, 220.0) + 20 * np.sin(9 * columns)
    return np.stack([red, green, blue], axis=-1).round().astype(np.uint8)


def affine(image, *coefficients):
    """About the centre, from output to input, as Pillow does it."""
    a, b, x, c, d, y = coefficients
    middle = SIDE / 2
    data = (a, b, middle + x - (a + b) * middle, c, d, middle + y - (c + d) * middle)
    how = {"resample": Image.Resampling.BILINEAR, "fillcolor": (128, 128, 128)}
    return image.transform(image.size, Image.Transform.AFFINE, data, **how)


def rotated(image, m):
    cos, sin = np.cos(np.pi / 6 * m), np.sin(np.pi / 6 * m)
    return affine(image, cos, -sin, 0, sin, cos, 0)


PILLOW = {
    "identity": lambda image, m: image,
    "autocontrast": lambda image, m: ImageOps.autocontrast(image),
    "equalize": lambda image, m: ImageOps.equalize(image),
    "rotate": rotated,
    "solarize": lambda image, m: ImageOps.solarize(image, 255 * (1 - abs(m))),
    "posterize": lambda image, m: ImageOps.posterize(image, 8 - round(4 * abs(m))),
    "brightness": lambda image, m: ImageEnhance.Brightness(image).enhance(1 + 0.9 * m),
    "contrast": lambda image, m: ImageEnhance.Contrast(image).enhance(1 + 0.9 * m),
    "colour": lambda image, m: ImageEnhance.Color(image).enhance(1 + 0.9 * m),
    "sharpness": lambda image, m: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * m),
    "shear_x": lambda image, m: affine(image, 1, 0.3 * m, 0, 0, 1, 0),
    "shear_y": lambda image, m: affine(image, 1, 0, 0, 0.3 * m, 1, 0),
    "translate_x": lambda image, m: affine(image, 1, 0, round(150 / 331 * m * SIDE), 0, 1, 0),
    "translate_y": lambda image, m: affine(image, 1, 0, 0, 0, 1, round(150 / 331 * m * SIDE)),
}


@pytest.mark.parametrize("name", effects.OPERATIONS)
def test_operations_are_pillows(name):
    """Up to two grey levels of rounding; where an image leaves the frame, but for the pixels at its edge."""
    image = Image.fromarray(photo())
    for m in (0.3, -0.3, 0.9):
        received = effects.OPERATIONS[name](tf.constant(photo(), tf.float32), tf.constant(m)).numpy()
        expected = np.asarray(PILLOW[name](image, m), np.float32)
        assert received.shape == (SIDE, SIDE, 3) and received.min() >= 0 and received.max() <= 255
        is_moved = name in ("rotate", "shear_x", "shear_y")
        is_far = np.abs(received - expected).max(axis=-1) > 2.0
        assert is_far.mean() <= (0.06 if is_moved else 0.0), m
        if name != "identity":
            assert np.abs(received - photo()).max() >= 1.0


def test_grey_levels_that_are_all_equal_stay():
    image = tf.fill([8, 8, 3], 77.0)
    for name in ("autocontrast", "equalize"):
        np.testing.assert_array_equal(effects.OPERATIONS[name](image, tf.constant(0.3)), image)


def changed(seed, names, **strengths):
    image = tf.constant(photo(), tf.float32)
    return effects.with_effects(image, tf.stack([seed, 5]), Effects(names, **strengths))


def test_the_seed_alone_decides():
    names = ("colour_jitter", "randaugment", "cutout")
    results = [changed(seed, names).numpy() for seed in range(12)]
    assert len({result.tobytes() for result in results}) == 12
    tf.random.set_seed(1)
    np.testing.assert_array_equal(changed(3, names), results[3])
    assert all(result.shape == (SIDE, SIDE, 3) and 0 <= result.min() <= result.max() <= 255 for result in results)


def test_a_jitter_by_hand():
    np.testing.assert_array_equal(changed(0, ("colour_jitter",), jitter_strength=0.0), photo())
    seed = tf.random.experimental.stateless_fold_in(tf.constant([0, 5]), 0)
    brighter, contrast, colour = tf.random.stateless_uniform([3], seed, 0.6, 1.4).numpy()
    image = np.clip(photo() * brighter, 0, 255)
    mean = (image @ [0.299, 0.587, 0.114]).mean()
    image = np.clip(mean + (image - mean) * contrast, 0, 255)
    grey = (image @ [0.299, 0.587, 0.114])[..., None]
    expected = np.clip(grey + (image - grey) * colour, 0, 255)
    np.testing.assert_allclose(changed(0, ("colour_jitter",)), expected, atol=1e-2)


def test_cutout_covers_a_square_of_one_colour():
    """20 x 20 of 40, less where its centre is near an edge."""
    cut = tf.function(lambda seed: changed(seed, ("cutout",)))
    covered = []
    for seed in range(60):
        result = cut(tf.constant(seed)).numpy()
        rows, columns = np.nonzero((result != photo()).any(axis=-1))
        square = result[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        np.testing.assert_array_equal(square, np.broadcast_to(square[0, 0], square.shape))
        covered.append(square.shape[:2])
    heights, widths = np.array(covered).T
    assert heights.max() == widths.max() == 20 and 10 <= min(heights.min(), widths.min()) < 14
