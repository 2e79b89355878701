"""A worker of a cluster of two: trains, evaluates and asks what the functions of `distribution` say.

python -m tests.training.two_workers DATA_DIR WORK_DIR

Leaves WORK_DIR/checkpoints/, WORK_DIR/frozen/checkpoints/ and WORK_DIR/worker-<index>.npz.
"""

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

from srn_tf import distribution
from srn_tf.evaluation.evaluator import Evaluator
from srn_tf.training.trainer import Trainer
from tests.training import small, small_runs

ROOT = Path(__file__).parents[2]
BATCH_SIZE, STEPS = 8, 3
EVALUATION_BATCH = 6  # the last batch of 16 images holds 4: a worker's share of it is 3, the other's 1


def main(data_dir, work_dir):
    strategy = distribution.make_strategy()
    share = distribution.worker_share(strategy)
    facts = {
        "share": share,
        "is_chief": distribution.is_chief(strategy),
        "num_local_replicas": distribution.num_local_replicas(strategy),
        "votes": [distribution.any_worker(strategy, flags[share[0]]) for flags in ((0, 0), (0, 1), (1, 0), (1, 1))],
    }
    results = evaluate_and_train(strategy, data_dir, work_dir)
    distribution.wait_for_all(strategy)
    np.savez(f"{work_dir}/worker-{share[0]}.npz", facts=json.dumps(facts), **results)


def evaluate_and_train(strategy, data_dir, work_dir):
    """Trains stages att and sr of the paper's heads, which move no BatchNorm; each worker's would be its own. Then once
    more on a frozen trunk: several workers on its features, one on images.

    Returns:
        dict: what the evaluation of the test images gave before, as arrays.
    """
    Trainer._validate = small_runs.never_better
    dataset = small_runs.open_tiny_scenes(data_dir, num_train=BATCH_SIZE * STEPS)
    keras.utils.set_random_seed(3)
    with strategy.scope():
        model = small.build_small_srn("paper", num_labels=16)
    predictions = Evaluator(model, strategy, with_boxes=True).predict(dataset.records("test"), EVALUATION_BATCH)
    plan = small_runs.make_plan(
        stages=("att", "sr"), epochs=(1, 1), batch_size=BATCH_SIZE, weight_decay=0.05, ema_decay=0.9, steps_per_call=2
    )
    small_runs.make_trainer(work_dir, model, dataset, plan, strategy).train()
    plan = dataclasses.replace(plan, stages=("att",), epochs=(1,), frozen_parts=("trunk",), fixed_crops=2)
    if distribution.worker_share(strategy)[1] > 1:
        plan = dataclasses.replace(plan, cache="features")
    small_runs.make_trainer(f"{work_dir}/frozen", model, dataset, plan, strategy).train()
    game = json.dumps({name: game.result() for name, game in predictions.pointing.items()})
    return {**predictions.logits, "labels": predictions.labels, "pointing": game}


@contextlib.contextmanager
def cluster(roles, *command):
    """Starts a Python program on each of two workers; none of them is left when the context ends.

    Args:
        roles: of each, e.g. ("worker", "worker").
        command: arguments of Python.
    Yields:
        [subprocess.Popen, subprocess.Popen], with pipes of text.
    """
    members = {role: [f"127.0.0.1:{port}" for port in free_ports(roles.count(role))] for role in dict.fromkeys(roles)}
    processes = []
    try:
        for index, role in enumerate(roles):
            task = {"type": role, "index": roles[:index].count(role)}
            environment = {
                **os.environ,
                "TF_CONFIG": json.dumps({"cluster": members, "task": task}),
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "CUDA_VISIBLE_DEVICES": "",
            }
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            processes.append(subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, **pipes))
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def free_ports(count):
    """Ports that nobody listens at, at the moment."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]


if __name__ == "__main__":
    main(*sys.argv[1:])
