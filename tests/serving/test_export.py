"""The SavedModel answers as the model in memory does, for every kind of image file, with no code of this project."""

import dataclasses
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from srn_tf.data.preprocessing import preprocess_upright, squash
from srn_tf.errors import InputError
from srn_tf.models.model import MultiLabelModel, Stage, label_loss
from srn_tf.runs.checkpoint import load_weights
from srn_tf.serving import export as export_module
from srn_tf.serving.checking import answer_in_memory
from srn_tf.serving.export import export
from srn_tf.serving.inference_graph import fold_batch_norms, trace
from srn_tf.serving.signatures import build_signatures
from tests.data.test_coco2014 import REAL
from tests.models.small import small_model
from tests.serving.asking import LABELS
from tests.serving.kinds_of_files import IMAGES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(srn):
    return srn


@pytest.fixture(scope="module")
def thresholds(served_thresholds):
    return served_thresholds


@pytest.fixture(scope="module")
def exported(served_folder):
    return served_folder


def sigmoid(logits):
    return 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))


def test_signatures_and_their_rows(loaded):
    answer = {"probabilities": (tf.float32, [3]), "labels": (tf.string, [3]), "predicted": (tf.bool, [3])}
    maps = {name: (tf.float32, [14, 14, 3]) for name in ("A", "S", "U")}
    logits = {name: (tf.float32, [3]) for name in ("y_hat", "y_cls", "y_att", "y_sr")}
    expected = {
        "serving_default": answer,
        "serve_pixels": answer,
        "explain": {**answer, **maps, **logits},
        "embed": {"embedding": (tf.float32, [128])},
    }
    assert set(loaded.signatures) == set(expected)
    files = {"image_bytes": tf.TensorSpec([None], tf.string, "image_bytes")}
    pixels = {"pixels": tf.TensorSpec([None, None, None, 3], tf.uint8, "pixels")}
    batch = {"image_bytes": tf.constant([IMAGES["jpeg"], IMAGES["bmp"]]), "pixels": tf.zeros([2, 30, 40, 3], tf.uint8)}
    for name, outputs in expected.items():
        signature = loaded.signatures[name]
        inputs = pixels if name == "serve_pixels" else files
        assert signature.structured_input_signature == ((), inputs)
        received = signature.structured_outputs
        assert {key: (spec.dtype, spec.shape[1:].as_list()) for key, spec in received.items()} == outputs
        assert all(spec.shape[0] is None for spec in received.values())
        rows = signature(**{key: batch[key] for key in inputs})
        assert all(values.shape[0] == 2 for values in rows.values())


def test_batch_norms_are_counted(exported):
    """21 in the model: 13 behind a convolution, 8 before an activation, behind a sum or a product of its own."""
    record = json.loads((exported / "assets.extra" / "export.json").read_text())
    assert record["batch_norms"] == {"folded": 13, "kept": 8}


@pytest.mark.parametrize("name", IMAGES)
def test_one_image_alone_equals_the_model_in_memory(loaded, in_memory, name):
    answer = loaded.signatures["serving_default"](image_bytes=tf.constant([IMAGES[name]]))
    row = in_memory["y_hat"][list(IMAGES).index(name)]
    np.testing.assert_allclose(answer["probabilities"].numpy()[0], sigmoid(row), rtol=0, atol=1e-5)


def test_images_of_all_kinds_in_one_batch_equal_the_model_in_memory(loaded, in_memory):
    batch = tf.constant(list(IMAGES.values()))
    answer = loaded.signatures["serving_default"](image_bytes=batch)
    np.testing.assert_allclose(answer["probabilities"], sigmoid(in_memory["y_hat"]), rtol=0, atol=1e-5)
    assert [[label.decode() for label in row] for row in answer["labels"].numpy()] == [LABELS] * len(IMAGES)
    explained = loaded.signatures["explain"](image_bytes=batch)
    np.testing.assert_allclose(explained["probabilities"], answer["probabilities"], rtol=0, atol=1e-5)
    for name in ("A", "S", "U", "y_hat", "y_cls", "y_att", "y_sr"):
        scale = np.abs(in_memory[name]).max()
        np.testing.assert_allclose(explained[name], in_memory[name], rtol=0, atol=2e-5 * max(1.0, scale))
    embedding = loaded.signatures["embed"](image_bytes=batch)["embedding"]
    np.testing.assert_allclose(embedding, in_memory["pooled"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(explained["A"].numpy().sum(axis=(1, 2)), 1.0, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(61, 97), (56, 56), (300, 20)])
@pytest.mark.parametrize("count", [1, 4])
def test_pixels_equal_the_model_in_memory(model, loaded, size, count):
    pixels = np.random.default_rng(count).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    answer = loaded.signatures["serve_pixels"](pixels=tf.constant(pixels))
    y_hat = model.network(squash(tf.cast(pixels, tf.float32), 56), training=False)["y_hat"].numpy()
    np.testing.assert_allclose(answer["probabilities"], sigmoid(y_hat), rtol=0, atol=1e-5)
    one_by_one = [loaded.signatures["serve_pixels"](pixels=tf.constant(pixels[i : i + 1])) for i in range(count)]
    for name in ("probabilities", "predicted", "labels"):
        received = np.concatenate([one[name].numpy() for one in one_by_one])
        if name == "probabilities":
            np.testing.assert_allclose(received, answer[name], rtol=0, atol=1e-5)
        else:
            np.testing.assert_array_equal(received, answer[name])


def test_pixels_of_a_file_without_loss_equal_the_file(loaded):
    pixels = tf.io.decode_png(IMAGES["tall_png"], channels=3)[tf.newaxis]
    by_pixels = loaded.signatures["serve_pixels"](pixels=pixels)["probabilities"]
    by_file = loaded.signatures["serving_default"](image_bytes=tf.constant([IMAGES["tall_png"]]))["probabilities"]
    np.testing.assert_allclose(by_pixels, by_file, rtol=0, atol=1e-6)


def test_labels_above_their_thresholds_are_predicted(loaded, in_memory, thresholds):
    p = sigmoid(in_memory["y_hat"])
    assert np.abs(p - thresholds).min() > 1e-5  # rounding decides nothing
    for name in ("serving_default", "explain"):
        predicted = loaded.signatures[name](image_bytes=tf.constant(list(IMAGES.values())))["predicted"].numpy()
        np.testing.assert_array_equal(predicted, p > thresholds)
        assert (2 < predicted.sum(axis=0)).all() and (predicted.sum(axis=0) < len(IMAGES) - 2).all()


def test_different_images_get_different_answers(in_memory):
    assert np.ptp(sigmoid(in_memory["y_hat"]), axis=0).max() > 0.05  # else the comparisons above say nothing


def test_the_signatures_share_one_network_and_its_weights(model, exported):
    saved_model = SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    functions = saved_model.meta_graphs[0].graph_def.library.function
    assert not any("CPU:1" in node.device or "GPU" in node.device for f in functions for node in f.node_def)
    assert len([f for f in functions if "Conv2D" in {node.op for node in f.node_def}]) == 1
    weights = [shape for name, shape in tf.train.list_variables(str(exported / "variables" / "variables")) if shape]
    in_memory = sorted(np.prod(weight.shape) for weight in model.network.weights if np.prod(weight.shape) >= 1024)
    assert sorted(np.prod(shape) for shape in weights) == in_memory


@pytest.fixture(scope="module")
def in_bfloat16(model, thresholds, tmp_path_factory):
    path = tmp_path_factory.mktemp("bfloat16") / "1"
    export(model, LABELS, path, thresholds, precision="bfloat16")
    return path


@pytest.mark.slow
def test_bfloat16_answers_in_float32_and_nearly_alike(in_bfloat16, in_memory):
    loaded = tf.saved_model.load(str(in_bfloat16))
    batch = tf.constant(list(IMAGES.values()))
    explained = loaded.signatures["explain"](image_bytes=batch)
    difference = np.abs(explained["probabilities"] - sigmoid(in_memory["y_hat"])).max()
    assert 1e-5 < difference < 0.05
    for name in ("A", "S", "U", "y_hat", "y_cls", "y_att", "y_sr"):
        assert explained[name].dtype == tf.float32
        scale = np.abs(in_memory[name]).max()
        np.testing.assert_allclose(explained[name], in_memory[name], rtol=0, atol=0.2 * scale)
    check = json.loads((in_bfloat16 / "assets.extra" / "export.json").read_text())["check"]
    assert 1e-5 < check["largest_difference"]["probabilities"] <= check["tolerance"]["probabilities"] == 0.1


@pytest.mark.slow
def test_bfloat16_takes_less_space(in_bfloat16, exported):
    sizes = [(path / "variables" / "variables.data-00000-of-00001").stat().st_size for path in (in_bfloat16, exported)]
    assert 0.5 <= sizes[0] / sizes[1] < 0.8  # in small models much is before a softmax or an output


@pytest.mark.slow
def test_constant_weights_answer_alike_and_leave_no_variables(model, in_memory, tmp_path):
    export(model, LABELS, tmp_path / "1", weights="constants")
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    answer = loaded.signatures["serving_default"](image_bytes=tf.constant(list(IMAGES.values())))
    np.testing.assert_allclose(answer["probabilities"], sigmoid(in_memory["y_hat"]), rtol=0, atol=1e-5)
    weights = [shape for _, shape in tf.train.list_variables(str(tmp_path / "1" / "variables" / "variables")) if shape]
    assert not weights
    assert json.loads((tmp_path / "1" / "assets.extra" / "export.json").read_text())["weights"] == "constants"


def photographs(count):
    files = sorted((REAL / "val2014").glob("*.jpg"))[: count // 2] + sorted((REAL / "train2014").glob("*.jpg"))
    return [file.read_bytes() for file in files[:count]]


def largest_difference_on(files, signature, model):
    """The largest difference of probabilities, and their spread, over files in batches of eight."""
    received, expected = [], []
    for start in range(0, len(files), 8):
        batch = files[start : start + 8]
        received.append(signature(image_bytes=tf.constant(batch))["probabilities"].numpy())
        image = tf.stack([preprocess_upright(tf.constant(file), model.image_size) for file in batch])
        expected.append(sigmoid(model.network(image, training=False)[model.final].numpy()))
    return np.abs(np.concatenate(received) - np.concatenate(expected)).max(), np.ptp(np.concatenate(expected), axis=0)


if REAL.is_dir():  # 256 images of COCO 2014, which do not belong to the repository

    @pytest.mark.parametrize("count", [6, pytest.param(256, marks=pytest.mark.slow)])
    def test_photographs_equal_the_model_in_memory(model, loaded, count):
        files = photographs(count)
        assert len(files) == count
        difference, spread = largest_difference_on(files, loaded.signatures["serving_default"], model)
        assert difference < 1e-5 and spread.max() > 0.02

    @pytest.mark.slow
    @pytest.mark.parametrize("precision, tolerance", [("float32", 1e-5), ("bfloat16", 0.05)])
    def test_photographs_on_resnet101_at_full_size(tmp_path, precision, tolerance):
        tf.keras.utils.set_random_seed(0)
        model = small_model("srn", 80, 224, "resnet101v2")
        export(model, [f"label {i}" for i in range(80)], tmp_path / "1", precision=precision)
        signature = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"]
        difference, spread = largest_difference_on(photographs(16), signature, model)
        assert difference < tolerance and spread.max() > 1e-3


@pytest.mark.slow
def test_loads_and_answers_without_this_project(exported, in_memory, tmp_path):
    program = """
import sys
sys.modules["srn_tf"] = None
import numpy as np
import tensorflow as tf
path, images, output = sys.argv[1:]
loaded = tf.saved_model.load(path)
images = tf.constant([image.tobytes() for image in np.load(images).values()])
answer = loaded.signatures["explain"](image_bytes=images)
np.savez(output, **{name: values.numpy() for name, values in answer.items() if name != "labels"})
try:
    import srn_tf
except ImportError:
    print("without srn_tf")
"""
    np.savez(tmp_path / "in.npz", **{name: np.frombuffer(data, np.uint8) for name, data in IMAGES.items()})
    command = [sys.executable, "-I", "-c", program, exported, tmp_path / "in.npz", tmp_path / "out.npz"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "without srn_tf" in result.stdout
    with np.load(tmp_path / "out.npz") as answer:
        np.testing.assert_allclose(answer["probabilities"], sigmoid(in_memory["y_hat"]), rtol=0, atol=1e-5)
        np.testing.assert_allclose(answer["A"], in_memory["A"], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_model_of_a_mirrored_strategy(tmp_path):
    """Replicas' BatchNorm statistics differ; what is exported is their mean, as it is in a checkpoint."""
    program = """
import sys
import numpy as np
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from srn_tf.serving.export import export
from srn_tf.serving.predictor import Predictor
from srn_tf.runs.checkpoint import save_weights
from tests.models.small import small_model
from tests.serving.asking import LABELS
from tests.serving.kinds_of_files import IMAGES
strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
with strategy.scope():
    model = small_model("srn", 3, head_channels=8)
def step():
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    model.network(tf.random.stateless_uniform([2, 56, 56, 3], [0, replica], 0.0, 255.0), training=True)
strategy.run(tf.function(step))
statistics = next(weight for weight in model.network.weights if "moving_mean" in weight.name)
first, second = (values.numpy() for values in strategy.experimental_local_results(statistics))
assert np.abs(first - second).max() > 1e-4
folder, weights = sys.argv[1:]
export(model, ["a", "b", "c"], folder)
save_weights(weights, model, {"labels": ["a", "b", "c"]})
"""
    path, weights = str(tmp_path / "export" / "1"), str(tmp_path / "final.npz")
    result = subprocess.run([sys.executable, "-c", program, path, weights], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    model = small_model("srn", 3, head_channels=8)
    load_weights(weights, model, ["a", "b", "c"])
    images = [IMAGES["jpeg"], IMAGES["grey_png"], IMAGES["rgba_png"]]
    outputs = model.network(tf.stack([preprocess_upright(tf.constant(image), 56) for image in images]), training=False)
    answer = tf.saved_model.load(path).signatures["explain"](image_bytes=tf.constant(images))
    np.testing.assert_allclose(answer["probabilities"], sigmoid(outputs["y_hat"].numpy()), rtol=0, atol=1e-5)
    np.testing.assert_allclose(answer["U"], outputs["U"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(answer["y_cls"], outputs["y_cls"], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_model_without_maps_has_no_explain(main_net_folder):
    loaded = tf.saved_model.load(str(main_net_folder))
    assert set(loaded.signatures) == {"serving_default", "serve_pixels", "embed"}
    description = json.loads((main_net_folder / "assets.extra" / "export.json").read_text())
    assert set(description["signatures"]) == set(loaded.signatures)
    assert description["thresholds"] == [0.5, 0.5]
    assert os.listdir(main_net_folder.parent) == ["1"]


def test_model_without_embedding_has_no_embed(main_net):
    signatures = build_signatures(None, dataclasses.replace(main_net, embedding=None), ["a", "b"], np.full(2, 0.5))
    assert set(signatures) == {"serving_default", "serve_pixels"}


def test_existing_version_is_refused_and_untouched(model, tmp_path):
    (tmp_path / "1").mkdir()
    with pytest.raises(InputError, match="must go to a new folder. Received: .*1, which exists"):
        export(model, LABELS, tmp_path / "1")
    assert os.listdir(tmp_path) == ["1"] and not os.listdir(tmp_path / "1")


def test_wrong_number_of_labels(model, tmp_path):
    with pytest.raises(InputError, match="Expected: 3. Received: 2."):
        export(model, LABELS[:2], tmp_path / "1")
    assert not os.listdir(tmp_path)


def test_parent_that_is_a_file(model, tmp_path):
    (tmp_path / "export").write_text("")
    with pytest.raises(InputError, match="must go to a writable folder"):
        export(model, LABELS, tmp_path / "export" / "1")


@pytest.mark.parametrize("option, allowed", [("precision", "float32, bfloat16"), ("weights", "variables, constants")])
def test_unknown_options(main_net, tmp_path, option, allowed):
    with pytest.raises(InputError, match=f"{option} must be one of {allowed}. Received: 'float16'"):
        export(main_net, ["a", "b"], tmp_path / "1", **{option: "float16"})
    assert not os.listdir(tmp_path)


def replace_output(monkeypatch, name, other):
    """Makes the written graph give another output under a name."""

    def trace_wrongly(network, image_size, **options):
        graph = trace(network, image_size, **options)
        return dataclasses.replace(graph, outputs={**graph.outputs, name: graph.outputs[other]})

    monkeypatch.setattr(export_module, "trace", trace_wrongly)


@pytest.mark.slow
def test_a_difference_publishes_nothing(model, tmp_path, monkeypatch):
    replace_output(monkeypatch, "y_hat", "y_cls")
    with pytest.raises(
        InputError, match="agree with the model in memory: probabilities within .* Received: .* Nothing was exported"
    ):
        export(model, LABELS, tmp_path / "1")
    assert not os.listdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("precision, tolerance", [("float32", r"0.000\d*"), ("bfloat16", "0.3")])
def test_a_difference_in_what_explains_publishes_nothing(model, tmp_path, monkeypatch, precision, tolerance):
    replace_output(monkeypatch, "A", "U")
    with pytest.raises(InputError, match=f"other outputs within {tolerance}. Received: .* Nothing was exported"):
        export(model, LABELS, tmp_path / "1", precision=precision)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("changed", ["labels", pytest.param("thresholds", marks=pytest.mark.slow)])
def test_other_labels_or_decisions_publish_nothing(main_net, tmp_path, monkeypatch, changed):
    """And what an export left that was killed is replaced."""
    (tmp_path / ".writing-1").mkdir()
    (tmp_path / ".writing-1" / "saved_model.pb").write_text("")
    build = export_module.build_signatures

    def build_wrongly(network, model, labels, thresholds):
        return (
            build(network, model, labels[::-1], thresholds)
            if changed == "labels"
            else build(network, model, labels, np.full(2, 1e-9))
        )

    monkeypatch.setattr(export_module, "build_signatures", build_wrongly)
    with pytest.raises(InputError, match="Nothing was exported"):
        export(main_net, ["a", "b"], tmp_path / "1", 0.9999)
    assert not os.listdir(tmp_path)


def one_layer_model(offset, spread, logits):
    """A convolution whose bias BatchNorm takes away again, and two logits of its mean, so many times as large."""
    image = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Conv2D(4, 3, kernel_initializer=keras.initializers.RandomNormal(0, spread / 255, 1))(image)
    x = keras.layers.BatchNormalization(epsilon=0.0)(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    part = keras.Model(image, keras.layers.Dense(2, kernel_initializer=keras.initializers.Constant(logits))(x))
    conv, norm = part.layers[1:3]
    conv.bias.assign(tf.fill([4], offset))
    norm.moving_mean.assign(tf.fill([4], offset))
    norm.moving_variance.assign(tf.fill([4], spread**2))
    stages = {"cls": Stage(trains=("all",), fixed=(), terms=(label_loss("y"),), watched="y")}
    return MultiLabelModel(image, {"y": part(image)}, {"all": part}, stages, logits=("y",))


@pytest.mark.slow
def test_folding_that_costs_accuracy_is_left_out_and_said(tmp_path, caplog):
    """A bias of 12345 before a mean of 12345: of float32's 24 bits 14 are gone, unless both are folded away."""
    model = one_layer_model(offset=12345.678, spread=0.01, logits=0.5)
    caplog.set_level(logging.WARNING, "srn_tf")
    export(model, ["a", "b"], tmp_path / "1")
    assert "BatchNorm is not folded into the convolutions" in caplog.text
    record = json.loads((tmp_path / "1" / "assets.extra" / "export.json").read_text())
    assert record["batch_norms"] == {"folded": 0, "kept": 1}
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    served = tf.saved_model.load(str(tmp_path / "1")).signatures["serve_pixels"](pixels=tf.constant(pixels))
    expected = answer_in_memory(model, trace(model.network, 16).source)(tf.cast(pixels, tf.float32))["probabilities"]
    np.testing.assert_allclose(served["probabilities"], expected, rtol=0, atol=1e-5)
    folded = fold_batch_norms(trace(model.network, 16)).as_function()[0](tf.cast(pixels, tf.float32))
    assert np.abs(sigmoid(folded["y"].numpy()) - expected).max() > 1e-4


@pytest.mark.slow
def test_weights_that_are_not_finite_publish_nothing(main_net, tmp_path):
    bias = main_net.network.get_layer("classifier").get_layer("cls_logits").bias
    before = bias.numpy()
    bias.assign(tf.fill(bias.shape, np.nan))
    with pytest.raises(InputError, match="y_cls is not finite, because the weight classifier/cls_logits/bias has NaN"):
        export(main_net, ["a", "b"], tmp_path / "1")
    bias.assign(before)
    assert not os.listdir(tmp_path)
