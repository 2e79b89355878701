"""Preparing on Apache Beam gives what preparing on this machine gives. Here Beam runs in this process."""

import subprocess
import sys
from pathlib import Path

import apache_beam
import pytest
import tensorflow_datasets as tfds

from srn_tf.data import examples, shards
from srn_tf.data.builder import Settings
from srn_tf.data.prepare import prepare
from srn_tf.errors import InputError
from tests.data.folder_of_images import (
    FolderOfImages,
    assert_same_files,
    left_in,
    read_names,
    write_image,
    write_source,
)

ROOT = Path(__file__).parents[2]
RUNNER = "DirectRunner"


def prepared_on_beam(data_dir, source, runner=RUNNER, beam_options=(), **settings):
    builder = FolderOfImages(data_dir=data_dir, source_dir=source, options={}, settings=Settings(**settings))
    prepare(builder, runner, beam_options)
    return builder


def message_of(*arguments, **options):
    """Prepares, which fails, and returns the message, which is one line."""
    with pytest.raises(InputError) as error:
        prepared_on_beam(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def both_ways(tmp_path_factory):
    """13 shards of train, of 2 images but for the last, and 2 of test, prepared on this machine and on Beam.

    In each of the shards 3, 7 and 12, counted from 0, an image is damaged, which leaves none in the last.
    """
    folder = tmp_path_factory.mktemp("beam")
    source = write_source(
        folder / "source", [f"red_{i}.png" for i in range(25)], [f"blue_{i}.png" for i in range(30, 33)]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_SHARD_PHOTOS", 2)
        builder = FolderOfImages(data_dir=folder, source_dir=source, options={})
        plan = shards.plan_shards("train", builder.source.splits["train"], source, 0)
        for index in (3, 7, 12):
            (source / plan[index][0].path).write_bytes(b"no image at all")
        settings = Settings(processes=1, max_rejected=0.2)
        here = FolderOfImages(data_dir=folder / "here", source_dir=source, options={}, settings=settings)
        prepare(here)
        on_beam = prepared_on_beam(folder / "beam", source, max_rejected=0.2)
    return here, on_beam


def test_the_files_are_the_same(both_ways):
    here, on_beam = both_ways
    assert_same_files(here.data_path, on_beam.data_path)  # so nothing is left of plans and reports
    assert len(list(on_beam.data_path.glob("*train.tfrecord*"))) == 13


def test_each_shard_has_its_own_length(both_ways):
    """tfds mixes up the lengths of more than ten shards."""
    _, on_beam = both_ways
    expected = [2, 2, 2, 1, 2, 2, 2, 1, 2, 2, 2, 2, 0]
    stored = FolderOfImages(data_dir=on_beam.data_dir_root)
    for builder in (on_beam, stored):
        assert builder.info.splits["train"].shard_lengths == expected
        assert builder.info.splits["test"].shard_lengths == [2, 1]


def test_records_and_slices_are_the_same(both_ways):
    here, on_beam = both_ways
    order = read_names(here, "train")
    assert len(order) == 22
    assert read_names(on_beam, "train") == order
    assert read_names(on_beam, "test") == read_names(here, "test")
    # Slices rely on the lengths: from the fourth shard into the twelfth.
    assert read_names(on_beam, "train[6:19]") == order[6:19]
    record = next(iter(tfds.as_numpy(on_beam.as_dataset(split="test"))))
    assert (record["labels"].tolist(), record["image"].shape) == ([0, 1], (3, 4, 3))


def test_damaged_images_are_listed(both_ways):
    _, on_beam = both_ways
    assert len((on_beam.data_path / "rejected.csv").read_text().splitlines()) == 1 + 3
    audit = examples.stored_metadata(on_beam)["audit"]
    assert audit["splits"]["train"] == {"photos": 25, "images": 22, "unlabelled": 0, "resized": 0, "rejected": 3}


@pytest.fixture
def source(tmp_path):
    return write_source(tmp_path / "source")


@pytest.mark.slow
def test_resized_images_are_the_same(source, tmp_path):
    write_image(source / "train" / "red_9.png", 90)
    arguments = {"source_dir": source, "options": {"store_size": 8}, "settings": Settings(processes=1)}
    here, on_beam = (FolderOfImages(data_dir=tmp_path / name, **arguments) for name in ("here", "beam"))
    prepare(here)
    prepare(on_beam, RUNNER, ())
    assert_same_files(here.data_path, on_beam.data_path)
    shapes = [record["image"].shape for record in tfds.as_numpy(on_beam.as_dataset(split="train"))]
    assert shapes == [(3, 4, 3)] + [(8, 8, 3)] * 3


@pytest.mark.slow
def test_too_many_damaged_images(source, tmp_path):
    (source / "test" / "red_3.png").write_bytes(b"")
    message = message_of(tmp_path / "data", source)
    assert "At most 0.10% of the 5 images of folder_of_images may be damaged" in message
    assert message.endswith(f"Those found so far are listed in {tmp_path}/data/folder_of_images_rejected.csv.")
    assert left_in(tmp_path / "data") == ["folder_of_images_rejected.csv"]


@pytest.mark.slow
def test_equal_images_in_two_splits(source, tmp_path):
    write_image(source / "test" / "copy.png", 0)  # of red_0.png
    message = message_of(tmp_path / "data", source)
    assert "1 images are in two splits (equal pixels), the first: train/red_0.png (train) and test/copy.png" in message
    assert left_in(tmp_path / "data") == ["folder_of_images_equal_images.csv"]


@pytest.mark.parametrize("runner", ["NoRunner", "os.path", "no_module.Runner"])
def test_unknown_runner(source, tmp_path, runner):
    message = message_of(tmp_path / "data", source, runner=runner)
    assert message.startswith("beam_runner must be a Beam runner, such as DirectRunner, FlinkRunner")
    assert f"Received: {runner!r} (" in message
    assert left_in(tmp_path / "data") == []


@pytest.mark.slow
def test_the_tool_says_one_line(source, tmp_path):
    command = [sys.executable, "tools/prepare_data.py", "--dataset=coco2014", "--beam_runner=NoRunner"]
    command += [f"--source_dir={source}", f"--data_dir={tmp_path}/data"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (1, "")
    assert len(process.stderr.splitlines()) == 1 and process.stderr.startswith(
        "error: beam_runner must be a Beam runner"
    )
    assert left_in(tmp_path / "data") == []


def test_bad_beam_options(source, tmp_path, capfd):
    message = message_of(tmp_path / "data", source, beam_options=["--direct_num_workers=many"])
    assert message == (
        "beam_options must be flags of a Beam pipeline. Received: --direct_num_workers=many "
        "(argument --direct_num_workers: invalid int value: 'many')."
    )
    assert "usage" not in capfd.readouterr().err
    assert left_in(tmp_path / "data") == []


class RefusingRunner(apache_beam.runners.PipelineRunner):
    """As one whose service cannot be reached."""

    failure = None

    def run_pipeline(self, pipeline, options):
        raise self.failure


@pytest.mark.parametrize("failure", [RuntimeError("Service\n  not found"), OSError("Service not found")])
def test_a_runner_that_fails(source, tmp_path, monkeypatch, failure):
    monkeypatch.setattr(RefusingRunner, "failure", failure)
    runner = f"{__name__}.RefusingRunner"
    assert message_of(tmp_path / "data", source, runner=runner) == (
        f"Beam runner {runner} could not prepare folder_of_images. Received: Service not found. Check "
        "--beam_runner and --beam_options. All machines must reach the source and the data folder."
    )
    assert left_in(tmp_path / "data") == []


def test_without_beam(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam.options.pipeline_options", None)  # as if it were not installed
    assert message_of(tmp_path / "data", source) == (
        "beam_runner DirectRunner needs Apache Beam. Received: no package apache-beam. "
        "Install it: pip install -r requirements-beam.txt"
    )
    assert left_in(tmp_path / "data") == []
