"""The ONNX file answers as the model in memory does; without its packages the user is told which to install."""

import json
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from srn_tf.errors import InputError
from srn_tf.models.model import MultiLabelModel, Stage, label_loss
from srn_tf.models.registry import METHODS
from srn_tf.serving.export import export
from tests.models.small import SMALL_SETTINGS, small_model

LABELS = ["dog", "cat, small", "Straße"]


@pytest.fixture(scope="module")
def model():
    tf.keras.utils.set_random_seed(0)
    return small_model("srn", 3, head_channels=16)


def test_equals_the_model_in_memory(model, tmp_path):
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    export(model, LABELS, tmp_path / "1", is_onnx_wanted=True)
    extra = tmp_path / "1" / "assets.extra"
    session = onnxruntime.InferenceSession(str(extra / "model.onnx"), providers=["CPUExecutionProvider"])
    (given,), (output,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == ("image", "tensor(float)", [56, 56, 3])
    assert (output.name, output.type) == ("probabilities", "tensor(float)")
    for count in (1, 4):
        images = np.random.default_rng(0).uniform(0, 255, (count, 56, 56, 3)).astype(np.float32)
        (received,) = session.run(["probabilities"], {"image": images})
        expected = tf.sigmoid(model.network(images, training=False)["y_hat"]).numpy()
        np.testing.assert_allclose(received, expected, rtol=0, atol=1e-4)
    check = json.loads((extra / "export.json").read_text())["files"]["model.onnx"]
    assert check["opset"] == 17 and check["largest_difference"]["probabilities"] <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_method_exports(name, tmp_path):
    """`export` compares what it writes with the model in memory, and refuses what differs."""
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    tf.keras.utils.set_random_seed(0)
    export(small_model(name, 3, **SMALL_SETTINGS.get(name, {})), LABELS, tmp_path / "1", is_onnx_wanted=True)
    assert (tmp_path / "1" / "assets.extra" / "model.onnx").is_file()


def test_zeros_around_a_pooled_map_count(tmp_path):
    """As in ResNets with pre-activation, whose map is negative there: ONNX Runtime alone would leave the zeros out."""
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    image = keras.Input((16, 16, 3), name="image")
    constant = keras.initializers.Constant
    x = keras.layers.Conv2D(4, 1, kernel_initializer=constant(1 / 765), bias_initializer=constant(-1.5))(image)
    x = keras.layers.MaxPooling2D(3, 2)(keras.layers.ZeroPadding2D(1)(x))
    y = keras.layers.Dense(2, kernel_initializer=constant(0.01))(keras.layers.Flatten()(x))
    part = keras.Model(image, y)
    stages = {"cls": Stage(trains=("all",), fixed=(), terms=(label_loss("y"),), watched="y")}
    model = MultiLabelModel(image, {"y": part(image)}, {"all": part}, stages, logits=("y",))
    export(model, ["a", "b"], tmp_path / "1", is_onnx_wanted=True)
    assert (tmp_path / "1" / "assets.extra" / "model.onnx").is_file()


@pytest.mark.parametrize("package", ["tf2onnx", "onnxruntime"])
def test_packages_that_are_missing_are_told_before_anything_is_written(model, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, "tf2onnx", object())
    monkeypatch.setitem(sys.modules, "onnxruntime", object())
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match="ONNX files need further packages.*requirements-onnx.txt"):
        export(model, LABELS, tmp_path / "1", is_onnx_wanted=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("place", ["tf2onnx.convert", "onnxruntime.InferenceSession"])
def test_what_cannot_be_written_or_run_is_one_message(model, tmp_path, monkeypatch, place):
    def fail(*_, **__):
        raise NotImplementedError("Op Foo is not known.\nSecond line.")

    convert = types.SimpleNamespace(from_graph_def=lambda *_, **__: None)
    fakes = {"tf2onnx": types.SimpleNamespace(convert=convert), "onnxruntime": types.SimpleNamespace()}
    if place == "tf2onnx.convert":
        convert.from_graph_def = fail
    fakes["onnxruntime"].InferenceSession = fail
    for name, module in fakes.items():
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(InputError, match="Received: Op Foo is not known. Export it without --onnx."):
        export(model, LABELS, tmp_path / "1", is_onnx_wanted=True)
    assert not list(tmp_path.iterdir())
