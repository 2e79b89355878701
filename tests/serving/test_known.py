"""An exported C-Tran takes labels that are known already; other exports refuse them."""

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.data.datasets import open_stored
from srn_tf.data.preprocessing import preprocess_upright
from srn_tf.data.scene_drawing import LABELS as SCENES
from srn_tf.errors import InputError
from srn_tf.prediction.predict import predict_files
from srn_tf.serving.evaluation import evaluate_saved_model, given_labels
from srn_tf.serving.export import export
from srn_tf.serving.predictor import Predictor
from tests.models.small import SMALL_SETTINGS, small_model
from tests.prediction.pictures import read_csv
from tests.serving.asking import IMAGES, LABELS
from tests.training import small


@pytest.fixture(scope="module")
def model():
    tf.keras.utils.set_random_seed(0)
    model = small_model("c_tran", 3, **SMALL_SETTINGS["c_tran"])
    small.randomize(model)
    return model


@pytest.fixture(scope="module")
def predictor(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("known") / "1"
    export(model, LABELS, path)
    return Predictor(path)


def in_memory(model, states):
    """Probabilities of IMAGES where these states, int (N, C), are known."""
    image = tf.stack([preprocess_upright(tf.constant(data), 56) for data in IMAGES])
    network = model.network_for(("y_known",))
    logits = network({"image": image, "truth": tf.constant(states, tf.float32)}, training=False)["y_known"]
    return np.where(states < 0, tf.sigmoid(logits), states)


@pytest.mark.slow
def test_answers_are_those_of_the_model_and_what_is_known_is_answered_as_given(model, predictor):
    known = {LABELS[1]: 1, LABELS[2]: 0}
    answer = predictor.answer(IMAGES, known)
    states = np.tile([-1, 1, 0], (len(IMAGES), 1))
    np.testing.assert_allclose(answer["probabilities"], in_memory(model, states), rtol=0, atol=1e-5)
    assert answer["probabilities"][:, 1:].tolist() == [[1.0, 0.0]] * len(IMAGES)
    assert answer["predicted"][:, 1:].tolist() == [[True, False]] * len(IMAGES)
    plain = predictor.predict(IMAGES)
    assert np.abs(plain[:, 0] - answer["probabilities"][:, 0]).max() > 1e-4
    np.testing.assert_allclose(predictor.predict(IMAGES, {}), plain, rtol=0, atol=1e-5)
    each = [{LABELS[0]: 1}, *([{}] * (len(IMAGES) - 1))]
    np.testing.assert_allclose(predictor.predict(IMAGES, each)[1:], plain[1:], rtol=0, atol=1e-5)
    assert predictor.predict_labels(IMAGES[:1], dict.fromkeys(LABELS, 1)) == [LABELS]
    assert predictor.predict([], known).shape == (0, 3)


@pytest.mark.slow
def test_known_labels_that_cannot_be_used(predictor, main_net_folder):
    with pytest.raises(InputError, match="known must be among the model's 3 labels. Received: 'dgo'"):
        predictor.predict(IMAGES, {"dgo": 1})
    with pytest.raises(InputError, match="known must be a dict, or a list of one per image. Received: 1 for 8 images"):
        predictor.predict(IMAGES, [{"dog": 1}])
    with pytest.raises(InputError, match="Only a model that was trained with known labels .*no signature serve_known"):
        Predictor(str(main_net_folder)).predict(IMAGES, {"a": 1})


@pytest.mark.slow
def test_rows_say_what_was_known(predictor, tmp_path, main_net_folder):
    path, missing, output = tmp_path / "a.png", tmp_path / "none.png", tmp_path / "P.csv"
    path.write_bytes(IMAGES[1])
    known = {LABELS[1]: 1, "dog": 0}
    predict_files(predictor, [str(path), str(missing)], str(output), known=known)
    header, row, failed = read_csv(output)
    assert header == ["path", *LABELS, "known", "error"]
    assert row[1:3] == ["0.000000", "1.000000"] and row[4:] == [f"{LABELS[1]}:1;dog:0", ""]
    assert float(row[3]) == pytest.approx(predictor.predict([IMAGES[1]], known)[0, 2], abs=2e-6)
    assert failed[1:5] == [""] * 4 and failed[5].startswith("An image file must exist")
    with pytest.raises(InputError, match="Only a model that was trained with known labels can use them"):
        predict_files(Predictor(str(main_net_folder)), [str(path)], str(tmp_path / "Q.csv"), known={"a": 1})
    assert not (tmp_path / "Q.csv").exists()


def test_given_labels_are_the_same_for_an_image_and_spread_over_labels():
    names = [f"{place}.jpg" for place in range(2000)]
    given = given_labels(names, list("abcde"), 0.5)
    assert (given.sum(axis=1) == 2).all()
    np.testing.assert_allclose(given.mean(axis=0), 0.4, atol=0.04)
    np.testing.assert_array_equal(given_labels(names[7:8], list("abcde"), 0.5), given[7:8])


@pytest.mark.slow
def test_evaluation_is_over_the_labels_that_are_not_given(tiny_scenes_dir, tmp_path):
    """mAP from the definition: each label over the images in which the model was not given it."""
    tf.keras.utils.set_random_seed(0)
    model = small_model("c_tran", len(SCENES), **SMALL_SETTINGS["c_tran"])
    small.randomize(model)
    export(model, SCENES, tmp_path / "1")
    folder = (tmp_path / "1", "scenes", tiny_scenes_dir, "test")
    metrics = evaluate_saved_model(*folder, known_fraction=0.5)
    assert metrics["known_fraction"] == 0.5 and "0 is given to the model" in metrics["definition"]
    records = list(open_stored("scenes", tiny_scenes_dir, "test").records("test").as_numpy_iterator())
    given = given_labels([record["name"].decode() for record in records], SCENES, 0.5)
    truth = np.stack([record["labels"] == 1 for record in records])
    predictor = Predictor(tmp_path / "1")
    known = [{SCENES[c]: int(row[c]) for c in np.flatnonzero(is_given)} for row, is_given in zip(truth, given)]
    p = predictor.predict([record["image"] for record in records], known)
    expected = []
    for label in range(len(SCENES)):
        rest = ~given[:, label]
        order = np.argsort(-p[rest, label], kind="stable")
        hits = truth[rest, label][order]
        if hits.any():
            precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
            best = np.maximum.accumulate(precision[::-1])[::-1]
            expected.append(100 * best[hits].mean())
    served = metrics["outputs"]["served"]
    assert served["all"]["mAP"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert "top3" not in served
    with pytest.raises(InputError, match="known_fraction must give at least one of 16 labels. Received: 0.01"):
        evaluate_saved_model(*folder, known_fraction=0.01)
