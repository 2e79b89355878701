"""Takes the same steps on one device and on two, in a process of its own: devices come before TensorFlow's first use.

python -m tests.training.step_on_two_devices FOLDER

Leaves FOLDER/<case>-<one or two>.npz: weights, state, losses and norms of each of `CASES` on each.
"""

import sys

import keras
import numpy as np
import tensorflow as tf

from srn_tf.runs import checkpoint
from srn_tf.training.freezing import planned_stage
from srn_tf.training.losses import sigmoid_loss
from srn_tf.training.plan import TrainingPlan
from srn_tf.training.stage_step import StageStep
from tests.models.region_toy import build_region_toy
from tests.models.small import SMALL_SETTINGS, small_model
from tests.models.toy import build_toy
from tests.training import small

BATCH_SIZE, STEPS, RATE = 8, 3, 0.002

CASES = {
    # A term per step, which must not count once for each replica or piece.
    "toy": {},
    "toy_in_pieces": {"accumulation_steps": 2},
    # A term over boxes, of which every image has its own.
    "regions_in_pieces": {"accumulation_steps": 2},
    # A term over what labels teach, in loops.
    "taught_in_pieces": {"optimizer": "rmsprop", "accumulation_steps": 2},
    # Labels' groups, without a batch, of which a term per step is made; attention that is computed twice.
    "msrn_in_pieces": {"accumulation_steps": 2, "frozen_parts": ("trunk",)},
    # Regions, of which an image has its own number, and an LSTM over each.
    "rlsd_in_pieces": {"accumulation_steps": 2, "frozen_parts": ("trunk",)},
    "taught_xla": {"xla": True},
    "sgd": {"ema_decay": 0.9},
    "clipped_adamw_in_pieces": {"optimizer": "adamw", "clip_norm": 1.0, "accumulation_steps": 2},
    "xla_with_factors": {"xla": True, "rate_scales": {"f_conf": 0.1}},
    "skipped": {"ema_decay": 0.9},  # the last image of the second step has an unfinite label
}


def main(folder):
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    for number, devices in (("one", ["/cpu:0"]), ("two", ["/cpu:0", "/cpu:1"])):
        strategy = tf.distribute.MirroredStrategy(devices)
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = small.build_small_srn("paper")
        start = small.weights_of(model)
        # Stage att of the paper's heads moves no BatchNorm, whose statistics would be each replica's own.
        with strategy.scope():
            models = {
                "toy": (build_toy(), "all"),
                "regions": (build_region_toy(), "rpn"),
                "taught": (build_taught(), "rnn"),
                "msrn": (small_model("msrn", 3, **SMALL_SETTINGS["msrn"]), "all"),
                "rlsd": (small_model("rlsd", 3, **SMALL_SETTINGS["rlsd"], region_dropout=0.0), "heads"),
            }
        starts = {name: small.weights_of(model) for name, (model, _) in models.items()}
        srn = model
        for case, changes in CASES.items():
            kind = case.split("_")[0]
            model, stage = models.get(kind, (srn, "att"))
            checkpoint.assign_weights(model, starts.get(kind, start), "the start")
            plan = TrainingPlan((stage,), (1,), (RATE,), batch_size=BATCH_SIZE, weight_decay=0.05, **changes)
            step = StageStep(model, strategy, planned_stage(model.stages[stage], plan), 0, plan, sigmoid_loss)
            outcome = step.run(shares(strategy, has_unfinite=case == "skipped"), [RATE] * STEPS)
            state = {name: variable.numpy() for name, variable in step.variables.items()}
            results = {
                "loss": list(outcome.losses.values()),
                "norm": outcome.gradient_norm,
                "is_finite": outcome.is_finite,
            }
            np.savez(f"{folder}/{case}-{number}.npz", **small.weights_of(model), **state, **results)


def build_taught():
    """CNN-RNN without dropout, of which every replica draws its own."""
    return small_model("cnn_rnn", 3, rnn_width=8, rnn_embedding=6, rnn_dropout=0.0)


def shares(strategy, has_unfinite):
    """Three batches, each cut into the replicas' shares in their order."""
    batches = [small.random_batch(BATCH_SIZE, seed=seed, num_boxes=3) for seed in range(STEPS)]
    stack = {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}
    if has_unfinite:
        stack["y"][1, -1, 0] = np.inf
    size = BATCH_SIZE // strategy.num_replicas_in_sync
    return strategy.experimental_distribute_values_from_function(
        lambda context: {
            name: tf.constant(value[:, context.replica_id_in_sync_group * size :][:, :size])
            for name, value in stack.items()
        }
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
