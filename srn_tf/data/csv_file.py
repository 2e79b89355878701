"""A user's own photographs, listed with their labels in a table, as prepared records."""

from srn_tf.data import listing
from srn_tf.data.csv_table import HEADERS, SEPARATOR, VALUES, read_table
from srn_tf.data.own_photos import LAYOUT, OwnPhotos
from srn_tf.errors import InputError


class CsvFile(OwnPhotos):
    """Photographs listed in a table: CSV, or JSON lines.

    A table is text in UTF-8 or UTF-16, its cells separated by commas, tabs or semicolons. Its first row is a header.
    The photograph's path stands in the first column, under any name, or in one called `image`, `filename` or the like.
    Truth comes in one of three forms:
      - a column `labels` of names separated by ";", or `tags` of words, empty for none; further columns are not used;
      - a column `label` with one name, and a row for each label of an image;
      - or a column for each label, with 0 or 1, false or true, no or yes in every row. With a `labels_file`, columns
        that it does not name are not used. One of several such columns may be called `label` itself.
    In all of them, a column `split` may say train, validation (or val) or test. These words count in any case.

    Options, beside those of `OwnPhotos`:
        csv: path of the file, from the working directory or else from the source folder.
        test_csv, validation_csv: likewise, files of the test and of the validation photographs; "" for none.
        separator: what separates the names of a list.
        unspecified_marks: cells, separated by commas, that say in a label's column that the label is not known; the
            word empty stands for an empty cell. With it, labels are 1, -1 for absent, and 0 for unspecified.
        columns: names for the columns, separated by commas, of a table without header; "" for one with a header.
        group_column: name of a column; images with the same text in it stay together in a stratified split.
    """

    name = "csv"
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
    The source folder holds {LAYOUT}. A CSV file lists them by their paths in it, under a header such as
    {HEADERS}.
    """
    DESCRIPTION = (
        "Photographs and labels of the user, as listed in a table. A label is positive (1) or negative (0). With the "
        "option unspecified_marks it is positive (1), negative (-1) or unspecified (0)."
    )
    OPTIONS = {
        "csv": "",
        "test_csv": "",
        "validation_csv": "",
        "separator": SEPARATOR,
        "unspecified_marks": "",
        "columns": "",
        "group_column": "",
        **listing.OPTIONS,
    }
    FILE_OPTIONS = ("csv", "test_csv", "validation_csv", "labels_file")
    SOURCE_FLAGS = "--source_dir=PHOTOS --csv=labels.csv"

    @staticmethod
    def list_photos(source_dir, options, listed):
        """Reads the tables, as `OwnPhotos` describes it."""
        separator = options["separator"]
        if not separator:
            raise InputError(
                "separator must not be empty. Received: ''. Give the character between label names, or remove "
                "--separator."
            )
        columns = tuple(options["columns"].split(",")) if options["columns"] else ()
        marks = _read_marks(options["unspecified_marks"])
        listings = listing.read_files(
            source_dir,
            options,
            "csv",
            lambda path: read_table(path, separator, listed, columns, options["group_column"], marks),
        )
        for one in listings:
            if marks and one.labels is None:
                raise InputError(
                    f"unspecified_marks needs one column per label, with 0, 1 or a mark. Received: {one.path}, whose "
                    "column of names cannot say that a label is not known. Remove --unspecified_marks."
                )
        if separator != SEPARATOR and all(one.labels is not None for one in listings):
            raise InputError(
                f"separator is for a column 'labels' that lists names. Received: {separator!r} for {options['csv']}, "
                "which has one column per label. Remove --separator."
            )
        return listings


def _read_marks(text):
    """The cells that mean unspecified: frozenset of str; InputError for a 0 or 1 among them, or nothing."""
    marks = frozenset(mark.strip().lower() for mark in text.split(",")) if text else frozenset()
    if marks & {*VALUES, ""}:
        raise InputError(
            "unspecified_marks must be cells separated by commas, not 0 or 1, such as -1 or empty. Received: "
            f"{text!r}. Write empty for an empty cell."
        )
    return frozenset("" if mark == "empty" else mark for mark in marks)
