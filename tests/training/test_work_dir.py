"""The work folder: whose it is, and what is refused."""

import os
import subprocess
from pathlib import Path

import pytest

from srn_tf.errors import InputError
from srn_tf.training import work_dir
from srn_tf.training.work_dir import WorkDir, code_version

FLAGS = "--model=srn\n--batch_size=8\n--seed=0\n"


def test_a_new_folder_is_claimed(tmp_path):
    work = WorkDir(str(tmp_path / "a" / "run"))
    work.claim(FLAGS)
    assert Path(work.flags).read_text() == FLAGS
    assert sorted(os.listdir(work.path)) == ["checkpoints", "flags.txt"]


def test_the_same_flags_may_come_again(tmp_path):
    work = WorkDir(str(tmp_path))
    work.claim(FLAGS)
    work.write_run({"labels": []})
    (tmp_path / "log.jsonl").write_text("{}\n")
    work.claim(FLAGS)
    assert (tmp_path / "log.jsonl").read_text() == "{}\n"


def test_a_folder_that_holds_only_the_prepared_data_set_is_new(tmp_path):
    (tmp_path / "dataset").mkdir()
    WorkDir(str(tmp_path)).claim(FLAGS)


def test_other_flags_are_shown_on_both_sides(tmp_path):
    work = WorkDir(str(tmp_path))
    work.claim(FLAGS)
    work.write_run({"labels": []})
    with pytest.raises(InputError, match=r"--batch_size=8.*received --batch_size=16") as raised:
        work.claim(FLAGS.replace("size=8", "size=16"))
    assert "--seed" not in str(raised.value) and "\n" not in str(raised.value)
    assert str(tmp_path) in str(raised.value)
    with pytest.raises(InputError, match=r"it has none of them, received --new=1\."):
        work.claim(FLAGS + "--new=1\n")
    with pytest.raises(InputError, match=r"it has --seed=0, received nothing in their place\."):
        work.claim(FLAGS.replace("--seed=0\n", ""))
    assert Path(work.flags).read_text() == FLAGS


def test_flags_that_never_began_to_train_may_be_mended(tmp_path):
    work = WorkDir(str(tmp_path))
    work.claim("--stages=wrong\n")
    work.claim(FLAGS)
    assert Path(work.flags).read_text() == FLAGS


def test_flags_that_are_not_text(tmp_path):
    work = WorkDir(str(tmp_path))
    work.claim(FLAGS)
    work.write_run({"labels": []})
    Path(work.flags).write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="holds a run with other flags"):
        work.claim(FLAGS)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="must be a new folder or one of this run.*holds other files"):
        WorkDir(str(tmp_path)).claim(FLAGS)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match="work_dir must be writable. Received: .*file"):
            WorkDir(str(path)).claim(FLAGS)


def test_a_read_only_folder(tmp_path, monkeypatch):
    """The refusal is made here, because root may write anywhere."""

    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(work_dir.os, "makedirs", refuse)
    with pytest.raises(InputError, match=r"work_dir must be writable. Received: .*run' \(Permission denied\)"):
        WorkDir(str(tmp_path / "run")).claim(FLAGS)


def test_run_json_is_written_once_and_its_labels_are_kept(tmp_path):
    work = WorkDir(str(tmp_path))
    work.write_run({"labels": ["a", "b"], "seed": 1})
    work.write_run({"labels": ["a", "b"], "seed": 2})
    assert work.read_run() == {"labels": ["a", "b"], "seed": 1}
    with pytest.raises(InputError, match=r"other labels, first at position 1. Expected: 'b'. Received: 'c'"):
        work.write_run({"labels": ["a", "c"]})
    assert work.read_run() == {"labels": ["a", "b"], "seed": 1}


def test_run_json_that_is_not_there_or_damaged(tmp_path):
    work = WorkDir(str(tmp_path))
    with pytest.raises(InputError, match="A work folder of tools/train.py was expected.*has no run.json"):
        work.read_run()
    (tmp_path / "run.json").write_text('{"labels": [')
    with pytest.raises(InputError, match=r"run.json cannot be read \("):
        work.read_run()
    (tmp_path / "run.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"run.json cannot be read \("):
        work.read_run()


def test_code_version_is_the_commit_or_unknown(monkeypatch):
    folder = Path(work_dir.__file__).parent
    head = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True)
    if head.returncode == 0:
        assert code_version().rstrip("+") == head.stdout.strip()
    else:
        assert code_version() == "unknown"

    def no_git(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(work_dir.subprocess, "run", no_git)
    assert code_version() == "unknown"
