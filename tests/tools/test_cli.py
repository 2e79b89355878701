"""What every command line shares."""

import os
import signal
import subprocess
import sys

import pytest

from tests.tools.running import ROOT


def test_a_reader_that_has_enough_is_no_failure_to_report():
    command = [sys.executable, str(ROOT / "tools" / "compare.py"), "--help"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()  # before anything is written
    assert process.stderr.read() == ""
    assert process.wait() == 141


# A tool whose main does one thing and says so; "clear" is what it does when it ends before its end.
TOOL = """
import signal, sys, time
from srn_tf.commands import cli
from srn_tf.training.interruption import Interruption, Stopped

def work():
    for _ in range(600):  # one long sleep would miss a signal that comes just before it begins
        time.sleep(0.1)

def wait(_):
    try:
        print("at work", flush=True)
        work()
    finally:
        time.sleep(0.2)
        print("cleared", flush=True)

def train(_):
    with Interruption() as interruption:
        print("at work", flush=True)
        while interruption.signal is None:
            time.sleep(0.01)
        raise Stopped(interruption.signal, "Stopped in stage att:\\nall is saved.")

def finish(_):
    with Interruption() as interruption:
        print("at work", flush=True)
        while interruption.signal is None:
            time.sleep(0.01)
    work()  # what comes after training

class Dying:
    def __del__(self):
        print("at work", flush=True)
        time.sleep(1)

def drop(_):
    Dying()
    print("dropped", flush=True)
    work()

def stop_with_another_worker(_):
    print("at work", flush=True)
    raise Stopped(None, "Stopped by another worker.")

def fail(_):
    print("at work", flush=True)
    import tensorflow
    raise tensorflow.errors.DataLossError(None, None, "corrupted record at 7")

cli.run(globals()[sys.argv.pop(1)], "")
"""


def run_until(*signals, main):
    """The status, stdout and stderr of a tool that gets signals while it is at work."""
    process = subprocess.Popen(
        [sys.executable, "-c", TOOL, main],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Tests that run in the background of a shell would pass on that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout.readline() == "at work\n"
        for number in signals:
            process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    return process.returncode, stdout, stderr


BOTH_SIGNALS = [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]


def test_sigterm_lets_main_clear_away_and_is_one_line():
    expected = (143, "cleared\n", "Stopped by SIGTERM: what was not finished is not kept.\n")
    assert run_until(signal.SIGTERM, main="wait") == expected


def test_another_sigterm_disturbs_no_clearing_away():
    assert run_until(*[signal.SIGTERM] * 3, main="wait")[:2] == (143, "cleared\n")


def test_ctrl_c():
    assert run_until(signal.SIGINT, main="wait") == (130, "cleared\n", "error: Interrupted.\n")


@pytest.mark.parametrize("number, status", BOTH_SIGNALS)
def test_a_signal_is_not_lost_where_python_drops_exceptions(number, status):
    """TensorFlow's functions have a __del__, in which a signal once met an export, and was gone."""
    returned, stdout, stderr = run_until(number, main="drop")
    assert (returned, stdout) == (status, "dropped\n") and len(stderr.splitlines()) == 1


@pytest.mark.parametrize("number, status", BOTH_SIGNALS)
def test_a_training_that_stopped_says_so_and_with_its_status(number, status):
    assert run_until(number, main="train") == (status, "", "Stopped in stage att: all is saved.\n")


@pytest.mark.parametrize("number, status", BOTH_SIGNALS)
def test_a_signal_of_trainings_last_moment_is_not_lost(number, status):
    assert run_until(number, main="finish")[0] == status


@pytest.mark.slow
def test_what_fails_in_tensorflow_is_explained_in_every_tool():
    status, stdout, stderr = run_until(main="fail")
    assert (status, stdout) == (1, "") and len(stderr.splitlines()) == 1
    assert stderr.startswith("error: The prepared data set is damaged.") and "corrupted record at 7" in stderr


def test_a_training_that_another_worker_stopped():
    assert run_until(main="stop_with_another_worker") == (143, "", "Stopped by another worker.\n")


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_worker_processes_end_quietly(start, tmp_path):
    """SIGTERM reaches them too, where a whole process group gets it."""
    file = tmp_path / "tool.py"
    file.write_text(WORKERS)
    command = [sys.executable, file, start, str(ROOT)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, **pipes) as process:
        assert process.stdout.readline() == "at work\n"
        os.killpg(process.pid, signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 143
    assert stderr == "Stopped by SIGTERM: what was not finished is not kept.\n"


def test_a_path_that_is_not_there_is_said_from_where_before_tensorflow_is_loaded(tmp_path):
    """With a module named tensorflow that cannot be imported."""
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow was loaded')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    common = ["--data_dir=nowhere", f"--work_dir={tmp_path}"]
    for tool, flag, *arguments in (
        ("train", "data_dir", "--flagfile=configs/own_photos.flags", *common),
        ("prepare_data", "csv", "--dataset=csv", f"--source_dir={tmp_path}", "--csv=nowhere", f"--data_dir={tmp_path}"),
        ("prepare_data", "source_dir", "--dataset=csv", "--source_dir=nowhere", f"--data_dir={tmp_path}"),
    ):
        command = [sys.executable, f"tools/{tool}.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 1 and done.stderr == (
            f"error: --{flag} must be a path that exists. Received: nowhere, not found from {ROOT}. Correct it.\n"
        )


WORKERS = """
import multiprocessing, sys, time

def work():
    for _ in range(600):  # one long sleep would miss a signal that comes just before it begins
        time.sleep(0.1)

def wait(connection):
    connection.send("at work")
    work()

def main(_):
    context = multiprocessing.get_context(start)
    mine, yours = context.Pipe()
    worker = context.Process(target=wait, args=(yours,))
    worker.start()
    print(mine.recv(), flush=True)
    try:
        work()
    finally:
        worker.join()

if __name__ == "__main__":
    start = sys.argv.pop(1)
    sys.path.insert(0, sys.argv.pop(1))
    from srn_tf.commands import cli
    cli.run(main, "")
"""
