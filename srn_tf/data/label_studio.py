"""Choices (and boxes) that people made in Label Studio, in any of its exports that hold them.

The forms: https://labelstud.io/guide/export.html, "JSON", "JSON_MIN", "CSV" and "TSV". The last three hold the same:
an object for each annotation, with the fields of the task and those of the answers side by side.
"""

import json
import re
from urllib.parse import parse_qs, unquote, urlsplit

from srn_tf.data.coco_annotations import box_fractions
from srn_tf.data.image_files import EXTENSIONS
from srn_tf.data.json_files import as_documented, read_json, shortened
from srn_tf.data.label_names import clean_name
from srn_tf.data.listing import Listing, Row
from srn_tf.data.other_forms import of_json
from srn_tf.data.source import photo_path
from srn_tf.data.table_cells import read_cells
from srn_tf.errors import InputError

_FIELDS_OF_ITS_OWN = (
    *("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement", "history"),
)
_ADVICE = "Correct one of the annotations in Label Studio and export again."


def read_label_studio(path, listed=None):
    """Reads an export.

    Args:
        path: str, of JSON, JSON_MIN, CSV or TSV.
        listed: names of the labels, where the user has listed them: they tell an answer from other text of a task.
    Returns:
        listing.Listing: an image has the choices and the labels of regions that were given to it, and the boxes of
        rectangles. Tasks without annotation, or whose annotations were all skipped, are left out. Of an image that
        Label Studio holds itself, the file may also have the name it had before, without eight digits in front.
    Raises:
        InputError: the file has another form, no task is annotated, or it cannot be told which field holds an image or
            an answer.
    """
    if path.lower().endswith(".json"):
        content = read_json(path, "the export", advice="Export it again.")
        if not isinstance(content, list) or not content or not all(isinstance(task, dict) for task in content):
            raise InputError(
                f"{path} must be an export of Label Studio (JSON, JSON_MIN, CSV or TSV), a list of tasks. Received: "
                f"{of_json(content)}"
            )
        if all("data" in task and ("annotations" in task or "completions" in task) for task in content):
            with as_documented(path, "an export of Label Studio", "Export it again."):
                return _read_tasks(path, content)
    else:
        lines, _ = read_cells(path)
        header = lines[0][1] if lines else []
        content = [dict(zip(header, cells, strict=False)) for _, cells in lines[1:]]
    if not content or not all({"annotator", "annotation_id"} <= set(entry) for entry in content):
        raise InputError(
            f"{path} must be an export of Label Studio (JSON, JSON_MIN, CSV or TSV). Received: {of_json(content)}"
        )
    with as_documented(path, "an export of Label Studio", "Export it again."):
        return _read_flat(path, content, listed)


def _read_tasks(path, tasks):
    """The Listing of an export as JSON."""
    rows, num_left_out = [], 0
    for number, task in enumerate(tasks):
        where = f"{path}, task {task.get('id', number)}"
        made = task.get("annotations") or task.get("completions") or []
        made = [one for one in made if not (one.get("was_cancelled") or one.get("skipped"))]
        num_left_out += not made
        name, *aliases = _names_of_file(where, _image_of(where, task["data"]))
        for one in made:
            present, objects = set(), []
            for result in one.get("result") or ():
                found, box = _read_value(result.get("value") or {})
                present |= found
                objects += [(box, label) for label in sorted(found)] if box else []
            rows.append(Row(where, name, frozenset(present), None, tuple(objects), tuple(aliases)))
    return _listing(path, rows, "JSON of Label Studio", num_left_out)


def _read_flat(path, entries, listed):
    """The Listing of an export with an object for each annotation."""
    values = [{key: _parsed(value) for key, value in entry.items()} for entry in entries]
    images = [_image_of(f"{path}, annotation {number}", entry) for number, entry in enumerate(values, 1)]
    answers = _answer_fields(path, values, images, listed)
    rows, num_left_out = [], 0
    for number, (entry, image) in enumerate(zip(values, images, strict=True), 1):
        where = f"{path}, annotation {entry.get('annotation_id') or number}"
        if not entry.get("annotation_id"):  # a task without annotation, if the user has asked for those, too
            num_left_out += 1
            continue
        present, objects = set(), []
        for key in answers:
            answer = entry.get(key) or []
            for one in answer if isinstance(answer, list) else [answer]:
                found, box = _read_value(one if isinstance(one, dict) else {"choices": [one]})
                present |= found
                objects += [(box, label) for label in sorted(found)] if box else []
        name, *aliases = _names_of_file(where, image)
        rows.append(Row(where, name, frozenset(present), None, tuple(objects), tuple(aliases)))
    return _listing(path, rows, f"table of Label Studio, answers in {', '.join(answers)}", num_left_out)


def _listing(path, rows, form, num_left_out):
    if not rows:
        raise InputError(f"{path} must hold at least one annotation. Received: none. Annotate tasks and export again.")
    notes = (f"{path}: {num_left_out:,} tasks without annotation are left out.",) if num_left_out else ()
    said = (("annotations", form), ("labels", "choices"), ("boxes", f"{sum(len(row.objects) for row in rows):,}"))
    return Listing(path, tuple(rows), None, "choice", (), said, notes, _ADVICE)


def _parsed(value):
    """A field's value; of a table, a cell that holds JSON as what it says."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _read_value(value):
    """The labels of an answer, and its box (None for none): of choices, and of regions such as rectangles."""
    found = set()
    for key, names in value.items():
        if (key == "choices" or key.endswith("labels")) and isinstance(names, list):
            found |= {clean_name(str(name)) for name in names} - {""}
    sides = [value.get(key) for key in ("x", "y", "width", "height")]  # in percent
    if "rectanglelabels" not in value or not all(isinstance(side, (int, float)) for side in sides):
        return found, None
    return found, None if value.get("rotation") else box_fractions(sides, 100.0, 100.0)


def _answer_fields(path, entries, images, listed):
    """The names of the fields that hold answers."""
    every = dict.fromkeys(key for entry in entries for key in entry)  # an answer that was not given has no field
    fields = [key for key in every if key not in _FIELDS_OF_ITS_OWN]
    fields = [key for key in fields if [entry.get(key) for entry in entries] != images]
    with_choices = [key for key in fields if any(_has_choices(entry.get(key)) for entry in entries)]
    if with_choices:
        return with_choices
    texts = [key for key in fields if all(isinstance(entry.get(key) or "", str) for entry in entries)]
    if listed:
        texts = [key for key in texts if {clean_name(entry.get(key) or "") for entry in entries} - {""} <= set(listed)]
    if len(texts) != 1:
        raise InputError(
            f"{path} must have one field with the choices. Received: {', '.join(texts) or 'none'}. Export as JSON, "
            "which tells them apart, or list all labels in a file for --labels_file."
        )
    return texts


def _has_choices(value):
    return any(isinstance(one, dict) and _read_value(one)[0] for one in (value if isinstance(value, list) else [value]))


def _image_of(where, data):
    """The field of a task that names an image."""
    if not isinstance(data, dict):
        raise InputError(f"{where}: data must be an object. Received: {shortened(data)}. Export it again.")
    named = [value for key, value in data.items() if isinstance(value, str) and key not in _FIELDS_OF_ITS_OWN]
    found = [value for value in named if _path_of(value).lower().endswith(EXTENSIONS)]
    if len(found) != 1:
        raise InputError(
            f"{where}: a task must name one image. Received: {', '.join(found) or 'none'}. Export tasks with one image."
        )
    return found[0]


def _path_of(text):
    """The path in an address, as Label Studio writes them: an upload, a file of its machine, or one of a bucket."""
    if "://" not in text and not text.startswith("/data/"):
        return text.replace("\\", "/")
    url = urlsplit(text)
    path = parse_qs(url.query)["d"][0] if url.path.startswith("/data/local-files") and "d=" in url.query else url.path
    return unquote(path).replace("\\", "/").lstrip("/").removeprefix("data/upload/")


def _names_of_file(where, text):
    """The paths that an image may have: as written, then from each folder on, then with the name it was uploaded by."""
    parts = photo_path(_path_of(text), where).split("/")
    names = ["/".join(parts[start:]) for start in range(len(parts))]
    before = re.sub(r"^[0-9a-f]{8}-", "", parts[-1])
    return names if before == parts[-1] else [*names, before]
