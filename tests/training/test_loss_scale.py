"""The loss scale, counted by hand."""

import pytest
import tensorflow as tf

from srn_tf.training import loss_scale
from srn_tf.training.loss_scale import LossScale


def test_halves_and_doubles(monkeypatch):
    monkeypatch.setattr(loss_scale, "STEPS_BEFORE_DOUBLING", 3)
    scale = LossScale()
    count_finite, reduce = tf.function(scale.count_finite), tf.function(scale.reduce)
    seen = []
    for move in [count_finite] * 4 + [reduce] + [count_finite] * 3 + [reduce, reduce]:
        move()
        seen.append((float(scale.value) / 2.0**15, int(scale.finite_steps)))
    assert seen == [(1, 1), (1, 2), (2, 0), (2, 1), (1, 0), (1, 1), (1, 2), (2, 0), (1, 0), (0.5, 0)]


def test_its_state_is_all_that_changes():
    scale = LossScale()
    assert {id(variable) for variable in scale.state.values()} == {id(scale.value), id(scale.finite_steps)}
    assert (float(scale.value), int(scale.finite_steps)) == (2.0**15, 0)


def test_never_below_one():
    scale = LossScale()
    for _ in range(20):
        scale.reduce()
    assert float(scale.value) == pytest.approx(1.0, abs=0)
