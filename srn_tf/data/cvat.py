"""Tags and boxes that people made in CVAT, in those of its exports that hold tags.

The forms: "CVAT for images 1.1", https://docs.cvat.ai/docs/manual/advanced/xml_format/; "Datumaro 1.0",
https://docs.cvat.ai/docs/manual/advanced/formats/format-datumaro/; "Open Images V6" and its labels of images,
https://docs.cvat.ai/docs/manual/advanced/formats/format-openimages/. ("ImageNet 1.0" is a folder for each label.)
"""

import csv
import os

from srn_tf.data.coco_annotations import box_fractions
from srn_tf.data.json_files import BBOX, KEY, NAME, as_documented, entries, read_json
from srn_tf.data.label_names import clean_name
from srn_tf.data.listing import SPLITS, Listing, Row
from srn_tf.data.other_forms import of_json, of_text
from srn_tf.data.source import photo_path, read_text
from srn_tf.data.table_cells import read_cells
from srn_tf.data.voc_xml import parse
from srn_tf.errors import InputError

_ADVICE = "Export the task again."
_BOX = ("xtl", "ytl", "xbr", "ybr")


def read_cvat(path):
    """Reads an export, by the ending of its file.

    Args:
        path: str, of annotations.xml, of a JSON file of Datumaro, or of <subset>-annotations-human-imagelabels.csv.
    Returns:
        listing.Listing: an image has the labels of its tags and shapes, and the boxes of its rectangles. Images of the
        export without any have no label. The XML's subsets Train, Validation and Test are splits.
    Raises:
        InputError: the file has another form, or contradicts itself.
    """
    ending = os.path.splitext(path)[1].lower()
    read = {".xml": _read_xml, ".json": _read_datumaro}.get(ending, _read_open_images)
    with as_documented(path, "an export of CVAT", _ADVICE):
        return read(path)


def _read_xml(path):
    root = parse(path, "the export", _ADVICE)
    images = root.findall("image")
    if not images:
        received = f"<{root.tag}> without any. {_ADVICE}"
        if root.find("track") is not None:
            received = "tracks, the form of videos. Export it as 'CVAT for images'."
        elif root.tag != "annotations":
            received = of_text(path, read_text(path, "the export"))
        raise InputError(f"{path} must be XML of CVAT for images, a list of <image>. Received: {received}")
    labels = tuple(dict.fromkeys(clean_name(name.text or "") for name in root.iterfind("meta//labels/label/name")))
    rows = []
    for number, image in enumerate(images):
        where = f"{path}, image {image.get('id', number)}"
        size = [float(image.get(key) or 0) for key in ("width", "height")]
        present, objects = set(), []
        for entry in image:
            label = clean_name(entry.get("label", ""))
            if not label:
                continue
            present.add(label)
            if entry.tag == "box" and all(size) and not float(entry.get("rotation") or 0):
                box = box_fractions(_corners(where, entry), *size)
                objects += [(box, label)] if box else []
        split = SPLITS.get((image.get("subset") or "").lower())
        rows.append(Row(where, photo_path(image.get("name", ""), where), frozenset(present), split, tuple(objects)))
    return _listing(path, rows, labels or None, "XML of CVAT for images")


def _corners(where, entry):
    """A box of the XML as [x, y, width, height] in pixels."""
    try:
        left, top, right, bottom = (float(entry.get(key)) for key in _BOX)
    except (TypeError, ValueError):
        raise InputError(f"{where}: a box must have the numbers {', '.join(_BOX)}. Received: {entry.attrib}.") from None
    return left, top, right - left, bottom - top


def _read_datumaro(path):
    content = read_json(path, "the export", advice=_ADVICE)
    if not isinstance(content, dict) or not {"items", "categories"} <= set(content):
        raise InputError(
            f"{path} must be JSON of Datumaro, as CVAT writes it, an object with categories and items. Received: "
            f"{of_json(content)}"
        )
    group = (content["categories"] or {}).get("label")
    wanted = {"name": NAME}
    names = [clean_name(entry["name"]) for _, entry in entries(f"{path}: label", group, "labels", wanted, (), _ADVICE)]
    rows = []
    for where, item in entries(path, content, "items", {"id": KEY}, (), _ADVICE):
        media = item.get("image") or item.get("media") or {}
        height, width = media.get("size") or (0, 0)
        present, objects = set(), []
        made = {"annotations": [], **item}
        for place, entry in entries(where, made, "annotations", {"bbox": BBOX}, ("bbox",), _ADVICE):
            number = entry.get("label_id")
            if number is None:
                continue
            if not isinstance(number, int) or not 0 <= number < len(names):
                raise InputError(
                    f"{place}: label_id must be the place of a label in categories, from 0 to {len(names) - 1}. "
                    f"Received: {number!r}. {_ADVICE}"
                )
            present.add(names[number])
            if entry.get("type") == "bbox" and entry.get("bbox") and width and height:
                box = box_fractions(entry["bbox"], width, height)
                objects += [(box, names[number])] if box else []
        item_id = photo_path(str(item["id"]), where)
        written = photo_path(media["path"], where) if media.get("path") else item_id
        rows.append(Row(where, written, frozenset(present), None, tuple(objects), (item_id,)))
    return _listing(path, rows, tuple(dict.fromkeys(names)), "JSON of Datumaro")


def _read_open_images(path):
    lines, _ = read_cells(path)
    header = [name.lower() for name in lines[0][1]] if lines else []
    if not {"imageid", "labelname", "confidence"} <= set(header):
        raise InputError(
            f"{path} must be an export of CVAT: annotations.xml, JSON of Datumaro, or labels of Open Images with the "
            f"columns ImageID, LabelName, Confidence. Received: the columns {', '.join(header) or 'none'}."
        )
    image, label, confidence = (header.index(name) for name in ("imageid", "labelname", "confidence"))
    names = _read_descriptions(path)
    stated, where_of = {}, {}
    for line, cells in lines[1:]:
        where = f"{path}, line {line}"
        if len(cells) != len(header) or cells[confidence] not in ("0", "1", "0.0", "1.0"):
            raise InputError(
                f"{where}: a row must have {len(header)} cells, with a confidence of 0 or 1. Received: "
                f"{','.join(map(str, cells))}. Correct the row."
            )
        name, value = photo_path(cells[image], where), float(cells[confidence]) == 1
        written = clean_name(names.get(cells[label], cells[label]))
        if stated.setdefault(name, {}).setdefault(written, value) != value:
            raise InputError(
                f"{where}: rows of the same image must not contradict each other. Received: {written!r} of {name} with "
                "confidence 0 and 1. Remove one of the rows."
            )
        where_of.setdefault(name, where)
    rows = [
        Row(where_of[name], name, frozenset(label for label, is_there in labels.items() if is_there))
        for name, labels in stated.items()
    ]
    return _listing(path, rows, tuple(dict.fromkeys(map(clean_name, names.values()))) or None, "labels of Open Images")


def _read_descriptions(path):
    """Returns dict code of a label -> name, of class-descriptions.csv beside the file; empty if that is not there."""
    beside = os.path.join(os.path.dirname(path), "class-descriptions.csv")
    if not os.path.isfile(beside):
        return {}
    rows = csv.reader(read_text(beside, "the export").splitlines())
    return {cells[0]: cells[1] for cells in rows if len(cells) == 2}


def _listing(path, rows, labels, form):
    if not rows:
        raise InputError(f"{path} must list at least one image. Received: none. {_ADVICE}")
    said = (
        ("annotations", form),
        ("labels", "those of the export" if labels else "names of the tags"),
        ("boxes", f"{sum(len(row.objects) for row in rows):,}"),
    )
    return Listing(path, tuple(rows), labels, "label", (), said, split_by="subsets")
