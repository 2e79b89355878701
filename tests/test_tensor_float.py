"""TensorFloat-32 is off wherever numbers are measured, as asked for in training, and afterwards as it was."""

import types
from unittest import mock

import pytest
import tensorflow as tf

from srn_tf import run
from srn_tf.analysis.responses import read_responses
from srn_tf.baselines.pooled_features import PooledFeatures
from srn_tf.evaluation.evaluator import Evaluator
from srn_tf.serving import evaluation
from srn_tf.serving.checking import compare
from srn_tf.tensor_float import tensor_float_32

is_on = tf.config.experimental.tensor_float_32_execution_enabled


class Halt(Exception):
    pass


class Probe:
    """Notes whether TensorFloat-32 is on when it is first used, and ends what used it."""

    def __getattr__(self, name):
        self.__dict__["was_on"] = is_on()
        raise Halt


@pytest.mark.parametrize("before", [True, False])
def test_it_is_left_as_it_was(before):
    with tensor_float_32(before):
        for inside in (True, False):
            with tensor_float_32(inside), tensor_float_32(not inside):
                assert is_on() is not inside
            assert is_on() is before
        with pytest.raises(Halt), tensor_float_32(not before):
            raise Halt
        assert is_on() is before


def compare_with(probe):
    model = types.SimpleNamespace(final="y", image=tf.zeros([1, 2, 2, 3]))
    compare(model, None, ["a"], 0.5, probe, "float32")


def evaluate_with(probe):
    with mock.patch.object(evaluation, "Predictor", lambda *_: probe):
        evaluation.evaluate_saved_model("", "scenes", "", "test")


@pytest.mark.parametrize(
    "measure",
    [
        lambda probe: Evaluator.predict(probe, None, 4),
        lambda probe: PooledFeatures._read(probe, "test"),
        lambda probe: read_responses(None, "U", probe),
        compare_with,
        evaluate_with,
    ],
    ids=["evaluator", "pooled_features", "responses", "export", "saved_model"],
)
def test_off_where_numbers_are_measured(measure):
    probe = Probe()
    with tensor_float_32(True):
        with pytest.raises(Halt):
            measure(probe)
        assert probe.was_on is False and is_on()


@pytest.mark.parametrize("tf32", [True, False])
def test_as_asked_for_in_training(tf32):
    probe = Probe()
    options = mock.MagicMock(precision="float32", init_from="", tf32=tf32)
    network = types.SimpleNamespace(count_params=lambda: 0)
    stand_ins = {"build_model": lambda *_: types.SimpleNamespace(network=network), "Trainer": lambda *_, **__: probe}
    stand_ins |= {name: mock.MagicMock() for name in ("_plan", "check_plan", "count_labels", "Summaries", "checkpoint")}
    work, strategy = mock.MagicMock(), tf.distribute.get_strategy()
    with tensor_float_32(not tf32), mock.patch.multiple(run, **stand_ins):
        with pytest.raises(Halt):
            run._train(options, mock.MagicMock(), mock.MagicMock(), strategy, work, {})
        assert probe.was_on is tf32 and is_on() is not tf32
