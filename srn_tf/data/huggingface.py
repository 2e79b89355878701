"""Hugging Face's image folders, with a table of metadata in each split's folder, and data sets saved to disk.

The forms: https://huggingface.co/docs/datasets/image_dataset, "ImageFolder"; https://huggingface.co/docs/datasets/process,
"Save" (`Dataset.save_to_disk`), which `arrow_images` reads.
"""

import dataclasses
import os
import posixpath

from srn_tf.data.arrow_images import UnknownClass, features_of, named, open_table
from srn_tf.data.csv_table import SEPARATOR, parse_table
from srn_tf.data.json_files import read_json
from srn_tf.data.listing import SPLITS
from srn_tf.data.photo_finder import files_in
from srn_tf.data.table_cells import as_lines, read_cells
from srn_tf.errors import InputError

_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_STATE = "state.json"  # of a data set that was saved


def read_huggingface(source_dir, listed=None):
    """Reads a folder with tables of metadata, or one of `Dataset.save_to_disk` or `DatasetDict.save_to_disk`.

    Args:
        source_dir: str, with metadata.csv, metadata.jsonl or metadata.parquet in it or in folders such as train and
            test, whose column `file_name` is a path from there; or with state.json and Arrow files. Labels are a list
            or names in a column `labels`, `label` or `tags`, a column for each label, or the categories of `objects`.
        listed: names of the labels, where the user has listed them.
    Returns:
        list of listing.Listings, one for each table; folders called as splits are splits.
    Raises:
        InputError: there is no such table, or as `csv_table.read_table`.
    """
    tables = []
    for inside, names in files_in(source_dir):
        folder = os.path.normpath(os.path.join(source_dir, inside))
        tables += [os.path.join(folder, name) for name in _NAMES if name in names]
        tables += [os.path.join(folder, name) for name in _arrow_files(folder)] if _STATE in names else []
    if not tables:
        raise InputError(
            f"{source_dir} must hold {', '.join(_NAMES)} or {_STATE}, in it or in the folder of each split. Received: "
            "none. For a folder of images for each label, use --dataset=folders."
        )
    return [_read(source_dir, path, listed) for path in tables]


def _read(source_dir, path, listed):
    """The Listing of one table."""
    if path.endswith(".arrow"):
        lines, form = _read_arrow(path), (("cells", "Arrow"),)
    elif path.endswith(".parquet"):
        rows = _read_parquet(path)
        lines, form = as_lines(list(enumerate(rows, 1))), (("cells", "Parquet"),)
    else:
        lines, form = read_cells(path)
    header = [str(name).lower() for name in lines[0][1]] if lines else []
    if "file_name" not in header:
        raise InputError(
            f"{path} must have a column file_name. Received: {', '.join(header) or 'none'}. Add it, or read the table "
            "with --dataset=csv."
        )
    inside = os.path.relpath(os.path.dirname(path), source_dir).replace(os.sep, "/")
    split = next((SPLITS[part] for part in inside.lower().split("/") if part in SPLITS), None)
    listing = parse_table(path, lines, form, SEPARATOR, listed, has_flags=False)
    rows = tuple(
        dataclasses.replace(row, path=posixpath.normpath(posixpath.join(inside, row.path)), split=row.split or split)
        for row in listing.rows
    )
    return dataclasses.replace(listing, rows=rows)


def _read_parquet(path):
    """The rows of a Parquet file: list of dict."""
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
        return _named_rows(path, table.to_pylist(), features_of(table))
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} must be a Parquet file. Received: {reason}. Write it again.") from None


def _arrow_files(folder):
    """Names of the files of a data set that was saved in a folder."""
    path = os.path.join(folder, _STATE)
    state = read_json(path, "the saved data set", advice="Save it again.")
    files = state.get("_data_files") if isinstance(state, dict) else None
    names = [file.get("filename") if isinstance(file, dict) else file for file in files or ()]
    wrong = [repr(name) for name in names if not isinstance(name, str) or name != os.path.basename(name)]
    if not names or wrong:
        raise InputError(
            f"{path} must name the files of a saved data set beside it. Received: {wrong[0] if wrong else 'none'}. "
            "Save it again."
        )
    return names


def _read_arrow(path):
    """The rows of an Arrow file, as of `table_cells.read_cells`: the images' places in it, and the other columns."""
    try:
        table, image, features = open_table(path)
    except OSError as error:
        raise InputError(f"{path} must be readable. Received: {error}. Save the data set again.") from None
    rows = _named_rows(path, table.drop_columns([image]).to_pylist(), features)
    names = (f"{os.path.basename(path)}#{number}" for number in range(table.num_rows))
    return as_lines(
        [(number, {"file_name": name, **row}) for number, (name, row) in enumerate(zip(names, rows, strict=True), 1)]
    )


def _named_rows(path, rows, features):
    """Rows with the names of classes in place of their numbers.

    Args:
        path: str, the table's, for messages.
        rows: list of dict.
        features: dict column -> feature, as of `arrow_images.open_table`.
    """
    made = []
    for number, row in enumerate(rows, 1):
        made.append({})
        for name, value in row.items():
            try:
                made[-1][name] = named(value, features.get(name))
            except UnknownClass as error:
                raise InputError(
                    f"{path}, row {number}, column {name!r}: a class must be one of the {error.args[1]} that it has "
                    f"names for. Received: {error.args[0]}. The library datasets writes -1 where the class is not "
                    "known. Leave such rows out (Dataset.filter), or give them a class."
                ) from None
    return made
