"""Which devices and processes work together: one strategy, and the few things its workers agree on.

A cluster is named by TF_CONFIG as TensorFlow defines it; one process a worker, the same command in each:

    TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'

A worker that dies ends the others with tf.errors.UnavailableError (or AbortedError, if it comes back too early)
within some ten seconds: TensorFlow's heartbeats see to it. One that is only slow is waited for.
"""

import functools
import json
import os
import re

import tensorflow as tf

from srn_tf.errors import InputError
from srn_tf.rendezvous import wait_for_workers

START_TIMEOUT_S = 600.0  # for all workers to be started

_ROLES = ("chief", "worker")  # in the order of the workers' numbers


def make_strategy(logical_cpus=0):
    """The workers of TF_CONFIG; or, alone, all GPUs, one CPU where there is none, or logical CPU devices.

    Must come before TensorFlow is used. In a cluster it returns once every worker is there.

    Args:
        logical_cpus: number of devices that the CPU is split into; 0 does not split it.
    Returns:
        tf.distribute.MultiWorkerMirroredStrategy where TF_CONFIG names more than one worker, else MirroredStrategy.
    Raises:
        InputError: a TF_CONFIG that names no cluster of which this process could be one, a worker that is not there
            in time, or logical devices in a cluster or once TensorFlow runs.
    """
    addresses, index = _cluster_of_environment()
    if logical_cpus and len(addresses) > 1:
        raise InputError(
            f"logical_cpus must be 0 in a cluster. Received: {logical_cpus} with {len(addresses)} workers in TF_CONFIG."
        )
    if len(addresses) > 1:
        wait_for_workers(addresses, index, START_TIMEOUT_S)
        return tf.distribute.MultiWorkerMirroredStrategy()
    if logical_cpus:
        devices = [tf.config.LogicalDeviceConfiguration()] * logical_cpus
        try:
            tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
        except RuntimeError as error:
            raise InputError(
                f"logical_cpus must be set before TensorFlow starts. Received: {logical_cpus} in a running process "
                f"({error}). Use a new process."
            ) from error
        return tf.distribute.MirroredStrategy([f"/cpu:{i}" for i in range(logical_cpus)])
    return tf.distribute.MirroredStrategy()


def worker_share(strategy):
    """Which worker this process is, and of how many.

    Args:
        strategy: tf.distribute strategy.
    Returns:
        (index, count): 0 <= index < count; (0, 1) outside a cluster. A worker's replicas are numbered after those of
        the workers before it.
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 0, 1
    resolver = strategy.cluster_resolver
    workers = _workers(resolver.cluster_spec().as_dict())
    return workers.index((resolver.task_type, resolver.task_id)), len(workers)


def is_chief(strategy):
    """Whether this process is the one of the cluster that writes what a run leaves."""
    return worker_share(strategy)[0] == 0


def num_local_replicas(strategy):
    """The number of this process's devices."""
    return strategy.num_replicas_in_sync // worker_share(strategy)[1]


def any_worker(strategy, flag):
    """Whether a flag is set on any worker. In a cluster every worker must ask, equally often and in the same order.

    Args:
        strategy: tf.distribute strategy.
        flag: bool, this worker's.
    Returns:
        bool, the same on every worker.
    """
    if worker_share(strategy)[1] == 1:
        return bool(flag)
    return bool(_sum_over_workers(strategy)(tf.constant(float(flag))) > 0.0)


def wait_for_all(strategy):
    """Returns once every worker has come here."""
    any_worker(strategy, False)


@functools.cache
def _sum_over_workers(strategy):
    """A compiled sum: an eager one takes three times as long."""
    return tf.function(lambda value: strategy.reduce("SUM", value, axis=None))


def _workers(cluster):
    """[(role, index in the role)] of all workers, in the order of their numbers."""
    return [(role, index) for role in _ROLES for index in range(len(cluster.get(role, ())))]


def _cluster_of_environment():
    """(addresses of all workers, which of them this process is) by TF_CONFIG; ([], 0) where it names no cluster."""
    text = os.environ.get("TF_CONFIG", "{}")
    try:
        config = json.loads(text)
        cluster = config.get("cluster")
        if not cluster:
            return [], 0
        workers = _workers(cluster)
        addresses = [cluster[role][index] for role, index in workers]
        own = workers.index((config["task"]["type"], int(config["task"]["index"])))
        is_known = set(cluster) <= set(_ROLES) and len(cluster.get("chief", ())) <= 1
        if is_known and len(set(addresses)) == len(addresses) and all(map(_is_address, addresses)):
            return addresses, own
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise InputError(
        "TF_CONFIG must be JSON with the entries cluster and task. cluster.worker lists a different host:port for "
        "each worker (one may be cluster.chief instead), the same in every process. task has the type and index of "
        f"this process. Received: {text[:300]!r}. Correct it, or unset it to use this machine alone."
    )


def _is_address(text):
    return re.fullmatch(r".+:\d{1,5}", text) is not None
