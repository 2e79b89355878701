"""What several tests of the data sets share."""

import pytest

from srn_tf.data import scenes
from srn_tf.data.prepare import prepare

SMALL_SPLITS = {"train": 12, "validation": 4, "test": 5}


@pytest.fixture(scope="session")
def small_scenes(tmp_path_factory):
    """A prepared builder of "scenes" with the few images of `SMALL_SPLITS`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "SPLIT_SIZES", SMALL_SPLITS)
        builder = scenes.Scenes(data_dir=tmp_path_factory.mktemp("scenes"))
        prepare(builder)
    return builder
