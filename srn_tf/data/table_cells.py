"""The cells of tables: found out from the text, whatever separates them and however the text is stored."""

import csv
import itertools
import json

from srn_tf.data.other_forms import of_text
from srn_tf.data.source import read_text
from srn_tf.errors import InputError

_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons"}
_CATEGORIES = ("categories", "category", "labels", "label")  # keys of Hugging Face's `objects`
_SNIFFED_ROWS = 50


def read_cells(path):
    """Reads the cells of a table: text with commas, tabs or semicolons, or a JSON object in each line (.jsonl).

    Which of them is found out from the text. Tables with tabs or semicolons, or in UTF-16, are what spreadsheets write.

    Args:
        path: str.
    Returns:
        pair: list of (line number, cells without blanks around them) of the rows that are not empty; pairs as of
        `Listing.form`.
    Raises:
        InputError: quotes that do not match, a NUL byte, a line that is no JSON object, or as `source.read_text`.
    """
    encoding = _encoding_of(path)
    text = read_text(path, "the CSV file", encoding)
    form = [("encoding", encoding)]
    if path.lower().endswith((".jsonl", ".ndjson")):
        return _read_json_lines(path, text), [*form, ("cells", "a JSON object in each line")]
    if path.lower().endswith((".json", ".xml")):
        raise InputError(f"{path} must be a table (CSV). Received: {of_text(path, text)} Save it as CSV.")
    delimiter = _delimiter_of(text)
    return list(_split_cells(path, text, delimiter)), [*form, ("cells", f"separated by {_DELIMITERS[delimiter]}")]


def _encoding_of(path):
    """The encoding of a text file, as of `source.read_text`: UTF-16 by its mark, or by zeros at every second byte."""
    try:
        with open(path, "rb") as file:
            head = file.read(400)
    except OSError:  # Whoever reads it will say so.
        return "UTF-8"
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "UTF-16"
    for start, encoding in ((1, "UTF-16-LE"), (0, "UTF-16-BE")):
        if 2 * head[start::2].count(0) > len(head[start::2]) > 0 and 0 not in head[1 - start :: 2]:
            return encoding
    return "UTF-8"


def _delimiter_of(text):
    """What separates the cells: what gives the first rows the same number of them, two or more; else a comma."""
    for delimiter in _DELIMITERS:
        try:
            rows = [cells for cells in itertools.islice(_reader(text, delimiter), _SNIFFED_ROWS) if any(cells)]
        except csv.Error:
            continue
        lengths = {len(cells) for cells in rows}
        if len(lengths) == 1 and max(lengths) > 1:
            return delimiter
    first = next((line for line in _lines_of(text) if line.strip()), "")
    return max(_DELIMITERS, key=first.count)


def _reader(text, delimiter):
    return csv.reader(_lines_of(text), delimiter=delimiter, strict=True, skipinitialspace=True)


def _lines_of(text):
    """Yields the lines with their ends. `io.StringIO` would copy the text, 4 bytes for each character."""
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def _split_cells(path, text, delimiter):
    """Yields (line number, cells without blanks around them) of the rows that are not empty."""
    reader = _reader(text, delimiter)
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


def _read_json_lines(path, text):
    """The lines of a file with an object in each as rows; the header has all of their keys."""
    objects = []
    for number, line in enumerate(_lines_of(text), 1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path}, line {number}: must be a JSON object. Received: {error.msg} at column {error.colno}. Correct "
                "the line."
            ) from None
        if not isinstance(content, dict):
            raise InputError(
                f"{path}, line {number}: must be a JSON object. Received: {type(content).__name__}. Correct the line."
            )
        objects.append((number, content))
    return as_lines(objects)


def as_lines(objects):
    """Makes rows of objects, as of `read_cells`.

    Args:
        objects: list of (line number, dict). Of `objects`, as Hugging Face calls boxes and their categories, the
            categories are taken as labels, from a dict of lists or from a dict for each box.
    Returns:
        list of (line number, cells), the header first: all keys in the order of their first appearance.
    """
    of_boxes = any(isinstance(one, dict) for _, content in objects for one in _listed(content.get("objects")))
    objects = [(number, _with_labels(content, of_boxes)) for number, content in objects]
    header = list(dict.fromkeys(key for _, content in objects for key in content))
    return [(0, header), *((number, [_cell(content.get(key)) for key in header]) for number, content in objects)]


def _listed(value):
    return value if isinstance(value, list) else []


def _with_labels(content, of_boxes):
    """A row with the categories of its objects as labels; `of_boxes` says that objects are a dict for each box."""
    boxes = content.get("objects")
    if of_boxes and isinstance(boxes, list) and all(isinstance(box, dict) for box in boxes):
        key = next((key for key in _CATEGORIES if any(key in box for box in boxes)), _CATEGORIES[0])
        boxes = {key: [box.get(key) for box in boxes]}
    key = next((key for key in _CATEGORIES if key in boxes), None) if isinstance(boxes, dict) else None
    return content if key is None else {**{k: v for k, v in content.items() if k != "objects"}, "labels": boxes[key]}


def _cell(value):
    """A value of JSON as a cell: text, or a list of names, without those that are not known."""
    if isinstance(value, list):
        return [str(name) for name in value if name is not None]
    return "" if value is None else str(value).strip()
