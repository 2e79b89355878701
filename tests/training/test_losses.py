"""The losses against NumPy and values worked out by hand; what is left out; extremes; what a run makes of them."""

import contextlib
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from srn_tf.choices import LOSSES, RANKING_LOSSES
from srn_tf.errors import InputError
from srn_tf.training import losses, trainer
from tests.training import small, small_runs

ZERO_ASL = {"asl_gamma_pos": 0.0, "asl_gamma_neg": 0.0, "asl_margin": 0.0}
# Every loss, and those with an exponent also with one below 1, whose power has no slope at 0.
EVERY_LOSS = {name: losses.make_loss(name) for name in LOSSES} | {
    "sigmoid, weighted": losses.make_loss("sigmoid", positive_weights=np.array([0.1, 1, 9, 2, 3], np.float32)),
    "focal, 0.5": losses.make_loss("focal", focal_gamma=0.5),
    "asymmetric, 0.5": losses.make_loss("asymmetric", asl_gamma_pos=0.5, asl_gamma_neg=0.5),
    "asymmetric, no exponents": losses.make_loss("asymmetric", asl_gamma_neg=0.0),
    "asymmetric, no margin": losses.make_loss("asymmetric", asl_gamma_neg=0.5, asl_margin=0.0),
    "asymmetric, 0.5, focal gradient": losses.make_loss(
        "asymmetric", asl_gamma_pos=0.5, asl_gamma_neg=0.5, asl_focal_gradient=True
    ),
}
DRAWN = ("warp",)
EACH = pytest.mark.parametrize("name", EVERY_LOSS)
EACH_NOT_DRAWN = pytest.mark.parametrize("name", [name for name in EVERY_LOSS if name not in DRAWN])


def random_case(num_images=6, num_labels=5, seed=0, scale=3.0):
    """(y, logits), float32."""
    rng = np.random.default_rng(seed)
    y = (rng.random((num_images, num_labels)) < 0.4).astype(np.float32)
    return y, rng.normal(0, scale, (num_images, num_labels)).astype(np.float32)


def gradient_of(loss, y, logits, *arguments):
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        total = tf.reduce_sum(loss(tf.constant(y), logits, *arguments))
    return tape.gradient(total, logits).numpy()


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-np.asarray(x, np.float64)))


# Sigmoid.


def test_sigmoid_equals_numpy():
    y, logits = random_case()
    p = sigmoid(logits)
    expected = -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum(axis=1)  # sum over labels
    np.testing.assert_allclose(losses.sigmoid_loss(y, logits), expected, rtol=1e-6)
    weights = np.array([0.1, 1.0, 9.0, 2.0, 3.0], np.float32)
    expected = -(weights * y * np.log(p) + (1 - y) * np.log(1 - p)).sum(axis=1)
    np.testing.assert_allclose(losses.sigmoid_loss(y, logits, positive_weights=weights), expected, rtol=1e-6)


def test_sigmoid_by_hand():
    y, logits = np.float32([[1, 0, 0], [1, 0, 1]]), np.float32([[0, 0, 0], [200, -200, -50]])
    np.testing.assert_allclose(losses.sigmoid_loss(y, logits), [3 * np.log(2), 50.0], rtol=1e-6)
    counted = np.float32([[1, 0, 1], [1, 1, 0]])
    np.testing.assert_allclose(losses.sigmoid_loss(y, logits, counted), [2 * np.log(2), 0.0], rtol=1e-6)


# Focal and asymmetric.


def test_without_exponents_and_margin_they_are_the_sigmoid_loss():
    y, logits = random_case(scale=20.0)
    expected = losses.sigmoid_loss(y, logits)
    np.testing.assert_allclose(losses.focal_loss(y, logits, gamma=0.0), expected, rtol=1e-5)
    np.testing.assert_allclose(losses.make_loss("asymmetric", **ZERO_ASL)(y, logits), expected, rtol=1e-5)


def test_focal_by_hand_and_numpy():
    loss = losses.focal_loss(np.float32([[1, 0]]), np.float32([[0, np.log(3)]]), gamma=2.0)
    np.testing.assert_allclose(loss, [np.log(2) / 4 + (9 / 16) * np.log(4)], rtol=1e-6)  # p = 1/2 and 3/4
    y, logits = random_case()
    p_t = np.where(y == 1, sigmoid(logits), 1 - sigmoid(logits))
    for gamma in (0.5, 2.0):
        expected = (-((1 - p_t) ** gamma) * np.log(p_t)).sum(axis=1)
        np.testing.assert_allclose(losses.focal_loss(y, logits, gamma=gamma), expected, rtol=1e-5)


def test_asymmetric_by_hand():
    logits = np.float32([[0.0, 0.0, np.log(0.04 / 0.96)]])
    # A positive at p = 1/2, a negative at p_m = 0.45, and one below the margin.
    loss = losses.asymmetric_loss(np.float32([[1, 0, 0]]), logits, gamma_pos=1.0, gamma_neg=4.0, margin=0.05)
    np.testing.assert_allclose(loss, [0.5 * np.log(2) - 0.45**4 * np.log(0.55)], rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in EVERY_LOSS if name.split(",")[0] not in RANKING_LOSSES])
def test_labels_between_mix_the_losses_of_true_and_false(name):
    y, logits = random_case()
    shares = np.random.default_rng(3).random(y.shape).astype(np.float32)
    true, false = (gradient_of(EVERY_LOSS[name], np.full_like(y, value), logits) for value in (1.0, 0.0))
    gradient = gradient_of(EVERY_LOSS[name], shares, logits)
    np.testing.assert_allclose(gradient, shares * true + (1 - shares) * false, rtol=1e-4, atol=1e-6)
    one = np.eye(5, dtype=np.float32)[[0]]
    between = EVERY_LOSS[name](0.3 * one, logits[:1]) - EVERY_LOSS[name](0.0 * one, logits[:1])
    whole = EVERY_LOSS[name](one, logits[:1]) - EVERY_LOSS[name](0.0 * one, logits[:1])
    np.testing.assert_allclose(between, 0.3 * whole, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("margin", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("gamma_pos, gamma_neg", [(0.0, 4.0), (1.0, 0.5), (2.0, 0.0)])
def test_asymmetric_equals_numpy(gamma_pos, gamma_neg, margin):
    y, logits = random_case(scale=2.0)
    p = sigmoid(logits)
    p_m = np.maximum(p - margin, 0.0)
    negative = np.where(p_m > 0, p_m**gamma_neg * -np.log(1 - p_m), 0.0)
    expected = np.where(y == 1, (1 - p) ** gamma_pos * -np.log(p), negative).sum(axis=1)
    received = losses.asymmetric_loss(y, logits, gamma_pos=gamma_pos, gamma_neg=gamma_neg, margin=margin)
    np.testing.assert_allclose(received, expected, rtol=1e-4)


@pytest.mark.parametrize(
    "x, value, slope, focal_slope",
    [
        (2.0, 0.846414951, 0.295621, 0.723490),
        (0.0, 0.0245150535, 0.0186392, 0.0731171),
        # By hand: p_m = 0.0692029, p_m^4 = 2.29354e-5, its slope 4 p_m^3 p (1 - p) = 1.39186e-4.
        (-2.0, 1.6447564e-6, 2.29354e-5 * 0.1128000, 2.29354e-5 * 0.1128000 + 1.39186e-4 * 0.0717140),
        (-3.0, 0.0, 0.0, 0.0),  # p = 0.047, within the margin
    ],
)
def test_asymmetric_slopes_of_a_negative_by_hand(x, value, slope, focal_slope):
    """gamma_neg 4, margin 0.05: with the power as a weight, as in the authors' scripts, and as a factor."""
    y, logits = np.float32([[0]]), np.float32([[x]])
    for loss in (losses.asymmetric_loss, losses.make_loss("asymmetric")):
        np.testing.assert_allclose(loss(y, logits), [value], rtol=1e-5)
        np.testing.assert_allclose(gradient_of(loss, y, logits), [[slope]], rtol=1e-4)
    focal = functools.partial(losses.asymmetric_loss, focal_gradient=True)
    np.testing.assert_allclose(focal(y, logits), [value], rtol=1e-5)
    np.testing.assert_allclose(gradient_of(focal, y, logits), [[focal_slope]], rtol=1e-4)


@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_asymmetric_slopes_of_other_powers_by_hand(margin):
    """At logit 0: a positive with gamma_pos 2, a negative with gamma_neg 1."""
    y, logits, log2 = np.float32([[1, 0]]), np.zeros((1, 2), np.float32), np.log(2.0)
    m = 0.5 - margin
    positive, negative = -0.25 * 0.5, m * 0.25 / (1 - m)
    for focal_gradient, added in ((False, (0.0, 0.0)), (True, (-0.25 * log2, 0.25 * -np.log(1 - m)))):
        loss = functools.partial(
            losses.asymmetric_loss, gamma_pos=2.0, gamma_neg=1.0, margin=margin, focal_gradient=focal_gradient
        )
        expected = [[positive + added[0], negative + added[1]]]
        np.testing.assert_allclose(gradient_of(loss, y, logits), expected, rtol=1e-5)


def test_the_gradient_of_focal_passes_through_its_power():
    """Source: the ICCV 2017 paper's appendix A, (1 - p_t)^gamma * (gamma p_t log(p_t) + p_t - 1) for a positive."""
    x = np.float32([[0.0, 1.5, -2.0]])
    for gamma in (0.5, 2.0):
        p = sigmoid(x)
        expected = (1 - p) ** gamma * (gamma * p * np.log(p) + p - 1)
        loss = functools.partial(losses.focal_loss, gamma=gamma)
        np.testing.assert_allclose(gradient_of(loss, np.ones_like(x), x), expected, rtol=1e-5)
        np.testing.assert_allclose(gradient_of(loss, np.zeros_like(x), -x), -expected, rtol=1e-5)


# Softmax, pairwise, WARP over all negatives.


def test_softmax_equals_numpy():
    y, logits = random_case()
    y[0] = 0.0
    log_p = np.log(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    expected = -(y * log_p).sum(axis=1) / np.maximum(y.sum(axis=1), 1)
    received = losses.softmax_loss(y, logits)
    np.testing.assert_allclose(received, expected, rtol=1e-5)
    assert received[0] == 0.0 and set(y.sum(axis=1)) > {1.0, 2.0}
    # No positives: nothing is learnt. Else the gradient is what softmax and target differ by.
    target = y / np.maximum(y.sum(axis=1, keepdims=True), 1)
    gradient = np.where(y.sum(axis=1, keepdims=True) > 0, np.exp(log_p) - target, 0.0)
    np.testing.assert_allclose(gradient_of(losses.softmax_loss, y, logits), gradient, rtol=1e-4, atol=1e-6)


def brute_force(y, logits, pair_loss):
    """Sum over positives of pair_loss(their hinges against every negative), image by image."""
    result = []
    for truth, scores in zip(y, logits.astype(np.float64)):
        positives, negatives = scores[truth == 1], scores[truth == 0]
        result.append(sum(pair_loss(np.maximum(0.0, 1.0 - f_j + negatives)) for f_j in positives))
    return result


def warp_of(hinges):
    inside = int((hinges > 0).sum())
    return sum(1.0 / q for q in range(1, inside + 1)) / max(inside, 1) * hinges.sum()


def test_ranking_losses_by_hand():
    """A positive at 2 and negatives at 1.5, 0, 3, -1: inside its margin are 1.5 (hinge 0.5) and 3 (hinge 2)."""
    y, logits = np.float32([[1, 0, 0, 0, 0]]), np.float32([[2, 1.5, 0, 3, -1]])
    np.testing.assert_allclose(losses.pairwise_loss(y, logits), [2.5], rtol=1e-6)
    np.testing.assert_allclose(losses.warp_exact_loss(y, logits), [1.875], rtol=1e-6)  # (1 + 1/2) / 2 * 2.5


@pytest.mark.parametrize("inside, expected", [(0, 0.0), (1, 1.0), (2, 1.5), (3, 11 / 6), (4, 25 / 12)])
def test_the_weights_of_ranks(inside, expected):
    """With hinges of 1, WARP over all negatives is L(n) itself."""
    logits = np.full((1, 5), -9.0, np.float32)
    logits[0, : inside + 1] = 0.0
    np.testing.assert_allclose(losses.warp_exact_loss(np.float32([[1, 0, 0, 0, 0]]), logits), [expected], rtol=1e-6)


def test_ranking_losses_equal_brute_force():
    y, logits = random_case(scale=1.0)
    y[0], y[1] = 0.0, 1.0
    np.testing.assert_allclose(losses.pairwise_loss(y, logits), brute_force(y, logits, np.sum), rtol=1e-5)
    np.testing.assert_allclose(losses.warp_exact_loss(y, logits), brute_force(y, logits, warp_of), rtol=1e-5)


def test_warps_weights_have_no_gradient():
    """Only the hinges move: each of the two by L(2) / 2 = 0.75."""
    y, logits = np.float32([[1, 0, 0, 0, 0]]), np.float32([[2, 1.5, 0, 3, -1]])
    np.testing.assert_allclose(gradient_of(losses.warp_exact_loss, y, logits), [[-1.5, 0.75, 0, 0.75, 0]], rtol=1e-6)


# WARP by drawing.


def warp_simulation(truth, scores, is_counted, rng):
    """The published procedure for one image, draw by draw."""
    positives, negatives = scores[(truth == 1) & is_counted], scores[(truth == 0) & is_counted]
    most = is_counted.sum() - 1
    total = 0.0
    for f_j in positives:
        for s in range(1, most + 1):
            f_k = rng.choice(negatives)
            if f_k > f_j - 1.0:
                total += sum(1.0 / q for q in range(1, most // s + 1)) * (1.0 - f_j + f_k)
                break
    return total


@pytest.mark.parametrize(
    "left_out", [pytest.param((), marks=pytest.mark.slow, id="all counted"), pytest.param((1, 4), id="two left out")]
)
def test_warps_mean_over_many_draws_is_that_of_the_procedure(left_out):
    y = np.float32([1, 1, 0, 0, 0, 0, 0])
    logits = np.float32([0.5, 2.4, 1.0, -0.4, 1.2, -3.0, -3.5])
    is_counted = ~np.isin(np.arange(7), left_out)
    many, rng = 20_000, np.random.default_rng(0)
    drawn = losses.warp_loss(*(np.tile(row, (many, 1)) for row in (y, logits, np.float32(is_counted))), seed=(1, 2))
    simulated = [warp_simulation(y, logits.astype(np.float64), is_counted, rng) for _ in range(5_000)]
    standard_error = np.hypot(np.std(drawn) / many**0.5, np.std(simulated) / 5_000**0.5)
    assert standard_error < 0.05
    assert abs(np.mean(drawn) - np.mean(simulated)) < 4 * standard_error
    assert abs(np.std(drawn) - np.std(simulated)) < 0.1 * np.std(simulated)


def test_one_draw_of_warp_is_one_negative_of_each_positive():
    """All negatives inside the margin: the first draw succeeds, so the rank is C - 1 = 4 and L = 25/12."""
    y, logits = np.float32([[1, 0, 0, 0, 0]] * 50), np.float32([[0, 0.1, 0.2, 0.3, 0.4]] * 50)
    values = losses.warp_loss(y, logits, seed=(5, 5)).numpy() / (25 / 12)
    np.testing.assert_allclose(np.unique(values.round(4)), [1.1, 1.2, 1.3, 1.4], atol=1e-3)
    gradient = gradient_of(functools.partial(losses.warp_loss, seed=(5, 5)), y, logits) / np.float32(25 / 12)
    np.testing.assert_allclose(gradient[:, 0], -1.0, rtol=1e-6)
    assert ((np.abs(gradient[:, 1:] - 1.0) < 1e-6).sum(axis=1) == 1).all()
    np.testing.assert_allclose(gradient.sum(axis=1), 0.0, atol=1e-6)


def test_warps_rank_counts_what_is_counted():
    y, logits = np.float32([[1, 0, 0, 0, 0]]), np.zeros((1, 5), np.float32)
    loss = losses.warp_loss(y, logits, np.float32([[1, 1, 1, 0, 0]]))
    np.testing.assert_allclose(loss, [1.5], rtol=1e-6)  # floor((3 - 1) / 1) = 2


def test_the_seed_decides_what_warp_draws():
    y, logits = random_case(64, 20)
    first, again, other = (losses.warp_loss(y, logits, seed=(7, step)).numpy() for step in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_seeds_of_steps_differ():
    numbers = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (0, 0, tf.constant(2), 0)]
    seeds = {tuple(losses.step_seed(*parts).numpy()) for parts in numbers}
    assert len(seeds) == len(numbers)
    assert tuple(losses.step_seed(2**31 - 1, 3).numpy()) == tuple(losses.step_seed(2**31 - 1, 3).numpy())


# What all have in common.


@EACH_NOT_DRAWN
def test_what_is_left_out_might_as_well_not_be_there(name):
    y, logits = random_case(seed=3)
    kept = np.array([True, False, True, True, False])
    counted = np.tile(kept, (6, 1)).astype(np.float32)
    loss = EVERY_LOSS[name]
    fewer = loss
    if name == "sigmoid, weighted":
        fewer = losses.make_loss("sigmoid", positive_weights=np.array([0.1, 9, 2], np.float32))
    np.testing.assert_allclose(loss(y, logits, counted), fewer(y[:, kept], logits[:, kept]), rtol=1e-5)
    np.testing.assert_array_equal(loss(y, logits, np.ones_like(y)), loss(y, logits))


@EACH
def test_what_is_left_out_has_no_gradient_and_its_label_no_part(name):
    y, logits = random_case(40, seed=4)
    counted = (np.random.default_rng(5).random(y.shape) < 0.6).astype(np.float32)
    gradient = gradient_of(EVERY_LOSS[name], y, logits, counted)
    assert (gradient[counted == 0] == 0).all() and (gradient[counted == 1] != 0).any()
    other_y = np.where(counted == 1, y, 1 - y)
    np.testing.assert_array_equal(gradient_of(EVERY_LOSS[name], other_y, logits, counted), gradient)


@pytest.mark.parametrize("name", [name for name in EVERY_LOSS if name != "softmax"])  # which also shares out evenly
def test_positives_are_pushed_up_and_negatives_down(name):
    y, logits = random_case(40, scale=1.0, seed=6)
    values = EVERY_LOSS[name](y, logits).numpy()
    assert values.shape == (40,) and (values >= 0).all() and (values > 0).any()
    gradient = gradient_of(EVERY_LOSS[name], y, logits)
    assert (gradient[y == 1] <= 1e-6).all() and (gradient[y == 1] < -1e-3).any()
    assert (gradient[y == 0] >= -1e-6).all() and (gradient[y == 0] > 1e-3).any()


@EACH
def test_extreme_logits_have_finite_losses_and_gradients(name):
    extremes = np.float32([-1e30, -1e4, -100, -20, 0])
    logits = np.concatenate([np.stack([np.roll(extremes, shift) for shift in range(5)])] * 4)
    logits = np.concatenate([logits, -logits])  # (40, 5)
    y = np.float32([[0, 0, 0, 0, 0]] * 5 + [[1, 1, 1, 1, 1]] * 5 + [[1, 0, 0, 1, 0]] * 5 + [[0, 1, 1, 0, 1]] * 5)
    y = np.concatenate([y, y])
    for counted in (None, np.zeros_like(y), np.tile(np.float32([1, 0, 1, 0, 1]), (40, 1))):
        assert np.isfinite(EVERY_LOSS[name](y, logits, counted)).all()
        assert np.isfinite(gradient_of(EVERY_LOSS[name], y, logits, counted)).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_single_label_will_do(name):
    y, logits = np.float32([[1], [0]]), np.float32([[0.3], [0.2]])
    assert np.isfinite(EVERY_LOSS[name](y, logits)).all()


@pytest.mark.parametrize("name", ["pairwise", "warp", "warp_exact", "softmax"])
def test_without_positives_or_counted_labels_nothing_is_ranked(name):
    y, logits = random_case(4)
    np.testing.assert_array_equal(EVERY_LOSS[name](np.zeros_like(y), logits), np.zeros(4))
    np.testing.assert_array_equal(EVERY_LOSS[name](y, logits, np.zeros_like(y)), np.zeros(4))
    if name != "softmax":  # without negatives neither
        np.testing.assert_array_equal(EVERY_LOSS[name](np.ones_like(y), logits), np.zeros(4))


# make_loss.


def test_make_loss_passes_every_value_on():
    y, logits = random_case()
    values = {"gamma_pos": 1.0, "gamma_neg": 3.0, "margin": 0.1, "focal_gradient": True}
    made = losses.make_loss("asymmetric", **{f"asl_{name}": value for name, value in values.items()})
    asymmetric = functools.partial(losses.asymmetric_loss, **values)
    np.testing.assert_array_equal(made(y, logits), asymmetric(y, logits))
    np.testing.assert_array_equal(gradient_of(made, y, logits), gradient_of(asymmetric, y, logits))
    focal = losses.make_loss("focal", focal_gamma=3.0)
    np.testing.assert_array_equal(focal(y, logits), losses.focal_loss(y, logits, gamma=3.0))
    weights = np.float32([0.1, 1, 9, 2, 3])
    weighted = losses.make_loss("sigmoid", positive_weights=weights)
    np.testing.assert_array_equal(weighted(y, logits), losses.sigmoid_loss(y, logits, positive_weights=weights))
    functions = {"softmax": losses.softmax_loss, "pairwise": losses.pairwise_loss, "sigmoid": losses.sigmoid_loss}
    functions |= {"warp": losses.warp_loss, "warp_exact": losses.warp_exact_loss}
    for name, function in functions.items():
        np.testing.assert_array_equal(losses.make_loss(name)(y, logits, seed=(3, 3)), function(y, logits, seed=(3, 3)))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"name": "bce"},
            "loss must be one of sigmoid, softmax, pairwise, warp, warp_exact, focal, asymmetric. Received: 'bce'.",
        ),
        (
            {"name": "focal", "positive_weights": np.ones(3)},
            "positive_weights must be none unless loss is sigmoid. Received: --loss=focal. Use "
            "--positive_weights=none.",
        ),
    ],
)
def test_bad_values(arguments, message):
    with pytest.raises(InputError) as error:
        losses.make_loss(**arguments)
    assert str(error.value) == message


# Around a loss.


@pytest.mark.parametrize("images_at_once", [1, 2, 5, 100])
def test_mean_loss_is_the_mean_over_all_images(images_at_once):
    y, logits = random_case(5)
    counted = np.float32(np.random.default_rng(1).random(y.shape) < 0.7)
    for mask in (None, counted):
        expected = np.mean(losses.warp_exact_loss(y, logits, mask))
        received = losses.mean_loss(losses.warp_exact_loss, y, logits, mask, images_at_once)
        assert received == pytest.approx(expected, rel=1e-5)


def test_mean_loss_draws_the_same_every_time():
    y, logits = random_case(300, 20)
    assert losses.mean_loss(losses.warp_loss, y, logits) == losses.mean_loss(losses.warp_loss, y, logits)
    twice = losses.mean_loss(losses.warp_loss, np.tile(y[:4], (2, 1)), np.tile(logits[:4], (2, 1)), None, 4)
    assert twice != pytest.approx(losses.mean_loss(losses.warp_loss, y[:4], logits[:4]), rel=1e-6)  # but not in a part


LABELS = np.array([[1, -1, 1, 0, -1]] + [[-1, 0, 1, 0, -1]] * 150, np.int8)


@pytest.mark.parametrize(
    "ignores, expected",
    # Label 0: 1 to 150, above the limit. Label 1: no positive. Label 2: no negative. 3: nothing, or 151 negatives.
    [(True, [100, 1, 1 / 151, 1, 100]), (False, [100, 100, 1 / 151, 100, 100])],
)
def test_balanced_weights(ignores, expected):
    records = tf.data.Dataset.from_tensor_slices({"labels": LABELS, "name": np.arange(151)})
    weights = losses.balanced_weights(records, ignores)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    halves = tf.data.Dataset.from_tensor_slices({"labels": np.array([[1, 1], [-1, 1], [-1, -1], [0, 0]], np.int8)})
    np.testing.assert_allclose(losses.balanced_weights(halves, ignores), [2, 0.5] if ignores else [3, 1], rtol=1e-6)


# In a run.


def train(path, dataset, summaries=None, **changes):
    """Two epochs of one stage; returns the weights and the log."""
    values = {"stages": ("begin",), "epochs": (2,), "learning_rates": (0.001,), **changes}
    keras.utils.set_random_seed(3)
    model = small.build_two_parts()
    small_runs.make_trainer(path, model, dataset, small_runs.make_plan(**values), summaries=summaries).train()
    return small.weights_of(model), small_runs.read_log(path)


@pytest.mark.slow
def test_steps_have_seeds_of_their_own_and_validation_always_the_same(dataset, tmp_path, monkeypatch):
    """A loss that is nothing but what its seed draws: four steps an epoch, one part of validation."""

    def draw(seed):
        return tf.random.stateless_uniform([], seed)

    monkeypatch.setattr(trainer, "make_loss", lambda *_: lambda y, logits, counted, seed: draw(seed) + 0 * logits[:, 0])
    _, log = train(tmp_path, dataset, seed=9)
    steps = [float(draw(losses.step_seed(9, 0, step, 0))) for step in range(8)]
    means = [np.mean(steps[:4]), np.mean(steps[4:])]
    np.testing.assert_allclose([entry["losses"]["y_first"] for entry in log], means, rtol=1e-5)
    validation = [entry["validation"]["loss"] for entry in log]
    np.testing.assert_allclose(validation, [float(draw((0, 0)))] * 2, rtol=1e-5)


@pytest.mark.slow
def test_a_continued_run_draws_what_one_that_was_not_stopped_draws(dataset, tmp_path):
    expected, expected_log = train(tmp_path / "whole", dataset, loss="warp")
    with contextlib.suppress(small_runs.Interrupted):
        train(tmp_path / "stopped", dataset, small_runs.InterruptingSummaries("begin", 2), loss="warp")
    assert small_runs.newest_state(tmp_path / "stopped")[1]["epoch"] == 1
    weights, log = train(tmp_path / "stopped", dataset, loss="warp")
    small.assert_bit_equal(weights, expected)
    assert log == expected_log


@pytest.mark.parametrize("positive_weights", ["none", "balanced"])
def test_the_loss_is_that_of_the_plan(dataset, tmp_path, monkeypatch, positive_weights):
    received = []
    monkeypatch.setattr(trainer, "make_loss", lambda **arguments: received.append(arguments))
    values = {"loss": "sigmoid", "focal_gamma": 1.5, "asl_gamma_pos": 2.5, "asl_gamma_neg": 3.5, "asl_margin": 0.25}
    values["asl_focal_gradient"] = True
    plan = small_runs.make_plan(**values, positive_weights=positive_weights)
    small_runs.make_trainer(tmp_path, small.build_two_parts(), dataset, plan)
    (arguments,) = received
    weights = arguments.pop("positive_weights")
    assert arguments == {"name" if name == "loss" else name: value for name, value in values.items()}
    if positive_weights == "none":
        assert weights is None
    else:
        np.testing.assert_array_equal(weights, losses.balanced_weights(dataset.records("train"), False))
