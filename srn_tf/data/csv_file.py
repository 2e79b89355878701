"""A user's own photographs, listed with their labels in a CSV file, as prepared records."""

import dataclasses
import difflib

import tensorflow_datasets as tfds

from srn_tf.data.builder import SourceBuilder
from srn_tf.data.csv_table import HEADERS, SPLITS, clean_name, read_table
from srn_tf.data.source import (
    Example,
    Photo,
    Source,
    check_photos,
    check_source_dir,
    option_file,
    read_text,
    unique_rows,
)
from srn_tf.data.splitting import split_photos
from srn_tf.errors import InputError

LAYOUT = "the photographs, in any subfolders"
"""The files of a source folder, for messages."""


class CsvFile(SourceBuilder):
    """Photographs of one's own: splits `train`, `test` and perhaps `validation`, records as in `examples.features`.

    A CSV file is text in UTF-8, its cells separated by commas. Its first row is a header, its first column the
    photograph's path in the source folder, under any name. Truth comes in one of two forms:
      - a column `labels` (or `label`) of names separated by ";", empty for none; further columns are not used;
      - or a column for each label, with 0 or 1 in every row.
    In both, a column `split` may say train, validation (or val) or test. These words count in any case. Label names
    are taken as written, but for blanks around them.

    Photographs are split by the column `split`; else by file, if there is a `test_csv`; else by iterative
    stratification, see `splitting.stratified_split`.

    Options:
        csv: path of the file, from the working directory or else from the source folder.
        test_csv, validation_csv: likewise, files of the test and of the validation photographs; "" for none.
        labels_file: likewise, a text file with a label name a line: the labels and their order. Without it: the
            columns in their order, or the names of the lists by the alphabet.
        test_fraction: share of the photographs that a stratified split tests on.
        validation_fraction: likewise for validation; 0 makes no such split, and training holds out its own.
        split_seed: seed of the stratified split.
    """

    name = "csv"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
    The source folder holds {LAYOUT}. A CSV file lists them by their paths in it, under a header such as
    {HEADERS}.
    """
    DESCRIPTION = (
        "Photographs and labels of the user, as listed in a CSV file. A label is positive (1) or negative (0)."
    )
    OPTIONS = {
        "csv": "",
        "test_csv": "",
        "validation_csv": "",
        "labels_file": "",
        "test_fraction": 0.2,
        "validation_fraction": 0.0,
        "split_seed": 0,
    }
    FILE_OPTIONS = ("csv", "test_csv", "validation_csv", "labels_file")

    @staticmethod
    def read(source_dir, options):
        check_source_dir(source_dir, LAYOUT)
        tables = _read_tables(source_dir, options)
        labels = _read_labels(tables, source_dir, options)
        rows = [row for table in tables for row in table.rows]
        split_of = _find_splits(rows)
        labels_of, repeated = unique_rows(
            (row.where, row.path, tuple(int(name in row.present) for name in labels)) for row in rows
        )
        check_photos(
            source_dir,
            labels_of,
            _paths(tables),
            "Write paths relative to source_dir, or remove the rows of images that are not there.",
        )
        photos = [Photo(path, (Example(path, truth),)) for path, truth in labels_of.items()]
        if rows[0].split is None:
            splits = split_photos(
                photos,
                list(labels_of.values()),
                options["split_seed"],
                options["test_fraction"],
                options["validation_fraction"],
            )
        else:
            splits = {split: [] for split in sorted(set(split_of.values()), key=tuple(SPLITS).index)}
            for photo in photos:
                splits[split_of[photo.path]].append(photo)
        notes = [f"{table.path}: columns not used: {', '.join(table.unused)}." for table in tables if table.unused]
        if repeated:
            notes.append(f"{repeated} rows merged with an earlier row of the same image.")
        return Source(labels, splits, notes=(*notes, *_label_notes(labels, splits)))


def _read_tables(source_dir, options):
    """Reads the file, or the file of each split, whose rows then say that split.

    Returns:
        list of Tables. Either all rows say a split or none does; if they do, there are train and test.
    Raises:
        InputError: options that exclude each other, a column `split` without train or test, or as `read_table`.
    """
    if not options["csv"]:
        raise InputError("csv must name the file that lists the images. Received: none. Give --csv=labels.csv.")
    paths = {"train": options["csv"], "test": options["test_csv"], "validation": options["validation_csv"]}
    paths = {split: path for split, path in paths.items() if path}
    if "validation" in paths and "test" not in paths:
        raise InputError("validation_csv needs a test_csv. Received: validation_csv alone. Give --test_csv, too.")
    tables = {split: read_table(option_file(path, source_dir)) for split, path in paths.items()}
    has_split = any(table.has_split for table in tables.values())
    if has_split and len(tables) > 1:
        table = next(table for table in tables.values() if table.has_split)
        raise InputError(
            f"Images must be split either by a column 'split' or by test_csv. Received: {table.path} with that "
            "column, and test_csv. Remove one of them."
        )
    if options["validation_fraction"] and (has_split or len(tables) > 1):
        raise InputError(
            "validation_fraction is for a stratified split. Received: "
            f"{options['validation_fraction']}, and {'a column split' if has_split else 'test_csv'}. Leave it out."
        )
    if has_split:
        _check_train_and_test(tables["train"])
    if len(tables) == 1:
        return list(tables.values())
    return [
        dataclasses.replace(table, rows=tuple(dataclasses.replace(row, split=split) for row in table.rows))
        for split, table in tables.items()
    ]


def _check_train_and_test(table):
    for split in ("train", "test"):
        if all(row.split != split for row in table.rows):
            raise InputError(
                f"{table.path} must have images to train on and images to test on. Received: no row with split "
                f"{split}. Mark some rows so, or remove the column for a stratified split."
            )


def _read_labels(tables, source_dir, options):
    """Returns the label names in order, and makes sure that all tables agree with them.

    Raises:
        InputError: no label at all; a column or name that is not among the labels, or a label without column.
    """
    listed_in, labels = _list_labels(tables, source_dir, options)
    known = set(labels)
    for table in tables:
        used = [(f"{table.path}, header", name) for name in table.columns or ()]
        used += [(row.where, name) for row in table.rows for name in sorted(row.present)]
        for where, name in used:
            if name not in known:
                similar = difflib.get_close_matches(name, labels)
                hint = f"Did you mean {' or '.join(map(repr, similar))}? " if similar else ""
                raise InputError(
                    f"{where}: labels must be among the {len(labels)} of {listed_in}. Received: {name!r}. {hint}"
                    "Correct the name, or add it there."
                )
        missing = [name for name in labels if name not in table.columns] if table.columns else ()
        if missing:
            raise InputError(
                f"{table.path} must have a column for every label of {listed_in}. Received: none for "
                f"{', '.join(missing)}. Add the column(s)."
            )
    return labels


def _list_labels(tables, source_dir, options):
    """Returns the file that says which labels there are, for messages, and their names in order."""
    if options["labels_file"]:
        path = option_file(options["labels_file"], source_dir)
        return path, _read_labels_file(path)
    for table in tables:
        if table.columns:
            return table.path, table.columns
    rows = [row for table in tables for row in table.rows]
    for row in rows:
        for name in sorted(row.present):
            if "," in name or "|" in name:
                raise InputError(
                    f"{row.where}: names must be separated by ';'. Received: {name!r}. Write ';' between the names; "
                    "if this is one name, list all names in a file for --labels_file."
                )
    names = set().union(*(row.present for row in rows))
    if not names:
        raise InputError(f"{_paths(tables)} must name at least one label. Received: none in any row. Add labels.")
    return _paths(tables), tuple(sorted(names))


def _read_labels_file(path):
    names = [clean_name(line) for line in read_text(path, "the labels file").split("\n")]
    names = [name for name in names if name]
    if not names:
        raise InputError(f"{path} must hold label names, one a line. Received: none. Write them there.")
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise InputError(f"{path}: label names must differ. Received: {repeated[0]!r} twice. Remove one.")
    return tuple(names)


def _find_splits(rows):
    """Returns path -> split, None if rows do not say it; InputError if an image is in two."""
    first = {}
    for row in rows:
        known = first.setdefault(row.path, row)
        if known.split != row.split:
            raise InputError(
                f"{row.where}: an image must be in one split. Received: {row.path} in {row.split}, but in "
                f"{known.split} in {known.where}. Remove one of the rows."
            )
    return {path: row.split for path, row in first.items()}


def _paths(tables):
    return ", ".join(table.path for table in tables)


def _label_notes(labels, splits):
    """Returns lines on labels that no image of a split has, and on names that differ in upper and lower case only."""
    notes = []
    for split, photos in splits.items():
        used = {i for photo in photos for i, value in enumerate(photo.examples[0].labels) if value}
        unused = [name for i, name in enumerate(labels) if i not in used]
        if unused:
            notes.append(f"No image of {split} has: {', '.join(unused)}.")
    lower = [name.lower() for name in labels]
    alike = [name for name in labels if lower.count(name.lower()) > 1]
    if alike:
        notes.append(f"Labels that differ in upper and lower case only: {', '.join(alike)}.")
    return notes
