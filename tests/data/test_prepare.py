"""Preparing: finished or nothing, one clean message, quiet, and inside the data folder."""

import contextlib
import errno
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from srn_tf.data import examples
from srn_tf.data.image_files import read_image_file
from srn_tf.data.prepare import prepare
from srn_tf.errors import InputError


class FolderOfImages(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The images of a folder, all with the one label there is."""

    VERSION = tfds.core.Version("2.0.1")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Any folder\n  of images."
    url_infos = None
    failure = None  # Raised after the first record, if set.

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=examples.features(["any"]))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(dl_manager.manual_dir)}

    def _generate_examples(self, folder):
        for path in sorted(folder.iterdir()):
            labels = np.ones(1, np.int8)
            yield path.name, {"image": read_image_file(path), "name": path.name, "labels": labels, "objects": []}
            if self.failure is not None:
                raise self.failure


class FailsWhileEncoding(FolderOfImages, skip_registration=True):
    """Gives tfds an image that it reads itself, and that refuses."""

    def _generate_examples(self, folder):
        class Refuses:
            def read(self):
                raise InputError("a.jpg must be better. Received: worse.")

        yield "a", {"image": Refuses(), "name": "a", "labels": np.ones(1, np.int8), "objects": []}


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (4, 3), (ord(name[0]), 0, 0)).save(folder / name)
    return folder


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


def left_in(folder):
    """Everything under a folder, relative to it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


FINISHED = [
    "folder_of_images",
    "folder_of_images/2.0.1",
    "folder_of_images/2.0.1/dataset_info.json",
    "folder_of_images/2.0.1/features.json",
    "folder_of_images/2.0.1/folder_of_images-train.tfrecord-00000-of-00001",
    "folder_of_images/2.0.1/objects-label.labels.txt",
]


def test_writes_the_records_and_nothing_else(source, data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    builder = FolderOfImages(data_dir=data_dir)
    prepare(builder, source)
    assert left_in(data_dir) == FINISHED
    assert not (tmp_path / "home").exists()
    assert sorted(path.name for path in source.iterdir()) == ["a.png", "b.png", "c.png"]
    assert builder.info.splits["train"].num_examples == 3


def test_relative_source(source, data_dir, monkeypatch):
    monkeypatch.chdir(source.parent)
    prepare(FolderOfImages(data_dir=data_dir), "source")
    assert left_in(data_dir) == FINISHED


def test_a_prepared_data_set_needs_no_source(source, data_dir, monkeypatch):
    early = FolderOfImages(data_dir=data_dir)
    prepare(FolderOfImages(data_dir=data_dir), source)
    monkeypatch.setattr(FolderOfImages, "download_and_prepare", lambda *args, **kwargs: pytest.fail("prepared again"))
    prepare(FolderOfImages(data_dir=data_dir))
    prepare(early)  # Made before the records were there: learns of them.
    assert early.info.splits["train"].num_examples == 3
    assert len(list(early.as_dataset(split="train"))) == 3


def test_failure_leaves_nothing(source, data_dir):
    (source / "c.png").write_bytes(b"no image at all")
    with pytest.raises(InputError) as error:
        prepare(FolderOfImages(data_dir=data_dir), source)
    assert str(error.value).startswith(f"{source / 'c.png'} must be an image. Received 15 bytes")
    assert "\n" not in str(error.value)
    assert left_in(data_dir) == []
    (source / "c.png").unlink()
    prepare(FolderOfImages(data_dir=data_dir), source)
    assert left_in(data_dir) == FINISHED


def test_the_same_builder_can_try_again(source, data_dir):
    builder = FolderOfImages(data_dir=data_dir)
    builder.failure = InputError("x must be y. Received: z.")
    with pytest.raises(InputError, match="^x must be y. Received: z.$"):
        prepare(builder, source)
    builder.failure = None
    prepare(builder, source)
    assert left_in(data_dir) == FINISHED
    assert len(list(builder.as_dataset(split="train"))) == 3


def test_wrapped_error_is_one_line_again(source, data_dir):
    builder = FailsWhileEncoding(data_dir=data_dir)
    with pytest.raises(InputError, match="^a.jpg must be better. Received: worse.$"):
        prepare(builder, source)
    builder = FolderOfImages(data_dir=data_dir)
    builder.failure = RuntimeError("something around it")
    builder.failure.__cause__ = InputError("x must be y. Received: z.")
    with pytest.raises(InputError, match="^x must be y. Received: z.$"):
        prepare(builder, source)
    assert left_in(data_dir) == []


@pytest.mark.parametrize("failure", [KeyError("a defect"), KeyboardInterrupt()])
def test_other_errors_pass_and_leave_nothing(source, data_dir, failure):
    builder = FolderOfImages(data_dir=data_dir)
    builder.failure = failure
    with pytest.raises(type(failure)):
        prepare(builder, source)
    assert left_in(data_dir) == []


def test_full_disk(source, data_dir):
    builder = FolderOfImages(data_dir=data_dir)
    builder.failure = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(InputError, match=r"must be written to .*2.0.1. Received: \[Errno 28\] No space left"):
        prepare(builder, source)
    assert left_in(data_dir) == []


def test_data_dir_that_is_a_file(source, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="must be written to .*file/folder_of_images/2.0.1. Received: "):
        prepare(FolderOfImages(data_dir=tmp_path / "file"), source)


def test_folder_that_is_not_a_data_set(source, data_dir):
    (data_dir / "folder_of_images" / "2.0.1").mkdir(parents=True)
    with pytest.raises(InputError, match="must be a prepared data set. Received: no dataset_info.json"):
        prepare(FolderOfImages(data_dir=data_dir), source)


def test_source_is_checked(source, data_dir, tmp_path):
    builder = FolderOfImages(data_dir=data_dir)
    with pytest.raises(InputError, match="source folder of folder_of_images is needed, .*Any folder of images.$"):
        prepare(builder)
    with pytest.raises(InputError, match="source folder of folder_of_images must exist. Received: .*absent"):
        prepare(builder, tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="source folder of folder_of_images must not be empty. Received: .*empty"):
        prepare(builder, tmp_path / "empty")
    assert not data_dir.exists()


def test_remains_of_a_killed_run_are_removed(source, data_dir):
    folder = data_dir / "folder_of_images"
    (folder / "incomplete.ABC123_2.0.1").mkdir(parents=True)
    (folder / "incomplete.ABC123_2.0.1" / "part").touch()
    prepare(FolderOfImages(data_dir=data_dir), source)
    assert left_in(data_dir) == FINISHED


def test_two_processes_do_not_write_at_once(source, data_dir):
    folder = data_dir / "folder_of_images"
    (folder / "incomplete.ABC123_2.0.1").mkdir(parents=True)
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # As the other process would hold it.
    with pytest.raises(InputError, match="Only one process can prepare folder_of_images at a time"):
        prepare(FolderOfImages(data_dir=data_dir), source)
    assert left_in(folder) == ["incomplete.ABC123_2.0.1"]
    os.close(descriptor)
    prepare(FolderOfImages(data_dir=data_dir), source)
    assert left_in(data_dir) == FINISHED


def test_other_files_of_the_data_dir_stay(source, data_dir):
    (data_dir / "downloads").mkdir(parents=True)
    (data_dir / "downloads" / "mine.zip").touch()
    prepare(FolderOfImages(data_dir=data_dir), source)
    assert left_in(data_dir) == sorted([*FINISHED, "downloads", "downloads/mine.zip"])


def output_of_preparing(data_dir, source, is_terminal):
    """Prepares in a process of its own; returns what it wrote to stdout and stderr, be they a terminal or a file."""
    tests_dir = Path(__file__).resolve().parent
    code = "import sys; from test_prepare import *; prepare(FolderOfImages(data_dir=sys.argv[1]), sys.argv[2])"
    paths = os.pathsep.join([str(tests_dir.parents[1]), str(tests_dir)])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    reader, writer = pty.openpty() if is_terminal else os.pipe()
    if is_terminal:
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    command = [sys.executable, "-c", code, str(data_dir), str(source)]
    with subprocess.Popen(command, stdout=writer, stderr=writer, env=environment) as process:
        os.close(writer)
        output = b""
        with contextlib.suppress(OSError):  # How a terminal says that the other side has gone.
            while piece := os.read(reader, 4096):
                output += piece
    os.close(reader)
    assert process.returncode == 0, output
    return output.decode()


@pytest.mark.parametrize("is_terminal", [False, True])
def test_progress_shows_on_a_terminal_only(source, data_dir, is_terminal):
    output = output_of_preparing(data_dir, source, is_terminal)
    assert left_in(data_dir) == FINISHED
    assert ("Generating train examples" in output) == is_terminal
    assert "ownload" not in output
