"""The rows of a CSV file that lists photographs with their labels: read and checked, in either of two forms."""

import csv
import dataclasses
import io

from srn_tf.data.image_files import EXTENSIONS
from srn_tf.data.source import photo_path, read_text
from srn_tf.errors import InputError

HEADERS = "image,labels (then names separated by ';') or image,cat,dog (then 0 or 1)"
"""Headers of the two forms, for messages."""

SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
"""What a column `split` may say -> split."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        where: str, its file and line, for messages.
        path: str, the photograph's, relative to the source folder, "/" between parts.
        present: frozenset of the names of its labels.
        split: "train", "validation" or "test"; None where the table does not say.
    """

    where: str
    path: str
    present: frozenset
    split: str | None


@dataclasses.dataclass(frozen=True)
class Table:
    """A CSV file.

    Attributes:
        path: str.
        columns: names of its label columns in order; None where a row has a list of names.
        has_split: bool, whether a column says the split.
        rows: Rows, at least one.
        unused: names of columns that say nothing about labels or splits.
    """

    path: str
    columns: tuple | None
    has_split: bool
    rows: tuple
    unused: tuple


def read_table(path):
    """Reads a file of either form, see `csv_file.CsvFile`, and checks it row by row.

    Args:
        path: str.
    Returns:
        Table.
    Raises:
        InputError: the file is not CSV in UTF-8, has no usable header or no row; a row with more or fewer cells than
            the header, a label other than 0 or 1, an unknown split, a path that leaves the source folder.
    """
    lines = _read_cells(path)
    header = _read_header(path, lines)
    keys = [name.lower() for name in header]
    split_column = keys.index("split") if "split" in keys else None
    list_column = next((i for i, key in enumerate(keys) if key in ("labels", "label")), None)
    others = [i for i in range(1, len(keys)) if i not in (split_column, list_column)]
    rows = []
    for line, cells in lines:
        where = f"{path}, line {line}"
        if len(cells) != len(header):
            raise InputError(
                f"{where}: a row must have {len(header)} cells, as the header has. Received: {len(cells)}. "
                'Correct the row; a cell that holds a comma needs quotes: "a,b".'
            )
        if list_column is None:
            present = {header[i] for i in others if _is_present(where, header[i], cells[i])}
        else:
            present = {clean_name(name) for name in cells[list_column].split(";")} - {""}
        split = None if split_column is None else _read_split(where, cells[split_column])
        rows.append(Row(where, photo_path(cells[0], where), frozenset(present), split))
    if not rows:
        raise InputError(f"{path} must list at least one image. Received: a header alone. Add rows.")
    others = tuple(header[i] for i in others)
    columns, unused = (others, ()) if list_column is None else (None, others)
    return Table(path, columns, split_column is not None, tuple(rows), unused)


def clean_name(text):
    """Returns a label's name without blanks around it, and with single ones inside."""
    return " ".join(text.split())


def _read_cells(path):
    """Yields (line number, cells without blanks around them) of the rows that are not empty.

    Raises:
        InputError: quotes that do not match, a NUL byte, or as `source.read_text`.
    """
    reader = csv.reader(io.StringIO(read_text(path, "the CSV file")), strict=True, skipinitialspace=True)
    try:
        for cells in reader:
            if any("\0" in cell for cell in cells):
                raise csv.Error("line contains NUL")  # As Python 3.10 does by itself.
            cells = [cell.strip() for cell in cells]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: must be CSV. Received: {error}. Correct the line, or save the table "
            "as CSV (UTF-8) again."
        ) from None


def _read_header(path, lines):
    """Takes the first row off `lines` and returns its names; InputError unless they can be a header."""
    _, cells = next(lines, (0, [""]))
    if len(cells) == 1 and (";" in cells[0] or "\t" in cells[0]):
        separator = "semicolons" if ";" in cells[0] else "tabs"
        raise InputError(f"{path}: cells must be separated by commas. Received: {separator}. Save it with commas.")
    header = [clean_name(cell) for cell in cells]
    keys = [name.lower() for name in header]
    if header[0].lower().endswith(EXTENSIONS) or set(header[1:]) <= {"0", "1"} or keys[1:] == ["split"]:
        raise InputError(
            f"{path}: the first row must be a header, such as {HEADERS}. Received: {','.join(header)!r}. "
            "Add a row with the names of the columns."
        )
    if keys[0] in ("labels", "label", "split"):
        raise InputError(
            f"{path}: the first column must be the image's path. Received: {header[0]!r}. Put the paths first."
        )
    if "" in header[1:]:
        raise InputError(
            f"{path}: every column must have a name. Received: none for column {header.index('', 1) + 1}. "
            "Name or remove the column."
        )
    reserved = ["labels" if key == "label" else key for key in keys if key in ("labels", "label", "split")]
    for names in (header, reserved):
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise InputError(
                f"{path}: columns must have different names. Received: {repeated[0]!r} twice. Rename or remove one."
            )
    return header


def _is_present(where, name, cell):
    if cell not in ("0", "1"):
        raise InputError(
            f"{where}, column {name!r}: a label must be 0 or 1. Received: {cell!r}. Correct the cell; lists of names "
            "go into a column named 'labels'."
        )
    return cell == "1"


def _read_split(where, cell):
    if cell.lower() not in SPLITS:
        raise InputError(
            f"{where}: split must be one of train, validation, test. Received: {cell!r}. Correct the cell."
        )
    return SPLITS[cell.lower()]
