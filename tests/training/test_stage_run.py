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
    model, strategy = small.build_two_parts(2), tf.distribute.get_strategy()
    names = [field.name for field in dataclasses.fields(StageRun) if field.name not in NOT_KEPT]
    values = {name: 2 + number for number, name in enumerate(names)} | {"sums": {"y_last": 0.5}, "best_score": 61.5}
    run = make_run(model, **values)
    run.schedule.update(0.75)
    arrays, meta = run.collect(model, strategy)
    weights = small.weights_of(model)
    small.randomize(model)
    assert meta["stage_index"] == 1
    continued = make_run(model)
    continued.restore(arrays, json.loads(json.dumps(meta)), model, strategy, "a state")
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


class TwoReplicas:
    """Stands for a strategy under which one variable has a second replica."""

    def __init__(self, variable, start):
        self._variable, self.second = variable, tf.Variable(start)

    def experimental_local_results(self, variable):
        return (variable, self.second) if variable is self._variable else (variable,)


def test_statistics_that_differ_between_replicas_come_back_to_each():
    """Within an epoch BatchNorm's are each replica's own; as many replicas get theirs back, another number the mean."""
    model, (name, start) = small.build_two_parts(2), ("model/first/first_bn/moving_mean", [0.0] * 4)
    mean = model.parts["first"].get_layer("first_bn").moving_mean
    alike, two = TwoReplicas(mean, start), TwoReplicas(mean, [1.0, 2.0, 3.0, 4.0])
    assert not [key for key in make_run(model).collect(model, alike)[0] if key.startswith("replicas/")]
    arrays, meta = make_run(model).collect(model, two)
    assert [key for key in arrays if key.startswith("replicas/")] == [f"replicas/{name}"]
    assert arrays[f"replicas/{name}"].tolist() == [start, [1.0, 2.0, 3.0, 4.0]]
    arrays[f"replicas/{name}"] = arrays[f"replicas/{name}"] + 1.0
    arrays[f"all/{name}"] = arrays[f"all/{name}"] + 7.0
    for strategy, expected, second in (
        (two, [1.0] * 4, [2.0, 3.0, 4.0, 5.0]),
        (tf.distribute.get_strategy(), [7.0] * 4, [2.0, 3.0, 4.0, 5.0]),
    ):
        make_run(model).restore(arrays, meta, model, strategy, "a state")
        assert (mean.numpy().tolist(), two.second.numpy().tolist()) == (expected, second)
