"""The rows of a CSV file that lists photographs with their labels: read and checked, in either of two forms."""

import csv
import dataclasses
import io

from srn_tf.data.image_files import EXTENSIONS
from srn_tf.data.label_names import clean_name, repeated
from srn_tf.data.source import photo_path, read_text
from srn_tf.errors import InputError

HEADERS = "image,labels (then names separated by ';') or image,cat,dog (then 0 or 1)"
"""Headers of the two forms, for messages."""

SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
"""What a column `split` may say -> split."""

SEPARATOR = ";"
"""What separates the names of a list, unless something else is said."""

_LIST_COLUMNS = ("labels", "label")


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        where: str, its file and line, for messages.
        path: str, the photograph's, relative to the source folder, "/" between parts.
        present: frozenset of the names of its labels.
        split: "train", "validation" or "test"; None where the table does not say.
        unspecified: frozenset of the names of labels that may be there or not; the others are absent.
    """

    where: str
    path: str
    present: frozenset
    split: str | None
    unspecified: frozenset = frozenset()


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


def read_table(path, separator=SEPARATOR, listed=None, marks=frozenset()):
    """Reads a file of either form, see `csv_file.CsvFile`, and checks it row by row.

    Args:
        path: str.
        separator: str, what separates the names of a list.
        listed: names of the labels, where the user has listed them; columns of other names are then not used. None
            takes every column but the path and the split as a label, where there is one column for each label.
        marks: cells that say, in the column of a label, that it is unspecified.
    Returns:
        Table.
    Raises:
        InputError: the file is not CSV in UTF-8, has no usable header or no row; a row with more or fewer cells than
            the header, a label other than 0, 1 or a mark, an unknown split, a path that leaves the source folder; or it
            cannot be told which form it has.
    """
    lines = _read_cells(path)
    header = _read_header(path, lines)
    lines = list(lines)
    for line, cells in lines:
        if len(cells) != len(header):
            listed_in_a_cell = (
                "Labels in one cell are separated by ';', such as dog;person. " if len(header) < 4 else ""
            )
            raise InputError(
                f"{path}, line {line}: a row must have {len(header)} cells, like the header. Received: {len(cells)}. "
                f"Correct the row. {listed_in_a_cell}A cell that holds a comma needs quotes."
            )
    if not lines:
        raise InputError(f"{path} must list at least one image. Received: only a header. Add rows.")
    keys = [name.lower() for name in header]
    split_column = keys.index("split") if "split" in keys else None
    others = [i for i in range(1, len(keys)) if i != split_column]
    list_column = _find_list_column(path, header, others, lines, separator, listed, marks)
    used = [i for i in others if i == list_column or list_column is None and (listed is None or header[i] in listed)]
    rows = []
    for line, cells in lines:
        where = f"{path}, line {line}"
        unspecified = frozenset()
        if list_column is None:
            unspecified = frozenset(header[i] for i in used if cells[i] in marks)
            present = {header[i] for i in used if cells[i] not in marks and _is_present(where, header[i], cells[i])}
        else:
            present = _names_of(cells[list_column], separator)
        split = None if split_column is None else _read_split(where, cells[split_column])
        rows.append(Row(where, photo_path(cells[0], where), frozenset(present), split, unspecified))
    columns = tuple(header[i] for i in used) if list_column is None else None
    unused = tuple(header[i] for i in others if i not in used)
    return Table(path, columns, split_column is not None, tuple(rows), unused)


def _find_list_column(path, header, others, lines, separator, listed, marks):
    """Returns the index of the column that holds lists of names; None for a column for each label.

    A column `label` or `labels` holds lists, but for one case: it is itself a label among others, all with 0 and 1
    (or marks).

    Raises:
        InputError: there are two, or one that holds 0 and 1 and is not said to be either.
    """
    named = [i for i in others if header[i].lower() in _LIST_COLUMNS]
    if not named:
        return None
    columns = [i for i in others if listed is None or header[i] in listed]
    is_complete = len(columns) > 1 if listed is None else len(columns) == len(listed)
    values = {"0", "1", *marks}
    if is_complete and set(named) & set(columns) and all(cells[i] in values for _, cells in lines for i in columns):
        return None
    if len(named) > 1:
        raise InputError(f"{path}: columns must have different names. Received: 'labels' twice. Rename or remove one.")
    found = set().union(*(_names_of(cells[named[0]], separator) for _, cells in lines))
    if found and found <= {"0", "1"} and listed is None:
        raise InputError(
            f"{path}, column {header[named[0]]!r}: the meaning of 0 and 1 must be clear. Received: no other value. If "
            "they are label names, list all labels in a file for --labels_file. If they mean no and yes for one "
            "label, name the column after it. For several labels, list them in a file for --labels_file."
        )
    return named[0]


def _names_of(cell, separator):
    """The names of a list: set of str."""
    return {clean_name(name) for name in cell.split(separator)} - {""}


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
            "again as CSV (UTF-8)."
        ) from None


def _read_header(path, lines):
    """Takes the first row off `lines` and returns its names; InputError unless they can be a header."""
    _, cells = next(lines, (0, [""]))
    if len(cells) == 1 and (";" in cells[0] or "\t" in cells[0]):
        separator = "semicolons" if ";" in cells[0] else "tabs"
        raise InputError(
            f"{path}: cells must be separated by commas. Received: {separator}. Save the table with commas."
        )
    header = [clean_name(cell) for cell in cells]
    keys = [name.lower() for name in header]
    if header[0].lower().endswith(EXTENSIONS) or set(header[1:]) <= {"0", "1"} or keys[1:] == ["split"]:
        raise InputError(
            f"{path}: the first row must be a header, such as {HEADERS}. Received: {','.join(header)!r}. Add a row "
            "with the column names."
        )
    if keys[0] in (*_LIST_COLUMNS, "split"):
        raise InputError(
            f"{path}: the first column must be the image's path. Received: {header[0]!r}. Put the paths first."
        )
    for index, key in enumerate(keys[1:], start=2):
        if not key or key.startswith("unnamed:"):  # as pandas calls a column without a name
            received = "none" if not key else repr(header[index - 1])
            raise InputError(
                f"{path}: every column must have a name. Received: {received} for column {index}. "
                "Name or remove the column."
            )
    for names in (header, [key for key in keys if key == "split"]):
        twice = repeated(names)
        if twice:
            raise InputError(
                f"{path}: columns must have different names. Received: {twice[0]!r} twice. Rename or remove one."
            )
    return header


def _is_present(where, name, cell):
    if cell not in ("0", "1"):
        unspecified = (
            f"If it means that the label is not known, give --unspecified_marks={cell or 'empty'}. "
            if cell in ("", "-1")
            else ""
        )
        raise InputError(
            f"{where}, column {name!r}: a label must be 0 or 1. Received: {cell!r}. Correct the cell. {unspecified}"
            "Lists of names belong in a column named 'labels'. To ignore a column that is not a label, list all "
            "labels in a file for --labels_file."
        )
    return cell == "1"


def _read_split(where, cell):
    if cell.lower() not in SPLITS:
        raise InputError(
            f"{where}: split must be one of train, validation, test. Received: {cell!r}. Correct the cell."
        )
    return SPLITS[cell.lower()]
