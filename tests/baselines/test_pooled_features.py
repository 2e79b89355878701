"""Pooled features: what a model's classifier reads, of the images of its run's data set."""

import json

import numpy as np
import pytest

from srn_tf.baselines import pooled_features
from srn_tf.baselines.pooled_features import PooledFeatures
from srn_tf.data.datasets import open_dataset
from srn_tf.data.preprocessing import preprocess
from srn_tf.data.scene_drawing import LABELS
from srn_tf.errors import InputError
from srn_tf.runs import run_data
from tests.baselines.run_folder import write_run


@pytest.mark.slow
def test_images_of_every_role(tiny_scenes_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(pooled_features, "EVALUATION_BATCH", 24)  # the last batch of each role is filled up
    model = write_run(tmp_path / "run")
    source = PooledFeatures(str(tmp_path / "run"), tiny_scenes_dir)
    assert (source.dataset, source.protocol, source.labels) == ("scenes", "scenes", LABELS)
    assert (source.num_train, source.validation_fraction, source.distance) == (64, 0.1, "euclidean")
    assert source.flags == {"features": "main_net", "dataset": "scenes", "seed": "3"}
    assert source.describe()["model"]["backbone"] == "small" and source.describe()["seed"] == 3

    images = source.read()
    dataset = open_dataset("scenes", tiny_scenes_dir, tiny_scenes_dir)
    for role, count in (("train", 64), ("validation", 16), ("test", 16)):
        found = images[role]
        records = list(dataset.records(role).as_numpy_iterator())
        assert found.names.tolist() == [record["name"].decode() for record in records]
        np.testing.assert_array_equal(found.labels, [record["labels"] for record in records])
        assert found.features.shape == (count, 128)
        assert (found.labels.dtype, found.features.dtype) == (np.int8, np.float32)
        batch = np.stack([preprocess(record["image"], 56) for record in records])
        last_map = model.parts["trunk"](batch, training=False)["c5"]
        np.testing.assert_allclose(found.features, last_map.numpy().mean(axis=(1, 2)), rtol=1e-4, atol=1e-5)
    assert np.ptp(images["test"].features, axis=0).max() > 0.01  # the images differ


def refuse(message, tmp_path, tiny_scenes_dir):
    with pytest.raises(InputError, match=message):
        PooledFeatures(str(tmp_path), tiny_scenes_dir)


def test_folders_that_are_no_trained_runs(tiny_scenes_dir, tmp_path):
    refuse("work_dir must be a run of tools/train.py", tmp_path, tiny_scenes_dir)
    write_run(tmp_path)
    (tmp_path / "flags.txt").unlink()
    refuse("flags.txt must have the run's flags. Received: No such file or directory", tmp_path, tiny_scenes_dir)
    (tmp_path / "checkpoints" / "final.npz").unlink()
    refuse("which has no final weights", tmp_path, tiny_scenes_dir)
    run = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**run, "labels": ["zebra", *LABELS[1:]]}))
    refuse("Expected at position 0: 'zebra'", tmp_path, tiny_scenes_dir)
    (tmp_path / "run.json").write_text(json.dumps({**run, "model": {"model": "knn"}}))
    refuse("work_dir must be the run of a network. Received: .*, a result of KNN", tmp_path, tiny_scenes_dir)


def test_validation_must_not_be_training(tiny_scenes_dir, tmp_path, monkeypatch):
    """Every image would be its own nearest neighbour."""

    def open_without_validation(*arguments):
        dataset = open_dataset(*arguments)
        dataset.splits["validation"] = dataset.splits["train"]
        return dataset

    write_run(tmp_path)
    monkeypatch.setattr(run_data, "open_dataset", open_without_validation)
    refuse("that are not training images. Received: .*, a run that held out no image", tmp_path, tiny_scenes_dir)
