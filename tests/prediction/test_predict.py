"""Whole predictions: rows in order, failures in their rows, and runs that are killed and continue."""

import itertools
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from srn_tf.errors import InputError
from srn_tf.prediction import predict
from srn_tf.prediction.parts import Parts
from srn_tf.prediction.predict import Summary, predict_files
from tests.prediction.pictures import DAMAGED, LABELS, ColourPredictor, cells_of, damage, read_csv, write_pictures

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(predict, "_PART_ROWS", 8)


@pytest.fixture
def pictures(tmp_path):
    """40 paths, of which every fifth is damaged, in all kinds."""
    paths = write_pictures(tmp_path / "images", 40)
    for position, path in enumerate(paths[::5]):
        damage(Path(path), list(DAMAGED)[position % len(DAMAGED)])
    return paths


def test_rows(pictures, tmp_path):
    output = tmp_path / "P.csv"
    output.write_text("an older result")
    assert predict_files(ColourPredictor(), pictures, str(output), batch_size=3) == Summary(40, 8)
    header, *rows = read_csv(output)
    assert header == ["path", *LABELS, "error"] and [row[0] for row in rows] == pictures
    for index, (_, *cells, error) in enumerate(rows):
        if index % 5:
            assert cells == cells_of(index) and error == ""
        else:
            assert cells == ["", "", ""] and list(DAMAGED.values())[index // 5 % len(DAMAGED)][1] in error
    assert sorted(os.listdir(tmp_path)) == ["P.csv", "images"]


@pytest.mark.parametrize("write, top_k, cells", [("labels", None, [LABELS[2]]), ("top_k", 1, [LABELS[2], "0.784314"])])
def test_what_is_written(tmp_path, write, top_k, cells):
    paths = write_pictures(tmp_path, 2)
    predict_files(ColourPredictor(), paths, str(tmp_path / "P.csv"), write, top_k)
    assert read_csv(tmp_path / "P.csv")[1:] == [[path, *cells, ""] for path in paths]


def stopping(output, parts, error):
    """A predictor that fails for good when so many parts of the output are there."""

    def before(call):
        if len(list(parts_folder(output).glob("*-*"))) >= parts:
            raise error

    return ColourPredictor(before)


def parts_folder(output):
    return Path(output).parent / f".{Path(output).name}.parts"


@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet", "coco.json"])
def test_stopped_runs_continue_to_the_same_output(pictures, tmp_path, extension, caplog):
    caplog.set_level("INFO", "srn_tf")
    undisturbed, predictor = ColourPredictor(), ColourPredictor()
    predict_files(undisturbed, pictures, str(tmp_path / f"whole.{extension}"), batch_size=4)
    output = str(tmp_path / f"P.{extension}")
    for parts, error in ((1, KeyboardInterrupt()), (2, InputError("A server must answer."))):
        with pytest.raises(type(error)):
            predict_files(stopping(output, parts, error), pictures, output, batch_size=4)
        assert "The same command continues" in caplog.text
        assert parts_folder(output).is_dir() and not os.path.exists(output)
    assert predict_files(predictor, pictures, output, batch_size=4) == Summary(40, 8)
    assert "of 40 images already have an answer" in caplog.text
    assert sum(predictor.asked) < sum(undisturbed.asked)
    assert Path(output).read_bytes() == (tmp_path / f"whole.{extension}").read_bytes()
    assert not parts_folder(output).exists()


def test_run_that_was_killed_while_it_joined(pictures, tmp_path, monkeypatch):
    output = tmp_path / "P.csv"
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)  # all but the plan stays
        predict_files(ColourPredictor(), pictures, str(output))
    first = output.read_bytes()
    predict_files(ColourPredictor(), pictures, str(output))
    with monkeypatch.context() as patch:
        patch.setattr(Parts, "remove", lambda _: None)  # everything stays
        predict_files(ColourPredictor(), pictures, str(output))
    predictor = ColourPredictor()
    assert predict_files(predictor, pictures, str(output)) == Summary(40, 8)
    assert predictor.asked == [] and output.read_bytes() == first
    assert sorted(os.listdir(tmp_path)) == ["P.csv", "images"]


def run_until_killed(arguments, parts, signal_number):
    """Starts a run and sends it a signal when so many parts are there; returns its status and stderr."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.prediction.slow_run", *map(str, arguments)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what runs in the background without Ctrl-C, and so would these tests' children be.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    folder = parts_folder(arguments[1])
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*-*"))) < parts:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal_number)
    _, stderr = process.communicate(timeout=60)
    return process.returncode, stderr


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_twice(pictures, tmp_path, signal_number):
    folder, whole, output = tmp_path / "images", tmp_path / "whole.csv", tmp_path / "P.csv"
    assert run_to_end(folder, whole) == ""
    for parts in (1, 3):
        status, _ = run_until_killed([folder, output, 0.05], parts, signal_number)
        assert status == -signal_number and not output.exists()
    assert run_to_end(folder, output) == ""
    assert output.read_bytes() == whole.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["P.csv", "images", "whole.csv"]


def run_to_end(folder, output):
    """Returns stderr."""
    command = [sys.executable, "-m", "tests.prediction.slow_run", folder, output, "0"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stderr


@pytest.mark.parametrize("change", ["model", "images", "write", "folder"])
def test_another_run_is_not_mixed_in(pictures, tmp_path, change, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures = [os.path.relpath(path) for path in pictures]
    output = str(tmp_path / "P.csv")
    with pytest.raises(KeyboardInterrupt):
        predict_files(stopping(output, 1, KeyboardInterrupt()), pictures, output, batch_size=4)
    predictor, paths, options = ColourPredictor(), list(pictures), {"batch_size": 4}
    if change == "model":
        predictor.identity = "another"
    elif change == "images":
        paths[1], paths[2] = paths[2], paths[1]
    elif change == "write":
        options = {"batch_size": 4, "write": "labels"}
    else:
        monkeypatch.chdir(tmp_path / "images")  # the same words, but other files
    with pytest.raises(
        InputError, match=f"begun with another {'images' if change == 'folder' else change}..*--restart"
    ):
        predict_files(predictor, paths, output, **options)
    assert predictor.asked == []
    if change != "folder":
        assert predict_files(predictor, paths, output, **options, restart=True) == Summary(40, 8)


def test_no_image_that_can_be_used(tmp_path):
    output = tmp_path / "P.csv"
    output.write_text("an older result")
    with pytest.raises(InputError) as error:
        predict_files(ColourPredictor(), ["a.jpg"] * 20, str(output))
    assert "Received: 20 unreadable images. Nothing was written. The first: An image file must exist" in str(
        error.value
    )
    assert os.listdir(tmp_path) == ["P.csv"] and output.read_text() == "an older result"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"output": "none/P.csv"}, "must be a writable file"),
        ({"output": "P.txt"}, "must end in .csv"),
        ({"write": "top_k", "top_k": 4}, "top_k must be 1 to 3"),
    ],
)
def test_refused_before_any_work(tmp_path, arguments, message):
    predictor = ColourPredictor()
    arguments = {**arguments, "output": str(tmp_path / arguments.get("output", "P.csv"))}
    with pytest.raises(InputError, match=message):
        predict_files(predictor, write_pictures(tmp_path / "images", 2), **arguments)
    assert predictor.asked == [] and os.listdir(tmp_path) == ["images"]


class Repeated:
    """One path many times over, without memory for them."""

    def __init__(self, path, length):
        self._path, self._length = path, length

    def __len__(self):
        return self._length

    def __iter__(self):
        return itertools.repeat(self._path, self._length)

    def __getitem__(self, part):
        return [self._path] * len(range(*part.indices(self._length)))


@pytest.mark.slow
@pytest.mark.parametrize("extension", ["csv", "parquet"])
def test_memory_does_not_grow_with_the_images(tmp_path, monkeypatch, extension):
    """Three times the rows: 0.4 MB if they were kept."""
    monkeypatch.setattr(predict, "_PART_ROWS", 64)
    (path,) = write_pictures(tmp_path / "images", 1)
    peaks = []
    for length in (64, 500, 1500):  # the first for what is imported late, the second fills all queues
        tracemalloc.start()
        predict_files(ColourPredictor(), Repeated(path, length), str(tmp_path / f"P.{extension}"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < 150_000, peaks
