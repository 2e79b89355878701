"""Files: whole or not at all, locked, JSON."""

import json
import os
import subprocess
import sys

import pytest

from srn_tf.errors import InputError
from srn_tf.files import lock, write_json, written_whole


def test_a_file_is_there_only_when_it_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with written_whole(path) as file:
        file.write(b"after")
        file.flush()
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_failure_leaves_the_older_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), written_whole(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_write_json_round_trip_replaces_the_file(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text("old")
    value = {"mAP": None, "AP": [1.5, None], "labels": ["caf\u00e9"]}
    write_json(path, value)
    text = path.read_text(encoding="utf-8")
    assert text == '{\n "mAP": null,\n "AP": [\n  1.5,\n  null\n ],\n "labels": [\n  "caf\u00e9"\n ]\n}\n'
    assert json.loads(text) == value
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_write_json_refuses_what_json_does_not_have(tmp_path, number):
    path = tmp_path / "metrics.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"mAP": number})
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("none/metrics.json", "No such file or directory"),
        ("file/metrics.json", "Not a directory"),
        ("folder", "Is a directory"),
    ],
)
def test_write_json_to_an_unwritable_path(tmp_path, place, reason):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=f"must be a writable file. Received: {reason}. Check its folder"):
        write_json(tmp_path / place, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_one_process_has_the_lock(tmp_path):
    other = "import os, sys; from srn_tf.files import lock; print(lock(os.open(sys.argv[1], os.O_RDONLY)))"
    held = os.open(tmp_path, os.O_RDONLY)
    assert lock(held) is True
    answers = []
    for _ in range(2):
        answers.append(subprocess.run([sys.executable, "-c", other, tmp_path], capture_output=True, text=True).stdout)
        if len(answers) == 1:
            os.close(held)
    assert answers == ["False\n", "True\n"]
