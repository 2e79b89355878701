"""COCO's annotation files: read, checked as a whole, and reduced to what image-level learning needs.

`read_annotations` reads those of COCO 2014, `read_images` and `read_truth` also those that others write in this form.
"""

import dataclasses
import functools
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

_LABEL_OF_ID = {str(category_id): index for index, category_id in enumerate(CATEGORIES)}


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
    content = read_json(path, LAYOUT, without_outline)
    _check_categories(path, content)
    images = read_images(path, content, functools.partial(_official_path, FOLDERS[split]))
    labels, objects = read_truth(path, content, images, _LABEL_OF_ID, "one of COCO 2014's 80")
    check_photos(source_dir, [image["name"] for image in images.values()], path)
    return [
        CocoImage(images[image_id]["name"], tuple(sorted(labels[image_id])), tuple(objects[image_id]))
        for image_id in sorted(images, key=int)
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


def without_outline(entry):
    """Drops the outlines, which are most of the file; for `json_files.read_json`."""
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


def _official_path(folder, where, file_name):
    """The path of an image of COCO 2014 relative to the source; InputError unless it stays in its split's folder."""
    path = PurePosixPath(file_name)
    if path.is_absolute() or ".." in path.parts or "\\" in file_name:
        raise InputError(f"{where}: 'file_name' must stay inside {folder}. Received: {file_name!r}. Correct the file.")
    return (folder / path).as_posix()


def read_images(path, content, path_of, id_rule=ID, optional=()):
    """Reads the list `images`.

    Args:
        path: str or path of the file, for messages.
        content: of `json_files.read_json`.
        path_of: function (where, file name as written) -> path of the image, or InputError.
        id_rule: what an id must be, see `json_files.entries`.
        optional: those of the keys width and height that an image may lack.
    Returns:
        dict id as str -> {"name": path, "width", "height": in pixels, None if unknown}, in the file's order.
    Raises:
        InputError: as `json_files.entries`, or an id or file that is listed twice.
    """
    images, id_of_name = {}, {}
    wanted = {"id": id_rule, "file_name": NAME, "width": SIZE, "height": SIZE}
    for where, entry in entries(path, content, "images", wanted, optional):
        name, image_id = path_of(where, entry["file_name"]), str(entry["id"])
        if image_id in images:
            raise InputError(f"{where}: image ids must be unique. Received: {image_id} twice. Remove one entry.")
        if name in id_of_name:
            raise InputError(f"{where}: every file must be listed once. Received: {name} twice. Remove one entry.")
        images[image_id] = {"name": name, "width": entry.get("width"), "height": entry.get("height")}
        id_of_name[name] = image_id
    if not images:
        raise InputError(f"{path} must list at least one image. Received: an empty list. Use a file with images.")
    return images


def read_truth(path, content, images, label_of_id, categories, id_rule=ID, optional=()):
    """Reads the list `annotations`.

    Args:
        path, content, id_rule: as of `read_images`.
        images: of `read_images`.
        label_of_id: dict category id as str -> label, anything.
        categories: str, what a category id must be, for the message.
        optional: those of the keys bbox and iscrowd that an annotation may lack.
    Returns:
        dict image id -> set of labels, and dict image id -> list of (box, label): boxes as of `box_fractions`, of
        single objects that have an area, in images whose size is known.
    Raises:
        InputError: as `json_files.entries`, or an image or category that is not listed.
    """
    labels = {image_id: set() for image_id in images}
    objects = {image_id: [] for image_id in images}
    wanted = {"image_id": id_rule, "category_id": id_rule, "bbox": BBOX, "iscrowd": FLAG}
    for where, entry in entries(path, content, "annotations", wanted, optional):
        image_id, category_id = str(entry["image_id"]), str(entry["category_id"])
        if image_id not in images:
            raise InputError(
                f"{where}: 'image_id' must be that of a listed image. Received: {image_id}. Correct the file."
            )
        if category_id not in label_of_id:
            raise InputError(f"{where}: 'category_id' must be {categories}. Received: {category_id}. Correct the file.")
        image, label = images[image_id], label_of_id[category_id]
        labels[image_id].add(label)
        if entry.get("bbox") and image["width"] and image["height"] and not entry.get("iscrowd"):
            box = box_fractions(entry["bbox"], image["width"], image["height"])
            if box is not None:
                objects[image_id].append((box, label))
    return labels, objects
