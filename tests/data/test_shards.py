"""Shards: which photographs in which order, and the same records whether made here or elsewhere."""

import json

import pytest
import tensorflow_datasets as tfds
from tqdm import tqdm

from srn_tf.data import shards
from srn_tf.data.photo_records import read_photo
from srn_tf.data.shards import RemoteShard, Shard, plan_shards, watching
from srn_tf.data.source import Example, Photo, SparseLabels
from tests.data.folder_of_images import photo, write_image

# By `printf train<path> | md5sum`: 539c91, 5b85f4, 9b8ebd, bda585, c3458b.
ORDER = ["a.png", "b.png", "sub/e.jpg", "c.png", "d.jpg"]
PHOTOS = [photo(path, [1]) for path in sorted(ORDER)]


def paths(plan):
    return [[photo.path for photo in shard] for shard in plan]


# Planning.


def test_the_order_is_that_of_a_hash(tmp_path):
    assert paths(plan_shards("train", PHOTOS, tmp_path, 0)) == [ORDER]
    assert paths(plan_shards("train", PHOTOS[::-1], tmp_path, 0)) == [ORDER]
    # 087f32, 6d8b53 and 74ecef for testb.png, testc.png and testa.png: another order in another split.
    first = [photo for photo in PHOTOS if photo.path in ("a.png", "b.png", "c.png")]
    assert paths(plan_shards("test", first, tmp_path, 0)) == [["b.png", "c.png", "a.png"]]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(1, [1, 1, 1, 1, 1]), (2, [2, 2, 1]), (4, [4, 1]), (5, [5]), (6, [5])],
)
def test_shards_are_limited_in_number(tmp_path, monkeypatch, limit, expected):
    monkeypatch.setattr(shards, "_SHARD_PHOTOS", limit)
    plan = paths(plan_shards("train", PHOTOS, tmp_path, 0))
    assert [len(shard) for shard in plan] == expected
    assert sum(plan, []) == ORDER


def test_a_plan_keeps_all_of_a_photograph(tmp_path):
    boxes = (((0.0, 0.25, 0.5, 1.0), 2),)
    photos = [
        Photo("a.jpg", (Example("a.jpg", SparseLabels(3, -1, (2,), (0,)), boxes),)),
        Photo("b.jpg", (Example("b.jpg#0", (1, 0, 0), crop=(1, 2, 3, 4)),)),
    ]
    shards.RemoteShard(str(tmp_path), 0, str(tmp_path), "one").write_plan(photos)
    plan = json.loads((tmp_path / "plan.one.json").read_text())
    assert [shards._photo(entry) for entry in plan] == photos


def test_shards_are_limited_in_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_SHARD_BYTES", 100)
    (tmp_path / "sub").mkdir()
    for path, num_bytes in zip(ORDER, (60, 40, 1, 250, 0)):
        (tmp_path / path).write_bytes(bytes(num_bytes))
    # A shard is closed once it is over 100 bytes: after 60 + 40 + 1, and after 250.
    assert paths(plan_shards("train", PHOTOS, str(tmp_path), 0)) == [ORDER[:3], ORDER[3:4], ORDER[4:]]


def test_a_missing_file_weighs_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_SHARD_BYTES", 100)
    assert paths(plan_shards("train", PHOTOS, tmp_path, 0)) == [ORDER]


def test_resized_images_are_estimated_by_their_pixels(tmp_path, monkeypatch):
    for path in ("a.png", "b.png", "c.png"):  # whatever their files weigh
        (tmp_path / path).write_bytes(bytes(1000))
    # 0.6 bytes for each of 10 x 10 pixels: 60 bytes an image. The photograph of three crops weighs 180.
    monkeypatch.setattr(shards, "_SHARD_BYTES", 100)
    crops = tuple(Example(f"a.png#{i}", (1,), crop=(0, 0, 1, 1)) for i in range(3))
    photos = [Photo("a.png", crops), *PHOTOS[1:]]
    assert [len(shard) for shard in plan_shards("train", photos, str(tmp_path), 10)] == [1, 2, 2]


def test_crops_are_estimated_by_their_own_pixels(tmp_path, monkeypatch):
    # Stored as PNG, 2 bytes a pixel: crops of 4 x 5 and 3 x 5 pixels are 70 bytes; the file weighs nothing.
    monkeypatch.setattr(shards, "_SHARD_BYTES", 100)
    crops = (Example("#0", (1,), crop=(0, 0, 4, 5)), Example("#1", (1,), crop=(9, 9, 3.0, 5.0)))
    photos = [Photo(path, crops) for path in ORDER]
    assert [len(shard) for shard in plan_shards("train", photos, str(tmp_path), 0)] == [2, 2, 1]


# Making.

LABELLED = (
    Photo(
        "a.png",
        (
            Example("a.png#0", (1, 0), (((0.0, 0.25, 0.5, 1.0), 1), ((0.0, 0.0, 1.0, 1.0), 0))),
            Example("a.png#1", (0, 1), crop=(1, 0, 2.5, 2)),
            Example("a.png#2", (0, 1), crop=(4, 0, 1, 1)),  # beside the image
        ),
    ),
    Photo("b.png", (Example("b.png", (-1, 0)),)),
    Photo("missing.png", (Example("missing.png", (0, 0)),)),
)


@pytest.fixture
def source_dir(tmp_path):
    for value, name in enumerate(("a.png", "b.png")):
        write_image(tmp_path / "source" / name, value)
    return str(tmp_path / "source")


def same_records(records, others):
    """Whether pairs (name, record) are equal; arrays do not compare by themselves."""

    def plain(pairs):
        return [(name, {**record, "labels": record["labels"].tolist()}) for name, record in pairs]

    return plain(records) == plain(others)


def test_a_shard_yields_records_and_tells_reports(source_dir):
    told = []
    records = list(Shard(source_dir, 0, LABELLED, told.append)())
    assert [name for name, _ in records] == ["a.png#0", "a.png#1", "b.png"]
    assert told == [read_photo(source_dir, photo, 0)[0] for photo in LABELLED]
    assert [report["images"] for report in told] == [2, 1, 0]
    first = records[0][1]
    assert (first["labels"].dtype, first["labels"].tolist()) == ("int8", [1, 0])
    assert first["objects"] == [
        {"bbox": tfds.features.BBox(0.0, 0.25, 0.5, 1.0), "label": 1},
        {"bbox": tfds.features.BBox(0.0, 0.0, 1.0, 1.0), "label": 0},
    ]


def test_a_report_comes_before_the_records_of_its_photo(source_dir):
    """So that a preparation which must stop does so before it writes more."""
    told = []
    for name, _ in Shard(source_dir, 0, LABELLED, told.append)():
        assert told[-1]["path"] == name.split("#")[0]


@pytest.mark.parametrize("store_size", [0, 16])
def test_a_remote_shard_equals_a_shard(source_dir, tmp_path, store_size):
    told = []
    expected = list(Shard(source_dir, store_size, LABELLED, told.append)())
    shard = RemoteShard(source_dir, store_size, str(tmp_path), "train-00000")
    shard.write_plan(LABELLED)
    assert not shard.is_done()
    assert same_records(shard(), expected)
    assert shard.is_done()
    assert same_records(shard(), expected)  # Beam may run it again.
    assert shard.take_reports() == told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_a_plan_restores_the_photos(source_dir, tmp_path):
    shard = RemoteShard(source_dir, 0, str(tmp_path), "train-00000")
    shard.write_plan(LABELLED)
    (path,) = tmp_path.glob("plan*")
    assert tuple(map(shards._photo, json.loads(path.read_text()))) == LABELLED


def test_watching_follows_the_shards_that_are_done(source_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_POLL_S", 0.001)
    made = [RemoteShard(source_dir, 0, str(tmp_path), name) for name in ("train-00000", "train-00001")]
    with tqdm(total=10, disable=True) as bar:
        bar.n = 3  # of an earlier split
        with watching(made, [1, 4], bar):
            made[1].write_plan(LABELLED)
            list(made[1]())
            while bar.n == 3:  # The other thread will see it.
                pass
            assert bar.n == 7
            made[0].write_plan(LABELLED)
            list(made[0]())
        assert bar.n == 8


def test_watching_ends_with_an_error(source_dir, tmp_path):
    shard = RemoteShard(source_dir, 0, str(tmp_path), "train-00000")
    with tqdm(total=10, disable=True) as bar:
        with pytest.raises(KeyError), watching([shard], [1], bar):
            raise KeyError("of Beam")
        assert bar.n == 0
