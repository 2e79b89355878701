"""NUS-WIDE's own low-level features, read from the files they are distributed in."""

import os
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from srn_tf.errors import InputError

FOLDER = "Low_Level_Features"


@dataclass(frozen=True)
class Block:
    """One kind of feature.

    Attributes:
        file: str, name of its files, with {} for Train or Test.
        width: int, numbers per image.
    """

    file: str
    width: int


BLOCKS = (
    Block("{}_Normalized_CH.dat", 64),  # colour histogram
    Block("{}_Normalized_CORR.dat", 144),  # colour auto-correlogram
    Block("{}_Normalized_EDH.dat", 73),  # edge direction histogram
    Block("{}_Normalized_WT.dat", 128),  # wavelet texture
    Block("{}_Normalized_CM55.dat", 225),  # colour moments in 5 x 5 blocks
    Block("BoW_{}_int.dat", 500),  # bag of words of SIFT descriptors
)
"""The six kinds, in the order of the columns here. Source of the widths: Chua et al., CIVR 2009."""

WIDTH = sum(block.width for block in BLOCKS)  # 1,134

_SPLITS = {"train": "Train", "test": "Test"}


def find_files(features_dir):
    """Finds the files of both splits.

    Args:
        features_dir: folder that holds them, or a folder `FOLDER` with them; the files may lie in both.
    Returns:
        dict: split ("train", "test") -> paths in the order of `BLOCKS`.
    Raises:
        InputError: there is no such folder, or a file is missing; names the first.
    """
    if not os.path.isdir(features_dir):
        raise InputError(
            f"features_dir must be a folder. Received: {features_dir}. Give the folder of NUS-WIDE's low-level "
            "features."
        )
    found, missing = {}, []
    for split, name in _SPLITS.items():
        files = [block.file.format(name) for block in BLOCKS]
        paths = {file: _find(features_dir, file) for file in files}
        missing += [file for file in files if paths[file] is None]
        found[split] = list(paths.values())
    if missing:
        raise InputError(
            f"{features_dir} or its folder {FOLDER} must hold the {2 * len(BLOCKS)} feature files of NUS-WIDE. "
            f"Received: {len(missing)} missing, the first {missing[0]}. Unpack the official archives of low-level "
            "features and of bags of words there."
        )
    return found


def read_features(paths, num_images, title=None):
    """Reads the files of one split, line by line.

    Args:
        paths: of the six files in the order of `BLOCKS`. One image a line in the order of the split's official image
            list, numbers separated by blanks.
        num_images: int, N, lines of that list.
        title: text of the progress bar; None shows none.
    Returns:
        float32 (N, 1134), the blocks side by side, values as in the files.
    Raises:
        InputError: a file cannot be read, has another number of lines than N, or a line with another number of
            entries than its kind has, or one that is not a finite number.
    """
    features = np.empty((num_images, WIDTH), np.float32)
    start = 0
    total = len(BLOCKS) * num_images
    with tqdm(total=total, desc=title, unit="line", leave=False, disable=None if title else True) as progress:
        for block, path in zip(BLOCKS, paths, strict=True):
            try:
                _read_block(path, features[:, start : start + block.width], progress)
            except OSError as error:
                raise InputError(
                    f"{path} must be readable. Received: {error.strerror}. Check its permissions."
                ) from None
            start += block.width
    return features


def _find(features_dir, file):
    for folder in (features_dir, os.path.join(features_dir, FOLDER)):
        path = os.path.join(folder, file)
        if os.path.isfile(path):
            return path
    return None


def _read_block(path, block, progress):
    """Fills `block`, float32 (N, width), from a file."""
    num_images, width = block.shape
    num_lines = 0  # without blank ones after the last image
    with open(path, encoding="ascii", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            entries = line.split()
            if entries or number <= num_images:
                num_lines = number
            if number > num_images:
                continue  # only counted, for the message
            if len(entries) != width:
                raise InputError(
                    f"{path}, line {number}: a line must have {width} numbers. Received: {len(entries)}. Use the "
                    "official file."
                )
            block[number - 1] = _parse(entries, path, number)
            progress.update()
    if num_lines != num_images:
        raise InputError(
            f"{path} must have one line per image of the official list, {num_images:,}. Received: {num_lines:,} lines. "
            "Use the file that belongs to the list."
        )


def _parse(entries, path, number):
    """The entries of a line as float32 (width,)."""
    try:
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is refused with the rest
            values = np.fromiter(map(float, entries), np.float64, len(entries)).astype(np.float32)
        if np.isfinite(values).all():
            return values
    except ValueError:
        pass
    bad = next(entry for entry in entries if not _is_finite(entry))
    raise InputError(
        f"{path}, line {number}: every entry must be a finite number. Received: {bad[:40]!r}. Use the official file."
    )


def _is_finite(entry):
    try:
        with np.errstate(over="ignore"):
            return bool(np.isfinite(np.float32(float(entry))))
    except ValueError:
        return False
