"""A machine that Google Cloud takes away, as its metadata server tells TensorFlow's handler."""

import contextlib
import http.server
import threading
import time

import pytest
import tensorflow as tf
from tensorflow.python.distribute.failure_handling import failure_handling_util

from srn_tf.training import preemption, trainer
from srn_tf.training.interruption import Stopped
from srn_tf.training.preemption import PreemptionNotice
from tests.training import small, small_runs
from tests.training.test_resume import assert_equal_runs


@contextlib.contextmanager
def metadata_server(answers):
    """A server with these values of computeMetadata/v1/instance; yields its host:port, what is asked of it, and an
    event: that it has told of the end.
    """
    asked, told = [], threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.removeprefix("/computeMetadata/v1/instance/")
            asked.append(name)
            is_known = name in answers and self.headers["Metadata-Flavor"] == "Google"
            self.send_response(200 if is_known else 403)
            self.end_headers()
            self.wfile.write(answers.get(name, "").encode())
            if answers.get(name) == "TERMINATE_ON_HOST_MAINTENANCE":
                told.set()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}", asked, told
        server.shutdown()


@pytest.fixture
def machine_with_gpu(monkeypatch):
    """What TensorFlow and this package see on such a machine; its time of grace is over at once."""
    monkeypatch.setattr(preemption.tf.config, "list_logical_devices", lambda kind: [kind])
    platform = failure_handling_util.PlatformDevice.GCE_GPU
    monkeypatch.setattr(failure_handling_util, "detect_platform", lambda: platform)
    monkeypatch.setattr(failure_handling_util, "GRACE_PERIOD_GCE", 0)


@pytest.mark.slow
def test_a_machine_that_is_taken_away(machine_with_gpu, whole_run, dataset, tmp_path, monkeypatch):
    answers = {"hostname": "here", "maintenance-event": "NONE"}

    class Bar(trainer.tqdm):
        """The notice comes at step 2, and is heard within a second."""

        steps = 0

        def update(self, n=1):
            super().update(n)
            self.steps += 1
            if self.steps == 2:
                answers["maintenance-event"] = "TERMINATE_ON_HOST_MAINTENANCE"
                assert told.wait(10)
                time.sleep(0.3)  # until the answer has been read

    with metadata_server(answers) as (host, _, told):
        monkeypatch.setenv("GCE_METADATA_IP", host)
        with monkeypatch.context() as patch, pytest.raises(Stopped) as stopped:
            patch.setattr(trainer, "tqdm", Bar)
            small_runs.train(tmp_path, dataset, **small_runs.WHOLE)
        assert stopped.value.signal is None
        assert "Stopped by a preemption notice of the platform in stage begin" in str(stopped.value)
        _, meta = small_runs.newest_state(tmp_path)
        assert (meta["stage_index"], meta["epoch"], meta["steps"]) == (0, 0, 3)  # one more, on which workers agree
        answers["maintenance-event"] = "NONE"  # on the machine after
        received = small_runs.train(tmp_path, dataset, starts_elsewhere=True, **small_runs.WHOLE)
    small.assert_bit_equal(received, whole_run[1])
    assert_equal_runs(tmp_path, whole_run[0])


def test_other_machines_are_not_watched(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise AssertionError("asked")

    with metadata_server({}) as (host, asked, _):
        monkeypatch.setenv("GCE_METADATA_IP", host)
        assert not PreemptionNotice(tf.distribute.get_strategy(), str(tmp_path), refuse).save_if_due()
        assert asked == []  # one without GPUs
        monkeypatch.setattr(preemption.tf.config, "list_logical_devices", lambda kind: [kind])
        assert not PreemptionNotice(tf.distribute.get_strategy(), str(tmp_path), refuse).save_if_due()
        assert asked == ["hostname"]  # which is no metadata server
    assert not PreemptionNotice(tf.distribute.get_strategy(), str(tmp_path), refuse).save_if_due()
