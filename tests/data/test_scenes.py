"""Scenes: labels read off a layout, drawing by seed, no label that anything but position gives away, records."""

import dataclasses

import numpy as np
import pytest
import tensorflow_datasets as tfds

from srn_tf.data import examples, scenes
from srn_tf.data.prepare import prepare
from srn_tf.data.scene_drawing import (
    ANCHORS,
    APPEARANCE_LABELS,
    FAR_PX,
    LABELS,
    MAX_OBJECTS,
    NEAR_PX,
    POSITION_LABELS,
    SATELLITES,
    SCENE_PX,
    SceneObject,
    draw_scene,
    label_scene,
    object_box,
)
from tests.data.conftest import SMALL_SPLITS
from tests.data.folder_of_images import assert_same_files


def at(shape, y, x, radius=5.0):
    return SceneObject(shape, y, x, radius, 0.0, (255, 255, 255))


# Labels of layouts made by hand.


def test_sixteen_labels():
    assert len(LABELS) == len(set(LABELS)) == 16
    assert LABELS == APPEARANCE_LABELS + POSITION_LABELS
    assert (len(ANCHORS), len(SATELLITES)) == (4, 6)


@pytest.mark.parametrize(
    "shape, offset, label",
    [
        ("star", (-11, 3), "star_above"),
        ("star", (11, -3), "star_below"),
        ("moon", (-12, 0), "moon_above"),
        ("moon", (12, 4), "moon_below"),
        ("hourglass", (-11, -4), "hourglass_above"),
        ("hourglass", (11, 0), "hourglass_below"),
        ("triangle", (3, -11), "triangle_left"),
        ("triangle", (-3, 11), "triangle_right"),
        ("diamond", (0, -12), "diamond_left"),
        ("diamond", (4, 12), "diamond_right"),
        ("tee", (-4, -11), "tee_left"),
        ("tee", (0, 11), "tee_right"),
    ],
)
@pytest.mark.parametrize("anchor", ANCHORS)
def test_position_labels(anchor, shape, offset, label):
    first, second = at(shape, 28 + offset[0], 28 + offset[1]), at(anchor, 28, 28)
    assert label_scene([first, second]) == {anchor: second, label: first}
    assert label_scene([second, first]) == {anchor: second, label: first}  # whatever was drawn first


@pytest.mark.parametrize("satellite", SATELLITES)
def test_a_satellite_elsewhere_has_no_label(satellite):
    beside = [0.0, 0.0]
    beside[1 - satellite.axis] = 11.0  # close, but on the sides that do not count
    far = [0.0, 0.0]
    far[satellite.axis] = 10.0 + NEAR_PX + 0.5  # on a side that counts, but not close: the radii are 5 and 5
    for y, x in (beside, far):
        assert set(label_scene([at("disk", 28, 28), at(satellite.shape, 28 + y, 28 + x)])) == {"disk"}
    assert label_scene([at(satellite.shape, 28, 28)]) == {}
    assert label_scene([at(satellite.shape, 28, 28), at("star" if satellite.shape != "star" else "moon", 28, 39)]) == {}


def test_anchors_are_labels_of_themselves():
    objects = [at(shape, 10, 10) for shape in ANCHORS]
    assert label_scene(objects) == {item.shape: item for item in objects}
    assert label_scene([]) == {}


def test_several_relations_in_one_scene():
    objects = [
        at("disk", 15, 15),
        at("star", 26, 15),
        at("ring", 40, 40),
        at("diamond", 40, 29),
        at("moon", 5, 45),
        at("tee", 40, 51),
        at("triangle", 26, 40),  # above the ring: no label of a triangle
    ]
    assert set(label_scene(objects)) == {"disk", "ring", "star_below", "diamond_left", "tee_right"}


def test_boxes():
    assert object_box(at("disk", 14, 28, 7)) == pytest.approx((7 / 56, 21 / 56, 21 / 56, 35 / 56))
    assert object_box(at("disk", 2, 53, 7)) == pytest.approx((0.0, 46 / 56, 9 / 56, 1.0))


# Drawing.


def test_a_scene_is_a_function_of_its_seed():
    image, objects = draw_scene(np.random.default_rng([1, 2]))
    again, same_objects = draw_scene(np.random.default_rng([1, 2]))
    other, other_objects = draw_scene(np.random.default_rng([1, 3]))
    assert image.shape == (SCENE_PX, SCENE_PX, 3) and image.dtype == np.uint8
    np.testing.assert_array_equal(image, again)
    assert objects == same_objects and objects != other_objects
    assert (image != other).any()


def test_objects_are_drawn_where_they_are_said_to_be():
    """The pixel at the middle of a filled shape has the shape's colour, but for the noise."""
    differences = []
    for seed in range(60):
        image, objects = draw_scene(np.random.default_rng(seed))
        for item in objects:
            if item.shape in ("disk", "square", "cross", "star", "diamond"):
                # Four pixels around the middle: noise has a standard deviation of at most 14.
                y, x = int(item.y), int(item.x)
                patch = image[y - 1 : y + 1, x - 1 : x + 1].reshape(-1, 3).mean(axis=0)
                differences.append(np.abs(patch - item.colour).mean())
    assert len(differences) > 60
    assert np.mean(differences) < 8 and np.max(differences) < 30


# Honesty: of a satellite that stands where it counts, nothing but its place tells before from after.


@dataclasses.dataclass(frozen=True)
class Pair:
    """A satellite that carries a label, with the anchor it stands at, in one drawn scene."""

    kind: object
    is_before: bool
    satellite: SceneObject
    anchor: SceneObject
    objects: list


@pytest.fixture(scope="module")
def layouts():
    return [draw_scene(np.random.default_rng([7, seed]))[1] for seed in range(1500)]


def gap(first, second):
    return np.hypot(first.y - second.y, first.x - second.x) - first.radius - second.radius


@pytest.fixture(scope="module")
def pairs(layouts):
    found = []
    for objects in layouts:
        carriers = label_scene(objects)
        for kind in SATELLITES:
            for label in {kind.before, kind.after} & set(carriers):
                item = carriers[label]
                anchor = min((other for other in objects if other.shape in ANCHORS), key=lambda other: gap(item, other))
                found.append(Pair(kind, label == kind.before, item, anchor, objects))
    return found


@pytest.mark.slow
def test_before_is_as_frequent_as_after(pairs):
    for kind in SATELLITES:
        before = [pair.is_before for pair in pairs if pair.kind is kind]
        assert len(before) > 250
        assert abs(np.mean(before) - 0.5) < 4 * 0.5 / len(before) ** 0.5  # four standard errors of a fair coin


def brightness(item):
    return sum(item.colour)


SIGNS = {
    "radius of the satellite": lambda pair: pair.satellite.radius,
    "radius of the anchor": lambda pair: pair.anchor.radius,
    "angle of the satellite": lambda pair: pair.satellite.angle,
    "brightness of the satellite": lambda pair: brightness(pair.satellite),
    "brightness of the anchor": lambda pair: brightness(pair.anchor),
    "which anchor": lambda pair: ANCHORS.index(pair.anchor.shape),
    "which is brighter": lambda pair: brightness(pair.satellite) > brightness(pair.anchor),
    "redness of the satellite": lambda pair: pair.satellite.colour[0] - pair.satellite.colour[2],
    "which is drawn last": lambda pair: pair.objects.index(pair.satellite) > pair.objects.index(pair.anchor),
    "number of objects": lambda pair: len(pair.objects),
    "the coordinate that does not decide": lambda pair: (pair.satellite.x, pair.satellite.y)[pair.kind.axis],
}


@pytest.mark.parametrize("sign", SIGNS)
def test_nothing_but_position_gives_the_label_away(pairs, sign):
    is_before = [pair.is_before for pair in pairs]
    values = [float(SIGNS[sign](pair)) for pair in pairs]
    # 1,500 layouts hold about 2,000 pairs: of unrelated values, |r| passes 0.09 once in ten thousand samples.
    assert len(pairs) > 1500
    assert abs(np.corrcoef(is_before, values)[0, 1]) < 0.09


def test_no_other_shape_gives_the_label_away(pairs):
    shapes = {*ANCHORS, *(satellite.shape for satellite in SATELLITES)}
    for kind in SATELLITES:
        own = [pair for pair in pairs if pair.kind is kind]
        is_before = [pair.is_before for pair in own]
        for shape in shapes - {kind.shape}:
            is_there = [any(item.shape == shape for item in pair.objects) for pair in own]
            r = np.corrcoef(is_before, is_there)[0, 1]
            # 54 comparisons: at four standard errors, one of them fails once in three hundred samples.
            assert abs(r) < 4 / len(own) ** 0.5, (kind, shape)


def test_layouts_keep_their_rules(layouts):
    for objects in layouts:
        shapes = [item.shape for item in objects]
        assert 1 <= len(shapes) <= MAX_OBJECTS and len(set(shapes)) == len(shapes)
        for index, first in enumerate(objects):
            assert first.radius <= min(first.y, first.x) and max(first.y, first.x) <= SCENE_PX - first.radius
            for second in objects[index + 1 :]:
                assert np.hypot(first.y - second.y, first.x - second.x) > first.radius + second.radius


def test_no_satellite_is_a_near_tie(layouts):
    """A satellite stands at one anchor or at none, and clearly on one side of it."""
    for objects in layouts:
        anchors = [item for item in objects if item.shape in ANCHORS]
        for item in set(objects) - set(anchors):
            gaps = sorted(gap(item, anchor) for anchor in anchors)
            assert gaps[0] <= NEAR_PX or gaps[0] >= FAR_PX
            assert all(distance >= FAR_PX for distance in gaps[1:])
        for pair_of_anchors in ((a, b) for a in anchors for b in anchors if a is not b):
            assert gap(*pair_of_anchors) >= FAR_PX


def test_labelled_satellites_stand_along_their_axis(pairs):
    for pair in pairs:
        offset = (pair.satellite.y - pair.anchor.y, pair.satellite.x - pair.anchor.x)
        assert abs(offset[pair.kind.axis]) > 1.5 * abs(offset[1 - pair.kind.axis])
        assert pair.is_before == (offset[pair.kind.axis] < 0)


def test_every_label_is_frequent_and_never_certain(layouts):
    frequency = dict.fromkeys(LABELS, 0)
    for objects in layouts:
        for label in label_scene(objects):
            frequency[label] += 1
    shares = [count / len(layouts) for count in frequency.values()]
    assert 0.08 < min(shares) and max(shares) < 0.6


# Records.


def read(builder, split):
    stored = builder.as_dataset(split=split, shuffle_files=False)
    return {record["name"].decode(): record for record in tfds.as_numpy(stored)}


def test_full_size():
    assert scenes.SPLIT_SIZES == {"train": 3000, "validation": 1000, "test": 2000}


def test_splits_and_label_names(small_scenes):
    sizes = {split: info.num_examples for split, info in small_scenes.info.splits.items()}
    assert sizes == SMALL_SPLITS
    assert examples.label_names(small_scenes) == list(LABELS)


@pytest.mark.parametrize("split_index, split", enumerate(SMALL_SPLITS))
def test_records_are_the_drawn_scenes(small_scenes, split_index, split):
    records = read(small_scenes, split)
    assert sorted(records) == [f"{split}/{index:05d}" for index in range(SMALL_SPLITS[split])]
    for index in range(SMALL_SPLITS[split]):
        record = records[f"{split}/{index:05d}"]
        image, objects = draw_scene(np.random.default_rng([scenes.SEED, split_index, index]))
        carriers = label_scene(objects)
        np.testing.assert_array_equal(record["image"], image)
        assert record["labels"].dtype == np.int8
        assert record["labels"].tolist() == [int(label in carriers) for label in LABELS]
        assert [LABELS[i] for i in record["objects"]["label"]] == list(carriers)
        boxes = np.array([object_box(item) for item in carriers.values()]).reshape(-1, 4)
        np.testing.assert_allclose(record["objects"]["bbox"], boxes, atol=1e-6)


def test_no_image_is_in_two_splits(small_scenes):
    images = [record["image"].tobytes() for split in SMALL_SPLITS for record in read(small_scenes, split).values()]
    assert len(set(images)) == len(images) == sum(SMALL_SPLITS.values())


def test_a_second_build_is_the_same(small_scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(scenes, "SPLIT_SIZES", SMALL_SPLITS)
    second = scenes.Scenes(data_dir=tmp_path)
    prepare(second)
    assert (second.data_path / "metadata.json").exists()
    assert_same_files(small_scenes.data_path, second.data_path)
