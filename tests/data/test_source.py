"""What the readers of all data sets share: folders, lists in whatever encoding, paths, repeated rows."""

import dataclasses
import os
import pickle

import numpy as np
import pytest

from srn_tf.data import source
from srn_tf.data.source import Example, Photo, SparseLabels, positive_labels
from srn_tf.errors import InputError


def test_sparse_labels_are_a_sequence_of_all():
    labels = SparseLabels(5, -1, (1, 3), (4,))
    assert (len(labels), list(labels), labels[1], labels[-1]) == (5, [-1, 1, -1, 1, 0], 1, 0)
    assert np.array(labels, np.int8).tolist() == list(labels) and np.array(labels, np.int8).dtype == np.int8
    assert 0 in labels and positive_labels(labels) == positive_labels(tuple(labels)) == (1, 3)
    assert labels == pickle.loads(pickle.dumps(labels)) != SparseLabels(5, -1, (1, 3))
    assert len({labels, SparseLabels(5, -1, (1, 3), (4,))}) == 1


def message_of(function, *arguments):
    """Calls a function, which fails, and returns the message, which is one line."""
    with pytest.raises(InputError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_photos_are_values():
    """Equal if their content is, so that they can be compared and used as keys; and not to be changed."""
    photo = Photo("a.jpg", (Example("a.jpg", (1, 0), crop=(0, 0, 5, 5)),))
    assert photo == Photo("a.jpg", (Example("a.jpg", (1, 0), (), (0, 0, 5, 5)),)) and len({photo, photo}) == 1
    assert photo.examples[0].objects == () and Example("b", (1,)).crop is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        photo.path = "b.jpg"


# The source folder.


def test_check_source_dir(tmp_path, monkeypatch):
    absent, empty, file = tmp_path / "absent", tmp_path / "empty", tmp_path / "file"
    empty.mkdir()
    file.touch()
    for path in (absent, file):
        assert message_of(source.check_source_dir, path, "Image/*.jpg") == (
            f"source_dir must be a folder with Image/*.jpg. Received: {path}, which is not a folder. Check the path."
        )
    assert message_of(source.check_source_dir, str(empty), "Image/*.jpg") == (
        f"source_dir must be a folder with Image/*.jpg. Received: {empty}, which is empty. Unpack the download there."
    )
    source.check_source_dir(tmp_path, "Image/*.jpg")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # for root everything is readable
    assert message_of(source.check_source_dir, tmp_path, "Image/*.jpg") == (
        f"source_dir must be readable. Received: {tmp_path}. Check its permissions."
    )


def test_option_file_is_here_or_in_the_source_folder(tmp_path, monkeypatch):
    here, folder = tmp_path / "here", tmp_path / "source"
    for path in (here / "a.txt", folder / "a.txt", folder / "sub" / "b.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(here)
    assert source.option_file("a.txt", folder) == "a.txt"
    assert source.option_file("sub/b.txt", str(folder)) == str(folder / "sub" / "b.txt")
    assert source.option_file(str(here / "a.txt"), folder) == str(here / "a.txt")
    for path in ("c.txt", "sub"):  # which is a folder
        assert message_of(source.option_file, path, folder) == (
            f"{path} must be a file in the current folder or in {folder}. Received: no such file. Check the path."
        )


# Text.


@pytest.mark.parametrize(
    "data",
    [b"\xc3\xa9\nb\n", b"\xef\xbb\xbf\xc3\xa9\nb\n", b"\xc3\xa9\r\nb\r\n", b"\xc3\xa9\rb\r"],
    ids=["plain", "byte-order mark", "Windows", "old Mac"],
)
def test_read_text(tmp_path, data):
    (tmp_path / "list.txt").write_bytes(data)
    assert source.read_text(tmp_path / "list.txt", "list.txt") == "\u00e9\nb\n"


def test_text_that_cannot_be_read(tmp_path):
    path = tmp_path / "list.txt"
    assert message_of(source.read_text, path, "list.txt, Image/") == (
        f"{path} must exist. Received: no such file. Give a source folder with list.txt, Image/."
    )
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\nth\xe9\r\n")  # Latin 1 in the third line
    assert message_of(source.read_text, str(path), "") == (
        f"{path} must be text in UTF-8. Received: byte 0xe9 in line 3. Convert the file to UTF-8."
    )
    path.write_text("one\ntwo\n", encoding="utf-16-le")
    path.write_bytes(b"\xff\xfe" + path.read_bytes())
    assert "byte 0xff in line 1" in message_of(source.read_text, path, "")
    assert message_of(source.read_text, tmp_path, "") == (
        f"{tmp_path} must be readable. Received: Is a directory. Check its permissions."
    )


# Paths.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.jpg", "a.jpg"),
        (" Image/sub/a b.jpg \n", "Image/sub/a b.jpg"),
        ("actor\\0001_2124494179.jpg", "actor/0001_2124494179.jpg"),
        ("./Image//a.jpg", "Image/a.jpg"),
        ("..a/b...jpg", "..a/b...jpg"),
        ("at 12:30.jpg", "at 12:30.jpg"),
    ],
)
def test_photo_path(text, expected):
    assert source.photo_path(text, "list.txt, line 3") == expected


@pytest.mark.parametrize(
    "text",
    ["", "  ", ".", "/a.jpg", "\\a.jpg", "../a.jpg", "Image/../../a.jpg", "C:\\a.jpg", "C:a.jpg", "\\\\host\\a\\b"],
)
def test_a_path_stays_inside(text):
    assert message_of(source.photo_path, text, "list.txt, line 3") == (
        f"list.txt, line 3: a path must stay inside the source folder. Received: {text!r}. "
        "Write it relative to that folder."
    )


def test_check_photos(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    source.check_photos(tmp_path, iter(["a.jpg", "b.jpg"]), "list.txt")
    names = ["a.jpg", "d.jpg", "c.jpg", "folder.jpg"]
    assert message_of(source.check_photos, tmp_path, iter(names), "list.txt") == (
        f"Every image of list.txt must be in {tmp_path}. Received: 3 of 4 missing, the first c.jpg. "
        "Unpack the official archive of the images there."
    )
    assert message_of(source.check_photos, str(tmp_path), ["c.jpg"], "list.txt", "Do this.").endswith("c.jpg. Do this.")


# Rows.


def test_unique_rows():
    rows = [("line 1", "b", (1, 0)), ("line 2", "a", (0, 0)), ("line 3", "b", (1, 0)), ("line 4", "b", (1, 0))]
    labels_of, repeated = source.unique_rows(iter(rows))
    assert list(labels_of.items()) == [("b", (1, 0)), ("a", (0, 0))] and repeated == 2
    assert source.unique_rows([]) == ({}, 0)


def test_rows_of_one_photo_must_agree():
    rows = [("line 1", "b", (1, 0)), ("line 2", "a", (0, 0)), ("line 3", "b", (0, 0))]
    assert message_of(source.unique_rows, rows) == (
        "line 3: rows of the same image must have the same labels. Received: b with other labels than in an earlier "
        "row. Correct or remove one of the rows."
    )
