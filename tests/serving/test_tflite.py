"""The TFLite files answer as the model in memory does, and lie beside the labels."""

import json

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.errors import InputError
from srn_tf.serving import tflite
from srn_tf.serving.export import export
from tests.models.small import small_model

LABELS = ["dog", "cat, small", "Straße"]


@pytest.fixture(scope="module")
def model():
    tf.keras.utils.set_random_seed(0)
    return small_model("srn", 3, head_channels=16)


@pytest.mark.slow
@pytest.mark.parametrize("kind, tolerance", [("float16", 0.01), ("dynamic", 0.1)])
def test_equals_the_model_in_memory(model, tmp_path, kind, tolerance):
    export(model, LABELS, tmp_path / "1", tflite=kind)
    extra = tmp_path / "1" / "assets.extra"
    interpreter = tflite.interpreter(model_path=str(extra / f"model_{kind}.tflite"))
    (given,) = interpreter.get_signature_list()["serving_default"]["inputs"]
    assert given == "image"
    run = interpreter.get_signature_runner()
    images = np.random.default_rng(0).uniform(0, 255, (4, 56, 56, 3)).astype(np.float32)
    expected = tf.sigmoid(model.network(images, training=False)["y_hat"]).numpy()
    one_by_one = np.concatenate([run(image=image[np.newaxis])["probabilities"] for image in images])
    for received in (one_by_one, run(image=images)["probabilities"]):  # in a batch they are answered alike
        assert received.dtype == np.float32
        np.testing.assert_allclose(received, expected, rtol=0, atol=tolerance)
    assert np.ptp(expected, axis=0).max() > 0.01
    assert (extra / "labels.txt").read_text(encoding="utf-8").splitlines() == LABELS
    check = json.loads((extra / "export.json").read_text())["files"][f"model_{kind}.tflite"]
    assert 0 < check["largest_difference"]["probabilities"] <= check["tolerance"]["probabilities"]
    assert f"model_{kind}.tflite" in (extra / "model_card.md").read_text()


@pytest.mark.slow
def test_a_difference_publishes_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(tflite.TOLERANCES, "float16", {"probabilities": 0.0})
    with pytest.raises(
        InputError, match="The float16 TFLite model must agree with the model in memory.*Nothing was exported"
    ):
        export(small_model("main_net", 3), LABELS, tmp_path / "1", tflite="float16")
    assert not list(tmp_path.iterdir())
