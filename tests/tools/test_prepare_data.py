"""tools/prepare_data.py as a user runs it: a data set, or one line on stderr, a status, and nothing left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from srn_tf.data import examples
from tests.data.folder_of_images import left_in
from tests.data.test_coco2014 import source  # noqa: F401 (a fixture)
from tests.tools.running import mostly_slow

ROOT = Path(__file__).parents[2]


def start_tool(*arguments):
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.Popen(
        [sys.executable, ROOT / "tools" / "prepare_data.py", *arguments],
        env={**environment, "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what runs in the background without Ctrl-C, and so would these tests' children be.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def output_of(process):
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, ""), errors
    return output.splitlines()


def assert_refused(process, *parts, status=1):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == status, errors
    assert len(errors.splitlines()) == 1 and errors.startswith("error: "), errors
    for part in parts:
        assert part in errors


@pytest.mark.slow
def test_a_data_set_and_what_can_be_done_with_it(source, tmp_path):  # noqa: F811
    data_dir = tmp_path / "data"
    prepare = ["--dataset=coco2014", f"--source_dir={source}", f"--data_dir={data_dir}"]
    lines = output_of(start_tool(*prepare, "--processes=2", "--store_size=32", "--label_order=alphabetical"))
    folder = data_dir / "coco2014" / "1.0.0"
    last_lines = [
        f"coco2014: 3 train, 2 test images, 80 labels, in {folder}",
        f"Look at it:  python tools/describe_data.py --dataset=coco2014 --data_dir={data_dir} --output_dir=OUT",
        f"Train on it: python tools/train.py --flagfile=configs/coco2014_resnet101.flags --data_dir={data_dir} "
        "--work_dir=RUN",
    ]
    assert lines[0] == "Warning: coco2014: train images: found 3, published 82,783."
    assert "coco2014 train: 3 images kept, 1 without label, 0 rejected." in lines
    assert lines[-3:] == last_lines
    start = lines.index("Images with each label:")
    shown = lines[start + 1 : -3]
    assert len(shown) == 41 and shown[20] == f"  ... 40 others: label_counts in {folder / 'metadata.json'}"
    assert shown[0] == "  airplane: 0 train, 0 test" and shown[-1] == "  zebra: 0 train, 0 test"
    builder = tfds.builder_from_directory(folder)
    counts = examples.stored_metadata(builder)["label_counts"]
    for split in ("train", "test"):
        records = list(tfds.as_numpy(builder.as_dataset(split=split)))
        truth = np.sum([record["labels"] == 1 for record in records], axis=0)
        assert [of_splits[split] for of_splits in counts.values()] == truth.tolist()
        sizes = [record["image"].shape[:2] == (32, 32) for record in records]
        assert sizes == ([False, True, True] if split == "train" else [False, False])

    before = {path: path.stat().st_mtime_ns for path in data_dir.rglob("*")}
    for path in source.rglob("*.jpg"):  # A prepared data set needs none of them.
        path.unlink()
    again = start_tool(*prepare, "--store_size=32", "--label_order=alphabetical")
    other_options = start_tool(*prepare, "--nokeep_unlabelled")
    assert output_of(again) == [
        f"5 image(s) are no longer in {source}. Labels were not compared with the prepared ones.",
        "Already prepared; nothing to do.",
        *lines[start:],
    ]
    assert_refused(
        other_options,
        f"{folder} must be prepared with the same options as given now. Received: store_size 32 there, 0 now; "
        "keep_unlabelled True there, False now; label_order 'alphabetical' there, 'category_id' now. Remove it",
    )
    assert {path: path.stat().st_mtime_ns for path in data_dir.rglob("*")} == before


@pytest.mark.slow
def test_own_photographs_looked_at_and_then_prepared(tmp_path):
    for name, colour in (("cat/a", 10), ("cat/b", 60), ("dog/c", 110), ("dog/d", 160), ("dog/e", 10)):
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (colour, 0, 0)).save(path)
    prepare = ["--dataset=folders", f"--source_dir={tmp_path}/photos", f"--data_dir={tmp_path}/data"]
    lines = output_of(start_tool(*prepare, f"--preview={tmp_path}/look", "--test_fraction=0.5"))
    page = f"{tmp_path}/look/preview.html"
    merged = "1 files are the same image as another, the first dog/e.png as cat/a.png"
    assert lines[0].startswith(merged)
    assert lines[-1] == f"folders: 2 train, 2 test images, 2 labels. Nothing was prepared. Page: {page}"
    assert "<td>names of folders</td>" in Path(page).read_text() and not (tmp_path / "data").exists()

    lines = output_of(start_tool(*prepare, "--test_fraction=0.5"))
    assert lines[-1] == (
        f"Train on it: python tools/train.py --flagfile=configs/own_photos.flags --dataset=folders "
        f"--data_dir={tmp_path}/data --work_dir=RUN"
    )
    assert lines[-3] == f"folders: 2 train, 2 test images, 2 labels, in {tmp_path}/data/folders/1.0.0"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    mostly_slow(
        [
            (["--dataset=imagenet"], ["dataset", "imagenet", "coco2014"]),
            (["--dataset=coco2014", "--store_size=-1"], ["store_size", "-1"]),
            (["--dataset=coco2014", "--max_rejected=2"], ["max_rejected", "2"]),
            (["--dataset=coco2014", "--processes=all"], ["processes", "all"]),
            (["--dataset=coco2014", "--label_order=any"], ["label_order", "any", "alphabetical"]),
            (
                ["--dataset=coco2014", "--stor_size=32"],
                ["Unknown command line flag 'stor_size'", "prepare_data.py --help"],
            ),
            (["--dataset=coco2014", "DOWNLOADED"], ["Options must be written as --name=value. Received: 'DOWNLOADED'"]),
            (["--source_dir=S"], ["dataset"]),
            (["--dataset=coco2014", "--beam_options=--a=1"], ["--beam_options needs --beam_runner"]),
            (
                ["--dataset=coco2014", "--beam_runner=DirectRunner", "--beam_options='--a"],
                ["--beam_options must be flags in shell syntax. Received: '--a (No closing quotation)"],
            ),
        ],
        fast=2,
    ),
    ids=lambda value: " ".join(value)[:60],
)
def test_bad_flags(arguments, parts, tmp_path):
    """Found before TensorFlow is loaded."""
    assert_refused(start_tool(f"--data_dir={tmp_path}/data", *arguments), *parts)
    assert left_in(tmp_path) == []


@pytest.mark.slow
def test_bad_sources_and_options(source, tmp_path):  # noqa: F811
    """These load TensorFlow, so they run beside one another."""
    damaged = source / "val2014" / "COCO_val2014_000000000073.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    start = ["--dataset=coco2014", f"--source_dir={source}"]
    cases = {
        "absent": (
            ["--dataset=voc2007", f"--source_dir={tmp_path}/absent"],
            [f"source_dir of voc2007 must exist. Received: {tmp_path}/absent. "],
        ),
        "options": (
            [*start, "--variant=labelled"],
            ["Options of coco2014 must be among store_size, keep_unlabelled, label_order. Received: 'variant'"],
        ),
        "damaged": (
            start,
            [
                "At most 0.10% of the 5 images of coco2014 may be damaged. Received: 1 damaged so far",
                f"{damaged} must be an undamaged image",
                f"listed in {tmp_path}/damaged/coco2014_rejected.csv",
            ],
        ),
    }
    processes = {name: start_tool(*command, f"--data_dir={tmp_path / name}") for name, (command, _) in cases.items()}
    for name, (_, parts) in cases.items():
        assert_refused(processes[name], *parts)
        assert left_in(tmp_path / name) == (["coco2014_rejected.csv"] if name == "damaged" else []), name


@pytest.mark.slow
def test_interrupted(source, tmp_path):  # noqa: F811
    annotations = source / "annotations" / "instances_val2014.json"
    annotations.unlink()
    os.mkfifo(annotations)
    process = start_tool("--dataset=coco2014", f"--source_dir={source}", f"--data_dir={tmp_path}/data")
    with open(annotations, "w"):  # Goes on once the tool is about to read.
        process.send_signal(signal.SIGINT)
        assert_refused(process, "Interrupted.", status=130)
    assert left_in(tmp_path / "data") == []


def test_help_shows_the_flags():
    process = start_tool("--help")
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert "--label_order" not in output and "--helpfull shows more flags: Published data sets." in output
    for flag in ("--source_dir", "--store_size", "--max_rejected", "--beam_runner"):
        assert flag in output
