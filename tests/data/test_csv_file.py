"""A user's photographs from CSV files: labels, splits, and what is refused; records from a tiny folder."""

import tracemalloc

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from srn_tf.data import examples
from srn_tf.data.csv_file import CsvFile
from srn_tf.data.prepare import prepare
from srn_tf.errors import InputError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A source folder with empty files a.jpg to f.jpg, beside the working directory; reading opens no image."""
    (tmp_path / "photos").mkdir()
    for name in "abcdef":
        (tmp_path / "photos" / f"{name}.jpg").touch()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "photos"


def read(folder, **options):
    """Reads with the given options; values that hold a newline are written to files first."""
    for name, value in options.items():
        if isinstance(value, str) and "\n" in value:
            options[name] = f"{name}.txt"
            (folder / options[name]).write_text(value)
    return CsvFile.read(str(folder), {**CsvFile.OPTIONS, **options})


def truths(source):
    """split -> path -> labels."""
    return {
        split: {photo.path: tuple(photo.examples[0].labels) for photo in photos}
        for split, photos in source.splits.items()
    }


COLUMNS = "image,dog,cat,split\nb.jpg,1,0,test\na.jpg,1,1,train\nc.jpg,0,0,val\nd.jpg,0,1,train\n"
LISTS = "image,labels,split\nb.jpg,dog,test\na.jpg,dog;cat,train\nc.jpg,,val\nd.jpg,cat,train\n"


def test_records_of_both_forms(folder):
    source = read(folder, csv=COLUMNS)
    assert source.labels == ("dog", "cat")
    assert truths(source) == {
        "train": {"a.jpg": (1, 1), "d.jpg": (0, 1)},
        "validation": {"c.jpg": (0, 0)},
        "test": {"b.jpg": (1, 0)},
    }
    assert list(source.splits) == ["train", "validation", "test"]
    photo = source.splits["test"][0]
    assert (photo.path, len(photo.examples), photo.examples[0].name) == ("b.jpg", 1, "b.jpg")
    assert (photo.examples[0].objects, photo.examples[0].crop, source.counts) == ((), None, ())

    lists = read(folder, csv=LISTS)  # The same photographs; their labels by the alphabet.
    assert lists.labels == ("cat", "dog")
    assert truths(lists) == {
        split: {path: labels[::-1] for path, labels in photos.items()} for split, photos in truths(source).items()
    }


PARTLY = "image,dog,cat,split\nb.jpg,1,0,test\na.jpg,-1,1,train\nc.jpg,,0,val\nd.jpg,0,-1,train\n"


def test_unspecified_labels(folder):
    source = read(folder, csv=PARTLY, unspecified_marks="-1, empty")
    assert truths(source) == {
        "train": {"a.jpg": (0, 1), "d.jpg": (-1, 0)},
        "validation": {"c.jpg": (0, -1)},
        "test": {"b.jpg": (1, -1)},
    }
    assert "No image of train has: dog." in source.notes
    assert ("unspecified", "3 cells") in source.form
    mixed = "image,dog,cat,cow\n" + "".join(f"{name}.jpg,{i % 2},-1,0\n" for i, name in enumerate("abcdef"))
    splits = truths(read(folder, csv=mixed, unspecified_marks="-1")).values()
    assert {truth for split in splits for truth in split.values()} == {(1, 0, -1), (-1, 0, -1)}


@pytest.mark.parametrize("content", [COLUMNS, LISTS])
def test_labels_file_gives_the_order(folder, content):
    source = read(folder, csv=content, labels_file="\n cat \n\ndog\n")
    assert source.labels == ("cat", "dog")
    assert truths(source)["test"] == {"b.jpg": (0, 1)}


def test_a_label_without_image_is_noted(folder):
    source = read(folder, csv=LISTS, labels_file="cat\ncow\ndog\n")
    assert truths(source)["test"] == {"b.jpg": (0, 0, 1)}
    assert source.notes == (
        "No image of train has: cow.",
        "No image of validation has: cat, cow, dog.",
        "No image of test has: cat, cow.",
    )


def test_names_by_the_case_are_different_and_noted(folder):
    source = read(folder, csv="image,labels,split\na.jpg,Cat;cat,train\nb.jpg,Cat;cat,test\n")
    assert source.labels == ("Cat", "cat")
    assert source.notes == ("Every image has: Cat, cat. Nothing can be learned from these labels.",)


@pytest.mark.parametrize("values", [(1, 0), (7, "x")])
def test_columns_that_the_labels_file_does_not_name_are_not_used(folder, values):
    content = "image,dog,checked,cat,split\na.jpg,1,{},0,train\nb.jpg,0,{},1,test\n".format(*values)
    source = read(folder, csv=content, labels_file="cat\ndog\n")
    assert truths(source) == {"train": {"a.jpg": (0, 1)}, "test": {"b.jpg": (1, 0)}}
    assert source.notes[0] == f"{folder}/csv.txt: columns not used: checked."


def test_spellings_of_one_name_are_one_label(folder):
    names = ("caf\u00e9", "cafe\u0301", "caf\u00e9\u200b", "\ufeffcaf\u00e9\u00a0")
    rows = [f"{path}.jpg,{name}" for path, name in zip("abcd", names, strict=True)]
    source = read(folder, csv="\n".join(["image,labels", *rows]), labels_file="cafe\u0301\n")
    assert source.labels == ("caf\u00e9",) and {row for rows in truths(source).values() for row in rows.values()} == {
        (1,)
    }
    assert read(folder, csv="\n".join(["image,labels", *rows])).labels == source.labels
    with pytest.raises(InputError, match="label names must differ. Received: 'caf\u00e9' twice"):
        read(folder, csv="image,labels\na.jpg,\n", labels_file="caf\u00e9\ncafe\u0301\n")
    with pytest.raises(InputError, match="columns must have different names. Received: 'caf\u00e9' twice"):
        read(folder, csv="image,caf\u00e9,cafe\u0301\na.jpg,1,0\n")


def test_a_missing_separator_is_warned_of_and_can_be_given(folder):
    content = "image,labels\na.jpg,cat dog\nb.jpg,cat\nc.jpg,dog\n"
    source = read(folder, csv=content)
    assert source.labels == ("cat", "cat dog", "dog")
    assert len(source.warnings) == 1
    assert "some labels consist of other labels' names: 'cat dog'. If these cells" in source.warnings[0]
    assert "--separator=' '" in source.warnings[0]
    listed = read(folder, csv=content, labels_file="cat\ncat dog\ndog\n")
    assert (listed.labels, listed.warnings) == (source.labels, ())
    source = read(folder, csv=content, separator=" ")
    assert (source.labels, source.warnings) == (("cat", "dog"), ())
    assert {path: labels for rows in truths(source).values() for path, labels in rows.items()}["a.jpg"] == (1, 1)


def test_names_that_are_confirmed(folder):
    content = "image,labels\na.jpg,None\nb.jpg,\nc.jpg,1\n"
    assert read(folder, csv=content, labels_file="None\n1\n").labels == ("None", "1")


def test_split_by_files(folder):
    source = read(
        folder,
        csv="image,dog,cat\na.jpg,1,0\nb.jpg,0,1\n",
        test_csv="photo,cat,dog\nc.jpg,1,0\n",  # other order of columns
        validation_csv="image,labels\nd.jpg,dog;cat\n",  # the other form
    )
    assert source.labels == ("dog", "cat")
    assert truths(source) == {
        "train": {"a.jpg": (1, 0), "b.jpg": (0, 1)},
        "test": {"c.jpg": (0, 1)},
        "validation": {"d.jpg": (1, 1)},
    }


def test_lists_in_two_files_share_the_alphabet(folder):
    source = read(folder, csv="image,labels\na.jpg,dog\n", test_csv="image,labels\nb.jpg,ape;dog\n")
    assert source.labels == ("ape", "dog")
    assert truths(source) == {"train": {"a.jpg": (0, 1)}, "test": {"b.jpg": (1, 1)}}
    assert "No image of train has: ape." in source.notes


def test_files_are_looked_for_here_first(folder):
    (folder / "labels.csv").write_text("image,labels,split\na.jpg,old,train\nb.jpg,old,test\n")
    assert read(folder, csv="labels.csv").labels == ("old",)
    (folder.parent / "work" / "labels.csv").write_text("image,labels,split\na.jpg,new,train\nb.jpg,new,test\n")
    assert read(folder, csv="labels.csv").labels == ("new",)
    assert read(folder, csv=str(folder / "labels.csv")).labels == ("old",)


def test_repeated_rows_are_merged(folder):
    source = read(folder, csv="image,cat,split\na.jpg,1,train\nb.jpg,0,test\n.\\a.jpg,1,train\na.jpg,1,train\n")
    assert truths(source) == {"train": {"a.jpg": (1,)}, "test": {"b.jpg": (0,)}}
    assert "2 rows merged with an earlier row of the same image." in source.notes


def test_columns_that_are_not_used_are_noted(folder):
    source = read(folder, csv="image,labels,year,split\na.jpg,cat,1999,train\nb.jpg,cat,2001,test\n")
    assert source.notes[0] == f"{folder}/csv.txt: columns not used: year."


def fifty(folder):
    """A CSV file of fifty photographs: every second has a cat, every fifth a dog, one an emu."""
    lines = ["image,cat,dog,emu"]
    for i in range(50):
        (folder / f"{i}.png").touch()
        lines.append(f"{i}.png,{int(i % 2 == 1)},{int(i % 5 == 2)},{int(i == 3)}")
    return "\n".join(lines) + "\n"


def test_stratified_split_of_fifty_photographs(folder):
    source = read(folder, csv=fifty(folder))
    found = truths(source)
    assert {split: len(photos) for split, photos in found.items()} == {"train": 40, "test": 10}
    assert {**found["train"], **found["test"]}.keys() == {f"{i}.png" for i in range(50)}
    positives = {split: np.sum(list(photos.values()), axis=0).tolist() for split, photos in found.items()}
    assert positives == {"train": [20, 8, 1], "test": [5, 2, 0]}  # 25, 10 and 1, by 4 to 1
    assert source.notes == (
        f"{folder}/csv.txt: every column except the path and a split is a label (3). To ignore columns, list the "
        "labels in a file for --labels_file.",
        "No image of test has: emu.",
    )
    assert list(found["train"]) == sorted(found["train"], key=lambda name: int(name[:-4]))  # the file's order


def test_stratified_split_has_its_options(folder):
    content = fifty(folder)
    tests = [set(truths(read(folder, csv=content, split_seed=seed, test_fraction=0.3))["test"]) for seed in (0, 0, 1)]
    assert len(tests[0]) == 15 and tests[0] == tests[1] != tests[2]
    splits = read(folder, csv=content, validation_fraction=0.1).splits
    assert {split: len(photos) for split, photos in splits.items()} == {"train": 35, "test": 10, "validation": 5}


# Bad input: one line that says where.

PLAIN = "image,labels\na.jpg,cat\nb.jpg,dog\n"

BAD = {
    "no csv": ({}, "csv must name the file", "--csv=labels.csv"),
    "csv missing": ({"csv": "none.csv"}, "none.csv must be a file in the current folder or in {folder}"),
    "test_csv missing": ({"csv": PLAIN, "test_csv": "none.csv"}, "none.csv must be a file"),
    "labels_file missing": ({"csv": PLAIN, "labels_file": "none.txt"}, "none.txt must be a file"),
    "no label at all": ({"csv": "image,labels\na.jpg,\nb.jpg,\n"}, "csv.txt must name at least one label"),
    "names by commas": (
        {"csv": 'image,labels\na.jpg,"cat,dog"\n'},
        "csv.txt, line 2: label names must be separated by ';'. Received: 'cat,dog'",
        "--labels_file",
    ),
    "names by bars": ({"csv": "image,labels\na.jpg,cat|dog\n"}, "must be separated by ';'. Received: 'cat|dog'"),
    "unknown label": (
        {"csv": "image,labels\na.jpg,cat\nb.jpg,dog;catt\n", "labels_file": "cat\ndog\n"},
        "csv.txt, line 3: labels must be among the 2 of {folder}/labels_file.txt. Received: 'catt'",
        "Did you mean 'cat'?",
    ),
    "label in another case": ({"csv": PLAIN, "labels_file": "Cat\ndog\n"}, "line 2", "'cat'. Did you mean 'Cat'?"),
    "unlike all labels": ({"csv": PLAIN, "labels_file": "dog\n"}, "Received: 'cat'. Correct the name"),
    "column of another name": (
        {"csv": "image,cat,dogs\na.jpg,1,0\n", "labels_file": "cat\ndog\n"},
        "csv.txt must have a column for every label of {folder}/labels_file.txt. Received: no column for dog, but "
        "columns 'dogs'. Add or rename",
    ),
    "what programs write for nothing": (
        {"csv": "image,labels\na.jpg,cat\nb.jpg,nan\n"},
        "csv.txt, line 3: a cell without labels must be empty. Received: 'nan'",
        "--labels_file",
    ),
    "None among names": ({"csv": "image,labels\na.jpg,cat;None\n"}, "must be empty. Received: 'None'"),
    "a list of Python": (
        {"csv": "image,labels\na.jpg,['cat']\n"},
        "must be written without brackets or quotes. Received: \"['",
    ),
    "semicolons with another separator": (
        {"csv": "image,labels\na.jpg,cat;dog\n", "separator": " "},
        "names must be separated by ' '. Received: 'cat;dog'",
    ),
    "no separator": ({"csv": PLAIN, "separator": ""}, "separator must not be empty"),
    "separator of columns": ({"csv": COLUMNS, "separator": " "}, "separator is for a column 'labels'"),
    "column missing": (
        {"csv": "image,dog\na.jpg,1\n", "labels_file": "cat\ndog\ncow\n"},
        "csv.txt must have a column for every label of {folder}/labels_file.txt. Received: no column for cat, cow",
    ),
    "test columns differ": (
        {"csv": "image,cat,dog\na.jpg,1,0\n", "test_csv": "image,cat,cow\nb.jpg,1,0\n"},
        "test_csv.txt, header: labels must be among the 2 of {folder}/csv.txt. Received: 'cow'",
    ),
    "test column missing": (
        {"csv": "image,cat,dog\na.jpg,1,0\n", "test_csv": "image,cat\nb.jpg,1\n"},
        "test_csv.txt must have a column for every label of {folder}/csv.txt. Received: no column for dog",
    ),
    "label file empty": ({"csv": PLAIN, "labels_file": "\n \n"}, "labels_file.txt must have one label name per line"),
    "label twice": ({"csv": PLAIN, "labels_file": "cat\ndog\ncat \n"}, "must differ. Received: 'cat' twice"),
    "image with other labels": (
        {"csv": "image,labels\na.jpg,cat\nb.jpg,cat\na.jpg,dog\n"},
        "csv.txt, line 4: rows of the same image must have the same labels. Received: a.jpg",
    ),
    "image in two splits": (
        {"csv": "image,labels,split\na.jpg,cat,train\nb.jpg,cat,test\na.jpg,cat,test\n"},
        "csv.txt, line 4: an image must be in one split. Received: a.jpg in test here, and in train in "
        "{folder}/csv.txt, line 2",
    ),
    "image in two files": (
        {"csv": PLAIN, "test_csv": "image,labels\nc.jpg,cat\n./b.jpg,dog\n"},
        "test_csv.txt, line 3: an image must be in one split. Received: b.jpg in test here, and in train in "
        "{folder}/csv.txt, line 3",
    ),
    "image missing": (
        {"csv": "image,labels\na.jpg,cat\nz.jpg,dog\ny.jpg,dog\n"},
        "Every image of {folder}/csv.txt must be in {folder}. Received: 2 of 3 missing, the first y.jpg",
        "relative to source_dir",
    ),
    "split column and test_csv": (
        {"csv": COLUMNS, "test_csv": "image,dog,cat\ne.jpg,1,0\n"},
        "or by test_csv, not by both. Received: test_csv, and column 'split' in {folder}/csv.txt",
    ),
    "split column in test_csv": (
        {"csv": PLAIN, "test_csv": "image,labels,split\ne.jpg,cat,test\n"},
        "or by test_csv, not by both. Received: test_csv, and column 'split' in {folder}/test_csv.txt",
    ),
    "no test rows": ({"csv": "image,labels,split\na.jpg,cat,train\nb.jpg,cat,val\n"}, "no row with split test"),
    "no train rows": ({"csv": "image,labels,split\na.jpg,cat,test\n"}, "no row with split train"),
    "validation_csv alone": ({"csv": PLAIN, "validation_csv": PLAIN}, "validation_csv needs test_csv"),
    "fraction and split column": (
        {"csv": COLUMNS, "validation_fraction": 0.1},
        "validation_fraction is for images that srn_tf splits. Received: 0.1 for images that come with splits",
    ),
    "fraction and files": (
        {"csv": PLAIN, "test_csv": "image,labels\nc.jpg,cat\n", "validation_fraction": 0.1},
        "validation_fraction is for images that srn_tf splits. Received: 0.1 for images that come with splits",
    ),
    "fraction of 1": ({"csv": PLAIN, "test_fraction": 1.0}, "test_fraction must be above 0", "Received: 1.0"),
    "marks of a list": (
        {"csv": PLAIN, "unspecified_marks": "empty"},
        "unspecified_marks needs one column per label, with 0, 1 or a mark. Received: {folder}/csv.txt, whose column",
    ),
    "a mark that says no": ({"csv": COLUMNS, "unspecified_marks": "0,-1"}, "not 0 or 1, such as -1 or empty. Received"),
    "an empty mark": ({"csv": COLUMNS, "unspecified_marks": "-1,"}, "Received: '-1,'. Write empty for an empty cell."),
    "another mark": ({"csv": PARTLY, "unspecified_marks": "empty"}, "must be 0 or 1. Received: '-1'", "_marks=-1"),
    "nothing known to be absent": (
        {"csv": "image,dog,cat,split\nb.jpg,1,-1,test\na.jpg,0,1,train\n", "unspecified_marks": "-1"},
        "csv.txt: the test images must have absent labels, with 0. Received: only 1 and unspecified. Write 0",
    ),
    "one image": ({"csv": "image,labels\na.jpg,cat\n"}, "The splits train, test need one image each. Received: 1"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input(folder, kind):
    options, *parts = BAD[kind]
    with pytest.raises(InputError) as error:
        read(folder, **options)
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert part.format(folder=folder) in text


def test_source_folder_missing_or_empty(tmp_path):
    with pytest.raises(
        InputError, match="source_dir must be a folder with .* Received: .*photos, which is not a folder"
    ):
        read(tmp_path / "photos")
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match="source_dir must be a folder with .* which is empty"):
        read(tmp_path / "photos")


# Records.


def test_records_of_a_prepared_folder(tmp_path):
    source = tmp_path / "photos"
    (source / "sub").mkdir(parents=True)
    rows = {"sub/a, b.png": ("red", "train"), "c.jpg": ("blue;red", "train"), "d.png": ("", "test")}
    lines = ["image,labels,split"]
    for i, (path, (labels, split)) in enumerate(rows.items()):
        Image.new("RGB", (20 + i, 10), (80 * i, 0, 9)).save(source / path)
        lines.append(f'"{path}",{labels},{split}')
    (source / "labels.csv").write_text("\n".join(lines))
    builder = CsvFile(data_dir=tmp_path / "data", source_dir=source, options={"csv": "labels.csv"})
    prepare(builder)
    assert builder.data_path.parts[-2:] == ("csv", "1.0.0")
    assert examples.label_names(builder) == ["blue", "red"]
    truth = {"sub/a, b.png": [0, 1], "c.jpg": [1, 1], "d.png": [0, 0]}
    for split, names in (("train", ["c.jpg", "sub/a, b.png"]), ("test", ["d.png"])):
        stored = builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()})
        records = {record["name"].decode(): record for record in tfds.as_numpy(stored)}
        assert sorted(records) == names
        for name, record in records.items():
            assert record["image"] == (source / name).read_bytes()
            assert record["labels"].dtype == np.int8 and record["labels"].tolist() == truth[name]
            assert len(record["objects"]["label"]) == 0


def test_memory_does_not_hold_every_label_of_every_image(folder):
    """1,000 images with 10,000 labels are 10 million numbers, 80 MB as a tuple for each image."""
    rows = [f"{i}.jpg,{';'.join(f'label {(i * k) % 10_000}' for k in (1, 7, 31))}" for i in range(1000)]
    for i in range(1000):
        (folder / f"{i}.jpg").touch()
    labels = "\n".join(f"label {i}" for i in range(10_000))
    tracemalloc.start()
    source = read(folder, csv="image,labels\n" + "\n".join(rows), labels_file=labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(source.labels) == 10_000 and sum(map(len, source.splits.values())) == 1000
    assert peak < 15e6
    assert max(map(len, source.notes)) < 2000  # of thousands of labels without images some are named
    assert any(note.startswith("No image of test has: label ") and note.endswith(" others.") for note in source.notes)


def test_labels_that_cannot_be_on_both_sides_are_named(folder):
    """Both images have both labels, and the third must stay in train for its own: someone misses either way."""
    csv = "image,labels,film\na.jpg,cat,1\nb.jpg,cat,1\nc.jpg,dog,2\nd.jpg,dog,2\n"
    source = read(folder, csv=csv, group_column="film", test_fraction=0.5)
    assert "Of the labels on two or more images, 2 could not be both in train and in test: cat, dog." in source.notes


@pytest.mark.parametrize(
    "cells, expected",
    [
        (("x,", ",X", "x,x", ","), {"a.jpg": (1, 0), "b.jpg": (0, 1), "c.jpg": (1, 1), "d.jpg": (0, 0)}),
        (("y,n", "n,Y", "y,y", "n,n"), {"a.jpg": (1, 0), "b.jpg": (0, 1), "c.jpg": (1, 1), "d.jpg": (0, 0)}),
        (("x,0", "0,1", "x,1", "0,0"), {"a.jpg": (1, 0), "b.jpg": (0, 1), "c.jpg": (1, 1), "d.jpg": (0, 0)}),
    ],
)
def test_marks_made_by_hand(folder, cells, expected):
    rows = [f"{name}.jpg,{marks},{size}\n" for name, marks, size in zip("abcd", cells, "sxmx", strict=True)]
    source = read(folder, csv="image,cat,dog,size\n" + "".join(rows), test_fraction=0.5)
    found = truths(source)
    assert {**found["train"], **found["test"]} == expected  # and `size`, with other letters, is no label
    says_empty = "cells of labels: x for a label that is there, empty for one that is not"
    assert any(says_empty in note for note in source.notes) == ("x," in cells)


def test_x_beside_another_yes_may_mean_that_nobody_knows(folder):
    """1, 0 and x: whoever writes 1 for yes writes x for something else."""
    csv = "image,cat,dog\na.jpg,1,0\nb.jpg,0,1\nc.jpg,X,1\nd.jpg,0,0\n"
    with pytest.raises(InputError, match="column 'cat': yes must be .* Received: x and 1. .*--unspecified_marks=x"):
        read(folder, csv=csv, test_fraction=0.5)
    found = truths(read(folder, csv=csv, test_fraction=0.5, unspecified_marks="x"))
    assert {**found["train"], **found["test"]}["c.jpg"] == (0, 1)


def test_empty_cells_beside_other_marks_than_x_are_not_taken(folder):
    for marks in ("y,n\nb.jpg,,y\n", "1,0\nb.jpg,,1\n", "x,0\nb.jpg,,x\n"):
        with pytest.raises(InputError, match="a label must be 0 or 1. Received: ''.*--unspecified_marks=empty"):
            read(folder, csv=f"image,cat,dog\na.jpg,{marks}")
