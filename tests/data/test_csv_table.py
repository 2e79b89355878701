"""CSV files of photographs and labels: both forms row by row, and what is refused."""

import pytest

from srn_tf.data.csv_table import read_table
from srn_tf.data.listing import Row
from srn_tf.errors import InputError


@pytest.fixture
def write(tmp_path):
    """Writes a CSV file of the given text or bytes, and returns its path."""

    def write_file(content):
        path = tmp_path / "labels.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write_file


def row(path, line, name, present, split=None):
    return Row(f"{path}, line {line}", name, frozenset(present), split)


def test_lists_of_names(write):
    path = write("image,labels\na.jpg,cat;dog\nsub/b.jpg,\nc.jpg, hot  dog ;;cat; cat\n")
    table = read_table(path)
    assert (table.path, table.labels, table.has_split, table.unused) == (path, None, False, ())
    assert table.rows == (
        row(path, 2, "a.jpg", ["cat", "dog"]),
        row(path, 3, "sub/b.jpg", []),
        row(path, 4, "c.jpg", ["cat", "hot dog"]),
    )


def test_columns_of_0_and_1(write):
    path = write("file,dog,SPLIT,cat\na.jpg,0,train,1\nb.jpg,1,Val,1\nc.jpg, 0 ,test,0\nd.jpg,1,validation,0\n")
    table = read_table(path)
    assert (table.labels, table.has_split, table.unused) == (("dog", "cat"), True, ())
    assert table.rows == (
        row(path, 2, "a.jpg", ["cat"], "train"),
        row(path, 3, "b.jpg", ["dog", "cat"], "validation"),
        row(path, 4, "c.jpg", [], "test"),
        row(path, 5, "d.jpg", ["dog"], "validation"),
    )


def test_cells_that_mean_unspecified(write):
    path = write("file,dog,label\na.jpg,-1,1\nb.jpg,0,\n")
    table = read_table(path, marks=frozenset(["-1", ""]))
    assert table.labels == ("dog", "label")  # whose cells are 0, 1 or marks
    first, second = table.rows
    assert (first.present, first.unspecified) == ({"label"}, {"dog"})
    assert (second.present, second.unspecified) == (set(), {"label"})
    for cell, name in (("-1", "-1"), ("", "empty")):
        hint = f"If it means that the label is not known, give --unspecified_marks={name}."
        with pytest.raises(InputError, match=f"a label must be 0 or 1. Received: '{cell}'. Correct the cell. {hint}"):
            read_table(write(f"file,dog,cat\na.jpg,{cell},1\n"))


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfimage,labels\r\na.jpg,cat\r\n",  # as spreadsheets save it
        b"image,labels\ra.jpg,cat",
        b"\n\nimage,labels\n,\na.jpg,cat\n,\n\n",  # rows without any text
        b'"image", "labels"\n"a.jpg", "cat"\n',
        b".\\path,Label\n .\\a.jpg , cat \n",
    ],
)
def test_ways_to_write_the_same(write, content):
    (only,) = read_table(write(content)).rows
    assert (only.path, only.present) == ("a.jpg", {"cat"})


def test_quotes_and_other_alphabets(write):
    path = write('image,labels\n"a, ""b"".jpg",Käse\n夏/c.jpg,猫;Käse\n')
    assert read_table(path).rows == (
        row(path, 2, 'a, "b".jpg', ["Käse"]),
        row(path, 3, "夏/c.jpg", ["猫", "Käse"]),
    )


def test_further_columns_beside_a_list_are_not_used(write):
    table = read_table(write("image,photographer,labels,cat\na.jpg,Ann,dog,1\n"))
    assert (table.labels, table.unused, table.rows[0].present) == (None, ("photographer", "cat"), {"dog"})


# The columns of tables that name a label `label`, and what of them are labels.
FORMS = {
    "a label of that name": ("image,bottle,cap,label\na.jpg,1,0,0\nb.jpg,0,1,1\n", None, ("bottle", "cap", "label")),
    "and a split": ("image,Labels,split,cap\na.jpg,1,train,0\n", None, ("Labels", "cap")),
    "both words": ("image,label,labels\na.jpg,1,0\n", None, ("label", "labels")),
    "listed beside another": ("image,label,year,cap\na.jpg,1,1999,0\n", ("label", "cap"), ("label", "cap")),
    "listed alone": ("image,label,year\na.jpg,1,1999\n", ("label",), ("label",)),
    "names beside columns": ("image,label,cap\na.jpg,cap,1\nb.jpg,,0\n", None, None),
    "listed names": ("image,label\na.jpg,1\nb.jpg,0\n", ("0", "1"), None),
    "empty": ("image,label\na.jpg,\n", None, None),
}


@pytest.mark.parametrize("kind", FORMS)
def test_a_column_label_is_a_list_or_a_label(write, kind):
    content, listed, expected = FORMS[kind]
    assert read_table(write(content), listed=listed).labels == expected


HEADER = "the first row must be a header, such as image,labels (then names separated by ';') or image,cat,dog"

BAD = {
    "empty": ("", HEADER, "Received: ''"),
    "no header, list": ("a.jpg,cat;dog\nb.jpg,dog\n", HEADER, "Received: 'a.jpg,cat;dog'"),
    "no header, columns": ("a.JPEG,1,0\nb.jpg,0,1\n", HEADER, "Received: 'a.JPEG,1,0'"),
    "no header, path without ending": ("photos/a,1,0\nphotos/b,0,1\n", HEADER, "Received: 'photos/a,1,0'"),
    "paths alone": ("image\na.jpg\n", HEADER, "Received: 'image'"),
    "no label column": ("image,split\na.jpg,train\n", HEADER, "Received: 'image,split'"),
    "header alone": ("image,labels\n", "must list at least one image. Received: only a header"),
    "path not first": ("labels,photo\ncat,a.jpg\n", "the first column must be the image's path. Received: 'labels'"),
    "column without name": ("image,cat,,dog\na.jpg,1,,0\n", "Received: none for column 3"),
    "column twice": ("image,cat,dog, cat\na.jpg,1,0,1\n", "must have different names. Received: 'cat' twice"),
    "0 and 1 as labels": ("image,label\na.jpg,0\nb.jpg,1\n", "column 'label': the meaning of 0 and 1 must be clear"),
    "0 and 1 beside a year": ("image,labels,year\na.jpg,1,1999\n", "column 'labels': the meaning of 0 and 1"),
    "column of pandas": ("image,cat,Unnamed: 2\na.jpg,1,0\n", "must have a name. Received: 'Unnamed: 2' for column 3"),
    "labels twice": ("image,labels,Label\na.jpg,cat,dog\n", "must have different names. Received: 'labels' twice"),
    "split twice": ("image,cat,split,Split\na.jpg,1,train,test\n", "Received: 'split' twice"),
    "too few cells": ("image,cat,dog\na.jpg,1,0\nb.jpg,1\n", "line 3: a row must have 3 cells", "Received: 2"),
    "comma between names": ("image,labels\na.jpg,cat,dog\n", "line 2: a row must have 2 cells", "Received: 3"),
    "value 2": ("image,cat,dog\na.jpg,1,0\n\nb.jpg,0,2\n", "line 4, column 'dog': a label must be 0 or 1", "'2'"),
    "no value in a column": (
        "image,cat,dog\na.jpg,1,-1\nb.jpg,0,\n",
        "line 2, column 'dog': a label must be 0 or 1. Received: '-1'",
    ),
    "value empty": ("image,cat\na.jpg,\n", "line 2, column 'cat': a label must be 0 or 1. Received: ''"),
    "list in a column": (
        "image,things\na.jpg,cat;dog\n",
        "column 'things'",
        "This was read as a table with a column for each label, since none is named labels, label or tags",
        "Lists of names belong in a column named 'labels'",
    ),
    "unknown split": ("image,labels,split\na.jpg,cat,dev\n", "line 2: split must be one of", "Received: 'dev'"),
    "no split": ("image,labels,split\na.jpg,cat,\n", "line 2: split must be one of", "Received: ''"),
    "no path": ("image,labels\na.jpg,cat\n,dog\n", "line 3: a path must stay inside the source folder. Received: ''"),
    "absolute path": ("image,labels\n/data/a.jpg,cat\n", "line 2: a path must stay inside", "'/data/a.jpg'"),
    "Windows drive": ("image,labels\nC:\\a.jpg,cat\n", "line 2: a path must stay inside"),
    "climbing path": ("image,labels\nsub/../../a.jpg,cat\n", "line 2: a path must stay inside"),
    "open quote": ('image,labels\na.jpg,"cat\nb.jpg,dog\n', "line 3: must be CSV. Received: unexpected end of data"),
    "text after a quote": ('image,labels\na.jpg,"cat"dog\n', "line 2: must be CSV. Received: "),
    "NUL": ("image,labels\na.jpg,c\0at\n", "line 2: must be CSV. Received: line contains NUL"),
    "huge cell": ("image,labels\na.jpg," + "x" * 200_000, "line 2: must be CSV. Received: field larger than"),
    "half of UTF-16": (
        "image,labels\na.jpg,cat\n".encode("utf-16")[:-1],
        "must be text in UTF-16. Received: byte 0x0a",
    ),
    "Latin-1": ("image,labels\na.jpg,Käse\n".encode("latin-1"), "must be text in UTF-8. Received: byte 0xe4 in line 2"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files(write, kind):
    content, *parts = BAD[kind]
    path = write(content)
    with pytest.raises(InputError) as error:
        read_table(path)
    text = str(error.value)
    assert "\n" not in text and text.startswith(path)
    for part in parts:
        assert part in text
