"""Saved predictions: what is written is read, and anything else is one message."""

import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.evaluation.predictions import SavedPredictions, load_predictions, save_predictions
from srn_tf.evaluation.sizes import LabelSizes


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    logits = {name: rng.normal(size=(3, 2)).astype(np.float32) for name in ("y_hat", "y_cls", "a_last")}
    labels = np.array([[1, 0], [-1, 1], [0, 0]], np.int8)
    sizes = LabelSizes(np.array([0, 2]), np.array([1, 0]), np.array([0.25, 0.5]))
    return SavedPredictions(np.array(["a/0.jpg", "b/ä.jpg", "c"]), labels, ("sky", "Straße"), logits, sizes)


def test_round_trip(predictions, tmp_path):
    path = tmp_path / "new" / "test.npz"
    save_predictions(str(path), predictions)
    assert [found.name for found in path.parent.iterdir()] == ["test.npz"]
    read = load_predictions(str(path))
    assert read.names.tolist() == ["a/0.jpg", "b/ä.jpg", "c"] and read.label_names == ("sky", "Straße")
    assert read.labels.dtype == np.int8 and read.labels.tolist() == [[1, 0], [-1, 1], [0, 0]]
    assert list(read.logits) == ["y_hat", "y_cls", "a_last"]  # the final output stays first
    for name, values in vars(predictions.sizes).items():
        np.testing.assert_array_equal(getattr(read.sizes, name), values)
    for name, logits in predictions.logits.items():
        assert read.logits[name].dtype == np.float32
        np.testing.assert_array_equal(read.logits[name], logits)


def test_missing(tmp_path):
    with pytest.raises(
        InputError, match="test.npz must exist. Received: no such file. Evaluate the run .*--split=SPLIT"
    ):
        load_predictions(str(tmp_path / "test.npz"))


def test_something_else(predictions, tmp_path):
    path = tmp_path / "test.npz"
    path.write_text("no archive")
    with pytest.raises(InputError, match="test.npz must be the predictions of a run. Received: "):
        load_predictions(str(path))
    np.savez(path, other=np.zeros(2))
    with pytest.raises(InputError, match="must be the predictions of a run. Received: .*label_names"):
        load_predictions(str(path))
    save_predictions(str(path), predictions)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="must be the predictions of a run"):
        load_predictions(str(path))


def test_unwritable(predictions, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Predictions must be written to .*file/test.npz"):
        save_predictions(str(tmp_path / "file" / "test.npz"), predictions)
