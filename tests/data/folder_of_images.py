"""A data set for the tests of preparing: two folders of images, labelled by their names."""

from pathlib import Path

import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from srn_tf.data.builder import Settings, SourceBuilder
from srn_tf.data.prepare import prepare
from srn_tf.data.source import Count, Example, Photo, Source

TRAIN = ("red_0.png", "blue_1.png", "none_2.png")
TEST = ("red_3.png", "red_blue_4.png")


class FolderOfImages(SourceBuilder, skip_registration=True):
    """Splits are the folders train and test; a label is positive where a file's name has it.

    Options:
        prefix: only the files whose names start with it.
        list: a file that changes nothing.
    """

    VERSION = tfds.core.Version("2.0.1")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Any folder\n  of images."
    OPTIONS = {"prefix": "", "list": ""}
    FILE_OPTIONS = ("list",)
    LABELS = ("red", "blue")

    @staticmethod
    def read(source_dir, options):
        splits = {}
        for split in ("train", "test"):
            names = sorted(path.name for path in Path(source_dir, split).iterdir())
            splits[split] = [
                photo(f"{split}/{name}", [int(label in name) for label in FolderOfImages.LABELS])
                for name in names
                if name.startswith(options["prefix"])
            ]
        return Source(FolderOfImages.LABELS, splits, (Count("train images", len(splits["train"]), 3),))


def photo(path, labels):
    """A Photo with one example, named as its file."""
    return Photo(path, (Example(path, tuple(labels)),))


def write_image(path, value):
    """Writes an image of 4 x 3 pixels, all of the colour (value, 0, 0)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (value, 0, 0)).save(path)


def write_source(folder, train=TRAIN, test=TEST):
    """Writes images of different colours, and returns the folder."""
    paths = [folder / "train" / name for name in train] + [folder / "test" / name for name in test]
    for number, path in enumerate(paths):
        write_image(path, number)
    return folder


def left_in(folder):
    """Everything under a folder, relative to it, sorted."""
    folder = Path(folder)  # tfds has paths of its own, which do not list subfolders
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def assert_same_files(folder, other):
    """Compares two folders: names and bytes, but of shards the records one by one.

    The protobuf of Python 3.10 puts the fields of equal records in any order.
    """
    names = left_in(folder)
    assert left_in(other) == names
    for name in names:
        paths = Path(folder) / name, Path(other) / name
        if "tfrecord" in name:
            records, others = (list(map(read_example, tf.data.TFRecordDataset(str(path)))) for path in paths)
            assert records == others, name
        elif paths[0].is_file():
            assert paths[0].read_bytes() == paths[1].read_bytes(), name


def read_example(serialized):
    return tf.train.Example.FromString(serialized.numpy())


def read_names(builder, split):
    """The names of a split's records in their order."""
    return [record["name"].decode() for record in tfds.as_numpy(builder.as_dataset(split=split))]


def prepared(builder_class, data_dir, source_dir, options=None, **settings):
    """Prepares and returns a builder; `processes` is 1 if nothing else is said."""
    settings = Settings(**{"processes": 1, **settings})
    builder = builder_class(data_dir=data_dir, source_dir=source_dir, options=options or {}, settings=settings)
    prepare(builder)
    return builder
