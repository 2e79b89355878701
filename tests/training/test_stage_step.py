"""The steps of a stage as one graph: against Caffe's rule, against each other, and what an unfinite step leaves."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from srn_tf.data.augments import Effects
from srn_tf.models.norm_products import with_norm_products
from srn_tf.runs import checkpoint
from srn_tf.training.freezing import apply_stage
from srn_tf.training.losses import make_loss, sigmoid_loss, step_seed
from srn_tf.training.plan import TrainingPlan
from srn_tf.training.stage_step import StageStep
from srn_tf.training.steps import loss_gradients
from tests.training import small
from tests.training.step_on_two_devices import CASES

RATE = 0.01
NO_GRADIENT = "f_att/att_3_conv/bias"


@pytest.fixture(autouse=True)
def same_weights_every_time():
    keras.utils.set_random_seed(0)


def make_plan(**changes):
    return TrainingPlan(("all",), (1,), (RATE,), **{"batch_size": 4, "weight_decay": 0.1, **changes})


def twins(build=small.build_two_parts, *args):
    """Two models with the same weights."""
    pair = build(*args), build(*args)
    checkpoint.assign_weights(pair[1], small.weights_of(pair[0]), "its twin")
    return pair


def tiny_batch(seed=1):
    """For `small.build_two_parts`."""
    return small.random_batch(4, 16, 16, seed)


def make_step(model, stage_name="begin", strategy=None, loss=sigmoid_loss, **changes):
    strategy = strategy or tf.distribute.get_strategy()
    return StageStep(model, strategy, model.stages[stage_name], 1, make_plan(**changes), loss)


def stacked(batches):
    return {name: tf.stack([batch[name] for batch in batches]) for name in batches[0]}


def state_of(step):
    return {name: variable.numpy().copy() for name, variable in step.variables.items()}


@pytest.fixture
def same_graph_rewrites():
    """TensorFlow's arithmetic optimizer sorts summands by the names of their operations: the gradients that meet at X
    would be added in another order in another graph."""
    options = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    yield
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": True, **options})


@pytest.mark.slow
@pytest.mark.parametrize("stage_name", ["att", "all"])
def test_the_default_plan_is_caffes_sgd_bit_for_bit(stage_name, same_graph_rewrites):
    """Written out as one tf.function a step, without loop, condition and replicas."""
    model, same = twins(small.build_small_srn)
    step = make_step(model, stage_name)
    stage = same.stages[stage_name]
    variables = list(apply_stage(same, stage).values())
    network = with_norm_products(same.network_for(stage.reads))
    momenta = [tf.Variable(tf.zeros(variable.shape)) for variable in variables]

    @tf.function
    def plain_step(batch):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            outputs = network(batch["image"], training=True)
            parts = {name: tf.reduce_sum(sigmoid_loss(batch["y"], outputs[name])) / 4 for name in stage.reads}
            total = tf.add_n(list(parts.values()))
        gradients = tape.gradient(total, variables)
        for momentum, gradient, variable in zip(momenta, gradients, variables, strict=True):
            momentum.assign(0.9 * momentum - RATE * (gradient + 0.1 * variable))
            variable.assign_add(momentum)
        return parts

    for seed in range(4):
        batch = small.random_batch(seed=seed)
        expected = plain_step(batch)
        outcome = step.run(stacked([batch]), [RATE])
        assert outcome.is_finite.tolist() == [True]
        for name, value in expected.items():
            np.testing.assert_array_equal(outcome.losses[name], [value])
    small.assert_bit_equal(small.weights_of(model), small.weights_of(same))


def test_the_loss_is_the_mean_of_spliced_images_too():
    """A batch of 4 has 5 images in training."""
    model = small.build_two_parts()
    batch = small.random_batch(5, 16, 16)
    logits = model.network_for(["y_first"])(batch["image"], training=True)["y_first"]
    expected = np.mean(sigmoid_loss(batch["y"], logits))
    outcome = make_step(model, effects=Effects(("splicemix",))).run(stacked([batch]), [RATE])
    np.testing.assert_allclose(outcome.losses["y_first"], [expected], rtol=1e-5)


@pytest.mark.slow
def test_many_steps_in_a_call_are_those_of_many_calls():
    """Rates, averages and what a loss draws included; one graph for any number of steps."""
    batches = [tiny_batch(seed) for seed in range(5)]
    rates = [0.01, 0.02, 0.03, 0.04, 0.05]
    results = []
    for model, calls in zip(twins(), ([1] * 5, [3, 2])):
        step = make_step(model, loss=make_loss("warp"), ema_decay=0.9, optimizer="adam")
        losses, first = [], 0
        for num_steps in calls:
            part = slice(first, first + num_steps)
            losses.append(step.run(stacked(batches[part]), rates[part]).losses["y_first"])
            first += num_steps
        assert step.traces == 1
        results.append({"losses": np.concatenate(losses), **small.weights_of(model), **state_of(step)})
    small.assert_bit_equal(*results)


def test_a_loss_gets_the_seed_of_its_stage_step_and_replica():
    step = make_step(
        small.build_two_parts(), seed=5, loss=lambda y, logits, counted, seed: draw(seed) + 0.0 * logits[:, 0]
    )
    stack = stacked([tiny_batch()] * 2)
    drawn = np.concatenate([step.run(stack, [RATE] * 2).losses["y_first"] for _ in range(2)])
    expected = [draw(step_seed(5, 1, number, 0)).numpy() for number in range(4)]
    assert len(set(expected)) == 4
    np.testing.assert_allclose(drawn, expected, rtol=1e-6)


def draw(seed):
    return tf.random.stateless_uniform([], seed)


def loss_with_a_kink(y, logits, counted=None, seed=(0, 0)):
    """As the sigmoid loss, but that a label of 2 has a slope that is not a number at a value that is one."""

    @tf.custom_gradient
    def kink(logits):
        return tf.zeros_like(logits), lambda slope: slope * tf.where(y > 1.5, np.float32(np.nan), 0.0)

    return sigmoid_loss(tf.minimum(y, 1.0), logits) + tf.reduce_sum(kink(logits), axis=1)


@pytest.mark.parametrize("bad", [pytest.param("image", marks=pytest.mark.slow), "gradient"])
def test_an_unfinite_step_moves_nothing(bad):
    """BatchNorm statistics, which moved in the forward pass, are as before, too."""
    model, same = twins()
    plan = {"ema_decay": 0.9, "optimizer": "adamw", "clip_norm": 1.0}
    steps = [make_step(one, loss=loss_with_a_kink, **plan) for one in (model, same)]
    good = [tiny_batch(seed) for seed in range(3)]
    wrong = dict(good[1])
    if bad == "image":
        wrong["image"] = np.array(wrong["image"])
        wrong["image"][2, 5, 5, 0] = np.nan
    else:
        wrong["y"] = np.full_like(wrong["y"], 2.0)
    outcome = steps[0].run(stacked([good[0], wrong, good[2]]), [RATE] * 3)
    steps[1].run(stacked([good[0], good[2]]), [RATE] * 2)
    assert outcome.is_finite.tolist() == [True, False, True]
    assert np.isfinite(outcome.losses["y_first"][1]) == (bad == "gradient")
    assert np.isfinite(outcome.gradient_norm[[0, 2]]).all() and np.isfinite(outcome.losses["y_first"][[0, 2]]).all()
    small.assert_bit_equal(small.weights_of(model), small.weights_of(same))
    received, expected = (state_of(step) for step in steps)
    assert (received.pop("steps"), received.pop("skipped_steps")) == (3, 1)
    assert (expected.pop("steps"), expected.pop("skipped_steps")) == (2, 0)
    small.assert_bit_equal(received, expected)


@pytest.mark.slow
@pytest.mark.parametrize("stage_name", ["att", "sr"])
def test_pieces_add_up_to_the_batch(stage_name):
    """No BatchNorm of the paper's heads is in its batch mode in these stages, so images are independent."""
    results = []
    batch = {**small.random_batch(8), "counted": tf.constant(np.arange(24).reshape(8, 3) % 5 > 0, tf.float32)}
    for model, pieces in zip(twins(small.build_small_srn, "paper"), (1, 4)):
        step = make_step(model, stage_name, batch_size=8, accumulation_steps=pieces)
        outcome = step.run(stacked([batch] * 3), [0.01] * 3)
        results.append((outcome, small.weights_of(model)))
    (whole, expected), (in_pieces, received) = results
    for name, value in expected.items():
        np.testing.assert_allclose(received[name], value, rtol=0, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(in_pieces.gradient_norm, whole.gradient_norm, rtol=1e-5)
    for name, value in whole.losses.items():
        np.testing.assert_allclose(in_pieces.losses[name], value, rtol=1e-5)
    assert whole.losses["y_" + stage_name][2] < whole.losses["y_" + stage_name][0]


def gradients_of(model, stage_name, batch):
    stage = model.stages[stage_name]
    variables = apply_stage(model, stage)
    _, gradients = loss_gradients(model.network_for(stage.reads), stage.terms, variables, batch, len(batch["y"]))
    return list(variables.values()), [gradient.numpy() for gradient in gradients]


@pytest.mark.parametrize("factor", [0.25, pytest.param(2.0, marks=pytest.mark.slow)])
def test_the_whole_gradient_is_clipped_before_weight_decay_and_a_part_has_its_own_rate(factor):
    """A factor of 0.1 for the confidence maps: their plain step is a tenth, decay included."""
    model, batch = small.small_srn("paper"), small.random_batch()
    variables, gradients = gradients_of(model, "att", batch)
    before = [variable.numpy() for variable in variables]
    own = {variable.ref() for name, variable in model.weights.items() if name.startswith("f_conf/")}
    assert 0 < sum(variable.ref() in own for variable in variables) < len(variables)
    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients))
    step = make_step(model, "att", clip_norm=factor * norm, rate_scales={"f_conf": 0.1, "trunk": 5.0})
    outcome = step.run(stacked([batch]), [RATE])
    assert outcome.gradient_norm == pytest.approx([norm], rel=1e-5)
    for variable, w, g in zip(variables, before, gradients):
        rate = RATE * (0.1 if variable.ref() in own else 1.0)
        expected = -rate * (min(factor, 1.0) * g + 0.1 * w)
        np.testing.assert_allclose(variable.numpy() - w, expected, rtol=0, atol=1e-3 * np.abs(expected).max() + 1e-7)


def test_averages_are_of_the_trained_parts_after_every_step():
    model = small.build_two_parts()
    step = make_step(model, "end", ema_decay=0.15)
    weights = model.weights
    expected = {name: value for name, value in small.weights_of(model).items() if name.startswith("last/")}
    for number in range(3):
        step.run(stacked([tiny_batch(number)]), [RATE])
        decay = min(0.15, (1 + number) / (10 + number))
        expected = {name: decay * value + (1 - decay) * weights[name].numpy() for name, value in expected.items()}
    received = {name: value for name, value in state_of(step).items() if name.startswith("average/")}
    assert sorted(received) == sorted(f"average/{name}" for name in expected)
    for name, value in expected.items():
        np.testing.assert_allclose(received[f"average/{name}"], value, rtol=1e-5, atol=1e-6)
    assert any("moving_variance" in name for name in expected)


@pytest.mark.slow
def test_state_continues_a_stage():
    batches = [tiny_batch(seed) for seed in range(4)]
    plan = {"ema_decay": 0.9, "rate_scales": {"first": 2.0}, "loss": make_loss("warp")}
    model, other = twins()
    step = make_step(model, **plan)
    step.run(stacked(batches[:2]), [RATE] * 2)
    checkpoint.assign_weights(other, small.weights_of(model), "a state")
    continued = make_step(other, **plan)
    assert list(continued.variables) == list(step.variables)
    for name, value in state_of(step).items():
        continued.variables[name].assign(value)
    for one in (step, continued):
        one.run(stacked(batches[2:]), [RATE] * 2)
    small.assert_bit_equal(small.weights_of(other), small.weights_of(model))
    small.assert_bit_equal(state_of(continued), state_of(step))


def test_num_trained():
    model = small.build_two_parts()
    assert make_step(model, "begin", batch_size=2).num_trained == (4 * 27 + 2 * 4 + (7 * 7 * 4) * 16 + 16, 5)


@pytest.mark.slow
def test_xla_computes_the_same():
    results = []
    for model, xla in zip(twins(), (False, True)):
        outcome = make_step(model, xla=xla).run(stacked([tiny_batch()]), [RATE])
        results.append((outcome, small.weights_of(model)))
    (plain, expected), (compiled, received) = results
    np.testing.assert_allclose(compiled.gradient_norm, plain.gradient_norm, rtol=1e-4)
    for name, value in expected.items():
        np.testing.assert_allclose(received[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.fixture(params=["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)])
def precision(request):
    keras.mixed_precision.set_global_policy(request.param)
    yield request.param
    keras.mixed_precision.set_global_policy("float32")


def test_mixed_precision_is_near_float32(precision):
    """Weights and what the loss reads are float32; the losses agree as far as the digits of the precision go."""
    seen = []

    def loss(y, logits, counted, seed):
        seen.append(logits.dtype)
        return sigmoid_loss(y, logits, counted, seed)

    model = small.build_two_parts()
    assert model.network.get_layer("first").get_layer("first_conv").compute_dtype == precision.split("_")[1]
    keras.mixed_precision.set_global_policy("float32")
    same = small.build_two_parts()
    checkpoint.assign_weights(same, small.weights_of(model), "its twin")
    batches = stacked([tiny_batch(seed) for seed in range(3)])
    expected = make_step(same).run(batches, [1e-4] * 3)
    step = make_step(model, precision=precision, loss=loss)
    if precision == "mixed_float16":
        step.variables["loss_scale"].assign(256.0)  # what it would come to after some steps that overflow
    outcome = step.run(batches, [1e-4] * 3)
    assert outcome.is_finite.all()
    for name, value in expected.losses.items():
        np.testing.assert_allclose(outcome.losses[name], value, rtol=0.05, err_msg=name)
    np.testing.assert_allclose(outcome.gradient_norm, expected.gradient_norm, rtol=0.1)
    assert set(seen) == {tf.float32} and all(weight.dtype == tf.float32 for weight in model.network.weights)
    assert ("loss_scale" in step.variables) == (precision == "mixed_float16")


@pytest.mark.slow
def test_float16_halves_the_loss_scale_until_the_gradient_is_finite():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = small.build_two_parts()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    step = make_step(model, precision="mixed_float16")
    step.variables["loss_scale"].assign(2.0**26)
    before = small.weights_of(model)
    stack = stacked([tiny_batch()])
    outcomes = [step.run(stack, [RATE])]
    small.assert_bit_equal(small.weights_of(model), before)
    while not outcomes[-1].is_finite[0] and len(outcomes) < 30:
        outcomes.append(step.run(stack, [RATE]))
    assert not outcomes[0].is_finite[0] and np.isfinite(outcomes[0].losses["y_first"]).all()
    assert outcomes[-1].is_finite[0]
    assert float(step.variables["loss_scale"]) == 2.0 ** (27 - len(outcomes))
    assert int(step.variables["skipped_steps"]) == len(outcomes) - 1


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory):
    """What `step_on_two_devices` leaves: (case, "one" or "two") -> arrays."""
    folder = tmp_path_factory.mktemp("step_on_two_devices")
    command = [sys.executable, "-m", "tests.training.step_on_two_devices", folder]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return lambda case, devices: dict(np.load(folder / f"{case}-{devices}.npz"))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_devices_take_the_steps_of_one(two_devices, case):
    expected, received = two_devices(case, "one"), two_devices(case, "two")
    assert received["is_finite"].tolist() == [True, case != "skipped", True]
    assert list(received) == list(expected)
    if "adamw" in case:  # the softmax over the grid leaves this bias rounding for a gradient, of which Adam makes steps
        assert np.abs(received.pop(NO_GRADIENT) - expected.pop(NO_GRADIENT)).max() < 2 * 3 * RATE
    for name, value in expected.items():
        rtol = 1e-4 if name in ("loss", "norm") else 0.0
        np.testing.assert_allclose(received[name], value, rtol=rtol, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_the_comparison_of_devices_can_fail(two_devices):
    """Another plan, or a step less, is far outside of its tolerance."""
    plain, skipped = two_devices("sgd", "two"), two_devices("skipped", "two")
    moved = [name for name in plain if name.startswith(("f_att/", "f_conf/")) and name.endswith("kernel")]
    for case in [
        case for case in CASES if case.split("_")[0] not in ("sgd", "toy", "regions", "taught", "msrn", "rlsd")
    ]:
        other = two_devices(case, "two")
        assert all(np.abs(other[name] - plain[name]).max() > 1e-4 for name in moved), case
    # Of the toy's loss the term per step is more than rounding: counted for each replica it would be another.
    assert two_devices("toy", "two")["loss"][1].min() > 1e-3
    # So is what boxes cost, which differs from image to image.
    assert two_devices("regions_in_pieces", "two")["loss"].min() > 0.1
    assert (plain["steps"], plain["skipped_steps"]) == (3, 0)
    assert (skipped["steps"], skipped["skipped_steps"]) == (3, 1)
