"""Tables of photographs with their labels: read and checked, in the ways in which people and programs write them."""

import dataclasses
import json

from srn_tf.data.image_files import EXTENSIONS
from srn_tf.data.label_names import clean_name, repeated
from srn_tf.data.listing import SPLITS, Listing, Row, value_of_each
from srn_tf.data.other_forms import of_header
from srn_tf.data.source import photo_path
from srn_tf.data.table_cells import read_cells
from srn_tf.errors import InputError

HEADERS = "image,labels (then names separated by ';') or image,cat,dog (then 0 or 1)"
"""Headers of the two forms, for messages."""

SEPARATOR = ";"
"""What separates the names of a list, unless something else is said."""

IGNORED = "-"
"""What a user calls a column that says nothing."""

VALUES = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1, "no": 0, "yes": 1}
"""What a cell of a label's column may hold, in small letters -> 1 if the image has the label, else 0."""

_LETTERS = {"x": 1, "y": 1, "n": 0}
"""Likewise, as people mark cells by hand. A column with other texts is none. See `_check_x`, too."""

_UNKNOWN = ("", "-1", "-1.0")  # what often stands for a label that is not known
_LIST_COLUMNS = ("labels", "label")
_TAGS = "tags"  # as Kaggle's tables call a list of words with blanks between them
_IMAGE_COLUMNS = (
    *("image", "file_name", "filename", "image_name", "image_id", "image_path", "imageid", "filepath", "path", "file"),
)
_SEPARATORS = (";", ",", "|")
_NOTHING = ("nan", "none", "null", "nil", "na", "n/a", "#n/a", "<na>", "nat", "undefined")
"""What programs write for an empty cell, in lower case."""

_SEVERAL = "If these cells list several labels, give the separator, as in --separator=' '."
_SEVERAL_WITHOUT_FLAGS = "If these cells list several labels, write them as lists, or with ';' between them."
_LOOKED_AT = 50  # rows, for names of image files


def read_table(path, separator=SEPARATOR, listed=None, columns=(), group_column="", marks=frozenset()):
    """Reads a table of any form, see `csv_file.CsvFile`, and checks it row by row.

    Args:
        path: str.
        separator: str, what separates the names of a list.
        listed: names of the labels, where the user has listed them; columns of other names are then not used. None
            takes every column but the path and the split as a label, where there is one column for each label.
        columns: names for the columns of a table without header, in order; `IGNORED` for one that says nothing.
        group_column: name of the column that says which images belong together; "" for none.
        marks: cells in small letters that say, in the column of a label, that it is unspecified.
    Returns:
        Listing.
    Raises:
        InputError: the file is no table in UTF-8 or UTF-16, has no usable header or no row; a row with more or fewer
            cells than the header, a label that is no yes, no or mark, an unknown split, a path that leaves the source
            folder, an image of two splits; or it cannot be told which form it has.
    """
    lines, form = read_cells(path)
    return parse_table(path, lines, form, separator, listed, columns, group_column, marks)


def parse_table(
    path,
    lines,
    form=(),
    separator=SEPARATOR,
    listed=None,
    columns=(),
    group_column="",
    marks=frozenset(),
    has_flags=True,
):
    """Reads a table whose cells are known, as `read_table`.

    Args:
        lines: list of (line number, cells), the header first; cells are text without blanks around them, or a list of
            names.
        form: pairs as of `Listing`, how the cells were read.
        path, separator, listed, columns, group_column, marks: as of `read_table`.
        has_flags: whether the user can set `separator` and `marks`, for messages.
    """
    lines, form = iter(lines), list(form)
    listed = None if listed is None else frozenset(listed)
    if columns:
        header, lines = _named_header(path, list(lines), columns, form)
    else:
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
    image_column = _find_image_column(path, header, keys, lines)
    group = _find_group_column(path, header, group_column)
    others = [i for i in range(len(keys)) if i not in (image_column, split_column, group) and header[i] != IGNORED]
    others = [i for i in others if not _is_unnamed(keys[i])]  # the numbers of the rows, as pandas writes them
    if not others:
        raise InputError(
            f"{path}: the first row must be a header, such as {HEADERS}. Received: {','.join(header)!r}. Add a row "
            "with the column names."
        )
    list_column = _find_list_column(path, header, others, lines, separator, listed, marks)
    if list_column is None:
        used = _find_label_columns(header, others, lines, listed, marks)
        form.append(("labels", f"{len(used):,} columns with yes or no (0 and 1, true and false)"))
        separator = ""
        values = {**VALUES, **_LETTERS}
        _check_x(path, header, lines, used, marks, has_flags)
        if "" not in marks and _has_only_x(lines, used):
            values[""] = 0
            form.append(("cells of labels", "x for a label that is there, empty for one that is not"))
    else:
        used = [list_column]
        separator = _separator_of(keys[list_column], (cells[list_column] for _, cells in lines), separator)
        form.append(("labels", f"names in column {header[list_column]!r}, separated by {separator!r}"))
    form.append(("images", f"column {header[image_column]!r}"))
    if group is not None:
        form.append(("groups", f"column {header[group]!r}"))
    rows, checked = [], set()
    for line, cells in lines:
        where = f"{path}, line {line}"
        unspecified = frozenset()
        if list_column is None:
            unspecified = frozenset(header[i] for i in used if str(cells[i]).lower() in marks)
            known = [i for i in used if header[i] not in unspecified]
            present = {header[i] for i in known if _value_of(where, header[i], cells[i], values, has_flags)}
        else:
            present = _names_of(cells[list_column], separator)
            if listed is None:
                for name in sorted(present - checked):
                    _check_written_name(where, name, separator, has_flags)
                checked |= present
        split = None if split_column is None else _read_split(where, cells[split_column])
        rows.append(
            Row(
                where,
                photo_path(str(cells[image_column]), where),
                frozenset(present),
                split,
                group=None if group is None else str(cells[group]) or None,
                unspecified=unspecified,
            )
        )
    if marks:
        form.append(("unspecified", f"{sum(len(row.unspecified) for row in rows):,} cells"))
    value_of_each(rows, "group")  # refuses an image in two
    notes, advice = [], "Correct or remove one of the rows."
    if list_column is None and listed is None:
        notes.append(
            f"{path}: every column except the path and a split is a label ({len(used):,}). To ignore columns, list the "
            "labels in a file for --labels_file."
        )
    if list_column is not None and keys[list_column] == "label":
        rows = _merge_labels(rows, [cells[list_column] for _, cells in lines], separator, form)
    elif list_column is not None:
        advice += " In a table with a row for each label, call the column 'label'."
    notes = [*_what_was_taken(path, form, image_column), *notes]
    labels = tuple(header[i] for i in used) if list_column is None else None
    is_used = set(used)
    unused = tuple(header[i] for i in others if i not in is_used)
    split_by = "" if split_column is None else f"column {header[split_column]!r}"
    several = _SEVERAL if has_flags else _SEVERAL_WITHOUT_FLAGS
    return Listing(
        path, tuple(rows), labels, "column", unused, tuple(form), tuple(notes), advice, split_by, bool(marks), several
    )


def _read_header(path, lines):
    """Takes the first row off `lines` and returns its names; InputError unless they can be a header."""
    _, cells = next(lines, (0, [""]))
    header = [clean_name(cell) for cell in cells]
    keys = [name.lower() for name in header]
    first_row = f"{path}: the first row must be a header, such as {HEADERS}. Received: {','.join(header)!r}. "
    if any(key.endswith(EXTENSIONS) for key in keys) or len(keys) > 1 and set(keys[1:]) <= {"0", "1"}:
        raise InputError(
            f"{first_row}Add a row with the column names, or give them in order, such as --columns=image,labels."
        )
    if len(keys) == 1:
        raise InputError(f"{first_row}Add a row with the column names.")
    other_form = of_header(keys)
    if other_form:
        raise InputError(f"{path} must be a table of images and labels, such as {HEADERS}. Received: {other_form}")
    for index, key in enumerate(keys):
        if index and _is_unnamed(key):
            received = "none" if not key else repr(header[index])
            raise InputError(
                f"{path}: every column must have a name. Received: {received} for column {index + 1}. "
                "Name or remove the column."
            )
    _check_differ(path, header, keys)
    return header


def _is_unnamed(key):
    return not key or key.startswith("unnamed:")  # as pandas calls a column without a name


def _check_differ(path, header, keys):
    for names in (header, [key for key in keys if key == "split"]):
        twice = [name for name in repeated(names) if name != IGNORED]
        if twice:
            raise InputError(
                f"{path}: columns must have different names. Received: {twice[0]!r} twice. Rename or remove one."
            )


def _named_header(path, lines, columns, form):
    """Returns the user's names of the columns, and the rows; without the first if that is a header itself."""
    header = [clean_name(name) for name in columns]
    keys = [name.lower() for name in header]
    if not lines:
        raise InputError(f"{path} must list at least one image. Received: an empty file. Add rows.")
    _check_differ(path, header, keys)
    if len(lines[0][1]) != len(header):
        raise InputError(
            f"columns must name every column of {path}. Received: {len(header)} names for {len(lines[0][1])} columns. "
            f"Give a name for each, {IGNORED!r} for one that is not used."
        )
    image = next((keys.index(name) for name in _IMAGE_COLUMNS if name in keys), 0)
    has_ending = [str(cells[image]).lower().endswith(EXTENSIONS) for _, cells in lines[:2]]
    form.append(("header", "named by --columns"))
    if has_ending == [False, True]:
        form[-1] = ("header", f"the first row, {','.join(map(str, lines[0][1]))!r}, replaced by --columns")
        lines = lines[1:]
    return header, lines


def _find_image_column(path, header, keys, lines):
    """The index of the column of paths: the first if it holds names of image files, else the one that is called so.

    Raises:
        InputError: the first column is called a label or split, and no other is called an image.
    """
    cells = [line_cells for _, line_cells in lines]
    if any(str(row[0]).lower().endswith(EXTENSIONS) for row in cells[:_LOOKED_AT]):
        return 0
    for name in _IMAGE_COLUMNS:
        if name in keys and not all(str(row[keys.index(name)]).lower() in VALUES for row in cells):
            return keys.index(name)
    if keys[0] in (*_LIST_COLUMNS, "split"):
        raise InputError(
            f"{path}: the first column must be the image's path. Received: {header[0]!r}. Put the paths first, or call "
            "their column 'image'."
        )
    return 0


def _find_group_column(path, header, name):
    """The index of the column of groups, None for none."""
    if not name:
        return None
    if clean_name(name) not in header:
        raise InputError(
            f"group_column must be a column of {path}. Received: {name!r}, which is none of {', '.join(header[:20])}."
        )
    return header.index(clean_name(name))


def _find_list_column(path, header, others, lines, separator, listed, marks):
    """Returns the index of the column that holds lists of names; None for a column for each label.

    A column `label`, `labels` or `tags` holds lists, but for one case: it is itself a label among others, all with yes
    or no (or marks).

    Raises:
        InputError: there are two, or one that holds 0 and 1 and is not said to be either.
    """
    named = [i for i in others if header[i].lower() in _LIST_COLUMNS]
    named = named or [i for i in others if header[i].lower() == _TAGS]
    if not named:
        return None
    columns = [i for i in others if listed is None or header[i] in listed]
    is_complete = len(columns) > 1 if listed is None else len(columns) == len(listed)
    cells_of = (str(cells[i]).lower() for _, cells in lines for i in columns)
    if is_complete and set(named) & set(columns) and all(cell in VALUES or cell in marks for cell in cells_of):
        return None
    if len(named) > 1:
        raise InputError(f"{path}: columns must have different names. Received: 'labels' twice. Rename or remove one.")
    found = set()
    for _, cells in lines:
        found |= _names_of(cells[named[0]], separator)
        if not found <= {"0", "1"}:
            break
    if found and found <= {"0", "1"} and listed is None:
        raise InputError(
            f"{path}, column {header[named[0]]!r}: the meaning of 0 and 1 must be clear. Received: no other value. If "
            "they are label names, list all labels in a file for --labels_file. If they mean no and yes for one "
            "label, name the column after it. For several labels, list them in a file for --labels_file."
        )
    return named[0]


def _find_label_columns(header, others, lines, listed, marks):
    """The indices of the columns that are labels: those that the user has listed, or all but texts.

    A text has no yes or no in any row, and something else than nothing, `_LETTERS`, and -1, which may stand for an
    unknown label.
    Where all columns are texts, none is, so that the first cell is refused.
    """
    if listed is not None:
        return [i for i in others if header[i] in listed]
    found = {i: {str(cells[i]).lower() for _, cells in lines} for i in others}
    return [i for i, cells in found.items() if cells & set(VALUES) or cells <= {*_UNKNOWN, *marks, *_LETTERS}] or others


def _has_only_x(lines, used):
    """Whether the cells of the labels' columns are x or empty, and some are x."""
    cells = (str(cells[i]).lower() for _, cells in lines for i in used)
    seen = set()
    for cell in cells:
        seen.add(cell)
        if not seen <= {"x", ""}:
            return False
    return "x" in seen


def _check_x(path, header, lines, used, marks, has_flags):
    """Raises InputError for a label's column with x beside 1, or another yes: x may then mean that nobody knows."""
    if "x" in marks:
        return
    for i in used:
        cells_of = {str(cells[i]).lower() for _, cells in lines}
        others = sorted(cell for cell in cells_of - {"x"} if {**VALUES, **_LETTERS}.get(cell) == 1)
        if "x" in cells_of and others:
            raise InputError(
                f"{path}, column {header[i]!r}: yes must be written in one way where cells hold x. Received: x and "
                f"{', '.join(others)}. If x means yes, write {others[0]} in its place. {_if_not_known('x', has_flags)}"
            )


def _if_not_known(mark, has_flags):
    """What to do where a cell means that a label is not known: a sentence."""
    flag = f"--unspecified_marks={mark}"
    advice = f"give {flag}" if has_flags else f"write a CSV of the table and give --dataset=csv {flag}"
    return f"If it means that the label is not known, {advice}."


def _value_of(where, name, cell, values, has_flags):
    """1 if the cell of a label's column says that the image has it, else 0, as `values` has it in small letters."""
    value = values.get(str(cell).lower())
    if value is None:
        unspecified = f"{_if_not_known(cell or 'empty', has_flags)} " if cell in _UNKNOWN else ""
        raise InputError(
            f"{where}, column {name!r}: a label must be 0 or 1. Received: {cell!r}. Correct the cell. {unspecified}"
            "This was read as a table with a column for each label, since none is named labels, label or tags. Lists "
            "of names belong in a column named 'labels'. To ignore a column that is not a label, list all labels in a "
            "file for --labels_file."
        )
    return value


def _separator_of(key, cells, separator):
    """What separates the names in a column: in one called tags a blank, if no cell has the usual sign."""
    is_words = key == _TAGS and separator == SEPARATOR and not any(SEPARATOR in cell for cell in cells)
    return " " if is_words else separator


def _names_of(cell, separator):
    """The names of a list, text or a list of them: set of str."""
    if isinstance(cell, str) and cell.startswith("["):
        try:
            cell = json.loads(cell)
        except json.JSONDecodeError:
            pass  # Names in brackets are refused below.
    names = cell.split(separator) if isinstance(cell, str) else cell
    return {clean_name(str(name)) for name in names} - {""}


def _check_written_name(where, name, separator, has_flags):
    """Raises InputError for a name that is probably something else."""
    confirm = "If this is one name, list all names in a file for --labels_file."
    if name.lower() in _NOTHING:
        raise InputError(
            f"{where}: a cell without labels must be empty. Received: {name!r}, which programs write for a missing "
            f"value. Empty the cell. {confirm}"
        )
    if any(sign in name for sign in _SEPARATORS):
        other = "give the other separator as --separator" if has_flags else "make a list of them"
        raise InputError(
            f"{where}: label names must be separated by {separator!r}. Received: {name!r}. Write {separator!r} "
            f"between the names, or {other}. {confirm}"
        )
    if name[0] + name[-1] in ("[]", "{}", "''", '""'):
        raise InputError(
            f"{where}: label names must be written without brackets or quotes. Received: {name!r}. Remove them. "
            f"{confirm}"
        )


def _merge_labels(rows, cells, separator, form):
    """The rows of a table with a row for each label, merged to one for each image; others as they are.

    Args:
        rows: Rows, of which none is of another split than an earlier one of its image if this is such a table.
        cells: the cell of each row that names its labels.
        separator: str, what separates names; a cell that holds it lists all labels of its image.
        form: pairs, to which this is added.
    """
    labels_of = {}
    for row in rows:
        labels_of.setdefault((row.path, row.split), set()).update(row.present)
    if len(labels_of) == len(rows) or any(separator in cell for cell in cells):
        return rows
    form.append(("rows", f"one for each label: {len(rows):,} for {len(labels_of):,} images"))
    first = {}
    for row in rows:
        first.setdefault((row.path, row.split), row)
    return [dataclasses.replace(row, present=frozenset(labels_of[key])) for key, row in first.items()]


def _read_split(where, cell):
    if cell.lower() not in SPLITS:
        raise InputError(
            f"{where}: split must be one of train, validation, test. Received: {cell!r}. Correct the cell."
        )
    return SPLITS[cell.lower()]


def _what_was_taken(path, form, image_column):
    """A line on how a table was read, if that is not as usual."""
    taken = [f"{what} {how}" for what, how in form if what == "encoding" and how != "UTF-8"]
    taken += [f"{what} {how}" for what, how in form if how in ("separated by tabs", "separated by semicolons")]
    taken += [f"{what}: {how}" for what, how in form if what in ("header", "rows", "cells of labels")]
    taken += [how for what, how in form if what == "labels" and how.endswith("separated by ' '")]
    taken += [f"images in {how}" for what, how in form if what == "images" and image_column]
    return [f"{path}: read with {'; '.join(taken)}."] if taken else []
