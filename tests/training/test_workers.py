"""Two workers, two processes of one cluster, do what one process does; one that is killed ends the other."""

import json
import os
import signal
import time

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.runs import checkpoint
from tests.training import small_runs, two_workers

pytestmark = pytest.mark.slow

ROLES = ("chief", "worker")


@pytest.fixture(scope="module")
def alone(tiny_scenes_dir, tmp_path_factory):
    """(work folder, results) of one process."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(two_workers.Trainer, "_validate", small_runs.never_better)  # and back again
        return folder, two_workers.evaluate_and_train(
            tf.distribute.MirroredStrategy(["/cpu:0"]), tiny_scenes_dir, str(folder)
        )


@pytest.fixture(scope="module")
def together(tiny_scenes_dir, tmp_path_factory):
    """(work folder, [what each worker left])."""
    folder = tmp_path_factory.mktemp("together")
    command = ("-m", "tests.training.two_workers", tiny_scenes_dir, str(folder))
    with two_workers.cluster(("worker", "worker"), *command) as processes:
        for process in processes:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
    return folder, [dict(np.load(folder / f"worker-{index}.npz")) for index in (0, 1)]


def test_each_worker_knows_its_place(together):
    facts = [json.loads(str(worker["facts"])) for worker in together[1]]
    assert [entry["share"] for entry in facts] == [[0, 2], [1, 2]]
    assert [entry["is_chief"] for entry in facts] == [True, False]
    assert [entry["num_local_replicas"] for entry in facts] == [1, 1]
    # Flags of the two: neither, the second, the first, both.
    assert [entry["votes"] for entry in facts] == [[False, True, True, True]] * 2


@pytest.mark.parametrize("file", ["checkpoints/att.npz", "checkpoints/sr.npz", "frozen/checkpoints/att.npz"])
def test_two_workers_learn_what_one_process_learns(alone, together, file):
    """Three steps a stage on the same batches of 8, half of each on either worker."""
    expected, _ = checkpoint.load_arrays(str(alone[0] / file))
    received, _ = checkpoint.load_arrays(str(together[0] / file))
    assert list(received) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(received[name], value, rtol=0, atol=1e-5, err_msg=name)


def test_the_state_of_two_workers_is_that_of_one_process(alone, together):
    """Momenta, averages and raw weights; momenta are far above the tolerance, so that the comparison can fail."""
    expected, meta = small_runs.newest_state(alone[0])
    received, received_meta = small_runs.newest_state(together[0])
    assert received_meta["stage_index"] == meta["stage_index"] == 1
    assert list(received) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(received[name], value, rtol=0, atol=1e-5, err_msg=name)
    momenta = [value for name, value in expected.items() if "optimizer/" in name and value.ndim >= 2]
    assert momenta and all(np.abs(value).max() > 1e-3 for value in momenta)


def test_every_worker_has_the_evaluation_of_all_images(alone, together):
    """With the weights that all of them began with; of the last batch worker 0 has 3 images, worker 1 one."""
    expected = alone[1]
    for worker in together[1]:
        np.testing.assert_array_equal(worker["labels"], expected["labels"])
        for name in ("y_hat", "y_cls", "y_att", "y_sr"):
            assert worker[name].shape == (16, 16)
            np.testing.assert_allclose(worker[name], expected[name], rtol=1e-5, atol=1e-5, err_msg=name)
        assert json.loads(str(worker["pointing"])) == json.loads(expected["pointing"])


def train_command(data_dir, work_dir):
    return (
        "tools/train.py",
        "--dataset=scenes",
        "--backbone=small",
        "--backbone_weights=none",
        "--image_size=56",
        "--head_channels=8",
        "--srn_head=paper",
        "--stages=att,sr",
        "--epochs=2",
        "--batch_size=8",
        "--checkpoint_every_s=0",
        f"--data_dir={data_dir}",
        f"--work_dir={work_dir}",
    )


@pytest.fixture(scope="module")
def whole(tiny_scenes_dir, tmp_path_factory):
    """Work folder of two workers that nobody killed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with two_workers.cluster(ROLES, *train_command(tiny_scenes_dir, folder)) as processes:
        outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    return folder


@pytest.mark.parametrize("victim", [0, 1], ids=ROLES)
def test_a_killed_worker_ends_the_other_and_both_continue(whole, tiny_scenes_dir, tmp_path, victim):
    command = train_command(tiny_scenes_dir, tmp_path / "run")
    states = tmp_path / "run" / "checkpoints" / "state"
    with two_workers.cluster(ROLES, *command) as processes:
        wait_until(lambda: states.is_dir() and len(os.listdir(states)) > 1, processes)
        processes[victim].send_signal(signal.SIGKILL)
        killed_s = time.monotonic()
        _, errors = processes[1 - victim].communicate(timeout=120)
        assert processes[1 - victim].returncode == 1, errors
        assert time.monotonic() - killed_s < 60
    messages = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(messages) == 1 and "another worker stopped" in messages[0] and "same command" in messages[0], errors
    assert "Traceback" not in errors and not (tmp_path / "run" / "metrics.json").exists()
    with two_workers.cluster(ROLES, *command) as processes:
        outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert all("Continuing in stage att" in output for output, _ in outputs)
    for file in ("att.npz", "final.npz"):
        expected, _ = checkpoint.load_arrays(str(whole / "checkpoints" / file))
        received, _ = checkpoint.load_arrays(str(tmp_path / "run" / "checkpoints" / file))
        for name, value in expected.items():
            np.testing.assert_allclose(received[name], value, rtol=0, atol=1e-5, err_msg=name)
    assert (tmp_path / "run" / "export" / "1" / "saved_model.pb").is_file()


def wait_until(is_so, processes):
    for _ in range(1200):
        if is_so():
            return
        assert all(process.poll() is None for process in processes), [process.communicate() for process in processes]
        time.sleep(0.1)
    raise AssertionError("two minutes and nothing to see")
