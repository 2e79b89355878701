"""Two replicas do what one device does."""

import numpy as np
import pytest

from srn_tf.training import checkpoint


def load(folder, run, file):
    return checkpoint.load_arrays(str(folder / run / "checkpoints" / file))


@pytest.mark.parametrize("file", ["att.npz", "sr.npz", "last.npz"])
def test_two_replicas_equal_one_device(two_devices_dir, file):
    """Three steps a stage on the same batches of 8; last.npz also holds momenta, raw weights and averages."""
    expected, _ = load(two_devices_dir, "one", file)
    received, _ = load(two_devices_dir, "two", file)
    assert list(received) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(received[name], value, rtol=0, atol=1e-5, err_msg=name)


def test_the_comparison_can_fail(two_devices_dir):
    """Momenta are far above the tolerance, so a gradient or a decay counted twice would show."""
    arrays, meta = load(two_devices_dir, "two", "last.npz")
    assert meta["total_steps"] == 3
    momenta = [value for name, value in arrays.items() if name.startswith("optimizer/") and value.ndim >= 2]
    assert momenta and all(np.abs(value).max() > 1e-3 for value in momenta)


def test_a_run_on_two_replicas_continues_as_if_it_had_not_stopped(two_devices_dir):
    """Moving BatchNorm statistics are each replica's own and are saved as their mean: equal up to rounding."""
    expected, expected_meta = load(two_devices_dir, "whole", "last.npz")
    received, meta = load(two_devices_dir, "continued", "last.npz")
    for key in ("stage_index", "epoch", "total_steps", "is_over"):
        assert meta[key] == expected_meta[key]
    assert int(received["average_updates"]) == int(expected["average_updates"]) == 6
    assert meta["schedule"]["best_loss"] == pytest.approx(expected_meta["schedule"]["best_loss"], rel=1e-5)
    for name, value in expected.items():
        np.testing.assert_allclose(received[name], value, rtol=0, atol=1e-5, err_msg=name)


def test_two_replicas_average_the_weights_of_one_device(two_devices_dir):
    """The averages moved with the trained weights, and lag behind them alike on one device and on two."""
    one, two = (load(two_devices_dir, run, "last.npz")[0] for run in ("one", "two"))
    assert int(one["average_updates"]) == int(two["average_updates"]) == 3
    weights = [name for name in one if name.startswith("model/")]
    for index, name in enumerate(weights):
        average = two[f"average/{index}"]
        np.testing.assert_allclose(average, one[f"average/{index}"], rtol=0, atol=1e-5)
        is_trained = name.startswith("model/f_sr/")
        assert (np.abs(average - two[name]).max() > 1e-6) == is_trained, name
