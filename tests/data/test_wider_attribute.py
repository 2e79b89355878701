"""WIDER-Attribute from a small folder of the official layout, person by person."""

import copy
import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from srn_tf.data import examples
from srn_tf.data.prepare import prepare
from srn_tf.data.source import Count, Example, Photo
from srn_tf.data.wider_attribute import LABEL_NAMES, WiderAttribute
from srn_tf.errors import InputError

# As in the official files, written out: not taken from the module under test.
ATTRIBUTES = {
    **{"0": "Male", "1": "longHair", "2": "sunglass", "3": "Hat", "4": "Tshiirt", "5": "longSleeve", "6": "formal"},
    **{"7": "shorts", "8": "jeans", "9": "longPants", "10": "skirt", "11": "faceMask", "12": "logo", "13": "stripe"},
}
MAN = [1, -1, -1, -1, 1, -1, -1, 1, 0, -1, -1, -1, 0, 0]
WOMAN = [-1, 1, 0, -1, -1, 1, 1, -1, -1, -1, 1, -1, -1, -1]
UNCLEAR = [0] * 14

PARADE = "train/0--Parade/0_Parade_marchingband_1_100.jpg"
TEAM = "train/6--Funeral/6_Funeral_Funeral_6_1.jpg"
EMPTY = "train/6--Funeral/6_Funeral_Funeral_6_2.jpg"
VAL = "val/0--Parade/0_Parade_Parade_0_904.jpg"
TEST = "test/0--Parade/0_Parade_Parade_0_1.jpg"
SIZES = {PARADE: (40, 30), TEAM: (16, 24), VAL: (20, 20), TEST: (32, 16)}  # width, height


def image_entry(file_name, *targets):
    targets = [{"attribute": attribute, "bbox": bbox} for attribute, bbox in targets]
    return {"file_name": file_name, "scene_id": 0, "targets": targets}


def content(*images):
    return {"images": list(images), "attribute_id_map": ATTRIBUTES, "scene_id_map": {"0": "Parade", "6": "Funeral"}}


TRAINVAL = content(
    image_entry(PARADE, (MAN, [2, 3, 10, 20]), (WOMAN, [-4, 25, 14, 100])),
    image_entry(EMPTY),
    image_entry(VAL, (WOMAN, [0, 0, 20, 20])),
    image_entry(TEAM, (UNCLEAR, [1.6, 2.4, 4.0, 8.2])),
)
TEST_CONTENT = content(image_entry(TEST, (MAN, [30, 2, 6, 4]), (WOMAN, [8, 4, 8, 8])))

PARADE_PHOTO = Photo(
    f"Image/{PARADE}",
    (
        Example(f"Image/{PARADE}#0", tuple(MAN), crop=(2, 3, 10, 20)),
        Example(f"Image/{PARADE}#1", tuple(WOMAN), crop=(-4, 25, 14, 100)),
    ),
)
TEAM_PHOTO = Photo(f"Image/{TEAM}", (Example(f"Image/{TEAM}#0", tuple(UNCLEAR), crop=(1.6, 2.4, 4.0, 8.2)),))
VAL_PHOTO = Photo(f"Image/{VAL}", (Example(f"Image/{VAL}#0", tuple(WOMAN), crop=(0, 0, 20, 20)),))
TEST_PHOTO = Photo(
    f"Image/{TEST}",
    (
        Example(f"Image/{TEST}#0", tuple(MAN), crop=(30, 2, 6, 4)),
        Example(f"Image/{TEST}#1", tuple(WOMAN), crop=(8, 4, 8, 8)),
    ),
)


def write_annotations(source, part, annotations):
    path = source / "wider_attribute_annotation" / f"wider_attribute_{part}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(annotations if isinstance(annotations, str) else json.dumps(annotations))


@pytest.fixture
def source(tmp_path):
    """A source folder of the official layout; every pixel of a photograph is different."""
    source = tmp_path / "wider"
    for number, (file_name, (width, height)) in enumerate(SIZES.items()):
        path = source / "Image" / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        rows, columns = np.mgrid[:height, :width]
        pixels = np.stack([5 * columns, 6 * rows, np.full_like(rows, 60 * number)], axis=-1)
        Image.fromarray(pixels.astype(np.uint8)).save(path, quality=95)
    write_annotations(source, "trainval", TRAINVAL)
    write_annotations(source, "test", TEST_CONTENT)
    return source


def read(source, **options):
    return WiderAttribute.read(source, {**WiderAttribute.OPTIONS, **options})


def test_persons_of_the_small_folder(source):
    found = read(source)
    assert found.labels == tuple(ATTRIBUTES.values()) == LABEL_NAMES
    assert list(found.splits) == ["train", "test"]
    assert sorted(found.splits["train"], key=lambda photo: photo.path) == [PARADE_PHOTO, TEAM_PHOTO, VAL_PHOTO]
    assert found.splits["test"] == [TEST_PHOTO]
    assert found.notes == ("wider_attribute_trainval.json: photographs without a person left out: 1.",)
    assert found.counts == (
        Count("train photographs", 3, 5509),
        Count("val photographs", 1, 1362),
        Count("test photographs", 1, 6918),
        Count("boxes of persons in train, val and test", 6, 57524),
    )


def test_official_val_as_validation(source):
    found = read(source, official_val="validation")
    assert found.splits == {"train": [PARADE_PHOTO, TEAM_PHOTO], "validation": [VAL_PHOTO], "test": [TEST_PHOTO]}


def test_annotations_beside_the_images(source):
    expected = read(source)
    for path in (source / "wider_attribute_annotation").iterdir():
        path.rename(source / path.name)
    (source / "wider_attribute_annotation").rmdir()
    assert read(str(source)) == expected


def test_the_same_photograph_again(source):
    expected = read(source)
    write_annotations(source, "trainval", content(*TRAINVAL["images"], TRAINVAL["images"][0]))
    found = read(source)
    assert (found.splits, found.counts) == (expected.splits, expected.counts)
    assert found.notes[0] == "wider_attribute_trainval.json: photographs listed again and merged: 1."
    write_annotations(source, "trainval", content(*TRAINVAL["images"], image_entry(PARADE, (MAN, [2, 3, 10, 20]))))
    assert_refused(source, f"images[4]: rows of the same image must have the same labels. Received: Image/{PARADE}")


# Bad input: one line that says what and where.


def assert_refused(source, *parts, **options):
    with pytest.raises(InputError) as error:
        read(source, **options)
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert part in text


REMOVE = object()


def changed(keys, value):
    """TRAINVAL with the value at a path of keys replaced, or removed if it is REMOVE."""
    result = copy.deepcopy(TRAINVAL)
    parent = result
    for key in keys[:-1]:
        parent = parent[key]
    if value is REMOVE:
        del parent[keys[-1]]
    else:
        parent[keys[-1]] = value
    return result


MAN_TARGET = ["images", 0, "targets", 0]
BAD_TRAINVAL = {
    "no images key": (changed(["images"], REMOVE), "must hold a list under the key 'images'"),
    "not an object": ("[1]", "an object under the key 'attribute_id_map'"),
    "not JSON": ('{"images": [\n 1,,\n]}', "must be JSON. Received: Expecting value at line 2, column 4"),
    "no names": (changed(["attribute_id_map"], REMOVE), "an object under the key 'attribute_id_map'. Received: None"),
    "names as a list": (
        changed(["attribute_id_map"], ["Male"]),
        "under the key 'attribute_id_map'. Received: ['Male']",
    ),
    "another name": (
        changed(["attribute_id_map", "4"], "Tshirt"),
        "'attribute_id_map' must be that of WIDER-Attribute, where '4' is 'Tshiirt'. Received: 'Tshirt'",
    ),
    "a name less": (changed(["attribute_id_map", "13"], REMOVE), "where '13' is 'stripe'. Received: None"),
    "a name more": (changed(["attribute_id_map", "14"], "beard"), "where '14' is None. Received: 'beard'"),
    "no file name": (changed(["images", 1, "file_name"], REMOVE), "images[1] must have the key 'file_name'"),
    "file name not a text": (changed(["images", 1, "file_name"], 7), "'file_name' must be a text that is not empty"),
    "image not an object": (changed(["images", 1], 7), "images[1] must be an object. Received: 7"),
    "climbing": (changed(["images", 0, "file_name"], "train/../../a.jpg"), "images[0]: a path must stay inside"),
    "absolute": (changed(["images", 0, "file_name"], "/train/a.jpg"), "images[0]: a path must stay inside"),
    "a test photograph": (
        changed(["images", 0, "file_name"], TEST),
        f"images[0]: 'file_name' must start with train/ or val/. Received: '{TEST}'",
    ),
    "no targets": (changed(["images", 3, "targets"], REMOVE), "images[3] must hold a list under the key 'targets'"),
    "target not an object": (changed(MAN_TARGET, [1]), "images[0]: targets[0] must be an object. Received: [1]"),
    "no attribute": (
        changed([*MAN_TARGET, "attribute"], REMOVE),
        "images[0]: targets[0] must have the key 'attribute'",
    ),
    "no bbox": (changed([*MAN_TARGET, "bbox"], REMOVE), "images[0]: targets[0] must have the key 'bbox'"),
    "13 attributes": (
        changed([*MAN_TARGET, "attribute"], MAN[:13]),
        "images[0]: targets[0]: 'attribute' must be 14 numbers, each -1, 0 or 1. Received: [1, -1,",
    ),
    "attribute 2": (changed([*MAN_TARGET, "attribute", 3], 2), "'attribute' must be 14 numbers, each -1, 0 or 1"),
    "attribute true": (changed([*MAN_TARGET, "attribute", 3], True), "'attribute' must be 14 numbers"),
    "attribute not a list": (changed([*MAN_TARGET, "attribute"], 1), "'attribute' must be 14 numbers"),
    "short box": (changed([*MAN_TARGET, "bbox"], [1, 2, 3]), "'bbox' must be four finite numbers", "[1, 2, 3]"),
    "endless box": (changed([*MAN_TARGET, "bbox", 2], float("inf")), "'bbox' must be four finite numbers"),
    "no number in a box": (changed([*MAN_TARGET, "bbox", 2], float("nan")), "'bbox' must be four finite numbers"),
    "no image": (content(), "Split train must have at least one person"),
    "nobody": (content(image_entry(PARADE)), "Split train must have at least one person"),
}


@pytest.mark.parametrize("kind", BAD_TRAINVAL)
def test_bad_annotations(source, kind):
    annotations, *parts = BAD_TRAINVAL[kind]
    write_annotations(source, "trainval", annotations)
    assert_refused(source, *parts)


def test_a_val_photograph_in_the_test_file(source):
    write_annotations(source, "test", content(image_entry(VAL, (MAN, [0, 0, 5, 5]))))
    assert_refused(source, "wider_attribute_test.json: images[0]: 'file_name' must start with test/.", repr(VAL))


def test_no_validation_photograph(source):
    write_annotations(source, "trainval", content(TRAINVAL["images"][0]))
    assert_refused(source, "Split validation must have at least one person", official_val="validation")


def test_files_missing(source):
    (source / "Image" / TEAM).unlink()
    assert_refused(source, "wider_attribute_trainval.json must be in", f"1 of 3 missing, the first Image/{TEAM}")
    (source / "wider_attribute_annotation" / "wider_attribute_trainval.json").unlink()
    assert_refused(source, "wider_attribute_trainval.json must exist", "Give a source folder with wider_attribute_")


def test_source_missing_or_empty(tmp_path):
    assert_refused(tmp_path / "none", "source_dir must be a folder", "Image/train/*/*.jpg")
    assert_refused(tmp_path, "which is empty", "wider_attribute_annotation/wider_attribute_test.json")


def test_unknown_option_value(source):
    assert_refused(source, "official_val must be one of train, validation. Received: 'test'", official_val="test")


# From the folder to the records.


def test_records_are_the_persons_pixels(source, tmp_path):
    builder = WiderAttribute(data_dir=tmp_path / "data", source_dir=source, options={"official_val": "validation"})
    prepare(builder)
    assert examples.label_names(builder) == list(ATTRIBUTES.values())
    # By hand: left, upper, right, lower of each box inside its photograph; TEAM's is 1.6 to 5.6 and 2.4 to 10.6.
    clipped = {
        "train": {f"{PARADE}#0": (2, 3, 12, 23), f"{PARADE}#1": (0, 25, 10, 30), f"{TEAM}#0": (2, 2, 6, 11)},
        "validation": {f"{VAL}#0": (0, 0, 20, 20)},
        "test": {f"{TEST}#0": (30, 2, 32, 6), f"{TEST}#1": (8, 4, 16, 12)},
    }
    labels = {f"{PARADE}#0": MAN, f"{PARADE}#1": WOMAN, f"{TEAM}#0": UNCLEAR, f"{VAL}#0": WOMAN}
    labels |= {f"{TEST}#0": MAN, f"{TEST}#1": WOMAN}
    for split, boxes in clipped.items():
        records = {record["name"].decode(): record for record in tfds.as_numpy(builder.as_dataset(split=split))}
        assert sorted(records) == sorted(f"Image/{name}" for name in boxes)
        for name, (left, upper, right, lower) in boxes.items():
            record = records[f"Image/{name}"]
            photograph = np.asarray(Image.open(source / "Image" / name.split("#")[0]))
            np.testing.assert_array_equal(record["image"], photograph[upper:lower, left:right])
            assert record["labels"].tolist() == labels[name]
            assert len(record["objects"]["label"]) == 0


def test_a_box_outside_its_photograph_is_rejected(source, tmp_path):
    persons = [(MAN, [0, 0, 4, 4])] * 1999 + [(WOMAN, [41, 0, 5, 5]), (WOMAN, [3, 3, 0, 5])]
    write_annotations(source, "trainval", content(image_entry(PARADE, *persons)))
    builder = WiderAttribute(data_dir=tmp_path / "data", source_dir=source, options={})
    prepare(builder)
    assert builder.info.splits["train"].num_examples == 1999
    rejected = (builder.data_path / "rejected.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in rejected[1:]] == [
        ["train", f"Image/{PARADE}#1999"],
        ["train", f"Image/{PARADE}#2000"],
    ]
