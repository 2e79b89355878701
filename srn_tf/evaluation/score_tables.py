"""Scores and truth whose images and labels have names: what tools/predict.py writes, and tables like it.

A table has a column of images and a column of numbers for each label, under its name; a column `error` may say why an
image has no numbers. CSV has a header; JSON lines name the columns in every line; Parquet has them in its schema.
"""

import csv
import dataclasses
import json
import os
from pathlib import Path

import numpy as np

from srn_tf.errors import InputError
from srn_tf.program import tool

IMAGE_COLUMNS = ("path", "image", "name", "file", "filename", "file_name")
"""What the first column of a table is called; capitals do not matter."""

_ERROR = "error"


@dataclasses.dataclass(frozen=True)
class NamedTable:
    """Numbers with the names of their images and labels.

    Attributes:
        path: str, the file.
        images: list of N str, all different.
        labels: list of C str, all different.
        values: float64 (N, C).
        is_of_predict: bool, whether it is tools/predict.py's, so that its values are probabilities.
    """

    path: str
    images: list
    labels: list
    values: np.ndarray
    is_of_predict: bool


def read_named_table(path):
    """Reads a table with names, by the file's ending or its header.

    Args:
        path: str or path of a file that exists.
    Returns:
        NamedTable, or None for a file of another kind.
    Raises:
        InputError: a row without numbers, or with more or fewer cells than the header; a cell that is no number; an
            image or label that comes twice; no row or no label; a file that cannot be read.
    """
    path = Path(path)
    read = {".jsonl": _read_json_lines, ".parquet": _read_parquet, ".npy": None, ".npz": None}
    read = read.get(path.suffix.lower(), _read_csv)
    try:
        found = read(path) if read else None
    except (UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise InputError(
            f"{path} must be a table of scores or true labels. Received: {' '.join(str(error).split())}. Write it "
            "again."
        ) from None
    if found is None:
        return None
    columns, rows = found
    if not rows or len(columns) < 2:
        received = "no row" if len(columns) > 1 else "no label"
        raise InputError(
            f"{path} must have a row per image and a column per label. Received: {received}. {_make_it()}."
        )
    return _table(str(path), columns, rows)


def match(scores, truth):
    """Puts the truth into the order of the scores.

    Images are the same where their paths are, or, if paths differ between the files, where their file names are.

    Args:
        scores, truth: NamedTables.
    Returns:
        float64 (N, C), the truth's values.
    Raises:
        InputError: a label or image that only one of the two has, or images that cannot be told apart.
    """
    columns = _places("labels", scores, scores.labels, truth, truth.labels)
    ours, theirs = scores.images, truth.images
    if set(ours) != set(theirs):
        names = [[os.path.basename(image) for image in images] for images in (ours, theirs)]
        if all(len(set(found)) == len(found) for found in names):
            ours, theirs = names
    rows = _places("images", scores, ours, truth, theirs)
    return truth.values[np.ix_(rows, columns)]


def _places(what, scores, ours, truth, theirs):
    """For each of our names its place in theirs."""
    if set(ours) != set(theirs):
        parts = []
        for table, names, others in ((scores, ours, theirs), (truth, theirs, ours)):
            only = sorted(set(names) - set(others))
            if only:
                parts.append(f"{len(only)} only in {table.path}, such as {only[0]!r}")
        raise InputError(
            f"scores and labels must have the same {what}, spelled alike, in any order. Received: {'; '.join(parts)}. "
            "Correct the names, or remove those that the other file does not have."
        )
    place = {name: index for index, name in enumerate(theirs)}
    return [place[name] for name in ours]


def _table(path, columns, rows):
    """Checks what was read: `columns` begins with the images' and ends with `error` if `rows` have one."""
    is_of_predict = columns[-1] == _ERROR
    labels = columns[1:-1] if is_of_predict else columns[1:]
    images = [row[0] for row in rows]
    for what, names in (("label", labels), ("image", images)):
        if len(set(names)) < len(names):
            seen = set()
            twice = next(name for name in names if name in seen or seen.add(name))
            raise InputError(f"{path} must have every {what} once. Received: {twice!r} twice. Remove one.")
    if is_of_predict:
        failed = [row for row in rows if row[-1]]
        if failed:
            raise InputError(
                f"{path} must have an answer for every image. Received: {len(failed)} without one, the first "
                f"{failed[0][0]}: {failed[0][-1]} Remove these rows from both files, or replace the images and "
                "predict again."
            )
    values = np.empty((len(rows), len(labels)))
    for row, numbers in zip(rows, values, strict=True):
        try:
            numbers[:] = np.fromiter(map(float, row[1 : 1 + len(labels)]), np.float64, len(labels))
        except (TypeError, ValueError):
            place = next(place for place in range(len(labels)) if not _is_number(row[1 + place]))
            raise InputError(
                f"{path} must have a number for every image and label. Received: {str(row[1 + place])[:40]!r} for "
                f"{labels[place]!r} of {row[0]}. All columns but the first must be labels; {_make_it()}."
            ) from None
    return NamedTable(path, images, labels, values, is_of_predict)


def _is_number(cell):
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True


def _read_csv(path):
    # Bytes that are no UTF-8 are those of paths, which predict.py leaves as they are.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = csv.reader(file, strict=True, skipinitialspace=True)
        rows = ([cell.strip() for cell in cells] for cells in _whole(lines))
        header = next((cells for cells in rows if any(cells)), None)
        if header is None or header[0].lower() not in IMAGE_COLUMNS:
            return None
        found = []
        for cells in rows:
            if not any(cells):
                continue
            if len(cells) != len(header):
                raise InputError(
                    f"{path}, line {lines.line_num}: a row must have {len(header)} cells, like the header. Received: "
                    f"{len(cells)}. Correct the row. A cell that holds a comma needs quotes."
                )
            found.append(cells)
    return header, found


def _whole(lines):
    """The rows, without the error of a first one that is no CSV: such a file has no header."""
    try:
        first = next(lines, None)
    except csv.Error:
        return
    if first is not None:
        yield first
        yield from lines


def _read_json_lines(path):
    columns, rows, image_column = None, [], None
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            record = json.loads(line)
            names = list(record) if isinstance(record, dict) else []
            image_column = image_column or (names[0] if names else "")
            if image_column.lower() not in IMAGE_COLUMNS or image_column not in names:
                raise InputError(
                    f"{path}, line {number}: a line must be an object whose first key is "
                    f"{' or '.join(IMAGE_COLUMNS)}, the same in every line. Received: {line.strip()[:40]!r}. "
                    f"{_make_it()}."
                )
            error = record.pop(_ERROR, None)
            image = str(record.pop(image_column))
            if not error:
                columns = columns or list(record)
                if set(record) != set(columns):
                    raise InputError(
                        f"{path}, line {number}: every line must have the same labels. Expected: "
                        f"{', '.join(columns)}. Received: {', '.join(record)}. Correct the line."
                    )
            rows.append([image, *(record.get(name) for name in columns or ()), error])
    # Where no line has an error, the image's column tells: predict.py names it `path`.
    ending = [_ERROR] if image_column == "path" else []
    return [image_column, *(columns or ()), *ending], rows


def _read_parquet(path):
    import pyarrow as pa
    import pyarrow.parquet

    try:
        table = pa.parquet.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise InputError(f"{path} must be a Parquet file. Received: {reason}. Write it again.") from None
    columns = table.column_names
    if not columns or columns[0].lower() not in IMAGE_COLUMNS:
        raise InputError(
            f"{path} must have the images in its first column, named {' or '.join(IMAGE_COLUMNS)}. Received: "
            f"{', '.join(columns)[:80] or 'no column'}. {_make_it()}."
        )
    return columns, list(map(list, zip(*(column.to_pylist() for column in table.columns), strict=True)))


def _make_it():
    return f"{tool('predict')} writes one with --write=probabilities"
