"""Losses and the metric of the public API: the run's own values, in a Keras model, and through its configuration."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import srn_tf
from srn_tf.errors import InputError
from srn_tf.evaluation.metrics import AP_DEFINITIONS, average_precision
from srn_tf.training.losses import make_loss

RNG = np.random.default_rng(3)
LOGITS = RNG.normal(0.0, 2.0, (6, 5)).astype(np.float32)
TRUTH = RNG.choice([1, 0, -1], (6, 5), p=[0.4, 0.4, 0.2])  # -1: not known
Y, COUNTED = (TRUTH == 1).astype(np.float32), (TRUTH != -1).astype(np.float32)
WEIGHTS = [0.5, 1.0, 2.0, 3.0, 4.0]

CASES = {
    "sigmoid": (srn_tf.losses.SigmoidLoss(), make_loss("sigmoid")),
    "weighted": (
        srn_tf.losses.SigmoidLoss(positive_weights=WEIGHTS),
        make_loss("sigmoid", positive_weights=np.float32(WEIGHTS)),
    ),
    "focal": (srn_tf.losses.FocalLoss(gamma=1.5), make_loss("focal", focal_gamma=1.5)),
    "asymmetric": (srn_tf.losses.AsymmetricLoss(), make_loss("asymmetric")),
    "asymmetric, others": (
        srn_tf.losses.AsymmetricLoss(gamma_pos=1.0, gamma_neg=2.0, margin=0.2, focal_gradient=True),
        make_loss("asymmetric", asl_gamma_pos=1.0, asl_gamma_neg=2.0, asl_margin=0.2, asl_focal_gradient=True),
    ),
    "softmax": (srn_tf.losses.SoftmaxLoss(), make_loss("softmax")),
    "pairwise": (srn_tf.losses.PairwiseLoss(), make_loss("pairwise")),
    "warp_exact": (srn_tf.losses.WARP(exact=True), make_loss("warp_exact")),
}


@pytest.mark.parametrize("name", list(CASES))
def test_a_loss_is_the_runs_own_and_what_is_not_known_is_left_out(name):
    loss, own = CASES[name]
    per_image = own(Y, LOGITS, COUNTED).numpy()
    assert (COUNTED == 0).any() and np.ptp(per_image) > 0
    np.testing.assert_allclose(loss(TRUTH, LOGITS), per_image.mean(), rtol=1e-6)
    none = type(loss).from_config({**loss.get_config(), "reduction": "none"})
    np.testing.assert_allclose(none(TRUTH, LOGITS), per_image, rtol=1e-6)
    of_p = type(loss).from_config({**loss.get_config(), "from_logits": False})
    np.testing.assert_allclose(of_p(TRUTH, 1 / (1 + np.exp(-LOGITS))), per_image.mean(), rtol=1e-4)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is type(loss) and again.get_config() == loss.get_config()


def test_asymmetric_loss_worked_by_hand():
    """p = 0.5: a positive costs log 2; a negative (0.5 - 0.05)^4 * -log(1 - 0.45)."""
    expected = np.log(2.0) + 0.45**4 * -np.log(0.55)
    np.testing.assert_allclose(srn_tf.losses.AsymmetricLoss()([[1, 0, -1]], [[0.0, 0.0, 9.0]]), expected, rtol=1e-6)


def test_warp_draws_its_negatives():
    truth, logits = [[1, 0, -1]], [[0.3, 0.1, 5.0]]  # one negative: every draw finds it
    np.testing.assert_allclose(srn_tf.losses.WARP()(truth, logits), 0.8, rtol=1e-6)
    # One positive, at 0, and 30 negatives k, of which some are out of its margin: after s draws L(30 // s) * (1 + f_k).
    negatives = np.linspace(-2.0, 2.0, 30)
    truth, logits = np.float32([[1] + [0] * 30]), np.float32([[0.0, *negatives]])
    L = np.cumsum(1.0 / np.arange(1, 31))
    possible = np.array([0.0, *(L[30 // s - 1] * (1.0 + f) for s in range(1, 31) for f in negatives if f > -1.0)])
    keras.utils.set_random_seed(0)
    loss = tf.function(srn_tf.losses.WARP())
    values = [float(loss(truth, logits)) for _ in range(20)]
    assert len(set(values)) > 5
    assert all(np.isclose(possible, value, rtol=1e-5).any() for value in values)


def test_values_out_of_range_are_refused():
    for make in (
        lambda: srn_tf.losses.AsymmetricLoss(margin=1.0),
        lambda: srn_tf.losses.AsymmetricLoss(gamma_neg=-1.0),
        lambda: srn_tf.losses.FocalLoss(gamma=-0.5),
        lambda: srn_tf.metrics.MeanAveragePrecision("area"),
        lambda: srn_tf.metrics.MeanAveragePrecision().update_state(Y, LOGITS, sample_weight=np.ones(6)),
    ):
        with pytest.raises(InputError, match="Received"):
            make()


def scores_with_ties(images=200, labels=6):
    """Logits with many equal ones, and truths with unknown ones, the last label without a positive."""
    rng = np.random.default_rng(8)
    scores = np.round(rng.normal(size=(images, labels)), 1).astype(np.float32)
    truth = rng.choice([1, 0, -1], (images, labels), p=[0.2, 0.7, 0.1])
    truth[:, -1] = np.where(truth[:, -1] == 1, 0, truth[:, -1])
    return scores, truth


def mean_ap(scores, truth, definition="voc_all_points"):
    ap = average_precision(scores, truth == 1, truth != -1, definition)
    assert np.isnan(ap[-1])
    return ap[:-1].mean()


@pytest.mark.parametrize(
    "definition",
    [name if name == "voc_all_points" else pytest.param(name, marks=pytest.mark.slow) for name in AP_DEFINITIONS],
)
def test_map_over_batches_is_that_of_all_scores(definition):
    scores, truth = scores_with_ties()
    metric = srn_tf.metrics.MeanAveragePrecision(definition)

    @tf.function(reduce_retracing=True)
    def add(y_true, y_pred):
        metric.update_state(y_true, y_pred)
        return metric.result()

    for _ in range(2):
        for start in range(0, 200, 64):
            add(truth[start : start + 64], scores[start : start + 64])
        np.testing.assert_allclose(metric.result(), mean_ap(scores, truth, definition), rtol=1e-6)
        metric.reset_state()
        assert np.isnan(metric.result())
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert (again.definition, again.name) == (definition, "mAP")


@pytest.mark.slow
@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_map_in_fit_and_evaluate(tmp_path, steps_per_execution):
    scores, truth = scores_with_ties()
    image = keras.Input((6,))
    model = keras.Model(image, srn_tf.layers.Output(name="y")(keras.layers.Dense(6, name="dense")(image)))
    model.get_layer("dense").set_weights([np.eye(6, dtype=np.float32), np.zeros(6, np.float32)])
    model.compile(
        keras.optimizers.SGD(0.0),
        loss=srn_tf.losses.AsymmetricLoss(),
        metrics=[srn_tf.metrics.MeanAveragePrecision()],
        steps_per_execution=steps_per_execution,
    )
    arguments = {"batch_size": 48, "verbose": 0}
    expected = pytest.approx(mean_ap(scores, truth), rel=1e-6)
    half = pytest.approx(mean_ap(scores[:90], truth[:90]), rel=1e-6)
    history = model.fit(
        scores, truth, epochs=2, shuffle=False, validation_data=(scores[:90], truth[:90]), **arguments
    ).history
    assert history["mAP"] == [expected] * 2 and history["val_mAP"] == [half] * 2
    evaluated = model.evaluate(scores, truth, return_dict=True, **arguments)
    assert evaluated["mAP"] == expected
    per_image = make_loss("asymmetric")(*(np.float32(x) for x in (truth == 1, scores, truth != -1)))
    assert evaluated["loss"] == pytest.approx(float(tf.reduce_mean(per_image)), rel=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(scores, truth, return_dict=True, **arguments) == pytest.approx(evaluated, rel=1e-5)
