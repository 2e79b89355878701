"""What a data set was prepared from: the truth and the image files, so that another source is noticed later."""

import csv
import dataclasses
import hashlib
import json
import os

from srn_tf.data.arrow_images import container_of, read_bytes
from srn_tf.errors import InputError

LIST = "source_files.csv"
"""File beside the records: path, bytes, time of change and hash of every image file, by path."""

_HEADER = ("path", "bytes", "changed_ns", "blake2b")


def stamp(path):
    """Describes a file.

    Args:
        path: str or path.
    Returns:
        list [bytes, time of change in ns, hash of the content as 32 hexadecimal digits], ready for JSON; None if the
        file cannot be read.
    """
    try:
        changed_ns, data = os.stat(container_of(path)).st_ctime_ns, read_bytes(path)
        return [len(data), changed_ns, hashlib.blake2b(data, digest_size=16).hexdigest()]
    except OSError:  # Whoever opens it as an image will say so.
        return None


def truth_digest(source):
    """Hash of all that a source says without its images: 64 hexadecimal digits, whatever the order of photographs.

    Args:
        source: source.Source.
    """
    digest = hashlib.sha256(json.dumps(list(source.labels)).encode())
    for split in sorted(source.splits):
        digest.update(f"\n{split}\n".encode())
        for photo in sorted(source.splits[split], key=lambda photo: photo.path):
            examples = [[e.name, e.labels, e.objects, e.crop] for e in photo.examples]
            digest.update(json.dumps([photo.path, examples], default=dataclasses.astuple).encode())  # SparseLabels
    return digest.hexdigest()


def files_digest(stamps):
    """Hash of the paths and contents of the image files, whenever they were written: 64 hexadecimal digits.

    Args:
        stamps: dict path -> as of `stamp`.
    """
    contents = [[path, stamps[path] and stamps[path][-1]] for path in sorted(stamps)]
    return hashlib.sha256(json.dumps(contents).encode()).hexdigest()


def write_stamps(folder, stamps):
    """Writes `LIST`.

    Args:
        folder: epath.Path.
        stamps: dict path -> as of `stamp`.
    """
    with (folder / LIST).open("w") as file:
        rows = ([path, *(stamps[path] or ("", "", ""))] for path in sorted(stamps))
        csv.writer(file, lineterminator="\n").writerows([_HEADER, *rows])


def changed_files(folder, source_dir):
    """Compares the image files of a source with those a data set was prepared from.

    Files of the same size and time of change (of the inode: renaming and `touch` count, too) are taken to be the same;
    others are read.

    Args:
        folder: epath.Path of the prepared data set.
        source_dir: str or path.
    Returns:
        pair: sorted paths of the files with another content; number of the files that are no longer there.
    Raises:
        InputError: `LIST` is missing or damaged.
    """
    changed, num_gone = [], 0
    try:
        with (folder / LIST).open() as file:
            header, *rows = csv.reader(file)
        is_whole = tuple(header) == _HEADER and rows and all(len(row) == len(_HEADER) for row in rows)
    except (OSError, ValueError, csv.Error):  # missing, empty, no text
        is_whole = False
    if not is_whole:
        raise InputError(
            f"{folder / LIST} must list the images that the data set was prepared from. Received: a missing or "
            "damaged file. Remove the data set and prepare it again."
        )
    for path, num_bytes, changed_ns, content in rows:
        try:
            status = os.stat(container_of(os.path.join(source_dir, path)))
        except OSError:
            num_gone += 1
            continue
        if (num_bytes, changed_ns) != (str(status.st_size), str(status.st_ctime_ns)):
            now = stamp(os.path.join(source_dir, path))
            if (now and now[-1]) != (content or None):
                changed.append(path)
    return changed, num_gone
