"""Where the images to look at come from: files, or a split of a prepared data set whose truth is known."""

import os

from srn_tf.data.image_files import list_images, read_image_file
from srn_tf.errors import InputError
from srn_tf.evaluation.protocols import protocol_named
from srn_tf.labels import check_same_labels


class ImageFiles:
    """Image files, and all those of folders and patterns, see `data.image_files.list_images`; without truth.

    Args:
        paths: list of paths of files and folders, and patterns.

    Attributes:
        title: str, what the images are, in a few words.
        protocol: None, as there is no truth to evaluate by.
        names: list of N str, the images in order: their paths, within the folder if it is one.

    Raises:
        InputError: a path does not exist, or there is no image.
    """

    def __init__(self, paths):
        self._paths = list_images(paths)
        missing = [path for path in self._paths if not os.path.exists(path)]
        if missing:
            raise InputError(
                f"Every image must exist. Received: {len(missing)} of {len(self._paths)} missing, the first "
                f"{missing[0]}. Check the paths."
            )
        is_folder = len(paths) == 1 and os.path.isdir(paths[0])
        self.names = [os.path.relpath(path, paths[0]) for path in self._paths] if is_folder else self._paths
        self.title = os.fspath(paths[0]) if len(paths) == 1 else f"{len(self._paths)} image files"
        self.protocol = None

    def __len__(self):
        return len(self._paths)

    def check_labels(self, labels):
        """Files have no labels that a model's could differ from."""

    def read(self, wanted=None):
        """Yields the images in order.

        Args:
            wanted: set of positions, or None for all.
        Yields:
            (position, bytes of an upright JPEG, PNG or BMP, None)
        Raises:
            InputError: a file that is no whole image.
        """
        for position, path in enumerate(self._paths):
            if wanted is None or position in wanted:
                yield position, read_image_file(path), None


class DataSplit:
    """The images of one role of a data set, with their truth.

    Args:
        dataset: data.datasets.DataSet.
        role: "train", "validation" or "test".
        note: str, what else the title says.

    Attributes:
        title, names: as of `ImageFiles`.
        protocol: evaluation.protocols.Protocol.

    Raises:
        InputError: an unknown role, or one without images.
    """

    def __init__(self, dataset, role, note=""):
        self._dataset, self._role = dataset, role
        self.names = dataset.image_names(role).tolist()
        if not self.names:
            raise InputError(
                f"The split must have images. Received: {role} of {dataset.name}, which has none. Choose another "
                "--split."
            )
        self.title = f"{dataset.name}, {role} split{note}"
        self.protocol = protocol_named(dataset.protocol)

    def __len__(self):
        return len(self.names)

    def check_labels(self, labels):
        """Raises InputError if a model's labels are not those of the data set."""
        check_same_labels(labels, self._dataset.labels, f"The data set {self._dataset.name}")

    def read(self, wanted=None):
        """Yields the images in stored order, as `ImageFiles.read`, with labels int8 (C,) as stored."""
        for position, record in enumerate(self._dataset.records(self._role).as_numpy_iterator()):
            if wanted is None or position in wanted:
                yield position, record["image"], record["labels"]


def split_of_run(work, data_dir, role, prepared_dir=""):
    """A split of a run's data set, divided as the run divided it.

    Args:
        work: runs.work_dir.WorkDir.
        data_dir, prepared_dir: as in training; prepared_dir is <work_dir>/dataset by default.
        role: "train", "validation" or "test".
    Returns:
        DataSplit.
    Raises:
        InputError: no run, no such data set, or one with other labels than the run's.
    """
    from srn_tf.runs.run_data import open_run_data  # late: TensorFlow

    dataset, is_own = open_run_data(work, data_dir, prepared_dir)
    return DataSplit(dataset, role, "" if is_own else _other(data_dir))


def split_as_stored(name, data_dir, role, trained_on=None):
    """A split of a prepared data set as it is stored.

    Args:
        name, data_dir, role: as for `datasets.open_stored`, and the errors are its.
        trained_on: fingerprint of the data set that the model was trained on, None where that is not known.
    Returns:
        DataSplit.
    """
    from srn_tf.data.datasets import open_stored  # late: TensorFlow

    dataset = open_stored(name, data_dir, role)
    return DataSplit(dataset, role, "" if trained_on in (None, dataset.fingerprint) else _other(data_dir))


def _other(data_dir):
    """What a title says of a data set that a model was not trained on."""
    return f" of {data_dir}, not the data set that the model was trained on"
