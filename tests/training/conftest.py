"""Fixtures of the tests of training."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training import small_runs


@pytest.fixture(scope="session")
def two_devices_dir(tiny_scenes_dir, tmp_path_factory):
    """What `two_devices` leaves."""
    folder = tmp_path_factory.mktemp("two_devices")
    command = [sys.executable, "-m", "tests.training.two_devices", tiny_scenes_dir, folder]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def dataset(tiny_scenes_dir):
    return small_runs.open_tiny_scenes(tiny_scenes_dir)


@pytest.fixture(scope="session")
def whole_run(dataset, made_once):
    """Folder and final weights of a run that was not stopped."""
    path = made_once("whole_run", lambda folder: small_runs.train(folder, dataset, **small_runs.WHOLE))
    return path, small_runs.arrays_of(path, "end.npz")
