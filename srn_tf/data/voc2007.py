"""PASCAL VOC 2007 as prepared records: official train and val to train on, official test to test on."""

from pathlib import Path

import tensorflow_datasets as tfds

from srn_tf.data.builder import SourceBuilder
from srn_tf.data.label_names import clean_name
from srn_tf.data.source import Count, Example, Photo, Source, check_photos, check_source_dir, photo_path, read_text
from srn_tf.data.voc_xml import number_at, parse
from srn_tf.errors import InputError

LABEL_NAMES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""20 names; alphabetical, as everywhere."""

LAYOUT = (
    "VOCdevkit/VOC2007/ImageSets/Main/aeroplane_train.txt to tvmonitor_test.txt, VOCdevkit/VOC2007/JPEGImages/*.jpg, "
    "VOCdevkit/VOC2007/Annotations/*.xml (VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar, both)"
)
"""The files of a source folder, for messages."""

_ROOT = "VOCdevkit/VOC2007"
_ADVICE = "Use the official file."
_IMAGES = {"train": 2_501, "val": 2_510, "test": 4_952}
"""Official set -> published number of images."""

_POSITIVE_IMAGES = (
    *(238, 243, 330, 181, 244, 186, 713, 337, 445, 141),
    *(200, 421, 287, 245, 2008, 245, 96, 229, 261, 256),
)
"""Published, label by label: images of train and val with an object that is not difficult."""

_DIFFICULT = {"positive": 1, "negative": -1, "ignored": 0}
_CHOICES = {
    "difficult_train": tuple(_DIFFICULT),
    "difficult_test": tuple(_DIFFICULT),
    "official_val": ("train", "validation"),
}

_DESCRIPTION = """\
PASCAL VOC 2007 for multi-label classification: 5,011 training images (official train 2,501 and val 2,510) and 4,952 \
test images, 20 labels. A label is positive (1) if the image has an object of the class that is not difficult, \
negative (-1) if it has none at all. If it has only difficult ones, an option says what is stored: by default positive \
to train with, and 0 (ignored) to test with. `objects` are the boxes of the positive labels, difficult ones included.
"""

_CITATION = """\
@article{everingham2010pascal,
  title   = {The {PASCAL} Visual Object Classes ({VOC}) Challenge},
  author  = {Everingham, Mark and Van Gool, Luc and Williams, Christopher K. I. and Winn, John and Zisserman, Andrew},
  journal = {International Journal of Computer Vision},
  volume  = {88},
  number  = {2},
  pages   = {303--338},
  year    = {2010}
}
"""


class Voc2007(SourceBuilder):
    """PASCAL VOC 2007: splits `train` and `test`, perhaps `validation`, records as in `examples.features`.

    Options:
        difficult_train: what a label is in `train` if all its objects are difficult: "positive", "negative" or
            "ignored" (0).
        difficult_test: the same in `test`, and in `validation`, which is evaluated like it.
        official_val: "train" (the official val trains too, as usual) or "validation" (a split of its own).
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    From http://host.robots.ox.ac.uk/pascal/VOC/voc2007/ take VOCtrainval_06-Nov-2007.tar and
    VOCtest_06-Nov-2007.tar, and unpack both into one folder:
      VOCdevkit/VOC2007/ImageSets/Main/aeroplane_train.txt, aeroplane_val.txt, aeroplane_test.txt ... (20 classes)
      VOCdevkit/VOC2007/JPEGImages/000001.jpg ... (9,963 files)
      VOCdevkit/VOC2007/Annotations/000001.xml ... (9,963 files)
    """
    DESCRIPTION = _DESCRIPTION
    CITATION = _CITATION
    HOMEPAGE = "http://host.robots.ox.ac.uk/pascal/VOC/voc2007/"
    OPTIONS = {"difficult_train": "positive", "difficult_test": "ignored", "official_val": "train"}
    LABELS = LABEL_NAMES

    @staticmethod
    def read(source_dir, options):
        """The splits of the source, as `SourceBuilder` describes it."""
        for name, choices in _CHOICES.items():
            if options[name] not in choices:
                raise InputError(f"{name} must be one of {', '.join(choices)}. Received: {options[name]!r}.")
        check_source_dir(source_dir, LAYOUT)
        root = Path(source_dir) / _ROOT
        values = {part: _read_set(root / "ImageSets/Main", part) for part in _IMAGES}
        _check_disjoint(values)
        for part in values:
            listed_in = f"ImageSets/Main/{LABEL_NAMES[0]}_{part}.txt"
            check_photos(source_dir, [_image_path(image_id) for image_id in values[part]], listed_in)
        objects = {
            image_id: read_objects(root / "Annotations" / f"{image_id}.xml")
            for part in values
            for image_id in values[part]
        }
        split_of = {"train": "train", "val": options["official_val"], "test": "test"}
        splits = {split: [] for split in split_of.values()}
        for part, split in split_of.items():
            difficult = _DIFFICULT[options["difficult_train" if split == "train" else "difficult_test"]]
            splits[split] += [
                _photo(image_id, row, objects[image_id], difficult) for image_id, row in values[part].items()
            ]
        counts, notes = _compare(values, objects)
        return Source(LABEL_NAMES, splits, counts, notes)


def read_objects(path):
    """Reads the objects of an annotation file.

    Args:
        path: str or path of the XML file.
    Returns:
        tuple of (box, label index, is difficult) in the file's order; box is (ymin, xmin, ymax, xmax), fractions of
        the image. The file counts pixels from 1, the last one included: a box of x 1 to 1 is one pixel wide.
    Raises:
        InputError: the file is missing, is not XML, lacks a value, has an unknown class or a box that leaves the image.
    """
    annotation = parse(path, LAYOUT, "Unpack the official archive again.")
    width, height = (number_at(path, annotation, f"size/{key}", _ADVICE) for key in ("width", "height"))
    objects = []
    for entry in annotation.iterfind("object"):
        name = clean_name(entry.findtext("name", ""))
        if name not in LABEL_NAMES:
            raise InputError(
                f"{path}: an object's name must be one of the 20 classes. Received: {name!r}. Use the official file."
            )
        xmin, ymin, xmax, ymax = (
            number_at(path, entry, f"bndbox/{key}", _ADVICE) for key in ("xmin", "ymin", "xmax", "ymax")
        )
        if not (1 <= xmin <= xmax <= width and 1 <= ymin <= ymax <= height):
            raise InputError(
                f"{path}: a box must have an area and lie inside the image of {width:g} x {height:g} pixels. Received: "
                f"{name} with x {xmin:g} to {xmax:g}, y {ymin:g} to {ymax:g}. Use the official file."
            )
        box = ((ymin - 1) / height, (xmin - 1) / width, ymax / height, xmax / width)
        objects.append((box, LABEL_NAMES.index(name), number_at(path, entry, "difficult", _ADVICE) != 0))
    return tuple(objects)


def _image_path(image_id):
    return f"{_ROOT}/JPEGImages/{image_id}.jpg"


def _read_set(folder, part):
    """Reads the 20 lists of an official set: dict image id -> 20 values 1, -1 or 0 (only difficult objects)."""
    columns = [_read_list(folder / f"{name}_{part}.txt") for name in LABEL_NAMES]
    first = columns[0]
    for name, column in zip(LABEL_NAMES, columns):
        if column.keys() != first.keys():
            raise InputError(
                f"{folder / f'{name}_{part}.txt'} must list the same images as {LABEL_NAMES[0]}_{part}.txt. Received: "
                f"{len(column)} images and {len(first)}, {min(column.keys() ^ first.keys())} in one of them only. "
                "Unpack the official archive again."
            )
    return {image_id: tuple(column[image_id] for column in columns) for image_id in first}


def _read_list(path):
    """Reads the list of one class: dict image id -> 1, -1 or 0."""
    values = {}
    for number, line in enumerate(read_text(path, LAYOUT).splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2 or fields[1] not in ("1", "-1", "0"):
            raise InputError(
                f"{path}, line {number}: a line must be an image's name and 1, -1 or 0. Received: {line!r}. "
                "Unpack the official archive again."
            )
        image_id = fields[0]
        if image_id in values:
            raise InputError(
                f"{path}, line {number}: every image must be listed once. Received: {image_id} twice. Unpack the "
                "official archive again."
            )
        photo_path(image_id, f"{path}, line {number}")
        values[image_id] = int(fields[1])
    if not values:
        raise InputError(f"{path} must list at least one image. Received: none. Unpack the official archive again.")
    return values


def _check_disjoint(values):
    """Raises InputError if an image is in two official sets."""
    part_of = {}
    for part in values:
        for image_id in values[part]:
            if image_id in part_of:
                raise InputError(
                    "Every image must be in only one of ImageSets/Main/*_train.txt, *_val.txt and *_test.txt. "
                    f"Received: {image_id} in {part_of[image_id]} and {part}. Unpack the official archives again."
                )
            part_of[image_id] = part


def _photo(image_id, values, objects, difficult):
    """values: 20 of 1, -1, 0; objects: as of `read_objects`; difficult: what 0 becomes."""
    labels = tuple(value or difficult for value in values)
    located = tuple((box, label) for box, label, _ in objects if labels[label] == 1)
    return Photo(_image_path(image_id), (Example(_image_path(image_id), labels, located),))


def _compare(values, objects):
    """Compares the lists with the published counts and with the annotation files: Counts, and notes."""
    counts = [Count(f"official {part} images", len(values[part]), published) for part, published in _IMAGES.items()]
    rows = {image_id: row for part in values for image_id, row in values[part].items()}
    for label, published in enumerate(_POSITIVE_IMAGES):
        found = sum(row[label] == 1 for part in ("train", "val") for row in values[part].values())
        counts.append(Count(f"official train and val images with {LABEL_NAMES[label]}", found, published))
    different = [image_id for image_id, row in rows.items() if row != _values_of(objects[image_id])]
    counts.append(Count("images whose lists and annotation disagree", len(different), 0))
    notes = [f"{_ROOT}/Annotations/{different[0]}.xml is the first that disagrees with the lists."] if different else []
    return tuple(counts), tuple(notes)


def _values_of(objects):
    """What the lists should say of an image: 20 of 1 (an object that is not difficult), 0 (difficult ones), -1."""
    values = [-1] * len(LABEL_NAMES)
    for _, label, is_difficult in objects:
        values[label] = max(values[label], 0 if is_difficult else 1)
    return tuple(values)
