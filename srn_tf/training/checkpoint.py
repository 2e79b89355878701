"""Weights and training state as .npz files: named arrays, written whole or not at all.

A weight's name is `<part>/<layer>/<weight>`, e.g. "f_sr/sr_conv4/depthwise_kernel": a stable address.
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
import zlib

import numpy as np

from srn_tf.errors import InputError
from srn_tf.models.finite import check_finite

_META = "__meta__"


def named_weights(model):
    """Every weight of a model by its address.

    Args:
        model: MultiLabelModel.
    Returns:
        dict: "<part>/<layer>/<weight>" -> tf.Variable, in a fixed order.
    """
    named = {}
    for part_name, part in model.parts.items():
        for layer in getattr(part, "layers", [part]):
            for weight in layer.weights:
                named[f"{part_name}/{layer.name}/{weight.name.split('/')[-1].split(':')[0]}"] = weight
    return named


def weight_arrays(model):
    """Every weight's value by its address; of several workers all must call it, since replicas are averaged."""
    return {name: weight.numpy() for name, weight in named_weights(model).items()}


def save_arrays(path, arrays, meta):
    """Writes named arrays and a JSON-ready dict to one file, which gets its name once it is written and read back.

    Raises:
        InputError: the file cannot be written, or reads otherwise than it was written; an older file of that name is
            untouched, and nothing half-written is left.
    """
    temporary = f"{path}.writing"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(temporary, "wb") as file:
            _write_archive(file, {**arrays, _META: np.array(json.dumps(meta))})
            file.flush()
            os.fsync(file.fileno())
        with zipfile.ZipFile(temporary) as archive:
            if archive.testzip() is not None:
                raise OSError(errno.EIO, "it reads otherwise than it was written")
        os.replace(temporary, path)
        _flush_folder(os.path.dirname(path))
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(
            f"The checkpoint {path} could not be written ({getattr(error, 'strerror', None) or error}); what was saved "
            "before is untouched. Make sure of free space and of the permission to write there, then give the same "
            "command again: it continues."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            os.remove(temporary)


def copy_file(source, target):
    """Gives a file another name beside its own, whole or not at all."""
    temporary = f"{target}.writing"
    try:
        shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    finally:
        with contextlib.suppress(OSError):
            os.remove(temporary)


def _write_archive(file, arrays):
    """What np.savez writes; that one, however, leaves its archive open after an error, which is complained of later."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def _flush_folder(path):
    """Makes a new name in a folder outlive a loss of power, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    with contextlib.suppress(OSError):
        os.fsync(descriptor)
    os.close(descriptor)


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
    return arrays, meta


def load_meta(path):
    """Reads the meta dict alone, which takes no time; errors as of `load_arrays`, but for faults in the arrays."""
    with _reading(path) as archive:
        return _checked_meta(_array(archive, f"{_META}.npy"))


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
        raise InputError(f"A weight file of this project (.npz) was expected. Received: {path!r}, not a file.")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    # What the libraries answer damage with; RuntimeError is of a file that seems encrypted or compressed.
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is damaged or is not a weight file of this project ({reason}).") from error


def _array(archive, name):
    """One array, after its bytes were found to be those that were written."""
    return np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)


def _checked_meta(text):
    meta = json.loads(str(text))
    if not isinstance(meta, dict) or "labels" not in meta:
        raise ValueError("it does not name its labels")
    return meta


def assign_weights(model, arrays, source, parts=None):
    """Gives a model the weights of a file; every name and shape must match, on both sides.

    Args:
        model: MultiLabelModel.
        arrays: address -> array.
        source: path, for the message.
        parts: names of the model's parts to give weights to; default all.
    Raises:
        InputError: missing, unexpected or misshapen weights, the first of each named; nothing is assigned.
    """
    weights = named_weights(model)
    if parts is not None:
        weights = {name: weight for name, weight in weights.items() if name.split("/")[0] in parts}
    assign_arrays(weights, arrays, source)


def assign_arrays(weights, arrays, source):
    """Gives variables the arrays of the same names, as `assign_weights`: name -> tf.Variable, name -> array."""
    missing = [name for name in weights if name not in arrays]
    unexpected = [name for name in arrays if name not in weights]
    misshapen = [name for name in weights if name in arrays and arrays[name].shape != tuple(weights[name].shape)]
    faults = []
    if missing:
        faults.append(f"{len(missing)} weights are missing (first {missing[0]})")
    if unexpected:
        faults.append(f"{len(unexpected)} are unknown (first {unexpected[0]})")
    if misshapen:
        name = misshapen[0]
        faults.append(
            f"{len(misshapen)} have another shape (first {name}: expected {tuple(weights[name].shape)}, "
            f"received {arrays[name].shape})"
        )
    if faults:
        raise InputError(f"The weights in {source} belong to another architecture: {'; '.join(faults)}.")
    for name, weight in weights.items():
        weight.assign(arrays[name])


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
    assign_weights(model, _load_for(path, labels)[0], path)


def _load_for(path, labels):
    """(arrays, meta) of a file of weights for these labels; InputError otherwise."""
    arrays, meta = load_arrays(path)
    if "schedule" in meta:
        raise InputError(f"{path} is the state of a run in training. Give its work folder, or the .npz of a stage.")
    check_same_labels(labels, meta["labels"], path)
    return arrays, meta


def load_shared_parts(path, model, labels):
    """Reads the parts that a weight file and a model both have; each of these must match in every weight.

    Args: as `load_weights`.
    Returns:
        (shared, fresh, unused, untrained): names of parts; those read, those of the model that keep what they had,
        those that only the file has, and those among the read ones that no stage had trained: "trained" of the meta
        dict names the others, and is of every part where it is missing.
    Raises:
        InputError: other labels, no part in common, or a part of another architecture.
    """
    arrays, meta = _load_for(path, labels)
    there = list(dict.fromkeys(name.split("/")[0] for name in arrays))
    here = list(dict.fromkeys(name.split("/")[0] for name in named_weights(model)))
    shared = [part for part in here if part in there]
    if not shared:
        raise InputError(
            f"The weights in {path} must share a part with the model. Expected one of: {', '.join(here)}. "
            f"Received: {', '.join(there)}."
        )
    kept = {name: array for name, array in arrays.items() if name.split("/")[0] in shared}
    assign_weights(model, kept, path, shared)
    fresh, unused = [part for part in here if part not in there], [part for part in there if part not in here]
    return shared, fresh, unused, [part for part in shared if part not in meta.get("trained", there)]


def check_same_labels(expected, received, source):
    """Raises InputError with the first difference of two label lists."""
    expected, received = list(expected), list(received)
    for index, (one, other) in enumerate(itertools.zip_longest(expected, received, fillvalue="(no more)")):
        if one != other:
            lengths = "" if len(expected) == len(received) else f" ({len(expected)} labels against {len(received)})"
            raise InputError(
                f"{source} has other labels, first at position {index}. Expected: {one!r}. "
                f"Received: {other!r}{lengths}."
            )
