"""tools/knn.py as a user runs it; on feature files it needs no TensorFlow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.baselines import nus_folder
from tests.baselines.run_folder import write_run
from tests.tools.running import WITHOUT_TENSORFLOW, assert_refused, mostly_slow

TOOL = Path(__file__).parents[2] / "tools" / "knn.py"


def run_tool(*arguments, with_tensorflow=False):
    command = [sys.executable, *([] if with_tensorflow else ["-c", WITHOUT_TENSORFLOW]), TOOL, *arguments]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_on_a_run(tiny_scenes_dir, tmp_path):
    write_run(tmp_path / "run")
    out = tmp_path / "out"
    result = run_tool(
        f"--work_dir={tmp_path}/run",
        f"--data_dir={tiny_scenes_dir}",
        f"--output_dir={out}",
        "--k=1,5,64",
        with_tensorflow=True,
    )
    assert result.returncode == 0, result.stderr
    metrics = json.loads((out / "metrics.json").read_text())
    assert list(metrics["validation_mAP"]) == ["1", "5", "64"]
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Validation mAP by k: 1: ") and f"Chosen: k = {metrics['k']};" in lines[0]
    assert lines[1] == "scenes test: 16 images, 16 labels, protocol scenes, percent"
    row = next(line.split() for line in lines if line.startswith("knn "))
    assert row[1] == f"{metrics['outputs']['knn']['all']['mAP']:.2f}"


@pytest.mark.slow
def test_on_feature_files(tmp_path):
    folder = nus_folder.write(tmp_path / "nus")
    result = run_tool(f"--features_dir={folder}", f"--source_dir={folder}", f"--output_dir={tmp_path}/out", "--k=1,2")
    assert result.returncode == 0, result.stderr
    assert "nus_wide test: 5 images, 81 labels, protocol nus_wide, percent" in result.stdout
    assert (tmp_path / "out" / "predictions" / "test.npz").is_file()
    too_many = run_tool(f"--features_dir={folder}", f"--source_dir={folder}", f"--output_dir={tmp_path}/other")
    message = "k must be at most the number of training images, 18. Received: 1,5,10,20,50,100,200."
    assert_refused(too_many, message, stdout=None)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    mostly_slow(
        [
            ([], ["Give exactly one of --work_dir and --features_dir. Received: none."]),
            (["--work_dir=W", "--features_dir=F"], ["exactly one of --work_dir"]),
            (["--work_dir=W"], ["--work_dir needs --data_dir"]),
            (["--features_dir=F"], ["--features_dir needs --source_dir"]),
            (["--features_dir=F", "--source_dir=S"], ["features_dir must be a folder. Received: F"]),
            (["--work_dir=W", "--k=1,two"], ["k must be different whole numbers above 0", "'1,two'"]),
            (["--sigma=-1"], ["sigma", "-1", "--help"]),
            (["RUN"], ["Options must be written as --name=value. Received: 'RUN'"]),
        ],
        fast=2,
    ),
    ids=lambda value: " ".join(value)[:40],
)
def test_bad_command_lines(arguments, parts):
    assert_refused(run_tool("--output_dir=O", *arguments), *parts)


def test_the_output_is_required():
    assert_refused(run_tool("--work_dir=W", "--data_dir=D"), "output_dir")
