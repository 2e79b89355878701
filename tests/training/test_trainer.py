"""The loop over the stages, on a model of two small parts: it knows no more of any model."""

import dataclasses
import json
import os
import re
import types

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.data.augments import Effects
from srn_tf.data.crops import Crops
from srn_tf.errors import InputError
from srn_tf.evaluation.evaluator import Predictions
from srn_tf.models.model import label_loss
from srn_tf.runs import checkpoint
from srn_tf.runs.states import States
from srn_tf.runs.work_dir import WorkDir
from srn_tf.training import checks, trainer
from srn_tf.training.checks import check_plan, warn_of_untrained
from srn_tf.training.stage_run import StageRun
from srn_tf.training.stage_step import Outcome
from srn_tf.training.trainer import Trainer
from tests.models.small import small_model
from tests.training import small, small_runs


def best_files(path):
    """Names of the best weights that the run's kept states speak of."""
    metas = States(WorkDir(str(path)).states, 3).metas()
    stages = ("begin", "end")
    return sorted(
        {f"{stages[meta['stage_index']]}-{meta['best_epoch']:03d}.npz" for meta in metas if meta["best_epoch"]}
    )


def set_validation(monkeypatch, sequence):
    """Lets `_validate` answer (loss, mAP) after (loss, mAP). Returns the list of the weights it was asked about."""
    seen, answers = [], iter(sequence)

    def validate(self, run, evaluator):
        seen.append(small.weights_of(self._model))
        return small_runs.validation_of(*next(answers))

    monkeypatch.setattr(Trainer, "_validate", validate)
    return seen


def test_what_a_run_leaves(whole_run, dataset):
    path, _ = whole_run
    assert sorted(os.listdir(path / "checkpoints")) == sorted([*best_files(path), "begin.npz", "end.npz", "state"])
    log = small_runs.read_log(path)
    assert [(entry["stage"], entry["epoch"], entry["step"]) for entry in log] == [
        (stage, epoch, 4 * epoch) for stage in ("begin", "end") for epoch in (1, 2)
    ]
    for entry in log:
        watched = {"begin": "y_first", "end": "y_last"}[entry["stage"]]
        assert list(entry["losses"]) == [watched] and entry["losses"][watched] > 0
        validation = entry["validation"]
        assert (validation["output"], validation["images"]) == (watched, 16)
        assert 0 <= validation["mAP"] <= 100 and np.shape(validation["confusion"]) == (16, 4)
        assert np.sum(validation["confusion"]) == 16 * 16
    _, meta = checkpoint.load_arrays(str(path / "checkpoints" / "end.npz"))
    assert meta["labels"] == list(dataset.labels) and meta["stage"] == "end"


def test_the_kept_epoch_is_the_one_with_the_best_validation_map(whole_run):
    path, _ = whole_run
    log = small_runs.read_log(path)
    for stage in ("begin", "end"):
        maps = [entry["validation"]["mAP"] for entry in log if entry["stage"] == stage]
        _, meta = checkpoint.load_arrays(str(path / "checkpoints" / f"{stage}.npz"))
        assert meta["epoch"] == 1 + int(np.argmax(maps))


@pytest.mark.slow
def test_another_seed_is_another_run(whole_run, dataset, tmp_path):
    path, _ = whole_run
    small_runs.train(tmp_path, dataset, stages=("begin",), epochs=(1,), learning_rates=(0.01,), ema_decay=0.9, seed=1)
    received, expected = small_runs.read_log(tmp_path)[0], small_runs.read_log(path)[0]
    assert received["losses"] != expected["losses"] and received["validation"] != expected["validation"]


@pytest.mark.slow
def test_a_plateau_ends_a_stage(dataset, tmp_path, monkeypatch):
    # Stage begin: 1e-3 for two epochs, then 1e-4 and 1e-5 for one each. Stage end starts anew at its own rate.
    set_validation(monkeypatch, [(5, 1), (5, 1), (6, 1), (5, 1), (5, 1), (4, 1), (3, 1)])
    small_runs.train(tmp_path, dataset, epochs=(9, 3), learning_rates=(1e-3, 1e-2), patience=1)
    log = small_runs.read_log(tmp_path)
    assert [entry["stage"] for entry in log] == ["begin"] * 4 + ["end"] * 3
    expected = [1e-3, 1e-3, 1e-4, 1e-5, 1e-2, 1e-2, 1e-2]
    np.testing.assert_allclose([entry["learning_rate"] for entry in log], expected, rtol=1e-9)
    _, meta = small_runs.newest_state(tmp_path)
    assert (meta["stage_index"], meta["epoch"], meta["best_epoch"]) == (1, 3, 1)


@pytest.mark.slow
def test_the_rate_is_the_schedules_and_the_best_weights_by_validation_map_are_kept(dataset, tmp_path, monkeypatch):
    """Without momentum a step is the rate times the gradient: at a tenth of the rate, a small move. The best are not
    those of the lowest loss, and of equals the first; the next stage starts from them.
    """
    answers = [(2, 10), (2, 30), (1, 20), (9, 50), (8, 50)]
    seen = set_validation(monkeypatch, answers)
    plan = {"epochs": (3, 2), "learning_rates": (1e-3, 1e-2), "patience": 1, "momentum": 0.0}
    final = small_runs.train(tmp_path, dataset, **plan)
    name = "first/first_logits/kernel"
    moves = [np.abs(after[name] - before[name]).mean() for before, after in zip(seen[:2], seen[1:3])]
    assert moves[0] > 5 * moves[1] > 0  # from epoch 1 to 2 at 1e-3, then 1e-4
    small.assert_bit_equal(small_runs.arrays_of(tmp_path, "begin.npz"), seen[1])
    small.assert_bit_equal(small_runs.arrays_of(tmp_path, "end.npz"), seen[3])
    small.assert_bit_equal(final, seen[3])
    for name, value in seen[1].items():
        if name.startswith("first/"):  # fixed in the second stage
            np.testing.assert_array_equal(final[name], value, err_msg=name)


ONE_STEP_AN_EPOCH = {"stages": ("begin",), "learning_rates": (0.1,), "batch_size": 64}


@pytest.mark.slow
def test_the_better_of_plain_and_average_is_kept_and_said(dataset, tmp_path, monkeypatch, caplog):
    """Of equals the plain ones. Training goes on with these, and the plateau with the loss of the better."""
    caplog.set_level("INFO")
    seen = set_validation(monkeypatch, [(9, 10), (7, 20), (5, 30), (4, 30), (1, 2), (3, 29)])
    plan = {**ONE_STEP_AN_EPOCH, "epochs": (3,), "ema_decay": 0.5}
    final = small_runs.train(tmp_path, dataset, **plan)
    average = small.weights_of(small_runs.build())
    for n, (plain, averaged) in enumerate(zip(seen[::2], seen[1::2], strict=True)):
        d = min(0.5, (1 + n) / (10 + n))
        average = {name: d * average[name] + (1 - d) * plain[name] for name in plain}
        for name, value in average.items():  # BatchNorm statistics among them
            np.testing.assert_allclose(averaged[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    assert (seen[0]["first/first_bn/moving_mean"] != seen[1]["first/first_bn/moving_mean"]).any()
    small.assert_bit_equal(small_runs.arrays_of(tmp_path, "begin.npz"), seen[2])
    small.assert_bit_equal(final, seen[2])
    log = small_runs.read_log(tmp_path)
    assert [entry["weights"] for entry in log] == ["average", "plain", "average"]
    assert [entry["validation"]["mAP"] for entry in log] == [20, 30, 29]
    others = [{"loss": 9, "mAP": 10}, {"loss": 4, "mAP": 30}, {"loss": 1, "mAP": 2}]
    keys = ["validation_plain", "validation_average", "validation_plain"]
    assert [entry[key] for entry, key in zip(log, keys, strict=True)] == others
    assert "loss 7.000 mAP 20.00 (average; plain loss 9.000 mAP 10.00)" in caplog.text
    assert "Best weights: epoch 2 (plain), validation mAP 30.00." in caplog.text
    assert trainer.kept_weights(str(tmp_path / "checkpoints" / "begin.npz")) == "plain"
    _, meta = small_runs.newest_state(tmp_path)
    assert meta["schedule"]["best_loss"] == 3.0
    small.assert_bit_equal({name: small_runs.newest_state(tmp_path)[0][f"model/{name}"] for name in seen[4]}, seen[4])


@pytest.mark.slow
def test_averages_are_validated_and_kept(dataset, tmp_path, monkeypatch):
    """One step an epoch, so that the raw weights of every step can be had from the saved states."""
    raw = []
    save = Trainer._save

    def save_and_remember(self, run):
        raw.append(small.weights_of(self._model))
        save(self, run)

    monkeypatch.setattr(Trainer, "_save", save_and_remember)
    seen = set_validation(monkeypatch, [(5, epoch) for epoch in range(3)])
    start = small.weights_of(small_runs.build())
    small_runs.train(tmp_path, dataset, **ONE_STEP_AN_EPOCH, epochs=(3,), ema_decay=0.25, ema_keep="average")
    average = start
    for n, (weights, validated) in enumerate(zip(raw, seen, strict=True)):
        d = min(0.25, (1 + n) / (10 + n))
        average = {name: d * average[name] + (1 - d) * weights[name] for name in start}
        for name, value in average.items():
            np.testing.assert_allclose(validated[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    kept = small_runs.arrays_of(tmp_path, "begin.npz")
    small.assert_bit_equal(kept, seen[-1])
    assert all((kept[name] != raw[-1][name]).any() for name in kept if name.startswith("first/"))
    state, _ = small_runs.newest_state(tmp_path)
    for name, value in raw[-1].items():
        np.testing.assert_array_equal(state[f"model/{name}"], value)
        if name.startswith("first/"):
            np.testing.assert_array_equal(state[f"step/average/{name}"], kept[name])


@pytest.mark.slow
def test_a_subset_of_the_stages(dataset, tmp_path):
    start = small.weights_of(small_runs.build())
    final = small_runs.train(tmp_path, dataset, stages=("end",), epochs=(1,), learning_rates=(0.01,))
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["end-001.npz", "end.npz", "state"]
    assert {entry["stage"] for entry in small_runs.read_log(tmp_path)} == {"end"}
    for name, value in start.items():
        assert (final[name] == value).all() == name.startswith("first/"), name


# What a run makes of its input.


@pytest.mark.slow
def test_the_cache_changes_no_run_but_how_often_records_are_read(dataset, tmp_path, monkeypatch):
    set_validation(monkeypatch, [(5, 1)] * 4)
    reads = {"none": 0, "decoded": 0}
    for cache in reads:

        def count(record, cache=cache):
            def read(name):
                reads[cache] += 1
                return name

            return {**record, "name": tf.numpy_function(read, [record["name"]], tf.string)}

        strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
        with strategy.scope():
            model = small_runs.build()
        plan = small_runs.make_plan(stages=("begin",), epochs=(2,), learning_rates=(0.01,), cache=cache)
        counted = small_runs.OtherRecords(dataset, count)
        trainer = small_runs.make_trainer(tmp_path / cache, model, counted, plan, strategy)
        reads[cache] = 0  # the first few were read for a look at their labels
        trainer.train()
    assert reads == {"none": 128, "decoded": 64}  # two epochs of 64 images
    assert small_runs.read_log(tmp_path / "none") == small_runs.read_log(tmp_path / "decoded")
    small.assert_bit_equal(*(small_runs.newest_state(tmp_path / cache)[0] for cache in reads))


@pytest.mark.slow
def test_the_order_is_that_of_the_shuffle_buffer(dataset, tmp_path, monkeypatch):
    set_validation(monkeypatch, [(5, 1)] * 2)
    plan = {"stages": ("begin",), "epochs": (1,), "learning_rates": (0.01,)}
    whole, little = (small_runs.train(tmp_path / str(size), dataset, **plan, shuffle_buffer=size) for size in (64, 2))
    assert any((whole[name] != little[name]).any() for name in whole)


@pytest.mark.slow
@pytest.mark.parametrize("ignores", [True, False])
def test_unspecified_entries_are_left_out_of_the_training_loss_or_negative(dataset, tmp_path, monkeypatch, ignores):
    set_validation(monkeypatch, [(5, 1)])
    monkeypatch.setattr(checks, "_check_labels", lambda dataset: None)  # such images alone are no training set
    unspecified = small_runs.OtherRecords(
        dataset, lambda record: {**record, "labels": tf.zeros_like(record["labels"])}, ignores_unspecified=ignores
    )
    small_runs.train(tmp_path, unspecified, stages=("begin",), epochs=(1,), learning_rates=(0.01,))
    losses = small_runs.read_log(tmp_path)[0]["losses"]
    assert losses["y_first"] == 0.0 if ignores else losses["y_first"] > 0.0


@pytest.mark.parametrize(
    "ignores, expected",
    [
        (True, (0 + 3) * np.log(2) / 2),
        pytest.param(False, (100 + 4) * np.log(2) / 2, marks=pytest.mark.slow),
    ],
)
def test_the_validation_loss_follows_the_same_rule(dataset, tmp_path, ignores, expected):
    labels = np.array([[0, 1, -1, -1], [1, -1, -1, 0]], np.int8)
    logits = np.array([[100 * np.log(2), 200, -200, -200], [0, 0, 0, 0]], np.float32)
    evaluator = types.SimpleNamespace(predict=lambda records, batch_size: Predictions({"y": logits}, labels, None))
    run = types.SimpleNamespace(name="begin", epoch=1, stage=types.SimpleNamespace(watched="y"))
    data = small_runs.OtherRecords(dataset, dict, ignores)
    validation = small_runs.make_trainer(tmp_path, small_runs.build(), data, small_runs.make_plan())._validate(
        run, evaluator
    )
    assert validation["loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_waiting_for_data_is_told_from_computing(dataset, tmp_path, monkeypatch, caplog):
    """A clock that stands still but for 3 s a batch and 1 s a step."""
    clock = types.SimpleNamespace(now_s=100.0, monotonic=lambda: clock.now_s)

    class Strategy:
        """The default strategy, whose batches take their time."""

        def __init__(self):
            self._strategy = tf.distribute.get_strategy()

        def __getattr__(self, name):
            return getattr(self._strategy, name)

        def distribute_datasets_from_function(self, make):
            for batch in self._strategy.distribute_datasets_from_function(make):
                clock.now_s += 3.0
                yield batch

    class Step(trainer.StageStep):
        def run(self, *arguments):
            clock.now_s += 1.0
            return super().run(*arguments)

    monkeypatch.setattr(trainer, "StageStep", Step)
    monkeypatch.setattr(trainer, "time", clock)
    set_validation(monkeypatch, [(5, 1)])
    plan = small_runs.make_plan(stages=("begin",), epochs=(1,), learning_rates=(0.01,))
    with caplog.at_level("INFO", "srn_tf"):
        small_runs.make_trainer(tmp_path, small_runs.build(), dataset, plan, Strategy()).train()
    speed = json.loads((tmp_path / "log.jsonl").read_text())["speed"]
    assert speed == {"images_per_second": 4.0, "data_wait_s": 12.0, "compute_s": 4.0}
    assert "  4 img/s (75 % data wait)  " in caplog.text


def test_bad_plans(dataset, tmp_path):
    for changes, message in (
        ({"stages": ("begin", "foo")}, "stages must be among begin, end. Received: 'foo'."),
        (
            {"rate_scales": {"middle": 0.1}},
            "rate_scales must name parts of the model: first, last. Received: 'middle'.",
        ),
        ({"frozen_parts": ("middle",)}, "frozen_parts must name parts of the model: first, last. Received: 'middle'."),
        ({"frozen_norms": ("middle",)}, "frozen_norms must name parts of the model: first, last. Received: 'middle'."),
        (
            {"frozen_parts": ("last",)},
            "Stage end must train a weight of its parts last. Received: --frozen_parts=last, with which none learns. "
            "Freeze fewer parts, or leave the stage out of --stages.",
        ),
        (
            {"accumulation_steps": 3},
            "batch_size must be a multiple of devices x accumulation_steps, 1 x 3. Received: 16.",
        ),
        (
            {"effects": Effects(("splicemix",)), "accumulation_steps": 8},
            "batch_size must be a multiple of 4 x devices x accumulation_steps, 32, for splicemix, which adds an image "
            "to every 4. Received: 16. Change --batch_size, or remove splicemix from --augment.",
        ),
        (
            {"effects": Effects(("mixup", "label_smoothing")), "loss": "warp"},
            "--loss=warp needs labels that are true or false. Received: mixup, label_smoothing in --augment, which "
            "make labels between. Remove from the list, or use --loss=sigmoid, focal or asymmetric.",
        ),
        ({"batch_size": 65}, "batch_size must be at most the number of training images, 64. Received: 65."),
        (
            {"epochs": (3, 2), "warmup_epochs": 2.0},
            "warmup_epochs must be fewer than the epochs of every stage. Received: 2, and 2 epochs for stage end. "
            "Use a smaller --warmup_epochs or more --epochs.",
        ),
    ):
        with pytest.raises(InputError) as raised:
            small_runs.train(tmp_path, dataset, **changes)
        assert str(raised.value) == message
    assert os.listdir(tmp_path / "checkpoints") == []


def test_a_part_that_only_draws_trains_nothing(dataset):
    """C-Tran's label_mask has a weight, the number of its draws, which no gradient moves."""
    model = small_model("c_tran", 16)
    parts = ("trunk", "label_tokens", "transformer", "label_fc")
    plan = small_runs.make_plan(stages=("all",), epochs=(1,), learning_rates=(0.1,), frozen_parts=parts)
    with pytest.raises(
        InputError, match="Stage all must train a weight of its parts trunk, label_mask, .* none learns"
    ):
        check_plan(plan, model, tf.distribute.get_strategy(), dataset)
    check_plan(dataclasses.replace(plan, frozen_parts=parts[:-1]), model, tf.distribute.get_strategy(), dataset)


def test_a_batch_that_the_devices_cannot_share(dataset, tmp_path):
    class TwoReplicas:
        num_replicas_in_sync = 2

    plan = small_runs.make_plan(batch_size=15)
    with pytest.raises(
        InputError, match="batch_size must be a multiple of devices x accumulation_steps, 2 x 1. Received: 15."
    ):
        small_runs.make_trainer(tmp_path, small_runs.build(), dataset, plan, TwoReplicas())


@pytest.mark.slow
def test_a_last_partial_batch_is_left_out(dataset, tmp_path):
    small_runs.train(tmp_path, dataset, stages=("begin",), epochs=(1,), learning_rates=(0.01,), batch_size=24)
    assert small_runs.read_log(tmp_path)[0]["step"] == 2


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_with_where_and_what(dataset, tmp_path):
    with pytest.raises(InputError) as raised:
        small_runs.train(tmp_path, dataset, learning_rates=(1e30, 1e30))
    message = str(raised.value)
    for part in ("must be finite", "stage begin, epoch 1, step ", "y_first", "learning rate 1e+30", "--learning_rate"):
        assert part in message
    assert "nan" in message or "inf" in message
    assert not os.path.exists(tmp_path / "log.jsonl")


@pytest.mark.slow
def test_weights_that_are_not_finite_after_an_epochs_last_step(dataset, tmp_path):
    """One step an epoch: the loss before it is finite, and the validation is the first to see what came of it."""
    with pytest.raises(InputError, match="stage begin, epoch 1.*--learning_rate"):
        small_runs.train(tmp_path, dataset, learning_rates=(1e38, 1e38), batch_size=64)
    assert not os.path.exists(tmp_path / "checkpoints" / "begin.npz")


@pytest.mark.parametrize(
    ("labelled", "held_out", "message"),
    [
        ([], 4, "Training images must have labels. Received: no label on 12 images."),
        ([3], 4, "Training images must have labels. Received: no label on 12 images."),
        (
            [6, 9],
            4,
            "Received: no label on 4 images. Use --validation_fraction=0.4375, .*needs --restart or another --work_dir",
        ),
        ([6], 4, "only one training image has a label"),
        ([6, 9], 0, "Received: no label on 16 images. Prepare the data set with labelled validation images."),
    ],
)
def test_labels_are_looked_for_before_the_first_step(labelled, held_out, message, dataset, tmp_path):
    """Of 16 training images the first are held out; 7/16 holds out the first that is labelled, at 6."""
    labels = np.zeros((16, 2), np.int8)
    labels[labelled, 1] = 1

    class Labelled(small_runs.OtherRecords):
        def records(self, role):
            held = {"train": labels[held_out:], "validation": labels[:held_out] if held_out else 0 * labels}[role]
            return tf.data.Dataset.from_tensor_slices({"labels": held})

        def num_images(self, role):
            return int(self.records(role).cardinality())

        splits = {"train": f"train[{held_out}:]", "validation": f"train[:{held_out}]" if held_out else "validation"}

    with pytest.raises(InputError, match=message):
        small_runs.train(tmp_path, Labelled(dataset, None), batch_size=4)
    assert not os.path.exists(tmp_path / "log.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("allowed", [0, 1])
def test_steps_that_are_not_finite_are_skipped_as_often_as_allowed(allowed, dataset, tmp_path, monkeypatch, caplog):
    """Of four steps the second has an image that is not a number."""

    def batches(*arguments, **options):
        def poison(index, batch):
            image = tf.where(index == 1, tf.constant(np.nan, tf.float32), batch["image"])
            return {**batch, "image": image}

        return original(*arguments, **options).enumerate().map(poison)

    original = trainer.training_batches
    monkeypatch.setattr(trainer, "training_batches", batches)
    plan = {"stages": ("begin",), "epochs": (1,), "learning_rates": (0.01,), "max_skipped_steps": allowed}
    if not allowed:
        with pytest.raises(InputError, match="must be finite.*stage begin, epoch 1, step 2.*--max_skipped_steps"):
            small_runs.train(tmp_path, dataset, **plan)
        assert small_runs.newest_state(tmp_path) is None
        return
    small_runs.train(tmp_path, dataset, **plan)
    (entry,) = small_runs.read_log(tmp_path)
    assert entry["skipped_steps"] == 1 and np.isfinite(entry["losses"]["y_first"])
    assert "Skipped a step" in caplog.text


def count(run, *steps, **plan):
    """`Trainer._count` of steps that were finite (1) or not (0)."""
    outcome = Outcome({"y_first": np.arange(1.0, len(steps) + 1)}, np.array(steps) == 1, np.zeros(len(steps)))
    loop = types.SimpleNamespace(_plan=small_runs.make_plan(**plan))
    Trainer._count(loop, run, outcome, [0.1] * len(steps))


def make_run():
    stage = types.SimpleNamespace(terms=[label_loss("y_first")])
    run = StageRun(0, "begin", stage, None, None)
    run.begin_epoch()
    return run


def test_float16_may_overflow_some_steps_in_a_row():
    """Those in which the loss scale falls from 2^15 to 1, and no more; a step that moved weights begins again."""
    plan = {"precision": "mixed_float16"}
    run = make_run()
    count(run, *[0] * 19, 1, *[0] * 19, 1, **plan)
    assert (run.skipped, run.skipped_in_epoch, run.skipped_in_row) == (0, 38, 0)
    assert (run.steps, run.total_steps, run.timed_steps) == (40, 40, 40)
    assert run.sums == {"y_first": 20.0 + 40.0}
    count(run, *[0] * 20, max_skipped_steps=1, **plan)
    assert (run.skipped, run.skipped_in_row) == (1, 20)
    continued = make_run()
    continued.skipped_in_row = 19
    for one in (run, continued):
        with pytest.raises(InputError, match="Loss and gradients must be finite"):
            count(one, 0, max_skipped_steps=run.skipped if one is run else 0, **plan)


def test_the_learning_rate_is_not_blamed_where_no_step_moved_a_weight():
    for skipped, blames in (
        (3, "the learning rate is not the cause. Start from other weights"),
        (2, "Use a smaller --learning_rate"),
    ):
        run = make_run()
        count(run, *[1] * (3 - skipped), *[0] * skipped, max_skipped_steps=skipped)
        with pytest.raises(InputError, match=f"step 4: .*{blames}"):
            count(run, 0, max_skipped_steps=skipped)


def test_every_step_without_a_finite_gradient_counts_in_float32():
    run = make_run()
    count(run, 1, 0, 1, 0, max_skipped_steps=2)
    assert (run.skipped, run.skipped_in_epoch, run.skipped_in_row, run.sums) == (2, 2, 1, {"y_first": 4.0})
    message = (
        "must be finite. .*stage begin, epoch 1, step 5: .*y_first.*; learning rate 0.1. Use a smaller --learning_rate"
    )
    with pytest.raises(InputError, match=message):
        count(run, 0, max_skipped_steps=2)


def test_an_epochs_batches_are_as_planned_from_the_next_step_on(monkeypatch):
    received = []
    monkeypatch.setattr(trainer, "training_batches", lambda *values, **named: received.append((values, named)))
    monkeypatch.setattr(trainer, "replica_stacks", lambda *_, **__: None)
    changes = {"crops": Crops(max_distortion=1), "mirror": True, "shuffle_buffer": 7, "fixed_crops": 3}
    changes |= {"effects": Effects(("cutout", "mixup")), "fast_decode": True}
    loop = types.SimpleNamespace(
        _plan=small_runs.make_plan(**changes, data_threads=3, seed=9),
        _records="records",
        _factors="factors",
        _features={},
        _model=types.SimpleNamespace(image_size=56),
        _leaves_out=True,
        _mode="ignore",
        _strategy=tf.distribute.get_strategy(),
        _boxes_for=lambda stage: {"a stage": 5}[stage],
    )
    run = types.SimpleNamespace(index=2, epoch=4, steps=6, stage="a stage")
    Trainer._stacks(loop, run, types.SimpleNamespace(input_pipeline_id=1, num_input_pipelines=2))
    ((values, named),) = received
    assert values == ("records", 56, 16, 9)
    expected = {**changes, "epoch": 200_004, "first_step": 6, "share": (1, 2), "threads": 3, "ignore_unspecified": True}
    assert named == {**expected, "num_boxes": 5, "features": None, "repeat_factors": "factors"}


@pytest.mark.slow
def test_a_profile_is_written(dataset, tmp_path):
    plan = {"stages": ("begin",), "epochs": (1,), "learning_rates": (0.01,)}
    small_runs.train(tmp_path, dataset, **plan, profile_steps=(2, 3))
    assert list((tmp_path / "tensorboard").rglob("*.xplane.pb"))


def test_the_log_is_json_for_other_programs(whole_run):
    path, _ = whole_run
    for line in (path / "log.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


@pytest.mark.slow
def test_a_stage_starts_from_weights_of_another_part(dataset, tmp_path, monkeypatch, caplog):
    """From those that the stage before ended with, and before averages are made of them."""
    caplog.set_level("INFO")
    started = []

    class Spy(trainer.StageStep):
        def __init__(self, model, *arguments):
            started.append(small.weights_of(model))
            super().__init__(model, *arguments)
            averages = dict(zip(self._weights, self.average.averages))
            started[-1] |= {f"average/{name}": value.numpy() for name, value in averages.items()}

    monkeypatch.setattr(trainer, "StageStep", Spy)
    model = small_runs.build()
    first = small.weights_of(model)
    small_runs.make_trainer(tmp_path, model, dataset, small_runs.make_plan(epochs=(1, 1), ema_decay=0.9)).train()
    begin, end = started
    bias = "last/last_logits/bias"
    for name, value in first.items():
        np.testing.assert_array_equal(begin[name], value)
    expected = small_runs.arrays_of(tmp_path, "begin.npz")["first/first_logits/bias"]
    assert (expected != first[bias]).any()
    np.testing.assert_array_equal(end[bias], expected)
    np.testing.assert_array_equal(end[f"average/{bias}"], expected)
    assert "Stage end: last starts from the weights of first." in caplog.text


def test_parts_that_stay_random_are_said_at_the_start(caplog):
    model = small.build_two_parts(2)
    for stages, trained, warnings in (
        (("begin", "end"), (), []),
        (("end",), ("first",), []),
        (
            ("end",),
            (),
            [
                "Stage end copies into last the weights of first, which are random and were never trained",
                "Stage end trains last on top of random weights: first were never trained",
                "answer y_last .*: first will not",
            ],
        ),
        (("begin",), (), ["answer y_last still depends on random weights: last will not"]),
    ):
        caplog.clear()
        warn_of_untrained(small_runs.make_plan(stages=stages), model, trained)
        assert len(caplog.messages) == len(warnings)
        for message, expected in zip(caplog.messages, warnings):
            assert re.search(expected, message), message
