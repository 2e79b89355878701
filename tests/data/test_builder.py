"""The way from a source to a data set: records, shards, rejected images, and what is stored about them."""

import dataclasses
import json
import logging
import multiprocessing

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from srn_tf.data import examples, shards
from srn_tf.data.builder import SourceBuilder
from srn_tf.data.photo_records import read_photo
from srn_tf.data.prepare import prepare
from srn_tf.data.source import Count, Example, Photo, Source
from srn_tf.data.source_files import files_digest, stamp, truth_digest
from srn_tf.errors import InputError
from tests.data.folder_of_images import (
    FolderOfImages,
    assert_same_files,
    left_in,
    prepared,
    read_names,
    write_image,
    write_source,
)

# By `printf train<path> | md5sum` and likewise for test.
TRAIN_ORDER = ["train/blue_1.png", "train/red_0.png", "train/none_2.png"]
TEST_ORDER = ["test/red_blue_4.png", "test/red_3.png"]


@pytest.fixture
def source(tmp_path):
    return write_source(tmp_path / "source")


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


def damage(source, name):
    (source / name).write_bytes(b"no image at all")
    return source / name


def message_of(*arguments, **settings):
    """Prepares, which fails, and returns the message, which is one line."""
    with pytest.raises(InputError) as error:
        prepared(*arguments, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


# Options.


def test_options_are_completed(data_dir):
    builder = FolderOfImages(data_dir=data_dir, options={"prefix": "red"})
    assert builder.options == builder.asked_options == {"store_size": 0, "prefix": "red", "list": ""}
    builder = FolderOfImages(data_dir=data_dir)
    assert builder.asked_options is None
    assert builder.options == builder.recorded_options() == {"store_size": 0, "prefix": "", "list": ""}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"prefx": "red"},
            "Options of folder_of_images must be among store_size, prefix, list. Received: 'prefx'. Remove it.$",
        ),
        ({"store_size": "256"}, "Option store_size of folder_of_images must be of type int. Received: '256'.$"),
        ({"prefix": None}, "Option prefix of folder_of_images must be of type str. Received: None.$"),
    ],
)
def test_bad_options(data_dir, options, message):
    with pytest.raises(InputError, match=message):
        FolderOfImages(data_dir=data_dir, options=options)


def test_a_file_option_is_recorded_by_its_content(source, data_dir, tmp_path, monkeypatch):
    (source / "names.txt").write_text("a list\n")
    (tmp_path / "names.txt").write_text("another list\n")
    builder = FolderOfImages(data_dir=data_dir, source_dir=source, options={"list": "names.txt"})
    # By `printf 'a list\n' | sha256sum`, and of the other.
    assert builder.recorded_options()["list"] == "names.txt (sha256 6237325672d78625)"
    monkeypatch.chdir(tmp_path)  # where there is one of that name, too, and it counts
    assert builder.recorded_options()["list"] == "names.txt (sha256 3d973a381ac86cff)"
    absent = FolderOfImages(data_dir=data_dir, source_dir=source, options={"list": "absent.txt"})
    with pytest.raises(
        InputError, match="absent.txt must be a file in the current folder or in .*source. Received: no such file"
    ):
        absent.recorded_options()


def test_a_file_option_is_recorded_as_it_was_read(source, data_dir, monkeypatch):
    (source / "names.txt").write_text("a list\n")
    monkeypatch.setattr(shards, "read_photo", removes(source / "names.txt"))
    builder = prepared(FolderOfImages, data_dir, source, {"list": "names.txt"})
    assert not (source / "names.txt").exists()
    assert examples.stored_metadata(builder)["options"]["list"] == "names.txt (sha256 6237325672d78625)"


def removes(path):
    """`read_photo`, which removes a file in passing."""

    def read(*args, **kwargs):
        path.unlink(missing_ok=True)
        return read_photo(*args, **kwargs)

    return read


# Label names that only the source has.


class FolderNames(SourceBuilder, skip_registration=True):
    """Labels are the names of the source's folders."""

    VERSION = tfds.core.Version("1.0.0")

    @staticmethod
    def read(source_dir, options):
        return Source(("sky", "sea"), FolderOfImages.read(source_dir, FolderOfImages.OPTIONS).splits)


def test_label_names_of_the_source(source, data_dir, monkeypatch):
    with pytest.raises(InputError) as error:
        FolderNames(data_dir=data_dir)
    assert str(error.value) == (
        f"Data set folder_names must be prepared in {data_dir}. Received: no {data_dir / 'folder_names' / '1.0.0'}. "
        "Prepare it: python tools/prepare_data.py --dataset=folder_names --source_dir=DOWNLOADED "
        f"--data_dir={data_dir}"
    )
    builder = prepared(FolderNames, data_dir, source)
    assert examples.label_names(builder) == ["sky", "sea"]
    monkeypatch.setattr(FolderNames, "read", lambda *args: pytest.fail("read again"))
    assert FolderNames(data_dir=data_dir).info.features["objects"]["label"].names == ["sky", "sea"]
    assert FolderNames(data_dir=data_dir, options={}).info.features["labels"].shape == (2,)


# Records and metadata.


def test_records(source, data_dir):
    builder = prepared(FolderOfImages, data_dir, source)
    assert read_names(builder, "train") == TRAIN_ORDER
    assert read_names(builder, "test") == TEST_ORDER
    colour_and_labels = {
        record["name"].decode(): (record["image"].tolist(), record["labels"].tolist())
        for record in tfds.as_numpy(builder.as_dataset(split="train+test"))
    }
    expected = {
        "train/red_0.png": (0, [1, 0]),
        "train/blue_1.png": (1, [0, 1]),
        "train/none_2.png": (2, [0, 0]),
        "test/red_3.png": (3, [1, 0]),
        "test/red_blue_4.png": (4, [1, 1]),
    }
    assert colour_and_labels == {
        name: ([[[value, 0, 0]] * 4] * 3, labels) for name, (value, labels) in expected.items()
    }


def test_metadata(source, data_dir, caplog):
    caplog.set_level(logging.INFO, logger="srn_tf")
    write_image(source / "train" / "copy.png", 0)  # of red_0.png
    builder = prepared(FolderOfImages, data_dir, source, {"list": ""})
    stored = json.loads((builder.data_path / "metadata.json").read_text())
    (pair,) = (builder.data_path / "equal_images.csv").read_text().splitlines()[1:]
    assert sorted(pair.split(",")) == ["train", "train", "train/copy.png", "train/red_0.png"]
    stamps = {path.relative_to(source).as_posix(): stamp(path) for path in source.rglob("*.png")}
    listed = [line.split(",") for line in (builder.data_path / "source_files.csv").read_text().splitlines()]
    assert listed[1:] == [[path, *map(str, stamps[path])] for path in sorted(stamps)]
    assert stored == {
        "labels": ["red", "blue"],
        "options": {"store_size": 0, "prefix": "", "list": ""},
        "label_counts": {"red": {"train": 1, "test": 2}, "blue": {"train": 1, "test": 1}},
        "source": {"truth": truth_digest(builder.source), "files": files_digest(stamps)},
        "audit": {
            "splits": {
                "train": {"photos": 4, "images": 4, "unlabelled": 2, "resized": 0, "rejected": 0},
                "test": {"photos": 2, "images": 2, "unlabelled": 0, "resized": 0, "rejected": 0},
            },
            "counts": [{"what": "train images", "found": 4, "published": 3}],
            "duplicates": 1,
            "overlap": 0,
            "notes": [],
        },
    }
    assert "Warning: folder_of_images: train images: found 4, published 3." in caplog.messages
    assert "folder_of_images train: 4 images kept, 2 without label, 0 rejected." in caplog.messages


def test_store_size_resizes_training_images_alone(source, data_dir):
    """Of a train split the first tenth, from which runs hold out, and a little more is left; here 3 of 20."""
    for i in range(17):
        write_image(source / "train" / f"more_{i}.png", 100 + i)
    builder = prepared(FolderOfImages, data_dir, source, {"store_size": 16})
    stored = {
        split: list(tfds.as_numpy(builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()})))
        for split in ("train", "test")
    }
    for record in stored["test"] + stored["train"][:3]:
        assert record["image"] == (source / record["name"].decode()).read_bytes()
    assert {tuple(tf.io.decode_jpeg(record["image"]).shape) for record in stored["train"][3:]} == {(16, 16, 3)}
    metadata = examples.stored_metadata(builder)
    assert metadata["options"]["store_size"] == 16
    assert {split: counts["resized"] for split, counts in metadata["audit"]["splits"].items()} == {
        "train": 17,
        "test": 0,
    }


def test_with_a_validation_split_all_training_images_are_resized(source, data_dir, monkeypatch):
    read = FolderOfImages.read

    def with_validation(source_dir, options):
        made = read(source_dir, options)
        first, second = made.splits["test"]
        return dataclasses.replace(made, splits={**made.splits, "validation": [first], "test": [second]})

    monkeypatch.setattr(FolderOfImages, "read", staticmethod(with_validation))
    builder = prepared(FolderOfImages, data_dir, source, {"store_size": 16})
    shapes = {
        split: {record["image"].shape for record in tfds.as_numpy(builder.as_dataset(split=split))}
        for split in ("train", "validation", "test")
    }
    assert shapes == {"train": {(16, 16, 3)}, "validation": {(3, 4, 3)}, "test": {(3, 4, 3)}}


class Persons(SourceBuilder, skip_registration=True):
    """Three parts of the first image, one of them outside it, and two of the other."""

    VERSION = tfds.core.Version("1.0.0")
    LABELS = ("any",)

    @staticmethod
    def read(source_dir, options):
        boxes = {"red_0.png": [(0, 0, 2, 2), (9, 9, 2, 2), (1, 1, 1, 1)], "blue_1.png": [(0, 0, 4, 3), (3, 0, 9, 1)]}
        photos = [
            Photo(f"train/{name}", tuple(Example(f"{name}#{i}", (1,), crop=box) for i, box in enumerate(crops)))
            for name, crops in boxes.items()
        ]
        return Source(("any",), {"train": photos}, (Count("persons", 5, 5),))


def test_several_records_of_a_photo(source, data_dir):
    builder = prepared(Persons, data_dir, source, max_rejected=0.2)
    records = list(tfds.as_numpy(builder.as_dataset(split="train")))
    shapes = {record["name"].decode(): record["image"].shape[:2] for record in records}
    assert shapes == {"red_0.png#0": (2, 2), "red_0.png#2": (1, 1), "blue_1.png#0": (3, 4), "blue_1.png#1": (1, 1)}
    audit = examples.stored_metadata(builder)["audit"]
    assert audit["splits"] == {"train": {"photos": 2, "images": 4, "unlabelled": 0, "resized": 0, "rejected": 1}}


# As tfds itself offers it.


def test_prepared_by_tfds_alone(source, data_dir):
    builder = FolderOfImages(data_dir=data_dir)
    config = tfds.download.DownloadConfig(manual_dir=source, try_download_gcs=False)
    builder.download_and_prepare(download_config=config)
    assert read_names(builder, "test") == TEST_ORDER


def test_read_by_tfds_alone(source, data_dir):
    builder = prepared(FolderOfImages, data_dir, source)
    loaded, info = tfds.load("folder_of_images", data_dir=data_dir, split="train", with_info=True)
    assert [record["name"].decode() for record in tfds.as_numpy(loaded)] == TRAIN_ORDER
    assert info.features["objects"]["label"].names == ["red", "blue"]
    assert info.metadata["options"] == {"store_size": 0, "prefix": "", "list": ""}
    assert read_names(tfds.builder_from_directory(builder.data_dir), "train") == TRAIN_ORDER


# Shards.


@pytest.fixture(scope="module")
def several_shards(tmp_path_factory):
    """45 images of train in shards of 18, of which the 21st is damaged, and one shard of test.

    tfds would read more than 16 records a shard by turns from several shards, if it did not know that order counts.
    """
    folder = tmp_path_factory.mktemp("several_shards")
    source = write_source(folder / "source", [f"red_{i}.png" for i in range(45)], ["blue_90.png", "blue_91.png"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_SHARD_PHOTOS", 18)
        builder = FolderOfImages(data_dir=folder / "data", source_dir=source, options={})
        plan = shards.plan_shards("train", builder.source.splits["train"], source, 0)
        order = [photo.path for shard in plan for photo in shard]
        damage(source, order[20])
        builder = prepared(FolderOfImages, folder / "data", source, max_rejected=0.1)
    return builder, order[:20] + order[21:]


def test_shards_are_read_back_in_order(several_shards):
    builder, order = several_shards
    assert builder.info.splits["train"].shard_lengths == [18, 17, 9]
    assert builder.info.splits["test"].shard_lengths == [2]
    assert len(list(builder.data_path.glob("*train.tfrecord-*-of-00003"))) == 3
    assert sorted(order) != order and len(set(order)) == 44
    again = FolderOfImages(data_dir=builder.data_dir_root)  # from what is stored
    for made in (builder, again):
        assert made.info.splits["train"].num_examples == 44
        assert read_names(made, "train") == order


@pytest.mark.parametrize(
    ("part", "start", "end"),
    [("[2:40]", 2, 40), ("[:1]", 0, 1), ("[43:]", 43, 44), ("[50%:]", 22, 44), ("[18:35]", 18, 35)],
)
def test_slices_go_across_shards(several_shards, part, start, end):
    builder, order = several_shards
    assert read_names(builder, f"train{part}") == order[start:end]


def test_a_shard_of_damaged_images(source, data_dir, monkeypatch):
    monkeypatch.setattr(shards, "_SHARD_PHOTOS", 1)
    damage(source, TRAIN_ORDER[1])
    builder = prepared(FolderOfImages, data_dir, source, max_rejected=0.2)
    assert builder.info.splits["train"].shard_lengths == [1, 0, 1]
    assert read_names(builder, "train") == [TRAIN_ORDER[0], TRAIN_ORDER[2]]
    assert read_names(builder, "train[1:]") == [TRAIN_ORDER[2]]


def test_two_processes_write_the_same_files_as_one(tmp_path):
    train, test = [f"red_{i}.png" for i in range(11)], [f"blue_{i}.png" for i in range(11, 18)]
    source = write_source(tmp_path / "source", train, test)
    damage(source, "train/red_3.png")
    for processes in (1, 2):
        prepared(FolderOfImages, tmp_path / str(processes), source, processes=processes, max_rejected=0.1)
    assert_same_files(tmp_path / "1", tmp_path / "2")
    assert len(left_in(tmp_path / "1" / "folder_of_images" / "2.0.1")) == 8
    assert multiprocessing.active_children() == []


# Images that cannot be used.


def test_a_damaged_image_is_listed_and_the_others_kept(source, data_dir):
    path = damage(source, "train/none_2.png")
    builder = prepared(FolderOfImages, data_dir, source, max_rejected=0.2)  # 1 of 5
    assert read_names(builder, "train") == TRAIN_ORDER[:2]
    lines = (builder.data_path / "rejected.csv").read_text().splitlines()
    assert lines[0] == "split,path,reason" and len(lines) == 2
    assert lines[1].startswith(f'train,train/none_2.png,"{path} must be an image. Received: 15 bytes')
    audit = examples.stored_metadata(builder)["audit"]
    assert audit["splits"]["train"] == {"photos": 3, "images": 2, "unlabelled": 0, "resized": 0, "rejected": 1}
    assert not (data_dir / "folder_of_images_rejected.csv").exists()


def test_too_many_damaged_images(source, data_dir):
    first, second = damage(source, TRAIN_ORDER[1]), damage(source, TEST_ORDER[0])
    message = message_of(FolderOfImages, data_dir, source, max_rejected=0.2)
    assert message.startswith(
        "At most 20.00% of the 5 images of folder_of_images may be damaged. Received: 2 damaged so far, the "
        f"first {TRAIN_ORDER[1]} ({first} must be an image. Received: 15 bytes "
    )
    stopped_csv = data_dir / "folder_of_images_rejected.csv"
    assert message.endswith(f"Those found so far are listed in {stopped_csv}.")
    assert left_in(data_dir) == ["folder_of_images_rejected.csv"]
    rows = [line.split(",")[:2] for line in stopped_csv.read_text().splitlines()]
    assert rows == [["split", "path"], ["train", TRAIN_ORDER[1]], ["test", TEST_ORDER[0]]]

    write_image(second, 99)
    builder = prepared(FolderOfImages, data_dir, source, max_rejected=0.2)
    assert left_in(data_dir)[0] == "folder_of_images" and not stopped_csv.exists()
    assert (builder.data_path / "rejected.csv").exists()


def test_no_damaged_image_is_accepted_of_a_small_data_set(source, data_dir):
    """The default is one in a thousand."""
    damage(source, "test/red_3.png")
    assert "At most 0.10% of the 5 images" in message_of(FolderOfImages, data_dir, source)


def test_a_split_of_damaged_images(source, data_dir):
    for name in TEST_ORDER:
        damage(source, name)
    message = message_of(FolderOfImages, data_dir, source, max_rejected=1.0)
    assert message.startswith(
        "Split test of folder_of_images must keep at least one image. Received: only damaged images."
    )
    assert left_in(data_dir) == ["folder_of_images_rejected.csv"]
    assert len((data_dir / "folder_of_images_rejected.csv").read_text().splitlines()) == 3


def test_equal_images_in_two_splits(source, data_dir):
    Image.open(source / "train" / "red_0.png").save(source / "test" / "copy.bmp")
    message = message_of(FolderOfImages, data_dir, source)
    assert "1 images are in two splits (equal pixels), the first: train/red_0.png (train) and test/copy.bmp" in message
    stopped_csv = data_dir / "folder_of_images_equal_images.csv"
    assert message.endswith(f"Those found so far are listed in {stopped_csv}.")
    assert left_in(data_dir) == [stopped_csv.name]
    found = stopped_csv.read_text()
    assert found == "first_split,first_path,split,path\ntrain,train/red_0.png,test,test/copy.bmp\n"
    builder = prepared(FolderOfImages, data_dir, source, allow_overlap=True)
    assert examples.stored_metadata(builder)["audit"]["overlap"] == 1
    assert (builder.data_path / "equal_images.csv").read_text() == found and not stopped_csv.exists()


def test_a_mismatch_is_found_before_an_image_is_opened(source, data_dir, monkeypatch):
    write_image(source / "train" / "one_more.png", 50)
    monkeypatch.setattr(shards, "read_photo", lambda *args, **kwargs: pytest.fail("an image was opened"))
    message = message_of(FolderOfImages, data_dir, source, fail_on_mismatch=True)
    assert message == (
        "folder_of_images: train images: found 4, published 3. (--fail_on_mismatch makes this an error.)"
    )
    assert left_in(data_dir) == []


def test_a_split_without_images(source, data_dir):
    message = message_of(FolderOfImages, data_dir, source, {"prefix": "none"})
    assert message.startswith("Split test of folder_of_images must have at least one image. Received: none with these")
    assert left_in(data_dir) == []


def test_the_source_is_read_once(source, data_dir, monkeypatch):
    reads, read = [], FolderOfImages.read
    monkeypatch.setattr(FolderOfImages, "read", staticmethod(lambda *args: reads.append(args) or read(*args)))
    builder = FolderOfImages(data_dir=data_dir, source_dir=str(source), options={"prefix": "red"})
    assert reads == []
    prepare(builder)
    assert reads == [(str(source), {"store_size": 0, "prefix": "red", "list": ""})]
