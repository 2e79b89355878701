"""A user's own photographs, listed with their labels in a table, as prepared records."""

from srn_tf.data import listing
from srn_tf.data.csv_table import HEADERS, SEPARATOR, read_table
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
        columns: names for the columns, separated by commas, of a table without header; "" for one with a header.
        group_column: name of a column; images with the same text in it stay together in a stratified split.
    """

    name = "csv"
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
    The source folder holds {LAYOUT}. A CSV file lists them by their paths in it, under a header such as
    {HEADERS}.
    """
    OPTIONS = {
        "csv": "",
        "test_csv": "",
        "validation_csv": "",
        "separator": SEPARATOR,
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
        listings = listing.read_files(
            source_dir,
            options,
            "csv",
            lambda path: read_table(path, separator, listed, columns, options["group_column"]),
        )
        if separator != SEPARATOR and all(one.labels is not None for one in listings):
            raise InputError(
                f"separator is for a column 'labels' that lists names. Received: {separator!r} for {options['csv']}, "
                "which has one column per label. Remove --separator."
            )
        return listings
