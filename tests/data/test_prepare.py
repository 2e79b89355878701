"""Preparing: finished or nothing, one clean message, quiet, and inside the data folder."""

import contextlib
import errno
import fcntl
import json
import os
import pty
import re
import resource
import signal
import struct
import subprocess
import sys
import termios
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from srn_tf.data import examples
from srn_tf.data.audit import Audit
from srn_tf.data.prepare import is_prepared, prepare
from srn_tf.errors import InputError
from tests.data.folder_of_images import FolderOfImages, left_in, prepared, write_image, write_source

ROOT = Path(__file__).parents[2]
FILES = [
    "dataset_info.json",
    "features.json",
    "folder_of_images-test.tfrecord-00000-of-00001",
    "folder_of_images-train.tfrecord-00000-of-00001",
    "metadata.json",
    "objects-label.labels.txt",
    "source_files.csv",
]
FINISHED = ["folder_of_images", "folder_of_images/2.0.1", *(f"folder_of_images/2.0.1/{name}" for name in FILES)]


class Unpacked(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder of the other kind, which needs no source; tfds itself asks for its image, which may refuse."""

    VERSION = tfds.core.Version("2.0.1")
    url_infos = None
    image = np.zeros((3, 4, 3), np.uint8)

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=examples.features(["any"]))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield "a", {"image": self.image, "name": "a", "labels": np.ones(1, np.int8), "objects": []}


@pytest.fixture
def source(tmp_path):
    return write_source(tmp_path / "source")


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def fail(monkeypatch):
    """A function: makes every preparation fail with an exception after the first image."""

    def replace_add(failure):
        add = Audit.add

        def add_one(self, split, report):
            add(self, split, report)
            if self._splits[split]["photos"] == 2:
                raise failure

        monkeypatch.setattr(Audit, "add", add_one)

    return replace_add


def make(data_dir, source, **options):
    return FolderOfImages(data_dir=data_dir, source_dir=source, options=options)


# What is written.


def test_writes_the_records_and_nothing_else(source, data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    before = left_in(source)
    builder = make(data_dir, source)
    prepare(builder)
    assert left_in(data_dir) == FINISHED
    assert not (tmp_path / "home").exists()
    assert left_in(source) == before
    assert {split: info.num_examples for split, info in builder.info.splits.items()} == {"train": 3, "test": 2}


def test_relative_source(source, data_dir, monkeypatch):
    monkeypatch.chdir(source.parent)
    builder = make(data_dir, "source")
    monkeypatch.chdir("/")
    prepare(builder)
    assert left_in(data_dir) == FINISHED


def test_a_prepared_data_set_needs_no_source(source, data_dir, monkeypatch):
    early = make(data_dir, source)
    assert not is_prepared(early)
    prepared(FolderOfImages, data_dir, source)
    monkeypatch.setattr(FolderOfImages, "download_and_prepare", lambda *args, **kwargs: pytest.fail("prepared again"))
    prepare(make(data_dir, source))
    prepare(early)  # Made before the records were there: learns of them.
    assert early.info.splits["train"].num_examples == 3
    assert len(list(early.as_dataset(split="train"))) == 3
    monkeypatch.setattr(FolderOfImages, "read", lambda *args: pytest.fail("read again"))
    prepare(FolderOfImages(data_dir=data_dir))
    prepare(make(data_dir, source.parent / "absent"))


def test_another_source_is_noticed(source, data_dir, monkeypatch):
    made = prepared(FolderOfImages, data_dir, source)
    path, before = source / "train" / "none_2.png", left_in(data_dir)
    rule = f"{made.data_dir} must be prepared from the present content of {source}. Received: "
    advice = ". Remove it and prepare it again, or give another data folder."
    content = path.read_bytes()
    path.write_bytes(content)  # at another time
    prepare(make(data_dir, source))

    before_ns = path.stat().st_mtime_ns
    write_image(path, 17)
    os.utime(path, ns=(before_ns, before_ns))
    assert path.stat().st_size == len(content)
    with pytest.raises(InputError) as error:
        prepare(make(data_dir, source))
    assert str(error.value) == f"{rule}1 changed image(s), the first train/none_2.png{advice}"
    prepare(FolderOfImages(data_dir=data_dir, source_dir=source))  # nobody asked to prepare
    path.write_bytes(content)

    monkeypatch.setattr(FolderOfImages, "LABELS", ("blue", "red"))
    with pytest.raises(InputError) as error:
        prepare(make(data_dir, source))
    assert str(error.value) == f"{rule}changed labels, boxes or splits, or another list of images{advice}"
    assert left_in(data_dir) == before

    (made.data_path / "source_files.csv").write_text("a")
    with pytest.raises(InputError, match="source_files.csv must list the images .* prepare it again"):
        prepare(make(data_dir, source))


def test_an_option_that_came_later_had_its_default(source, data_dir):
    path = prepared(FolderOfImages, data_dir, source).data_path / "metadata.json"
    stored = json.loads(path.read_text())
    del stored["options"]["prefix"]
    path.write_text(json.dumps(stored))
    prepare(make(data_dir, source))
    with pytest.raises(InputError, match="Received: prefix '' there, 'red' now"):
        prepare(make(data_dir, source, prefix="red"))


def test_data_prepared_before_sources_were_kept_must_be_prepared_again(source, data_dir):
    made = prepared(FolderOfImages, data_dir, source)
    path = made.data_path / "metadata.json"
    path.write_text(
        json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != "source"})
    )
    with pytest.raises(
        InputError, match="must be prepared by this version .* Remove the folder and prepare the data set again"
    ):
        is_prepared(FolderOfImages(data_dir=data_dir))


def test_other_files_of_the_data_dir_stay(source, data_dir):
    (data_dir / "downloads").mkdir(parents=True)
    (data_dir / "downloads" / "mine.zip").touch()
    prepare(make(data_dir, source))
    assert left_in(data_dir) == sorted([*FINISHED, "downloads", "downloads/mine.zip"])


def test_a_builder_without_source(data_dir):
    builder = Unpacked(data_dir=data_dir)
    prepare(builder)
    assert builder.info.splits["train"].num_examples == 1
    assert is_prepared(Unpacked(data_dir=data_dir))


# Failures.


def test_failure_leaves_nothing(source, data_dir, fail, monkeypatch):
    builder = make(data_dir, source)
    fail(InputError("x must be y. Received: z."))
    with pytest.raises(InputError, match="^x must be y. Received: z.$"):
        prepare(builder)
    assert left_in(data_dir) == []
    monkeypatch.undo()
    prepare(builder)  # The same builder can try again.
    assert left_in(data_dir) == FINISHED
    assert len(list(builder.as_dataset(split="train"))) == 3


def test_wrapped_error_is_one_line_again(source, data_dir, fail):
    class Refuses:
        def read(self):
            raise InputError("a.jpg must be better. Received: worse.")

    builder = Unpacked(data_dir=data_dir)
    builder.image = Refuses()
    with pytest.raises(InputError, match="^a.jpg must be better. Received: worse.$"):
        prepare(builder)
    wrapped = RuntimeError("something around it")
    wrapped.__cause__ = InputError("x must be y. Received: z.")
    fail(wrapped)
    with pytest.raises(InputError, match="^x must be y. Received: z.$"):
        prepare(make(data_dir, source))
    assert left_in(data_dir) == []


@pytest.mark.parametrize("failure", [KeyError("a defect"), KeyboardInterrupt()])
def test_other_errors_pass_and_leave_nothing(source, data_dir, fail, failure):
    fail(failure)
    with pytest.raises(type(failure)):
        prepare(make(data_dir, source))
    assert left_in(data_dir) == []


def test_a_killed_worker_is_one_message(source, data_dir, fail):
    fail(BrokenProcessPool("A process in the process pool was terminated abruptly."))
    with pytest.raises(
        InputError, match="must not be killed. Received: A process .* If memory ran out, use fewer"
    ) as error:
        prepare(make(data_dir, source))
    assert "\n" not in str(error.value)
    assert left_in(data_dir) == []


def test_full_disk(source, data_dir, fail):
    fail(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(InputError, match=r"could not be written to .*2.0.1. Received: \[Errno 28\] No space left"):
        prepare(make(data_dir, source))
    assert left_in(data_dir) == []


# The first shard takes 583 bytes, features.json 2,678.
@pytest.mark.parametrize("limit", [300, 1500], ids=["while records are written", "while the description is written"])
def test_a_file_that_cannot_grow(source, data_dir, limit):
    """The limit is one of the operating system: a write beyond it fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(InputError, match="could not be written to .*2.0.1. Received: .*File too large") as error:
            prepare(make(data_dir, source))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(error.value)
    assert left_in(data_dir) == []


def test_data_dir_that_is_a_file(source, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="could not be written to .*file/folder_of_images/2.0.1. Received: "):
        prepare(make(tmp_path / "file", source))


def test_folder_that_is_not_a_data_set(source, data_dir):
    (data_dir / "folder_of_images" / "2.0.1").mkdir(parents=True)
    with pytest.raises(InputError, match="must be a prepared data set. Received: a folder without dataset_info.json"):
        prepare(make(data_dir, source))


def test_source_is_checked(data_dir, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="source_dir of folder_of_images must be given, .*Any folder of images.$"):
        prepare(make(data_dir, None))
    with pytest.raises(InputError, match="source_dir of folder_of_images must exist. Received: .*absent"):
        prepare(make(data_dir, tmp_path / "absent"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="source_dir of folder_of_images must not be empty. Received: .*empty"):
        prepare(make(data_dir, tmp_path / "empty"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # for root everything is readable
    with pytest.raises(InputError, match="source_dir of folder_of_images must be readable. Received: .*empty"):
        prepare(make(data_dir, tmp_path / "empty"))
    assert not data_dir.exists()


# Prepared, but not as asked for.


def test_another_version(source, data_dir, monkeypatch):
    prepare(make(data_dir, source))
    monkeypatch.setattr(FolderOfImages, "VERSION", tfds.core.Version("2.1.0"))
    with pytest.raises(
        InputError, match="must have version 2.1.0 of folder_of_images.* Received: version 2.0.1. Remove it"
    ):
        prepare(make(data_dir, source))
    assert left_in(data_dir) == FINISHED


def test_other_options(source, data_dir):
    prepare(make(data_dir, source, prefix="red"))
    before = left_in(data_dir)
    with pytest.raises(InputError) as error:
        prepare(make(data_dir, source, store_size=32))
    folder = data_dir / "folder_of_images" / "2.0.1"
    assert str(error.value) == (
        f"{folder} must be prepared with the same options as given now. Received: store_size 0 there, 32 now; "
        "prefix 'red' there, '' now. Remove it, or give another data folder."
    )
    prepare(make(data_dir, source, prefix="red"))
    prepare(FolderOfImages(data_dir=data_dir))  # without options: whatever is there
    assert left_in(data_dir) == before
    metadata = json.loads((folder / "metadata.json").read_text())
    del metadata["options"]["list"]  # as of a preparation before that option existed
    (folder / "metadata.json").write_text(json.dumps(metadata))
    prepare(make(data_dir, source, prefix="red"))


def test_a_file_that_was_edited_is_another_option(source, data_dir, tmp_path):
    lists = [tmp_path / "lists" / "names.txt", tmp_path / "elsewhere" / "names.txt"]
    for path in lists:
        path.parent.mkdir()
        path.write_text("a list\n")
    prepare(make(data_dir, source, list=str(lists[0])))
    prepare(make(data_dir, source, list=str(lists[1])))  # the same content in another place
    lists[0].write_text("another list\n")
    # By `printf 'a list\n' | sha256sum` and of the other.
    expected = r"list 'names.txt \(sha256 6237325672d78625\)' there, 'names.txt \(sha256 3d973a381ac86cff\)' now"
    with pytest.raises(InputError, match=expected):
        prepare(make(data_dir, source, list=str(lists[0])))
    with pytest.raises(InputError, match=r"list 'names.txt \(sha256 6237325672d78625\)' there, '' now"):
        prepare(make(data_dir, source))


# Other processes.


def test_remains_of_a_killed_run_are_removed(source, data_dir):
    folder = data_dir / "folder_of_images"
    (folder / "incomplete.ABC123_2.0.1").mkdir(parents=True)
    (folder / "incomplete.ABC123_2.0.1" / "dataset_info.json").touch()  # the last file to be written
    assert not is_prepared(make(data_dir, source))
    prepare(make(data_dir, source))
    assert left_in(data_dir) == FINISHED


def test_two_processes_do_not_write_at_once(source, data_dir):
    folder = data_dir / "folder_of_images"
    (folder / "incomplete.ABC123_2.0.1").mkdir(parents=True)
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # As the other process would hold it.
    with pytest.raises(InputError, match="Only one process can prepare folder_of_images at a time"):
        prepare(make(data_dir, source))
    assert left_in(folder) == ["incomplete.ABC123_2.0.1"]
    os.close(descriptor)
    prepare(make(data_dir, source))
    assert left_in(data_dir) == FINISHED


def start(code, *arguments, **options):
    """Starts a process that runs code with the names of this file."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    code = "import sys; from tests.data.test_prepare import *\n" + code
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], env=environment, **options)


WAITING = """
import time

def tell(self, split, report):
    if self._splits[split]["photos"] == 1:
        os.write(1, b"working")
        time.sleep(600)
    self._splits[split]["photos"] += 1

Audit.add = tell
prepared(FolderOfImages, sys.argv[1], sys.argv[2], processes=2)
"""


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_that_looks_finished(source, data_dir):
    with start(WAITING, data_dir, source, stdout=subprocess.PIPE) as process:
        assert process.stdout.read(7) == b"working"
        assert not is_prepared(make(data_dir, source))
        with pytest.raises(InputError, match="Only one process can prepare"):
            prepare(make(data_dir, source))
        process.send_signal(signal.SIGKILL)
    (left,) = (data_dir / "folder_of_images").iterdir()
    assert left.name.startswith("incomplete.")
    assert not is_prepared(make(data_dir, source))
    prepare(make(data_dir, source))
    assert left_in(data_dir) == FINISHED


def output_of_preparing(data_dir, source, is_terminal):
    """Prepares both kinds in a process; returns what each wrote to stdout and stderr, be they a terminal or a file."""
    code = (
        "prepare(Unpacked(data_dir=sys.argv[1]))\n"
        "print('NOW THE OTHER', flush=True)\n"
        "prepared(FolderOfImages, sys.argv[1], sys.argv[2])"
    )
    reader, writer = pty.openpty() if is_terminal else os.pipe()
    if is_terminal:
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with start(code, data_dir, source, stdout=writer, stderr=writer) as process:
        os.close(writer)
        output = b""
        with contextlib.suppress(OSError):  # How a terminal says that the other side has gone.
            while piece := os.read(reader, 4096):
                output += piece
    os.close(reader)
    assert process.returncode == 0, output
    # What TensorFlow itself says while it is loaded; the tools keep it away.
    notices = r"(?m)^(WARNING: All log messages before absl|[IWE]\d{4} \S+ +\d+ \w+\.cc:\d+\]).*\n"
    return re.sub(notices, "", output.decode()).split("NOW THE OTHER")


@pytest.mark.slow
def test_progress_shows_on_a_terminal_only(source, data_dir, tmp_path):
    with ThreadPoolExecutor() as pool:  # both at once, since each loads TensorFlow
        to_file = pool.submit(output_of_preparing, tmp_path / "other", source, is_terminal=False)
        to_terminal = pool.submit(output_of_preparing, data_dir, source, is_terminal=True)
    unpacked, folder = to_file.result()
    assert (unpacked.strip(), folder.strip()) == ("", "")
    unpacked, folder = to_terminal.result()
    assert "Generating train examples" in unpacked
    assert "prepare folder_of_images" in folder and "5/5" in folder and "Generating" not in folder
    assert "ownload" not in unpacked + folder
    assert set(FINISHED) < set(left_in(data_dir))
