"""The corner crops: each crop is recovered by hand from an image whose pixels hold their own coordinates."""

import collections
import functools

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.data import augmentation
from srn_tf.data.augmentation import random_mirror, resized_px
from srn_tf.data.crops import MULTI_SCALE, Crops, RandomResizedCrop
from srn_tf.data.preprocessing import crop_image, squash
from srn_tf.errors import InputError

SEEDS = 300

# Section 3.4: {256, 224, 192, 168, 128} of 256 for an input of 224; a quarter of that for an input of 56.
CROPS_PX = {224: (256, 224, 192, 168, 128), 56: (64, 56, 48, 42, 32)}
RESIZED_PX = {224: 256, 56: 64}


def random_crop(image, size_px, seed, max_distortion=None):
    """What training makes of an image."""
    return squash(
        crop_image(image, augmentation.random_crop(size_px, seed, Crops(max_distortion=max_distortion))), size_px
    )


def coordinates(side_px):
    """An image whose red is the row and whose green is the column of each pixel."""
    rows, columns = np.mgrid[0:side_px, 0:side_px]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.float32)


def extent(profile, size_px):
    """First coordinate and length of a crop, from the coordinates along a resized axis.

    Away from the edges, output i lies at first + (i + 1/2) * length / size - 1/2, but for the ripple
    of a sampled antialiasing filter, a few hundredths of a pixel.
    """
    inner = np.arange(size_px // 4, 3 * size_px // 4)
    slope, offset = np.polyfit(inner + 0.5, profile[inner], 1)
    return offset + 0.5, slope * size_px


@functools.cache
def crops(size_px, max_distortion, count=SEEDS):
    """(top, left, height, width) of the crops of seeds 0, 1, 2, ..."""
    image = coordinates(RESIZED_PX[size_px])
    crop = tf.function(lambda seed: random_crop(image, size_px, tf.stack([seed, 7]), max_distortion))
    found = []
    for seed in range(count):
        result = crop(tf.constant(seed)).numpy()
        assert result.shape == (size_px, size_px, 3)
        (top, height), (left, width) = extent(result[:, 0, 0], size_px), extent(result[0, :, 1], size_px)
        rounded = tuple(round(float(value)) for value in (top, left, height, width))
        np.testing.assert_allclose((top, left, height, width), rounded, atol=0.2)
        found.append(rounded)
    return found


def positions(top, left, height, width, side_px):
    """Which of the five positions a crop can be at; several where there is no room to choose."""
    room = side_px - height, side_px - width
    five = {
        "top left": (0, 0),
        "top right": (0, 1),
        "bottom left": (1, 0),
        "bottom right": (1, 1),
        "centre": (0.5, 0.5),
    }
    return {name for name, share in five.items() if (top, left) == (room[0] * share[0], room[1] * share[1])}


@pytest.mark.parametrize("size_px, expected", [(224, 256), (56, 64), (112, 128), (448, 512)])
def test_resized_px(size_px, expected):
    assert resized_px(size_px) == expected


@pytest.mark.parametrize("size_px", [pytest.param(224, marks=pytest.mark.slow), 56])
def test_sizes_are_those_of_the_paper(size_px):
    found = crops(size_px, None)
    assert {height for _, _, height, _ in found} == set(CROPS_PX[size_px])
    assert {width for _, _, _, width in found} == set(CROPS_PX[size_px])


@pytest.mark.parametrize("size_px", [pytest.param(224, marks=pytest.mark.slow), 56])
def test_positions_are_the_corners_and_the_centre(size_px):
    side_px = RESIZED_PX[size_px]
    certain = collections.Counter()
    for crop in crops(size_px, None):
        possible = positions(*crop, side_px)
        assert possible, crop
        if len(possible) == 1:
            certain[next(iter(possible))] += 1
    assert len(certain) == 5
    # Equally likely: within five standard errors of a fifth.
    count = sum(certain.values())
    assert all(abs(n - count / 5) < 5 * (count * 0.2 * 0.8) ** 0.5 for n in certain.values())


def test_width_and_height_are_drawn_apart():
    pairs = collections.Counter((height, width) for _, _, height, width in crops(56, None))
    assert len(pairs) == 25
    heights = collections.Counter(height for _, _, height, _ in crops(56, None))
    assert all(abs(n - SEEDS / 5) < 5 * (SEEDS * 0.2 * 0.8) ** 0.5 for n in heights.values())


@pytest.mark.parametrize("max_distortion", [*(pytest.param(n, marks=pytest.mark.slow) for n in (0, 2)), 1])
def test_max_distortion_is_kept_and_reached(max_distortion):
    sizes = CROPS_PX[56]
    found = crops(56, max_distortion)
    steps = [abs(sizes.index(height) - sizes.index(width)) for _, _, height, width in found]
    assert set(steps) == set(range(max_distortion + 1))
    assert {height for _, _, height, _ in found} == {width for _, _, _, width in found} == set(sizes)
    assert all(positions(*crop, RESIZED_PX[56]) for crop in found)


def test_pairs_of_sizes_are_equally_likely():
    """TSN draws among the 13 pairs that are at most a step apart; so at the ends of the list, too."""
    draw = tf.function(
        lambda seeds: tf.map_fn(
            lambda seed: augmentation.random_crop(224, tf.stack([3, seed]), Crops(max_distortion=1)),
            seeds,
            fn_output_signature=tf.int32,
        )
    )
    crops_px, again = draw(tf.range(2600)).numpy(), draw(tf.range(2600)).numpy()
    np.testing.assert_array_equal(crops_px, again)
    pairs = collections.Counter(map(tuple, crops_px[:, 2:].tolist()))
    assert len(pairs) == 13
    # 200 of each, within four standard errors (54); by rows and then columns it would be 260 and 173.
    assert sum((n - 200) ** 2 / 200 for n in pairs.values()) < 32.9  # chi-square, 12 degrees, 0.1 %


def test_other_scales_and_places():
    """Of 32 pixels and of 24, at places that leave multiples of a quarter of the free room; each place is there."""
    some = Crops((1.0, 0.75, 0.5), 13, 1)
    draw = tf.function(
        lambda seeds: tf.map_fn(
            lambda seed: augmentation.random_crop(28, tf.stack([3, seed]), some), seeds, fn_output_signature=tf.int32
        )
    )
    found = collections.defaultdict(set)
    for top, left, height, width in draw(tf.range(800)).numpy().tolist():
        found[height, width].add((top, left))
    assert set(found) == {(32, 32), (32, 24), (24, 32), (24, 24), (24, 16), (16, 24), (16, 16)}
    grid = {(i, j) for i in range(5) for j in range(5) if i % 2 == j % 2}  # of quarters
    assert found[16, 16] == {(4 * i, 4 * j) for i, j in grid} and len(grid) == 13
    assert found[32, 32] == {(0, 0)}


def test_multi_scale_crops_are_those_of_ml_gcn():
    """Of 512 for 448: sides of 512, 448, 384, 338 and 256, at most two steps apart."""
    sides = [round(scale * resized_px(448)) for scale in MULTI_SCALE.scales]
    assert sides == [512, 448, 384, 338, 256]
    assert len(MULTI_SCALE.pairs) == 5 + 2 * 4 + 2 * 3 and len(MULTI_SCALE.positions) == 13


def test_crops_of_random_area():
    """Within the square and the limits; areas and places spread over all of their range."""
    draw = tf.function(
        lambda seeds: tf.map_fn(
            lambda seed: augmentation.random_crop(448, tf.stack([3, seed]), RandomResizedCrop(0.1)),
            seeds,
            fn_output_signature=tf.int32,
        )
    )
    top, left, height, width = draw(tf.range(1000)).numpy().T
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= 512).all() and (left + width <= 512).all()
    area, ratio = height * width / 512**2, width / height
    assert area.min() > 0.098 and ratio.min() > 0.745 and ratio.max() < 1.34
    # Uniform up to 3/4, where every shape fits.
    assert area.min() < 0.105 and area.max() > 0.95 and abs((area[area < 0.75] < 0.425).mean() - 0.5) < 0.06
    assert (
        abs(np.log(ratio).mean()) < 0.02 and abs(np.median(left[width < 512] / (512 - width[width < 512])) - 0.5) < 0.05
    )
    assert abs(np.corrcoef(top, left)[0, 1]) < 0.75  # both are large where the crop is small


@pytest.mark.parametrize("change", [{"scales": ()}, {"scales": (1.1,)}, {"scales": (float("nan"),)}, {"places": 4}])
def test_crops_that_cannot_be(change):
    with pytest.raises(InputError, match="crop_(scales|places) must be"):
        Crops(**change)


def test_equal_seeds_give_equal_crops_and_different_seeds_differ():
    image = np.random.default_rng(0).uniform(0, 255, (64, 64, 3)).astype(np.float32)
    first = random_crop(image, 56, (3, 4)).numpy()
    np.testing.assert_array_equal(random_crop(image, 56, (3, 4)), first)
    np.testing.assert_array_equal(tf.function(random_crop)(image, 56, tf.constant((3, 4))), first)
    different = {random_crop(image, 56, (3, other)).numpy().tobytes() for other in range(20)}
    assert len(different) > 10


def test_crops_do_not_depend_on_the_global_seed():
    image = np.random.default_rng(0).uniform(0, 255, (64, 64, 3)).astype(np.float32)
    tf.random.set_seed(1)
    first = random_crop(image, 56, (5, 6)).numpy()
    tf.random.set_seed(2)
    np.testing.assert_array_equal(random_crop(image, 56, (5, 6)), first)


def test_a_constant_image_stays_constant():
    image = np.full((64, 64, 3), 77.0, np.float32)
    for seed in range(10):
        np.testing.assert_allclose(random_crop(image, 56, (seed, 0)), np.full((56, 56, 3), 77.0), atol=1e-3)


def test_boxes_in_a_crop_by_hand():
    """A crop of the rows 16 to 48 and the columns 32 to 64 of 64."""
    boxes = [
        *([0.25, 0.5, 0.75, 1.0], [0.375, 0.625, 0.5, 0.75]),  # the crop itself, and a box within
        *([0.0, 0.0, 1.0, 1.0], [0.5, 0.25, 0.625, 0.75]),  # cut off on all sides, and on the left
        *([0.0, 0.0, 0.25, 1.0], [0.3, 0.0, 0.4, 0.5], [0.8, 0.6, 0.9, 0.7]),  # at the edges, and outside
    ]
    found, is_seen = augmentation.crop_boxes(tf.constant(boxes), tf.constant([16, 32, 32, 32]), 64)
    expected = [[0, 0, 1, 1], [0.25, 0.25, 0.5, 0.5], [0, 0, 1, 1], [0.5, 0, 0.75, 0.5]]
    np.testing.assert_allclose(found[:4], expected, atol=1e-6)
    assert is_seen.numpy().tolist() == [True] * 4 + [False] * 3


def test_mirrored_boxes_by_hand():
    boxes = tf.constant([[0.1, 0.2, 0.5, 0.6], [0.0, 0.0, 1.0, 1.0], [0.3, 0.75, 0.4, 1.0]])
    mirrored = [[0.1, 0.4, 0.5, 0.8], [0.0, 0.0, 1.0, 1.0], [0.3, 0.0, 0.4, 0.25]]
    marked = tf.constant([[[1.0], [0.0]]])  # an image of two pixels
    seen = set()
    for seed in range(8):
        is_mirrored = bool(random_mirror(marked, (seed, 1))[0, 0, 0] == 0.0)
        received = augmentation.random_mirror_boxes(boxes, (seed, 1))
        np.testing.assert_allclose(received, mirrored if is_mirrored else boxes, atol=1e-6)
        seen.add(is_mirrored)
    assert seen == {False, True}


def test_mirror_turns_half_of_the_images_left_to_right():
    image = coordinates(6)
    mirror = tf.function(lambda seed: random_mirror(image, tf.stack([seed, 1])))
    results = [mirror(tf.constant(seed)).numpy() for seed in range(400)]
    mirrored = [bool((result == image[:, ::-1]).all()) for result in results]
    for result, is_mirrored in zip(results, mirrored, strict=True):
        assert is_mirrored or (result == image).all()
    assert abs(sum(mirrored) - 200) < 40  # four standard errors of a fair coin
    assert [bool((mirror(tf.constant(seed)).numpy() != image).any()) for seed in range(20)] == mirrored[:20]
