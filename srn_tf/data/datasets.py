"""The table of data sets, and how a run finds, prepares and splits one."""

import dataclasses
import os

from srn_tf.data.coco2014 import Coco2014
from srn_tf.data.examples import label_names
from srn_tf.data.pipeline import read_records
from srn_tf.data.prepare import prepare
from srn_tf.data.scenes import Scenes
from srn_tf.errors import InputError


@dataclasses.dataclass(frozen=True)
class _Entry:
    """A builder class, the protocol its results are stated in, and whether it reads a downloaded source."""

    builder: type
    protocol: str
    has_source: bool


_DATASETS = {
    "scenes": _Entry(Scenes, "scenes", has_source=False),
    "coco2014": _Entry(Coco2014, "coco", has_source=True),
}

DATASETS = tuple(_DATASETS)


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A prepared data set with its three roles.

    Attributes:
        name: as in `DATASETS`.
        protocol: name of the evaluation protocol its tables use.
        labels: label names in order.
        splits: role ("train", "validation", "test") -> tfds split expression.
        note: one line on where the validation images come from.
    """

    name: str
    protocol: str
    labels: tuple
    splits: dict
    note: str
    builder: object

    def records(self, role):
        """The records of a role, see `pipeline.read_records`.

        Raises:
            InputError: the role is none of train, validation, test.
        """
        if role not in self.splits:
            raise InputError(f"split must be one of {', '.join(self.splits)}. Received: {role!r}.")
        return read_records(self.builder, self.splits[role])

    def num_images(self, role):
        """Images in a role."""
        return int(self.records(role).cardinality())


def open_dataset(name, data_dir, prepared_dir, validation_fraction=0.1):
    """Finds a data set, prepares it if that has not been done, and divides it into roles.

    Args:
        name: one of `DATASETS`.
        data_dir: folder of the prepared data set, or of the data set in its official layout; for
            "scenes", which has no source, the folder it is built in.
        prepared_dir: where an official layout is prepared to; the source itself is never written to.
        validation_fraction: share of the training images held out for validation where the data set
            has no validation split of its own. 0 watches the training images themselves.
    Returns:
        DataSet.
    Raises:
        InputError: an unknown name, a folder that is missing or empty, a source that cannot be read.
    """
    if name not in _DATASETS:
        raise InputError(f"dataset must be one of {', '.join(DATASETS)}. Received: {name!r}.")
    entry = _DATASETS[name]
    if entry.has_source:
        _check_folder(name, data_dir)
    builder = entry.builder(data_dir=data_dir)
    if not builder.data_path.exists():
        if entry.has_source:
            builder = entry.builder(data_dir=prepared_dir)
        prepare(builder, data_dir if entry.has_source else None)
    splits, note = _divide(builder, validation_fraction)
    return DataSet(name, entry.protocol, tuple(label_names(builder)), splits, note, builder)


def _check_folder(name, data_dir):
    if not os.path.isdir(data_dir):
        raise InputError(f"data_dir must be a folder with the data set {name}. Received: {data_dir!r}, not a folder.")
    if not os.listdir(data_dir):
        raise InputError(f"data_dir must be a folder with the data set {name}. Received: {data_dir!r}, which is empty.")


def _divide(builder, validation_fraction):
    if "validation" in builder.info.splits:
        splits = {role: role for role in ("train", "validation", "test")}
        return splits, "the data set's own validation split"
    if not 0.0 <= validation_fraction < 1.0:
        raise InputError(f"validation_fraction must be in [0, 1). Received: {validation_fraction}.")
    num_images = builder.info.splits["train"].num_examples
    held_out = min(round(validation_fraction * num_images), num_images - 1)  # at least one image trains
    if held_out == 0:
        splits = {"train": "train", "validation": "train", "test": "test"}
        return splits, "no image is held out: the training images themselves are watched"
    splits = {"train": f"train[{held_out}:]", "validation": f"train[:{held_out}]", "test": "test"}
    return splits, f"{held_out} images held out from the training split"
