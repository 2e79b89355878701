"""Writes files as PyTorch does, without PyTorch."""

import collections
import io
import pickle
import sys
import types
import zipfile
from pathlib import Path

import numpy as np

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {"protocol_version": VERSION, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


class Storage:
    """Values in a row, as PyTorch keeps them for one or more tensors."""

    def __init__(self, values, kind):
        self.values, self.kind = np.asarray(values), kind


class Tensor:
    """Pickles as PyTorch's tensors do."""

    def __init__(self, storage, shape, strides, offset=0, is_parameter=False):
        self.storage, self.shape, self.strides, self.offset = storage, shape, strides, offset
        self.is_parameter = is_parameter

    def __reduce__(self):
        utils = sys.modules["torch._utils"]
        if self.is_parameter:
            plain = Tensor(self.storage, self.shape, self.strides, self.offset)
            return utils._rebuild_parameter, (plain, True, collections.OrderedDict())
        arguments = (self.storage, self.offset, self.shape, self.strides, False, collections.OrderedDict())
        return utils._rebuild_tensor_v2, arguments


class Pickler(pickle.Pickler):
    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.storages = {}

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        key = str(self.storages.setdefault(id(value), (len(self.storages), value))[0])
        return ("storage", getattr(sys.modules["torch"], value.kind), key, "cpu", value.values.size)


def tensor(array):
    """A Tensor of float32 or int64 in C's order."""
    array = np.asarray(array)
    kind = {"f": "FloatStorage", "i": "LongStorage"}[array.dtype.kind]
    strides = tuple(stride // array.itemsize for stride in np.zeros(array.shape, array.dtype).strides)
    return Tensor(Storage(array.ravel(), kind), array.shape, strides)


def install(monkeypatch):
    """Puts what the pickles name into modules called torch and torch._utils, for as long as a test runs."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "HalfStorage", "LongStorage", "DoubleStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter", "_other"):
        function = types.FunctionType((lambda *_: None).__code__, {}, name)
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(utils, name, function)
    torch._utils = utils
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def write(value, path, layout):
    """Writes an object in one of the layouts "stream" and "archive"; `install` must have been called."""
    buffer = io.BytesIO()
    pickler = Pickler(buffer)
    pickler.dump(value)
    storages = [(str(key), storage.values.tobytes()) for key, storage in pickler.storages.values()]
    sizes = [storage.values.size for _, storage in pickler.storages.values()]
    if layout == "archive":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("weights/data.pkl", buffer.getvalue())
            archive.writestr("weights/byteorder", "little")
            for key, content in storages:
                archive.writestr(f"weights/data/{key}", content)
        return
    start = b"".join(pickle.dumps(part, protocol=2) for part in (MAGIC, VERSION, SYSTEM))
    keys = pickle.dumps([key for key, _ in storages], protocol=2)
    values = b"".join(size.to_bytes(8, "little") + content for size, (_, content) in zip(sizes, storages))
    Path(path).write_bytes(start + buffer.getvalue() + keys + values)
