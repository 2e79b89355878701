"""Shards of a data set that is being prepared: planned in one place, made in any order, on any machine."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import threading
from collections.abc import Callable

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from srn_tf.data.arrow_images import container_of, read_bytes
from srn_tf.data.photo_records import read_photo
from srn_tf.data.source import Example, Photo, SparseLabels

_SHARD_BYTES = 64 * 2**20  # tfds holds a shard in memory while it writes it
_SHARD_PHOTOS = 2000
_BYTES_PER_PIXEL = 0.6  # of a resized image as it is stored
_PNG_BYTES_PER_PIXEL = 2.0  # of a photograph
_POLL_S = 2.0


def in_order(split, photos):
    """Orders a split's photographs by a hash of their paths: str, Photos -> list of Photo."""
    return sorted(photos, key=lambda photo: hashlib.md5(f"{split}{photo.path}".encode()).digest())


def plan_shards(split, photos, source_dir, store_size):
    """Orders photographs as `in_order`, and cuts them into shards of about 64 MiB.

    Args:
        split: str.
        photos: Photos.
        source_dir: str.
        store_size: side in pixels of stored images, 0 as they came.
    Returns:
        list of tuples of Photo. Equal for equal sources.
    """
    shards, num_bytes = [[]], 0
    for photo in in_order(split, photos):
        if num_bytes > _SHARD_BYTES or len(shards[-1]) == _SHARD_PHOTOS:
            shards.append([])
            num_bytes = 0
        shards[-1].append(photo)
        if store_size:
            num_bytes += len(photo.examples) * _BYTES_PER_PIXEL * store_size**2
        elif photo.examples[0].crop is None:
            num_bytes += _file_bytes(os.path.join(source_dir, photo.path))
        else:  # stored as PNG, whatever the file is
            num_bytes += sum(_PNG_BYTES_PER_PIXEL * example.crop[2] * example.crop[3] for example in photo.examples)
    return [tuple(shard) for shard in shards]


@dataclasses.dataclass(frozen=True)
class Shard:
    """Makes the records of some photographs; `map` may spread them over processes.

    Called, it yields pairs (name, record for tfds) and hands each photograph's report to `tell`.
    """

    source_dir: str
    store_size: int
    photos: tuple
    tell: Callable
    map: Callable = map

    def __call__(self):
        """Yields (name, record for tfds); tells the report of each photograph."""
        read = functools.partial(read_photo, self.source_dir, store_size=self.store_size)
        for report, records in self.map(read, self.photos):
            self.tell(report)
            for name, record in records:
                yield name, _to_tfds(record)


@dataclasses.dataclass(frozen=True)
class RemoteShard:
    """A shard for Beam: small to send, since its photographs stand in a file, and its reports go to one.

    Attributes:
        folder: str, folder of the data set that is being written, which every machine sees.
        name: str, unique among the shards.
    """

    source_dir: str
    store_size: int
    folder: str
    name: str

    def write_plan(self, photos):
        """Writes what the shard is to do: photos, a tuple of Photo."""
        self._file("plan").write_text(json.dumps([dataclasses.asdict(photo) for photo in photos]))

    def __call__(self):
        """Yields (name, record for tfds) by the plan, and then writes the reports."""
        photos, reports = [_photo(entry) for entry in json.loads(self._file("plan").read_text())], []
        yield from Shard(self.source_dir, self.store_size, photos, reports.append)()
        self._file("report").write_text(json.dumps(reports))

    def is_done(self):
        """Whether the shard's records have been made."""
        return self._file("report").exists()

    def take_reports(self):
        """Returns the reports of a shard that is done, and removes what it left beside the records."""
        reports = json.loads(self._file("report").read_text())
        self._file("plan").unlink()
        self._file("report").unlink()
        return reports

    def _file(self, kind):
        return epath.Path(self.folder) / f"{kind}.{self.name}.json"


@contextlib.contextmanager
def watching(shards, sizes, bar):
    """Moves a progress bar while remote shards are made elsewhere.

    Args:
        shards: RemoteShards.
        sizes: photographs in each.
        bar: tqdm.
    """
    before, stop = bar.n, threading.Event()

    def update():
        bar.n = before + sum(size for shard, size in zip(shards, sizes) if shard.is_done())
        bar.refresh()

    def poll():
        while not stop.wait(_POLL_S):
            update()

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    update()


def _file_bytes(path):
    try:
        return os.path.getsize(path) if container_of(path) == path else len(read_bytes(path))
    except OSError:  # Whoever opens it will say so.
        return 0


def _to_tfds(record):
    objects = [{"bbox": tfds.features.BBox(*item["bbox"]), "label": item["label"]} for item in record["objects"]]
    return {**record, "labels": np.array(record["labels"], np.int8), "objects": objects}


def _photo(entry):
    """The Photo of which `dataclasses.asdict` made this, after its way through JSON."""
    made = [
        Example(
            name=example["name"],
            labels=_labels(example["labels"]),
            objects=tuple((tuple(box), label) for box, label in example["objects"]),
            crop=None if example["crop"] is None else tuple(example["crop"]),
        )
        for example in entry["examples"]
    ]
    return Photo(entry["path"], tuple(made))


def _labels(entry):
    """The labels of an Example, likewise."""
    if isinstance(entry, dict):
        return SparseLabels(**{name: tuple(part) if isinstance(part, list) else part for name, part in entry.items()})
    return tuple(entry)
