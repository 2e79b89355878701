"""PyTorch files are read without PyTorch; what is no tensor is refused, and runs nothing."""

import collections
import pickle
import sys
import zipfile

import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.models.torch_file import read_torch_file
from tests.models import torch_files
from tests.models.torch_files import Storage, Tensor

LAYOUTS = pytest.mark.parametrize("layout", ["stream", "archive"])


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function: writes an object as PyTorch would, in either layout, and gives the path."""
    torch_files.install(monkeypatch)

    def write_file(value, layout):
        path = str(tmp_path / f"{layout}.pth")
        torch_files.write(value, path, layout)
        return path

    return write_file


def state_dict():
    """(what is saved, the arrays it holds): strides, an offset, shared values, several types, a parameter."""
    values = np.arange(24, dtype=np.float32)
    shared = Storage(values, "FloatStorage")
    count = Storage(np.array([7], np.int64), "LongStorage")
    half = Storage(np.array([0.5, -2.0], np.float16), "HalfStorage")
    saved = collections.OrderedDict(
        rows=Tensor(shared, (4, 6), (6, 1)),
        columns=Tensor(shared, (6, 4), (1, 6)),
        tail=Tensor(shared, (2, 3), (3, 1), offset=18),
        count=Tensor(count, (), ()),
        half=Tensor(half, (2,), (1,), is_parameter=True),
        nothing=Tensor(shared, (0, 3), (3, 1)),
    )
    saved._metadata = collections.OrderedDict(version=1)
    rows = values.reshape(4, 6)
    arrays = {
        "rows": rows,
        "columns": rows.T,
        "tail": values[18:].reshape(2, 3),
        "count": np.array(7),
        "half": np.array([0.5, -2.0], np.float16),
        "nothing": np.zeros((0, 3), np.float32),
    }
    return saved, arrays


@LAYOUTS
def test_reads_what_was_saved(write, layout):
    saved, arrays = state_dict()
    for value in (saved, {"state_dict": saved, "epoch": 3}):
        received = read_torch_file(write(value, layout))
        assert list(received) == list(arrays)
        for name, array in arrays.items():
            assert received[name].dtype == array.dtype and received[name].flags.writeable
            np.testing.assert_array_equal(received[name], array)


class Hostile:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@LAYOUTS
def test_whatever_is_no_tensor_is_refused_and_does_not_run(write, layout, tmp_path):
    mark = tmp_path / "ran"
    tensor = state_dict()[0]["rows"]
    for hostile, name in [
        (Hostile(eval, f"open({str(mark)!r}, 'w')"), "eval"),
        (Hostile(open, str(mark), "w"), "open"),
        (Hostile(sys.modules["torch._utils"]._other, 1), "torch._utils._other"),
        (np.zeros(2), "numpy"),
    ]:
        for value in (hostile, {"a": tensor, "b": hostile}):
            with pytest.raises(
                InputError, match="must hold tensors only. Received: .*which could run any code"
            ) as raised:
                read_torch_file(write(value, layout))
            assert name in str(raised.value)
    assert not mark.exists()


@LAYOUTS
def test_tensors_beyond_their_values_are_refused(write, layout):
    four = Storage(np.zeros(4, np.float32), "FloatStorage")
    for shape, strides, offset in [((5,), (1,), 0), ((2,), (1,), 3), ((2, 2), (4, 1), 0), ((2,), (-1,), 1)]:
        with pytest.raises(InputError, match="must be an undamaged PyTorch file"):
            read_torch_file(write({"a": Tensor(four, shape, strides, offset)}, layout))
    with pytest.raises(InputError, match="must be an undamaged PyTorch file"):  # four values read 1e12 times
        read_torch_file(write({"a": Tensor(four, (10**6, 10**6), (0, 0))}, layout))


@LAYOUTS
def test_other_content_is_refused(write, layout):
    for value in ([1, 2], {"a": 1.0}, {}, {3: state_dict()[0]["rows"]}, "text"):
        with pytest.raises(InputError, match="must be an undamaged PyTorch file"):
            read_torch_file(write(value, layout))


@LAYOUTS
def test_damage_is_one_message(write, layout, tmp_path):
    whole = open(write(state_dict()[0], layout), "rb").read()
    damaged = tmp_path / "damaged.pth"
    generator = np.random.default_rng(0)
    refused = 0
    contents = [whole[:length] for length in range(0, len(whole) - 1, 7)]
    for _ in range(400):
        flipped = bytearray(whole)
        flipped[generator.integers(len(whole))] ^= 1 << generator.integers(8)
        contents.append(bytes(flipped))
    for content in contents:
        damaged.write_bytes(content)
        try:
            read_torch_file(str(damaged))
        except InputError:
            refused += 1
    assert refused > len(contents) / 2  # a flipped value is a value

    with pytest.raises(InputError, match="not a file"):
        read_torch_file(str(tmp_path))


def test_compressed_archives_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights/data.pkl", pickle.dumps({}, protocol=2))
    with pytest.raises(InputError, match="compressed"):
        read_torch_file(str(tmp_path / "bomb.pth"))
