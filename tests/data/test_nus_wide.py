"""NUS-WIDE from tiny folders of the official layout: every record by hand, every variant, every bad input."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from srn_tf.data import nus_wide_lists
from srn_tf.data.nus_wide import NusWide
from srn_tf.data.nus_wide_lists import LABEL_NAMES
from srn_tf.data.prepare import prepare
from srn_tf.data.source import Count
from srn_tf.errors import InputError

# As written in the lists, and the concepts of each.
TRAIN = {
    r"actor\0001_2124494179.jpg": ("person", "sky"),
    r"actor\0002_174174086.jpg": (),
    r"zoo\0003_3.jpg": ("animal", "zebra"),
    r"beach\0004_4.jpg": ("person", "sky"),
}
TEST = {
    r"lake\0005_5.jpg": ("airport",),
    r"lake\0006_6.jpg": (),
    r"zoo\0007_7.jpg": ("lake", "water"),
}
LABELS = {"Flickr/" + path.replace("\\", "/"): labels for path, labels in {**TRAIN, **TEST}.items()}
TRAIN_PATHS, TEST_PATHS = list(LABELS)[:4], list(LABELS)[4:]

ASL_CSV = """\
filepath,label,split_name
images/0_1.jpg,"['clouds', 'sky']",train
images/1_2.jpg,['person'],val
images/2_3.jpg,"['sky', 'clouds']",train
"""


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def list_file(source, suffix):
    return source / "ImageList" / f"{suffix}Imagelist.txt"


def label_file(source, name, suffix="Train"):
    return source / "Groundtruth" / "TrainTestLabels" / f"Labels_{name}_{suffix}.txt"


@pytest.fixture
def source(tmp_path):
    """A source folder of the official layout with 4 + 3 images, which are empty files."""
    source = tmp_path / "nus"
    write(source / "ConceptsList" / "Concepts81.txt", "".join(f"{name}\n" for name in LABEL_NAMES))
    for suffix, rows in (("Train", TRAIN), ("Test", TEST)):
        write(list_file(source, suffix), "".join(f"{path}\n" for path in rows))
        for name in LABEL_NAMES:
            write(label_file(source, name, suffix), "".join(f"{int(name in labels)}\n" for labels in rows.values()))
    for path in LABELS:
        write(source / path, "")
    return source


@pytest.fixture
def csv_source(tmp_path):
    """A source folder of nus_wid_data.csv with 2 + 1 images, which are empty files."""
    source = tmp_path / "asl"
    write(source / "nus_wid_data.csv", ASL_CSV)
    for name in ("0_1", "1_2", "2_3"):
        write(source / "images" / f"{name}.jpg", "")
    return source


def read(source, **options):
    return NusWide.read(str(source), {**NusWide.OPTIONS, **options})


def contents(result):
    """Split -> {path: names of the positive labels}; every photo must be one example of the same name."""
    for photos in result.splits.values():
        for photo in photos:
            (example,) = photo.examples
            assert (example.name, example.objects, example.crop) == (photo.path, (), None)
            assert len(example.labels) == 81 and set(example.labels) <= {0, 1}
    return {
        split: {p.path: tuple(np.array(result.labels)[np.flatnonzero(p.examples[0].labels)]) for p in photos}
        for split, photos in result.splits.items()
    }


def picked(train, test):
    return {"train": {path: LABELS[path] for path in train}, "test": {path: LABELS[path] for path in test}}


def counts(result):
    return {count.what: (count.found, count.published) for count in result.counts}


OFFICIAL_COUNTS = {
    "train rows": (4, 161_789),
    "train rows without a label": (1, 36_340),
    "test rows": (3, 107_859),
    "test rows without a label": (1, 23_961),
}


def test_labels_are_the_81_concepts():
    assert len(LABEL_NAMES) == len(set(LABEL_NAMES)) == 81
    assert list(LABEL_NAMES) == sorted(LABEL_NAMES)
    assert [LABEL_NAMES.index(name) for name in ("airport", "cat", "lake", "person", "sky", "zebra")] == [
        *(0, 11, 34, 42, 55, 80)
    ]


# Variants.


def test_official(source):
    result = read(source)
    assert contents(result) == picked(TRAIN_PATHS, TEST_PATHS)
    assert [photo.path for photo in result.splits["train"]] == TRAIN_PATHS
    assert result.labels == LABEL_NAMES
    assert counts(result) == OFFICIAL_COUNTS
    assert result.notes == ()
    # Equal rows share their labels: 269,648 tuples of 81 would take some 180 MB.
    first, last = (result.splits["train"][i].examples[0].labels for i in (0, 3))
    assert first is last


@pytest.mark.parametrize("options", [{"variant": "labelled"}, {"keep_unlabelled": False}])
def test_labelled(source, options):
    (source / TRAIN_PATHS[1]).unlink()  # not asked for
    result = read(source, **options)
    assert contents(result) == picked([TRAIN_PATHS[i] for i in (0, 2, 3)], [TEST_PATHS[0], TEST_PATHS[2]])
    assert result.notes == (
        "train: 1 of 4 rows left out, without any label.",
        "test: 1 of 3 rows left out, without any label.",
    )
    if options == {"variant": "labelled"}:
        expected = {"train images with a label": (3, 125_449), "test images with a label": (2, 83_898)}
        assert counts(result) == {**OFFICIAL_COUNTS, **expected}


def test_available(source):
    for path in (TRAIN_PATHS[0], TRAIN_PATHS[1], TEST_PATHS[2]):
        (source / path).unlink()
    result = read(source, variant="available")
    assert contents(result) == picked(TRAIN_PATHS[2:], TEST_PATHS[:2])
    assert counts(result) == OFFICIAL_COUNTS
    assert result.notes == (
        "train: 2 of 4 rows left out, without an image file.",
        "test: 1 of 3 rows left out, without an image file.",
    )


def test_available_with_a_label(source):
    for path in (TRAIN_PATHS[0], TRAIN_PATHS[1], TEST_PATHS[2]):
        (source / path).unlink()
    result = read(source, variant="available", keep_unlabelled=False)
    assert contents(result) == picked(TRAIN_PATHS[2:], TEST_PATHS[:1])
    assert result.notes == (
        "train: 1 of 4 rows left out, without any label.",
        "test: 1 of 3 rows left out, without any label.",
        "train: 1 of 3 rows left out, without an image file.",
        "test: 1 of 2 rows left out, without an image file.",
    )


def test_list(source, tmp_path):
    chosen = ["zoo/0003_3.jpg", r"actor\0001_2124494179.jpg", r"Flickr\zoo\0007_7.jpg", "Flickr/lake/0006_6.jpg"]
    write(tmp_path / "mine.txt", "\n".join(chosen))
    (source / TRAIN_PATHS[1]).unlink()  # not asked for
    result = read(source, variant="list", list_file=str(tmp_path / "mine.txt"))
    assert contents(result) == picked([TRAIN_PATHS[0], TRAIN_PATHS[2]], TEST_PATHS[1:])
    published = "images of the list (published: that of SRN's authors)"
    expected = {f"train {published}": (2, 119_986), f"test {published}": (2, 80_283)}
    assert counts(result) == {**OFFICIAL_COUNTS, **expected}
    assert result.notes == (
        "train: 2 of 4 rows left out, not in the list.",
        "test: 1 of 3 rows left out, not in the list.",
    )


def test_list_as_the_authors_write_it(source):
    """The number of labels after each path; found in the source folder."""
    write(source / "srn.txt", "Flickr/zoo/0003_3.jpg 2\r\nFlickr/zoo/0007_7.jpg 2\r\nFlickr/lake/0005_5.jpg 1\r\n\r\n")
    result = read(source, variant="list", list_file="srn.txt")
    assert contents(result) == picked([TRAIN_PATHS[2]], [TEST_PATHS[0], TEST_PATHS[2]])


def test_csv(csv_source):
    result = read(csv_source, variant="csv")
    assert contents(result) == {
        "train": {"images/0_1.jpg": ("clouds", "sky"), "images/2_3.jpg": ("clouds", "sky")},
        "test": {"images/1_2.jpg": ("person",)},
    }
    assert result.labels == LABEL_NAMES
    assert result.counts == ()
    assert result.notes == (
        "csv: its split is random, not the official one; results cannot be compared with those on that.",
    )


def test_csv_of_another_name(csv_source, tmp_path):
    rows = " split_name , filepath , label , extra\r\nval, images/0_1.jpg , \"['sky']\" ,1\r\n"
    rows += "train,images\\1_2.jpg,[],2\r\ntrain,./images/2_3.jpg,['cat'],\r\n  \r\n"
    write(tmp_path / "own.csv", b"\xef\xbb\xbf" + rows.encode())
    (csv_source / "nus_wid_data.csv").unlink()
    result = read(csv_source, variant="csv", csv_file=str(tmp_path / "own.csv"))
    assert contents(result) == {
        "train": {"images/1_2.jpg": (), "images/2_3.jpg": ("cat",)},
        "test": {"images/0_1.jpg": ("sky",)},
    }
    result = read(csv_source, variant="csv", csv_file=str(tmp_path / "own.csv"), keep_unlabelled=False)
    assert contents(result)["train"] == {"images/2_3.jpg": ("cat",)}


# What the files may look like.


def test_untidy_files(source):
    """A byte-order mark, CRLF, spaces around values, blank lines at the end, no line end at the end."""
    write(
        list_file(source, "Train"), b"\xef\xbb\xbf" + "\r\n".join(f" {path} " for path in TRAIN).encode() + b"\r\n\r\n"
    )
    write(label_file(source, "sky"), b"\xef\xbb\xbf1 \r\n 0\r\n0\r\n1\r\n \r\n\n")
    write(label_file(source, "zebra"), "0\n0\n1\n0")
    write(source / "ConceptsList" / "Concepts81.txt", "\r\n".join(f"{name} " for name in LABEL_NAMES) + "\r\n\r\n")
    assert contents(read(source)) == picked(TRAIN_PATHS, TEST_PATHS)


def test_a_repeated_row_is_merged(source):
    write(list_file(source, "Test"), "\n".join([*TEST, r"zoo\0007_7.jpg"]))
    for name in LABEL_NAMES:
        path = label_file(source, name, "Test")
        write(path, path.read_text() + f"{int(name in ('lake', 'water'))}\n")
    result = read(source)
    assert contents(result) == picked(TRAIN_PATHS, TEST_PATHS)
    assert result.counts[2] == Count("test rows", 4, 107_859)
    assert result.notes == ("test: 1 rows name an image of an earlier row and were merged.",)


def test_the_damaged_value_of_the_official_files(source, monkeypatch):
    assert nus_wide_lists._DAMAGED == ("Labels_lake_Train.txt", 78_372, "-1130179")
    monkeypatch.setattr(nus_wide_lists, "_DAMAGED", ("Labels_lake_Train.txt", 3, "-1130179"))
    write(label_file(source, "lake"), "0\n0\n-1130179\n0\n")
    result = read(source)
    assert contents(result) == picked(TRAIN_PATHS, TEST_PATHS)
    assert result.notes == ("Labels_lake_Train.txt, line 3: the value -1130179 of the official file was read as 0.",)
    # Nothing else is mended: a repaired file, another line, another file.
    write(label_file(source, "lake"), "0\n0\n1\n0\n")
    result = read(source)
    assert contents(result)["train"][TRAIN_PATHS[2]] == ("animal", "lake", "zebra")
    assert result.notes == ()
    write(label_file(source, "lake"), "0\n-1130179\n0\n0\n")
    assert_refused(source, {}, "Labels_lake_Train.txt, line 2: a label must be 0 or 1. Received: '-1130179'.")
    write(label_file(source, "lake"), "0\n0\n0\n0\n")
    write(label_file(source, "fox"), "0\n0\n-1130179\n0\n")
    assert_refused(source, {}, "Labels_fox_Train.txt, line 3: a label must be 0 or 1. Received: '-1130179'.")


# Bad input: one line.


def assert_refused(source, options, *parts):
    with pytest.raises(InputError) as error:
        read(source, **options)
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert part in text


def concepts(*names):
    return "\n".join(names)


BAD_FILES = {
    "no concepts": ("ConceptsList/Concepts81.txt", None, "Concepts81.txt must exist", "ImageList/TrainImagelist.txt"),
    "other concepts": (
        "ConceptsList/Concepts81.txt",
        concepts("airport", "animals", *LABEL_NAMES[2:]),
        "Concepts81.txt, line 2: the 81 concepts must be those of NUS-WIDE, in alphabetical order, here animal. "
        "Received: animals.",
    ),
    "short concepts": (
        "ConceptsList/Concepts81.txt",
        concepts(*LABEL_NAMES[:80]),
        "line 81",
        "here zebra. Received: none",
    ),
    "long concepts": (
        "ConceptsList/Concepts81.txt",
        concepts(*LABEL_NAMES, "zoo"),
        "line 82",
        "here none. Received: zoo",
    ),
    "no list": (
        "ImageList/TestImagelist.txt",
        None,
        "ImageList/TestImagelist.txt must exist. Received: no such file",
        "Groundtruth/TrainTestLabels/Labels_<concept>_Train.txt",
    ),
    "empty list": (
        "ImageList/TrainImagelist.txt",
        "\n",
        "Labels_airport_Train.txt must have one line per image of",
        "TrainImagelist.txt. Received: 4 lines for 0 images.",
    ),
    "no labels": (
        "Groundtruth/TrainTestLabels/Labels_cat_Test.txt",
        None,
        "Labels_cat_Test.txt must exist. Received: no such file",
        "Flickr/<tag>/*.jpg",
    ),
    "short labels": (
        "Groundtruth/TrainTestLabels/Labels_cat_Test.txt",
        "0\n0\n",
        "Labels_cat_Test.txt must have one line per image of",
        "ImageList/TestImagelist.txt. Received: 2 lines for 3 images.",
    ),
    "a label left out": (
        "Groundtruth/TrainTestLabels/Labels_cat_Test.txt",
        "0\n\n0\n",
        "Test.txt, line 2",
        "Received: ''",
    ),
    "another value": (
        "Groundtruth/TrainTestLabels/Labels_fox_Train.txt",
        "0\n1\n0\n2\n",
        "Labels_fox_Train.txt, line 4: a label must be 0 or 1. Received: '2'.",
    ),
    "two values in a line": (
        "Groundtruth/TrainTestLabels/Labels_fox_Train.txt",
        "0\n1 0\n0\n0\n",
        "Labels_fox_Train.txt, line 2: a label must be 0 or 1. Received: '1 0'.",
    ),
    "labels not text": (
        "Groundtruth/TrainTestLabels/Labels_fox_Train.txt",
        b"0\n0\n\xff\n0\n",
        "Labels_fox_Train.txt must be text in UTF-8. Received: byte 0xff in line 3.",
    ),
    "list not text": (
        "ImageList/TrainImagelist.txt",
        "caf\u00e9\\1_1.jpg".encode("latin-1"),
        "TrainImagelist.txt must be text in UTF-8. Received: byte 0xe9 in line 1.",
    ),
    "climbing": (
        "ImageList/TestImagelist.txt",
        "a\\1_1.jpg\n..\\..\\2_2.jpg\na\\3_3.jpg",
        "TestImagelist.txt, line 2: a path must stay inside the source folder. Received: '..\\\\..\\\\2_2.jpg'.",
    ),
    "absolute": ("ImageList/TestImagelist.txt", "C:\\a\\1_1.jpg\nb\\2_2.jpg\nb\\3_3.jpg", "TestImagelist.txt, line 1"),
    "a line left out": ("ImageList/TestImagelist.txt", "b\\1_1.jpg\n\nb\\3_3.jpg", "TestImagelist.txt, line 2", "''"),
    "an image twice with other labels": (
        "ImageList/TestImagelist.txt",
        "lake\\0005_5.jpg\nlake\\0006_6.jpg\nlake/0005_5.jpg",
        "TestImagelist.txt, line 3: rows of the same image must have the same labels. Received: Flickr/lake/0005_5.jpg",
    ),
    "an image in both lists": (
        "ImageList/TestImagelist.txt",
        "actor/0002_174174086.jpg\nlake\\0006_6.jpg\nzoo\\0003_3.jpg",
        "one split only in ImageList/TrainImagelist.txt and TestImagelist.txt",
        "Received: 2 in both, the first Flickr/actor/0002_174174086.jpg.",
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_official_files(source, kind):
    name, text, *parts = BAD_FILES[kind]
    if text is None:
        (source / name).unlink()
    else:
        write(source / name, text)
    for variant in ("official", "available"):
        assert_refused(source, {"variant": variant}, *parts)


def test_images_missing(source):
    (source / TRAIN_PATHS[3]).unlink()
    (source / TEST_PATHS[1]).unlink()  # has no label
    advice = "prepare those you have with --variant=available"
    assert_refused(source, {}, "2 of 7 missing, the first Flickr/beach/0004_4.jpg.", f"{advice}.")
    assert_refused(source, {"variant": "labelled"}, "1 of 5 missing", f"{advice} --nokeep_unlabelled.")


def test_no_image_of_a_split(source):
    for path in TEST_PATHS:
        (source / path).unlink()
    refusal = "Split test must keep at least one image. Received: 3 rows, all without an image file."
    assert_refused(source, {"variant": "available"}, refusal)


def test_empty_official_files(source):
    write(list_file(source, "Test"), "")
    for name in LABEL_NAMES:
        write(label_file(source, name, "Test"), "")
    assert_refused(source, {}, "TestImagelist.txt must list at least one test image. Received: none.")


@pytest.mark.parametrize("folder", ["Groundtruth/TrainTestLabels", "Groundtruth", "NUS_WID_Tags", "."])
def test_user_tags_instead_of_the_ground_truth(source, folder):
    for path in (source / "Groundtruth" / "TrainTestLabels").iterdir():
        path.unlink()
    write(source / folder / "Train_Tags81.txt", "0 " * 81)
    assert_refused(
        source,
        {},
        "Labels_airport_Train.txt must exist: it has the ground truth",
        "Train_Tags81.txt, with the tags that Flickr users gave",
    )


def test_user_tags_beside_the_ground_truth_do_not_matter(source):
    write(source / "NUS_WID_Tags" / "Train_Tags81.txt", "0 " * 81)
    assert contents(read(source)) == picked(TRAIN_PATHS, TEST_PATHS)


@pytest.mark.parametrize("variant, option", [("list", "list_file"), ("csv", "csv_file")])
def test_user_tags_as_a_list(source, variant, option):
    write(source / "Test_Tags81.txt", "0 " * 81)
    options = {"variant": variant, option: str(source / "Test_Tags81.txt")}
    assert_refused(source, options, "Test_Tags81.txt must not be a file of user tags", "They are not the ground truth")


BAD_LISTS = {
    "unknown image": (
        "zoo/0003_3.jpg\nzoo/0008_8.jpg\n",
        "line 2: an image must be in TrainImagelist.txt or TestImagelist.txt. Received: zoo/0008_8.jpg",
    ),
    "row number": ("17\n", "line 1: an image must be in", "Received: 17, which is in neither"),
    "more than a path": (
        "zoo/0003_3.jpg 1 0 1\n",
        "line 1: a line must be the path of one image",
        "'zoo/0003_3.jpg 1 0 1'",
    ),
    "blank line": ("zoo/0003_3.jpg\n\nzoo/0007_7.jpg", "line 2: a line must be the path of one image", "Received: ''"),
    "climbing": ("../zoo/0003_3.jpg\n", "line 1: a path must stay inside the source folder"),
    "no train image": (
        "zoo/0007_7.jpg\n",
        "Split train must keep at least one image. Received: 4 rows, all not in the list.",
    ),
    "empty": ("", "Split train must keep at least one image"),
    "not text": (b"zoo/0003_3.jpg\n\xe9", "must be text in UTF-8. Received: byte 0xe9 in line 2"),
}


@pytest.mark.parametrize("kind", BAD_LISTS)
def test_bad_list(source, tmp_path, kind):
    text, *parts = BAD_LISTS[kind]
    write(tmp_path / "mine.txt", text)
    assert_refused(source, {"variant": "list", "list_file": str(tmp_path / "mine.txt")}, *parts)


def test_image_of_the_list_missing(source):
    write(source / "mine.txt", "zoo/0003_3.jpg\nzoo/0007_7.jpg")
    (source / TEST_PATHS[2]).unlink()
    assert_refused(
        source,
        {"variant": "list", "list_file": "mine.txt"},
        "Every image of",
        "mine.txt must be in",
        "Received: 1 of 2 missing, the first Flickr/zoo/0007_7.jpg.",
    )


HEADER = "filepath,label,split_name\n"
BAD_CSVS = {
    "other columns": (
        "path,label,split\nimages/0_1.jpg,['sky'],train\n",
        "nus_wid_data.csv must have the columns filepath, label, split_name. Received: 'path, label, split'.",
    ),
    "empty": ("", "must have the columns filepath, label, split_name. Received: ''."),
    "unknown label": (
        HEADER + "images/0_1.jpg,\"['sky', 'skies']\",train\n",
        "line 2: a label must be one of the 81 concepts of NUS-WIDE. Received: 'skies'.",
    ),
    "label not a list": (
        HEADER + "images/0_1.jpg,sky,train\n",
        "line 2: label must be a list of names",
        "Received: 'sky'.",
    ),
    "label a tuple": (HEADER + "images/0_1.jpg,\"('sky', 'cat')\",train\n", "line 2: label must be a list of names"),
    "label of numbers": (HEADER + 'images/0_1.jpg,"[1, 2]",train\n', "line 2: label must be a list of names"),
    "label a program": (HEADER + "images/0_1.jpg,list('a'),train\n", "line 2: label must be a list of names"),
    "label very deep": (HEADER + f"images/0_1.jpg,{'[' * 5000},train\n", "line 2: label must be a list of names"),
    "label not quoted": (
        HEADER + "images/0_1.jpg,['sky', 'cat'],train\n",
        "line 2: a row must have 3 columns.",
        "A list of several labels needs double quotes",
    ),
    "short row": (HEADER + "images/0_1.jpg,['sky']\n", "line 2: a row must have 3 columns."),
    "unknown split": (
        HEADER + "images/0_1.jpg,['sky'],test\n",
        "line 2: split_name must be train or val. Received: 'test'.",
    ),
    "climbing": (HEADER + "../0_1.jpg,['sky'],train\n", "line 2: a path must stay inside the source folder"),
    "two truths": (
        ASL_CSV + "images/0_1.jpg,['sky'],train\n",
        "line 5: rows of the same image must have the same labels. Received: images/0_1.jpg",
    ),
    "in both splits": (
        ASL_CSV + "images/1_2.jpg,['person'],train\n",
        "An image must be in one split only in",
        "nus_wid_data.csv. Received: 1 in both, the first images/1_2.jpg.",
    ),
    "no test row": (HEADER + "images/0_1.jpg,['sky'],train\n", "must list at least one test image. Received: none."),
    "endless field": (
        HEADER + f"images/{'0' * 140_000}.jpg,['sky'],train\n",
        "must be a table in CSV. Received: field larger",
    ),
    "not text": (
        HEADER.encode() + b"images/0_\xe9.jpg,['sky'],train\n",
        "must be text in UTF-8. Received: byte 0xe9 in line 2",
    ),
}


@pytest.mark.parametrize("kind", BAD_CSVS)
def test_bad_csv(csv_source, kind):
    text, *parts = BAD_CSVS[kind]
    write(csv_source / "nus_wid_data.csv", text)
    assert_refused(csv_source, {"variant": "csv"}, str(csv_source / "nus_wid_data.csv"), *parts)


def test_csv_repeated_row(csv_source):
    write(csv_source / "nus_wid_data.csv", ASL_CSV + "images/0_1.jpg,\"['sky', 'clouds']\",train\n")
    result = read(csv_source, variant="csv")
    assert [photo.path for photo in result.splits["train"]] == ["images/0_1.jpg", "images/2_3.jpg"]
    assert result.notes[0] == "train: 1 rows name an image of an earlier row and were merged."


def test_csv_or_its_images_missing(csv_source):
    (csv_source / "images" / "1_2.jpg").unlink()
    assert_refused(csv_source, {"variant": "csv"}, "Received: 1 of 3 missing, the first images/1_2.jpg.")
    (csv_source / "nus_wid_data.csv").unlink()
    assert_refused(csv_source, {"variant": "csv"}, "nus_wid_data.csv must exist", "images/*.jpg")


BAD_OPTIONS = {
    "unknown variant": (
        {"variant": "clean"},
        "variant must be one of official, labelled, available, list, csv. Received: 'clean'.",
    ),
    "no list": ({"variant": "list"}, "variant list needs list_file"),
    "missing list": ({"variant": "list", "list_file": "x.txt"}, "x.txt must be a file", "no such file"),
    "missing csv": ({"variant": "csv", "csv_file": "x.csv"}, "x.csv must be a file", "no such file"),
    "list of another variant": (
        {"list_file": "x.txt"},
        "list_file is for variant list. Received: list_file with variant official.",
    ),
    "csv of another variant": ({"csv_file": "x.csv", "variant": "labelled"}, "csv_file is for variant csv."),
}


@pytest.mark.parametrize("kind", BAD_OPTIONS)
def test_bad_options(source, kind):
    options, *parts = BAD_OPTIONS[kind]
    assert_refused(source, options, *parts)


@pytest.mark.parametrize("variant, layout", [("official", "ConceptsList/Concepts81.txt"), ("csv", "nus_wid_data.csv")])
def test_source_missing_or_empty(tmp_path, variant, layout):
    assert_refused(tmp_path / "nus", {"variant": variant}, "source_dir must be a folder", layout)
    (tmp_path / "nus").mkdir()
    assert_refused(tmp_path / "nus", {"variant": variant}, "source_dir must be a folder with", layout)


# From end to end.


def test_prepared_records(source, tmp_path):
    for number, path in enumerate(LABELS):
        Image.new("RGB", (24 + number, 16), (30 * number, 200, 90)).save(source / path)
    builder = NusWide(data_dir=tmp_path / "data", source_dir=source, options={"variant": "labelled"})
    prepare(builder)
    expected = picked([TRAIN_PATHS[i] for i in (0, 2, 3)], [TEST_PATHS[0], TEST_PATHS[2]])
    for split, labels in expected.items():
        records = {record["name"].decode(): record for record in tfds.as_numpy(builder.as_dataset(split=split))}
        assert set(records) == set(labels)
        for path, record in records.items():
            assert [LABEL_NAMES[i] for i in np.flatnonzero(record["labels"] == 1)] == sorted(labels[path])
            assert (record["labels"] == 0).sum() == 81 - len(labels[path])
            assert len(record["objects"]["label"]) == 0
            assert record["image"].shape == (16, 24 + list(LABELS).index(path), 3)
            np.testing.assert_allclose(record["image"][8, 8], (30 * list(LABELS).index(path), 200, 90), atol=4)
