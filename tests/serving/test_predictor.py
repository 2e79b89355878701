"""The predictor answers as the model does, and refuses folders that are not its own."""

import collections
import io
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import srn_tf
from benchmarks import mutated_images
from srn_tf.data.image_files import read_image_file
from srn_tf.data.preprocessing import preprocess, preprocess_upright
from srn_tf.errors import ImageError, InputError
from srn_tf.serving.export import export
from srn_tf.serving.predictor import Predictor
from tests.data.test_views import numpy_views
from tests.serving.asking import LABELS


def png(height, width, channels):
    random = np.random.default_rng(height)
    return tf.io.encode_png(random.integers(0, 256, (height, width, channels), dtype=np.uint8)).numpy()


IMAGES = [png(61, 97, 3), png(130, 35, 1), png(23, 71, 4), png(56, 56, 3), png(40, 41, 3)]


@pytest.fixture(scope="module")
def model(srn):
    return srn


@pytest.fixture(scope="module")
def folder(served_folder):
    return served_folder


@pytest.fixture(scope="module")
def predictor(folder_predictor):
    return folder_predictor


@pytest.fixture(scope="module")
def main_net_predictor(main_net_folder):
    return Predictor(str(main_net_folder))


@pytest.fixture(scope="module")
def thresholds(main_net_predictor):
    """float64 (2,), each exceeded by the main net's answers to two of IMAGES."""
    return np.sort(main_net_predictor.predict(IMAGES).astype(np.float64), axis=0)[2:4].mean(axis=0)


@pytest.fixture(scope="module")
def tuned_folder(main_net, thresholds, tmp_path_factory):
    """The main net of `main_net_folder` with other thresholds."""
    path = tmp_path_factory.mktemp("tuned") / "1"
    export(main_net, ["a", "b"], path, thresholds)
    return path


def test_what_it_says_of_itself(predictor, served_thresholds):
    assert predictor.labels == LABELS and all(type(label) is str for label in predictor.labels)
    assert predictor.thresholds.dtype == np.float64 and predictor.thresholds.tolist() == served_thresholds.tolist()
    assert predictor.image_size == 56


def test_identity_is_of_the_answers_alone(predictor, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "assets.extra" / "model_card.md").write_text("edited")
    copy = Predictor(tmp_path / "copy")
    assert copy.identity == predictor.identity and len(copy.identity) == 64
    for name in ("saved_model.pb", "variables/variables.data-00000-of-00001"):
        before = copy.identity
        with open(tmp_path / "copy" / name, "ab") as file:
            file.write(b"x")
        del copy.identity  # which is worked out once
        assert copy.identity != before


@pytest.mark.slow
def test_another_model_and_other_thresholds_are_another_identity(predictor, main_net_predictor, tuned_folder):
    assert len({predictor.identity, main_net_predictor.identity, Predictor(tuned_folder).identity}) == 3


def test_images_of_every_kind_get_the_same_answer(predictor, tmp_path):
    (tmp_path / "a.png").write_bytes(IMAGES[0])
    image = Image.open(io.BytesIO(IMAGES[0]))
    p = predictor.predict([tmp_path / "a.png", str(tmp_path / "a.png"), IMAGES[0], image, np.asarray(image)])
    # Rows of one batch may round differently: which loop of a matrix product a row falls into depends on the processor.
    np.testing.assert_allclose(p, np.repeat(p[:1], 5, axis=0), rtol=0, atol=1e-6)
    assert np.abs(p[0] - predictor.predict([IMAGES[1]])[0]).max() > 1e-3


def test_explanation_of_one_label(predictor):
    batch = predictor.explain_batch(IMAGES)
    for index, label in enumerate(LABELS):
        explanation = predictor.explain(IMAGES[1], label)
        assert explanation.label == label and explanation.threshold == predictor.thresholds[index]
        assert explanation.probability == pytest.approx(batch["probabilities"][1, index], abs=1e-5)
        assert explanation.predicted is (explanation.probability > explanation.threshold)
        assert sorted(explanation.maps) == ["A", "S", "U"]
        for name in ("A", "S", "U"):
            received = explanation.maps[name]
            assert received.shape == (14, 14)
            np.testing.assert_allclose(received, batch[name][1, :, :, index], rtol=1e-4, atol=1e-5)
        A, S, U = (explanation.maps[name] for name in "ASU")
        np.testing.assert_allclose(U, A / (1 + np.exp(-S)), rtol=1e-4, atol=1e-7)
        expected = {name: batch[name][1, index] for name in ("y_hat", "y_cls", "y_att", "y_sr")}
        assert explanation.logits == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("label, near", [("dgo", "dog"), ("Strasse", "Straße"), (0, "dog")])
def test_no_such_label(predictor, label, near):
    with pytest.raises(InputError, match=f"among the model's 3 labels. Received: {label!r}. Some of them: .*{near}"):
        predictor.explain(IMAGES[0], label)


@pytest.mark.parametrize("tta", ["flip", pytest.param("flip,5crop", marks=pytest.mark.slow)])
def test_views_are_averaged(main_net, main_net_folder, main_net_predictor, tta):
    """The mean of the probabilities that the model in memory gives the views, cut with NumPy."""
    predictor = Predictor(main_net_folder, tta=tta)
    side_px = 64 if "5crop" in tta else 56
    squares = np.stack([preprocess(tf.constant(data), side_px) for data in IMAGES]).round()
    views = list(numpy_views(squares, tta, 56))
    outputs = [tf.sigmoid(main_net.network(view, training=False)["y_cls"]) for view in views]
    answer = predictor.answer(IMAGES)
    assert answer["probabilities"].dtype == np.float32
    np.testing.assert_allclose(answer["probabilities"], np.mean(outputs, axis=0), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(answer["predicted"], answer["probabilities"] > predictor.thresholds)
    assert np.abs(answer["probabilities"] - main_net_predictor.predict(IMAGES)).max() > 1e-4
    assert predictor.identity != main_net_predictor.identity and predictor.predict([]).shape == (0, 2)
    with pytest.raises(ImageError, match="image 1 .from 0. of 2, which cannot be decoded"):
        predictor.predict([IMAGES[0], b"no image"])
    with pytest.raises(InputError, match=f"tta averages plain answers, .* Received: tta='{tta}' with a call for embed"):
        predictor.embed(IMAGES)


@pytest.mark.parametrize("count", [1, 5])
def test_predict_and_explain_equal_the_model_in_memory(model, predictor, count):
    image = tf.stack([preprocess(tf.constant(data), 56) for data in IMAGES[:count]])
    outputs = model.network(image, training=False)
    probabilities = predictor.predict(IMAGES[:count])
    assert probabilities.shape == (count, 3) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, tf.sigmoid(outputs["y_hat"]), rtol=0, atol=1e-5)
    answer = predictor.answer(IMAGES[:count])
    assert sorted(answer) == ["predicted", "probabilities"]
    # Two executions of one signature: kernels of several threads may sum in another order each time.
    np.testing.assert_allclose(answer["probabilities"], probabilities, rtol=0, atol=1e-6)
    explained = predictor.explain_batch(IMAGES[:count])
    assert set(explained) == {"A", "S", "U", "predicted", "probabilities", "y_att", "y_cls", "y_hat", "y_sr"}
    assert explained["predicted"].dtype == bool
    np.testing.assert_array_equal(explained["predicted"], probabilities > predictor.thresholds)
    np.testing.assert_allclose(explained["probabilities"], probabilities, rtol=0, atol=1e-5)
    for name in set(explained) - {"predicted", "probabilities"}:
        assert explained[name].shape == outputs[name].shape and explained[name].dtype == np.float32
        # Rounding is a share of the largest: values near zero are sums of large ones.
        largest = np.abs(outputs[name]).max()
        np.testing.assert_allclose(explained[name], outputs[name], rtol=0, atol=1e-5 * max(1.0, largest))
    embedding = predictor.embed(IMAGES[:count])
    assert embedding.shape == (count, 128) and embedding.dtype == np.float32
    np.testing.assert_allclose(embedding, outputs["pooled"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(explained["A"].sum(axis=(1, 2)), 1.0, rtol=0, atol=1e-5)


def names_above(p, names, thresholds):
    return [[names[label] for label in np.flatnonzero(row > thresholds)] for row in p.astype(np.float64)]


def test_predicted_labels_are_those_above_the_thresholds_of_the_export(predictor):
    expected = names_above(predictor.predict(IMAGES), LABELS, predictor.thresholds)
    assert 0 < sum(map(len, expected)) < len(IMAGES) * len(LABELS)
    assert predictor.predict_labels(IMAGES) == expected


@pytest.mark.slow
def test_other_thresholds_decide_otherwise(main_net_predictor, tuned_folder, thresholds):
    p = main_net_predictor.predict(IMAGES)
    expected = names_above(p, "ab", thresholds)
    assert sum(map(len, expected)) == 4
    tuned = Predictor(tuned_folder)
    assert tuned.predict_labels(IMAGES) == expected
    np.testing.assert_allclose(tuned.predict(IMAGES), p, rtol=0, atol=1e-5)
    assert main_net_predictor.predict_labels(IMAGES) == names_above(p, "ab", 0.5)


def save_plain_model(folder, description):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def answer(image_bytes):
        num_images = [tf.shape(image_bytes)[0], 1]
        return {
            "probabilities": tf.tile([[0.4, 0.5, 0.6]], num_images),
            "labels": tf.tile([["a", "b", "c"]], num_images),
        }

    tf.saved_model.save(tf.Module(), str(folder), signatures={"serving_default": answer})
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra" / "export.json").write_text(description)
    return folder


def test_a_signature_that_is_not_there(tmp_path):
    description = {"labels": ["a", "b", "c"], "image_size": 56, "thresholds": [0.5] * 3, "run": {}}
    description |= {"maps": [], "regions": []}
    predictor = Predictor(save_plain_model(tmp_path / "1", json.dumps(description)))
    with pytest.raises(InputError, match="Received: .*1, which has no signature embed. Export it again."):
        predictor.embed(IMAGES[:1])


@pytest.mark.parametrize(
    "description",
    [
        *("", "[]", "{}", '{"labels": ["a"], "image_size": null}', '{"labels": 3}'),
        '{"labels": ["a", "b", "c"], "image_size": 56}',  # as earlier versions wrote it
    ],
)
def test_description_that_cannot_be_used(tmp_path, description):
    save_plain_model(tmp_path / "1", description)
    with pytest.raises(InputError, match="1, whose assets.extra/export.json is unusable .* Copy the whole folder"):
        Predictor(tmp_path / "1")


def test_description_that_is_missing(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "1", ignore=shutil.ignore_patterns("assets.extra"))
    with pytest.raises(InputError, match="1, whose assets.extra/export.json is unusable .* Copy the whole folder"):
        Predictor(tmp_path / "1")


def test_no_images(predictor):
    assert predictor.predict([]).shape == (0, 3)
    assert predictor.predict_labels([]) == []
    assert predictor.embed([]).shape == (0, 128)
    logits = {name: (0, 3) for name in ("y_hat", "y_cls", "y_att", "y_sr", "probabilities", "predicted")}
    maps = {name: (0, 14, 14, 3) for name in ("A", "S", "U")}
    assert {name: values.shape for name, values in predictor.explain_batch([]).items()} == {**logits, **maps}


@pytest.mark.parametrize("bad", [b"", b"no image", IMAGES[0][:200]])
def test_undecodable_image_is_named_by_its_position(predictor, bad):
    reason = "The decoder reports damage" if len(bad) > 9 else "An image must be a JPEG, PNG, BMP or GIF by its"
    with pytest.raises(
        ImageError, match=rf"^Every image must be .* decoded. .* 2 \(from 0\) of 4, .* {reason}"
    ) as error:
        predictor.predict([*IMAGES[:2], bad, IMAGES[2]])
    assert error.value.reason.startswith(reason) and "\n" not in str(error.value)


# What Pillow and others write, by the beginning of its name -> the reason why the graph refuses it. The rest it reads.
REFUSED = {
    "BMP 1": "A BMP must have 24 or 32 bits",
    "BMP P": "A BMP must have",
    "BMP palette": "A BMP must have",
    "BMP of": "A BMP must have",
    "BMP with": "A BMP must have",
    "GIF RGBA": "The first frame of a GIF must cover it and have no transparent colour",
    "GIF transparent": "The first frame of a GIF",
}
READ = ("BMP", "GIF", "JPEG ", "MPO", "PNG")


@pytest.mark.slow
def test_every_kind_that_pillow_writes_is_seen_as_from_its_path_or_refused(tmp_path):
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def seen(data):
        return preprocess_upright(data, 56)

    outcomes = collections.Counter()
    for name, data in mutated_images.kinds().items():
        reason = next((text for start, text in REFUSED.items() if name.startswith(start)), None)
        if not name.startswith(READ):
            reason = "An image must be a JPEG, PNG, BMP or GIF by its first bytes"
        if reason:
            with pytest.raises(tf.errors.InvalidArgumentError) as error:
                seen(data)
            assert reason in error.value.message, name
        else:
            (tmp_path / "image").write_bytes(data)
            expected = seen(read_image_file(tmp_path / "image"))
            # Pillow lays alpha over white in whole numbers, and a CMYK JPEG without Adobe's marker is turned round.
            np.testing.assert_allclose(seen(data), expected, rtol=0, atol=1.01, err_msg=name)
        outcomes[reason is None] += 1
    assert outcomes[True] > 80 and outcomes[False] > 150


@pytest.mark.slow
def test_model_without_maps(main_net_predictor):
    predictor = main_net_predictor
    assert predictor.predict(IMAGES).shape == (5, 2)
    with pytest.raises(
        InputError,
        match="with maps or regions can explain its answers. Received: .*1, which has no signature explain",
    ):
        predictor.explain_batch(IMAGES)
    assert predictor.embed(IMAGES).shape == (5, 128)


def test_folder_that_is_missing_or_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("missing", "file"):
        with pytest.raises(InputError, match=f"Received: .*{name}, which is not a folder"):
            Predictor(tmp_path / name)


def test_folder_without_a_saved_model(tmp_path):
    with pytest.raises(InputError, match="which has no saved_model.pb. Check the path"):
        Predictor(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match=f"a run without an export. Make one: .* --work_dir={tmp_path}"):
        Predictor(tmp_path)


def test_a_run_or_its_versions_in_place_of_one_names_the_newest(tmp_path):
    for version in ("2", "10", "1"):
        (tmp_path / "export" / version).mkdir(parents=True)
    for given in (tmp_path, f"{tmp_path}/", tmp_path / "export"):
        with pytest.raises(InputError, match=f"a folder of versions. .* the newest is {tmp_path}/export/10.$"):
            Predictor(given)


@pytest.mark.parametrize(
    "damage", ["saved_model.pb", "variables/variables.data-00000-of-00001", "variables/variables.index"]
)
def test_damaged_folder(folder, tmp_path, damage):
    shutil.copytree(folder, tmp_path / "1")
    data = (tmp_path / "1" / damage).read_bytes()
    (tmp_path / "1" / damage).write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"1, which cannot be loaded \(.*\)\. Export it again\.$"):
        Predictor(tmp_path / "1")


def test_saved_models_of_another_kind(tmp_path):
    plain = tf.Module()
    tf.saved_model.save(plain, str(tmp_path / "none"))
    signature = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    tf.saved_model.save(plain, str(tmp_path / "other"), signatures=signature)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None])
        builder = tf.compat.v1.saved_model.Builder(str(tmp_path / "v1"))
        signature = tf.compat.v1.saved_model.predict_signature_def({"x": x}, {"y": x + 1.0})
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    for name in ("none", "other", "v1"):
        with pytest.raises(InputError, match=f"{name}, a SavedModel of another kind"):
            Predictor(tmp_path / name)


def test_the_package_has_it():
    assert srn_tf.Predictor is Predictor
    with pytest.raises(AttributeError, match="has no attribute 'Predictr'"):
        srn_tf.Predictr
