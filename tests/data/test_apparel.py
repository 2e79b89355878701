"""Apparel from a tiny folder of its layout: labels, halves of every folder, counts, and what is refused."""

import os

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from srn_tf.data import examples
from srn_tf.data.apparel import LABEL_NAMES, PUBLISHED, Apparel
from srn_tf.data.prepare import prepare
from srn_tf.errors import InputError

SIZES = {"black_shoes": 4, "green_shorts": 6, "white_dress": 1}


@pytest.fixture
def folder(tmp_path):
    """A source folder with the (empty) images of `SIZES`; reading opens none."""
    for kind, number in SIZES.items():
        (tmp_path / "apparel" / kind).mkdir(parents=True)
        for i in range(number):
            (tmp_path / "apparel" / kind / f"{i:02d}.jpg").touch()  # the same names in every folder
    return tmp_path / "apparel"


def read(folder, **options):
    return Apparel.read(str(folder), {**Apparel.OPTIONS, **options})


def names(source):
    """split -> paths."""
    return {split: [photo.path for photo in photos] for split, photos in source.splits.items()}


def of_kind(paths, kind):
    return sum(path.startswith(kind + "/") for path in paths)


def test_tables():
    assert LABEL_NAMES == (
        *("black", "blue", "brown", "green", "red", "white"),
        *("dress", "pants", "shirt", "shoes", "shorts"),
    )
    assert len(PUBLISHED) == 24 and sum(PUBLISHED.values()) == 11_385
    # Sums over types and over colours, added up by hand.
    totals = {label: sum(n for kind, n in PUBLISHED.items() if label in kind.split("_")) for label in LABEL_NAMES}
    assert totals == {
        **{"black": 3130, "blue": 2863, "brown": 815, "green": 1047, "red": 1718, "white": 1812},
        **{"dress": 2570, "pants": 2789, "shirt": 1686, "shoes": 3418, "shorts": 922},
    }


def test_labels_are_a_colour_and_a_type(folder):
    source = read(folder)
    assert source.labels == LABEL_NAMES
    labels = {photo.path: photo.examples[0].labels for photos in source.splits.values() for photo in photos}
    assert len(labels) == 11
    assert labels["black_shoes/02.jpg"] == (1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0)
    assert labels["green_shorts/05.jpg"] == (0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1)
    assert labels["white_dress/00.jpg"] == (0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0)
    photo = source.splits["train"][0]
    assert (photo.examples[0].name, photo.examples[0].objects, photo.examples[0].crop) == (photo.path, (), None)


@pytest.mark.parametrize("seed", range(4))
def test_every_folder_is_halved(folder, seed):
    halves = names(read(folder, split_seed=seed))
    assert sorted(map(len, halves.values())) == [5, 6]
    for paths in halves.values():
        assert of_kind(paths, "black_shoes") == 2 and of_kind(paths, "green_shorts") == 3


def test_the_split_has_its_options(folder):
    assert names(read(folder)) == names(read(folder, split_seed=10)) != names(read(folder, split_seed=11))
    test = names(read(folder, test_fraction=0.25))["test"]
    assert len(test) == 3 and of_kind(test, "black_shoes") == 1  # 11 x 0.25 and 4 x 0.25, rounded
    with pytest.raises(InputError, match="test_fraction must be above 0"):
        read(folder, test_fraction=0.0)


@pytest.mark.slow
def test_the_published_counts(tmp_path):
    for kind, number in PUBLISHED.items():
        (tmp_path / kind).mkdir()
        for i in range(number):
            os.close(os.open(tmp_path / kind / f"{i}.jpg", os.O_CREAT))
    source = read(tmp_path)
    assert len(source.counts) == 25 and all(count.found == count.published for count in source.counts)
    halves = names(source)
    assert sorted(map(len, halves.values())) == [5692, 5693]
    for kind, number in PUBLISHED.items():
        assert of_kind(halves["test"], kind) in (number // 2, (number + 1) // 2)


def test_counts_that_differ(folder):
    (folder / "brown_dress").mkdir()  # words that are known, but no published folder
    (folder / "brown_dress" / "a.png").touch()
    counts = {count.what: (count.found, count.published) for count in read(folder).counts}
    assert len(counts) == 26
    assert counts["images of black_shoes"] == (4, 766)
    assert counts["images of red_pants"] == (0, 308)
    assert counts["images of brown_dress"] == (1, 0)
    assert counts["images"] == (12, 11_385)


def test_other_files(folder):
    assert read(folder).notes == ()
    (folder / "black_shoes" / ".hidden.jpg").touch()
    (folder / ".DS_Store").touch()
    (folder / "black_shoes" / "UPPER.JPEG").touch()
    (folder / "black_shoes" / "list.txt").touch()
    (folder / "white_dress" / "more").mkdir()
    (folder / "readme.md").touch()
    source = read(folder)
    assert source.notes == ("3 entries that are not images were passed over.",)
    listed = set().union(*names(source).values())
    assert len(listed) == 12 and "black_shoes/UPPER.JPEG" in listed


# Bad input: one line.


@pytest.mark.parametrize("name", ["purple_dress", "black_hat", "black", "dress_black", "Black_dress", "black_dress_2"])
def test_unknown_folder(folder, name):
    (folder / name).mkdir()
    with pytest.raises(InputError) as error:
        read(folder)
    assert f"Folders of {folder} must be named <colour>_<type>, with a colour of black, blue, " in str(error.value)
    assert f"Received: '{name}'" in str(error.value) and "\n" not in str(error.value)


def test_nothing_to_read(tmp_path):
    with pytest.raises(InputError, match="source_dir must be a folder"):
        read(tmp_path / "none")
    with pytest.raises(InputError, match="which is empty"):
        read(tmp_path)
    (tmp_path / "apparel.zip").touch()
    with pytest.raises(InputError, match="must have a folder <colour>_<type> .* Received: 0 such folder"):
        read(tmp_path)
    (tmp_path / "black_shoes").mkdir()
    with pytest.raises(InputError, match="Received: 1 such folder.* without any image"):
        read(tmp_path)


def test_name_that_is_not_utf8(folder):
    with open(os.fsencode(folder / "green_shorts") + b"/caf\xe9.jpg", "wb"):
        pass
    with pytest.raises(InputError) as error:
        read(folder)
    assert f"Names of images must be UTF-8. Received: b'caf\\xe9.jpg' in {folder}/green_shorts" in str(error.value)
    str(error.value).encode()


def test_folder_that_cannot_be_read(folder, monkeypatch):
    listdir = os.listdir

    def refuse(path):
        if str(path).endswith("green_shorts"):
            raise PermissionError(13, "Permission denied", path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(InputError, match="green_shorts must be readable. Received: Permission denied"):
        read(folder)


# Records.


def test_records_of_a_prepared_folder(folder, tmp_path):
    for i, path in enumerate(sorted(folder.glob("*/*.jpg"))):
        Image.new("RGB", (20, 10 + i), (20 * i, 0, 9)).save(path)
    builder = Apparel(data_dir=tmp_path / "data", source_dir=folder, options={"split_seed": 3})
    prepare(builder)
    assert examples.label_names(builder) == list(LABEL_NAMES)
    source = read(folder, split_seed=3)
    for split, photos in source.splits.items():
        stored = builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()})
        records = {record["name"].decode(): record for record in tfds.as_numpy(stored)}
        assert sorted(records) == sorted(photo.path for photo in photos)
        for photo in photos:
            record = records[photo.path]
            assert record["image"] == (folder / photo.path).read_bytes()
            assert record["labels"].dtype == np.int8
            assert tuple(record["labels"]) == photo.examples[0].labels
