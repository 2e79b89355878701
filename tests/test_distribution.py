"""What TF_CONFIG may say, and the answers of a process alone; tests/training/test_workers.py asks a cluster."""

import json

import pytest
import tensorflow as tf

from srn_tf import distribution
from srn_tf.errors import InputError

TWO = {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}
FIRST = {"type": "worker", "index": 0}


def config(cluster=TWO, **task):
    return json.dumps({"cluster": cluster, "task": {**FIRST, **task}})


@pytest.mark.parametrize("text", [None, "{}", json.dumps({"task": FIRST}), config({"worker": ["10.0.0.1:2222"]})])
def test_alone(text, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    strategy = distribution.make_strategy()
    assert isinstance(strategy, tf.distribute.MirroredStrategy)
    assert distribution.worker_share(strategy) == (0, 1)
    assert distribution.is_chief(strategy)
    assert distribution.num_local_replicas(strategy) == strategy.num_replicas_in_sync == 1
    assert distribution.any_worker(strategy, True) is True and distribution.any_worker(strategy, False) is False
    distribution.wait_for_all(strategy)


def test_logical_devices_once_tensorflow_runs():
    tf.constant(0.0)
    with pytest.raises(InputError, match="logical_cpus must be set before TensorFlow starts"):
        distribution.make_strategy(logical_cpus=2)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "worker",
        "[]",
        '{"cluster": ["10.0.0.1:2222", "10.0.0.2:2222"], "task": {"type": "worker", "index": 0}}',
        json.dumps({"cluster": TWO}),
        json.dumps({"cluster": TWO, "task": {"type": "worker"}}),
        config(index=2),
        config(index=-1),
        config(index="first"),
        config(type="chief"),
        config({**TWO, "ps": ["10.0.0.3:2222"]}),
        config({"worker": ["10.0.0.1:2222", "10.0.0.1:2222"]}),
        config({"worker": ["10.0.0.1", "10.0.0.2"]}),
        config({"worker": [2222, 2223]}),
        config({**TWO, "chief": ["10.0.0.3:2222", "10.0.0.4:2222"]}),
    ],
)
def test_a_cluster_that_cannot_be(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match="TF_CONFIG must be JSON") as caught:
        distribution.make_strategy()
    assert text[:100] in str(caught.value).replace("\\'", "'") and "\n" not in str(caught.value)


def test_logical_devices_in_a_cluster(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config())
    with pytest.raises(InputError, match="logical_cpus must be 0 in a cluster. Received: 2 with 2 workers"):
        distribution.make_strategy(logical_cpus=2)


@pytest.mark.parametrize(
    ("task", "index"), [(("chief", 0), 0), (("worker", 0), 1), (("worker", 1), 2)], ids=["chief", "first", "second"]
)
def test_the_chief_comes_before_the_workers(task, index, monkeypatch):
    """What the workers are told to wait for."""
    monkeypatch.setenv("TF_CONFIG", config({**TWO, "chief": ["10.0.0.3:2222"]}, type=task[0], index=task[1]))
    told = []

    class Waited(Exception):
        pass

    def wait(*arguments):
        told.extend(arguments)
        raise Waited

    monkeypatch.setattr(distribution, "wait_for_workers", wait)
    with pytest.raises(Waited):
        distribution.make_strategy()
    assert told == [["10.0.0.3:2222", "10.0.0.1:2222", "10.0.0.2:2222"], index, distribution.START_TIMEOUT_S]
