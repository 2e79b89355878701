"""COCO 2014's annotation files: read, checked as a whole, and reduced to what image-level learning needs."""

import dataclasses
from pathlib import Path, PurePosixPath

from srn_tf.data.json_files import BBOX, FLAG, ID, NAME, SIZE, entries, read_json
from srn_tf.data.label_names import clean_name
from srn_tf.data.source import check_photos, check_source_dir
from srn_tf.errors import InputError

CATEGORIES = {
    **{1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck"},
    **{9: "boat", 10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench"},
    **{16: "bird", 17: "cat", 18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear"},
    **{24: "zebra", 25: "giraffe", 27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase"},
    **{34: "frisbee", 35: "skis", 36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat"},
    **{40: "baseball glove", 41: "skateboard", 42: "surfboard", 43: "tennis racket", 44: "bottle"},
    **{46: "wine glass", 47: "cup", 48: "fork", 49: "knife", 50: "spoon", 51: "bowl", 52: "banana", 53: "apple"},
    **{54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot", 58: "hot dog", 59: "pizza", 60: "donut"},
    **{61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed", 67: "dining table", 70: "toilet"},
    **{72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard", 77: "cell phone", 78: "microwave"},
    **{79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book", 85: "clock", 86: "vase"},
    **{87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush"},
}
"""The 80 categories of COCO 2014, id -> name. Ids run from 1 to 90; 12, 26, 29, 30, 45, 66, 68, 69, 71 and 83
are not used. The label at index l is the l-th id of this table (ascending)."""

LABEL_NAMES = tuple(CATEGORIES.values())
"""80 names; their position is the label's index."""

FOLDERS = {"train": "train2014", "test": "val2014"}
"""Split -> official name of its images. The paper, as all others, evaluates on the official val2014."""

LAYOUT = (
    "annotations/instances_train2014.json, annotations/instances_val2014.json, "
    "train2014/COCO_train2014_*.jpg, val2014/COCO_val2014_*.jpg"
)
"""The files of a source folder, for messages."""

_LABEL_OF_ID = {category_id: index for index, category_id in enumerate(CATEGORIES)}


@dataclasses.dataclass(frozen=True)
class CocoImage:
    """One image and its truth.

    name: path of the image relative to the source folder, such as "train2014/COCO_train2014_000000000009.jpg".
    labels: ascending indices of the labels present, each once.
    objects: pairs (box, label index) in the file's order; box is (ymin, xmin, ymax, xmax), floats in [0, 1].
    """

    name: str
    labels: tuple
    objects: tuple


def read_annotations(source_dir, split):
    """Reads and checks one split's annotations, and that its image files are there; writes nothing.

    A label is present if any annotation of the image has it, crowds (iscrowd 1) included, as all public
    loaders count. Images without annotations are kept, as the paper's authors do. `objects` leaves out:
      - crowds: their box surrounds a region of uncounted instances, so it locates no object;
      - boxes with no area left once clipped to the image (their label stays).

    Args:
        source_dir: folder of the official layout (`LAYOUT`).
        split: "train" or "test" (the official val2014).
    Returns:
        list of CocoImage, by ascending image id.
    Raises:
        InputError: a folder or file is missing, or anything in the annotation file cannot be trusted: not
            JSON, a missing key or impossible value, a category that disagrees with `CATEGORIES`, an image
            id or file named twice, an annotation of an unlisted image, a file name outside the folder.
    """
    if split not in FOLDERS:
        raise InputError(f"split must be one of {', '.join(FOLDERS)}. Received: {split!r}.")
    check_source_dir(source_dir, LAYOUT)
    path = Path(source_dir) / "annotations" / f"instances_{FOLDERS[split]}.json"
    content = read_json(path, LAYOUT, _without_outline)
    _check_categories(path, content)
    images = _read_images(path, content, FOLDERS[split])
    labels, objects = _read_truth(path, content, images)
    check_photos(source_dir, [image["name"] for image in images.values()], path)
    return [
        CocoImage(images[image_id]["name"], tuple(sorted(labels[image_id])), tuple(objects[image_id]))
        for image_id in sorted(images)
    ]


def box_fractions(bbox, width, height):
    """Turns COCO's [x, y, w, h] in pixels into fractions of the image, clipped to it.

    Args:
        bbox: 4 numbers: left, top, width, height of the box.
        width, height: of the image, in pixels, > 0.
    Returns:
        (ymin, xmin, ymax, xmax), floats in [0, 1] with ymin < ymax and xmin < xmax; None if no area is left.
    """
    x, y, w, h = bbox
    ymin, ymax = max(y, 0.0) / height, min(y + h, height) / height
    xmin, xmax = max(x, 0.0) / width, min(x + w, width) / width
    return (ymin, xmin, ymax, xmax) if ymin < ymax and xmin < xmax else None


def _without_outline(entry):
    """Drops the outlines, which are most of the file."""
    entry.pop("segmentation", None)
    return entry


def _check_categories(path, content):
    """Raises InputError unless every category of the file is one of `CATEGORIES`."""
    for where, category in entries(path, content, "categories", {"id": ID, "name": NAME}):
        expected = CATEGORIES.get(category["id"])
        if clean_name(category["name"]) != expected:
            known = f"is {expected!r}" if expected else "does not exist"
            raise InputError(
                f"{where}: categories must be those of COCO 2014, in which id {category['id']} {known}. Received: "
                f"{category['name']!r}. Use COCO's own annotation files."
            )


def _read_images(path, content, folder):
    """Returns image id -> {"name": relative to the source, "width", "height": pixels}."""
    images, id_of_name = {}, {}
    wanted = {"id": ID, "file_name": NAME, "width": SIZE, "height": SIZE}
    for where, entry in entries(path, content, "images", wanted):
        file_name = PurePosixPath(entry["file_name"])
        if file_name.is_absolute() or ".." in file_name.parts or "\\" in entry["file_name"]:
            raise InputError(
                f"{where}: 'file_name' must stay inside {folder}. Received: {entry['file_name']!r}. Correct the file."
            )
        name = (folder / file_name).as_posix()
        if entry["id"] in images:
            raise InputError(f"{where}: image ids must be unique. Received: {entry['id']} twice. Remove one entry.")
        if name in id_of_name:
            raise InputError(f"{where}: every file must be listed once. Received: {name} twice. Remove one entry.")
        images[entry["id"]] = {"name": name, "width": entry["width"], "height": entry["height"]}
        id_of_name[name] = entry["id"]
    if not images:
        raise InputError(f"{path} must list at least one image. Received: an empty list. Use COCO's own file.")
    return images


def _read_truth(path, content, images):
    """Returns image id -> set of label indices, and image id -> list of (box, label index)."""
    labels = {image_id: set() for image_id in images}
    objects = {image_id: [] for image_id in images}
    wanted = {"image_id": ID, "category_id": ID, "bbox": BBOX, "iscrowd": FLAG}
    for where, entry in entries(path, content, "annotations", wanted):
        if entry["image_id"] not in images:
            raise InputError(
                f"{where}: 'image_id' must be that of a listed image. Received: {entry['image_id']}. Correct the file."
            )
        if entry["category_id"] not in _LABEL_OF_ID:
            raise InputError(
                f"{where}: 'category_id' must be one of COCO 2014's 80. Received: {entry['category_id']}. "
                "Use COCO's own annotation files."
            )
        image, label = images[entry["image_id"]], _LABEL_OF_ID[entry["category_id"]]
        labels[entry["image_id"]].add(label)
        box = box_fractions(entry["bbox"], image["width"], image["height"])
        if box is not None and not entry["iscrowd"]:
            objects[entry["image_id"]].append((box, label))
    return labels, objects
