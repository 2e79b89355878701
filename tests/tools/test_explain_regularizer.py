"""tools/explain_regularizer.py as a user runs it; a wrong command line needs no TensorFlow."""

import csv
import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from tests.baselines.run_folder import write_run
from tests.tools.running import ROOT, assert_refused, run_without_tensorflow

TOOL = ROOT / "tools" / "explain_regularizer.py"


def run_tool(*arguments):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([sys.executable, TOOL, *arguments], env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_on_a_run(tiny_scenes_dir, tmp_path):
    run = tmp_path / "run"
    write_run(run, "srn")
    out = tmp_path / "new" / "out"
    result = run_tool(
        *(f"--work_dir={run}", f"--data_dir={tiny_scenes_dir}", "--split=train", f"--output_dir={out}"),
        *("--neurons=1,30", "--min_images=20"),
    )
    assert (result.returncode, result.stderr) == (0, "")
    record = json.loads((out / "regularizer.json").read_text())
    assert (record["dataset"], record["split"], record["images"], record["neurons"]) == ("scenes", "train", 64, 32)
    assert [one["neuron"] for one in record["exciting_images"]] == [1, 30]
    assert all(name.startswith("train/") for name in record["exciting_images"][0]["images"])
    with open(out / "regularizer.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == record["places"]["correlations"] + record["offsets"]["correlations"]
    assert min(int(row["images"]) for row in rows) >= 20
    assert {"disk", "square", "cross", "ring"} <= {row["place_of"] for row in rows}

    found = record["places"]["above_chance"] + record["offsets"]["above_chance"]
    pictures = ["locations.png"] * bool(found) + ["neurons.png"]
    assert sorted(path.name for path in out.iterdir()) == sorted(["regularizer.csv", "regularizer.json", *pictures])
    paths = [str(out / name) for name in ("regularizer.csv", "regularizer.json", *pictures)]
    assert result.stdout.splitlines()[0].startswith("scenes train: 64 images, 32 neurons of conv4")
    assert result.stdout.splitlines()[-len(paths) :] == paths
    with Image.open(out / "neurons.png") as image:
        assert image.format == "PNG" and image.width == 1200


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--neurons=1,two"], ["--neurons must be whole numbers separated by commas. Received: '1,two'"]),
        (["--split=val"], ["split", "val", "train|validation|test", "--help"]),
        (["--min_images=3"], ["min_images", "3", "--help"]),
        (["--output_dir=/dev/null/out"], ["--output_dir must be a writable folder", "/dev/null/out"]),
        (["RUN"], ["Options must be written as --name=value. Received: 'RUN'"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_bad_command_lines(arguments, parts):
    assert_refused(run_without_tensorflow("explain_regularizer", *flags(), *arguments), *parts)


@pytest.mark.parametrize("missing", ["work_dir", "data_dir", "output_dir"])
def test_the_places_are_required(missing):
    assert_refused(run_without_tensorflow("explain_regularizer", *flags(missing)), missing)


def flags(without=None):
    return [f"--{name}=F" for name in ("work_dir", "data_dir", "output_dir") if name != without]
