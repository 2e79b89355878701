"""Runs of the trainer on the tiny scenes, for tests in this process and in one with two devices."""

import dataclasses
import json
import math
import os

import keras
import tensorflow as tf
from tqdm import tqdm

from srn_tf.data.datasets import open_dataset
from srn_tf.runs import checkpoint
from srn_tf.runs.states import States
from srn_tf.runs.work_dir import WorkDir
from srn_tf.training import unspecified
from srn_tf.training.plan import TrainingPlan
from srn_tf.training.trainer import Trainer
from tests.training import small


def validation_of(loss, mean_ap):
    """What `Trainer._validate` returns."""
    return {"output": "y", "images": 1, "loss": loss, "mAP": mean_ap, "F1-macro": 0.0, "F1-micro": 0.0, "confusion": []}


def never_better(trainer, run, evaluator):
    """Stands for `Trainer._validate`."""
    return validation_of(1.0, 50.0)


class NoSummaries:
    """Stands for training.summaries.Summaries."""

    def write_epoch(self, entry, labels):
        pass

    def write_attention(self, stage, step):
        pass


class Interrupted(Exception):
    """Raised by the tests in the middle of a run."""


class InterruptingBar(tqdm):
    """Stops a run in the middle of an epoch: at the given step counted over this start of the program."""

    stop_at = math.inf
    steps = 0

    def update(self, n=1):
        type(self).steps += 1
        if type(self).steps == self.stop_at:
            raise Interrupted
        return super().update(n)


class InterruptingSummaries(NoSummaries):
    """Stops a run after an epoch was validated and logged, before its state is saved; or at a stage's end."""

    def __init__(self, stage, epoch=None):
        self._stage, self._epoch = stage, epoch

    def write_epoch(self, entry, labels):
        if (entry["stage"], entry["epoch"]) == (self._stage, self._epoch):
            raise Interrupted

    def write_attention(self, stage, step):
        if (stage, None) == (self._stage, self._epoch):
            raise Interrupted


def open_tiny_scenes(folder, num_train=64):
    """The tiny scenes with fewer training images."""
    dataset = open_dataset("scenes", folder, folder)
    return dataclasses.replace(dataset, splits={**dataset.splits, "train": f"train[:{num_train}]"})


class OtherRecords:
    """Stands for a DataSet: its training records changed, everything else its own."""

    def __init__(self, dataset, change, ignores_unspecified=False):
        self._dataset, self._change = dataset, change
        self.ignores_unspecified = self.has_unspecified = ignores_unspecified

    def __getattr__(self, name):
        return getattr(self._dataset, name)

    def records(self, role):
        records = self._dataset.records(role)
        return records.map(self._change) if role == "train" else records


def make_plan(**changes):
    values = {
        "stages": ("begin", "end"),
        "epochs": (3, 3),
        "learning_rates": (0.01, 0.01),
        "batch_size": 16,
        "mirror": True,
        "shuffle_buffer": 1000,
    }
    return TrainingPlan(**{**values, **changes})


def newest_state(path):
    """(arrays, meta) of the state that a run would continue from, or None."""
    return States(WorkDir(str(path)).states, 3).newest()


def make_trainer(path, model, dataset, plan, strategy=None, summaries=None):
    os.makedirs(os.path.join(path, "checkpoints"), exist_ok=True)
    strategy = strategy or tf.distribute.get_strategy()
    is_selective = plan.unspecified == "selective"
    prior = unspecified.label_prior(plan.selective_prior, dataset) if is_selective else None
    return Trainer(model, strategy, dataset, plan, WorkDir(str(path)), summaries or NoSummaries(), prior=prior)


def read_log(path):
    """The entries of log.jsonl without the timings."""
    with open(os.path.join(path, "log.jsonl"), encoding="utf-8") as log:
        entries = [json.loads(line) for line in log]
    for entry in entries:
        speed = entry.pop("speed")
        assert speed.pop("images_per_second") > 0
        assert speed.pop("data_wait_s") > 0 and speed.pop("compute_s") > 0 and not speed
    return entries


# What else there is to save or to find again: averages, momenta, a place in the cycle and in an epoch of 76 images.
WHOLE = {"epochs": (2, 2), "ema_decay": 0.9, "optimizer": "adam", "schedule": "one_cycle"}
WHOLE |= {"decayed_weights": "matrices", "repeat_threshold": 0.15}


def build():
    """The model of two parts, always the same."""
    keras.utils.set_random_seed(0)
    return small.build_two_parts()


def train(path, dataset, summaries=None, starts_elsewhere=False, **changes):
    """One start of the program: a new model, trained or continued."""
    model = build()
    if starts_elsewhere:
        small.randomize(model)
    make_trainer(path, model, dataset, make_plan(**changes), summaries=summaries).train()
    return small.weights_of(model)


def arrays_of(path, file):
    """The arrays of a file of a run's checkpoints."""
    return checkpoint.load_arrays(os.path.join(path, "checkpoints", file))[0]
