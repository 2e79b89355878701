"""Trains the same on one device and on two, in a process of its own: devices come before TensorFlow's first use.

python -m tests.training.two_devices DATA_DIR WORK_DIR

Leaves WORK_DIR/<one, two, whole, continued, one_images or two_features>/checkpoints/.
"""

import contextlib
import sys

import keras
import tensorflow as tf

from srn_tf.distribution import make_strategy
from srn_tf.training.trainer import Trainer
from tests.training import small, small_runs

BATCH_SIZE, STEPS, WEIGHT_DECAY = 8, 3, 0.05


def main(data_dir, work_dir):
    two = make_strategy(logical_cpus=2)
    one = tf.distribute.MirroredStrategy(["/cpu:0"])
    dataset = small_runs.open_tiny_scenes(data_dir, num_train=BATCH_SIZE * STEPS)

    def run(path, strategy, build, summaries=None, dataset=dataset, **changes):
        keras.utils.set_random_seed(3)
        with strategy.scope():
            model = build()
        plan = small_runs.make_plan(batch_size=BATCH_SIZE, weight_decay=WEIGHT_DECAY, ema_decay=0.9, **changes)
        small_runs.make_trainer(f"{work_dir}/{path}", model, dataset, plan, strategy, summaries).train()

    # BatchNorm that moves on both replicas: a whole run, and one that was stopped and continued.
    begin = {"stages": ("begin",), "epochs": (2,)}
    run("whole", two, small.build_two_parts, **begin, cache="decoded")
    with contextlib.suppress(small_runs.Interrupted):
        run("continued", two, small.build_two_parts, small_runs.InterruptingSummaries("begin", 2), **begin)
    run("continued", two, small.build_two_parts, **begin)

    # Stages att and sr of the paper's heads move no BatchNorm, whose statistics would be each replica's own.
    Trainer._validate = small_runs.never_better  # the evaluation has run above
    unspecified = small_runs.OtherRecords(dataset, a_third_unspecified, ignores_unspecified=True)
    for path, strategy in (("one", one), ("two", two)):
        run(path, strategy, build_srn, dataset=unspecified, stages=("att", "sr"), epochs=(1, 1))
    frozen = {"stages": ("att",), "epochs": (1,), "frozen_parts": ("trunk",), "fixed_crops": 2}
    run("one_images", one, build_srn, **frozen)
    run("two_features", two, build_srn, **frozen, cache="features")


def a_third_unspecified(record):
    labels = record["labels"]
    return {**record, "labels": tf.where(tf.range(16) % 3 == 0, tf.zeros_like(labels), 2 * labels - 1)}


def build_srn():
    return small.build_small_srn("paper", num_labels=16)


if __name__ == "__main__":
    main(*sys.argv[1:])
