"""tools/export.py as a user calls it."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.data.preprocessing import preprocess
from srn_tf.models.registry import ModelConfig
from srn_tf.runs.checkpoint import digest_of, save_weights
from tests.models.small import small_model
from tests.tools.running import ROOT, assert_refused, mostly_slow, run_without_tensorflow

IMAGE = tf.io.encode_png(np.random.default_rng(0).integers(0, 256, (40, 61, 3), dtype=np.uint8)).numpy()


@pytest.fixture(scope="module")
def main_net():
    return small_model("main_net", 2)


def write_run(folder, model):
    """A run's folder as far as tools/export.py needs it."""
    save_weights(str(folder / "checkpoints" / "final.npz"), model, {"labels": ["a", "b"]})
    description = {"dataset": "photos", "labels": ["a", "b"], "stages": ["cls"]}
    description["model"] = dataclasses.asdict(ModelConfig("main_net", "small", 56))
    description["format"] = 2
    (folder / "run.json").write_text(json.dumps(description))
    (folder / "flags.txt").write_text("--batch_size=8\n")


def run_tool(folder, *arguments):
    command = [sys.executable, ROOT / "tools" / "export.py", f"--work_dir={folder}", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_exports_a_run_under_the_next_free_number_with_its_thresholds(main_net, tmp_path):
    write_run(tmp_path, main_net)
    (tmp_path / "export" / "6").mkdir(parents=True)
    y_cls = main_net.network(preprocess(tf.constant(IMAGE), 56)[tf.newaxis], training=False)["y_cls"].numpy()
    p = 1 / (1 + np.exp(-y_cls.astype(np.float64)))
    tuned = {"labels": ["a", "b"], "output": "y_cls", "values": [p[0, 0] - 0.01, p[0, 1] + 0.01]}
    tuned["weights"] = digest_of(tmp_path / "checkpoints" / "final.npz")
    (tmp_path / "thresholds.json").write_text(json.dumps(tuned))
    result = run_tool(tmp_path)
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    assert f"y_cls uses the thresholds of {tmp_path}/thresholds.json" in result.stdout
    path = tmp_path / "export" / "7"
    assert str(path) in result.stdout.splitlines()
    assert result.stdout.splitlines()[-1].endswith(f"--model_base_path={tmp_path / 'export'}")
    answer = tf.saved_model.load(str(path)).signatures["serving_default"](tf.constant([IMAGE]))
    np.testing.assert_allclose(answer["probabilities"], p, rtol=0, atol=1e-5)
    assert answer["predicted"].numpy().tolist() == [[True, False]]
    description = json.loads((path / "assets.extra" / "export.json").read_text())
    assert description["run"]["dataset"] == "photos" and description["flags"] == {"batch_size": "8"}
    assert description["thresholds"] == tuned["values"] and description["metrics"] == {}


@pytest.mark.slow
def test_the_read_out_of_csra_without_the_thresholds_of_the_runs_own_answer(main_net, tmp_path):
    write_run(tmp_path, main_net)
    (tmp_path / "thresholds.json").write_text("{}")
    result = run_tool(tmp_path, "--csra_at_test=0.2")
    assert result.returncode == 0, result.stderr
    assert "Threshold 0.5 for every label.\n" in result.stdout
    image = preprocess(tf.constant(IMAGE), 56)[tf.newaxis]
    scores = main_net.parts["classifier"].get_layer("cls_logits")(main_net.parts["trunk"](image)["c5"]).numpy()
    y_csra = scores.mean(axis=(1, 2)) + 0.2 * scores.max(axis=(1, 2))
    path = tmp_path / "export" / "1"
    answer = tf.saved_model.load(str(path)).signatures["serving_default"](tf.constant([IMAGE]))
    np.testing.assert_allclose(answer["probabilities"], 1 / (1 + np.exp(-y_csra)), rtol=0, atol=1e-5)
    description = json.loads((path / "assets.extra" / "export.json").read_text())
    assert description["output"] == "y_csra" and description["run"]["model"]["settings"]["csra_at_test"] == 0.2


@pytest.mark.slow
def test_bfloat16_and_tflite(main_net, tmp_path):
    write_run(tmp_path, main_net)
    (tmp_path / "metrics.json").write_text(json.dumps({"dataset": "photos", "split": "test", "outputs": {}}))
    result = run_tool(tmp_path, "--precision=bfloat16", "--tflite=float16", "--version=3")
    assert result.returncode == 0, result.stderr
    extra = tmp_path / "export" / "3" / "assets.extra"
    description = json.loads((extra / "export.json").read_text())
    assert description["precision"] == "bfloat16" and description["metrics"]["split"] == "test"
    assert list(description["files"]) == ["model_float16.tflite"] and (extra / "model_float16.tflite").is_file()
    assert f"Exported {extra}/model_float16.tflite. Its probabilities differ" in result.stdout


@pytest.mark.slow
def test_refuses_thresholds_of_other_labels(main_net, tmp_path):
    write_run(tmp_path, main_net)
    file = tmp_path / "T.json"
    file.write_text(json.dumps({"labels": ["a", "c"], "output": "y_cls", "values": 0.4}))
    result = run_tool(tmp_path, f"--thresholds={file}")
    assert_refused(
        result, f"{file} must have the same labels in the same order. Expected at position 1: 'b'. Received: 'c'."
    )
    assert not (tmp_path / "export").exists()


@pytest.mark.slow
def test_refuses_metrics_that_cannot_be_read(main_net, tmp_path):
    write_run(tmp_path, main_net)
    (tmp_path / "metrics.json").write_text("{")
    assert_refused(run_tool(tmp_path), "metrics.json must be readable JSON", "Evaluate the run again", stdout=None)
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize(
    "arguments, parts",
    mostly_slow(
        [
            ([], ["This command needs --work_dir"]),
            (["--work_dir=RUN", "--precision=float16"], ["precision", "float32", "bfloat16"]),
            (["--work_dir=RUN", "--weights=frozen"], ["weights", "variables", "constants"]),
            (["--work_dir=RUN", "--tflite=int4"], ["tflite", "float16", "dynamic"]),
            (["--work_dir=RUN", "--version=0"], ["version"]),
            (["--work_dir=RUN", "RUN2"], ["Options must be written as --name=value. Received: 'RUN2'"]),
        ],
        fast=2,
    ),
)
def test_wrong_flags_are_answered_at_once(arguments, parts):
    assert_refused(run_without_tensorflow("export", *arguments), *parts)
