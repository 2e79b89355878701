"""What several folders of tests share."""

import os

import pytest

from tests import deprecations

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the tools do


@pytest.fixture(scope="session")
def tiny_scenes_dir(tmp_path_factory):
    """Folder of the data set scenes, prepared with 64 training, 16 validation and 16 test images."""
    from srn_tf.data import scenes
    from srn_tf.data.datasets import open_dataset

    folder = str(tmp_path_factory.mktemp("tiny_scenes"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "SPLIT_SIZES", {"train": 64, "validation": 16, "test": 16})
        open_dataset("scenes", folder, folder)
    return folder


def pytest_runtest_setup():
    deprecations.make_errors()
