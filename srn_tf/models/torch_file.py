"""Reads the tensors of a PyTorch file without PyTorch, and without running what the file says.

Such a file is a pickle, a small program that may call any function of Python. Here it may name containers and tensors,
and nothing else. Both layouts are read: the older, pickles followed by the raw values, and the zip archive that
PyTorch has written since version 1.6. Format: torch/serialization.py and torch/_utils.py of PyTorch.
"""

import collections
import dataclasses
import io
import os
import pickle
import zipfile

import numpy as np

from srn_tf.errors import InputError
from srn_tf.files import DAMAGE

_MAGIC = 0x1950A86A20F9469CFC6C  # what the older layout begins with
_VERSION = 1001  # of the older layout
_STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
# What pickles answer damage with as well.
_DAMAGE = (*DAMAGE, AttributeError, LookupError, OverflowError, MemoryError, pickle.UnpicklingError)


def read_torch_file(path):
    """Reads the state dict in a PyTorch file.

    Args:
        path: file of a state dict, or of a dict that holds one as "state_dict".
    Returns:
        dict: name -> array, of the tensor's shape and type.
    Raises:
        InputError: no such file; it is damaged or no state dict; or it asks for anything but tensors.
    """
    if not os.path.isfile(path):
        raise InputError(
            f"backbone_weights must be a PyTorch file. Received: {path!r}, which is not a file. Check the path."
        )
    try:
        with open(path, "rb") as file:
            is_archive = zipfile.is_zipfile(file)
            file.seek(0)
            state, arrays = (_read_archive if is_archive else _read_stream)(file)
        if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
            state = state["state_dict"]
        if not isinstance(state, dict) or not state:
            raise ValueError("it is no state dict")
        return {_checked_name(name): _strided(tensor, arrays) for name, tensor in state.items()}
    except _ForbiddenError as error:
        raise InputError(
            f"{path} must hold tensors only. Received: {error}, which could run any code. The file was not loaded. "
            "Use weights from a source you trust, saved as a state dict."
        ) from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path} must be an undamaged PyTorch file of weights. Received: {reason}. Download it again."
        ) from error


class _ForbiddenError(Exception):
    """A file names something other than tensors and containers."""


@dataclasses.dataclass(frozen=True)
class _Storage:
    """Values of one type in a row, which tensors share: their place in the file and how many they are."""

    key: str
    dtype: np.dtype
    size: int

    @property
    def num_bytes(self):
        return self.size * self.dtype.itemsize


@dataclasses.dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple
    strides: tuple


class _Unpickler(pickle.Unpickler):
    """Admits what a state dict is made of, and takes note of every storage that is named.

    Attributes:
        storages: key -> _Storage.
    """

    def __init__(self, file):
        super().__init__(file)
        self.storages = {}

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, tuple(shape), tuple(strides))
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in _STORAGES:
            return name  # which can neither be called nor changed
        raise _ForbiddenError(f"{module}.{name}")

    def persistent_load(self, saved):
        kind, name, key, _, size, *view = saved
        if kind != "storage" or size < 0 or any(view):
            raise ValueError("it has values of an unknown kind")
        storage = _Storage(str(key), np.dtype(_STORAGES[name]).newbyteorder("<"), size)
        return self.storages.setdefault(storage.key, storage)


def _read_stream(file):
    """The older layout: (what was saved, storage's key -> array)."""
    if _Unpickler(file).load() != _MAGIC or _Unpickler(file).load() != _VERSION:
        raise ValueError("it does not begin as such a file")
    if not _Unpickler(file).load()["little_endian"]:
        raise ValueError("its values are big-endian")
    unpickler = _Unpickler(file)
    state = unpickler.load()
    arrays = {}
    for key in _Unpickler(file).load():
        storage = unpickler.storages[str(key)]
        if int.from_bytes(file.read(8), "little") != storage.size:
            raise ValueError(f"values {key} are of another number than it says")
        if storage.num_bytes > os.fstat(file.fileno()).st_size:
            raise ValueError(f"it ends within values {key}")
        arrays[storage.key] = _values(file.read(storage.num_bytes), storage)
    return state, arrays


def _read_archive(file):
    """The zip archive: (what was saved, storage's key -> array)."""
    with zipfile.ZipFile(file) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("it is compressed, as PyTorch never does")
        (pickled,) = (name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl"))
        folder = pickled.removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("its values are big-endian")
        unpickler = _Unpickler(io.BytesIO(archive.read(pickled)))
        state = unpickler.load()
        return state, {
            key: _values(archive.read(f"{folder}data/{key}"), storage) for key, storage in unpickler.storages.items()
        }


def _values(content, storage):
    if len(content) != storage.num_bytes:
        raise ValueError(f"it ends within values {storage.key}")
    return np.frombuffer(content, storage.dtype)


def _checked_name(name):
    if not isinstance(name, str):
        raise ValueError("it is no state dict")
    return name


def _strided(tensor, arrays):
    """A tensor's values in a row of their own; ValueError if they are not within its storage."""
    if not isinstance(tensor, _Tensor):
        raise ValueError("it holds something beside tensors")
    values = arrays[tensor.storage.key]
    sizes = (tensor.offset, *tensor.shape, *tensor.strides)
    if len(tensor.shape) != len(tensor.strides) or any(not isinstance(size, int) or size < 0 for size in sizes):
        raise ValueError("a tensor has no shape")
    count = int(np.prod(tensor.shape, dtype=object))
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides))
    if count and (count > len(values) or last >= len(values)):
        raise ValueError("a tensor reaches beyond its values")
    strides = [stride * values.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(values[tensor.offset :] if count else values, tensor.shape, strides).copy()
