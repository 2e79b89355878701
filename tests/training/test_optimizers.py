"""The optimizers of a stage against their rules in NumPy."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from srn_tf.choices import OPTIMIZERS
from srn_tf.errors import InputError
from srn_tf.training.optimizers import StageOptimizer
from srn_tf.training.plan import TrainingPlan

RATE, DECAY, BETA_1, BETA_2, EPSILON = 0.05, 0.2, 0.8, 0.999, 1e-7
STEPS = 5


def make_optimizer(**changes):
    """On a model of two parts, of two variables and of one."""
    rng = np.random.default_rng(0)
    parts = {
        name: types.SimpleNamespace(
            trainable_variables=[tf.Variable(rng.normal(size=s), dtype="float32") for s in sizes]
        )
        for name, sizes in (("trunk", [(3, 2), (2,)]), ("head", [(4,)]))
    }
    model, stage = types.SimpleNamespace(parts=parts), types.SimpleNamespace(trains=("trunk", "head"))
    plan = TrainingPlan(("all",), (1,), (RATE,), momentum=BETA_1, weight_decay=DECAY, **changes)
    return StageOptimizer(model, stage, plan)


def take_steps(optimizer):
    """Five steps of changing rates; the gradients, per step and variable."""
    rng = np.random.default_rng(1)
    all_gradients = []
    step = tf.function(optimizer.apply)
    for number in range(STEPS):
        gradients = [rng.normal(size=v.shape).astype(np.float32) for v in optimizer.variables]
        optimizer.set_rate(tf.constant(RATE / (1 + number)))
        step([tf.constant(g) for g in gradients])
        all_gradients.append(gradients)
    return all_gradients


def sgd(w, gradients, scale):
    v = 0.0
    for number, g in enumerate(gradients):
        v = BETA_1 * v + scale * RATE / (1 + number) * (g + DECAY * w)
        w = w - v
    return w


def adam(w, gradients, scale, is_decoupled=False):
    """Kingma and Ba, ICLR 2015, in the order of the text before section 2.1 (epsilon-hat)."""
    m = v = 0.0
    for number, g in enumerate(gradients):
        rate, t = scale * RATE / (1 + number), number + 1
        if is_decoupled:
            w = w - rate * DECAY * w
        else:
            g = g + DECAY * w
        m = BETA_1 * m + (1 - BETA_1) * g
        v = BETA_2 * v + (1 - BETA_2) * g**2
        w = w - rate * np.sqrt(1 - BETA_2**t) / (1 - BETA_1**t) * m / (np.sqrt(v) + EPSILON)
    return w


def adamw(w, gradients, scale):
    return adam(w, gradients, scale, is_decoupled=True)


@pytest.mark.parametrize("scales", [{}, {"trunk": 0.1}, {"trunk": 0.1, "head": 3.0}])
@pytest.mark.parametrize("rule", [sgd, adam, adamw])
def test_equals_numpy_with_a_factor_for_each_part(rule, scales):
    optimizer = make_optimizer(optimizer=rule.__name__, rate_scales=scales)
    before = [v.numpy().astype(np.float64) for v in optimizer.variables]
    gradients = take_steps(optimizer)
    for i, part in enumerate(("trunk", "trunk", "head")):
        expected = rule(before[i], [g[i] for g in gradients], scales.get(part, 1.0))
        assert np.abs(expected - before[i]).max() > 1e-3
        np.testing.assert_allclose(optimizer.variables[i], expected, rtol=0, atol=2e-6)


def test_sgd_is_keras_sgd_bit_for_bit():
    optimizer = make_optimizer()
    same = [tf.Variable(v) for v in optimizer.variables]
    keras_sgd = keras.optimizers.SGD(momentum=BETA_1)
    for number, gradients in enumerate(take_steps(optimizer)):
        keras_sgd.learning_rate = RATE / (1 + number)
        keras_sgd.apply_gradients((g + DECAY * v, v) for g, v in zip(gradients, same))
    for received, expected in zip(optimizer.variables, same):
        np.testing.assert_array_equal(received, expected)


def test_state_brings_an_optimizer_back():
    one, other = (make_optimizer(optimizer="adamw", rate_scales={"head": 2.0}) for _ in range(2))
    take_steps(one)
    assert len({id(v) for v in one.state.values()}) == 2 + 2 * 3  # iterations of both; two slots of each variable
    assert list(other.state) == list(one.state)
    for name, variable in one.state.items():
        other.state[name].assign(variable)
    for mine, theirs in zip(other.variables, one.variables):
        mine.assign(theirs)
    take_steps(one)
    take_steps(other)
    for mine, theirs in zip(other.variables, one.variables):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_update_is_compiled_where_there_is_a_gpu(name, monkeypatch):
    """Keras 2.15 compiles them with XLA there unless it is told not to."""
    found = tf.config.list_physical_devices()
    monkeypatch.setattr(tf.compat.v2.config, "list_physical_devices", lambda kind=None: found)  # where Keras looks
    assert keras.__version__ >= "3" or keras.optimizers.Adam().jit_compile is True
    (group,) = make_optimizer(optimizer=name)._groups
    assert group.optimizer.jit_compile is False


def test_an_unknown_optimizer():
    with pytest.raises(InputError, match="optimizer must be one of sgd, adam, adamw. Received: 'rmsprop'."):
        make_optimizer(optimizer="rmsprop")
