"""Photographs in a folder for each label."""

import hashlib
import os

from srn_tf.data.label_names import clean_name
from srn_tf.data.listing import SPLITS, Listing, Row
from srn_tf.data.photo_finder import image_paths
from srn_tf.errors import InputError


def read_folders(source_dir):
    """Reads the folders.

    Args:
        source_dir: str. Its folders are labels, or, if all are called so, splits such as train, val and test with the
            labels' folders inside. Images may lie in further folders of a label's.
    Returns:
        listing.Listing: a file that is in several folders (the same bytes in a split, whatever their names) is one
        image with all of these labels; its path is the first by the alphabet.
    Raises:
        InputError: no folder has an image.
    """
    paths = image_paths(source_dir)
    tops = {path.split("/")[0].lower() for path in paths if "/" in path}
    has_splits = bool(tops) and tops <= set(SPLITS)
    depth = 2 if has_splits else 1
    inside = [path for path in paths if path.count("/") >= depth]
    if not inside:
        raise InputError(
            f"{source_dir} must hold a folder of images for each label. Received: {len(paths):,} images, none of them "
            "in such a folder. Check the folder. For images with a table of their labels, use --dataset=csv."
        )
    copies = {}
    for path, digest in zip(inside, _digests(source_dir, inside), strict=True):
        split = SPLITS[path.split("/")[0].lower()] if has_splits else None
        copies.setdefault((split, digest), []).append(path)
    rows = tuple(
        Row(group[0], group[0], frozenset(clean_name(path.split("/")[depth - 1]) for path in group), split)
        for (split, _), group in copies.items()
    )
    notes = []
    if len(rows) < len(inside):
        first = next(group for group in copies.values() if len(group) > 1)
        notes.append(
            f"{len(inside) - len(rows):,} files are the same image as another, the first {first[1]} as {first[0]}: one "
            "image with the labels of all its folders."
        )
    if len(inside) < len(paths):
        notes.append(f"{len(paths) - len(inside):,} images that are in no label's folder are left out.")
    form = (("labels", "names of folders"),)
    return Listing(source_dir, rows, None, "folder", (), form, tuple(notes), split_by="names of folders")


def _digests(source_dir, paths):
    """What is the same for files of the same bytes, and for no others. Only those of equal size are read."""
    sizes = [_size(os.path.join(source_dir, path)) for path in paths]
    counts = {}
    for size in sizes:
        counts[size] = counts.get(size, 0) + 1
    for path, size in zip(paths, sizes, strict=True):
        if size is None or counts[size] == 1:
            yield size, path
            continue
        with open(os.path.join(source_dir, path), "rb") as file:
            yield size, hashlib.blake2b(file.read(), digest_size=16).hexdigest()


def _size(path):
    """Bytes of a file; None for a link to nothing, which the checks will name."""
    return os.path.getsize(path) if os.path.isfile(path) else None
