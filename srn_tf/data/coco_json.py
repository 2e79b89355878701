"""Photographs with boxes in a JSON file of COCO's form, with categories of one's own.

The form: https://cocodataset.org/#format-data ("Object Detection"). CVAT, Label Studio, Roboflow and others write it,
and not all write all of its keys.
"""

from srn_tf.data.coco_annotations import read_images, read_truth, without_outline
from srn_tf.data.json_files import KEY, NAME, entries, read_json
from srn_tf.data.label_names import clean_name
from srn_tf.data.listing import Listing, Row
from srn_tf.data.other_forms import of_json
from srn_tf.data.source import photo_path
from srn_tf.errors import InputError

_LISTS = ("images", "annotations", "categories")


def read_coco_json(path):
    """Reads a file of annotations.

    Args:
        path: str.
    Returns:
        listing.Listing: labels are the categories in their order; an image has those of its annotations, crowds
        included, and the boxes of those that are no crowds. Ids may be numbers or texts, `width` and `height` of an
        image, `bbox` and `iscrowd` of an annotation may be missing.
    Raises:
        InputError: the file has another form, or contradicts itself.
    """
    content = read_json(path, "the annotations", without_outline, "Write the file again.")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in _LISTS):
        raise InputError(
            f"{path} must be COCO's detection JSON, an object with the lists images, annotations and categories. "
            f"Received: {of_json(content)}"
        )
    names = _read_categories(path, content)
    images = read_images(path, content, photo_path_of, KEY, ("width", "height"))
    labels, objects = read_truth(path, content, images, names, "that of a listed category", KEY, ("bbox", "iscrowd"))
    rows = tuple(
        Row(f"{path}, image {image_id}", image["name"], frozenset(labels[image_id]), None, tuple(objects[image_id]))
        for image_id, image in images.items()
    )
    groups = _groups(content, names, set().union(*labels.values()))
    notes = []
    num_unsized = sum(not (image["width"] and image["height"]) for image in images.values())
    if num_unsized and content["annotations"]:
        notes.append(
            f"{path}: {num_unsized:,} images have no width and height. Their labels are kept, not their boxes."
        )
    if groups:
        notes.append(f"{path}: categories that only group others are no labels: {', '.join(groups)}.")
    form = (
        ("annotations", "COCO's detection JSON"),
        ("labels", f"{len(names) - len(groups):,} categories"),
        ("boxes", f"{sum(len(row.objects) for row in rows):,}"),
    )
    kept = tuple(name for name in names.values() if name not in groups)
    return Listing(path, rows, kept, "category", (), form, tuple(notes))


def photo_path_of(where, file_name):
    """The path of an image as `source.photo_path`, from an entry of a list."""
    return photo_path(file_name, f"{where}, file_name")


def _read_categories(path, content):
    """Returns dict id as str -> name, in the file's order."""
    names, known = {}, set()
    for where, category in entries(path, content, "categories", {"id": KEY, "name": NAME}):
        category_id, name = str(category["id"]), clean_name(category["name"])
        if category_id in names or name in known:
            raise InputError(
                f"{where}: ids and names of categories must be unique. Received: id {category_id}, name {name!r}, one "
                "of them twice. Give them one entry."
            )
        names[category_id] = name
        known.add(name)
    return names


def _groups(content, names, used):
    """Names of the categories that no annotation has and that others name as theirs, as Roboflow writes them."""
    above = {
        clean_name(str(category["supercategory"]))
        for category in content["categories"]
        if category.get("supercategory") and clean_name(str(category["supercategory"])) != clean_name(category["name"])
    }
    return [name for name in names.values() if name in above and name not in used]
