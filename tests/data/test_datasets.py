"""The table of data sets, and opening one: where it is found, which images are validation, what stays untouched."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from srn_tf.choices import DATASETS, OWN_PHOTOS
from srn_tf.data import scenes
from srn_tf.data.builder import Settings, SourceBuilder
from srn_tf.data.coco2014 import Coco2014
from srn_tf.data.coco_annotations import LABEL_NAMES
from srn_tf.data.csv_file import CsvFile
from srn_tf.data.datasets import make_builder, open_dataset, open_prepared, open_stored, protocol_of
from srn_tf.data.examples import stored_metadata
from srn_tf.data.prepare import prepare
from srn_tf.data.scene_drawing import LABELS
from srn_tf.data.voc2007 import Voc2007
from srn_tf.errors import InputError
from tests.data.conftest import SMALL_SPLITS
from tests.data.folder_of_images import FolderOfImages, left_in, photo, prepared, write_image, write_source
from tests.data.test_coco2014 import TEST_RECORDS, TRAIN_RECORDS, source  # noqa: F401 (a fixture)

TRAIN_NAMES = {image.name for image in TRAIN_RECORDS}
TEST_NAMES = {image.name for image in TEST_RECORDS}


def names(dataset, role):
    found = [record["name"].decode() for record in tfds.as_numpy(dataset.records(role))]
    assert len(set(found)) == len(found) == dataset.num_images(role)
    np.testing.assert_array_equal(dataset.image_names(role), found)  # in their order, too
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
    counts = stored_metadata(dataset.builder)["label_counts"]
    for role in SMALL_SPLITS:
        truth = np.sum([record["labels"] for record in tfds.as_numpy(dataset.records(role))], axis=0)
        assert [counts[label][role] for label in LABELS] == truth.tolist()
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


@pytest.mark.parametrize(
    "fraction, held_out", [(0.34, 1), *(pytest.param(share, 2, marks=pytest.mark.slow) for share in (0.6, 0.9))]
)
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


@pytest.mark.parametrize("fraction", [0.0, pytest.param(0.1, marks=pytest.mark.slow)])
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
    prepared(Coco2014, tmp_path / "data", source)
    before = snapshot(tmp_path / "data")
    dataset = open_dataset("coco2014", str(tmp_path / "data"), str(tmp_path / "other"), 0.34)
    assert names(dataset, "test") == TEST_NAMES
    assert snapshot(tmp_path / "data") == before
    assert not (tmp_path / "other").exists()


def test_a_folder_prepared_with_options_is_taken_as_it_is(source, tmp_path):  # noqa: F811
    prepared(Coco2014, tmp_path / "data", source, {"label_order": "alphabetical", "keep_unlabelled": False})
    dataset = open_dataset("coco2014", str(tmp_path / "data"), "", 0.0)
    assert dataset.labels == tuple(sorted(LABEL_NAMES))
    assert {role: dataset.num_images(role) for role in dataset.splits} == {"train": 2, "validation": 2, "test": 1}


def test_the_official_layout_is_prepared_with_the_defaults(source, open_coco, tmp_path):  # noqa: F811
    open_coco(0.34)
    prepare(Coco2014(data_dir=tmp_path / "prepared", options={}))  # else it would say which option differs


# What tells one prepared data set from another.


def copy_of(dataset, folder):
    """The same prepared data set in another folder, and the folder of its files."""
    version = folder / dataset.name / "1.0.0"
    shutil.copytree(dataset.builder.data_path, version)
    return open_dataset(dataset.name, str(folder), "", 0.34), version


def record_file(folder, split):
    (path,) = folder.glob(f"*-{split}.tfrecord-*")
    return path


def test_the_fingerprint_is_that_of_the_files(open_coco):
    dataset = open_coco(0.34)
    of_source = json.dumps(stored_metadata(dataset.builder)["source"], sort_keys=True).encode()
    folder = Path(dataset.builder.data_dir)
    content = [(folder / name).read_bytes() for name in ("dataset_info.json", "features.json")]
    sizes = [f"{path.name} {path.stat().st_size}\n".encode() for path in sorted(folder.glob("*.tfrecord-*"))]
    assert len(sizes) == 2 and list(dataset.record_files) == ["test", "train"]
    assert dataset.fingerprint == hashlib.sha256(b"".join([of_source, *content, *sizes])).hexdigest()
    assert open_coco(0.0).fingerprint == dataset.fingerprint  # roles are no part of it


def test_the_fingerprint_of_a_copy_and_of_another_preparation(source, open_coco, tmp_path):  # noqa: F811
    dataset = open_coco(0.34)
    copy, _ = copy_of(dataset, tmp_path / "copy")
    again = open_dataset("coco2014", str(source), str(tmp_path / "again"), 0.34)
    assert dataset.fingerprint == copy.fingerprint == again.fingerprint
    prepared(Coco2014, tmp_path / "other", source, {"label_order": "alphabetical"})
    other = open_dataset("coco2014", str(tmp_path / "other"), "", 0.34)
    prepared(Coco2014, tmp_path / "fewer", source, {"keep_unlabelled": False})
    fewer = open_dataset("coco2014", str(tmp_path / "fewer"), "", 0.34)
    assert fewer.fingerprint != dataset.fingerprint
    assert other.fingerprint != dataset.fingerprint


@pytest.fixture
def open_folder(tmp_path):
    """A function: data folder, options -> DataSet of the source folder `photos` with its labels.csv, prepared there."""

    def open_it(name, **options):
        options = {"csv": "labels.csv", **options}
        prepared(CsvFile, tmp_path / name, tmp_path / "photos", options)
        return open_dataset("csv", str(tmp_path / name), "", 0.1)

    return open_it


def test_the_fingerprint_covers_labels_and_images(tmp_path, open_folder):
    photos = write_source(tmp_path / "photos")
    rows = [f"{folder.name}/{path.name}" for folder in sorted(photos.iterdir()) for path in sorted(folder.iterdir())]
    prints = {}
    for kind, values in (("first", "01"), ("swapped", "10"), ("image", "01")):
        if kind == "image":  # another colour in a file of the same size
            size = (photos / rows[0]).stat().st_size
            write_image(photos / rows[0], 17)
            assert (photos / rows[0]).stat().st_size == size
        lines = [f"{row},{values[i % 2]},{values[1 - i % 2]},{row.split('/')[0]}" for i, row in enumerate(rows)]
        (photos / "labels.csv").write_text("\n".join(["image,cat,dog,split", *lines]))
        prints[kind] = open_folder(kind).fingerprint
        assert kind != "first" or open_folder("again").fingerprint == prints[kind]
    assert len(set(prints.values())) == 3


def test_a_size_that_is_not_stored_is_refused(tmp_path, open_folder):
    photos = write_source(tmp_path / "photos", [f"red_{i}.png" for i in range(20)], ["blue_90.png"])
    lines = [f"{path.parent.name}/{path.name},cat,{path.parent.name}" for path in sorted(photos.rglob("*.png"))]
    (photos / "labels.csv").write_text("\n".join(["image,labels,split", *lines]))
    dataset = open_folder("data", store_size=16)
    assert dataset.note == "2 images held out from the training split"  # as they came
    for role, side_px in (("train", 16), ("validation", 448), ("test", 448)):
        dataset.check_size(role, side_px)
    with pytest.raises(InputError) as error:
        dataset.check_size("train", 17)
    assert str(error.value) == (
        "The train images of csv must be stored with at least 17 x 17 pixels for this image size. Received: 17 of "
        f"16 x 16 in {dataset.builder.data_dir}. Prepare them again: python tools/prepare_data.py --dataset=csv "
        "--source_dir=DOWNLOADED --data_dir=ANOTHER --store_size=17 --csv=labels.csv. Or use a smaller --image_size."
    )
    more = open_dataset("csv", str(tmp_path / "data"), "", 0.5)
    assert more.note.startswith("10 images held out from the training split, 7 of them stored at 16 x 16 pixels")
    with pytest.raises(InputError, match="The validation images of csv .* Received: 7 of 16 x 16"):
        more.check_size("validation", 17)


def test_a_longer_file_has_another_fingerprint(open_coco, tmp_path):
    copy, folder = copy_of(open_coco(0.34), tmp_path / "copy")
    before = copy.fingerprint
    with open(record_file(folder, "test"), "ab") as file:
        file.write(b"x")
    assert copy.fingerprint != before


@pytest.mark.parametrize("name", ["features.json", "coco2014-test.tfrecord-00000-of-00001"])
def test_the_fingerprint_of_a_data_set_that_lacks_a_file(open_coco, tmp_path, name):
    copy, folder = copy_of(open_coco(0.34), tmp_path / "copy")
    (folder / name).unlink()
    with pytest.raises(InputError) as error:
        _ = copy.fingerprint
    assert str(error.value) == (
        f"Data set coco2014 in {folder} must be complete. Received: No such file or directory: {name}. "
        "Copy the data set there again, or remove the folder and prepare it again."
    )


def test_the_fingerprint_of_records_that_were_cut(open_coco, tmp_path):
    copy, folder = copy_of(open_coco(0.34), tmp_path / "copy")
    path = record_file(folder, "train")
    os.truncate(path, path.stat().st_size // 2)
    expected = f"The train records of coco2014 in {folder} must be complete. Expected: at least .* Received: "
    with pytest.raises(InputError, match=expected + rf"{path.stat().st_size}\. Copy the data set there again"):
        _ = copy.fingerprint


# The table.


def test_the_list():
    assert DATASETS == ("scenes", "coco2014", "nus_wide", "wider_attribute", "voc2007", "apparel", *OWN_PHOTOS)


def test_protocols():
    assert {name: protocol_of(name) for name in DATASETS} == {
        "scenes": "scenes",
        "coco2014": "coco",
        "nus_wide": "nus_wide",
        "wider_attribute": "wider_attribute",
        "voc2007": "voc2007",
        "apparel": "coco",
        **dict.fromkeys(OWN_PHOTOS, "coco"),
    }


@pytest.mark.parametrize("name", [name for name in DATASETS if name not in OWN_PHOTOS])
def test_builders_are_named_as_their_data_sets(name, tmp_path):
    builder = make_builder(name, tmp_path)
    assert builder.name == name and str(builder.version) == "1.0.0"
    assert isinstance(builder, SourceBuilder) == (name != "scenes")
    assert left_in(tmp_path) == []


def test_the_builder_of_csv_reads_its_source(tmp_path):
    """Its labels stand nowhere else."""
    source = write_source(tmp_path / "source")  # noqa: F811
    rows = [f"train/{name},red" for name in ("red_0.png", "blue_1.png")] + ["test/red_3.png,blue"]
    (source / "labels.csv").write_text("\n".join(["image,labels", *rows]))
    builder = make_builder("csv", tmp_path / "data", source, {"csv": "labels.csv"})
    assert builder.name == "csv" and builder.info.features["objects"]["label"].names == ["blue", "red"]
    with pytest.raises(
        InputError, match="Data set csv must be prepared in .* Received: no .*data/csv/1.0.0. Prepare it: python"
    ):
        open_prepared("csv", tmp_path / "data")
    with pytest.raises(
        InputError, match="Data set csv must be prepared in .* Received: no .*source/csv/1.0.0. Prepare it: python"
    ):
        open_dataset("csv", str(source), str(tmp_path / "prepared"))
    assert not (tmp_path / "data").exists()


def test_make_builder(tmp_path):
    settings = Settings(processes=3, max_rejected=0.5)
    builder = make_builder("coco2014", tmp_path / "data", tmp_path / "source", {"store_size": 256}, settings)
    assert builder.source_dir == str(tmp_path / "source") and builder._settings == settings
    assert builder.asked_options == {"store_size": 256, "keep_unlabelled": True, "label_order": "category_id"}
    # Without options these are asked for, and not whatever is there.
    assert make_builder("coco2014", tmp_path / "data").asked_options["store_size"] == 0


def test_open_prepared(source, tmp_path):  # noqa: F811
    with pytest.raises(InputError) as error:
        open_prepared("coco2014", tmp_path)
    assert str(error.value) == (
        f"Data set coco2014 must be prepared in {tmp_path}. Received: no {tmp_path}/coco2014/1.0.0. Prepare it: "
        f"python tools/prepare_data.py --dataset=coco2014 --source_dir=DOWNLOADED --data_dir={tmp_path}"
    )
    prepared(Coco2014, tmp_path / "data", source, {"label_order": "alphabetical"})
    builder = open_prepared("coco2014", str(tmp_path / "data"))
    assert builder.info.splits["train"].num_examples == 3
    assert builder.info.features["objects"]["label"].names == sorted(LABEL_NAMES)


def test_open_stored(source, tmp_path):  # noqa: F811
    data_dir = str(tmp_path / "data")
    prepared(Coco2014, data_dir, source)
    dataset = open_stored("coco2014", data_dir, "train")
    assert dataset.num_images("train") == 3 and dataset.protocol == "coco"  # nothing is held out
    with pytest.raises(InputError) as error:
        open_stored("coco2014", data_dir, "validation")
    assert str(error.value) == (
        "split must be one of train, test for data set coco2014. Received: 'validation'. For images that a run held "
        "out, give its --work_dir."
    )
    with pytest.raises(InputError, match="must be prepared in .*nowhere.*--dataset=scenes --data_dir="):
        open_stored("scenes", str(tmp_path / "nowhere"), "test")


def test_only_voc2007_leaves_unspecified_labels_out_of_the_loss(source, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(Voc2007, "read", staticmethod(read_voc_like))
    write_source(tmp_path / "images")
    dataset = open_dataset("voc2007", str(tmp_path / "images"), str(tmp_path / "prepared"), 0.34)
    assert (dataset.protocol, dataset.ignores_unspecified) == ("voc2007", True)
    assert not open_dataset("coco2014", str(source), str(tmp_path / "prepared")).ignores_unspecified


def test_a_table_with_unspecified_marks_has_a_protocol_of_its_own(tmp_path):
    source = write_source(tmp_path / "source")  # noqa: F811
    rows = [
        "image,red,blue,split",
        "train/red_0.png,1,-1,train",
        "train/blue_1.png,0,1,train",
        "test/red_3.png,1,0,test",
    ]
    (source / "labels.csv").write_text("\n".join(rows))
    for marks, expected in (("-1", ("partial", True, True)), ("", ("coco", False, False))):
        if not marks:
            (source / "labels.csv").write_text("\n".join(rows).replace("-1", "0"))
        options = {"csv": "labels.csv", "unspecified_marks": marks}
        builder = make_builder("csv", tmp_path / f"data{marks}", source, options, Settings(processes=1))
        prepare(builder)
        dataset = open_dataset("csv", str(tmp_path / f"data{marks}"), "", 0.0)
        assert (dataset.protocol, dataset.ignores_unspecified, dataset.has_unspecified) == expected
        assert protocol_of("csv", builder) == dataset.protocol
        labels = {tuple(record["labels"]) for record in dataset.records("train").as_numpy_iterator()}
        assert labels == ({(1, 0), (-1, 1)} if marks else {(1, 0), (0, 1)})


def read_voc_like(source_dir, options):
    """The folders train and test as splits of 20 labels."""
    del options
    made = FolderOfImages.read(source_dir, FolderOfImages.OPTIONS)
    splits = {split: [photo(p.path, [1] * 20) for p in photos] for split, photos in made.splits.items()}
    return dataclasses.replace(made, splits=splits)


# Bad input.


def message_of(*arguments):
    with pytest.raises(InputError) as error:
        open_dataset(*arguments)
    return str(error.value)


@pytest.mark.parametrize("function", [open_dataset, make_builder, open_prepared, protocol_of])
def test_dataset_must_be_known(function, tmp_path):
    arguments = {open_dataset: (str(tmp_path), ""), protocol_of: ()}.get(function, (str(tmp_path),))
    with pytest.raises(InputError) as error:
        function("coco", *arguments)
    assert str(error.value) == (
        "dataset must be one of scenes, coco2014, nus_wide, wider_attribute, voc2007, apparel, csv, "
        "folders, coco_json, voc_folder, label_studio, cvat, huggingface. Received: 'coco'."
    )


def test_options_must_be_known(tmp_path):
    with pytest.raises(InputError, match="Options of coco2014 must be among store_size, .* Received: 'variant'"):
        make_builder("coco2014", tmp_path, options={"variant": "official"})
    with pytest.raises(InputError, match="scenes has no options. Received: store_size. Remove them."):
        make_builder("scenes", tmp_path, options={"store_size": 256})


def test_folder_missing_or_empty(tmp_path):
    missing = str(tmp_path / "missing")
    rule = "data_dir must be a folder with the data set coco2014."
    assert (
        message_of("coco2014", missing, str(tmp_path / "prepared"))
        == f"{rule} Received: {missing!r}, which is not a folder. Check the path."
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    expected = f"{rule} Received: {str(empty)!r}, which is empty. Check the path."
    assert message_of("coco2014", str(empty), str(tmp_path / "prepared")) == expected
    assert not (tmp_path / "prepared").exists()


def test_folder_with_something_else(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").write_text("nothing")
    message = message_of("coco2014", str(tmp_path / "data"), str(tmp_path / "prepared"))
    assert "annotations/instances_train2014.json" in message and "\n" not in message


def test_damaged_data_set(source, tmp_path):  # noqa: F811
    prepare(Coco2014(data_dir=tmp_path / "data", source_dir=source))
    (tmp_path / "data" / "coco2014" / "1.0.0" / "dataset_info.json").write_text("{")
    for function in (open_prepared, lambda name, folder: open_dataset(name, folder, "")):
        with pytest.raises(InputError, match="must have a readable dataset_info.json. Received: .*prepare it again"):
            function("coco2014", str(tmp_path / "data"))


def test_role_must_be_known(open_coco):
    with pytest.raises(InputError, match="split must be one of train, validation, test. Received: 'val'."):
        open_coco(0.34).records("val")
