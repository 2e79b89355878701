"""The SavedModel answers as the model in memory does, for every kind of image file, with no code of this project."""

import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from srn_tf import __version__
from srn_tf.data.preprocessing import preprocess
from srn_tf.errors import InputError
from srn_tf.models.build import ModelConfig
from srn_tf.models.main_net import build_main_net
from srn_tf.models.srn import build_srn
from srn_tf.serving import export as export_module
from srn_tf.serving.export import export
from srn_tf.serving.predictor import Predictor
from srn_tf.training.checkpoint import load_weights, save_weights

ROOT = Path(__file__).parents[2]
LABELS = ["dog", "cat, small", "Straße"]


def encode(mode, size, file_format, **options):
    """A picture with gradients and some noise, as the bytes of a file; size is (width, height)."""
    width, height = size
    random = np.random.default_rng(width)
    down, across = np.mgrid[0:height, 0:width]
    planes = [down * 255 / height, across * 255 / width, 255 - down * 200 / height, across * 255 / width]
    rgba = np.stack([plane + random.uniform(0, 20, plane.shape) for plane in planes], axis=-1)
    image = Image.fromarray(rgba.clip(0, 255).astype(np.uint8), "RGBA").convert("RGBA" if "A" in mode else "RGB")
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, format=file_format, **options)
    return buffer.getvalue()


def encode_16_bit(size, channels):
    width, height = size
    pixels = np.random.default_rng(height).integers(0, 65536, (height, width, channels), dtype=np.uint16)
    return tf.io.encode_png(tf.constant(pixels, tf.uint16)).numpy()


def encode_animation():
    frames = [Image.new("RGB", (45, 31), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, format="GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def encode_rotated():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode("RGB", (90, 40), "JPEG", exif=exif)


IMAGES = {
    "jpeg": encode("RGB", (97, 61), "JPEG"),
    "tall_png": encode("RGB", (13, 201), "PNG"),
    "grey_jpeg": encode("L", (33, 77), "JPEG"),
    "grey_png": encode("L", (57, 56), "PNG"),
    "rgba_png": encode("RGBA", (71, 45), "PNG"),
    "grey_alpha_png": encode("LA", (25, 63), "PNG"),
    "palette_png": encode("P", (80, 31), "PNG"),
    "palette_alpha_png": encode("P", (48, 31), "PNG", transparency=3),
    "one_bit_png": encode("1", (39, 40), "PNG"),
    "rgb_16_bit_png": encode_16_bit((43, 58), 3),
    "rgba_16_bit_png": encode_16_bit((44, 59), 4),
    "grey_16_bit_png": encode_16_bit((41, 60), 1),
    "cmyk_jpeg": encode("CMYK", (67, 82), "JPEG"),
    "bmp": encode("RGB", (35, 52), "BMP"),
    "gif": encode("P", (36, 51), "GIF"),
    "animated_gif": encode_animation(),
    "one_pixel": encode("RGB", (1, 1), "PNG"),
    "exif_rotated_jpeg": encode_rotated(),
}


@pytest.fixture(scope="module")
def model():
    tf.keras.utils.set_random_seed(1)
    model = build_srn("small", 56, 3, head_channels=8)
    for weight in model.network.weights:  # values that are not those of new layers
        if "moving_variance" in weight.name:
            weight.assign(tf.random.uniform(weight.shape, 0.5, 1.5))
        elif "moving_mean" in weight.name or "bias" in weight.name:
            weight.assign(tf.random.uniform(weight.shape, -0.2, 0.2))
    return model


@pytest.fixture(scope="module")
def main_net():
    return build_main_net("small", 56, 2)


@pytest.fixture(scope="module")
def thresholds(in_memory):
    """For each label one that half of IMAGES exceed."""
    return np.median(sigmoid(in_memory["y_hat"]), axis=0)


@pytest.fixture(scope="module")
def exported(model, thresholds, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "export" / "1"
    export(model, LABELS, path, thresholds)
    return path


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(str(exported))


@pytest.fixture(scope="module")
def in_memory(model):
    """All outputs of the model by name, for every image of IMAGES, in order."""
    image = tf.stack([preprocess(tf.constant(data), 56) for data in IMAGES.values()])
    return {name: values.numpy() for name, values in model.network(image, training=False).items()}


def sigmoid(logits):
    return 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))


def test_signatures_take_image_bytes_and_every_output_has_n_first(loaded):
    assert set(loaded.signatures) == {"serving_default", "explain"}
    expected = {"probabilities": (tf.float32, [3]), "labels": (tf.string, [3]), "predicted": (tf.bool, [3])}
    maps = {name: (tf.float32, [14, 14, 3]) for name in ("A", "U")}
    for name, outputs in (("serving_default", expected), ("explain", {**expected, **maps})):
        signature = loaded.signatures[name]
        assert signature.structured_input_signature == (
            (),
            {"image_bytes": tf.TensorSpec([None], tf.string, "image_bytes")},
        )
        received = signature.structured_outputs
        assert {key: (spec.dtype, spec.shape[1:].as_list()) for key, spec in received.items()} == outputs
        assert all(spec.shape[0] is None for spec in received.values())
        answer = signature(image_bytes=tf.constant([IMAGES["jpeg"], IMAGES["bmp"]]))
        assert all(values.shape[0] == 2 for values in answer.values())


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
    for name in ("A", "U"):
        np.testing.assert_allclose(explained[name], in_memory[name], rtol=0, atol=1e-5)
    np.testing.assert_allclose(explained["A"].numpy().sum(axis=(1, 2)), 1.0, rtol=0, atol=1e-5)


def test_labels_above_their_thresholds_are_predicted(loaded, in_memory, thresholds):
    p = sigmoid(in_memory["y_hat"])
    assert np.abs(p - thresholds).min() > 1e-5  # rounding decides nothing
    for signature in loaded.signatures.values():
        predicted = signature(image_bytes=tf.constant(list(IMAGES.values())))["predicted"].numpy()
        np.testing.assert_array_equal(predicted, p > thresholds)
        assert (predicted.sum(axis=0) == len(IMAGES) // 2).all()


@pytest.mark.parametrize("threshold", [1e-300, 1e-8, 0.1, 0.3, 0.5, 0.7, 0.9, 1 - 1e-12, 1 - 2**-53])
def test_the_logit_of_a_threshold_decides_as_the_threshold(threshold):
    """A float32 x is greater than the rounded logit exactly where it is greater than the logit itself."""
    exact = math.log(threshold) - math.log1p(-threshold)
    (rounded,) = export_module._logits_below(np.array([threshold]))
    assert rounded.dtype == np.float32
    assert float(rounded) <= exact < float(np.nextafter(rounded, np.float32(np.inf)))


def test_different_images_get_different_answers(in_memory):
    assert np.ptp(sigmoid(in_memory["y_hat"]), axis=0).max() > 0.05  # else the comparisons above say nothing


def test_serving_computes_only_what_it_answers(loaded):
    def operations(name):
        definition = loaded.signatures[name].graph.as_graph_def()
        nodes = list(definition.node) + [node for function in definition.library.function for node in function.node_def]
        assert not any("CPU:1" in node.device or "GPU" in node.device for node in nodes)
        return " ".join(node.name for node in nodes)

    assert "mix" in operations("serving_default") and "weighted_attention" in operations("serving_default")
    for name in ("serving_default", "explain"):
        assert "att_sum" not in operations(name) and "att_product" not in operations(name)  # y_att


def test_only_the_weights_of_the_network_are_written(model, exported):
    names = [name for name, _ in tf.train.list_variables(str(exported / "variables" / "variables"))]
    assert len([name for name in names if name.startswith("model_weights")]) == len(model.network.weights)
    assert not [name for name in names if "optimizer" in name.lower() or "layer" in name.lower()]


def test_description(exported, thresholds):
    assert json.loads((exported / "assets.extra" / "export.json").read_text(encoding="utf-8")) == {
        "labels": LABELS,
        "thresholds": thresholds.tolist(),
        "image_size": 56,
        "outputs": {
            "serving_default": ["labels", "predicted", "probabilities"],
            "explain": ["A", "U", "labels", "predicted", "probabilities"],
        },
        "srn_tf_version": __version__,
    }
    assert os.listdir(exported.parent) == ["1"]


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
        np.testing.assert_allclose(answer["A"], in_memory["A"], rtol=0, atol=1e-5)


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
from srn_tf.models.srn import build_srn
from srn_tf.serving.export import export
from srn_tf.serving.predictor import Predictor
from srn_tf.training.checkpoint import load_weights, save_weights
strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
with strategy.scope():
    model = build_srn("small", 56, 3, head_channels=8)
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
    model = build_srn("small", 56, 3, head_channels=8)
    load_weights(weights, model, ["a", "b", "c"])
    images = [IMAGES["jpeg"], IMAGES["grey_png"], IMAGES["rgba_png"]]
    outputs = model.network(tf.stack([preprocess(tf.constant(image), 56) for image in images]), training=False)
    answer = tf.saved_model.load(path).signatures["explain"](image_bytes=tf.constant(images))
    np.testing.assert_allclose(answer["probabilities"], sigmoid(outputs["y_hat"].numpy()), rtol=0, atol=1e-5)
    np.testing.assert_allclose(answer["U"], outputs["U"], rtol=0, atol=1e-5)


def test_model_without_maps_has_no_explain(main_net, tmp_path):
    export(main_net, ["a", "b"], tmp_path / "1")
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    assert set(loaded.signatures) == {"serving_default"}
    description = json.loads((tmp_path / "1" / "assets.extra" / "export.json").read_text())
    assert description["outputs"] == {"serving_default": ["labels", "predicted", "probabilities"]}
    assert description["thresholds"] == [0.5, 0.5]


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
    with pytest.raises(InputError, match="must go to a folder that can be written"):
        export(model, LABELS, tmp_path / "export" / "1")


def test_leftover_of_a_killed_export_is_replaced_and_a_difference_publishes_nothing(main_net, tmp_path, monkeypatch):
    class Inexact(Predictor):
        def predict(self, images):
            return super().predict(images) + 2e-5

    monkeypatch.setattr(export_module, "Predictor", Inexact)
    (tmp_path / ".writing-1").mkdir()
    (tmp_path / ".writing-1" / "saved_model.pb").write_text("")
    with pytest.raises(InputError, match="must answer as the one in memory, within 1e-05.*Nothing was exported"):
        export(main_net, ["a", "b"], tmp_path / "1")
    assert not os.listdir(tmp_path)


def test_another_label_predicted_publishes_nothing(main_net, tmp_path, monkeypatch):
    monkeypatch.setattr(Predictor, "predict_labels", lambda self, images: [["a", "b"]] * len(images))
    with pytest.raises(InputError, match="must answer as the one in memory.*Nothing was exported"):
        export(main_net, ["a", "b"], tmp_path / "1", 0.9999)
    assert not os.listdir(tmp_path)


def test_weights_that_are_not_finite_publish_nothing(main_net, tmp_path):
    bias = main_net.network.get_layer("f_cls").get_layer("cls_logits").bias
    before = bias.numpy()
    bias.assign(tf.fill(bias.shape, np.nan))
    with pytest.raises(InputError, match="largest difference of nan"):
        export(main_net, ["a", "b"], tmp_path / "1")
    bias.assign(before)
    assert not os.listdir(tmp_path)


def write_run(folder, model):
    """A run's folder as far as tools/export.py needs it."""
    save_weights(str(folder / "checkpoints" / "final.npz"), model, {"labels": ["a", "b"]})
    description = {"labels": ["a", "b"], "model": vars(ModelConfig("main_net", "small", 56))}
    (folder / "run.json").write_text(json.dumps(description))


def run_tool(folder, *arguments):
    command = [sys.executable, ROOT / "tools" / "export.py", f"--work_dir={folder}", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_tool_exports_a_run_under_the_next_free_number_with_its_thresholds(main_net, tmp_path):
    write_run(tmp_path, main_net)
    (tmp_path / "export" / "6").mkdir(parents=True)
    images = [IMAGES["jpeg"]]
    y_cls = main_net.network(preprocess(tf.constant(images[0]), 56)[tf.newaxis], training=False)["y_cls"].numpy()
    p = sigmoid(y_cls)
    tuned = {"labels": ["a", "b"], "output": "y_cls", "values": [p[0, 0] - 0.01, p[0, 1] + 0.01]}
    (tmp_path / "thresholds.json").write_text(json.dumps(tuned))
    result = run_tool(tmp_path)
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    assert f"y_cls is decided by the thresholds of {tmp_path}/thresholds.json" in result.stdout
    assert str(tmp_path / "export" / "7") in result.stdout.splitlines()
    assert result.stdout.splitlines()[-1].endswith(f"--model_base_path={tmp_path / 'export'}")
    answer = tf.saved_model.load(str(tmp_path / "export" / "7")).signatures["serving_default"](tf.constant(images))
    np.testing.assert_allclose(answer["probabilities"], p, rtol=0, atol=1e-5)
    assert answer["predicted"].numpy().tolist() == [[True, False]]


def test_tool_refuses_thresholds_of_other_labels(main_net, tmp_path):
    write_run(tmp_path, main_net)
    file = tmp_path / "T.json"
    file.write_text(json.dumps({"labels": ["a", "c"], "output": "y_cls", "values": 0.4}))
    result = run_tool(tmp_path, f"--thresholds={file}")
    assert result.returncode == 1
    expected = f"error: {file} has other labels, first at position 1. Expected: 'b'. Received: 'c'.\n"
    assert result.stderr == expected
    assert not (tmp_path / "export").exists()
