"""Images come from files or from a split, in order, with their truth where it is known."""

import json

import numpy as np
import pytest
from PIL import Image

from srn_tf.data.datasets import open_dataset
from srn_tf.data.scene_drawing import LABELS
from srn_tf.errors import InputError
from srn_tf.runs.work_dir import WorkDir
from srn_tf.visualization import sources


@pytest.fixture
def run(tmp_path):
    """A work folder with what says which data a run has."""
    (tmp_path / "RUN").mkdir()
    description = {"format": 3, "dataset": "scenes", "validation_fraction": 0.1, "labels": list(LABELS)}
    description["fingerprint"] = None
    (tmp_path / "RUN" / "run.json").write_text(json.dumps(description))
    return WorkDir(str(tmp_path / "RUN"))


@pytest.mark.parametrize("role", ["validation", "test"])
def test_split_of_a_run(run, tiny_scenes_dir, role):
    source = sources.split_of_run(run, tiny_scenes_dir, role)
    dataset = open_dataset("scenes", tiny_scenes_dir, tiny_scenes_dir)
    records = list(dataset.records(role).as_numpy_iterator())
    assert len(source) == len(records) == 16
    assert source.names == [record["name"].decode() for record in records]
    assert source.title == f"scenes, {role} split" and source.protocol.name == "scenes"
    for (position, image, labels), record in zip(source.read(), records, strict=True):
        assert image == record["image"] and source.names[position] == record["name"].decode()
        np.testing.assert_array_equal(labels, record["labels"])
    assert [position for position, _, _ in source.read({7, 3})] == [3, 7]
    source.check_labels(list(LABELS))
    with pytest.raises(
        InputError, match="scenes must have the same labels in the same order. Expected at position 0: 'x'"
    ):
        source.check_labels(["x", *LABELS[1:]])


def test_a_run_of_other_labels(run, tiny_scenes_dir):
    description = json.loads(open(run.run).read())
    with open(run.run, "w") as file:
        json.dump(description | {"labels": ["x", *LABELS[1:]]}, file)
    with pytest.raises(
        InputError, match="must have the same labels in the same order. Expected at position 0: 'x'. Received: 'disk'"
    ):
        sources.split_of_run(run, tiny_scenes_dir, "test")


def test_split_as_stored(tiny_scenes_dir):
    source = sources.split_as_stored("scenes", tiny_scenes_dir, "train")
    assert len(source) == 64 and source.title == "scenes, train split"
    other = sources.split_as_stored("scenes", tiny_scenes_dir, "test", "12ab")
    assert other.title == f"scenes, test split of {tiny_scenes_dir}, not the data set that the model was trained on"


def test_image_files(tmp_path):
    (tmp_path / "sub").mkdir()
    Image.new("RGB", (4, 3), "red").save(tmp_path / "b.png")
    Image.new("RGBA", (4, 3), (0, 0, 0, 0)).save(tmp_path / "sub" / "a.png")
    source = sources.ImageFiles([str(tmp_path)])
    assert source.names == ["b.png", "sub/a.png"]
    assert len(source) == 2 and source.title == str(tmp_path) and source.protocol is None
    read = list(source.read())
    assert read[0] == (0, (tmp_path / "b.png").read_bytes(), None)
    assert read[1][1] != (tmp_path / "sub" / "a.png").read_bytes()  # made plain: no alpha
    assert [position for position, _, _ in source.read({1})] == [1]
    files = sources.ImageFiles([tmp_path / "b.png", tmp_path / "sub" / "a.png"])
    assert files.names == [str(tmp_path / "b.png"), str(tmp_path / "sub" / "a.png")] and files.title == "2 image files"


def test_image_files_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match="Every image must exist. Received: 2 of 2 missing, the first .*none.jpg"):
        sources.ImageFiles([str(tmp_path / "none.jpg"), str(tmp_path / "other.jpg")])
    with pytest.raises(InputError, match="which has no file that ends in"):
        sources.ImageFiles([str(tmp_path)])
