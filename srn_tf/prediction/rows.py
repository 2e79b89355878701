"""What a row of the output holds, and how rows are written: CSV, JSON lines or Parquet."""

import collections
import csv
import io
import itertools
import json
import os
import shutil

import numpy as np

from srn_tf.errors import InputError

CONTENTS = ("probabilities", "labels", "top_k")
"""What can be written of an answer, see `Columns`."""

_ROW_GROUP_BYTES = 2**24  # of a Parquet file, in memory: its parts are put together to this size


class Columns:
    """The columns of the output: `path` first, `error` last (the reason why an image has no answer), between them

      - probabilities: one for each label, under its name, float in [0, 1];
      - labels: one, `labels`, the names of the predicted labels in the model's order;
      - top_k: `label_1`, `probability_1`, ..., `label_k`, `probability_k`, the highest first; of equal ones the first
        in the model's order.

    With known labels `known` stands before `error`, what was given for every image, such as dog:1 and cat:0. These are
    no answers of the model, and stand as given in the other columns.

    Args:
        labels: C str.
        write: one of `CONTENTS`; None: the first.
        top_k: int, k of top_k.
        known: dict, label -> 1 or 0, or None.

    Attributes:
        names: list of str.
        known: dict, column `known` -> its cell in every row with an answer, list of str; empty without known labels.

    Raises:
        InputError: another `write`, k is not in 1..C, or a label has the name of another column.
    """

    def __init__(self, labels, write=None, top_k=None, known=None):
        self.labels = list(labels)
        self.write = write = write or CONTENTS[0]
        self._k = top_k
        if write not in CONTENTS:
            raise InputError(f"write must be one of {', '.join(CONTENTS)}. Received: {write!r}.")
        if write == "top_k" and not 1 <= (top_k or 0) <= len(self.labels):
            raise InputError(f"top_k must be 1 to {len(self.labels)}, the model's labels. Received: {top_k}.")
        self._of_answer = {
            "probabilities": self.labels,
            "labels": ["labels"],
            "top_k": [f"{name}_{i + 1}" for i in range(top_k or 0) for name in ("label", "probability")],
        }[write]
        self.known = {} if known is None else {"known": [f"{label}:{int(value)}" for label, value in known.items()]}
        self.names = ["path", *self._of_answer, *self.known, "error"]
        repeated = [name for name, count in collections.Counter(self.names).items() if count > 1]
        if repeated:
            raise InputError(
                f"Columns must have different names. Received: two named {repeated[0]!r}, one of them for a label. "
                "Use --write=labels or --write=top_k."
            )

    def row(self, answer):
        """Makes the row of an answers.Answer: dict, column -> str, float, list of str or None (nothing there)."""
        known = self.known
        if answer.error is not None:
            cells, known = itertools.repeat(None), dict.fromkeys(known)
        elif self.write == "probabilities":
            cells = answer.probabilities.tolist()
        elif self.write == "labels":
            cells = [[self.labels[index] for index in np.flatnonzero(answer.predicted)]]
        else:
            highest = np.argsort(-answer.probabilities, kind="stable")[: self._k]
            cells = [cell for i in highest for cell in (self.labels[i], float(answer.probabilities[i]))]
        return {"path": answer.path, **dict(zip(self._of_answer, cells)), **known, "error": answer.error}


class _Text:
    """Rows as lines. Bytes of a path that are not UTF-8 stay as they are.

    Attributes:
        header: bytes of the first line, b"" for none.

    A subclass has `encode`: dict of `Columns.row` -> bytes of a line.
    """

    def write_part(self, rows, file):
        """Writes rows, dicts of `Columns.row`, to a binary file that `join` can read."""
        file.writelines(map(self.encode, rows))

    def join(self, paths, file):
        """Writes the rows of all parts, in the order of their paths, to a binary file."""
        file.write(self.header)
        for path in paths:
            with open(path, "rb") as part:
                shutil.copyfileobj(part, file)


class Csv(_Text):
    """CSV: a header, probabilities with 6 decimals, names of a list separated by ";", nothing for None."""

    def __init__(self, columns):
        names = [*(columns.labels if columns.write == "labels" else ()), *columns.known.get("known", ())]
        unclear = [name for name in names if ";" in name]
        if unclear:
            raise InputError(
                f"CSV separates the names in a cell by ';', so no name may contain it. Received: {unclear[0]!r}. "
                "Write to a file that ends in .jsonl or .parquet."
            )
        self.header = _csv_line(columns.names)

    def encode(self, row):
        """Dict of `Columns.row` -> bytes of a line."""
        return _csv_line(_csv_cell(cell) for cell in row.values())


class JsonLines(_Text):
    """One JSON object per line, probabilities with 6 decimals, without the columns that have nothing in the row."""

    header = b""

    def __init__(self, columns):
        del columns  # each line names its own

    def encode(self, row):
        """Dict of `Columns.row` -> bytes of a line."""
        cells = {name: _rounded(cell) for name, cell in row.items() if cell is not None}
        return f"{json.dumps(cells, ensure_ascii=False)}\n".encode("utf-8", "surrogateescape")


class Parquet:
    """Parquet: probabilities float32, unrounded; bytes of a path that are not UTF-8 as \\xNN.

    Attributes:
        schema: pyarrow.Schema of the rows that `encode` makes, dict of `Columns.row` -> dict.
    """

    def __init__(self, columns):
        import pyarrow as pa

        of_answer = {"probabilities": pa.float32(), "labels": pa.list_(pa.string())}
        names = columns.names[1 : -1 - len(columns.known)]
        types = [of_answer.get(columns.write) or (pa.float32() if i % 2 else pa.string()) for i in range(len(names))]
        known = [(name, pa.list_(pa.string())) for name in columns.known]
        self.schema = pa.schema([("path", pa.string()), *zip(names, types), *known, ("error", pa.string())])

    def encode(self, row):
        """Dict of `Columns.row` -> dict of a row of `schema`."""
        return {**row, "path": utf8(row["path"]), "error": row["error"] and utf8(row["error"])}

    def write_part(self, rows, file):
        """Writes rows, dicts of `Columns.row`, to a binary file that `join` can read."""
        import pyarrow as pa
        import pyarrow.parquet

        pa.parquet.write_table(pa.Table.from_pylist(list(map(self.encode, rows)), self.schema), file)

    def join(self, paths, file):
        """Writes the rows of all parts, in the order of their paths, to a binary file."""
        import pyarrow as pa
        import pyarrow.parquet

        with pa.parquet.ParquetWriter(file, self.schema) as writer:
            tables, num_bytes = [], 0
            for path in paths:
                with pa.parquet.ParquetFile(path) as part:
                    tables.append(part.read())
                num_bytes += tables[-1].nbytes
                if num_bytes >= _ROW_GROUP_BYTES:
                    writer.write_table(pa.concat_tables(tables))
                    tables, num_bytes = [], 0
            if tables:
                writer.write_table(pa.concat_tables(tables))


FORMATS = {".csv": Csv, ".jsonl": JsonLines, ".parquet": Parquet}
"""Ending of the output, lower case -> how it is written."""


def format_of(output, formats=FORMATS, name="output"):
    """Returns the value of `formats`, a dict by endings, for a file; InputError, which has `name`, for another."""
    base = os.path.basename(output)
    for ending, row_format in formats.items():
        if base.endswith(ending) and base != ending:
            return row_format
    raise InputError(f"{name} must end in {', '.join(formats)}. Received: {output}.")


def _csv_line(cells):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _csv_cell(cell):
    if isinstance(cell, float):
        return f"{cell:.6f}"
    return ";".join(cell) if isinstance(cell, list) else cell


def _rounded(cell):
    return round(cell, 6) if isinstance(cell, float) else cell


def utf8(text):
    """A path as UTF-8: its other bytes as \\xNN."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")
