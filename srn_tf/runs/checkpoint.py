"""Weights and training state as .npz files: named arrays, written whole or not at all.

A weight's name is its address, see `models.model.MultiLabelModel.weights`, e.g. "f_sr/sr_conv4/kernel".
"""

import contextlib
import errno
import hashlib
import io
import itertools
import json
import os
import shutil
import zipfile

import numpy as np

from srn_tf.errors import InputError, not_written
from srn_tf.files import DAMAGE, written_whole
from srn_tf.labels import check_same_labels
from srn_tf.models.assigning import assign_arrays, misfits_of
from srn_tf.models.finite import check_finite
from srn_tf.runs.format import FORMAT, check_format

_META = "__meta__"


def weight_arrays(model):
    """Every weight's value by its address; of several workers all must call it, since replicas are averaged."""
    return {name: weight.numpy() for name, weight in model.weights.items()}


def save_arrays(path, arrays, meta):
    """Writes named arrays and a JSON-ready dict to one file, which gets its name once it is written and read back.

    Raises:
        InputError: the file cannot be written, or reads otherwise than it was written; an older file of that name is
            untouched, and nothing half-written is left.
    """
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with written_whole(path) as file:
            _write_archive(file, {**arrays, _META: np.array(json.dumps({**meta, "format": FORMAT}))})
            file.flush()
            with zipfile.ZipFile(file.name) as archive:
                if archive.testzip() is not None:
                    raise OSError(errno.EIO, "it reads back differently")
    except (OSError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(not_written(f"The checkpoint {path}", reason)) from error


def copy_file(source, target):
    """Gives a file another name beside its own, whole or not at all."""
    with open(source, "rb") as original, written_whole(target) as copy:
        shutil.copyfileobj(original, copy)


def _write_archive(file, arrays):
    """What np.savez writes; that one, however, leaves its archive open after an error, which is complained of later."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def load_arrays(path):
    """Reads what `save_arrays` wrote.

    Returns:
        (dict of arrays, meta dict)
    Raises:
        InputError: no such file, it is damaged or not such a file, or an array is not finite.
    """
    with _reading(path) as archive:
        arrays = {name.removesuffix(".npy"): _array(archive, name) for name in archive.namelist()}
        meta = _checked_meta(arrays.pop(_META))
    check_finite(arrays, path)
    return arrays, _of_this_format(meta, path)


def load_meta(path):
    """Reads the meta dict alone, which takes no time; errors as of `load_arrays`, but for faults in the arrays."""
    with _reading(path) as archive:
        meta = _checked_meta(_array(archive, f"{_META}.npy"))
    return _of_this_format(meta, path)


def _of_this_format(meta, path):
    check_format(meta, path)
    return {name: value for name, value in meta.items() if name != "format"}


def digest_of(path):
    """A digest of a file of `save_arrays`, by which the same weights are known again: 64 hexadecimal digits, str."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def _reading(path):
    """Opens a file of `save_arrays`, and turns whatever is wrong with it into one InputError."""
    if not os.path.isfile(path):
        raise InputError(
            f"Weights must be a file (.npz) written by srn_tf. Received: {path!r}, which is not a file. Check the path."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except DAMAGE as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} must be an undamaged weight file (.npz) written by srn_tf. Received: {reason}. Use another file, "
            "or a copy."
        ) from error


def _array(archive, name):
    """One array, after its bytes were found to be those that were written."""
    return np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)


def _checked_meta(text):
    meta = json.loads(str(text))
    if not isinstance(meta, dict) or "labels" not in meta:
        raise ValueError("it does not name its labels")
    return meta


def assign_weights(model, arrays, source):
    """Gives a model the weights of a file; every address and shape must match, on both sides.

    Args:
        model: MultiLabelModel.
        arrays: address -> array.
        source: path, for the message.
    Raises:
        InputError: missing, unexpected or misshapen weights, the first of each named; nothing is assigned.
    """
    assign_arrays(model.weights, arrays, source)


def save_weights(path, model, meta):
    """Writes a model's weights; see `save_arrays`."""
    save_arrays(path, weight_arrays(model), meta)


def load_weights(path, model, labels):
    """Reads a model's weights and checks that they were learned for the same labels.

    Args:
        path: file written by `save_weights`.
        model: MultiLabelModel.
        labels: label names in order.
    Raises:
        InputError: other labels or another architecture.
    """
    arrays, meta = _load_weight_arrays(path)
    check_same_labels(labels, meta["labels"], path)
    assign_weights(model, arrays, path)


def _load_weight_arrays(path):
    """(arrays, meta) of a file of weights; InputError for the state of a run."""
    arrays, meta = load_arrays(path)
    if "schedule" in meta:
        raise InputError(
            f"{path} must be a file of weights. Received: the state of a run in training. Give its work folder, or "
            "the .npz of a stage."
        )
    return arrays, meta


def load_fitting_parts(path, model, labels):
    """Reads the parts of a weight file that fit a model: in every weight, and, unless they know no labels, in those.

    Of a trunk the file may go on where the model's ends.

    Args:
        path: file written by `save_weights`, of any model.
        model: MultiLabelModel.
        labels: label names in order.
    Returns:
        (taken, left, untrained): names of the model's parts that were read; name -> why it was not, of those that both
        have; names of those taken that no stage had trained: "trained" of the meta dict names the others, and is of
        every part where it is missing.
    Raises:
        InputError: no part fits.
    """
    arrays, meta = _load_weight_arrays(path)
    has_same_labels = list(labels) == meta["labels"]
    taken, left = {}, {}
    for part in model.parts:
        weights, found = (_of_part(named, part) for named in (model.weights, arrays))
        if not found or not weights:
            continue
        if part == "trunk":  # which ends where the model needs no more of it
            found = _beginning(found, weights)
        if not has_same_labels and part not in model.label_free:
            left[part] = "other labels"
        elif misfits := misfits_of(weights, found):
            left[part] = misfits
        else:
            taken[part] = (weights, found)
    if not taken:
        there = list(dict.fromkeys(name.split("/")[0] for name in arrays))
        reasons = "; ".join(f"{part}: {why}" for part, why in left.items())
        raise InputError(
            f"The weights in {path} must fit a part of the model. Expected one of: {', '.join(model.parts)}. "
            f"Received: {', '.join(there)}{f' ({reasons})' if reasons else ''}. Use a run of the same method or "
            "backbone."
        )
    for weights, found in taken.values():
        assign_arrays(weights, found, path)
    return list(taken), left, [part for part in taken if part not in meta.get("trained", taken)]


def _beginning(arrays, weights):
    """The first of the arrays, in order, if they are just those of the weights; all of them if not: another network."""
    first = dict(itertools.islice(arrays.items(), len(weights)))
    return first if first.keys() == weights.keys() else arrays


def _of_part(named, part):
    return {name: value for name, value in named.items() if name.startswith(f"{part}/")}
