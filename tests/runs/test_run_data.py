"""A run that is asked about another data set than its own: it is said, and nothing of its own is replaced."""

import logging

import numpy as np
import pytest

from srn_tf import run
from srn_tf.baselines.pooled_features import PooledFeatures
from srn_tf.comparison.runs import read_run
from srn_tf.data import scenes
from srn_tf.data.datasets import open_dataset
from srn_tf.data.scene_drawing import LABELS
from srn_tf.errors import InputError
from srn_tf.evaluation.predictions import SavedPredictions, load_predictions, save_predictions
from srn_tf.evaluation.thresholds import tune_run
from srn_tf.runs.run_data import open_run_data
from srn_tf.runs.work_dir import WorkDir
from srn_tf.visualization.sources import split_of_run
from tests.baselines.run_folder import write_run


@pytest.fixture
def other_dir(tmp_path, monkeypatch):
    """Folder of another data set with the same labels."""
    folder = str(tmp_path / "OTHER")
    monkeypatch.setattr(scenes, "SPLIT_SIZES", {"train": 8, "validation": 8, "test": 8})
    open_dataset("scenes", folder, folder)
    monkeypatch.undo()
    return folder


@pytest.mark.slow
def test_another_data_set_is_said_and_kept_apart(tiny_scenes_dir, other_dir, tmp_path, caplog):
    caplog.set_level(logging.WARNING, "srn_tf")
    own, other = (open_dataset("scenes", folder, folder).fingerprint for folder in (tiny_scenes_dir, other_dir))
    work = WorkDir(str(tmp_path / "RUN"))
    write_run(work.path, fingerprint=own)
    truth = np.tile(np.eye(2, len(LABELS), dtype=np.int8), (3, 1))
    predictions = SavedPredictions(np.array(list("abcdef")), truth, LABELS, {"y_cls": truth - np.float32(0.5)})
    save_predictions(work.predictions("validation"), predictions)
    assert open_run_data(work, tiny_scenes_dir)[1] and not caplog.messages

    metrics = run.evaluate_run(work.path, other_dir, "validation")
    kept = work.predictions("validation", other)
    assert (metrics["images"], metrics["fingerprint"]) == (8, other)
    assert metrics["other_data"] == {"data_dir": other_dir, "predictions": kept}
    assert len(load_predictions(kept).names) == 8 and kept.startswith(f"{work.path}/predictions/other-{other[:12]}/")
    (said,) = caplog.messages
    assert f"OTHER/scenes/{scenes.Scenes.VERSION} is not the one that {work.path} was trained on" in said
    # What reads a run's predictions has its own.
    assert read_run(work.path, "validation").predictions.names.tolist() == list("abcdef")
    assert tune_run(work.path, "validation", "F1-C", False)["images"] == 6

    title = f"scenes, test split of {other_dir}, not the data set that the model was trained on"
    assert split_of_run(work, other_dir, "test").title == title
    assert PooledFeatures(work.path, other_dir).fingerprint == other
    assert caplog.messages == [said] * 3


@pytest.mark.slow
def test_the_read_out_of_csra_is_asked_for_and_leaves_the_run_as_it_is(tiny_scenes_dir, tmp_path):
    work = WorkDir(str(tmp_path / "RUN"))
    write_run(work.path, final="y_cls")
    plain = run.evaluate_run(work.path, tiny_scenes_dir, "validation")
    before = load_predictions(work.predictions("validation")).logits
    asked = run.evaluate_run(work.path, tiny_scenes_dir, "validation", csra_at_test=0.5)
    assert list(asked["outputs"]) == ["y_csra", "y_cls"] and asked["csra_at_test"] == 0.5 and "final" not in asked
    assert asked["outputs"]["y_cls"] == plain["outputs"]["y_cls"] != asked["outputs"]["y_csra"]
    after = load_predictions(work.predictions("validation")).logits
    assert list(after) == ["y_cls"] and (after["y_cls"] == before["y_cls"]).all()
    write_run(tmp_path / "SRN", "srn")
    with pytest.raises(InputError, match="--csra_at_test needs a run of --model=main_net. Received: .* --model=srn."):
        run.evaluate_run(str(tmp_path / "SRN"), tiny_scenes_dir, "validation", csra_at_test=0.5)


def test_a_run_without_a_prepared_data_set(tiny_scenes_dir, tmp_path, caplog):
    write_run(tmp_path, fingerprint=None)
    assert open_run_data(WorkDir(str(tmp_path)), tiny_scenes_dir)[1]
    assert (
        f"run.json has no fingerprint of the run's data set. The data set in {tiny_scenes_dir} is assumed"
        in caplog.text
    )


def test_what_was_prepared_in_the_run_is_said(tiny_scenes_dir, tmp_path, caplog, monkeypatch):
    """A folder that is given, but whose data set was prepared elsewhere, is not read."""
    caplog.set_level(logging.INFO, "srn_tf")
    write_run(tmp_path / "RUN")
    monkeypatch.setattr(
        "srn_tf.runs.run_data.open_dataset", lambda *_: open_dataset("scenes", tiny_scenes_dir, tiny_scenes_dir)
    )
    open_run_data(WorkDir(str(tmp_path / "RUN")), str(tmp_path))
    assert f"Images are read from the prepared data in {tiny_scenes_dir}/scenes/" in caplog.text
    assert f", not from {tmp_path}." in caplog.text
