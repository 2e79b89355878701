"""Unspecified labels in training: the losses against NumPy and by hand, the prior, and what is refused."""

import dataclasses
import types

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.data.dropping import DroppedLabels, Dropping
from srn_tf.errors import InputError
from srn_tf.evaluation.predictions import SavedPredictions, save_predictions
from srn_tf.models import c_tran, main_net
from srn_tf.models.model import label_loss
from srn_tf.training import losses, steps, unspecified
from srn_tf.training.plan import TrainingPlan
from tests.models.small import small_model
from tests.training import small_runs

CASE = types.SimpleNamespace(name="voc2007", has_unspecified=True, ignores_unspecified=True, dropped=None)
PLAN = TrainingPlan(("cls",), (1,), (0.1,))
STAGES = main_net.STAGES


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-np.asarray(x, np.float64)))


def a_case(num_images=6, num_labels=5):
    """(y, logits, counted), float32; y is 0 where an entry does not count."""
    rng = np.random.default_rng(3)
    truth = rng.choice([1, 0, -1], (num_images, num_labels))
    logits = rng.normal(0, 2, truth.shape).astype(np.float32)
    return (truth == 1).astype(np.float32), logits, (truth != -1).astype(np.float32)


# The losses.


def test_normalize_by_hand():
    """Two of four labels known: 1 / 3 + 1; none: nothing to learn; all, or nobody says which: 1 / 5 + 1."""
    y, logits = np.float32([[1, 0, 0, 0]] * 3), np.zeros((3, 4), np.float32)
    counted = np.float32([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]])

    def values(term, batch, **masks):
        outputs = {"y": logits, **masks}
        return steps.term_values(term, outputs, unspecified.with_image_weights(batch), losses.sigmoid_loss, (0, 0))

    batch, term = {"y": y, "counted": counted}, label_loss("y")
    np.testing.assert_allclose(values(term, batch), np.log(2) * np.array([2 * 4 / 3, 0, 4 * 6 / 5]), rtol=1e-6)
    np.testing.assert_allclose(values(term, {"y": y}), [np.log(2) * 4 * 6 / 5] * 3, rtol=1e-6)
    # C-Tran is told the first label: it is left out of the loss, and still a label that the image has.
    told = values(label_loss("y", counts="mask"), batch, mask=np.float32([[0, 1, 1, 1]] * 3))
    np.testing.assert_allclose(told, np.log(2) * np.array([1 * 4 / 3, 0, 3 * 6 / 5]), rtol=1e-6)


def selective_in_numpy(y, logits, counted, gammas, margin, is_likely, top_k):
    """The authors' loss written from its definition, in float64: (B,)."""
    gamma_pos, gamma_neg, gamma_unspecified = gammas
    p = sigmoid(logits)
    p_m = np.maximum(p - margin, 0.0)
    order = np.argsort(-np.where(counted == 0, logits, -np.inf), axis=None)[: top_k * len(y)]
    weights = np.where((counted == 0) & is_likely, 0.0, 1.0).ravel()
    weights[[place for place in order if counted.ravel()[place] == 0]] = 0.0
    gamma = np.where(y == 1, gamma_pos, np.where(counted == 1, gamma_neg, gamma_unspecified))
    entries = np.where(y == 1, (1 - p) ** gamma * -np.log(p), p_m**gamma * -np.log(1 - p_m))
    return (weights.reshape(y.shape) * entries).sum(axis=1)


@pytest.mark.parametrize("top_k", [0, 1, 5])
@pytest.mark.parametrize(
    "plan, gammas, margin",
    [
        ({"loss": "sigmoid"}, (0, 0, 0), 0.0),
        ({"loss": "asymmetric", "asl_gamma_neg": 1.0}, (0, 1, 4), 0.05),
        ({"loss": "asymmetric", "asl_gamma_neg": 3.0, "asl_margin": 0.0, "selective_gamma": 2.0}, (0, 3, 2), 0.0),
    ],
)
def test_selective_equals_numpy(top_k, plan, gammas, margin):
    plan = dataclasses.replace(PLAN, **plan, selective_top_k=top_k)
    prior = np.array([0.1, 0.6, 0.5, 0.2, 0.1])
    base = losses.make_loss(**unspecified.loss_options(plan))
    y, logits, counted = a_case()
    loss = unspecified.training_loss(base, "selective", plan, tuple("abcde"), prior)
    expected = selective_in_numpy(y, logits, counted, gammas, margin, [0, 1, 0, 0, 0], top_k)
    np.testing.assert_allclose(tf.function(loss)(y, logits, counted), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(loss(y, logits), base(y, logits), rtol=1e-6)  # nothing unspecified


def test_selective_by_hand():
    """Margin 0.05, at logit 0, exponents 0, 1 and 4: a positive, a negative, an unspecified entry; and its slope."""
    asl = {"asl_gamma_neg": 1.0}
    loss = unspecified.selective_loss(
        losses.make_loss("asymmetric", **asl), losses.make_loss("asymmetric"), [False] * 3, 0, weight=0.5
    )
    logits = tf.zeros((1, 3))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(np.float32([[1, 0, 0]]), logits, np.float32([[1, 1, 0]]))
    np.testing.assert_allclose(value, [np.log(2) - 0.45 * np.log(0.55) + 0.5 * 0.0245150535], rtol=1e-6)
    slopes = [[-0.5, 0.45 * 0.25 / 0.55, 0.5 * 0.0186392]]  # the powers are weights, without a slope
    np.testing.assert_allclose(tape.gradient(value, logits), slopes, rtol=1e-5)


# What a run does.


@pytest.mark.parametrize("asked", ["auto", "ignore", "normalize", "negative", "selective"])
def test_modes(asked):
    plan = dataclasses.replace(PLAN, unspecified=asked)
    complete = types.SimpleNamespace(name="coco2014", has_unspecified=False, ignores_unspecified=False, dropped=None)
    for dataset in (CASE, types.SimpleNamespace(**{**vars(complete), "dropped": "some"})):
        unspecified.check_unspecified(plan, dataset, STAGES)
        assert unspecified.mode_of(plan, dataset) == ("ignore" if asked == "auto" else asked)
    if asked == "auto":
        unspecified.check_unspecified(plan, complete, STAGES)
        assert unspecified.mode_of(plan, complete) == "negative"
        return
    with pytest.raises(InputError) as error:
        unspecified.check_unspecified(plan, complete, STAGES)
    assert str(error.value) == (
        f"unspecified={asked} needs labels that may be unspecified. Received: data set coco2014, where every label is "
        "given. Remove --unspecified, prepare a table with --unspecified_marks, or simulate it with --drop_labels."
    )


def test_selective_needs_a_loss_of_each_label():
    with pytest.raises(InputError, match="sigmoid, focal, asymmetric. Received: --loss=warp, which compares labels"):
        unspecified.check_unspecified(dataclasses.replace(PLAN, unspecified="selective", loss="warp"), CASE, STAGES)


def test_selective_needs_a_loss_of_all_labels():
    """C-Tran's leaves out what is known, which selective would make a negative, also where it is true."""
    with pytest.raises(InputError, match="stage all, whose loss leaves out the labels that the network is told"):
        unspecified.check_unspecified(dataclasses.replace(PLAN, unspecified="selective"), CASE, c_tran.STAGES)
    unspecified.check_unspecified(dataclasses.replace(PLAN, unspecified="normalize"), CASE, c_tran.STAGES)


def test_the_prior(tmp_path):
    logits = np.log(np.array([[0.2, 0.9], [0.4, 0.7]]) / (1 - np.array([[0.2, 0.9], [0.4, 0.7]])))
    saved = SavedPredictions(np.array(["a", "b"]), np.int8([[1, -1], [0, 1]]), ("cat", "dog"), {"y_hat": logits})
    save_predictions(str(tmp_path / "predictions" / "validation.npz"), saved)
    records = tf.data.Dataset.from_tensor_slices({"labels": np.int8([[1, 0, 0], [-1, 0, 0], [-1, 1, 0], [0, 1, 0]])})
    dataset = types.SimpleNamespace(labels=("cat", "dog"), records=lambda role: records if role == "train" else None)
    for path in (tmp_path, tmp_path / "predictions" / "validation.npz"):
        np.testing.assert_allclose(unspecified.label_prior(str(path), dataset), [0.3, 0.8], rtol=1e-6)
    np.testing.assert_allclose(unspecified.label_prior("", dataset), [1 / 3, 1.0, 0.0])
    dataset.labels = ("cat", "cow")
    with pytest.raises(InputError, match="must have the same labels in the same order"):
        unspecified.label_prior(str(tmp_path), dataset)
    with pytest.raises(InputError, match="validation.npz must exist"):
        unspecified.label_prior(str(tmp_path / "predictions"), dataset)


@pytest.mark.parametrize(
    "logits, received", [(np.zeros([0, 1]), "no image"), (np.full([1, 1], np.nan), "a score that")]
)
def test_a_prior_of_nothing_is_refused(logits, received, tmp_path):
    path = str(tmp_path / "p.npz")
    names = np.array(["a"] * len(logits), dtype="U1")
    save_predictions(path, SavedPredictions(names, np.zeros(logits.shape, np.int8), ("cat",), {"y": logits}))
    with pytest.raises(InputError, match=f"p.npz with {received}"):
        unspecified.label_prior(path, types.SimpleNamespace(labels=("cat",)))


@pytest.mark.slow
def test_runs_on_dropped_labels(dataset, tmp_path):
    """A run learns from what is left, in every mode; validation keeps all labels."""
    dropped = DroppedLabels(Dropping("rps", 0.5), dataset.records("train"), 0, dataset.has_unspecified)
    partial = dataclasses.replace(dataset, dropped=dropped)
    seen = {}
    for mode in ("auto", "ignore", "normalize", "negative", "selective"):
        plan = {"stages": ("begin",), "epochs": (1,), "learning_rates": (0.01,), "unspecified": mode}
        small_runs.train(tmp_path / mode, partial, **plan)
        seen[mode] = small_runs.read_log(tmp_path / mode)[0]["losses"]["y_first"]
    assert seen["auto"] == seen["ignore"] < seen["selective"] < seen["negative"]
    assert seen["ignore"] < seen["normalize"] < 2 * seen["ignore"]
    whole = [record["labels"] for record in dataset.records("validation").as_numpy_iterator()]
    np.testing.assert_array_equal(whole, [r["labels"] for r in partial.records("validation").as_numpy_iterator()])


@pytest.mark.slow
def test_features_are_stored_once_for_whatever_is_dropped(tiny_scenes_dir, tmp_path):
    """The labels that are left come with the features, which are found again."""
    import os
    import shutil

    from srn_tf.data.features import open_features

    folder = tmp_path / "data"
    shutil.copytree(tiny_scenes_dir, folder, ignore=shutil.ignore_patterns("features"))
    dataset = small_runs.open_tiny_scenes(str(folder), num_train=16)
    plan = small_runs.make_plan(
        stages=("cls",), epochs=(1,), learning_rates=(0.1,), frozen_parts=("trunk",), cache="features", fixed_crops=1
    )
    model, strategy = small_model("main_net", 16), tf.distribute.get_strategy()
    found = set()
    for amount in (0.0, 0.5):
        dropped = DroppedLabels(Dropping("rps", amount), dataset.records("train"), 0, dataset.has_unspecified)
        partial = dataclasses.replace(dataset, dropped=dropped)
        records = open_features(model, strategy, partial, "train", plan).records
        labels = np.stack([record["labels"] for record in records.as_numpy_iterator()])
        assert (0.4 < (labels == 0).mean() < 0.6) == bool(amount)
        found.add(tuple(sorted(os.listdir(folder / "features"))))
    assert len(found) == 1
