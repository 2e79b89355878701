"""A user's own photographs, listed with their labels in a CSV file, as prepared records."""

import dataclasses
import difflib

import numpy as np
import tensorflow_datasets as tfds

from srn_tf.data.builder import SourceBuilder
from srn_tf.data.csv_table import HEADERS, SEPARATOR, SPLITS, read_table
from srn_tf.data.label_names import clean_name, in_short, made_of_others, repeated
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

_SEPARATORS = (";", ",", "|")
_NOTHING = ("nan", "none", "null", "nil", "na", "n/a", "#n/a", "<na>", "nat", "undefined")
"""What programs write for an empty cell, in lower case."""


class CsvFile(SourceBuilder):
    """Photographs of one's own: splits `train`, `test` and perhaps `validation`, records as in `examples.features`.

    A CSV file is text in UTF-8, its cells separated by commas. Its first row is a header, its first column the
    photograph's path in the source folder, under any name. Truth comes in one of two forms:
      - a column `labels` (or `label`) of names separated by ";", empty for none; further columns are not used;
      - or a column for each label, with 0 or 1 in every row. With a `labels_file`, columns that it does not name are
        not used. One of several such columns may be called `label` itself.
    In both, a column `split` may say train, validation (or val) or test. These words count in any case. Label names
    are taken as written, but cleaned, see `label_names.clean_name`.

    Photographs are split by the column `split`; else by file, if there is a `test_csv`; else by iterative
    stratification, see `splitting.stratified_split`.

    Options:
        csv: path of the file, from the working directory or else from the source folder.
        test_csv, validation_csv: likewise, files of the test and of the validation photographs; "" for none.
        labels_file: likewise, a text file with one label name per line: the labels and their order. Without it: the
            columns in their order, or the names of the lists by the alphabet.
        separator: what separates the names of a list.
        unspecified_marks: cells, separated by commas, that say in a label's column that the label is not known; the
            word empty stands for an empty cell. With it, labels are 1, -1 for absent, and 0 for unspecified.
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
        "Photographs and labels of the user, as listed in a CSV file. A label is positive (1) or negative (0). With "
        "the option unspecified_marks it is positive (1), negative (-1) or unspecified (0)."
    )
    OPTIONS = {
        "csv": "",
        "test_csv": "",
        "validation_csv": "",
        "labels_file": "",
        "separator": SEPARATOR,
        "unspecified_marks": "",
        "test_fraction": 0.2,
        "validation_fraction": 0.0,
        "split_seed": 0,
    }
    FILE_OPTIONS = ("csv", "test_csv", "validation_csv", "labels_file")
    SOURCE_FLAGS = "--source_dir=PHOTOS --csv=labels.csv"

    @staticmethod
    def read(source_dir, options):
        """The splits of the source, as `SourceBuilder` describes it."""
        check_source_dir(source_dir, LAYOUT)
        listed_in = options["labels_file"] and option_file(options["labels_file"], source_dir)
        listed = _read_labels_file(listed_in) if listed_in else None
        tables = _read_tables(source_dir, options, listed)
        labels = _read_labels(tables, listed_in, listed, options["separator"])
        rows = [row for table in tables for row in table.rows]
        split_of = _find_splits(rows)
        labels_of, num_merged = unique_rows(
            (row.where, row.path, _truth(row, labels, bool(options["unspecified_marks"]))) for row in rows
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
        if options["unspecified_marks"]:
            _check_specified(splits, _paths(tables))
        notes = [f"{table.path}: columns not used: {', '.join(table.unused)}." for table in tables if table.unused]
        if listed is None and tables[0].columns:
            notes.append(
                f"{tables[0].path}: every column except the path and a split is a label ({len(labels):,}). To "
                "ignore columns, list the labels in a file for --labels_file."
            )
        if num_merged:
            notes.append(f"{num_merged} rows merged with an earlier row of the same image.")
        warnings = []
        several = made_of_others(labels) if listed is None and tables[0].columns is None else ()
        if several:
            warnings.append(
                f"{_paths(tables)}: some labels consist of other labels' names: {in_short(several)}. If these cells "
                "list several labels, give the separator, as in --separator=' '. If not, list all labels in a file for "
                "--labels_file."
            )
        return Source(labels, splits, notes=(*notes, *_label_notes(labels, splits)), warnings=tuple(warnings))


def _read_tables(source_dir, options, listed):
    """Reads the file, or the file of each split, whose rows then say that split.

    Args:
        source_dir, options: as of `CsvFile.read`.
        listed: names of the labels, None if the user has not listed them.
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
        raise InputError("validation_csv needs test_csv. Received: validation_csv alone. Give --test_csv as well.")
    separator = options["separator"]
    if not separator:
        raise InputError(
            "separator must not be empty. Received: ''. Give the character between label names, or remove --separator."
        )
    marks = _read_marks(options["unspecified_marks"])
    tables = {
        split: read_table(option_file(path, source_dir), separator, listed, marks) for split, path in paths.items()
    }
    for table in tables.values():
        if marks and table.columns is None:
            raise InputError(
                f"unspecified_marks needs one column per label, with 0, 1 or a mark. Received: {table.path}, whose "
                "column of names cannot say that a label is not known. Remove --unspecified_marks."
            )
    if separator != SEPARATOR and all(table.columns is not None for table in tables.values()):
        raise InputError(
            f"separator is for a column 'labels' that lists names. Received: {separator!r} for {options['csv']}, "
            "which has one column per label. Remove --separator."
        )
    has_split = any(table.has_split for table in tables.values())
    if has_split and len(tables) > 1:
        table = next(table for table in tables.values() if table.has_split)
        raise InputError(
            "Images must be split by a column 'split' or by test_csv, not by both. Received: test_csv, and that "
            f"column in {table.path}. Remove one of them."
        )
    if options["validation_fraction"] and (has_split or len(tables) > 1):
        raise InputError(
            f"validation_fraction is for images that srn_tf splits. Received: {options['validation_fraction']} "
            f"together with {'a column split' if has_split else 'test_csv'}. Remove --validation_fraction."
        )
    if has_split:
        _check_train_and_test(tables["train"])
    if len(tables) == 1:
        return list(tables.values())
    return [
        dataclasses.replace(table, rows=tuple(dataclasses.replace(row, split=split) for row in table.rows))
        for split, table in tables.items()
    ]


def _read_marks(text):
    """The cells that mean unspecified: frozenset of str; InputError for a 0 or 1 among them, or nothing."""
    marks = frozenset(mark.strip() for mark in text.split(",")) if text else frozenset()
    if marks & {"0", "1", ""}:
        raise InputError(
            "unspecified_marks must be cells separated by commas, not 0 or 1, such as -1 or empty. Received: "
            f"{text!r}. Write empty for an empty cell."
        )
    return frozenset("" if mark == "empty" else mark for mark in marks)


def _truth(row, labels, may_be_unspecified):
    """The labels of a row as they are stored: tuple of C ints, see `CsvFile`."""
    absent = -1 if may_be_unspecified else 0
    return tuple(1 if name in row.present else 0 if name in row.unspecified else absent for name in labels)


def _check_specified(splits, paths):
    """InputError where images that are evaluated on have no label that is known to be absent: AP would be 100."""
    for split in set(splits) - {"train"}:
        if all(-1 not in photo.examples[0].labels for photo in splits[split]):
            raise InputError(
                f"{paths}: the {split} images must have absent labels, with 0. Received: only 1 and unspecified. Write "
                "0 for labels that are known to be absent."
            )


def _check_train_and_test(table):
    for split in ("train", "test"):
        if all(row.split != split for row in table.rows):
            raise InputError(
                f"{table.path} must have training and test images. Received: no row with split {split}. Set the split "
                f"of some rows to {split}, or remove the column to have the images split."
            )


def _read_labels(tables, listed_in, listed, separator):
    """Returns the label names in order, and makes sure that all tables agree with them.

    Args:
        tables: Tables.
        listed_in, listed: the user's file of labels and its names; None for none.
        separator: str, what separates names.
    Raises:
        InputError: no label at all; a column or name that is not among the labels or is probably none, or a label
            without column.
    """
    if listed is None:
        listed_in, labels = _list_labels(tables, separator)
    else:
        labels = listed
    known = set(labels)
    for table in tables:
        used = [(f"{table.path}, header", name) for name in table.columns or ()]
        used += [(row.where, name) for row in table.rows for name in sorted(row.present)]
        for where, name in used:
            if name not in known:
                similar = difflib.get_close_matches(name, labels)
                hint = f"Did you mean {' or '.join(map(repr, similar))}? " if similar else ""
                raise InputError(
                    f"{where}: labels must be among the {len(labels)} of {listed_in}. Received: {name!r}. "
                    f"{hint}Correct the name, or add it to {listed_in}."
                )
        missing = [name for name in labels if name not in table.columns] if table.columns is not None else ()
        if missing:
            others = f", but columns {in_short(table.unused)}" if table.unused else ""
            raise InputError(
                f"{table.path} must have a column for every label of {listed_in}. Received: no column for "
                f"{', '.join(missing)}{others}. Add or rename the column(s)."
            )
    return labels


def _list_labels(tables, separator):
    """Returns the file that says which labels there are, for messages, and their names in order."""
    for table in tables:
        if table.columns:
            return table.path, table.columns
    names = set()
    for row in (row for table in tables for row in table.rows):
        for name in sorted(row.present - names):
            _check_written_name(row.where, name, separator)
        names |= row.present
    if not names:
        raise InputError(f"{_paths(tables)} must name at least one label. Received: no label in any row. Add labels.")
    return _paths(tables), tuple(sorted(names))


def _check_written_name(where, name, separator):
    """Raises InputError for a name that is probably something else."""
    confirm = "If this is one name, list all names in a file for --labels_file."
    if name.lower() in _NOTHING:
        raise InputError(
            f"{where}: a cell without labels must be empty. Received: {name!r}, which programs write for a missing "
            f"value. Empty the cell. {confirm}"
        )
    if any(sign in name for sign in _SEPARATORS):
        raise InputError(
            f"{where}: label names must be separated by {separator!r}. Received: {name!r}. Write {separator!r} "
            f"between the names, or give the other separator as --separator. {confirm}"
        )
    if name[0] + name[-1] in ("[]", "{}", "''", '""'):
        raise InputError(
            f"{where}: label names must be written without brackets or quotes. Received: {name!r}. Remove them. "
            f"{confirm}"
        )


def _read_labels_file(path):
    names = [clean_name(line) for line in read_text(path, "the labels file").split("\n")]
    names = [name for name in names if name]
    if not names:
        raise InputError(f"{path} must have one label name per line. Received: no name. Add the names.")
    twice = repeated(names)
    if twice:
        raise InputError(f"{path}: label names must differ. Received: {twice[0]!r} twice. Remove one.")
    return tuple(names)


def _find_splits(rows):
    """Returns path -> split, None if rows do not say it; InputError if an image is in two."""
    first = {}
    for row in rows:
        known = first.setdefault(row.path, row)
        if known.split != row.split:
            raise InputError(
                f"{row.where}: an image must be in one split. Received: {row.path} in {row.split} here, and in "
                f"{known.split} in {known.where}. Remove one of the rows."
            )
    return {path: row.split for path, row in first.items()}


def _paths(tables):
    return ", ".join(table.path for table in tables)


def _label_notes(labels, splits):
    """Returns lines on labels that no image of a split has, or all have."""
    notes, everywhere = [], set(labels)
    for split, photos in splits.items():
        counts = np.zeros(len(labels), np.int64)
        for photo in photos:
            counts += np.equal(photo.examples[0].labels, 1)
        unused = [name for name, count in zip(labels, counts) if count == 0]
        if unused:
            others = f" and {len(unused) - 50:,} others" if len(unused) > 50 else ""
            notes.append(f"No image of {split} has: {', '.join(unused[:50])}{others}.")
        everywhere -= {name for name, count in zip(labels, counts) if count < len(photos)}
    if everywhere:
        notes.append(f"Every image has: {', '.join(sorted(everywhere))}. Nothing can be learned from these labels.")
    return notes
