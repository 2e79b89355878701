"""Annotation files of PASCAL VOC's form, an XML file for each image: the official ones and one's own.

The form: http://host.robots.ox.ac.uk/pascal/VOC/voc2007/devkit_doc_07-Jun-2007.pdf, section 2.4. labelImg, CVAT, Label
Studio and Roboflow write it.
"""

import os
import posixpath
from xml.etree import ElementTree

from srn_tf.data.coco_annotations import box_fractions
from srn_tf.data.label_names import clean_name
from srn_tf.data.listing import SPLITS, Listing, Row
from srn_tf.data.other_forms import of_text
from srn_tf.data.photo_finder import files_in, image_paths
from srn_tf.data.source import photo_path, read_text
from srn_tf.errors import InputError


def parse(path, layout, advice):
    """Reads an annotation file as XML.

    Args:
        path: str or path.
        layout: str, the files expected, for the message.
        advice: str, what to do about a file that is not XML.
    Returns:
        ElementTree.Element, its root.
    Raises:
        InputError: the file is missing, cannot be read, or is not XML.
    """
    try:
        return ElementTree.fromstring(read_text(path, layout))
    except ElementTree.ParseError as error:
        raise InputError(f"{path} must be XML. Received: {error}. {advice}") from None


def number_at(path, element, key, advice):
    """Returns a number of an element; InputError if it is missing or not a number.

    Args:
        path: str or path, for the message.
        element: ElementTree.Element.
        key: str, path of the element that holds the number, such as "size/width".
        advice: str, what to do about it.
    """
    text = element.findtext(key)
    try:
        return float(text)
    except (TypeError, ValueError):
        received = "nothing" if text is None else repr(text)
        raise InputError(
            f"{path}: <{element.tag}> must have a number at {key}. Received: {received}. {advice}"
        ) from None


def read_voc_folder(source_dir):
    """Reads a folder with XML files and images, in any folders.

    Args:
        source_dir: str.
    Returns:
        listing.Listing: an image has the labels of its objects, difficult ones included, and their boxes, clipped to
        the image. Splits are those of ImageSets/Main/train.txt, val.txt and test.txt; else of folders such as train,
        valid and test that hold all files; else none is said. Images without XML file are left out.
    Raises:
        InputError: there is no XML file, one is of another form or incomplete, or the lists contradict each other.
    """
    files = sorted(
        posixpath.normpath(posixpath.join(folder, name))
        for folder, names in files_in(source_dir)
        for name in names
        if name.endswith(".xml")
    )
    if not files:
        raise InputError(
            f"{source_dir} must hold an XML file for each image, as PASCAL VOC has them. Received: no XML file. Check "
            "the folder. For a folder for each label, use --dataset=folders."
        )
    listed = _read_sets(source_dir)
    in_folders = {name: SPLITS.get(name.split("/")[0].lower()) for name in files}
    has_folders = all(in_folders.values())
    rows, num_unlisted = [], 0
    for name in files:
        row = _read_row(source_dir, name)
        if listed:
            split = listed.get(posixpath.splitext(posixpath.basename(name))[0])
            if split is None:
                num_unlisted += 1
                continue
        else:
            split = in_folders[name] if has_folders else None
        rows.append(Row(row.where, row.path, row.present, split, row.objects, row.aliases))
    if not rows:
        raise InputError(
            f"{source_dir}/ImageSets/Main must list images that have an XML file. Received: none of {len(files):,}. "
            "Correct the lists, or remove them."
        )
    notes = []
    stems = {posixpath.splitext(posixpath.basename(name))[0] for name in files}
    num_bare = sum(posixpath.splitext(posixpath.basename(path))[0] not in stems for path in image_paths(source_dir))
    if num_bare:
        notes.append(f"{num_bare:,} images without XML file are left out.")
    if num_unlisted:
        notes.append(f"{num_unlisted:,} images that ImageSets/Main does not list are left out.")
    form = (
        ("annotations", f"{len(files):,} XML files of Pascal VOC"),
        ("labels", "names of the objects"),
        ("boxes", f"{sum(len(row.objects) for row in rows):,}"),
    )
    split_by = "lists in ImageSets/Main" if listed else "names of folders"
    return Listing(source_dir, tuple(rows), None, "name", (), form, tuple(notes), split_by=split_by)


def _read_row(source_dir, name):
    """Reads the annotation file of a path relative to the source: Row without split."""
    path = os.path.join(source_dir, name)
    advice = "Write the file again, or remove it."
    root = parse(path, "the annotations", advice)
    if root.tag != "annotation":
        text = ElementTree.tostring(root, encoding="unicode")
        raise InputError(
            f"{path} must be an annotation file of PASCAL VOC, with the root <annotation>. Received: <{root.tag}>, "
            f"{of_text(path, text)}"
        )
    size = [
        number_at(path, root, f"size/{key}", advice) if root.findtext(f"size/{key}") else 0.0
        for key in ("width", "height")
    ]
    present, objects = set(), []
    for entry in root.iterfind("object"):
        label = clean_name(entry.findtext("name", ""))
        if not label:
            raise InputError(f"{path}: an object must have a name. Received: none. {advice}")
        present.add(label)
        if all(size) and entry.find("bndbox") is not None:
            xmin, ymin, xmax, ymax = (
                number_at(path, entry, f"bndbox/{key}", advice) for key in ("xmin", "ymin", "xmax", "ymax")
            )
            box = box_fractions((xmin, ymin, xmax - xmin, ymax - ymin), *size)
            if box is not None:
                objects.append((box, label))
    stem, folder = posixpath.splitext(posixpath.basename(name))[0], posixpath.dirname(name)
    file_name = posixpath.basename(photo_path(root.findtext("filename") or stem, path))
    beside = posixpath.join(folder, file_name)
    return Row(path, beside, frozenset(present), None, tuple(objects), (file_name, posixpath.join(folder, stem), stem))


def _read_sets(source_dir):
    """Returns dict name of an image without ending -> split, as ImageSets/Main says it; empty if there are no lists."""
    split_of = {}
    folders = {folder: names for folder, names in files_in(source_dir) if f"/{folder}".endswith("/ImageSets/Main")}
    for word, split in (("train", "train"), ("val", "validation"), ("test", "test")):
        for folder in sorted(folder for folder, names in folders.items() if f"{word}.txt" in names):
            path = os.path.join(source_dir, folder, f"{word}.txt")
            for number, line in enumerate(read_text(path, "the lists").splitlines(), 1):
                if not line.split():
                    continue
                image_id = posixpath.basename(line.split()[0])
                if split_of.setdefault(image_id, split) != split:
                    raise InputError(
                        f"{path}, line {number}: an image must be in one split. Received: {image_id} in {split} and "
                        f"{split_of[image_id]}. Remove it from one of the lists."
                    )
    return split_of
