"""Rows and their formats, read back by other means than they were written by."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from srn_tf.errors import InputError
from srn_tf.prediction import rows
from srn_tf.prediction.answers import Answer
from srn_tf.prediction.rows import FORMATS, Columns, format_of
from tests.prediction.pictures import read_csv

LABELS = ["dog", "cat, small", 'the "blue" one', "été"]
ODD = os.fsdecode(b"a,b \xff.jpg")  # a name that is not UTF-8


def answer(path, *probabilities, predicted=()):
    return Answer(path, np.float32(probabilities), np.isin(np.arange(4), predicted), None)


ANSWERS = [
    answer("x.jpg", 0.25, 0.5, 1 / 3, 0.5, predicted=(1, 3)),
    answer("new\nline.jpg", 0.0, 1e-7, 1.0, 0.9999999),
    Answer("bad.jpg", None, None, 'bad.jpg must be, "an" image'),
    answer(ODD, 0.1, 0.2, 0.3, 0.4, predicted=(0, 1, 2, 3)),
]


def written(tmp_path, extension, write="probabilities", top_k=None, parts=((0, 2), (2, 4))):
    columns = Columns(LABELS, write, top_k)
    row_format = FORMATS[extension](columns)
    paths = []
    for start, end in parts:
        paths.append(tmp_path / f"{start}")
        with open(paths[-1], "wb") as file:
            row_format.write_part([columns.row(one) for one in ANSWERS[start:end]], file)
    output = tmp_path / f"P{extension}"
    with open(output, "wb") as file:
        row_format.join(paths, file)
    return output


def test_csv_probabilities(tmp_path):
    assert read_csv(written(tmp_path, ".csv")) == [
        ["path", *LABELS, "error"],
        ["x.jpg", "0.250000", "0.500000", "0.333333", "0.500000", ""],
        ["new\nline.jpg", "0.000000", "0.000000", "1.000000", "1.000000", ""],
        ["bad.jpg", "", "", "", "", 'bad.jpg must be, "an" image'],
        [ODD, "0.100000", "0.200000", "0.300000", "0.400000", ""],
    ]
    lines = (tmp_path / "P.csv").read_bytes().split(b"\n")
    assert lines[-1] == b"" and lines[-2].startswith(b'"a,b \xff.jpg",') and b"\r" not in b"".join(lines)


def test_csv_labels(tmp_path):
    assert read_csv(written(tmp_path, ".csv", "labels")) == [
        ["path", "labels", "error"],
        ["x.jpg", "cat, small;été", ""],
        ["new\nline.jpg", "", ""],
        ["bad.jpg", "", 'bad.jpg must be, "an" image'],
        [ODD, ";".join(LABELS), ""],
    ]


def test_csv_top_k_of_equal_ones_the_first(tmp_path):
    assert read_csv(written(tmp_path, ".csv", "top_k", 2)) == [
        ["path", "label_1", "probability_1", "label_2", "probability_2", "error"],
        ["x.jpg", "cat, small", "0.500000", "été", "0.500000", ""],
        ["new\nline.jpg", 'the "blue" one', "1.000000", "été", "1.000000", ""],
        ["bad.jpg", "", "", "", "", 'bad.jpg must be, "an" image'],
        [ODD, "été", "0.400000", 'the "blue" one', "0.300000", ""],
    ]


@pytest.mark.parametrize("extension", FORMATS)
def test_known_labels_have_a_column(tmp_path, extension):
    columns = Columns(LABELS, "top_k", 1, {"dog": 0, "cat, small": 1})
    row_format = FORMATS[extension](columns)
    with open(tmp_path / "part", "wb") as file:
        row_format.write_part([columns.row(one) for one in ANSWERS[1:3]], file)
    with open(tmp_path / f"P{extension}", "wb") as file:
        row_format.join([tmp_path / "part"], file)
    path, known = tmp_path / f"P{extension}", ["dog:0", "cat, small:1"]
    if extension == ".csv":
        header, *cells = read_csv(path)
        assert header[-2:] == ["known", "error"] and [row[-2] for row in cells] == [";".join(known), ""]
    elif extension == ".jsonl":
        assert [row.get("known") for row in json_rows(path)] == [known, None]
    else:
        assert pq.read_table(path)["known"].to_pylist() == [known, None]


def json_rows(path):
    return [json.loads(line) for line in path.read_text("utf-8", errors="surrogateescape").splitlines()]


def test_json_lines(tmp_path):
    error = {"path": "bad.jpg", "error": 'bad.jpg must be, "an" image'}
    probabilities = json_rows(written(tmp_path, ".jsonl"))
    assert probabilities[0] == {"path": "x.jpg", **dict(zip(LABELS, (0.25, 0.5, 0.333333, 0.5)))}
    assert probabilities[1]["path"] == "new\nline.jpg" and probabilities[3]["path"] == ODD
    assert probabilities[2] == error and len(probabilities) == 4
    labels = json_rows(written(tmp_path, ".jsonl", "labels"))
    assert [row.get("labels") for row in labels] == [["cat, small", "été"], [], None, LABELS] and labels[2] == error
    top = json_rows(written(tmp_path, ".jsonl", "top_k", 1))
    assert top[0] == {"path": "x.jpg", "label_1": "cat, small", "probability_1": 0.5} and top[2] == error


def test_parquet(tmp_path):
    table = pq.read_table(written(tmp_path, ".parquet"))
    assert table.schema.names == ["path", *LABELS, "error"]
    assert [str(kind) for kind in table.schema.types] == ["string", "float", "float", "float", "float", "string"]
    assert table["path"].to_pylist() == ["x.jpg", "new\nline.jpg", "bad.jpg", "a,b \\xff.jpg"]
    assert table["cat, small"].to_pylist() == [0.5, float(np.float32(1e-7)), None, float(np.float32(0.2))]
    assert table["error"].to_pylist() == [None, None, 'bad.jpg must be, "an" image', None]
    labels = pq.read_table(written(tmp_path, ".parquet", "labels"))
    assert labels["labels"].to_pylist() == [["cat, small", "été"], [], None, LABELS]
    top = pq.read_table(written(tmp_path, ".parquet", "top_k", 1))
    assert top.schema.types[1:3] == [pa.string(), pa.float32()]
    assert top["label_1"].to_pylist() == ["cat, small", 'the "blue" one', None, "été"]


@pytest.mark.parametrize("extension", FORMATS)
def test_parts_do_not_show_in_the_whole(tmp_path, extension):
    for name in "ab":
        (tmp_path / name).mkdir()
    one = written(tmp_path / "a", extension, parts=((0, 4),))
    many = written(tmp_path / "b", extension, parts=((0, 1), (1, 2), (2, 3), (3, 4)))
    assert one.read_bytes() == many.read_bytes()


def test_small_parts_make_large_row_groups(tmp_path, monkeypatch):
    singles = ((0, 1), (1, 2), (2, 3), (3, 4))
    assert pq.ParquetFile(written(tmp_path, ".parquet", parts=singles)).num_row_groups == 1
    monkeypatch.setattr(rows, "_ROW_GROUP_BYTES", 70)  # a row has 30 to 70
    file = pq.ParquetFile(written(tmp_path, ".parquet", parts=singles))
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [2, 2]


@pytest.mark.parametrize(
    "labels, write, top_k, message",
    [
        (LABELS, "top_k", 5, "top_k must be 1 to 4, the model's labels. Received: 5."),
        (LABELS, "top_k", None, "top_k must be 1 to 4, the model's labels. Received: None."),
        (LABELS, "scores", None, "write must be one of probabilities, labels, top_k. Received: 'scores'."),
        (["dog", "path"], "probabilities", None, "two named 'path'"),
        (["dog", "dog"], "probabilities", None, "two named 'dog'"),
    ],
)
def test_columns_that_cannot_be(labels, write, top_k, message):
    with pytest.raises(InputError) as error:
        Columns(labels, write, top_k)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_csv_needs_names_without_its_separator():
    labels = ["cat", "dog; brown"]
    with pytest.raises(InputError, match="Received: 'dog; brown'. Write to a file that ends in .jsonl or .parquet."):
        FORMATS[".csv"](Columns(labels, "labels"))
    FORMATS[".csv"](Columns(labels))
    FORMATS[".jsonl"](Columns(labels, "labels"))


def test_format_by_ending():
    assert format_of("a.b/P.jsonl") is FORMATS[".jsonl"]
    for output in ("P", "P.txt", ".csv", "x.csv/P"):
        with pytest.raises(InputError, match=f"must end in .csv, .jsonl, .parquet. Received: {output}."):
            format_of(output)
