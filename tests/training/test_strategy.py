"""Two replicas do what one device does."""

import numpy as np
import pytest

from srn_tf.runs import checkpoint
from tests.training import small_runs

pytestmark = pytest.mark.slow  # test_stage_step.py compares the steps themselves


def load(folder, run, file):
    if file == "state":
        return small_runs.newest_state(folder / run)
    return checkpoint.load_arrays(str(folder / run / "checkpoints" / file))


@pytest.mark.parametrize("file", ["att.npz", "sr.npz", "state"])
def test_two_replicas_equal_one_device(two_devices_dir, file):
    """Three steps a stage on the same batches of 8; a state also holds momenta, raw weights and averages."""
    expected, _ = load(two_devices_dir, "one", file)
    received, _ = load(two_devices_dir, "two", file)
    assert list(received) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(received[name], value, rtol=0, atol=1e-5, err_msg=name)


def test_two_replicas_on_features_equal_one_device_on_images(two_devices_dir):
    expected, received = (load(two_devices_dir, run, "state")[0] for run in ("one_images", "two_features"))
    assert list(received) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(received[name], value, rtol=0, atol=1e-5, err_msg=name)


def test_the_comparison_can_fail(two_devices_dir):
    """Momenta are far above the tolerance, so a gradient or a decay counted twice would show."""
    arrays, meta = load(two_devices_dir, "two", "state")
    assert meta["total_steps"] == 3
    momenta = [value for name, value in arrays.items() if "optimizer/" in name and value.ndim >= 2]
    assert momenta and all(np.abs(value).max() > 1e-3 for value in momenta)


def test_a_run_on_two_replicas_continues_as_if_it_had_not_stopped(two_devices_dir):
    """Moving BatchNorm statistics are the replicas' mean after every step: equal up to rounding."""
    expected, expected_meta = load(two_devices_dir, "whole", "state")
    received, meta = load(two_devices_dir, "continued", "state")
    for key in ("stage_index", "epoch", "total_steps", "best_epoch"):
        assert meta[key] == expected_meta[key]
    assert int(received["step/average_updates"]) == int(expected["step/average_updates"]) == 6
    assert meta["schedule"]["best_loss"] == pytest.approx(expected_meta["schedule"]["best_loss"], rel=1e-5)
    for name, value in expected.items():
        np.testing.assert_allclose(received[name], value, rtol=0, atol=1e-5, err_msg=name)


def test_two_replicas_average_the_weights_of_one_device(two_devices_dir):
    """The averages moved with the trained weights, and lag behind them alike on one device and on two."""
    one, two = (load(two_devices_dir, run, "state")[0] for run in ("one", "two"))
    assert int(one["step/average_updates"]) == int(two["step/average_updates"]) == 3
    averages = [name for name in one if name.startswith("step/average/")]
    assert averages and all(name.startswith("step/average/f_sr/") for name in averages)
    for name in averages:
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-5)
        assert np.abs(two[name] - two[name.replace("step/average", "model")]).max() > 1e-6, name
