"""COCO 2014 from a tiny folder of the official layout, record by record, and from real images beside the repository."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from srn_tf.data import examples, shards
from srn_tf.data.coco2014 import Coco2014
from srn_tf.data.coco_annotations import CATEGORIES, LABEL_NAMES, CocoImage, box_fractions, read_annotations
from srn_tf.data.prepare import prepare
from srn_tf.data.source import Count
from srn_tf.errors import InputError
from tests.data.folder_of_images import assert_same_files, left_in, prepared

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "coco256"

CATEGORY_LIST = [{"id": i, "name": name, "supercategory": "any"} for i, name in CATEGORIES.items()]


def image_entry(split, image_id, width, height):
    return {"id": image_id, "file_name": f"COCO_{split}_{image_id:012d}.jpg", "width": width, "height": height}


def annotation(image_id, category_id, bbox, iscrowd=0):
    return {
        "id": 1000 * image_id + category_id,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": bbox,
        "iscrowd": iscrowd,
        "area": bbox[2] * bbox[3],
        "segmentation": {"counts": [1, 2], "size": [3, 4]} if iscrowd else [[0, 0, 1, 1]],
    }


TRAIN = {
    "info": {"year": 2014},
    # Not in the order of ids: the loader sorts.
    "images": [
        image_entry("train2014", 30, 80, 40),
        image_entry("train2014", 9, 64, 32),
        image_entry("train2014", 25, 20, 50),
    ],
    "annotations": [
        annotation(9, 18, [16, 8, 32, 16]),  # dog
        annotation(9, 1, [-16, 24, 32, 100]),  # person, leaving the image at the left and at the bottom
        annotation(9, 18, [0, 0, 64, 32]),  # a second dog: the whole image
        annotation(30, 1, [0, 0, 80, 40], iscrowd=1),  # persons: a label without a box
        annotation(30, 90, [40, 10, 20, 20]),  # toothbrush, the last category
        annotation(30, 13, [10, 10, 0, 20]),  # stop sign without area: a label without a box
        annotation(30, 2, [90, 5, 10, 10]),  # bicycle outside the image: a label without a box
    ],
    "categories": CATEGORY_LIST,
}
VAL = {
    "images": [image_entry("val2014", 42, 32, 64), image_entry("val2014", 73, 48, 48)],
    "annotations": [annotation(73, 22, [12, 24, 24, 12])],  # elephant
    "categories": CATEGORY_LIST,
}

# Worked by hand: pixels over width or height.
DOG, PERSON, TOOTHBRUSH, STOP_SIGN, BICYCLE, ELEPHANT = 16, 0, 79, 11, 1, 20
TRAIN_RECORDS = [
    CocoImage(
        "train2014/COCO_train2014_000000000009.jpg",
        (PERSON, DOG),
        (((0.25, 0.25, 0.75, 0.75), DOG), ((0.75, 0.0, 1.0, 0.25), PERSON), ((0.0, 0.0, 1.0, 1.0), DOG)),
    ),
    CocoImage("train2014/COCO_train2014_000000000025.jpg", (), ()),
    CocoImage(
        "train2014/COCO_train2014_000000000030.jpg",
        (PERSON, BICYCLE, STOP_SIGN, TOOTHBRUSH),
        (((0.25, 0.5, 0.75, 0.75), TOOTHBRUSH),),
    ),
]
TEST_RECORDS = [
    CocoImage("val2014/COCO_val2014_000000000042.jpg", (), ()),
    CocoImage("val2014/COCO_val2014_000000000073.jpg", (ELEPHANT,), (((0.5, 0.25, 0.75, 0.75), ELEPHANT),)),
]


def write_annotations(source, split, content):
    path = source / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture
def source(tmp_path):
    """A source folder of the official layout with 3 + 2 images."""
    source = tmp_path / "coco"
    for split, content in (("train2014", TRAIN), ("val2014", VAL)):
        write_annotations(source, split, content)
        (source / split).mkdir()
        for entry in content["images"]:
            colour = (entry["id"], 2 * entry["id"], 200)
            Image.new("RGB", (entry["width"], entry["height"]), colour).save(source / split / entry["file_name"])
    return source


def read(source, **options):
    return Coco2014.read(str(source), {**Coco2014.OPTIONS, **options})


# The table.


def test_categories_are_the_80_of_coco():
    ids = list(CATEGORIES)
    assert ids == sorted(ids) and len(ids) == 80
    assert set(range(1, 91)) - set(ids) == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert len(set(LABEL_NAMES)) == 80
    assert [LABEL_NAMES[i] for i in (DOG, PERSON, TOOTHBRUSH, STOP_SIGN, BICYCLE, ELEPHANT)] == [
        "dog",
        "person",
        "toothbrush",
        "stop sign",
        "bicycle",
        "elephant",
    ]


# Annotations.


def test_annotations_of_the_tiny_folder(source):
    assert read_annotations(source, "train") == TRAIN_RECORDS
    assert read_annotations(str(source), "test") == TEST_RECORDS


@pytest.mark.parametrize(
    "bbox, expected",
    [
        ([10, 20, 30, 40], (0.2, 0.1, 0.6, 0.4)),
        ([-10, -20, 30, 40], (0.0, 0.0, 0.2, 0.2)),
        ([90, 80, 30, 40], (0.8, 0.9, 1.0, 1.0)),
        ([0, 0, 100, 100], (0.0, 0.0, 1.0, 1.0)),
        ([100, 0, 10, 10], None),
        ([-10, 0, 10, 10], None),
        ([10, 10, 0, 5], None),
        ([10, 10, 5, -5], None),
    ],
)
def test_box_fractions(bbox, expected):
    box = box_fractions(bbox, width=100, height=100)
    assert box == (None if expected is None else pytest.approx(expected))


def test_box_fractions_use_the_width_for_x():
    assert box_fractions([10, 10, 10, 10], width=100, height=50) == pytest.approx((0.2, 0.1, 0.4, 0.2))


# The source.


def by_name(photos):
    """Name -> CocoImage of photos with one example each, whose labels are 0 or 1."""
    made = {}
    for photo in photos:
        (example,) = photo.examples
        assert photo.path == example.name and example.crop is None
        assert len(example.labels) == 80 and set(example.labels) <= {0, 1}
        made[example.name] = CocoImage(example.name, tuple(np.flatnonzero(example.labels)), example.objects)
    return made


def test_source_of_the_tiny_folder(source):
    found = read(source)
    assert found.labels == LABEL_NAMES and list(found.splits) == ["train", "test"]
    for split, expected in (("train", TRAIN_RECORDS), ("test", TEST_RECORDS)):
        assert by_name(found.splits[split]) == {image.name: image for image in expected}
    assert found.notes == ()


def test_published_counts(source):
    """Of the official download: 82,783 and 40,504 images, 702 and 367 of them without annotation."""
    expected = (
        Count("train images", 3, 82783),
        Count("train images without annotation", 1, 702),
        Count("test images", 2, 40504),
        Count("test images without annotation", 1, 367),
    )
    assert read(source).counts == expected
    assert read(source, keep_unlabelled=False).counts == expected  # of what was downloaded, not of what is kept


def test_differences_to_the_published_counts_are_warnings(source, tmp_path, caplog):
    prepared(Coco2014, tmp_path / "data", source)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 4
    assert warnings[0] == "Warning: coco2014: train images: found 3, published 82,783."
    with pytest.raises(InputError, match="^coco2014: train images: found 3, published 82,783. .--fail_on_mismatch"):
        prepared(Coco2014, tmp_path / "other", source, fail_on_mismatch=True)
    assert left_in(tmp_path / "other") == []


def test_unlabelled_images_can_be_left_out(source):
    found = read(source, keep_unlabelled=False)
    assert [photo.path[-6:] for photo in found.splits["train"]] == ["09.jpg", "30.jpg"]
    assert [photo.path[-6:] for photo in found.splits["test"]] == ["73.jpg"]
    assert found.notes == (
        "train: 1 images without annotation left out (--nokeep_unlabelled).",
        "test: 1 images without annotation left out (--nokeep_unlabelled).",
    )


def test_labels_in_alphabetical_order(source):
    found = read(source, label_order="alphabetical")
    assert list(found.labels) == sorted(LABEL_NAMES)
    assert found.labels[:4] == ("airplane", "apple", "backpack", "banana") and found.labels[-1] == "zebra"
    # Counted in that list: person 49, dog 28, bicycle 9, stop sign 63, toothbrush 71, elephant 30.
    train, test = by_name(found.splits["train"]), by_name(found.splits["test"])
    assert train[TRAIN_RECORDS[0].name] == CocoImage(
        TRAIN_RECORDS[0].name,
        (28, 49),
        (((0.25, 0.25, 0.75, 0.75), 28), ((0.75, 0.0, 1.0, 0.25), 49), ((0.0, 0.0, 1.0, 1.0), 28)),
    )
    assert train[TRAIN_RECORDS[2].name].labels == (9, 49, 63, 71)
    assert test[TEST_RECORDS[1].name].objects == (((0.5, 0.25, 0.75, 0.75), 30),)


def test_label_order_must_be_known(source, tmp_path):
    message = "label_order must be one of category_id, alphabetical. Received: 'random'."
    with pytest.raises(InputError, match=message):
        Coco2014(data_dir=tmp_path, source_dir=source, options={"label_order": "random"})
    with pytest.raises(InputError, match=message):
        read(source, label_order="random")


# Records.


def test_records_of_the_tiny_folder(source, tmp_path):
    builder = prepared(Coco2014, tmp_path / "data", source)
    assert {split: info.num_examples for split, info in builder.info.splits.items()} == {"train": 3, "test": 2}
    assert examples.label_names(builder) == list(LABEL_NAMES)
    for split, expected in (("train", TRAIN_RECORDS), ("test", TEST_RECORDS)):
        stored = builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()})
        records = {record["name"].decode(): record for record in tfds.as_numpy(stored)}
        assert sorted(records) == [image.name for image in expected]
        for image in expected:
            record = records[image.name]
            assert record["image"] == (source / image.name).read_bytes()
            assert record["labels"].dtype == np.int8 and record["labels"].shape == (80,)
            assert tuple(np.flatnonzero(record["labels"])) == image.labels
            assert set(record["labels"].tolist()) <= {0, 1}
            assert record["objects"]["bbox"].tolist() == [list(box) for box, _ in image.objects]
            assert record["objects"]["label"].tolist() == [label for _, label in image.objects]


def test_options_are_stored(source, tmp_path):
    options = {"keep_unlabelled": False, "label_order": "alphabetical"}
    builder = prepared(Coco2014, tmp_path / "data", source, options)
    assert {split: info.num_examples for split, info in builder.info.splits.items()} == {"train": 2, "test": 1}
    stored = Coco2014(data_dir=tmp_path / "data")  # which knows of no option
    assert stored.info.features["objects"]["label"].names == sorted(LABEL_NAMES)
    assert examples.stored_metadata(stored)["options"] == {"store_size": 0, **options}
    (record,) = tfds.as_numpy(stored.as_dataset(split="test"))
    assert np.flatnonzero(record["labels"]).tolist() == [30]


def test_images_decode_to_their_pixels(source, tmp_path):
    builder = Coco2014(data_dir=tmp_path / "data")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=source, try_download_gcs=False)
    )
    for record in tfds.as_numpy(builder.as_dataset(split="train+test")):
        stored = np.asarray(Image.open(source / record["name"].decode()))
        assert record["image"].dtype == np.uint8 and record["image"].shape == stored.shape
        np.testing.assert_allclose(record["image"].astype(int), stored.astype(int), atol=3)


def test_the_same_source_gives_the_same_files(source, tmp_path):
    for run in ("first", "second"):
        prepared(Coco2014, tmp_path / run, source)
    assert len(left_in(tmp_path / "first" / "coco2014" / "1.0.0")) == 7
    assert_same_files(tmp_path / "first", tmp_path / "second")


# Bad input: one line, and nothing finished is left.


def assert_refused(source, tmp_path, *parts):
    data_dir = tmp_path / "data"
    with pytest.raises(InputError) as error:
        prepare(Coco2014(data_dir=data_dir, source_dir=source))
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert part in text
    assert left_in(data_dir) == []


REMOVE = object()


def changed(path, value):
    """TRAIN with the value at a path of keys replaced, or removed if it is REMOVE."""
    content = copy.deepcopy(TRAIN)
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    if value is REMOVE:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return content


BAD_TRAIN = {
    "no images key": (changed(["images"], REMOVE), "a list under the key 'images'", "the keys info, annotations"),
    "no annotations key": (changed(["annotations"], REMOVE), "a list under the key 'annotations'"),
    "no categories key": (changed(["categories"], REMOVE), "a list under the key 'categories'"),
    "not an object": ("[1, 2]", "a list under the key 'categories'. Received: list"),
    "no image": (changed(["images"], []), "must list at least one image"),
    "no file name": (changed(["images", 1, "file_name"], REMOVE), "images[1] must have the key 'file_name'"),
    "no image id": (changed(["images", 2, "id"], REMOVE), "images[2] must have the key 'id'"),
    "no width": (changed(["images", 0, "width"], REMOVE), "images[0] must have the key 'width'"),
    "no box": (changed(["annotations", 3, "bbox"], REMOVE), "annotations[3] must have the key 'bbox'"),
    "no iscrowd": (changed(["annotations", 3, "iscrowd"], REMOVE), "annotations[3] must have the key 'iscrowd'"),
    "no category": (
        changed(["annotations", 6, "category_id"], REMOVE),
        "annotations[6] must have the key 'category_id'",
    ),
    "no name": (changed(["categories", 79, "name"], REMOVE), "categories[79] must have the key 'name'"),
    "entry not an object": (changed(["images", 0], 7), "images[0] must be an object. Received: 7"),
    "zero height": (changed(["images", 0, "height"], 0), "'height' must be a number of pixels above 0. Received: 0"),
    "text id": (changed(["images", 0, "id"], "30"), "'id' must be a whole number. Received: '30'"),
    "short box": (changed(["annotations", 0, "bbox"], [1, 2, 3]), "'bbox' must be four finite numbers", "[1, 2, 3]"),
    "endless box": (changed(["annotations", 0, "bbox", 2], float("inf")), "'bbox' must be four finite numbers"),
    "odd iscrowd": (changed(["annotations", 0, "iscrowd"], 2), "'iscrowd' must be 0 or 1. Received: 2"),
    "unknown category": (
        changed(["annotations", 2, "category_id"], 12),
        "annotations[2]: 'category_id' must be one of COCO 2014's 80. Received: 12",
    ),
    "category not in the table": (changed(["categories", 0, "id"], 91), "categories[0]", "id 91 does not exist"),
    "another name": (changed(["categories", 16, "name"], "hound"), "id 18 is 'dog'. Received: 'hound'"),
    "unknown image": (
        changed(["annotations", 1, "image_id"], 31),
        "annotations[1]: 'image_id' must be that of a listed image. Received: 31",
    ),
    "image id twice": (changed(["images", 2, "id"], 9), "images[2]: image ids must be unique. Received: 9 twice"),
    "file twice": (
        changed(["images", 2, "file_name"], "./COCO_train2014_000000000009.jpg"),
        "images[2]: every file must be listed once. Received: train2014/COCO_train2014_000000000009.jpg twice",
    ),
    "climbing": (changed(["images", 0, "file_name"], "../a.jpg"), "images[0]: 'file_name' must stay inside train2014"),
    "absolute": (changed(["images", 0, "file_name"], "/a.jpg"), "must stay inside train2014", "'/a.jpg'"),
    "climbing elsewhere": (changed(["images", 0, "file_name"], "..\\a.jpg"), "must stay inside train2014"),
    "not JSON": ('{"images": [\n  1,,\n]}', "must be JSON. Received: Expecting value at line 2, column 5"),
    "cut JSON": (json.dumps(TRAIN)[:200], "instances_train2014.json must be JSON. Received: ", "at line 1, column "),
}


@pytest.mark.parametrize("kind", BAD_TRAIN)
def test_bad_annotations(source, tmp_path, kind):
    content, *parts = BAD_TRAIN[kind]
    write_annotations(source, "train2014", content)
    with pytest.raises(InputError) as error:
        read_annotations(source, "train")
    assert str(source / "annotations" / "instances_train2014.json") in str(error.value)
    assert_refused(source, tmp_path, *parts)


def test_bad_test_annotations_are_found_before_train_is_written(source, tmp_path, monkeypatch):
    write_annotations(source, "val2014", "{}")
    monkeypatch.setattr(shards, "read_photo", lambda *args, **kwargs: pytest.fail("an image was read"))
    assert_refused(source, tmp_path, "instances_val2014.json must hold a list under the key")


def test_annotations_that_are_not_text(source, tmp_path):
    (source / "annotations" / "instances_train2014.json").write_bytes(b'{"images": "\xff\xfe\xfa"}')
    assert_refused(source, tmp_path, "must be text in UTF-8. Received: byte 0xff in line 1")


def test_annotations_missing(source, tmp_path):
    (source / "annotations" / "instances_val2014.json").unlink()
    layout = "annotations/instances_train2014.json, annotations/instances_val2014.json, train2014/COCO_train2014_*.jpg"
    assert_refused(source, tmp_path, f"{source}/annotations/instances_val2014.json must exist", layout)


def test_images_missing(source, tmp_path):
    (source / "train2014" / "COCO_train2014_000000000030.jpg").unlink()
    (source / "train2014" / "COCO_train2014_000000000025.jpg").unlink()
    assert_refused(source, tmp_path, "2 of 3 missing, the first train2014/COCO_train2014_000000000025.jpg")


def test_source_missing_or_empty(tmp_path):
    source = tmp_path / "coco"
    assert_refused(source, tmp_path, f"source_dir of coco2014 must exist. Received: {source}", "train2014.zip")
    with pytest.raises(InputError, match="must be a folder with annotations.* Received: .*coco, which is not a folder"):
        read_annotations(source, "train")
    source.mkdir()
    assert_refused(source, tmp_path, f"must not be empty. Received: {source}")
    with pytest.raises(InputError, match="source_dir must be a folder with .*coco, which is empty. Unpack"):
        read_annotations(source, "train")
    assert_refused(None, tmp_path, "source_dir of coco2014 must be given", "Received: none")


def test_split_must_be_known(source):
    with pytest.raises(InputError, match="split must be one of train, test. Received: 'val2014'"):
        read_annotations(source, "val2014")


def test_damaged_image(source, tmp_path):
    damaged = source / "val2014" / "COCO_val2014_000000000073.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(
        InputError, match=f"1 damaged so far, .*{damaged} must be an undamaged image. Received: a truncated"
    ):
        prepared(Coco2014, tmp_path / "data", source)
    assert left_in(tmp_path / "data") == ["coco2014_rejected.csv"]
    Image.new("RGB", (48, 48)).save(damaged)
    prepared(Coco2014, tmp_path / "data", source)  # Once mended, it works.


# Real images.

if REAL.is_dir():  # 256 images of COCO 2014, which do not belong to the repository

    @pytest.mark.slow
    def test_counts_of_real_images(tmp_path):
        builder = prepared(Coco2014, tmp_path, REAL)
        expected = {"train": (128, 929, 2, 71), "test": (128, 898, 0, 73)}
        for split, counts in expected.items():
            stored = builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()})
            records = list(tfds.as_numpy(stored))
            labels = np.stack([record["labels"] for record in records])
            boxes = sum(len(record["objects"]["label"]) for record in records)
            assert (len(records), boxes, (labels.sum(axis=1) == 0).sum(), labels.any(axis=0).sum()) == counts
            for record in records:
                assert record["image"] == (REAL / record["name"].decode()).read_bytes()
                assert set(record["objects"]["label"]) == set(np.flatnonzero(record["labels"]))
        audit = examples.stored_metadata(builder)["audit"]
        assert {split: part["unlabelled"] for split, part in audit["splits"].items()} == {"train": 2, "test": 0}
        assert audit["duplicates"] == audit["overlap"] == 0
