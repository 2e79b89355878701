"""The work folder: whose it is, and what is refused."""

import datetime
import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from srn_tf import files
from srn_tf.errors import InputError
from srn_tf.runs import work_dir
from srn_tf.runs.work_dir import WorkDir, code_version

FLAGS = "--model=srn\n--batch_size=8\n--seed=0\n"
RUN = {"labels": [], "fingerprint": "12ab"}
NEW = [".lock", "checkpoints", "flags.txt", "run.json"]


def test_a_new_folder_is_claimed(tmp_path):
    work = WorkDir(str(tmp_path / "a" / "run"))
    work.claim(FLAGS)
    assert os.listdir(work.path) == [".lock"]
    work.write_run(RUN, FLAGS)
    assert Path(work.flags).read_text() == FLAGS
    assert sorted(os.listdir(work.path)) == NEW


def test_where_things_are(tmp_path):
    work = WorkDir("RUN")
    assert work.states == "RUN/checkpoints/state"
    assert work.stage_weights("att") == "RUN/checkpoints/att.npz"
    assert work.best_weights("att", 7) == "RUN/checkpoints/att-007.npz"


def test_versions_of_the_export(tmp_path):
    work = WorkDir(str(tmp_path))
    assert work.export_versions() == []
    with pytest.raises(InputError, match="no export in .*export. Make one: python tools/export.py"):
        work.newest_export()
    for name in ("1", "9", "10", ".writing-11", "old"):
        os.makedirs(os.path.join(work.export, name))
    assert work.export_versions() == [1, 9, 10]
    assert work.newest_export() == str(tmp_path / "export" / "10")


def test_the_same_flags_may_come_again(tmp_path):
    work = WorkDir(str(tmp_path))
    work.claim(FLAGS)
    work.write_run(RUN, FLAGS)
    (tmp_path / "log.jsonl").write_text("{}\n")
    work.claim(FLAGS)
    assert (tmp_path / "log.jsonl").read_text() == "{}\n"


def test_a_folder_that_holds_only_the_prepared_data_set_is_new(tmp_path):
    (tmp_path / "dataset").mkdir()
    WorkDir(str(tmp_path)).claim(FLAGS)


def test_other_flags_are_shown_on_both_sides(tmp_path):
    work = WorkDir(str(tmp_path))
    work.claim(FLAGS)
    work.write_run(RUN, FLAGS)
    with pytest.raises(InputError, match=r"--batch_size=8.*Received: --batch_size=16") as raised:
        work.claim(FLAGS.replace("size=8", "size=16"))
    assert "--seed" not in str(raised.value) and "\n" not in str(raised.value)
    assert str(tmp_path) in str(raised.value)
    with pytest.raises(InputError, match=r"Expected: none of these. Received: --new=1\."):
        work.claim(FLAGS + "--new=1\n")
    with pytest.raises(InputError, match=r"Expected: --seed=0. Received: none of these\."):
        work.claim(FLAGS.replace("--seed=0\n", ""))
    assert Path(work.flags).read_text() == FLAGS


def test_flags_that_never_began_to_train_may_be_mended(tmp_path):
    """Whether the first start ended before it wrote its flags, or between flags.txt and run.json."""
    work = WorkDir(str(tmp_path))
    work.claim("--stages=wrong\n")
    work.claim(FLAGS)
    Path(work.flags).write_text("--stages=wrong\n")
    work.claim(FLAGS)
    work.write_run(RUN, FLAGS)
    assert Path(work.flags).read_text() == FLAGS


@pytest.mark.parametrize("last", ["flags.txt", "checkpoints"])
def test_a_start_that_was_killed_while_the_folder_became_a_runs(tmp_path, monkeypatch, last):
    """Whatever was written last, the next start takes the folder, with other flags too."""
    work = WorkDir(str(tmp_path))
    work.claim("--stages=wrong\n")
    module, name = (work_dir.os, "makedirs") if last == "flags.txt" else (work_dir, "write_json")
    before = getattr(module, name)

    def kill(path, *arguments, **named):
        if path != work.path:
            raise KeyboardInterrupt
        return before(path, *arguments, **named)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, name, kill)
        work.write_run(RUN, "--stages=wrong\n")
    assert (tmp_path / last).exists()
    work.claim(FLAGS)
    work.write_run(RUN, FLAGS)
    assert Path(work.flags).read_text() == FLAGS and sorted(os.listdir(work.path)) == NEW


def test_a_start_on_a_full_disk_leaves_no_half_of_a_run(tmp_path, monkeypatch):
    def refuse_for_space(_):
        raise OSError(28, "No space left on device")

    work = WorkDir(str(tmp_path))
    work.claim(FLAGS)
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", refuse_for_space)
        with pytest.raises(InputError, match=r"work_dir must be writable. Received: .* \(No space left on device\)"):
            work.write_run(RUN, FLAGS)
    assert os.listdir(work.path) == [".lock"]
    assert not work.check_restart()
    work.write_run(RUN, FLAGS)
    assert Path(work.flags).read_text() == FLAGS


def test_flags_that_are_not_text(tmp_path):
    work = WorkDir(str(tmp_path))
    work.claim(FLAGS)
    work.write_run(RUN, FLAGS)
    Path(work.flags).write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="must be used with the flags of its run"):
        work.claim(FLAGS)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="must be new, empty or the folder of this run.*has other files"):
        WorkDir(str(tmp_path)).claim(FLAGS)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match="work_dir must be writable. Received: .*file"):
            WorkDir(str(path)).claim(FLAGS)


def refuse(*_, **__):
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize(
    "act, module, name",
    [
        (lambda work: work.claim(FLAGS), work_dir.os, "makedirs"),
        (lambda work: work.claim(FLAGS), work_dir.tempfile, "TemporaryFile"),
        (lambda work: work.restart(), work_dir.tempfile, "TemporaryFile"),
    ],
    ids=["a new one", "a run's", "restart"],
)
def test_a_read_only_folder(tmp_path, monkeypatch, act, module, name):
    """The refusal is made here, because root may write anywhere."""
    work = WorkDir(str(tmp_path / "run"))
    work.claim(FLAGS)
    work.write_run(RUN, FLAGS)
    before = sorted(os.listdir(work.path))
    monkeypatch.setattr(module, name, refuse)
    with pytest.raises(InputError, match=r"work_dir must be writable. Received: .*run' \(Permission denied\)"):
        act(work)
    assert sorted(os.listdir(work.path)) == before


# One process at a time.

HOLD = """
import sys
from srn_tf.runs.work_dir import WorkDir
work = WorkDir(sys.argv[1])
work.claim(sys.argv[2])
work.write_run({"labels": [], "fingerprint": "12ab"}, sys.argv[2])
print("claimed", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has begun a run in the folder; it ends when its input does."""
    command = [sys.executable, "-c", HOLD, tmp_path, FLAGS]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=Path(work_dir.__file__).parents[2], **pipes)
    assert process.stdout.readline() == b"claimed\n"
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("act", [lambda work: work.claim(FLAGS), lambda work: work.restart()], ids=["claim", "restart"])
def test_a_second_process_is_refused_and_told_who_is_there(tmp_path, holder, act):
    work = WorkDir(str(tmp_path))
    (tmp_path / "log.jsonl").write_text("{}\n")
    who = f"process {holder.pid} on {re.escape(socket.gethostname())} since {datetime.date.today().year}-"
    with pytest.raises(InputError, match=f"Only one run can use.*{re.escape(str(tmp_path))}.*{who}") as raised:
        act(work)
    assert "\n" not in str(raised.value)
    assert (tmp_path / "log.jsonl").read_text() == "{}\n"
    holder.kill()  # SIGKILL: nothing of its own is run any more
    holder.wait()
    act(work)


def test_one_process_may_claim_often(tmp_path):
    """As a program does that trains, and then opens its run again; also by another name of the folder."""
    for path in (tmp_path, tmp_path, f"{tmp_path}/../{tmp_path.name}"):
        WorkDir(str(path)).claim(FLAGS)
    shutil.rmtree(tmp_path)
    WorkDir(str(tmp_path)).claim(FLAGS)
    refused = subprocess.run(
        [sys.executable, "-c", HOLD, tmp_path, FLAGS],
        cwd=Path(work_dir.__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert f"Only one run can use work_dir '{tmp_path}' at a time" in refused.stderr
    assert f"process {os.getpid()} on" in refused.stderr


def test_a_file_system_without_locks(tmp_path, monkeypatch, caplog):
    def no_locks(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with caplog.at_level("WARNING", "srn_tf"):
        WorkDir(str(tmp_path)).claim(FLAGS)
    assert caplog.messages == [
        f"{tmp_path}/.lock cannot be locked on this file system. Make sure that no other run uses this work_dir."
    ]


# Beginning anew.


def test_restart_removes_a_run_and_nothing_else(tmp_path):
    work = WorkDir(str(tmp_path))
    work.claim(FLAGS)
    work.write_run(RUN, FLAGS)
    for path in (work.log, work.metrics, work.reliability, tmp_path / "thresholds.json", tmp_path / "notes.txt"):
        Path(path).write_text("x")
    for folder in (work.states, work.tensorboard, os.path.join(work.export, "1"), tmp_path / "predictions"):
        os.makedirs(folder)
    Path(work.stage_weights("cls")).write_text("x")
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "shard").write_text("x")
    work.restart()
    assert sorted(os.listdir(tmp_path)) == [".lock", "dataset", "flags.txt", "notes.txt"]
    assert (tmp_path / "dataset" / "shard").read_text() == "x"
    other = FLAGS.replace("size=8", "size=16")
    work.claim(other)
    work.write_run(RUN, other)
    assert Path(work.flags).read_text() == other
    assert os.listdir(work.checkpoints) == []


def test_restart_of_what_was_never_begun(tmp_path):
    WorkDir(str(tmp_path / "none")).restart()
    assert not (tmp_path / "none").exists()
    (tmp_path / "dataset").mkdir()
    WorkDir(str(tmp_path)).restart()
    assert os.listdir(tmp_path) == ["dataset"]


@pytest.mark.parametrize("flags", [None, "absl-py==2\n"], ids=["none", "of something else"])
def test_restart_of_a_folder_that_is_no_runs(tmp_path, flags):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "mine.npz").write_text("x")
    if flags:
        (tmp_path / "flags.txt").write_text(flags)
    with pytest.raises(InputError, match="--restart needs the work folder of a run. Received: .*no flags.txt of a run"):
        WorkDir(str(tmp_path)).restart()
    assert (tmp_path / "checkpoints" / "mine.npz").read_text() == "x"


# run.json.


def test_run_json_is_written_once_and_its_labels_are_kept(tmp_path):
    work = WorkDir(str(tmp_path))
    first = {**RUN, "labels": ["a", "b"], "seed": 1}
    work.write_run(first, FLAGS)
    work.write_run({**first, "seed": 2}, FLAGS)
    assert work.read_run() == {"format": 3, **first}
    with pytest.raises(InputError, match=r"Expected at position 1: 'b'. Received: 'c'"):
        work.write_run({**first, "labels": ["a", "c"]}, FLAGS)
    assert work.read_run() == {"format": 3, **first}


def test_another_data_set_of_the_same_labels(tmp_path):
    work = WorkDir(str(tmp_path))
    work.write_run({"labels": ["a"], "fingerprint": "12ab"}, FLAGS)
    work.write_run({"labels": ["a"], "fingerprint": "12ab"}, FLAGS)
    with pytest.raises(InputError, match=r"Expected: fingerprint 12ab\. Received: 34cd\. .*--data_dir") as raised:
        work.write_run({"labels": ["a"], "fingerprint": "34cd"}, FLAGS)
    assert str(tmp_path) in str(raised.value) and "\n" not in str(raised.value)
    assert work.read_run() == {"format": 3, "labels": ["a"], "fingerprint": "12ab"}


def test_run_json_that_is_not_there_or_damaged(tmp_path):
    work = WorkDir(str(tmp_path))
    with pytest.raises(InputError, match="work_dir must be a run of tools/train.py.*has no run.json"):
        work.read_run()
    (tmp_path / "run.json").write_text('{"labels": [')
    with pytest.raises(InputError, match=r"run.json must be readable JSON. Received: "):
        work.read_run()
    (tmp_path / "run.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"run.json must be readable JSON. Received: "):
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
