"""Opening a data set: where it is found, which images are validation, and what stays untouched."""

import re

import pytest
import tensorflow_datasets as tfds

from srn_tf.data import scenes
from srn_tf.data.coco2014 import Coco2014
from srn_tf.data.coco_annotations import LABEL_NAMES
from srn_tf.data.datasets import DATASETS, open_dataset
from srn_tf.data.prepare import prepare
from srn_tf.data.scene_drawing import LABELS
from srn_tf.errors import InputError
from tests.data.conftest import SMALL_SPLITS
from tests.data.test_coco2014 import TEST_RECORDS, TRAIN_RECORDS, source  # noqa: F401 (a fixture)

TRAIN_NAMES = {image.name for image in TRAIN_RECORDS}
TEST_NAMES = {image.name for image in TEST_RECORDS}


def names(dataset, role):
    found = [record["name"].decode() for record in tfds.as_numpy(dataset.records(role))]
    assert len(set(found)) == len(found) == dataset.num_images(role)
    return set(found)


def snapshot(folder):
    """Every path in a folder with its size and time of change."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in [folder, *folder.rglob("*")]}


# scenes.


def test_scenes_are_built_where_they_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(scenes, "SPLIT_SIZES", SMALL_SPLITS)
    dataset = open_dataset("scenes", str(tmp_path / "data"), str(tmp_path / "prepared"), 0.5)
    assert (dataset.name, dataset.protocol, dataset.labels) == ("scenes", "scenes", LABELS)
    assert {role: dataset.num_images(role) for role in dataset.splits} == SMALL_SPLITS
    assert dataset.note == "the data set's own validation split"
    for role in SMALL_SPLITS:
        assert {name.split("/")[0] for name in names(dataset, role)} == {role}
    assert not (tmp_path / "prepared").exists()
    before = snapshot(tmp_path / "data")
    monkeypatch.setattr(scenes, "draw_scene", lambda rng: pytest.fail("drawn again"))
    assert open_dataset("scenes", str(tmp_path / "data"), "").splits == dataset.splits
    assert snapshot(tmp_path / "data") == before


# A data set without a validation split of its own.


@pytest.fixture
def open_coco(source, tmp_path):  # noqa: F811
    """A function: validation fraction -> DataSet of the tiny folder in the official layout."""
    return lambda fraction: open_dataset("coco2014", str(source), str(tmp_path / "prepared"), fraction)


@pytest.mark.parametrize("fraction, held_out", [(0.34, 1), (0.6, 2), (0.9, 2)])
def test_validation_is_cut_from_train_and_never_from_test(open_coco, fraction, held_out):
    dataset = open_coco(fraction)
    assert (dataset.protocol, dataset.labels) == ("coco", tuple(LABEL_NAMES))
    train, validation, test = (names(dataset, role) for role in ("train", "validation", "test"))
    assert len(validation) == held_out and len(train) == 3 - held_out
    assert train | validation == TRAIN_NAMES and not train & validation
    assert test == TEST_NAMES
    assert dataset.note == f"{held_out} images held out from the training split"


def test_the_cut_is_the_same_each_time(open_coco):
    assert names(open_coco(0.34), "validation") == names(open_coco(0.34), "validation")


@pytest.mark.parametrize("fraction", [0.0, 0.1])
def test_without_images_held_out_the_training_images_are_watched(open_coco, fraction):
    dataset = open_coco(fraction)  # a tenth of 3 images is none
    assert names(dataset, "train") == names(dataset, "validation") == TRAIN_NAMES
    assert names(dataset, "test") == TEST_NAMES
    assert "training images themselves" in dataset.note


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_fraction_must_be_a_share(open_coco, fraction):
    expected = f"validation_fraction must be in [0, 1). Received: {fraction}."
    with pytest.raises(InputError, match=re.escape(expected)):
        open_coco(fraction)


# Where it is found.


def test_the_source_is_not_written_to(source, open_coco, tmp_path):  # noqa: F811
    before = snapshot(source)
    names(open_coco(0.34), "train")
    assert snapshot(source) == before
    prepared = snapshot(tmp_path / "prepared")
    names(open_coco(0.34), "train")  # now from what is prepared
    assert snapshot(tmp_path / "prepared") == prepared and snapshot(source) == before


def test_a_prepared_folder_is_read_where_it_is(source, tmp_path):  # noqa: F811
    prepare(Coco2014(data_dir=tmp_path / "data"), str(source))
    before = snapshot(tmp_path / "data")
    dataset = open_dataset("coco2014", str(tmp_path / "data"), str(tmp_path / "other"), 0.34)
    assert names(dataset, "test") == TEST_NAMES
    assert snapshot(tmp_path / "data") == before
    assert not (tmp_path / "other").exists()


# Bad input.


def message_of(*arguments):
    with pytest.raises(InputError) as error:
        open_dataset(*arguments)
    return str(error.value)


def test_the_list():
    assert DATASETS == ("scenes", "coco2014")


def test_dataset_must_be_known(tmp_path):
    assert message_of("coco", str(tmp_path), "") == "dataset must be one of scenes, coco2014. Received: 'coco'."


def test_folder_missing_or_empty(tmp_path):
    missing = str(tmp_path / "missing")
    rule = "data_dir must be a folder with the data set coco2014."
    assert message_of("coco2014", missing, str(tmp_path / "prepared")) == f"{rule} Received: {missing!r}, not a folder."
    empty = tmp_path / "empty"
    empty.mkdir()
    expected = f"{rule} Received: {str(empty)!r}, which is empty."
    assert message_of("coco2014", str(empty), str(tmp_path / "prepared")) == expected
    assert not (tmp_path / "prepared").exists()


def test_folder_with_something_else(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").write_text("nothing")
    message = message_of("coco2014", str(tmp_path / "data"), str(tmp_path / "prepared"))
    assert "annotations/instances_train2014.json" in message and "\n" not in message


def test_role_must_be_known(open_coco):
    with pytest.raises(InputError, match="split must be one of train, validation, test. Received: 'val'."):
        open_coco(0.34).records("val")
