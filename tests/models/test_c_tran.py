"""C-Tran: its published numbers of weights, its equations against NumPy, and what known labels do."""

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.errors import InputError
from srn_tf.models import layers
from srn_tf.models.c_tran import CTranSettings, build_transformer
from srn_tf.models.token_layers import LabelMask, LabelTokens
from srn_tf.training.losses import focal_loss
from srn_tf.training.steps import term_values
from tests.models.small import small_model
from tests.models.transformer_reference import Reference, count
from tests.training import small

C, D = 5, 16
SETTINGS = {"ctran_width": D, "ctran_hidden": 24}


@pytest.fixture(scope="module")
def model():
    model = small_model("c_tran", C, **SETTINGS)
    small.randomize(model)
    return model


@pytest.fixture(scope="module")
def last_map():
    return np.random.default_rng(0).uniform(0, 2, (2, 7, 7, 128)).astype(np.float32)


STATES = np.array([[1, -1, 0, -1, -1], [-1, 0, 0, 1, -1]], np.float32)

# F, C, settings -> weights of the head; the first two are those of the published models.
COUNTS = [
    pytest.param(2048, 80, {}, 75_896_912, marks=pytest.mark.slow),  # 300 megabytes
    pytest.param(2048, 20, {}, 75_651_092, marks=pytest.mark.slow),
    # 2048 * 256 + 256, 3 (6 * 256^2 + 10 * 256), 2 * 256, (80 + 3) 256, 80 * 256 + 80
    (2048, 80, {"ctran_width": 256}, 524_544 + 1_187_328 + 512 + 21_248 + 20_560),
]


@pytest.mark.parametrize(("channels", "num_labels", "settings", "expected"), COUNTS)
def test_parameter_counts(channels, num_labels, settings, expected):
    """Of the head alone, as `build` puts it together, with the vector of the unknown state, which is not trained."""
    settings = CTranSettings(**settings)
    width = settings.ctran_width or channels
    tokens, label_fc = LabelTokens(num_labels, width), layers.GroupLinear(num_labels, 1, is_uniform=True)
    tokens.build((None, num_labels))
    label_fc.build((None, num_labels, width))
    encoder = build_transformer((7, 7, channels), num_labels, settings)
    assert sum(count(part.trainable_weights) for part in (encoder, tokens, label_fc)) + width == expected
    assert count(tokens.non_trainable_weights) == width


def test_the_transformer_equals_numpy(model, last_map):
    """Of all places and labels in every layer, although only labels are computed in the last."""
    labels, known, unknown = (model.weights[f"label_tokens/{name}"].numpy() for name in ("labels", "known", "unknown"))
    tokens = labels + np.stack([unknown[0], *known])[STATES.astype(int) + 1]
    np.testing.assert_allclose(model.parts["label_tokens"](STATES), tokens, rtol=1e-6)
    reference = Reference(model.parts["transformer"], 4)
    places = reference.linear(np.float64(last_map).reshape(2, 49, 128), "tran_project")
    t = reference.norm(np.concatenate([places, tokens], axis=1), "tran_norm")
    for name in ("tran1", "tran2", "tran3"):
        t, attention = reference.attend(t, t, t, t, name, 1)
        t = reference.feed_forward(t, name, 2)
    received = model.parts["transformer"]({"last_map": tf.constant(last_map), "labels": tf.constant(tokens)})
    np.testing.assert_allclose(received["labels"], t[:, 49:], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(received["attention"], attention[:, :, 49:, :49], rtol=1e-3, atol=1e-5)
    kernel, bias = model.parts["label_fc"].get_weights()
    logits = np.einsum("bcd,cd->bc", t[:, 49:], kernel[..., 0]) + bias
    np.testing.assert_allclose(model.parts["label_fc"](received["labels"]), logits, rtol=1e-3, atol=1e-3)


def test_what_is_known_changes_the_other_answers(model):
    """Nothing known gives the plain answer, which is served; a known label moves the others."""
    image = small.random_batch(2)["image"]
    network = model.network_for(("y_known", "y_ctran", "A"))

    def answers(states):
        return {name: value.numpy() for name, value in network({"image": image, "truth": tf.constant(states)}).items()}

    plain, some = answers(np.full((2, C), -1, np.float32)), answers(STATES)
    np.testing.assert_allclose(plain["y_known"], plain["y_ctran"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(some["y_ctran"], plain["y_ctran"], rtol=1e-5, atol=1e-5)
    assert np.abs(some["y_known"] - plain["y_known"])[STATES < 0].min() > 1e-5
    attended = plain["A"].sum(axis=(1, 2))
    assert (attended > 0.1).all() and (attended < 1.0).all()  # what is missing goes to labels
    assert model.informed == "y_known" and model.explanation == ("A", "y_ctran")


def test_the_mask_hides_most_labels_in_training():
    """n is 0 to floor(0.75 * 5) = 3, each as often; which labels is even, too; and what is not known stays so."""
    truth = np.tile(np.array([[1, 0, 1, 0, -1]], np.float32), (4000, 1))
    mask = LabelMask(0.75)
    np.testing.assert_array_equal(mask(truth), truth)  # not in training
    draws = mask.draws.numpy()
    hidden = mask(truth, training=True).numpy()
    assert mask.draws.numpy() == draws + 1
    is_known = hidden != -1
    np.testing.assert_array_equal(hidden[is_known], truth[is_known])
    assert is_known[:, :4].mean() == pytest.approx(1.5 / 5, abs=0.02) and not is_known[:, 4].any()
    np.testing.assert_allclose(is_known[:, :4].mean(axis=0), 1.5 / 5, atol=0.03)
    shown = np.bincount((mask(np.abs(truth), training=True).numpy() != -1).sum(axis=1), minlength=6) / 4000
    np.testing.assert_allclose(shown, [0.25, 0.25, 0.25, 0.25, 0, 0], atol=0.03)
    mask.draws.assign(draws)  # a run that continues
    np.testing.assert_array_equal(mask(truth, training=True), hidden)
    assert (mask(truth, training=True).numpy() != hidden).any()
    mask.trainable = False
    np.testing.assert_array_equal(mask(truth, training=True), np.full_like(truth, -1))


def test_the_loss_is_of_unknown_labels_alone(model):
    """With --loss, and without entries that are not counted."""
    (term,) = model.stages["all"].terms
    rng = np.random.default_rng(2)
    logits, y = rng.normal(size=(2, C)).astype(np.float32), (rng.random((2, C)) < 0.5).astype(np.float32)
    is_unknown = (STATES < 0).astype(np.float32)
    outputs = {"y_known": tf.constant(logits), "is_unknown": tf.constant(is_unknown)}
    counted = np.ones((2, C), np.float32)
    counted[0, 1] = 0
    p = 1 / (1 + np.exp(-logits))
    expected = -np.log(np.where(y == 1, p, 1 - p)) * np.where(y == 1, 1 - p, p) ** 2
    for batch, weights in (({}, is_unknown), ({"counted": tf.constant(counted)}, is_unknown * counted)):
        received = term_values(term, outputs, {"y": tf.constant(y), **batch}, focal_loss, (0, 0))
        np.testing.assert_allclose(received, (expected * weights).sum(axis=1), rtol=1e-4)


def test_a_known_label_has_no_gradient(model):
    """In a step: of the labels' own linear layers, those of a known label do not move."""
    (stage,) = model.stages.values()
    mask = model.parts["label_mask"]
    batch = small.random_batch(1, C)
    before = small.weights_of(model)
    for draws in range(100):  # until the next step knows something
        mask.draws.assign(draws)
        known = mask(batch["y"], training=True).numpy()[0] != -1
        if known.any():
            break
    mask.draws.assign(draws)
    small.descend(model, stage, batch)
    moved = model.weights["label_fc/bias"].numpy() != before["label_fc/bias"]
    np.testing.assert_array_equal(moved, ~known)
    np.testing.assert_array_equal(model.weights["label_tokens/unknown"], before["label_tokens/unknown"])
    for name, weight in model.weights.items():
        weight.assign(before[name])


def test_bad_settings():
    with pytest.raises(InputError, match="ctran_width must be a multiple of 4. Received: 18"):
        small_model("c_tran", C, ctran_width=18)
