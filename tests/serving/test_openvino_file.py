"""The OpenVINO model answers as the model in memory does; int8 that costs too much is not exported."""

import json
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from srn_tf.commands import export as export_command
from srn_tf.data.datasets import open_dataset
from srn_tf.data.scene_drawing import LABELS
from srn_tf.errors import InputError
from srn_tf.evaluation.protocols import SCENES
from srn_tf.models.model import MultiLabelModel, Stage, label_loss
from srn_tf.models.registry import METHODS
from srn_tf.runs import run_data
from srn_tf.runs.work_dir import WorkDir
from srn_tf.serving import openvino_model, quantization
from srn_tf.serving.evaluation import evaluate_saved_model
from srn_tf.serving.export import export
from srn_tf.serving.quantization import Validation, int8_note, quantize_within
from tests.models.small import SMALL_SETTINGS, small_model

NAMES = ["dog", "cat, small", 'Straße & "Weg"']


def sigmoid(logits):
    return 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))


def check_float32(model, folder):
    """Exports a model, and compares its OpenVINO file with it on images of its own, at two batch sizes."""
    openvino = pytest.importorskip("openvino", reason="OpenVINO is optional")
    export(model, NAMES, folder, np.array([0.3, 0.5, 0.7]), openvino="float32")
    file = folder / "assets.extra" / "openvino" / "model.xml"
    read = openvino.Core().read_model(file)
    assert [one.get_names() for one in (*read.inputs, *read.outputs)] == [{"image"}, {"probabilities"}]
    compiled = openvino.Core().compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for count in (1, 4):
        images = np.random.default_rng(count).uniform(0, 255, (count, 56, 56, 3)).astype(np.float32)
        expected = sigmoid(model.network(images, training=False)[model.final].numpy())
        np.testing.assert_allclose(compiled(images)[0], expected, rtol=0, atol=1e-4)
    return read


def test_float32_equals_the_model_in_memory(srn, tmp_path):
    read = check_float32(srn, tmp_path / "1")
    facts = {name: read.get_rt_info(["srn_tf", name]).value for name in ("labels", "thresholds", "precision")}
    assert json.loads(facts["labels"]) == NAMES and json.loads(facts["thresholds"]) == [0.3, 0.5, 0.7]
    assert facts["precision"] == "float32"
    record = json.loads((tmp_path / "1" / "assets.extra" / "export.json").read_text())
    assert record["files"]["openvino/model.xml"]["largest_difference"]["probabilities"] <= 1e-4
    assert set(record["speed"]["images_per_s"]) == {"tensorflow", "openvino"} and "quantization" not in record
    assert (
        f", openvino {record['speed']['images_per_s']['openvino']:.1f}."
        in (tmp_path / "1" / "assets.extra" / "model_card.md").read_text()
    )
    files = sorted((tmp_path / "1" / "assets.extra" / "openvino").iterdir())
    assert [file.name for file in files] == ["model.bin", "model.xml"]
    # Where OpenVINO Model Server looks: beside saved_model.pb.
    assert all(file.samefile(tmp_path / "1" / file.name) for file in files)


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in METHODS if name != "srn"])
def test_every_method_is_converted(method, tmp_path):
    check_float32(small_model(method, 3, **SMALL_SETTINGS.get(method, {})), tmp_path / "1")


@pytest.mark.parametrize("module, kind", [("openvino", "float32"), ("nncf", "int8")])
def test_packages_that_are_missing_are_told_before_anything_is_written(main_net, tmp_path, monkeypatch, module, kind):
    monkeypatch.setitem(sys.modules, "openvino", object())
    monkeypatch.setitem(sys.modules, module, None)
    validation = Validation(None, SCENES)
    with pytest.raises(
        InputError, match=f"OpenVINO models need .* Received: no package {module}. Install them: pip .*openvino.txt"
    ):
        export(main_net, ["a", "b"], tmp_path / "1", openvino=kind, validation=validation)
    with pytest.raises(InputError, match="openvino='int8' needs validation images"):
        export(main_net, ["a", "b"], tmp_path / "1", openvino="int8")
    assert not list(tmp_path.iterdir())


@keras.saving.register_keras_serializable("tests")
class Unknown(keras.layers.Layer):
    def call(self, x):
        return tf.math.igamma(tf.abs(x) + 1.0, tf.abs(x) + 1.0)


def test_an_operation_that_cannot_be_converted_is_named(tmp_path):
    pytest.importorskip("openvino", reason="OpenVINO is optional")
    image = keras.Input((16, 16, 3), name="image")
    y = keras.layers.Dense(2)(Unknown()(keras.layers.GlobalAveragePooling2D()(image)))
    part = keras.Model(image, y)
    stages = {"cls": Stage(trains=("all",), fixed=(), terms=(label_loss("y"),), watched="y")}
    model = MultiLabelModel(image, {"y": part(image)}, {"all": part}, stages, logits=("y",))
    with pytest.raises(
        InputError, match="operations that OpenVINO support. Received: Igamma, unknown to it. Export it without --open"
    ):
        export(model, ["a", "b"], tmp_path / "1", openvino="float32")
    assert not list(tmp_path.iterdir())


def test_bfloat16_without_its_instructions_is_said(monkeypatch, caplog):
    openvino = pytest.importorskip("openvino", reason="OpenVINO is optional")
    from openvino import opset13 as ops

    monkeypatch.setattr(openvino_model, "has_bfloat16", lambda: False)
    image = ops.parameter([-1, 2], np.float32, name="image")
    run = openvino_model.compile_model(openvino.Model([ops.sigmoid(image)], [image]), "bfloat16")
    assert "no instructions for bfloat16: the OpenVINO model answers in float32" in caplog.text
    np.testing.assert_allclose(run(np.array([[0.1, -3]], np.float32)), sigmoid(np.array([[0.1, -3]])), atol=1e-6)


def test_int8_needs_validation_images(tmp_path, monkeypatch):
    flags = types.SimpleNamespace(data_dir="", prepared_dir="", calibration_images=5, max_map_drop=0.5)
    monkeypatch.setattr(export_command, "FLAGS", flags)
    with pytest.raises(InputError, match="--openvino=int8 needs --data_dir, the folder of the run's data set"):
        export_command._validation(WorkDir(tmp_path), {})
    flags.data_dir = "D"
    dataset = types.SimpleNamespace(splits={"train": "train", "validation": "train"}, num_images=lambda role: 4)
    monkeypatch.setattr(run_data, "open_run_data", lambda *_: (dataset, True))
    with pytest.raises(InputError, match="needs validation images.* Received: .*, a run that held none out"):
        export_command._validation(WorkDir(tmp_path), {})


@pytest.fixture(scope="module")
def records(tiny_scenes_dir):
    return open_dataset("scenes", tiny_scenes_dir, tiny_scenes_dir).records("validation")


def test_what_costs_too_much_map_keeps_its_sums_in_float32(records, monkeypatch):
    """float32 knows the truth. int8 answers every image alike, unless its sums are in float32."""
    truth = np.stack([record["labels"] for record in records.as_numpy_iterator()]) == 1

    def perfect():
        rows = iter(truth)
        return lambda image: np.stack([0.1 + 0.8 * next(rows) for _ in image]).astype(np.float32)

    alike = lambda image: np.full([len(image), len(LABELS)], 0.25, np.float32)  # noqa: E731
    models = {"model": perfect, "sums in int8": lambda: alike, "sums in float32": perfect, "bad": lambda: alike}
    kinds = {False: "sums in int8", True: "sums in float32"}
    monkeypatch.setattr(quantization, "compile_model", lambda model, precision: models[model]())
    monkeypatch.setattr(quantization, "quantize", lambda model, images, in_float32: (kinds[in_float32], ["y"]))

    def found(limit):
        return quantize_within("model", LABELS, np.full(len(LABELS), 0.5), 32, Validation(records, SCENES, 5, limit))

    quantized, facts = found(100.0)
    assert quantized == "sums in int8" and facts["int8"]["F1-O"] < 1e-9
    assert int8_note(facts).endswith("1 layers stay in float32.")
    assert (facts["validation_images"], facts["calibration_images"], facts["max_map_drop"]) == (16, 5, 100.0)
    quantized, facts = found(0.5)
    assert quantized == "sums in float32" and facts["sums_in_float32"] and facts["layers_in_float32"] == ["y"]
    assert facts["float32"] == facts["int8"] and facts["int8"]["mAP"] == pytest.approx(100.0)
    assert int8_note(facts).endswith("1 layers and all sums stay in float32.")
    kinds[True] = "bad"
    with pytest.raises(InputError, match=r"at most 0.5 mAP .* of 100.00 with sums in float32, .* Nothing was exported"):
        found(0.5)


@pytest.mark.slow
def test_int8_is_scored_on_validation_and_refused_above_its_limit(records, tiny_scenes_dir, tmp_path):
    pytest.importorskip("openvino", reason="OpenVINO is optional")
    pytest.importorskip("nncf", reason="NNCF is optional")
    keras.utils.set_random_seed(0)
    model = small_model("srn", len(LABELS), head_channels=8)
    wanted = {"openvino": "int8", "validation": Validation(records, SCENES, 8, 100.0)}
    export(model, LABELS, tmp_path / "1", **wanted)
    extra = tmp_path / "1" / "assets.extra"
    quantization = json.loads((extra / "export.json").read_text())["quantization"]
    for engine, precision in (("tensorflow", "float32"), ("openvino", "int8")):
        metrics = evaluate_saved_model(tmp_path / "1", "scenes", tiny_scenes_dir, "validation", engine=engine)
        expected = metrics["outputs"]["served"]["all"]
        for name in ("mAP", "F1-C", "F1-O"):
            assert quantization[precision][name] == pytest.approx(expected[name], abs=0.02)
    assert quantization["float32"] != quantization["int8"]
    text = (extra / "openvino" / "model.xml").read_text()
    in_float32 = quantization["layers_in_float32"]
    assert text.count('type="FakeQuantize"') > 20 and 4 <= len(in_float32) <= 8
    assert all(f'name="{name}"' in text for name in in_float32)
    assert f"mAP {quantization['int8']['mAP']:.2f} (" in (extra / "model_card.md").read_text()
    wanted["validation"] = Validation(records, SCENES, 8, -100.0)  # which nothing reaches
    with pytest.raises(
        InputError, match="at most -100 mAP on the validation images. Received: .* Nothing was exported"
    ):
        export(model, LABELS, tmp_path / "2", **wanted)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
