"""WIDER-Attribute as prepared records: one record per annotated person, cut out of the photograph."""

from pathlib import Path

import tensorflow_datasets as tfds

from srn_tf.data.builder import SourceBuilder
from srn_tf.data.json_files import BBOX, NAME, entries, read_json, shortened
from srn_tf.data.label_names import clean_name
from srn_tf.data.source import Count, Example, Photo, Source, check_photos, check_source_dir, photo_path, unique_rows
from srn_tf.errors import InputError

LABEL_NAMES = (
    *("Male", "longHair", "sunglass", "Hat", "Tshiirt", "longSleeve", "formal"),
    *("shorts", "jeans", "longPants", "skirt", "faceMask", "logo", "stripe"),
)
"""The 14 attributes in the order and spelling of the official files."""

LAYOUT = (
    "wider_attribute_annotation/wider_attribute_trainval.json, wider_attribute_annotation/wider_attribute_test.json, "
    "Image/train/*/*.jpg, Image/val/*/*.jpg, Image/test/*/*.jpg"
)
"""The files of a source folder, for messages."""

_FOLDERS = {"trainval": ("train", "val"), "test": ("test",)}
"""Annotation file -> folders of Image/ whose photographs it describes."""

_PHOTOS = {"train": 5_509, "val": 1_362, "test": 6_918}
"""Folder of Image/ -> published number of its photographs."""

_PERSONS = 57_524
"""Published number of boxes in both files. The paper has 7 fewer, 28,340 and 29,177: some lie outside their image."""

_DESCRIPTION = """\
WIDER-Attribute: 14 attributes of persons in 13,789 photographs of 30 events. Each of the 57,524 boxes of persons is \
a record: the box, clipped to its photograph. An attribute is positive (1), negative (-1) or unspecified (0). Zhu et \
al., CVPR 2017, train on the 28,340 persons of train and val with unspecified attributes as negative, and test on \
29,177 persons without their unspecified attributes. Boxes that have no area inside the photograph are left out.
"""

_CITATION = """\
@inproceedings{li2016human,
  title     = {Human Attribute Recognition by Deep Hierarchical Contexts},
  author    = {Li, Yining and Huang, Chen and Loy, Chen Change and Tang, Xiaoou},
  booktitle = {European Conference on Computer Vision (ECCV)},
  pages     = {684--700},
  year      = {2016}
}
"""


class WiderAttribute(SourceBuilder):
    """WIDER-Attribute: splits `train` and `test`, perhaps `validation`, records as in `examples.features`.

    A record's name is the photograph's path, "#", and the person's index in the photograph's list of the file,
    from 0. There are no `objects`.

    Options:
        official_val: "train" (the photographs of Image/val train too, as the paper has it) or "validation" (they
            are a split of their own).
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    From http://mmlab.ie.cuhk.edu.hk/projects/WIDERAttribute.html take the annotations
    (wider_attribute_annotation.zip) and the images (wider_attribute_image.tgz), and unpack them into one folder:
      wider_attribute_annotation/wider_attribute_trainval.json
      wider_attribute_annotation/wider_attribute_test.json
      Image/train/0--Parade/... (5,509 files in 30 folders)
      Image/val/0--Parade/... (1,362 files)
      Image/test/0--Parade/... (6,918 files)
    The two JSON files may also lie beside Image.
    """
    DESCRIPTION = _DESCRIPTION
    CITATION = _CITATION
    HOMEPAGE = "http://mmlab.ie.cuhk.edu.hk/projects/WIDERAttribute.html"
    OPTIONS = {"official_val": "train"}
    LABELS = LABEL_NAMES

    @staticmethod
    def read(source_dir, options):
        """The splits of the source, as `SourceBuilder` describes it."""
        if options["official_val"] not in ("train", "validation"):
            raise InputError(f"official_val must be one of train, validation. Received: {options['official_val']!r}.")
        check_source_dir(source_dir, LAYOUT)
        split_of = {"train": "train", "val": options["official_val"], "test": "test"}
        splits = {split: [] for split in split_of.values()}
        counts, notes = [], []
        num_persons = 0
        for part, folders in _FOLDERS.items():
            path = _annotation_path(source_dir, part)
            persons_of, repeated = unique_rows(_read_rows(path, folders))
            if repeated:
                notes.append(f"{path.name}: photographs listed again and merged: {repeated:,}.")
            num_without = sum(not persons for persons in persons_of.values())
            if num_without:
                notes.append(f"{path.name}: photographs without a person left out: {num_without:,}.")
            check_photos(source_dir, [name for name, persons in persons_of.items() if persons], path)
            num_persons += sum(map(len, persons_of.values()))
            for folder in folders:
                of_folder = {name: persons for name, persons in persons_of.items() if name.split("/")[1] == folder}
                counts.append(Count(f"{folder} photographs", len(of_folder), _PHOTOS[folder]))
                splits[split_of[folder]] += [_photo(name, persons) for name, persons in of_folder.items() if persons]
        counts.append(Count("boxes of persons in train, val and test", num_persons, _PERSONS))
        for split, photos in splits.items():
            if not photos:
                raise InputError(
                    f"Split {split} must have at least one person. Received: annotation files without persons. Use "
                    "the official files."
                )
        return Source(LABEL_NAMES, splits, tuple(counts), tuple(notes))


def _annotation_path(source_dir, part):
    """Path of an annotation file: in the folder that the archive is named after, or else beside Image."""
    folder = Path(source_dir) / "wider_attribute_annotation"
    return (folder if folder.is_dir() else Path(source_dir)) / f"wider_attribute_{part}.json"


def _read_rows(path, folders):
    """Yields (where, path of a photograph, its persons) for each photograph of a file.

    A person is a pair (attributes, box): 14 ints 1, -1 or 0, and (x, y, width, height) in pixels.
    """
    content = read_json(path, LAYOUT)
    _check_attribute_names(path, content)
    for where, image in entries(path, content, "images", {"file_name": NAME}):
        name = photo_path(image["file_name"], where)
        if name.split("/")[0] not in folders:
            raise InputError(
                f"{where}: 'file_name' must start with {' or '.join(f'{folder}/' for folder in folders)}. "
                f"Received: {image['file_name']!r}. Use the official file."
            )
        targets = entries(where, image, "targets", {"attribute": _ATTRIBUTES, "bbox": BBOX})
        yield where, f"Image/{name}", tuple((tuple(t["attribute"]), tuple(t["bbox"])) for _, t in targets)


def _check_attribute_names(path, content):
    """Raises InputError unless the file names the attributes as `LABEL_NAMES` does."""
    names = content.get("attribute_id_map") if isinstance(content, dict) else None
    if not isinstance(names, dict):
        raise InputError(
            f"{path} must hold an object under the key 'attribute_id_map'. Received: {shortened(names)}. "
            "Use the official file."
        )
    names = {key: clean_name(name) if isinstance(name, str) else name for key, name in names.items()}
    expected = {str(index): name for index, name in enumerate(LABEL_NAMES)}
    for key in [*expected, *names]:
        if names.get(key) != expected.get(key):
            raise InputError(
                f"{path}: 'attribute_id_map' must be that of WIDER-Attribute, where {key!r} is {expected.get(key)!r}. "
                f"Received: {names.get(key)!r}. Use the official file."
            )


def _is_attributes(value):
    return (
        isinstance(value, list)
        and len(value) == len(LABEL_NAMES)
        and all(type(number) is int and number in (-1, 0, 1) for number in value)
    )


_ATTRIBUTES = (_is_attributes, f"{len(LABEL_NAMES)} numbers, each -1, 0 or 1")


def _photo(path, persons):
    return Photo(
        path,
        tuple(Example(f"{path}#{index}", attributes, crop=box) for index, (attributes, box) in enumerate(persons)),
    )
