"""What a download says before any image is opened: the labels, and each photograph with its truth.

A data set's module reads its official layout into a `Source`; `builder.SourceBuilder` does the rest, the
same for all. The functions here are what those modules share: reading lists, paths that stay inside, rows.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

import numpy as np

from srn_tf.data.arrow_images import container_of
from srn_tf.errors import InputError


@dataclass(frozen=True, slots=True)
class SparseLabels(Sequence):
    """The labels of an image as a sequence of C ints, without a number for each: of 10,000 an image has a few.

    Attributes:
        size: C.
        absent: int, the value of all labels but the following.
        positives: tuple of ascending indices of those that are 1.
        unspecified: likewise of those that are 0, where absent ones are -1.
    """

    size: int
    absent: int
    positives: tuple
    unspecified: tuple = ()

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return self.__array__()[index].tolist()

    def __iter__(self):
        return iter(self.__array__().tolist())

    def __array__(self, dtype=None, copy=None):
        """The C values, int8 unless said otherwise."""
        del copy  # they are always new
        values = np.full(self.size, self.absent, dtype or np.int8)
        values[list(self.positives)] = 1
        values[list(self.unspecified)] = 0
        return values


def positive_labels(labels):
    """Ascending indices of the labels that are 1.

    Args:
        labels: as of `Example`.
    """
    if isinstance(labels, SparseLabels):
        return labels.positives
    return tuple(index for index, value in enumerate(labels) if value == 1)


@dataclass(frozen=True, slots=True)
class Example:
    """One record to be: a photograph, or a part of it, and its truth.

    Attributes:
        name: str, unique in the data set.
        labels: C ints in the order of the source's labels, a tuple or `SparseLabels`: 1 positive; else as the protocol
            of the data set says.
        objects: pairs (box, label index); box is (ymin, xmin, ymax, xmax), fractions of the photograph in [0, 1].
            Empty where there are no boxes, and for a crop.
        crop: (x, y, width, height) in pixels, the part that is stored, which may leave the photograph and is
            then clipped; None stores all of it.
    """

    name: str
    labels: Sequence
    objects: tuple = ()
    crop: tuple | None = None


@dataclass(frozen=True, slots=True)
class Photo:
    """One image file and the examples taken from it.

    Attributes:
        path: str, relative to the source folder, "/" between parts.
        examples: Examples, at least one.
    """

    path: str
    examples: tuple


@dataclass(frozen=True)
class Count:
    """A count of the source next to the published one; a difference is a warning.

    Attributes:
        what: str, such as "train images".
        found: int.
        published: int.
    """

    what: str
    found: int
    published: int


@dataclass(frozen=True)
class Source:
    """A download, read and checked.

    Attributes:
        labels: C names.
        splits: split name ("train", "test", perhaps "validation") -> list of Photo, none empty.
        counts: Counts to compare.
        notes: lines for the user about what was left out or merged.
        warnings: likewise, about what may be a mistake.
        form: pairs (what, how it was read) of str, such as ("labels", "column 'labels'"), for a preview.
    """

    labels: tuple
    splits: dict
    counts: tuple = ()
    notes: tuple = ()
    warnings: tuple = ()
    form: tuple = ()


def check_source_dir(source_dir, layout):
    """Makes sure that the source folder is there and not empty.

    Args:
        source_dir: str or path.
        layout: str, the files expected, for the message.
    Raises:
        InputError: it is not.
    """
    if not os.path.isdir(source_dir):
        raise InputError(
            f"source_dir must be a folder with {layout}. Received: {source_dir}, which is not a folder. Check the path."
        )
    if not os.access(source_dir, os.R_OK | os.X_OK):
        raise InputError(f"source_dir must be readable. Received: {source_dir}. Check its permissions.")
    if not os.listdir(source_dir):
        raise InputError(
            f"source_dir must be a folder with {layout}. Received: {source_dir}, which is empty. Unpack the download "
            "there."
        )


def option_file(path, source_dir):
    """Finds a file named by an option: from the working directory, or else from the source folder.

    Args:
        path: str.
        source_dir: str or path.
    Returns:
        str.
    Raises:
        InputError: it is in neither.
    """
    for candidate in (path, os.path.join(source_dir, path)):
        if os.path.isfile(candidate):
            return candidate
    raise InputError(
        f"{path} must be a file in the current folder or in {source_dir}. Received: no such file. Check the path."
    )


def read_text(path, layout, encoding="UTF-8"):
    """Reads a list, label or annotation file, with or without a byte-order mark, any line ends.

    Args:
        path: str or path.
        layout: str, the files expected, for the message.
        encoding: str, "UTF-8" or a kind of UTF-16.
    Returns:
        str.
    Raises:
        InputError: the file is missing, cannot be read, or is not in this encoding.
    """
    try:
        with open(path, encoding="utf-8-sig" if encoding == "UTF-8" else encoding, newline=None) as file:
            return file.read()
    except FileNotFoundError:
        raise InputError(f"{path} must exist. Received: no such file. Give a source folder with {layout}.") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path} must be text in {encoding}. Received: byte 0x{error.object[error.start]:02x} in line {line}. "
            "Convert the file to UTF-8."
        ) from None
    except OSError as error:
        raise InputError(f"{path} must be readable. Received: {error.strerror}. Check its permissions.") from None


def photo_path(text, where):
    """Turns a path of a list file into one relative to the source folder.

    Args:
        text: str as written, with "/" or, as NUS-WIDE has it, with backslashes between parts.
        where: str, place in the file, for the message.
    Returns:
        str with "/" between parts.
    Raises:
        InputError: the path is empty, absolute, or climbs out of the folder.
    """
    path = PurePosixPath(text.strip().replace("\\", "/"))
    if not path.name or path.is_absolute() or ".." in path.parts or PureWindowsPath(text).drive:
        raise InputError(
            f"{where}: a path must stay inside the source folder. Received: {text!r}. Write it relative to that folder."
        )
    return path.as_posix()


def unique_rows(rows, advice="Correct or remove one of the rows."):
    """Merges the rows that name the same photograph.

    Args:
        rows: iterable of (where, path, labels), `where` for the message.
        advice: str, what to do about rows that contradict each other.
    Returns:
        dict path -> labels, in the order of first appearance; and the number of rows merged away.
    Raises:
        InputError: two rows of one photograph have different labels.
    """
    labels_of, num_rows = {}, 0
    for where, path, labels in rows:
        num_rows += 1
        if labels_of.setdefault(path, labels) != labels:
            raise InputError(
                f"{where}: rows of the same image must have the same labels. Received: {path} with other labels "
                f"than in an earlier row. {advice}"
            )
    return labels_of, num_rows - len(labels_of)


def check_photos(source_dir, paths, listed_in, advice="Unpack the official archive of the images there."):
    """Makes sure that every photograph's file is there.

    Args:
        source_dir: str or path.
        paths: paths relative to it.
        listed_in: str, the file that lists them, for the message.
        advice: str, what to do about it.
    Raises:
        InputError: some are missing; names the first, and says how many.
    """
    paths = list(paths)
    missing = sorted(path for path in paths if not os.path.isfile(container_of(os.path.join(source_dir, path))))
    if missing:
        raise InputError(
            f"Every image of {listed_in} must be in {source_dir}. Received: {len(missing):,} of {len(paths):,} "
            f"missing, the first {missing[0]}. {advice}"
        )
