"""The package as a user of Keras imports it."""

import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from absl import flags

import srn_tf
from srn_tf.data.scene_drawing import LABELS
from srn_tf.errors import InputError
from srn_tf.evaluation.metrics import average_precision
from srn_tf.evaluation.predictions import SavedPredictions, save_predictions
from srn_tf.models.backbones import BACKBONES
from srn_tf.models.registry import METHODS
from tests.baselines.run_folder import write_run
from tests.models.small import SMALL_SETTINGS, small_model

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 56, 56, 3), np.uint8)
TRUTH = np.array([[1, 0, 0], [0, 1, -1], [1, 1, 0], [0, 0, 1]], np.float32)
SMALL = {"backbone": "small", "image_size": 56, "labels": ["cat", "dog", "sky"]}
FITTED = [name for name in METHODS if name not in ("cnn_rnn", "rlsd_ft_rpn")]


def test_importing_loads_nothing_heavy():
    code = (
        "import sys, srn_tf; srn_tf.list_models(), srn_tf.list_backbones(), srn_tf.create_model, dir(srn_tf); "
        "sys.exit(not {'tensorflow', 'keras', 'scipy'}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_names():
    assert srn_tf.list_models() == list(METHODS) and srn_tf.list_backbones() == list(BACKBONES)
    assert all(getattr(srn_tf, name) is not None for name in srn_tf.__all__)
    with pytest.raises(AttributeError, match="no attribute 'create'"):
        srn_tf.create


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "srm"}, "model must be one of srn, .* Received: 'srm'"),
        ({"backbone": "resnet"}, "backbone must be one of .*small. Received: 'resnet'"),
        ({"outputs": "logits"}, "outputs must be one of answer, all. Received: 'logits'"),
        ({"labels": ["cat", "cat"]}, "labels must be a list of different names, or their number"),
        ({"labels": 0}, "labels must be a list of different names, or their number. Received: 0"),
        ({"labels": "cat"}, "labels must be a list of different names"),
        ({"decoder_width": 8}, "Settings of srn are .*head_channels.* Received: 'decoder_width'"),
        ({"head_channels": 0}, "head_channels must be at least 1. Received: 0"),
        ({"name": "cnn_rnn"}, r"Received: 'cnn_rnn', whose loss is path_loss. Train it with srn_tf.train"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ({"name": "rlsd", "region_sequence": "ordered"}, r"Received: 'rlsd', whose loss is sequence"),
                ({"name": "rlsd_ft_rpn"}, r"Received: 'rlsd_ft_rpn', whose loss is rpn"),
            )
        ),
    ],
)
def test_what_cannot_be_made_is_one_message(changes, message):
    with pytest.raises(InputError, match=message):
        srn_tf.create_model(**{"name": "srn", **SMALL, **changes})


def test_a_model_for_fit():
    keras.utils.set_random_seed(0)
    model = srn_tf.create_model("main_net", **SMALL, pooling="max")
    assert model.output_shape == (None, 3) and model.output_names == ["y_cls"]
    metrics = [srn_tf.metrics.MeanAveragePrecision()]
    model.compile(keras.optimizers.Adam(1e-3), loss=srn_tf.losses.AsymmetricLoss(), metrics=metrics)
    history = model.fit(PIXELS, TRUTH, batch_size=4, epochs=8, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    np.testing.assert_array_equal(model(PIXELS), model(PIXELS.astype(np.float32)))
    evaluated = model.evaluate(PIXELS, TRUTH, return_dict=True, verbose=0)
    ap = average_precision(model(PIXELS), TRUTH == 1, TRUTH != -1)
    assert evaluated["mAP"] == pytest.approx(ap.mean(), rel=1e-6)


def fit_and_reload(name, folder):
    """Trains every head of a method for a step, and gives the answers before and after a way through a file."""
    model = srn_tf.create_model(name, **SMALL, outputs="all", **SMALL_SETTINGS.get(name, {}))
    heads = list(model.output_names)
    assert sorted(heads) == sorted(model(PIXELS))
    losses = {head: srn_tf.losses.SigmoidLoss() for head in heads}
    model.compile(keras.optimizers.SGD(1e-3), loss=losses)
    before = [weight.numpy() for weight in model.trainable_variables]
    loss = model.fit(PIXELS, {head: TRUTH for head in heads}, batch_size=4, verbose=0).history["loss"]
    assert np.isfinite(loss).all()
    assert any((a != b.numpy()).any() for a, b in zip(before, model.trainable_variables, strict=True))
    model.save(folder / "model.keras")
    return model.predict(PIXELS, verbose=0), keras.models.load_model(folder / "model.keras").predict(PIXELS, verbose=0)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in FITTED])
def test_every_head_of_every_method_is_fitted_saved_and_loaded(name, tmp_path):
    expected, received = fit_and_reload(name, tmp_path)
    assert list(received) == list(expected)
    for head in expected:
        np.testing.assert_allclose(received[head], expected[head], rtol=1e-5, atol=1e-5)


NETWORKS = [(name, {}) for name in METHODS] + [("rlsd", {"region_sequence": "ordered"})]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "changes"), NETWORKS)
def test_the_network_of_every_method_loads_without_custom_objects(name, changes, tmp_path):
    network = small_model(name, 3, **{**SMALL_SETTINGS.get(name, {}), **changes}).network
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    expected, received = network(PIXELS), loaded(PIXELS)
    assert set(received) == set(expected)
    for output in expected:
        np.testing.assert_allclose(received[output], expected[output], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_file_loads_in_a_program_that_imports_the_layers(tmp_path):
    model = srn_tf.create_model("srn", **SMALL, head_channels=8)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "answers.npy", model.predict(PIXELS, verbose=0))
    np.save(tmp_path / "pixels.npy", PIXELS)
    code = (
        "import keras, numpy as np, srn_tf.layers; model = keras.models.load_model('model.keras'); "
        "np.testing.assert_allclose(model.predict(np.load('pixels.npy'), verbose=0), np.load('answers.npy'), atol=1e-5)"
    )
    environment = {"PYTHONPATH": str(srn_tf.__path__[0]).rsplit("/", 1)[0], "PATH": ""}
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_a_run_is_opened(tmp_path):
    network = write_run(tmp_path / "run").network
    run = srn_tf.load_run(tmp_path / "run")
    assert (run.labels, run.protocol, run.metrics) == (tuple(LABELS), "scenes", None)
    assert run.settings == {"model": "main_net", "dataset": "scenes", "seed": "3"}
    for name, values in network(PIXELS).items():
        np.testing.assert_array_equal(run.model(PIXELS)[name], values)
    logits = np.random.default_rng(0).normal(size=(5, len(LABELS))).astype(np.float32)
    truth = (logits > 1).astype(np.int8)
    kept = SavedPredictions([f"{place}.png" for place in range(5)], truth, LABELS, {"y_cls": logits, "other": -logits})
    save_predictions(str(tmp_path / "run" / "predictions" / "test.npz"), kept)
    names, scores, truths = run.predictions("test")
    assert list(names) == kept.names
    np.testing.assert_array_equal(scores, logits)
    np.testing.assert_array_equal(truths, truth)
    assert srn_tf.evaluate(scores, truths, run.protocol)["all"]["mAP"] == pytest.approx(100)
    np.testing.assert_array_equal(run.predictions("test", "other").scores, -logits)
    for call, message in (
        (lambda: run.predictions("test", "y"), "output must be one of y_cls, other. Received: 'y'"),
        (lambda: run.predictions("train"), "train.npz must exist"),
        (run.predictor, "no export in .*export"),
        (lambda: srn_tf.load_run(tmp_path), "which has no run.json"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(InputError, match="which has no final weights"):
        srn_tf.load_run(tmp_path / "run").model


def test_scores_are_evaluated():
    scores, truth = [[2.0, -1.0], [1.0, 3.0], [-1.0, 1.0]], [[0, 0], [1, 1], [1, 0]]
    result = srn_tf.evaluate(scores, truth, labels=["cat", "dog"], top_k=1)
    # cat: positives at ranks 2 and 3, precisions 1/2 and 2/3, the area interpolated; dog: at rank 1.
    assert result["AP"] == pytest.approx([100 * 2 / 3, 100.0])
    assert (result["images"], result["labels"], result["protocol"]) == (3, ["cat", "dog"], "coco")
    assert "top1" in result and json.dumps(result)
    assert srn_tf.evaluate(scores, truth)["labels"] == 2
    of_p = srn_tf.evaluate(1 / (1 + np.exp(-np.array(scores))), truth, scores_are="probabilities")
    assert of_p["AP"] == pytest.approx(result["AP"]) and of_p["all"] == pytest.approx(result["all"])
    for arguments, message in (
        ((scores, truth, "coko"), "protocol must be one of .*Received: 'coko'"),
        ((scores, [[0, 0]]), "same shape"),
        (([[0.2, 0.3]], [[0, 1]]), "scale of scores is unclear"),
        (([["a", "b"]], [[0, 1]]), "scores must be"),
    ):
        with pytest.raises(InputError, match=message):
            srn_tf.evaluate(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epoch": 3}, "train has no argument 'epoch'. Did you mean epochs"),
        ({"epochs": "many"}, "epochs must be positive numbers"),
        ({"model": "srm"}, "--model=srm: value should be one of"),
        ({"model": "main_net", "decoder_width": 8}, "--decoder_width belongs to --model=ml_decoder"),
        ({"flagfile": "mine.flags"}, "flagfile must be an existing file. Received: 'mine.flags'"),
    ],
)
def test_what_cannot_be_trained_is_one_message(arguments, message, tmp_path):
    with pytest.raises(InputError, match=message):
        srn_tf.train(**{"data_dir": tmp_path, "work_dir": tmp_path / "run", **arguments})
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_training_twice_beside_flags_of_ones_own(tiny_scenes_dir, tmp_path):
    flags.DEFINE_string("learning_rate", "mine", "Of the program that calls.")
    base = tmp_path / "base.flags"
    base.write_text("--dataset=scenes\n--model=main_net\n--backbone=small\n--image_size=56\n--batch_size=16\n")
    shared = {"data_dir": tiny_scenes_dir, "flagfile": base, "backbone_weights": "none", "crops": False}
    try:
        for name, epochs in (("one", [1]), ("two", 2)):
            run = srn_tf.train(work_dir=tmp_path / name, epochs=epochs, learning_rate=0.01, **shared)
            assert (run.settings["epochs"], run.settings["crops"]) == (str(epochs).strip("[]"), "false")
            assert run.metrics["split"] == "test" and run.predictions("validation").scores.shape == (16, 16)
            assert run.predictor().labels == list(run.labels) == list(LABELS)
        assert flags.FLAGS["learning_rate"].value == "mine"
    finally:
        delattr(flags.FLAGS, "learning_rate")
