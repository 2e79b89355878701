"""The predictions of a run on a split, kept with the run: what thresholds, calibration and comparisons start from."""

import os
import zipfile
from dataclasses import dataclass

import numpy as np

from srn_tf.errors import InputError

_LOGITS = "logits/"


@dataclass(frozen=True)
class SavedPredictions:
    """Logits and truth of all images of a split, in stored order.

    Attributes:
        names: str (N,), the images' names.
        labels: int8 (N, C), truth as stored; what 0 means is the protocol's.
        label_names: tuple of C str.
        logits: output name -> float32 (N, C), the model's final output first.
    """

    names: np.ndarray
    labels: np.ndarray
    label_names: tuple
    logits: dict


def save_predictions(path, predictions):
    """Writes predictions to an .npz file, whole or not at all; the folder is made.

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
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(f"{path}.writing", "wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(f"{path}.writing", path)
    except OSError as error:
        raise InputError(f"Predictions must be written to {path}. Received: {error.strerror}.") from None


def load_predictions(path):
    """Reads what `save_predictions` wrote.

    Args:
        path: str.
    Returns:
        SavedPredictions.
    Raises:
        InputError: the file is missing, or is none of these.
    """
    try:
        with np.load(path) as arrays:
            logits = {name.removeprefix(_LOGITS): arrays[name] for name in arrays.files if name.startswith(_LOGITS)}
            label_names = tuple(str(name) for name in arrays["label_names"])
            return SavedPredictions(arrays["names"], arrays["labels"], label_names, logits)
    except FileNotFoundError:
        raise InputError(
            f"{path} must exist. Received: no such file. Evaluate the run on that split first: python "
            "tools/evaluate.py --work_dir=RUN --data_dir=DATA --split=SPLIT"
        ) from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} must hold the predictions of a run. Received: {reason}. Evaluate the run again."
        ) from None
