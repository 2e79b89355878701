"""A run that was stopped, anyhow and anywhere, ends as one that was not; on a model of two small parts."""

import contextlib
import functools
import math
import os
import re
import shutil
import signal

import pytest

from srn_tf import stack
from srn_tf.data.augments import Effects
from srn_tf.data.crops import RandomResizedCrop
from srn_tf.errors import InputError
from srn_tf.runs.states import States
from srn_tf.runs.work_dir import WorkDir
from srn_tf.training import trainer
from srn_tf.training.interruption import Stopped
from srn_tf.training.trainer import Trainer
from tests.training import small, small_runs

# Where a start of the program is stopped: by which summary call (stage, epoch or None for the stage's end), or at
# which of its steps. There are 4 steps an epoch, 8 a stage.
STOPS = [
    pytest.param((("begin", 1), 6, ("end", 2)), id="again and again", marks=pytest.mark.slow),
    pytest.param((("begin", 1),), id="before the first state is saved", marks=pytest.mark.slow),
    pytest.param((6,), id="in the middle of an epoch"),
    pytest.param((("begin", 2),), id="after an epoch was logged, before it is saved", marks=pytest.mark.slow),
    pytest.param((("begin", None),), id="at a stage's end", marks=pytest.mark.slow),
    pytest.param((9,), id="at a stage's first step", marks=pytest.mark.slow),
    pytest.param((("end", None),), id="at the very end", marks=pytest.mark.slow),
]


def assert_equal_runs(path, expected_path):
    """Weights of both stages, the last state and the log without its timings are equal, bit by bit."""
    assert small_runs.read_log(path) == small_runs.read_log(expected_path)
    for file in ("begin.npz", "end.npz"):
        small.assert_bit_equal(small_runs.arrays_of(path, file), small_runs.arrays_of(expected_path, file))
    (arrays, meta), (expected, expected_meta) = map(small_runs.newest_state, (path, expected_path))
    small.assert_bit_equal(arrays, expected)
    ignored = {"log_bytes": 0}  # the timings' digits
    assert {**meta, **ignored} == {**expected_meta, **ignored}


@pytest.mark.parametrize(
    "every",
    [
        pytest.param({}, id="states at epochs", marks=pytest.mark.slow),
        pytest.param({"checkpoint_every_s": 0.0}, id="states at steps"),
    ],
)
@pytest.mark.parametrize("stops", STOPS)
def test_a_continued_run_equals_one_that_was_not_stopped(stops, every, whole_run, dataset, tmp_path, monkeypatch):
    whole_path, expected = whole_run
    monkeypatch.setattr(trainer, "tqdm", small_runs.InterruptingBar)
    for stop in (*stops, None):
        is_step = isinstance(stop, int)
        monkeypatch.setattr(small_runs.InterruptingBar, "steps", 0)
        monkeypatch.setattr(small_runs.InterruptingBar, "stop_at", stop if is_step else math.inf)
        summaries = None if stop is None or is_step else small_runs.InterruptingSummaries(*stop)
        # Once there is a state, everything comes from it: the new model may start elsewhere.
        has_state = small_runs.newest_state(tmp_path) is not None
        with contextlib.nullcontext() if stop is None else pytest.raises(small_runs.Interrupted):
            received = small_runs.train(
                tmp_path, dataset, summaries, starts_elsewhere=has_state, **small_runs.WHOLE, **every
            )
    assert_equal_runs(tmp_path, whole_path)
    small.assert_bit_equal(received, expected)


@pytest.mark.slow
def test_a_continued_run_draws_the_augmentation_of_one_that_was_not_stopped(dataset, tmp_path, monkeypatch):
    names = ("colour_jitter", "randaugment", "cutout", "splicemix", "label_smoothing")
    plan = {"stages": ("begin",), "epochs": (2,), "learning_rates": (0.01,), "checkpoint_every_s": 0.0}
    plan |= {"effects": Effects(names, randaugment_ops=1), "crops": RandomResizedCrop()}
    expected = small_runs.train(tmp_path / "whole", dataset, **plan)
    assert small_runs.read_log(tmp_path / "whole")[0]["step"] == 4
    monkeypatch.setattr(trainer, "tqdm", small_runs.InterruptingBar)
    for stop in (6, math.inf):
        monkeypatch.setattr(small_runs.InterruptingBar, "steps", 0)
        monkeypatch.setattr(small_runs.InterruptingBar, "stop_at", stop)
        with contextlib.nullcontext() if stop == math.inf else pytest.raises(small_runs.Interrupted):
            received = small_runs.train(tmp_path / "parts", dataset, **plan)
    small.assert_bit_equal(received, expected)


def test_a_finished_run_trains_no_more(whole_run, dataset, tmp_path, monkeypatch):
    path, expected = whole_run
    path = shutil.copytree(path, tmp_path / "run")

    def refuse(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(Trainer, "_train_epoch", refuse)
    small.assert_bit_equal(small_runs.train(path, dataset, starts_elsewhere=True, **small_runs.WHOLE), expected)


def test_a_state_of_other_labels_or_another_model_is_refused(whole_run, dataset, tmp_path):
    path, _ = whole_run
    arrays, meta = small_runs.newest_state(path)
    states = States(WorkDir(str(tmp_path)).states, 3)
    states.save(arrays, {**meta, "labels": ["x", *meta["labels"][1:]]})
    with pytest.raises(InputError, match="Expected at position 0: .*Received: 'x'"):
        small_runs.train(tmp_path, dataset)
    first = next(name for name in arrays if name.startswith("model/"))
    states.save({name: value for name, value in arrays.items() if name != first}, meta)
    with pytest.raises(InputError, match="must fit the model. Received: 1 weights are missing"):
        small_runs.train(tmp_path, dataset, **small_runs.WHOLE)


def test_a_run_of_the_other_stack_is_not_continued(whole_run, dataset, tmp_path):
    """The message says what it began with, what runs now, and which weights a new run could start from."""
    _, meta = small_runs.newest_state(whole_run[0])
    here = stack.versions()
    assert meta["versions"] == here
    other = {"python": "3.1.4", "tensorflow": "2.99.1", "keras": "4.0.0"}
    states = States(WorkDir(str(tmp_path)).states, 3)
    states.save({}, {**meta, "versions": other})
    with pytest.raises(InputError) as raised:
        small_runs.train(tmp_path, dataset, **small_runs.WHOLE)
    message = str(raised.value)
    assert "Expected: Python 3.1.4, TensorFlow 2.99.1, Keras 4.0.0. Received: Python" in message
    assert here["tensorflow"] in message and message.endswith("start a new run with another --work_dir.")
    for name, age_s in (("begin.npz", 0), ("cls.npz", 60)):
        path = tmp_path / "checkpoints" / name
        path.touch()
        os.utime(path, (1e9 - age_s, 1e9 - age_s))
    with pytest.raises(InputError, match=re.escape(f"--work_dir and --init_from={tmp_path}/checkpoints/begin.npz.")):
        small_runs.train(tmp_path, dataset, **small_runs.WHOLE)
    states.save({}, {**meta, "versions": {**other, "keras": here["keras"]}})  # another release of the same
    with pytest.raises(InputError, match="must fit the model"):
        small_runs.train(tmp_path, dataset, **small_runs.WHOLE)


@pytest.mark.slow
def test_a_damaged_state_is_replaced_by_the_one_before(whole_run, dataset, tmp_path, caplog):
    """The run does again what lay between, and ends alike."""
    path, expected = whole_run
    shutil.copytree(path, tmp_path / "run")
    newest = sorted((tmp_path / "run" / "checkpoints" / "state").iterdir())[-1]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    with caplog.at_level("INFO", "srn_tf"):
        received = small_runs.train(tmp_path / "run", dataset, starts_elsewhere=True, **small_runs.WHOLE)
    assert newest.name in caplog.text and "Continuing in stage end after epoch 1, step 0." in caplog.text
    assert_equal_runs(tmp_path / "run", path)
    small.assert_bit_equal(received, expected)


def stop_by_signal(number, step, where, dataset, path, monkeypatch, request):
    """Trains until the signal comes with a step, and checks what is said and kept."""

    class SignallingBar(trainer.tqdm):
        steps = 0

        def update(self, n=1):
            super().update(n)
            self.steps += 1
            if self.steps == step:
                os.kill(os.getpid(), number)

    def handle(*_):  # which a run may find ignored, in the background of a shell, and then leaves so
        raise AssertionError("not noted")

    request.addfinalizer(functools.partial(signal.signal, number, signal.signal(number, handle)))
    with monkeypatch.context() as patch, pytest.raises(Stopped) as stopped:
        patch.setattr(trainer, "tqdm", SignallingBar)
        small_runs.train(path, dataset, **small_runs.WHOLE)
    assert stopped.value.signal == number and signal.getsignal(number) == handle
    assert f"Stopped by {number.name} in stage begin, {where} of the stage" in str(stopped.value)
    arrays, meta = small_runs.newest_state(path)
    assert (meta["stage_index"], arrays["step/steps"]) == (0, step)


def test_a_signal_stops_a_run(dataset, tmp_path, monkeypatch, request):
    stop_by_signal(signal.SIGTERM, 2, "epoch 1, step 2", dataset, tmp_path, monkeypatch, request)


@pytest.mark.slow
@pytest.mark.parametrize(
    "number, step, where", [(signal.SIGTERM, 2, "epoch 1, step 2"), (signal.SIGINT, 8, "epoch 2, step 8")]
)
def test_a_run_that_a_signal_stopped_continues(number, step, where, whole_run, dataset, tmp_path, monkeypatch, request):
    stop_by_signal(number, step, where, dataset, tmp_path, monkeypatch, request)
    received = small_runs.train(tmp_path, dataset, starts_elsewhere=True, **small_runs.WHOLE)
    small.assert_bit_equal(received, whole_run[1])
    assert_equal_runs(tmp_path, whole_run[0])


@pytest.mark.slow
def test_several_steps_a_call_are_the_same_run(whole_run, dataset, tmp_path):
    received = small_runs.train(tmp_path, dataset, **small_runs.WHOLE, steps_per_call=3)  # of 4 steps an epoch
    small.assert_bit_equal(received, whole_run[1])
    assert_equal_runs(tmp_path, whole_run[0])
