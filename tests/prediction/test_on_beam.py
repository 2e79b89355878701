"""Prediction on Apache Beam gives the rows of this machine. Here Beam runs in this process."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from srn_tf.beam import pipeline_settings
from srn_tf.errors import InputError
from srn_tf.prediction import on_beam
from srn_tf.prediction.on_beam import predict_on_beam
from srn_tf.prediction.predict import Summary, predict_files
from tests.prediction.pictures import DAMAGED, ColourPredictor, damage, read_csv, write_pictures


@pytest.fixture(autouse=True)
def colours(monkeypatch):
    monkeypatch.setattr(on_beam, "open_predictor", lambda model: ColourPredictor() if model == "colours" else None)


def predict_here_and_there(paths, folder, name, **options):
    """Predicts on this machine and on Beam; returns the Summary of both and the files of each."""
    (folder / "beam").mkdir()
    here = folder / name
    summary = predict_files(ColourPredictor(), paths, str(here), **options)
    settings = pipeline_settings("DirectRunner")
    on_it = predict_on_beam({"model": "colours"}, paths, str(folder / "beam" / name), settings, **options)
    assert on_it == summary
    shards = sorted((folder / "beam").iterdir())
    prefix, suffix = os.path.splitext(name)
    assert [shard.name for shard in shards] == [
        f"{prefix}-{i:05d}-of-{len(shards):05d}{suffix}" for i in range(len(shards))
    ]
    return summary, here, shards


@pytest.fixture
def pictures(tmp_path):
    """70 paths, of which some are damaged, in all kinds, and one is odd."""
    paths = write_pictures(tmp_path / "images", 70)
    for path, kind in zip(paths[::9], DAMAGED):
        damage(Path(path), kind)
    return [*paths, os.fsdecode(b"odd\nname \xff.jpg")]


def test_csv(pictures, tmp_path):
    summary, here, shards = predict_here_and_there(pictures, tmp_path, "P.csv", batch_size=8)
    assert summary == Summary(71, len(DAMAGED) + 1)
    header, *rows = read_csv(here)
    there = [read_csv(shard) for shard in shards]
    assert all(shard[0] == header for shard in there)
    assert sorted(row for shard in there for row in shard[1:]) == sorted(rows)


@pytest.mark.slow
def test_json_lines(pictures, tmp_path):
    _, here, shards = predict_here_and_there(pictures, tmp_path, "P.jsonl", write="top_k", top_k=2)
    there = [line for shard in shards for line in shard.read_bytes().splitlines()]
    assert sorted(there) == sorted(here.read_bytes().splitlines())
    assert {"label_2", "error"} <= {name for line in there for name in json.loads(line.decode("utf-8", "replace"))}


@pytest.mark.slow
def test_parquet(pictures, tmp_path):
    _, here, shards = predict_here_and_there(pictures, tmp_path, "P.parquet", write="labels")
    there = pa.concat_tables(pq.read_table(shard) for shard in shards)
    assert there.schema.equals(pq.read_schema(here))
    assert there.sort_by("path").equals(pq.read_table(here).sort_by("path").combine_chunks())


def test_batches_are_full(pictures, tmp_path, monkeypatch):
    predictor = ColourPredictor()
    monkeypatch.setattr(on_beam, "open_predictor", lambda model: predictor)
    settings = pipeline_settings("DirectRunner")
    predict_on_beam({"model": ""}, pictures[1:9] * 4, str(tmp_path / "P.csv"), settings, batch_size=8)
    assert predictor.asked == [8] * 4


def refused(tmp_path, paths, name="P.csv", model="colours", **options):
    with pytest.raises(InputError) as error:
        settings = pipeline_settings("DirectRunner")
        predict_on_beam({"model": model}, paths, str(tmp_path / name), settings, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_files_of_two_predictions_are_not_mixed(pictures, tmp_path):
    (tmp_path / "P-00000-of-00002.csv").touch()
    (tmp_path / "Q-00000-of-00002.csv").touch()
    assert f"must not exist yet. Received: {tmp_path}/P.csv, whose files" in refused(tmp_path, pictures)
    assert not list(tmp_path.glob("*.list"))


def test_refused_before_any_work(pictures, tmp_path):
    (tmp_path / "file").touch()
    assert "output must be writable" in refused(tmp_path, pictures, "file/P.csv")
    assert "must end in .csv" in refused(tmp_path, pictures, "P.txt")
    assert "top_k must be 1 to 3" in refused(tmp_path, pictures, write="top_k", top_k=4)
    assert sorted(os.listdir(tmp_path)) == ["file", "images"]


def test_no_image_that_can_be_used(tmp_path):
    message = refused(tmp_path, ["a.jpg", "b.jpg"])
    assert f"Received: 2 unreadable images. The reasons are in {tmp_path}/P-*-of-*.csv." in message
    (shard,) = tmp_path.iterdir()
    assert len(read_csv(shard)) == 3


def test_worker_that_cannot_answer(pictures, tmp_path, monkeypatch):
    def gone(call):
        raise InputError("A server must answer. Received: silence.")

    monkeypatch.setattr(on_beam, "open_predictor", lambda model: ColourPredictor(gone))
    message = refused(tmp_path, pictures)
    assert message.startswith("Beam runner ") and "could not predict. Received: A server must answer." in message
    assert not list(tmp_path.glob("P*"))
