"""Matrices of images x labels that need not fit into memory: kept in a file, read block by block.

What is small is a plain array. What is large lies in a memory-mapped file without a name, which vanishes with the last
array on it, also where the program is killed. Its columns are contiguous, because average precision sorts them one by
one; a file of the user's may have contiguous rows instead. Whoever goes through a matrix does so by `row_blocks` and
`columns`, which hold little of it at a time, wherever it lies.
Axes: N images, C labels.
"""

import contextlib
import itertools
import mmap
import os
import tempfile

import numpy as np

from srn_tf.errors import InputError

IN_MEMORY_BYTES = 2**28  # of a matrix; a larger one is kept in a file
BLOCK_ROWS = 512  # images looked at together: what is made of them stays in the processor's cache
_COLUMNS = 16  # labels looked at together: 16 float32 are a line of the cache
_MAPPED_BYTES = 2**26  # of such labels in a file, which is read once for each of their blocks


class Rows:
    """A matrix that is filled from the first row on.

    Args:
        num_rows, num_columns: N and C.
        dtype: of the matrix.
        folder: where a large matrix has its file; None is the system's folder for temporary files.
    Raises:
        InputError: the folder takes no file.
    """

    def __init__(self, num_rows, num_columns, dtype, folder=None):
        self._shape, self._dtype, self._folder = (num_rows, num_columns), np.dtype(dtype), folder
        self._filled = 0
        self._file = None
        if num_rows * num_columns * self._dtype.itemsize <= IN_MEMORY_BYTES:
            self._rows = np.empty(self._shape, self._dtype)
            return
        self._rows = np.empty((BLOCK_ROWS, num_columns), self._dtype)  # that wait to be written
        with self._writing():
            self._file = tempfile.TemporaryFile(dir=folder)

    def append(self, rows):
        """Adds rows.

        Args:
            rows: (K, C), cast to the matrix' dtype.
        Raises:
            InputError: the file cannot be written, as on a full disk.
        """
        while len(rows):
            start = self._filled % len(self._rows)
            taken = min(len(rows), len(self._rows) - start)
            self._rows[start : start + taken] = rows[:taken]
            self._filled += taken
            rows = rows[taken:]
            if self._file is not None and self._filled % len(self._rows) == 0:
                self._write(len(self._rows))

    def matrix(self):
        """What has been added: (K, C), K <= N; of a file a read-only np.memmap. Nothing may be added after it."""
        if self._file is None:
            return self._rows[: self._filled]
        self._write(self._filled % len(self._rows))
        with self._writing(), self._file as file:
            file.truncate(self._shape[0] * self._shape[1] * self._dtype.itemsize)
            return np.memmap(file, self._dtype, "r", shape=self._shape, order="F")[: self._filled]

    def _write(self, count):
        """Writes the first `count` of the rows that wait, the last ones added, column by column."""
        first = self._filled - count
        turned = np.ascontiguousarray(self._rows[:count].T)
        with self._writing():
            for column, values in enumerate(turned if count else ()):
                self._file.seek((column * self._shape[0] + first) * self._dtype.itemsize)
                self._file.write(values)

    @contextlib.contextmanager
    def _writing(self):
        try:
            yield
        except OSError as error:
            folder = self._folder or tempfile.gettempdir()
            size = self._shape[0] * self._shape[1] * self._dtype.itemsize / 1e9
            raise InputError(
                f"A temporary file of {size:.1f} GB must fit into {folder}. Received: {error.strerror or error}. Free "
                "some space there."
            ) from None


def row_blocks(*matrices, num_rows=BLOCK_ROWS):
    """Goes through matrices of one length by blocks of rows.

    Args:
        matrices: (N, ...) each, an array or Derived.
        num_rows: most rows of a block.
    Yields:
        slice of rows.
    """
    for start in range(0, len(matrices[0]), num_rows):
        yield slice(start, start + num_rows)
        _let_go(*matrices)


def columns(matrix):
    """Goes through a matrix label by label.

    So many columns at a time, turned block by block of rows: much quicker than reading column after column, and
    no second matrix.

    Args:
        matrix: (N, C), or None.
    Yields:
        C arrays (N,), each one piece of memory; of None, None without end.
    """
    if matrix is None:
        yield from itertools.repeat(None)
    if matrix.strides[0] == matrix.itemsize:
        for column in range(matrix.shape[1]):
            yield matrix[:, column]
            _let_go(matrix)
        return
    count = _COLUMNS
    if _mapping(matrix) is not None:
        count = max(count, _MAPPED_BYTES // (len(matrix) * matrix.itemsize))
    for first in range(0, matrix.shape[1], count):
        part = matrix[:, first : first + count]
        turned = np.empty(part.T.shape, dtype=matrix.dtype)
        for rows in row_blocks(part):
            turned[:, rows] = part[rows].T
        yield from turned


def read_array(path):
    """Opens a .npy file: what is small is read, what is large mapped; arguments and errors are those of np.load."""
    return np.load(path, "r" if os.path.getsize(path) > IN_MEMORY_BYTES else None, allow_pickle=False)


class Derived:
    """What a function makes of a matrix, block of rows by block of rows: made when it is asked for, never whole.

    Args:
        matrix: (N, C).
        function: rows (K, C), one piece of memory -> (K, C).
    """

    def __init__(self, matrix, function):
        self.base, self._function = matrix, function

    def __len__(self):
        return len(self.base)

    @property
    def shape(self):
        """(N, C)."""
        return self.base.shape

    def __getitem__(self, rows):
        return self._function(np.ascontiguousarray(self.base[rows]))


def _mapping(matrix):
    """The file mapping a matrix lies in, if it is one for reading only; else None."""
    is_readable = False
    while isinstance(matrix, np.ndarray | Derived):
        is_readable |= isinstance(matrix, np.memmap) and matrix.mode == "r"
        matrix = matrix.base
    return matrix if is_readable else None


def _let_go(*matrices):
    """Takes what was read of mapped files out of this process' memory; the system keeps it while it has room."""
    for mapping in map(_mapping, matrices):
        if mapping is not None:
            mapping.madvise(mmap.MADV_DONTNEED)
