"""tools/visualize.py end to end, as a user runs it."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from srn_tf.data.datasets import open_dataset
from srn_tf.data.scene_drawing import LABELS
from srn_tf.serving.evaluation import evaluate_saved_model
from srn_tf.serving.export import export
from tests.models.small import small_model
from tests.tools.running import ROOT, assert_refused, mostly_slow, run_without_tensorflow
from tests.visualization.embedded import data_of


def run_tool(*arguments):
    command = [sys.executable, ROOT / "tools" / "visualize.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def run(tiny_scenes_dir, tmp_path_factory):
    """A work folder as training leaves it; the folder of an older export is empty."""
    folder = tmp_path_factory.mktemp("run")
    tf.keras.utils.set_random_seed(0)
    model = small_model("srn", len(LABELS), head_channels=8)
    (folder / "export" / "2").mkdir(parents=True)
    export(model, LABELS, folder / "export" / "10", np.linspace(0.4, 0.6, len(LABELS)))
    description = {"format": 3, "dataset": "scenes", "validation_fraction": 0.1, "labels": list(LABELS)}
    description["fingerprint"] = open_dataset("scenes", tiny_scenes_dir, tiny_scenes_dir).fingerprint
    (folder / "run.json").write_text(json.dumps(description))
    return folder


@pytest.mark.slow
def test_page_of_a_split_of_a_run(run, tiny_scenes_dir, tmp_path):
    result = run_tool(
        f"--work_dir={run}",
        f"--data_dir={tiny_scenes_dir}",
        "--split=validation",
        "--page",
        "--num_images=5",
        "--labels=ring,disk",
        f"--output_dir={tmp_path / 'OUT'}",
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("Page of 16 images, 0.") and result.stdout.endswith(
        f" MB: {tmp_path}/OUT/page.html\n"
    )
    assert os.listdir(tmp_path / "OUT") == ["page.html"]
    text = (tmp_path / "OUT" / "page.html").read_text(encoding="utf-8")
    assert f"<title>scenes, validation split: {run}/export/10</title>" in text
    data = data_of(text)
    assert data["total"] == 16 and len(data["images"]) == 5
    np.testing.assert_allclose(data["thresholds"], np.linspace(0.4, 0.6, len(LABELS)))
    served = evaluate_saved_model(run / "export" / "10", "scenes", tiny_scenes_dir, "validation")
    assert data["metrics"]["AP"] == served["outputs"]["served"]["AP"]
    assert data["metrics"]["mAP"] == served["outputs"]["served"]["all"]["mAP"]

    for image in data["images"]:
        assert {LABELS.index("ring"), LABELS.index("disk")} <= set(image["labels"])


@pytest.mark.slow
def test_drawings_of_files(run, tmp_path):
    (tmp_path / "in").mkdir()
    random = np.random.default_rng(0)
    for name, size in (("wide.jpg", (200, 60)), ("high.png", (60, 200)), ("third.png", (80, 80))):
        Image.fromarray(random.integers(0, 256, (*size[::-1], 3), np.uint8)).save(tmp_path / "in" / name)
    result = run_tool(
        f"--saved_model={run / 'export' / '10'}",
        f"--output_dir={tmp_path / 'OUT'}",
        tmp_path / "in" / "wide.jpg",
        tmp_path / "in",
        "--num_images=2",
        "--labels=disk",
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"{tmp_path}/OUT/attention_1.png",
        "Drawn: 2 of 3 images; --num_images draws more.",
    ]
    with Image.open(tmp_path / "OUT" / "attention_1.png") as drawing:
        assert drawing.format == "PNG" and drawing.width > 500 and drawing.height > 300


# Several command lines in one process, which loads TensorFlow once.
SEVERAL = """
import json, sys
from absl import flags
from absl.testing import flagsaver
from srn_tf.commands import visualize
from srn_tf.errors import InputError
visualize.define_flags()
for arguments in json.loads(sys.argv[1]):
    with flagsaver.flagsaver():
        try:
            visualize.main(flags.FLAGS(["visualize.py", *arguments])[1:])
            print("done")
        except InputError as error:
            print(error)
"""


@pytest.mark.slow
def test_what_only_the_model_can_tell(run, tiny_scenes_dir, tmp_path):
    export(small_model("main_net", len(LABELS)), LABELS, tmp_path / "main_net" / "1")
    shutil.copytree(tmp_path / "main_net", tmp_path / "other")
    described = tmp_path / "other" / "1" / "assets.extra" / "export.json"
    described.write_text(described.read_text().replace('"disk"', '"x"'))
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    split = ["--dataset=scenes", f"--data_dir={tiny_scenes_dir}", f"--output_dir={tmp_path / 'OUT'}"]
    commands = [
        [f"--saved_model={run}/export/10", "--labels=disc", *split],
        [f"--saved_model={tmp_path}/main_net/1", *split],
        [f"--saved_model={tmp_path}/main_net/1", "--page", *split],
        [f"--saved_model={tmp_path}/other/1", "--page", *split],
    ]
    result = subprocess.run(
        [sys.executable, "-c", SEVERAL, json.dumps(commands)], cwd=ROOT, capture_output=True, text=True
    )
    said = result.stdout.splitlines()
    assert "Received: 'disc'. Some of them: disk" in said[0]
    assert (
        f"Only a model with maps or regions can be drawn. Received: {tmp_path}/main_net/1, a model without" in said[1]
    )
    assert said[2].startswith("16 images, ") and said[3] == "done"
    data = data_of((tmp_path / "OUT" / "page.html").read_text(encoding="utf-8"))
    assert data["maps"] == [] and data["summary"].endswith("The model has no maps.")
    assert (
        "The data set scenes must have the same labels in the same order. Expected at position 0: 'x'. Received: 'disk'"
        in said[4]
    )
    assert os.listdir(tmp_path / "OUT") == ["page.html"]


BAD = {
    "no model": (["--output_dir=OUT", "x.png"], "Give exactly one of --work_dir and --saved_model"),
    "two models": (
        ["--output_dir=OUT", "--saved_model=A", "--work_dir=B", "x.png"],
        "Give exactly one of --work_dir and",
    ),
    "no output": (["--saved_model=A", "x.png"], "This command needs --output_dir"),
    "no images": (["--saved_model=A", "--output_dir=OUT"], "Images must be given as files or folders, or as a split"),
    "no data set": (["--saved_model=A", "--data_dir=D", "--output_dir=OUT"], "Received: no --dataset"),
    "images and a split": (
        ["--saved_model=A", "--data_dir=D", "--output_dir=OUT", "x.png"],
        "--data_dir cannot be used with",
    ),
    "two data sets": (
        ["--work_dir=R", "--data_dir=D", "--dataset=scenes", "--output_dir=OUT"],
        "--dataset cannot be used with --work_dir",
    ),
    "wrong without truth": (["--saved_model=A", "--order=wrong", "--output_dir=OUT", "x.png"], "--order=wrong needs"),
    "missing image": (["--saved_model=A", "--output_dir=OUT", "none.png"], "Received: none.png, which does not"),
    "empty folder": (["--saved_model=A", "--output_dir=OUT", "empty"], "Received: empty, which has none"),
    "output in a file": (["--saved_model=A", "--output_dir=file/OUT", "x.png"], "Received: file/OUT (Not a directory)"),
    "number of images": (["--saved_model=A", "--output_dir=OUT", "--num_images=0", "x.png"], "num_images"),
    "no run": (["--work_dir=empty", "--output_dir=OUT", "x.png"], "which has no run.json"),
    "no export": (["--work_dir=run", "--output_dir=OUT", "x.png"], "Received: no export in run/export"),
    "unknown flag": (["--saved_model=A", "--output_dir=OUT", "--top=3", "x.png"], "top"),
}


@pytest.mark.parametrize("name", mostly_slow([(name,) for name in BAD], fast=2))
def test_bad_input_is_one_line_before_tensorflow_is_needed(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"format": 3}')
    (tmp_path / "file").write_text("")
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    arguments, expected = BAD[name]
    assert_refused(run_without_tensorflow("visualize", *arguments), expected)
