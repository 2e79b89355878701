"""The optimizers of a stage against their rules in NumPy."""

import functools

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
    """Of two parts, of two variables and of one."""
    rng = np.random.default_rng(0)
    shapes = {"trunk/conv/kernel": (3, 2), "trunk/conv/bias": (2,), "head/bias": (4,)}
    variables = {name: tf.Variable(rng.normal(size=s), dtype="float32") for name, s in shapes.items()}
    plan = TrainingPlan(("all",), (1,), (RATE,), momentum=BETA_1, weight_decay=DECAY, **changes)
    return StageOptimizer(variables, plan)


def take_steps(optimizer, momenta=None):
    """Five steps of changing rates, and perhaps of changing momenta; the gradients, per step and variable."""
    rng = np.random.default_rng(1)
    all_gradients = []
    step = tf.function(optimizer.apply)
    for number in range(STEPS):
        gradients = [rng.normal(size=v.shape).astype(np.float32) for v in optimizer.variables.values()]
        momentum = None if momenta is None else tf.constant(momenta[number])
        step([tf.constant(g) for g in gradients], tf.constant(RATE / (1 + number)), momentum)
        all_gradients.append(gradients)
    return all_gradients


CONSTANT = (BETA_1,) * STEPS


def sgd(w, gradients, scale, decay=DECAY, momenta=CONSTANT):
    v = 0.0
    for number, g in enumerate(gradients):
        v = momenta[number] * v + scale * RATE / (1 + number) * (g + decay * w)
        w = w - v
    return w


def adam(w, gradients, scale, decay=DECAY, momenta=CONSTANT, is_decoupled=False):
    """Kingma and Ba, ICLR 2015, in the order of the text before section 2.1 (epsilon-hat)."""
    m = v = 0.0
    for number, g in enumerate(gradients):
        rate, t, beta_1 = scale * RATE / (1 + number), number + 1, momenta[number]
        if is_decoupled:
            w = w - rate * decay * w
        else:
            g = g + decay * w
        m = beta_1 * m + (1 - beta_1) * g
        v = BETA_2 * v + (1 - BETA_2) * g**2
        w = w - rate * np.sqrt(1 - BETA_2**t) / (1 - beta_1**t) * m / (np.sqrt(v) + EPSILON)
    return w


def adamw(w, gradients, scale, decay=DECAY, momenta=CONSTANT):
    return adam(w, gradients, scale, decay, momenta, is_decoupled=True)


def rmsprop(w, gradients, scale, decay=DECAY, momenta=CONSTANT):
    """Tieleman and Hinton, 2012, with momentum and L2, as TensorFlow has it."""
    s = v = 0.0
    for number, g in enumerate(gradients):
        g = g + decay * w
        s = 0.9 * s + 0.1 * g**2
        v = momenta[number] * v + scale * RATE / (1 + number) * g / np.sqrt(s + EPSILON)
        w = w - v
    return w


@pytest.mark.parametrize("scales", [{}, {"trunk": 0.1}, {"trunk": 0.1, "head": 3.0}])
@pytest.mark.parametrize("rule", [sgd, adam, adamw, rmsprop])
def test_equals_numpy_with_a_factor_for_each_part(rule, scales):
    optimizer = make_optimizer(optimizer=rule.__name__, rate_scales=scales)
    before = {name: v.numpy().astype(np.float64) for name, v in optimizer.variables.items()}
    gradients = take_steps(optimizer)
    for i, (name, variable) in enumerate(optimizer.variables.items()):
        expected = rule(before[name], [g[i] for g in gradients], scales.get(name.split("/")[0], 1.0))
        assert np.abs(expected - before[name]).max() > 1e-3
        np.testing.assert_allclose(variable, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("rule", [sgd, adam, adamw, rmsprop])
def test_equals_numpy_where_matrices_alone_decay_and_the_momentum_changes(rule):
    """A bias of two axes, as Keras' attention has them, is no matrix."""
    decays = {"kernel": DECAY, "bias": 0.0, "gamma": 0.0, "query/bias": 0.0, "queries": DECAY, "alpha": 0.0}
    shapes = {"kernel": (3, 2), "bias": (2,), "gamma": (2,), "query/bias": (2, 3), "queries": (2, 1, 3), "alpha": ()}
    rng = np.random.default_rng(0)
    variables = {f"head/{name}": tf.Variable(rng.normal(size=s), dtype="float32") for name, s in shapes.items()}
    plan = {"optimizer": rule.__name__, "weight_decay": DECAY, "decayed_weights": "matrices"}
    optimizer = StageOptimizer(variables, TrainingPlan(("all",), (1,), (RATE,), **plan))
    before = [variable.numpy().astype(np.float64) for variable in variables.values()]
    momenta = [0.95, 0.9, 0.85, 0.9, 0.95]
    gradients = take_steps(optimizer, momenta)
    for i, (variable, decay) in enumerate(zip(variables.values(), decays.values(), strict=True)):
        expected = rule(before[i], [g[i] for g in gradients], 1.0, decay, momenta)
        np.testing.assert_allclose(variable, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equals_keras_optimizer(name):
    """Bit for bit, of Keras 2 and of Keras 3; but for rmsprop, whose root each of them takes otherwise."""
    optimizer = make_optimizer(optimizer=name)
    same = [keras.Variable(v) if hasattr(keras, "Variable") else tf.Variable(v) for v in optimizer.variables.values()]
    theirs = {
        "sgd": functools.partial(keras.optimizers.SGD, momentum=BETA_1),
        "adam": functools.partial(keras.optimizers.Adam, beta_1=BETA_1),
        "adamw": functools.partial(keras.optimizers.AdamW, beta_1=BETA_1, weight_decay=DECAY),
        "rmsprop": functools.partial(keras.optimizers.RMSprop, momentum=BETA_1),
    }[name]()
    for number, gradients in enumerate(take_steps(optimizer)):
        theirs.learning_rate = RATE / (1 + number)
        decay = 0.0 if name == "adamw" else DECAY
        theirs.apply_gradients([(g + decay * tf.convert_to_tensor(v), v) for g, v in zip(gradients, same)])
    for received, expected in zip(optimizer.variables.values(), same, strict=True):
        if name == "rmsprop":
            np.testing.assert_allclose(received, expected, rtol=0, atol=1e-6)
        else:
            np.testing.assert_array_equal(received, expected)


def test_state_brings_an_optimizer_back():
    one, other = (make_optimizer(optimizer="adamw", rate_scales={"head": 2.0}) for _ in range(2))
    take_steps(one)
    slots = [f"optimizer/{name}/{slot}" for slot in ("momentum", "velocity") for name in one.variables]
    assert list(one.state) == list(other.state) == [*slots, "optimizer/updates"]
    assert len({id(v) for v in one.state.values()}) == 2 * 3 + 1
    for name, variable in one.state.items():
        other.state[name].assign(variable)
    for name, variable in one.variables.items():
        other.variables[name].assign(variable)
    take_steps(one)
    take_steps(other)
    for name, variable in one.variables.items():
        np.testing.assert_array_equal(other.variables[name], variable)


def test_an_unknown_optimizer():
    with pytest.raises(InputError, match="optimizer must be one of sgd, adam, adamw, rmsprop. Received: 'lamb'."):
        make_optimizer(optimizer="lamb")
