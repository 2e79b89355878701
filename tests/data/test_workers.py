"""Worker processes: the same results in the same order, and none of them left.

Nothing here loads TensorFlow: the workers import this file.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from srn_tf.data import workers
from srn_tf.data.workers import parallel_map

ROOT = Path(__file__).parents[2]


def slow_first(number):
    """The number and its process; the first numbers take longer, so that later ones are done before them."""
    time.sleep(0.3 if number < 4 else 0.0)
    return number, os.getpid()


def refuse_seven(number):
    if number == 7:
        raise KeyError("seven")
    return number


def test_order_is_kept_and_no_process_is_left():
    with parallel_map(2, 50) as spread:
        results = list(spread(slow_first, range(50)))
        assert len(multiprocessing.active_children()) == 2
    assert [number for number, _ in results] == list(range(50))
    processes = {process for _, process in results}
    assert len(processes) == 2 and os.getpid() not in processes
    assert multiprocessing.active_children() == []


def test_an_error_in_a_worker_comes_out_and_no_process_is_left():
    received = []
    with pytest.raises(KeyError, match="seven"):
        with parallel_map(2, 50) as spread:
            for number in spread(refuse_seven, range(50)):
                received.append(number)
    assert received == list(range(len(received))) and len(received) <= 7
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("processes", "num_photos", "num_cpus", "expected"),
    [
        (1, 10_000, 4, None),
        (0, 100, 4, None),
        (0, 101, 4, 2),
        (0, 250, 4, 3),
        (0, 10_000, 4, 4),
        (0, 10_000, 1, None),
        (3, 5, 1, 3),
    ],
)
def test_number_of_processes(monkeypatch, processes, num_photos, num_cpus, expected):
    """None: no process is started, and `map` itself is given."""
    started = []

    class Pool:
        def __init__(self, max_workers, **options):
            started.append(max_workers)

        def map(self):
            pass

        def shutdown(self, **options):
            pass

    monkeypatch.setattr(workers.concurrent.futures, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _: set(range(num_cpus)))
    with parallel_map(processes, num_photos) as spread:
        assert (spread is map) == (expected is None)
    assert started == ([] if expected is None else [expected])


WORKING = """
import time
from srn_tf.data.workers import parallel_map
with parallel_map(2, 50) as spread:
    results = spread(time.sleep, [0] * 8 + [0.2] * 1000)
    print(next(results), flush=True)
    time.sleep(600)
"""


def test_workers_end_when_the_main_process_is_killed():
    with subprocess.Popen([sys.executable, "-c", WORKING], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "None\n"  # The workers are at work.
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        process.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []


SLOW_START = """
import sys, time
if "--multiprocessing-fork" in sys.orig_argv:
    time.sleep(1.0)
"""

STARTING = """
import time
from srn_tf.data.workers import parallel_map
with parallel_map(2, 50) as spread:
    results = spread(time.sleep, [0.01] * 50)
    print("started", flush=True)
    list(results)
"""


@pytest.mark.slow
def test_ctrl_c_is_left_to_the_main_process(tmp_path):
    """As a terminal does, the signal goes to all processes; the workers, which are just starting, say nothing of it."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_START)  # which Python runs when it starts
    process = subprocess.Popen(
        [sys.executable, "-c", STARTING],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell starts what runs in the background without Ctrl-C, and so would these tests' children be.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == "started\n"
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    time.sleep(0.3)  # until they are far enough to run Python
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert errors.count("Traceback") == 1 and errors.endswith("KeyboardInterrupt\n")
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
