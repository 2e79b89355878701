"""What a stage has counted comes back with its state."""

import dataclasses
import json
import types

import tensorflow as tf

from srn_tf.training.schedule import PlateauSchedule
from srn_tf.training.stage_run import StageRun
from tests.training import small

# What a program that continues makes anew, or counts for itself.
NOT_KEPT = {"index", "name", "stage", "schedule", "step", "timed_steps", "data_wait_s", "compute_s"}


def make_run(model, **changes):
    step = types.SimpleNamespace(variables={"steps": tf.Variable(changes.get("steps", 0), dtype=tf.int64)})
    return StageRun(1, "end", model.stages["end"], PlateauSchedule(0.1, 1e-5, 3), step, **changes)


def test_every_count_comes_back():
    model = small.build_two_parts(2)
    names = [field.name for field in dataclasses.fields(StageRun) if field.name not in NOT_KEPT]
    values = {name: 2 + number for number, name in enumerate(names)} | {"sums": {"y_last": 0.5}, "best_score": 61.5}
    run = make_run(model, **values)
    run.schedule.update(0.75)
    arrays, meta = run.collect(model)
    weights = small.weights_of(model)
    small.randomize(model)
    assert meta["stage_index"] == 1
    continued = make_run(model)
    continued.restore(arrays, json.loads(json.dumps(meta)), model, "a state")
    assert {name: getattr(continued, name) for name in names} == values
    assert continued.schedule == run.schedule != PlateauSchedule(0.1, 1e-5, 3)
    assert int(continued.step.variables["steps"]) == values["steps"]
    small.assert_bit_equal(small.weights_of(model), weights)


def test_an_epochs_mean_is_over_the_steps_that_counted():
    model = small.build_two_parts(2)
    run = make_run(model, steps=5, skipped_in_epoch=2, skipped_in_row=1, skipped=4, sums={"y_last": 6.0}, epoch=3)
    assert run.mean_losses() == {"y_last": 2.0}
    run.timed_steps, run.data_wait_s, run.compute_s = 5, 1.0, 2.0
    run.begin_epoch()
    assert (run.steps, run.skipped_in_epoch, run.timed_steps, run.data_wait_s, run.compute_s) == (0, 0, 0, 0.0, 0.0)
    assert run.sums == run.mean_losses() == {"y_last": 0.0}
    assert (run.epoch, run.skipped, run.skipped_in_row) == (3, 4, 1)  # of the stage
