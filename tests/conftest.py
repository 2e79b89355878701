"""What several folders of tests share."""

import fcntl
import gc
import os
import shutil
import sys

import pytest

from tests import deprecations

gc.disable()  # until all is imported: a fifth of that time goes into looking for garbage where there is none
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the tools do


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """A function (name, make) -> folder of that name, filled by make(folder) in the first test process that asks."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # what the processes of a session share

    def get(name, make):
        folder, done = base / name, base / f"{name}.done"
        with open(base / f"{name}.lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # let go of when closed
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return get


@pytest.fixture(scope="session")
def tiny_scenes_dir(made_once):
    """Folder of the data set scenes, prepared with 64 training, 16 validation and 16 test images."""
    from srn_tf.data import scenes
    from srn_tf.data.datasets import open_dataset

    def make(folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scenes, "SPLIT_SIZES", {"train": 64, "validation": 16, "test": 16})
            open_dataset("scenes", str(folder), str(folder))

    return str(made_once("tiny_scenes", make))


# The files of tests that take longest: begun first, so that at the end no process waits for another's.
LONGEST = (
    "tests/test_run.py",
    "tests/training/test_trainer.py",
    "tests/data/test_pipeline.py",
    "tests/training/test_resume.py",
    "tests/serving/test_export.py",
    "tests/models/test_methods.py",
    "tests/serving/test_predictor.py",
    "tests/models/test_srn.py",
    "tests/runs/test_checkpoint.py",
    "tests/training/test_stage_step.py",
    "tests/training/test_steps.py",
)


def pytest_collection_modifyitems(items):
    places = {file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.split("::")[0], len(LONGEST)))


def pytest_collection_finish():
    gc.freeze()  # what is imported stays
    gc.enable()
    gc.set_threshold(100_000, 20, 100)  # a hundred times as rare: a tenth of the tests' time


def pytest_runtest_setup():
    deprecations.make_errors()
    if "keras" in sys.modules:
        _seed(sys.modules["keras"], sys.modules["tensorflow"])


def _seed(keras, tensorflow):
    """Seeds what first weights are drawn from, else a test's would be others each time.

    TensorFlow's own seed, which nothing here draws from, stays: to set it is to compile every function again.
    """
    with pytest.MonkeyPatch.context() as patch:
        for random in (tensorflow.random, tensorflow.compat.v2.random):
            patch.setattr(random, "set_seed", lambda seed: None)
        keras.utils.set_random_seed(0)
