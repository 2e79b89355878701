"""The model that was evaluated is the model that is served: the SavedModel scores as the model in memory does."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.data.datasets import open_dataset
from srn_tf.data.scene_drawing import LABELS
from srn_tf.errors import InputError
from srn_tf.evaluation.evaluator import Evaluator, score
from srn_tf.evaluation.protocols import SCENES
from srn_tf.serving.evaluation import evaluate_saved_model
from srn_tf.serving.export import export
from srn_tf.serving.predictor import DESCRIPTION
from tests.models.small import small_model


@pytest.fixture(scope="module")
def strategy():
    return tf.distribute.MirroredStrategy(["/cpu:0"])


@pytest.fixture(scope="module")
def model(strategy):
    with strategy.scope():
        return small_model("main_net", len(LABELS))


THRESHOLDS = np.linspace(0.2, 0.8, len(LABELS))


@pytest.fixture(scope="module")
def saved_model(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "export" / "1"
    export(model, LABELS, path, THRESHOLDS)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("split", ["test", "validation"])
def test_equals_the_model_in_memory(model, strategy, saved_model, tiny_scenes_dir, split):
    dataset = open_dataset("scenes", tiny_scenes_dir, tiny_scenes_dir)
    predictions = Evaluator(model, strategy).predict(dataset.records(split), 16)
    expected = score(predictions, SCENES, LABELS, {"y_cls": THRESHOLDS})
    metrics = evaluate_saved_model(saved_model, "scenes", tiny_scenes_dir, split)
    assert (metrics["dataset"], metrics["split"], metrics["images"]) == ("scenes", split, 16)
    assert "other_data" not in metrics
    assert metrics["labels"] == list(LABELS) and metrics["protocol"] == "scenes"
    served, in_memory = metrics["outputs"]["served"], expected["outputs"]["y_cls"]
    assert served["all"]["mAP"] == pytest.approx(in_memory["all"]["mAP"], abs=1e-6)
    assert served["all"]["F1-O"] == pytest.approx(in_memory["all"]["F1-O"], abs=1e-6)
    known = [value is not None for value in served["AP"]]
    assert any(known) and known == [value is not None for value in in_memory["AP"]]
    np.testing.assert_allclose(
        np.array(served["AP"])[known].astype(float), np.array(in_memory["AP"])[known].astype(float)
    )


@pytest.mark.slow
def test_labels_are_those_of_the_thresholds_served(model, strategy, saved_model, tiny_scenes_dir, tmp_path):
    shutil.copytree(saved_model, tmp_path / "1")
    description = tmp_path / "1" / DESCRIPTION
    description.write_text(json.dumps(json.loads(description.read_text()) | {"run": {"fingerprint": "12ab"}}))
    dataset = open_dataset("scenes", tiny_scenes_dir, tiny_scenes_dir)
    predictions = Evaluator(model, strategy).predict(dataset.records("test"), 16)
    expected = score(predictions, SCENES, LABELS, {"y_cls": THRESHOLDS}, top_k=5)["outputs"]["y_cls"]
    metrics = evaluate_saved_model(tmp_path / "1", "scenes", tiny_scenes_dir, "test", top_k=5)
    assert (metrics["dataset"], metrics["split"], metrics["images"]) == ("scenes", "test", 16)
    assert metrics["labels"] == list(LABELS) and metrics["protocol"] == "scenes"
    served = metrics["outputs"]["served"]
    assert metrics["other_data"] == {"data_dir": tiny_scenes_dir}  # which it was not trained on
    assert served["threshold"] == pytest.approx(THRESHOLDS.tolist())
    for table in ("all", "top5", "top5_plain"):
        assert served[table] == pytest.approx(expected[table])
    known = [value is not None for value in served["AP"]]
    assert any(known) and known == [value is not None for value in expected["AP"]]
    np.testing.assert_allclose(*(np.array(one["AP"])[known].astype(float) for one in (served, expected)))
    assert expected["all"] != score(predictions, SCENES, LABELS)["outputs"]["y_cls"]["all"]


@pytest.mark.slow
def test_other_labels(saved_model, tiny_scenes_dir, tmp_path):
    shutil.copytree(saved_model, tmp_path / "1")
    description = tmp_path / "1" / DESCRIPTION
    description.write_text(json.dumps(json.loads(description.read_text()) | {"labels": ["other", *LABELS[1:]]}))
    with pytest.raises(InputError, match="Expected at position 0: 'other'. Received: 'disk'"):
        evaluate_saved_model(tmp_path / "1", "scenes", tiny_scenes_dir, "test")
