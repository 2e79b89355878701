"""NUS-WIDE's own low-level features as a source of KNN, as in the baseline of its paper."""

import logging

import numpy as np

from srn_tf.baselines.knn_run import Images
from srn_tf.data.nus_wide_features import find_files, read_features
from srn_tf.data.nus_wide_lists import LABEL_NAMES, LAYOUT, read_official
from srn_tf.data.source import check_source_dir
from srn_tf.errors import InputError

logger = logging.getLogger("srn_tf")

HELD_OUT = 10  # one in so many training images; spread over the list, which goes tag by tag
_VALIDATION_FRACTION = 1 / HELD_OUT  # also of a prepared data set, if it has no validation split
_COLUMNS = 64  # of which statistics are computed together


class LowLevelFeatures:
    """A source of images for `knn_run.evaluate_knn`: those of NUS-WIDE, described by its six kinds of features.

    Without `data_dir` the images are those of the official lists, in their order, and every tenth training image,
    from the first, is held out for validation. With it they are those of a prepared data set, divided and ordered
    as there; only then can the result be compared with a network's, which needs the same images in the same order.
    The features are scaled to mean 0 and standard deviation 1 over the training images; one that is the same in all
    of them is 0.

    Args:
        features_dir: folder of the feature files, see `nus_wide_features.find_files`.
        source_dir: folder of the official lists and label files.
        data_dir: folder of the data set nus_wide as prepared for the networks, or "".
    Raises:
        InputError: a folder or file that is missing or cannot be trusted, fewer than two training images, a prepared
            image that is not in the official lists.
    """

    distance = "manhattan"
    validation_fraction = _VALIDATION_FRACTION
    fingerprint = None  # there need not be a prepared data set
    dataset, protocol, labels = "nus_wide", "nus_wide", LABEL_NAMES

    def __init__(self, features_dir, source_dir, data_dir=""):
        self._files = find_files(features_dir)
        check_source_dir(source_dir, LAYOUT)
        self._labels_of, counts, notes = read_official(source_dir)
        _check_rows(self._labels_of, counts)
        for count in counts:
            if count.found != count.published:
                logger.warning(
                    f"Warning: nus_wide: {count.what}: found {count.found:,}, published {count.published:,}."
                )
        for note in notes:
            logger.info(note)
        self._rows = _prepared_rows(self._labels_of, data_dir) if data_dir else _official_rows(self._labels_of)
        self.num_train = len(self._rows["train"])
        self.flags = {"dataset": self.dataset, "features": "low_level"}

    def describe(self):
        """What run.json says of the features."""
        return {"model": {"model": "low_level"}, "images": {role: len(rows) for role, rows in self._rows.items()}}

    def read(self):
        """Reads and scales the features: role -> Images."""
        images = {}
        for split, roles in (("train", ("train", "validation")), ("test", ("test",))):
            labels_of = self._labels_of[split]
            features = read_features(self._files[split], len(labels_of), f"features {split}")
            names, labels = np.array(list(labels_of)), np.array(list(labels_of.values()), np.int8)
            for role in roles:
                rows = self._rows[role]
                images[role] = Images(names[rows], features[rows], labels[rows])
        _standardize(images)
        return images


def _check_rows(labels_of, counts):
    """Raises InputError if read_official has merged rows: the lines of the features would be those of other images."""
    rows = {count.what: count.found for count in counts}
    for split, labels in labels_of.items():
        if rows[f"{split} rows"] != len(labels):
            raise InputError(
                f"The official {split} list must name each image once, because features are matched to it by line. "
                f"Received: {rows[f'{split} rows']:,} lines, {len(labels):,} images. Use the official file."
            )


def _official_rows(labels_of):
    """Role -> int array, lines of its split's official list from 0."""
    lines = np.arange(len(labels_of["train"]))
    is_held_out = lines % HELD_OUT == 0
    if is_held_out.all():
        raise InputError("TrainImagelist.txt must list at least two images. Received: 1 image. Use the official file.")
    return {
        "train": lines[~is_held_out],
        "validation": lines[is_held_out],
        "test": np.arange(len(labels_of["test"])),
    }


def _prepared_rows(labels_of, data_dir):
    """The same in the order and division of a prepared data set."""
    from srn_tf.data.datasets import open_dataset, open_prepared  # here: they load TensorFlow

    open_prepared("nus_wide", data_dir)  # which prepares nothing
    dataset = open_dataset("nus_wide", data_dir, data_dir, _VALIDATION_FRACTION)
    rows = {}
    for role in dataset.splits:
        split = "test" if role == "test" else "train"
        line_of = {name: line for line, name in enumerate(labels_of[split])}
        names = dataset.image_names(role)
        unknown = [name for name in names if name not in line_of]
        if unknown:
            raise InputError(
                f"The {role} images prepared in {data_dir} must be in the official {split} list. Received: "
                f"{len(unknown):,} of {len(names):,} that are not, the first {unknown[0]}. Prepare the official split."
            )
        rows[role] = np.array([line_of[name] for name in names])
    return rows


def _standardize(images):
    """Scales the features of all roles, in place, by the statistics of the training images."""
    for start in range(0, images["train"].features.shape[1], _COLUMNS):
        columns = slice(start, start + _COLUMNS)
        train = images["train"].features[:, columns]
        mean, deviation = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
        is_constant = train.min(axis=0) == train.max(axis=0)  # of which the deviation may be rounding
        for part in images.values():
            scaled = (part.features[:, columns] - mean) / np.where(is_constant, 1.0, deviation)
            part.features[:, columns] = np.where(is_constant, 0.0, scaled)
