"""The folder of parts: what is there is whole, of one plan, and one process's."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from srn_tf.errors import InputError
from srn_tf.prediction.parts import check_output, open_parts

PLAN = {"model": "m", "images": "digest", "write": "labels"}


class Lines:
    """A format: rows are str."""

    def write_part(self, rows, file):
        file.write("".join(rows).encode())

    def join(self, paths, file):
        for path in paths:
            with open(path, "rb") as part:
                file.write(part.read())


class Full(Lines):
    def write_part(self, rows, file):
        file.write(b"half a par")
        raise OSError(errno.ENOSPC, "No space left on device")

    join = write_part


def add_one(output, rows="a", failed=0, plan=PLAN):
    """An interrupted run that had finished one part."""
    with open_parts(output, plan) as parts:
        parts.add([rows], failed, Lines())


def test_parts_are_found_again_and_joined(tmp_path):
    output = tmp_path / "P.csv"
    output.write_text("an older result")
    add_one(output, "a\n", 0)
    add_one(output, "b\n", 2)
    assert sorted(os.listdir(tmp_path)) == [".P.csv.parts", "P.csv"]
    with open_parts(output, PLAN) as parts:
        assert (parts.done, parts.failed) == (2, 2)
        parts.add(["c\n"], 1, Lines())
        assert (parts.done, parts.failed) == (3, 3)
        with open(output) as older:
            parts.join(Lines())
            assert older.read() == "an older result"  # its place was taken at once: it was not written over
    assert output.read_text() == "a\nb\nc\n" and os.listdir(tmp_path) == ["P.csv"]


def test_more_parts_than_one_digit(tmp_path):
    with open_parts(tmp_path / "P", PLAN) as parts:
        for i in range(12):
            parts.add([f"{i},"], 0, Lines())
    with open_parts(tmp_path / "P", PLAN) as parts:
        assert parts.done == 12
        parts.join(Lines())
    assert (tmp_path / "P").read_text() == "0,1,2,3,4,5,6,7,8,9,10,11,"


def test_part_that_was_being_written_does_not_count(tmp_path):
    add_one(tmp_path / "P")
    (tmp_path / ".P.parts" / "writing").write_text("half a par")
    with open_parts(tmp_path / "P", PLAN) as parts:
        assert parts.done == 1


@pytest.mark.parametrize(
    "change, named",
    [
        ({"model": "n"}, "model"),
        ({"images": "others"}, "images"),
        ({"write": "top_k", "model": "n"}, "model, write"),
    ],
)
def test_another_plan_is_refused_until_restart(tmp_path, change, named):
    add_one(tmp_path / "P")
    with pytest.raises(InputError) as error:
        add_one(tmp_path / "P", plan={**PLAN, **change})
    assert f"begun with another {named}." in str(error.value) and "--restart" in str(error.value)
    assert "\n" not in str(error.value)
    with open_parts(tmp_path / "P", PLAN) as parts:
        assert parts.done == 1
    with open_parts(tmp_path / "P", {**PLAN, **change}, restart=True) as parts:
        assert parts.done == 0
        parts.add(["b"], 0, Lines())
        parts.join(Lines())
    assert (tmp_path / "P").read_text() == "b"


def test_what_a_stopped_removal_left_is_no_run(tmp_path):
    add_one(tmp_path / "P")
    (tmp_path / ".P.parts" / "plan.json").unlink()
    with open_parts(tmp_path / "P", {**PLAN, "model": "n"}) as parts:
        assert parts.done == 0


def test_nothing_is_left_without_a_part(tmp_path):
    with pytest.raises(KeyboardInterrupt), open_parts(tmp_path / "P", PLAN):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_two_processes(tmp_path):
    add_one(tmp_path / "P")
    code = (
        "import sys; from srn_tf.prediction.parts import open_parts\n"
        f"with open_parts({str(tmp_path / 'P')!r}, {PLAN!r}): print('open', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(InputError, match="Only one process can write an output. Received: .*/P, which another"):
            add_one(tmp_path / "P")
    finally:
        other.kill()  # which ends the lock
        other.communicate()
    add_one(tmp_path / "P")


def test_file_system_without_locks(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    add_one(tmp_path / "P")


def test_full_disk_keeps_the_parts(tmp_path):
    output = tmp_path / "P"
    output.write_text("an older result")
    add_one(output)
    message = "must be a writable file. Received: .*/P .No space left on device.. Check its folder's"
    for write in (lambda parts: parts.add(["b"], 0, Full()), lambda parts: parts.join(Full())):
        with pytest.raises(InputError, match=message), open_parts(output, PLAN) as parts:
            write(parts)
        assert output.read_text() == "an older result"
    with open_parts(output, PLAN) as parts:
        assert parts.done == 1


def test_output_through_a_link(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "P").symlink_to(tmp_path / "far" / "Q")
    with open_parts(tmp_path / "P", PLAN) as parts:
        parts.add(["a"], 0, Lines())
        parts.join(Lines())
    assert (tmp_path / "P").is_symlink() and (tmp_path / "far" / "Q").read_text() == "a"


def test_check_output(tmp_path):
    check_output(tmp_path / "P.csv")
    assert os.listdir(tmp_path) == []
    for bad, received in ((tmp_path, "something else"), ("/dev/null", "else"), (tmp_path / "no" / "P", "No such file")):
        with pytest.raises(InputError, match=f"output must be .*file.*Received: {bad}.*{received}"):
            check_output(bad)
