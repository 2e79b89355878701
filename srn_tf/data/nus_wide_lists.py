"""NUS-WIDE's lists and label files, and the lists that others made of it: read and checked as a whole."""

import ast
import csv
import io
import itertools
import re
from pathlib import Path

import numpy as np

from srn_tf.data.label_names import clean_name
from srn_tf.data.source import Count, photo_path, read_text, unique_rows
from srn_tf.errors import InputError

LABEL_NAMES = (
    *("airport", "animal", "beach", "bear", "birds", "boats", "book", "bridge", "buildings", "cars", "castle", "cat"),
    *("cityscape", "clouds", "computer", "coral", "cow", "dancing", "dog", "earthquake", "elk", "fire", "fish"),
    *("flags", "flowers", "food", "fox", "frost", "garden", "glacier", "grass", "harbor", "horses", "house", "lake"),
    *("leaf", "map", "military", "moon", "mountain", "nighttime", "ocean", "person", "plane", "plants", "police"),
    *("protest", "railroad", "rainbow", "reflection", "road", "rocks", "running", "sand", "sign", "sky", "snow"),
    *("soccer", "sports", "statue", "street", "sun", "sunset", "surf", "swimmers", "tattoo", "temple", "tiger"),
    *("tower", "town", "toy", "train", "tree", "valley", "vehicle", "water", "waterfall", "wedding", "whales"),
    *("window", "zebra"),
)
"""81 names, alphabetical, as in the official Concepts81.txt; their position is the label's index."""

LAYOUT = (
    "ConceptsList/Concepts81.txt, ImageList/TrainImagelist.txt, ImageList/TestImagelist.txt, 81 files each "
    "Groundtruth/TrainTestLabels/Labels_<concept>_Train.txt and Labels_<concept>_Test.txt, Flickr/<tag>/*.jpg"
)
"""The files of a source folder, for messages."""

CSV_NAME = "nus_wid_data.csv"
CSV_LAYOUT = f"{CSV_NAME} and the images it names, images/*.jpg"

_SUFFIXES = {"train": "Train", "test": "Test"}
_ROWS = {"train": 161_789, "test": 107_859}
_UNLABELLED_ROWS = {"train": 36_340, "test": 23_961}

# The one damaged value of the official label files: file, line, value. Read as 0, as every reader does that
# asks for 1.
_DAMAGED = ("Labels_lake_Train.txt", 78_372, "-1130179")

_CSV_COLUMNS = ("filepath", "label", "split_name")
_CSV_SPLITS = {"train": "train", "val": "test"}


def read_official(source_dir):
    """Reads the official image lists and label files.

    Args:
        source_dir: folder of the official layout (`LAYOUT`); the images are not looked at.
    Returns:
        labels_of: split ("train", "test") -> dict: path ("Flickr/<tag>/<file>", in the order of the list) -> 81 ints,
            1 or 0. Equal rows share one tuple.
        counts: Counts of the rows, and of the rows without any label.
        notes: lines for the user.
    Raises:
        InputError: a file is missing, is not UTF-8 or holds user tags; Concepts81.txt differs from `LABEL_NAMES`; a
            label file has another length than its list, or a value that is not 0 or 1; a path leaves the source
            folder; an image has two truths, or is in both lists.
    """
    _check_concepts(Path(source_dir, "ConceptsList", "Concepts81.txt"))
    labels_of, counts, notes, shared = {}, [], [], {}
    for split, suffix in _SUFFIXES.items():
        list_path = Path(source_dir, "ImageList", f"{suffix}Imagelist.txt")
        lines = _read_lines(list_path)
        matrix = _read_matrix(source_dir, suffix, list_path, len(lines), notes)
        rows = []
        for number, (line, row) in enumerate(zip(lines, matrix), start=1):
            where = f"{list_path}, line {number}"
            rows.append((where, _image_path(line, where), shared.setdefault(row.tobytes(), tuple(row.tolist()))))
        labels_of[split] = unique_rows(rows)[0]
        notes += _merged(split, len(rows) - len(labels_of[split]))
        counts.append(Count(f"{split} rows", len(rows), _ROWS[split]))
        num_unlabelled = int((matrix.sum(axis=1) == 0).sum())
        counts.append(Count(f"{split} rows without a label", num_unlabelled, _UNLABELLED_ROWS[split]))
    _check_splits(labels_of, "ImageList/TrainImagelist.txt and TestImagelist.txt")
    return labels_of, counts, notes


def read_list(path, labels_of):
    """Reads a choice of the official rows.

    One image a line, written as in the official lists: with backslashes or "/", with or without "Flickr/" in
    front. A number may follow it and is not used: the lists of SRN's authors have the number of labels there.

    Args:
        path: str or path of the list.
        labels_of: split -> dict whose keys are the paths of the official rows.
    Returns:
        set of paths, as in `labels_of`.
    Raises:
        InputError: the file is missing, is not UTF-8 or holds user tags, a line is something else, or an image
            is in neither official list.
    """
    _refuse_tags(path)
    chosen = set()
    for number, line in enumerate(_read_lines(path), start=1):
        where = f"{path}, line {number}"
        parts = re.fullmatch(r"(\S+)(\s+\d+)?", line)
        if parts is None:
            raise InputError(
                f"{where}: a line must be the path of one image, with an optional number after it. Received: "
                rf"{_short(line)}. Write it as in ImageList, such as actor\0001_2124494179.jpg."
            )
        image = _image_path(parts[1], where)
        if not any(image in rows for rows in labels_of.values()):
            raise InputError(
                f"{where}: an image must be in TrainImagelist.txt or TestImagelist.txt. Received: {parts[1]}, which is "
                "in neither. Correct or remove the line."
            )
        chosen.add(image)
    return chosen


def read_csv(path):
    """Reads a table with the columns filepath, label, split_name, as published with ASL (Ridnik et al., ICCV 2021).

    filepath is relative to the source folder ("images/0_2124494179_b039ddccac_m.jpg"), label a list of names in
    Python's notation ("['clouds', 'sky']"), split_name "train" or "val"; "val" is the test split.

    Args:
        path: str or path of the table.
    Returns:
        labels_of as of `read_official`, and notes.
    Raises:
        InputError: the file is missing, is not UTF-8, or holds user tags; a column is missing; a row has another
            number of columns, another split, a label that is not a list of the 81 names, or a path that leaves
            the source folder; an image has two truths, or is in both splits.
    """
    _refuse_tags(path)
    rows, known = {split: [] for split in _CSV_SPLITS.values()}, {}
    try:
        for where, row in _csv_rows(path, read_text(path, CSV_LAYOUT)):
            image, label, split = (row[column].strip() for column in _CSV_COLUMNS)
            if split not in _CSV_SPLITS:
                raise InputError(f"{where}: split_name must be train or val. Received: {split!r}. Correct the row.")
            if label not in known:
                known[label] = _parse_labels(label, where)
            rows[_CSV_SPLITS[split]].append((where, photo_path(image, where), known[label]))
    except csv.Error as error:
        raise InputError(f"{path} must be a table in CSV. Received: {error}. Use the file as published.") from None
    labels_of = {split: unique_rows(rows[split])[0] for split in rows}
    _check_splits(labels_of, path)
    return labels_of, [note for split in rows for note in _merged(split, len(rows[split]) - len(labels_of[split]))]


def _read_lines(path):
    """Lines without the spaces around them; blank ones at the end are left out."""
    text = read_text(path, LAYOUT).rstrip()
    return [line.strip() for line in text.split("\n")] if text else []


def _image_path(text, where):
    path = photo_path(text, where)
    return path if path.startswith("Flickr/") else f"Flickr/{path}"


def _check_concepts(path):
    names = map(clean_name, _read_lines(path))
    for number, (found, expected) in enumerate(itertools.zip_longest(names, LABEL_NAMES), start=1):
        if found != expected:
            raise InputError(
                f"{path}, line {number}: the 81 concepts must be those of NUS-WIDE, in alphabetical order, here "
                f"{expected or 'none'}. Received: {found or 'none'}. Use the official file."
            )


def _read_matrix(source_dir, suffix, list_path, num_rows, notes):
    """Reads the label files of a split: uint8 (num_rows, 81), 1 or 0. May add to the notes."""
    matrix = np.zeros((num_rows, len(LABEL_NAMES)), np.uint8)
    for index, name in enumerate(LABEL_NAMES):
        path = Path(source_dir, "Groundtruth", "TrainTestLabels", f"Labels_{name}_{suffix}.txt")
        if not path.exists():
            _refuse_tags_instead(path, source_dir)
        values = _read_lines(path)
        if len(values) != num_rows:
            raise InputError(
                f"{path} must have one line per image of {list_path}. Received: {len(values)} lines for {num_rows} "
                "images. Use the official files."
            )
        _mend(path, values, notes)
        matrix[:, index] = _parse_binary(path, values)
    return matrix


def _mend(path, values, notes):
    """Sets the one damaged value of the official files to 0."""
    name, number, damaged = _DAMAGED
    if path.name == name and len(values) >= number and values[number - 1] == damaged:
        values[number - 1] = "0"
        notes.append(f"{name}, line {number:,}: the value {damaged} of the official file was read as 0.")


def _parse_binary(path, values):
    if not set(values) <= {"0", "1"}:
        number, value = next((i, value) for i, value in enumerate(values, start=1) if value not in ("0", "1"))
        raise InputError(f"{path}, line {number}: a label must be 0 or 1. Received: {_short(value)}. Correct the file.")
    return [value == "1" for value in values]


def _refuse_tags(path):
    """Raises InputError if a file that the user gave is one of the *_Tags81.txt."""
    if Path(path).name.lower().endswith("tags81.txt"):
        raise InputError(
            f"{path} must not be a file of user tags. Received: a Tags81.txt, with the tags that Flickr users gave. "
            "They are not the ground truth. Give another file."
        )


def _refuse_tags_instead(path, source_dir):
    """Raises InputError if user tags lie where the missing label file should be, or are all there is."""
    source_dir = Path(source_dir)
    for folder in (path.parent, source_dir / "Groundtruth", source_dir / "NUS_WID_Tags", source_dir):
        for tags in sorted(folder.glob("*Tags81.txt")):
            raise InputError(
                f"{path} must exist: it has the ground truth. Received: {tags}, with the tags that Flickr users gave. "
                "They are not the ground truth. Unpack the official Groundtruth.zip."
            )


def _csv_rows(path, text):
    """Yields (where, dict column -> text)."""
    reader = csv.DictReader(io.StringIO(text.rstrip()), skipinitialspace=True)
    reader.fieldnames = columns = [name.strip() for name in reader.fieldnames or ()]
    if not set(_CSV_COLUMNS) <= set(columns):
        raise InputError(
            f"{path} must have the columns {', '.join(_CSV_COLUMNS)}. Received: {_short(', '.join(columns))}. "
            "Name them so in the first line."
        )
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        if None in row or None in row.values():  # more fields than columns, or fewer
            raise InputError(
                f"{where}: a row must have {len(columns)} columns. Received: {_short(str([*row.values()]))}. Correct "
                "the row. A list of several labels needs double quotes."
            )
        yield where, row


def _parse_labels(text, where):
    """Turns "['clouds', 'sky']" into 81 ints."""
    try:
        names = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"{where}: label must be a list of names such as ['clouds', 'sky']. Received: {_short(text)}. "
            "Correct the row."
        )
    names = [clean_name(name) for name in names]
    unknown = [name for name in names if name not in LABEL_NAMES]
    if unknown:
        raise InputError(
            f"{where}: a label must be one of the 81 concepts of NUS-WIDE. Received: {unknown[0]!r}. Correct the row."
        )
    return tuple(int(name in names) for name in LABEL_NAMES)


def _check_splits(labels_of, listed_in):
    """Raises InputError if a split is empty, or an image is in both."""
    for split, rows in labels_of.items():
        if not rows:
            raise InputError(f"{listed_in} must list at least one {split} image. Received: none. Use the whole files.")
    both = [path for path in labels_of["train"] if path in labels_of["test"]]
    if both:
        raise InputError(
            f"An image must be in one split only in {listed_in}. Received: {len(both)} in both, the first {both[0]}. "
            "Remove one of the rows."
        )


def _merged(split, repeated):
    return [f"{split}: {repeated:,} rows name an image of an earlier row and were merged."] if repeated else []


def _short(text):
    return repr(text if len(text) <= 100 else f"{text[:100]}...")
