"""tools/describe_data.py: what it writes is what the records say, and every failure is one line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from srn_tf.commands import describe_data
from srn_tf.data import scenes
from srn_tf.data.augmented_sheet import label_texts
from srn_tf.data.datasets import open_prepared
from srn_tf.data.pipeline import read_records
from srn_tf.data.prepare import prepare
from srn_tf.data.scene_drawing import LABELS
from srn_tf.errors import InputError
from tests.tools.running import mostly_slow

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "describe_data.py"
CHARTS = ("labels.png", "labels_per_image.png", "cooccurrence.png", "image_sizes.png")
SIZES = {"train": 64, "validation": 16, "test": 16}


def run_tool(*arguments):
    return subprocess.run([sys.executable, TOOL, *arguments], capture_output=True, text=True, timeout=120)


def read_labels(data_dir, split):
    """int8 (N, C)."""
    records = read_records(open_prepared("scenes", data_dir), split)
    return np.stack([record["labels"] for record in records.as_numpy_iterator()])


@pytest.mark.slow
def test_all_splits_and_the_pipeline(tiny_scenes_dir, tmp_path):
    output = tmp_path / "new" / "out"
    result = run_tool(
        f"--data_dir={tiny_scenes_dir}",
        "--dataset=scenes",
        f"--output_dir={output}",
        *("--pipeline_batches=7", "--image_size=56", "--batch_size=16"),  # 2 + 7 batches: more than two epochs of 4
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-5:] == [str(output / name) for name in ("statistics.json", *CHARTS)]
    assert sorted(path.name for path in output.iterdir()) == sorted(["statistics.json", *CHARTS])

    written = json.loads((output / "statistics.json").read_text())
    assert (written["dataset"], written["protocol"]) == ("scenes", "scenes")
    assert list(written["splits"]) == ["train", "validation", "test", "all"]
    y = {split: read_labels(tiny_scenes_dir, split) for split in SIZES}
    y["all"] = np.concatenate(list(y.values()))
    for split, summary in written["splits"].items():
        assert summary["images"] == len(y[split])
        assert [label["name"] for label in summary["labels"]] == list(LABELS)
        assert [label["positives"] for label in summary["labels"]] == (y[split] == 1).sum(axis=0).tolist()
        assert [label["unspecified"] for label in summary["labels"]] == [0] * len(LABELS)  # 0 is negative here
        assert summary["cooccurrence"] == ((y[split] == 1).T.astype(int) @ (y[split] == 1)).tolist()
        assert summary["width_px"]["histogram"] == {"56": len(y[split])}
        assert summary["boxes"]["images_with_boxes"] > 0
    speed = written["pipeline"].pop("images_per_s")
    assert written["pipeline"] == {"batches": 7, "image_size": 56, "batch_size": 16}
    assert speed > 1 and f"Training batches of 16 at 56 pixels: {speed:.0f} images per second" in result.stdout
    for name in CHARTS:
        with Image.open(output / name) as image:
            assert image.format == "PNG" and min(image.size) >= 300 and max(image.size) <= 2000


@pytest.mark.parametrize(
    ("arguments", "parts"),
    mostly_slow(
        [
            (["--dataset=imagenet"], ["dataset", "imagenet", "scenes", "--help"]),
            (["--split=val"], ["split", "val", "train|validation|test", "--help"]),
            (["--pipeline_batches=-1"], ["pipeline_batches", "-1"]),
            (["scenes"], ["Options must be written as --name=value. Received: 'scenes'"]),
        ],
        fast=1,
    ),
    ids=lambda value: " ".join(value)[:40],
)
def test_bad_command_lines(arguments, parts):
    """Found before TensorFlow is loaded."""
    result = run_tool("--data_dir=D", "--dataset=scenes", "--output_dir=O", *arguments)
    assert result.returncode == 1 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: ")
    for part in parts:
        assert part in result.stderr


@pytest.mark.parametrize("missing", mostly_slow([("data_dir",), ("dataset",), ("output_dir",)], fast=1))
def test_the_places_are_required(missing):
    places = {"data_dir": "D", "dataset": "scenes", "output_dir": "O"}
    result = run_tool(*(f"--{name}={value}" for name, value in places.items() if name != missing))
    assert result.returncode == 1 and missing in result.stderr


# The rest inside this process, which has TensorFlow loaded.


@pytest.fixture(scope="module")
def two_splits_dir(tmp_path_factory):
    """Folder of scenes without a validation split."""
    folder = tmp_path_factory.mktemp("two_splits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "SPLIT_SIZES", {"train": 5, "test": 3})
        prepare(scenes.Scenes(data_dir=folder))
    return folder


@pytest.fixture
def describe(monkeypatch, two_splits_dir, tmp_path):
    """Calls the tool's main with these flags; returns the folder of the results."""

    def call(**changes):
        settings = {
            "data_dir": str(two_splits_dir),
            "dataset": "scenes",
            "output_dir": str(tmp_path / "out"),
            "split": "all",
            "pipeline_batches": 0,
            "augmented": 0,
            "image_size": 56,
            "batch_size": 2,
            **changes,
        }
        monkeypatch.setattr(describe_data, "FLAGS", SimpleNamespace(**settings))
        describe_data.main([])
        return Path(settings["output_dir"])

    return call


def assert_refused(describe, *parts, **changes):
    with pytest.raises(InputError) as error:
        describe(**changes)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.slow
def test_one_split(describe, tmp_path, capsys):
    """Only it is described, and an older result replaced; the default measures nothing."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "statistics.json").write_text("{}")
    written = json.loads((describe(split="test") / "statistics.json").read_text())
    assert list(written) == ["dataset", "protocol", "splits"] and list(written["splits"]) == ["test"]
    assert written["splits"]["test"]["images"] == 3
    assert capsys.readouterr().out.splitlines()[1].split() == ["test"]


def test_a_split_that_is_not_stored(describe, tmp_path):
    assert_refused(
        describe,
        "--split must be one of train, test, all for data set scenes. Received: validation",
        split="validation",
    )
    assert not (tmp_path / "out").exists()


def test_a_data_set_that_is_not_prepared(describe, tmp_path):
    assert_refused(
        describe,
        f"must be prepared in {tmp_path}",
        "tools/prepare_data.py --dataset=coco2014",
        data_dir=str(tmp_path),
        dataset="coco2014",
    )
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_cannot_be_written(describe, tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("file", "file/out"):
        assert_refused(
            describe,
            f"--output_dir must be a writable folder. Received: {tmp_path / place}",
            output_dir=str(tmp_path / place),
        )


@pytest.mark.slow
def test_a_chart_that_cannot_be_written(describe, tmp_path):
    (tmp_path / "out" / "labels.png").mkdir(parents=True)
    assert_refused(describe, f"{tmp_path / 'out' / 'labels.png'} must be a writable file")


def test_more_images_a_batch_than_there_are(describe):
    assert_refused(
        describe,
        "--batch_size must be at most the number of training images, 5. Received: 6",
        pipeline_batches=1,
        batch_size=6,
    )
    assert_refused(describe, "--augmented must be at most the number of training images, 5. Received: 6", augmented=6)


@pytest.mark.slow
def test_images_as_training_sees_them(tiny_scenes_dir, tmp_path):
    output = tmp_path / "out"
    result = run_tool(
        *(f"--data_dir={tiny_scenes_dir}", "--dataset=scenes", f"--output_dir={output}", "--augmented=8"),
        *("--config=configs/scenes.flags", "--augment=resize,splicemix,label_smoothing", "--split=test"),
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == str(output / "augmented.png")
    with Image.open(output / "augmented.png") as image:  # 8 images and 2 spliced ones: three rows of four
        assert image.size == (1019, 921)


def test_labels_are_written_with_their_weights():
    y = np.float32([[0.7, 0.05, 0.95], [0.05, 0.05, 0.05]])
    assert label_texts(y, ["dog", "cat", "sea"]) == ["sea 0.95, dog 0.7", "no label"]
    assert label_texts(np.float32([[0, 1, 1]]), ["dog", "cat", "sea"]) == ["cat, sea"]


@pytest.mark.parametrize("damage", ["removed", "cut", "changed"])
def test_damaged_records(describe, two_splits_dir, tmp_path, damage):
    data_dir = tmp_path / "data"
    shutil.copytree(two_splits_dir, data_dir)
    (shard,) = data_dir.rglob("*test.tfrecord*")
    content = shard.read_bytes()
    if damage == "removed":
        shard.unlink()
    elif damage == "cut":
        shard.write_bytes(content[:-10])
    else:
        shard.write_bytes(content[:200] + bytes([content[200] ^ 255]) + content[201:])
    with pytest.raises(InputError) as error:
        describe(data_dir=str(data_dir))
    message = str(error.value)
    assert str(shard.parent) in message and "prepare the data set again" in message
    assert "function_node" not in message and "[Op:" not in message
