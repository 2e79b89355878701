"""The table of data sets, and how a run finds, prepares and splits one."""

import dataclasses
import hashlib
import json
import os
import shlex

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from google.protobuf.json_format import ParseError

from srn_tf.choices import DATASETS
from srn_tf.data.apparel import Apparel
from srn_tf.data.builder import Settings, SourceBuilder, not_prepared
from srn_tf.data.coco2014 import Coco2014
from srn_tf.data.csv_file import CsvFile
from srn_tf.data.examples import label_names, stored_metadata
from srn_tf.data.nus_wide import NusWide
from srn_tf.data.own_photos import CocoJson, Cvat, Folders, HuggingFace, LabelStudio, VocFolder
from srn_tf.data.pipeline import read_records
from srn_tf.data.prepare import is_prepared, prepare
from srn_tf.data.scenes import Scenes
from srn_tf.data.voc2007 import Voc2007
from srn_tf.data.wider_attribute import WiderAttribute
from srn_tf.errors import InputError
from srn_tf.evaluation.protocols import PARTIAL, protocol_named
from srn_tf.program import command


@dataclasses.dataclass(frozen=True)
class _Entry:
    """How the program uses a data set.

    Attributes:
        builder: tfds builder class.
        protocol: name of the evaluation protocol its results are stated in.
        has_source: whether it is made from a download.
        ignores_unspecified: whether labels that are 0 are left out of the training loss if --unspecified does not say
            what they are; else they count as negative, also where the protocol leaves them out of AP.
    """

    builder: type
    protocol: str
    has_source: bool = True
    ignores_unspecified: bool = False


_DATASETS = {
    "scenes": _Entry(Scenes, "scenes", has_source=False),
    "coco2014": _Entry(Coco2014, "coco"),
    "nus_wide": _Entry(NusWide, "nus_wide"),
    "wider_attribute": _Entry(WiderAttribute, "wider_attribute"),
    "voc2007": _Entry(Voc2007, "voc2007", ignores_unspecified=True),
    "apparel": _Entry(Apparel, "coco"),
    "csv": _Entry(CsvFile, "coco"),
    "folders": _Entry(Folders, "coco"),
    "coco_json": _Entry(CocoJson, "coco"),
    "voc_folder": _Entry(VocFolder, "coco"),
    "label_studio": _Entry(LabelStudio, "coco"),
    "cvat": _Entry(Cvat, "coco"),
    "huggingface": _Entry(HuggingFace, "coco"),
}


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A prepared data set with its three roles.

    Attributes:
        name: as in `DATASETS`.
        protocol: name of the evaluation protocol its tables use.
        labels: label names in order.
        splits: role ("train", "validation", "test") -> tfds split expression.
        note: one line on where the validation images come from.
        ignores_unspecified: whether training leaves labels that are 0 out of the loss, if nothing else is asked for.
        dropped: dropping.DroppedLabels, which training images lose; None: no labels.
    """

    name: str
    protocol: str
    labels: tuple
    splits: dict
    note: str
    ignores_unspecified: bool
    builder: object
    dropped: object = None

    def records(self, role):
        """The records of a role, see `pipeline.read_records`; in training without the labels that are dropped.

        Raises:
            InputError: the role is none of train, validation, test.
        """
        records = read_records(self.builder, self.expression(role))
        return self.dropped(records) if role == "train" and self.dropped is not None else records

    @property
    def has_unspecified(self):
        """Whether a label that is 0 says that the truth is not known, in stored records."""
        return protocol_named(self.protocol).is_zero_unspecified

    def expression(self, role):
        """The tfds split expression of a role.

        Raises:
            InputError: the role is none of train, validation, test.
        """
        if role not in self.splits:
            raise InputError(f"split must be one of {', '.join(self.splits)}. Received: {role!r}.")
        return self.splits[role]

    def image_names(self, role):
        """Names of a role's images in stored order: array of N str."""
        names = self.records(role).map(lambda record: record["name"])
        return np.array([name.decode() for name in names.as_numpy_iterator()])

    def num_images(self, role):
        """Images in a role."""
        return self.builder.info.splits[self.expression(role)].num_examples

    def most_boxes(self, role):
        """How many boxes the image of a role with the most of them has; reads all of its records."""
        counts = self.records(role).map(lambda record: tf.size(record["objects"]["label"], tf.int64))
        return int(counts.reduce(np.int64(0), tf.maximum))

    def check_size(self, role, side_px):
        """Makes sure that a role's images are not stored smaller than they are needed.

        Args:
            role: "train", "validation" or "test".
            side_px: side of the square that they are squashed to first, see `pipeline.start_px`.
        Raises:
            InputError: some were resized to less (--store_size); says how to prepare them anew.
        """
        num_resized = _num_resized(self.builder, self.expression(role))
        store_size = stored_metadata(self.builder)["options"].get("store_size", 0)
        if num_resized and store_size < side_px:
            raise InputError(
                f"The {role} images of {self.name} must be stored with at least {side_px} x {side_px} pixels for this "
                f"image size. Received: {num_resized:,} of {store_size} x {store_size} in {self.builder.data_dir}. "
                f"Prepare them again: {_prepare_command(self.builder, side_px)}. Or use a smaller --image_size."
            )

    @property
    def record_files(self):
        """Split of the prepared data set -> paths of its files of records."""
        splits = self.builder.info.splits
        return {split: sorted(map(str, splits[split].filepaths)) for split in sorted(splits)}

    @property
    def fingerprint(self):
        """What tells this prepared data set from another, wherever it lies: 64 hexadecimal digits.

        SHA-256 over dataset_info.json, features.json, the name and size of every file of records, in all splits, and,
        of a data set that is made from a source, the hashes of what it was prepared from: the names of the labels,
        every image's labels, boxes and split, and every image file (see `source_files`). It does not see other bytes
        in files of the same sizes that came later (of records, their own checksums do), nor how the splits are divided
        into roles.

        Raises:
            InputError: one of these files is missing, or those of a split are shorter than dataset_info.json says.
        """
        digest = hashlib.sha256()
        if isinstance(self.builder, SourceBuilder):
            digest.update(json.dumps(stored_metadata(self.builder)["source"], sort_keys=True).encode())
        folder = str(self.builder.data_path)
        mend = "Copy the data set there again, or remove the folder and prepare it again."
        try:
            for name in ("dataset_info.json", "features.json"):
                with open(os.path.join(folder, name), "rb") as file:
                    digest.update(file.read())
            for split, paths in self.record_files.items():
                sizes = [os.path.getsize(path) for path in paths]
                for path, size in zip(paths, sizes):
                    digest.update(f"{os.path.basename(path)} {size}\n".encode())
                expected = int(self.builder.info.splits[split].num_bytes)  # of records, with or without their frames
                if sum(sizes) < expected:
                    raise InputError(
                        f"The {split} records of {self.name} in {folder} must be complete. Expected: at least "
                        f"{expected} bytes in {len(paths)} files. Received: {sum(sizes)}. {mend}"
                    )
        except OSError as error:
            raise InputError(
                f"Data set {self.name} in {folder} must be complete. Received: {error.strerror}: "
                f"{os.path.basename(error.filename)}. {mend}"
            ) from None
        return digest.hexdigest()


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
    entry = _entry(name)
    if entry.has_source:
        _check_folder(name, data_dir)
    builder = _open(entry, data_dir)
    if not is_prepared(builder):
        if entry.has_source:
            builder = _open(entry, prepared_dir, source_dir=data_dir)
        prepare(builder)
    return _dataset(name, builder, validation_fraction)


def open_stored(name, data_dir, split):
    """Opens a prepared data set for one of its splits as it is stored, whatever runs hold out of it.

    Args:
        name: one of `DATASETS`.
        data_dir: folder it is prepared in.
        split: "train", "validation" or "test".
    Returns:
        DataSet.
    Raises:
        InputError: an unknown name, it is not prepared there, or stores no such split.
    """
    builder = open_prepared(name, data_dir)
    stored = builder.info.splits
    if split not in stored:
        raise InputError(
            f"split must be one of {', '.join(stored)} for data set {name}. Received: {split!r}. For images that a "
            "run held out, give its --work_dir."
        )
    return _dataset(name, builder, validation_fraction=0.0)


def make_builder(name, data_dir, source_dir=None, options=None, settings=None):
    """Makes the builder of a data set; nothing is read or written yet, except the source of one's own photographs.

    Args:
        name: one of `DATASETS`.
        data_dir: folder that holds prepared data sets.
        source_dir: folder of the download, where there is one.
        options: dict of the data set's own options that differ from their defaults, see its class.
        settings: builder.Settings.
    Returns:
        tfds.core.DatasetBuilder.
    Raises:
        InputError: an unknown name or option.
    """
    entry = _entry(name)
    if not entry.has_source:
        if options:
            raise InputError(f"{name} has no options. Received: {', '.join(options)}. Remove them.")
        return _open(entry, data_dir)
    return _open(entry, data_dir, source_dir=source_dir, options=options or {}, settings=settings or Settings())


def open_prepared(name, data_dir):
    """Opens a data set that was prepared earlier.

    Args:
        name: one of `DATASETS`.
        data_dir: folder it was prepared in.
    Returns:
        tfds.core.DatasetBuilder.
    Raises:
        InputError: an unknown name, or it is not prepared there.
    """
    entry = _entry(name)
    builder = _open(entry, data_dir)
    if not is_prepared(builder):
        raise not_prepared(builder, entry.has_source)
    return builder


def protocol_of(name, builder=None):
    """The name of the evaluation protocol that a data set's results are stated in.

    Args:
        name: one of `DATASETS`.
        builder: the prepared data set; None: one that was prepared with the defaults of its options.
    """
    protocol = _entry(name).protocol
    return PARTIAL.name if builder is not None and _is_partial(builder) else protocol


def _is_partial(builder):
    """Whether a prepared data set marks labels of its own as unspecified, see `CsvFile`."""
    return bool(stored_metadata(builder)["options"].get("unspecified_marks"))


def _dataset(name, builder, validation_fraction):
    entry = _entry(name)
    splits, note = _divide(builder, validation_fraction)
    num_resized = _num_resized(builder, splits["validation"])
    if num_resized and splits["validation"] != splits["train"]:
        side_px = stored_metadata(builder)["options"]["store_size"]
        note += f", {num_resized:,} of them stored at {side_px} x {side_px} pixels, which a served model does not see"
    labels = tuple(label_names(builder))
    ignores_unspecified = entry.ignores_unspecified or _is_partial(builder)
    return DataSet(name, protocol_of(name, builder), labels, splits, note, ignores_unspecified, builder)


def _entry(name):
    if name not in _DATASETS:
        raise InputError(f"dataset must be one of {', '.join(DATASETS)}. Received: {name!r}.")
    return _DATASETS[name]


def _open(entry, data_dir, **arguments):
    try:
        return entry.builder(data_dir=data_dir, **arguments)
    except ParseError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"The data set prepared in {data_dir} must have a readable dataset_info.json. Received: {reason}. "
            "Remove that data set and prepare it again."
        ) from None


def _check_folder(name, data_dir):
    if not os.path.isdir(data_dir):
        raise InputError(
            f"data_dir must be a folder with the data set {name}. Received: {data_dir!r}, which is not a folder. "
            "Check the path."
        )
    if not os.listdir(data_dir):
        raise InputError(
            f"data_dir must be a folder with the data set {name}. Received: {data_dir!r}, which is empty. Check the "
            "path."
        )


def _num_resized(builder, expression):
    """How many images of a split expression were resized when they were stored: those at the end of their split."""
    counts = stored_metadata(builder).get("audit", {"splits": {}})["splits"]
    number = 0
    for part in tfds.core.ReadInstruction.from_spec(expression).to_absolute(builder.info.splits):
        length = builder.info.splits[part.splitname].num_examples
        start, end = part.from_ or 0, length if part.to is None else part.to
        first_resized = length - counts.get(part.splitname, {"resized": 0})["resized"]
        number += max(end - max(start, first_resized), 0)
    return number


def _prepare_command(builder, store_size):
    """The command that prepares a data set as it is, but with images of another size."""
    stored, defaults = stored_metadata(builder)["options"], builder.OPTIONS
    files = {name: stored[name].rpartition(" (sha256 ")[0] for name in builder.FILE_OPTIONS if stored.get(name)}
    options = {
        name: value for name, value in {**stored, **files}.items() if name in defaults and value != defaults[name]
    }
    words = [f"--dataset={builder.name}", "--source_dir=DOWNLOADED", "--data_dir=ANOTHER", f"--store_size={store_size}"]
    words += [f"--no{name}" if value is False else f"--{name}={value}" for name, value in options.items()]
    return f"{command('prepare_data')} {' '.join(map(shlex.quote, words))}"


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
        return splits, "the training images themselves, because no image is held out"
    splits = {"train": f"train[{held_out}:]", "validation": f"train[:{held_out}]", "test": "test"}
    return splits, f"{held_out} images held out from the training split"
