"""Lists of images: what counts as a path."""

import os

import pytest

from srn_tf.errors import InputError
from srn_tf.prediction.inputs import list_inputs, read_list


@pytest.mark.parametrize(
    "data, expected",
    [
        (b"b.jpg\na.jpg\nb.jpg\n", ["b.jpg", "a.jpg", "b.jpg"]),
        (b"\n\na.jpg\n\n b c.jpg ", ["a.jpg", " b c.jpg "]),
        (b"\xef\xbb\xbfa.jpg\r\nb*.jpg\r\n", ["a.jpg", "b*.jpg"]),
        (b"\xc3\xa9.jpg\n\xff.jpg\n", ["é.jpg", os.fsdecode(b"\xff.jpg")]),
    ],
)
def test_list_file(tmp_path, data, expected):
    (tmp_path / "list").write_bytes(data)
    assert read_list(tmp_path / "list") == expected
    assert list_inputs([], str(tmp_path / "list")) == expected


@pytest.mark.parametrize("arguments, list_file", [(["-"], ""), ([], "-")])
def test_standard_input(tmp_path, monkeypatch, arguments, list_file):
    (tmp_path / "list").write_text("a.jpg\nb.jpg\n")
    with open(tmp_path / "list") as file:
        monkeypatch.setattr("sys.stdin", file)
        assert list_inputs(arguments, list_file) == ["a.jpg", "b.jpg"]
        assert os.fstat(file.fileno())  # still open


def test_arguments(tmp_path):
    for name in ("b.jpg", "a.jpg"):
        (tmp_path / name).touch()
    assert list_inputs([f"{tmp_path}/b.jpg", f"{tmp_path}/*.jpg"]) == [f"{tmp_path}/b.jpg", f"{tmp_path}/a.jpg"]


@pytest.mark.parametrize(
    "data, message",
    [
        (None, "list_file must be a readable file. Received: .*list .No such file or directory."),
        (b"", "must have at least one path, one per line. Received: .*list, which has none."),
        (b"\n\n", "must have at least one path"),
        (b"a.jpg\0b.jpg\0", "must be text, one path per line. Received: .*list, which has zero bytes."),
    ],
)
def test_lists_that_cannot_be_used(tmp_path, data, message):
    if data is not None:
        (tmp_path / "list").write_bytes(data)
    with pytest.raises(InputError, match=message) as error:
        list_inputs([], str(tmp_path / "list"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("arguments, list_file, received", [([], "", "none"), (["a.jpg"], "list", "both")])
def test_one_source_of_images(arguments, list_file, received):
    with pytest.raises(InputError, match=f"either as arguments .* or in a list .--list_file.. Received: {received}."):
        list_inputs(arguments, list_file)
