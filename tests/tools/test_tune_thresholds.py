"""tools/tune_thresholds.py as a user runs it, and its file on the way through evaluation, export and prediction."""

import csv
import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from srn_tf.evaluation.metrics import sigmoid
from srn_tf.evaluation.predictions import load_predictions
from tests.comparison.small_runs import LABELS, TRUTH, WEAK, write_run
from tests.tools.running import ROOT, assert_refused, mostly_slow, run_without_tensorflow


def write(folder, description=None, **options):
    """A run with the predictions WEAK on validation, of whose labels only disk gains: 37/45 to 14/15."""
    path = write_run(folder, {"seed": "0"}, scores=WEAK, split="validation", **options)
    run = folder / "run.json"
    run.write_text(json.dumps(json.loads(run.read_text()) | (description or {})))
    return path


def test_per_label(tmp_path):
    path = write(tmp_path, {"validation_fraction": 0.1, "validation_is_train": False})
    result = run_without_tensorflow("tune_thresholds", f"--work_dir={path}", "--per_label")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "y_hat on 4 validation images, protocol scenes, percent"
    assert lines[1:3] == ["F1-C: 82.22 at 0.5, 93.33 tuned", "F1-O: 80.00 at 0.5, 90.91 tuned"]
    assert lines[3:] == ["Thresholds from 0.1941 to 0.5000; 2 of 3 stay at 0.5.", f"{path}/thresholds.json"]
    written = json.loads((tmp_path / "thresholds.json").read_text())
    assert written["labels"] == list(LABELS) and written["values"][1:] == [0.5, 0.5]
    assert written["values"][0] == pytest.approx(0.1941, abs=1e-4)


def test_global_and_another_output(tmp_path):
    path = write(tmp_path / "run")
    output = tmp_path / "T.json"
    result = run_without_tensorflow("tune_thresholds", f"--work_dir={path}", "--metric=F1-O", f"--output={output}")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-2:] == ["Threshold for all labels: 0.5000.", str(output)]
    assert json.loads(output.read_text())["values"] == 0.5
    assert not (tmp_path / "run" / "thresholds.json").exists()


def test_labels_without_positives_and_training_images_are_said(tmp_path):
    labels = TRUTH.copy()
    labels[:, 1] = 0
    path = write(tmp_path, {"validation_fraction": 0.0, "validation_is_train": True}, labels=labels)
    result = run_without_tensorflow("tune_thresholds", f"--work_dir={path}", "--per_label")
    assert (result.returncode, result.stderr) == (0, "")
    assert "WARNING: the model was trained on these images " in result.stdout
    assert "Kept at 0.5, because no image here has the label: ring." in result.stdout


@pytest.mark.parametrize(
    ("arguments", "parts"),
    mostly_slow(
        [
            (["--split=test"], ["must not be tuned on the test split", "Tune on validation"]),
            (["--split=train"], ["train.npz must exist", "Evaluate the run on that split first"]),
            (["--metric=mAP"], ["metric", "mAP", "--help"]),
            (["--work_dir="], ["This command needs --work_dir"]),
            (["--work_dir={empty}"], ["work_dir must be a run of tools/train.py"]),
            (["--output={empty}/none/T.json"], ["none/T.json must be a writable file"]),
        ],
        fast=2,
    ),
    ids=lambda value: " ".join(value)[:30],
)
def test_bad_command_lines(tmp_path, arguments, parts):
    path = write(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    arguments = [argument.format(empty=tmp_path / "empty") for argument in arguments]
    assert_refused(run_without_tensorflow("tune_thresholds", f"--work_dir={path}", *arguments), *parts)
    assert not (tmp_path / "run" / "thresholds.json").exists()


def write_score_files(folder):
    np.savetxt(folder / "S.csv", WEAK, delimiter=",")
    np.savetxt(folder / "L.csv", TRUTH, delimiter=",")
    return [f"--scores={folder}/S.csv", f"--labels={folder}/L.csv", "--protocol=scenes", f"--output={folder}/J.json"]


@pytest.mark.parametrize(
    ("values", "f1_c"),
    mostly_slow(
        [([0.2, 0.5, 0.5], 14 / 15), (0.5, 37 / 45), (0.2, (1 + 2 / 3 + 2 / 5) / 3)],  # below -1: ring all, star all
        fast=1,
    ),
)
def test_score_files_by_thresholds(tmp_path, values, f1_c):
    file = tmp_path / "T.json"
    file.write_text(json.dumps({"labels": list(LABELS), "output": "y_hat", "values": values}))
    result = run_without_tensorflow("evaluate", *write_score_files(tmp_path), f"--thresholds={file}")
    assert (result.returncode, result.stderr) == (0, "")
    assert "Make sure that the scores are from the same model." in result.stdout
    written = json.loads((tmp_path / "J.json").read_text())
    assert written["threshold"] == values
    assert written["all"]["F1-C"] == pytest.approx(100 * f1_c)


@pytest.mark.parametrize(
    ("content", "parts"),
    mostly_slow(
        [
            (None, ["T.json must exist", "tune_thresholds.py"]),
            ('{"labels": ["a", "b"], "output": "y_hat", "values": 0.4}', ["Received: 2 labels, 3 columns"]),
            ("0.5", ["T.json must have labels, output and values"]),
            ("{", ["T.json must be a JSON file of thresholds"]),
            ('{"labels": ["a", "b", "c"], "output": "y_hat", "values": 1.2}', ["above 0 and below 1. Received: 1.2"]),
            (
                '{"labels": ["a", "b"], "output": "y_hat", "values": [0.4, 0.6]}',
                ["one per label (3)", "Received: [0.4 0.6]"],
            ),
        ],
        fast=2,
    ),
)
def test_score_files_and_a_bad_file_of_thresholds(tmp_path, content, parts):
    file = tmp_path / "T.json"
    if content is not None:
        file.write_text(content)
    assert_refused(run_without_tensorflow("evaluate", *write_score_files(tmp_path), f"--thresholds={file}"), *parts)
    assert not (tmp_path / "J.json").exists()


@pytest.fixture
def untrained_run(tiny_scenes_dir, tmp_path):
    """The folder of a run of the small main net whose weights are random, with its predictions on validation."""
    import keras

    from srn_tf import run
    from srn_tf.data.scene_drawing import LABELS as SCENE_LABELS
    from srn_tf.models.registry import ModelConfig, build_model
    from srn_tf.runs.checkpoint import save_weights

    config = ModelConfig("main_net", "small", 56)
    keras.utils.set_random_seed(0)
    model = build_model(config, SCENE_LABELS)
    labels = list(SCENE_LABELS)
    save_weights(str(tmp_path / "checkpoints" / "final.npz"), model, {"labels": labels})
    description = {
        "labels": labels,
        "model": dataclasses.asdict(config),
        "format": 3,
        "dataset": "scenes",
        "protocol": "scenes",
    }
    description |= {"stages": ["cls"], "validation_fraction": 0.1, "validation_is_train": False}
    (tmp_path / "run.json").write_text(json.dumps(description))
    run.evaluate_run(str(tmp_path), tiny_scenes_dir, "validation")
    return tmp_path


def run_whole_tool(name, *arguments):
    command = [sys.executable, ROOT / "tools" / f"{name}.py", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_from_tuning_to_predictions(untrained_run, tiny_scenes_dir):
    """What the exported model predicts of the validation images is what was tuned and evaluated."""
    from srn_tf.data.datasets import open_dataset

    run_without_tensorflow("tune_thresholds", f"--work_dir={untrained_run}", "--per_label")
    file = untrained_run / "thresholds.json"
    tuned = json.loads(file.read_text())
    assert tuned["after"]["F1-C"] > tuned["before"]["F1-C"] + 1

    places = [f"--work_dir={untrained_run}", f"--data_dir={tiny_scenes_dir}"]
    output = untrained_run / "J.json"
    said = run_whole_tool("evaluate", *places, "--split=validation", f"--thresholds={file}", f"--output={output}")
    assert f"y_cls uses the thresholds of {file}" in said
    evaluated = json.loads(output.read_text())["outputs"]["y_cls"]
    assert evaluated["threshold"] == tuned["values"]
    assert {name: evaluated["all"][name] for name in tuned["after"]} == pytest.approx(tuned["after"])

    assert f"thresholds of {file}" in run_whole_tool("export", f"--work_dir={untrained_run}")
    (untrained_run / "images").mkdir()
    records = open_dataset("scenes", tiny_scenes_dir, tiny_scenes_dir).records("validation").as_numpy_iterator()
    for index, record in enumerate(records):
        (untrained_run / "images" / f"{index:02d}.png").write_bytes(record["image"])
    arguments = [f"--saved_model={untrained_run}/export/1", f"--output={untrained_run}/P.csv", "--write=labels"]
    run_whole_tool("predict", *arguments, untrained_run / "images")
    with open(untrained_run / "P.csv", newline="", encoding="utf-8") as rows:
        header, *rows = csv.reader(rows)
    assert header == ["path", "labels", "error"]
    predictions = load_predictions(str(untrained_run / "predictions" / "validation.npz"))
    p = sigmoid(predictions.logits["y_cls"])
    assert np.abs(p - tuned["values"]).min() > 1e-5  # rounding decides nothing
    names = np.array(predictions.label_names)
    assert [row[1] for row in rows] == [";".join(names[row > tuned["values"]]) for row in p]
