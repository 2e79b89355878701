"""Which form a file of labels has that was taken for another one, in words for a message."""

import json

_KEYS = {
    ("images", "annotations", "categories"): ("COCO's detection JSON", "coco_json"),
    ("items", "categories"): ("JSON of Datumaro, as CVAT writes it", "cvat"),
    ("data", "annotations"): ("JSON of Label Studio", "label_studio"),
    ("data", "completions"): ("JSON of Label Studio", "label_studio"),
    ("annotator", "annotation_id"): ("the short JSON (JSON_MIN) or a table of Label Studio", "label_studio"),
    ("file_name",): ("metadata of a Hugging Face image folder", "csv"),
    ("image_id", "category_id", "score"): ("COCO's JSON of predictions", ""),
    ("shapes", "imagepath"): ("LabelMe's JSON", ""),
    ("_via_img_metadata",): ("JSON of the VGG Image Annotator", ""),
    ("imageid", "labelname", "confidence"): ("labels of Open Images, as CVAT writes them", "cvat"),
}
"""Keys that a form has, in small letters -> its name, and the data set that reads it, "" for none."""

_ROOTS = {"<annotation>": ("XML of Pascal VOC", "voc_folder"), "<annotations>": ("XML of CVAT", "cvat")}


def of_json(content):
    """Says which form the content of a JSON file has.

    Args:
        content: as `json.loads` returns it.
    Returns:
        str, a sentence or two, such as "a list of objects with the keys a, b, which is ... . Use --dataset=... .".
    """
    is_list = isinstance(content, list)
    first = next(iter(content), None) if is_list else content
    if not isinstance(first, dict):
        return f"{'a list of' if is_list and content else 'an empty list,' if is_list else ''} {_kind(first)}.".strip()
    keys = list(map(str, first))
    shown = f"{', '.join(keys[:8])}{', ...' if len(keys) > 8 else ''}"
    of_what = "a list of objects with the keys" if is_list else "an object with the keys"
    return f"{of_what} {shown}{_known(key.lower() for key in keys)}"


def of_header(keys):
    """Says which form a table with this header has: str, "" if it is none of those that another data set reads.

    Args:
        keys: names of its columns in small letters.
    """
    known = _known(keys)
    is_other = "--dataset=" in known and "--dataset=csv" not in known
    return f"the columns {', '.join(keys[:8])}{known}" if is_other else ""


def of_text(path, text):
    """Says which form a file with JSON or XML has, as `of_json`.

    Args:
        path: str, for its ending.
        text: str, its content.
    """
    for root, (name, dataset) in _ROOTS.items():
        if root in text[:2000] or root[:-1] + " " in text[:2000]:
            return f"{name}. Use --dataset={dataset}."
    try:
        return of_json(json.loads(text))
    except ValueError:
        return f"a file {path[path.rfind('.') :]}."


def _known(keys):
    keys = set(keys)
    for wanted, (name, dataset) in _KEYS.items():
        if keys >= set(wanted):
            use = f"Use --dataset={dataset}." if dataset else "It is not read; export another form."
            return f", which is {name}. {use}"
    return "."


def _kind(value):
    return {type(None): "nothing", str: "texts", int: "numbers", float: "numbers", list: "lists"}.get(
        type(value), type(value).__name__
    )
