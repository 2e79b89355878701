"""The predictions of a run on a split, kept with the run: what thresholds, calibration and comparisons start from."""

import contextlib
import os
import struct
import zipfile
from dataclasses import dataclass

import numpy as np

from srn_tf.errors import InputError
from srn_tf.evaluation.blocks import IN_MEMORY_BYTES, columns
from srn_tf.evaluation.sizes import LabelSizes
from srn_tf.files import DAMAGE, written_whole
from srn_tf.program import command

_LOGITS, _SIZES = "logits/", "sizes/"


@dataclass(frozen=True)
class SavedPredictions:
    """Logits and truth of all images of a split, in stored order.

    Attributes:
        names: str (N,), the images' names.
        labels: int8 (N, C), truth as stored; what 0 means is the protocol's.
        label_names: tuple of C str.
        logits: output name -> float32 (N, C), the model's final output first.
        sizes: LabelSizes of the images' boxes, or None.
    """

    names: np.ndarray
    labels: np.ndarray
    label_names: tuple
    logits: dict
    sizes: LabelSizes | None = None


def save_predictions(path, predictions):
    """Writes predictions to an .npz file, whole or not at all; the folder is made.

    A matrix too large for memory is not compressed, so that it can be mapped.

    Args:
        path: str.
        predictions: SavedPredictions.
    Raises:
        InputError: the file cannot be written.
    """
    arrays = {
        "names": np.asarray(predictions.names, dtype=str),
        "labels": predictions.labels,
        "label_names": np.asarray(predictions.label_names, dtype=str),
        **{f"{_LOGITS}{name}": logits for name, logits in predictions.logits.items()},
    }
    if predictions.sizes is not None:
        arrays |= {f"{_SIZES}{name}": values for name, values in vars(predictions.sizes).items()}
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with written_whole(path) as file, zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                entry = zipfile.ZipInfo(f"{name}.npy")
                entry.compress_type = zipfile.ZIP_STORED if _is_large(array) else zipfile.ZIP_DEFLATED
                with archive.open(entry, "w", force_zip64=True) as member:
                    _write_array(member, array)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.remove(f"{path}.writing")
        raise InputError(
            f"Predictions must be written to {path}. Received: {error.strerror}. Check the folder's permissions and "
            "free space."
        ) from None


def load_predictions(path):
    """Reads what `save_predictions` wrote; large matrices are mapped, not read.

    Args:
        path: str.
    Returns:
        SavedPredictions.
    Raises:
        InputError: the file is missing, or is none of these.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {name.removesuffix(".npy"): _read_member(archive, name) for name in archive.namelist()}
        logits, sizes = (
            {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
            for prefix in (_LOGITS, _SIZES)
        )
        label_names = tuple(str(name) for name in arrays["label_names"])
        sizes = LabelSizes(**sizes) if sizes else None
        return SavedPredictions(arrays["names"], arrays["labels"], label_names, logits, sizes)
    except FileNotFoundError:
        raise InputError(
            f"{path} must exist. Received: no such file. Evaluate the run on that split first: "
            f"{command('evaluate')} --work_dir=RUN --data_dir=DATA --split=SPLIT"
        ) from None
    except DAMAGE as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} must be the predictions of a run. Received: {reason}. Evaluate the run again."
        ) from None


def _is_large(array):
    return array.ndim == 2 and array.nbytes > IN_MEMORY_BYTES


def _write_array(file, array):
    """Writes an array as .npy; a large one label by label, as `blocks.columns` reads it best."""
    if not _is_large(array):
        np.lib.format.write_array(file, array, allow_pickle=False)
        return
    descr = np.lib.format.dtype_to_descr(array.dtype)
    header = {"descr": descr, "fortran_order": True, "shape": array.shape}
    np.lib.format.write_array_header_1_0(file, header)
    for column in columns(array):
        file.write(column)


def _read_member(archive, name):
    """One array of an .npz file: read, or mapped where it is large and not compressed."""
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size <= IN_MEMORY_BYTES:
        with archive.open(name) as member:
            return np.lib.format.read_array(member, allow_pickle=False)
    with open(archive.filename, "rb") as file:
        file.seek(entry.header_offset + 26)  # of an entry's 30 bytes the last four are the lengths of what follows
        file.seek(sum(struct.unpack("<HH", file.read(4))), os.SEEK_CUR)
        np.lib.format.read_magic(file)
        shape, is_by_label, dtype = np.lib.format.read_array_header_1_0(file)
        return np.memmap(file, dtype, "r", file.tell(), shape, "F" if is_by_label else "C")
