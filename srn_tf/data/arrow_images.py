"""Images inside Arrow files, as Hugging Face's `Dataset.save_to_disk` writes them, under paths such as a/b.arrow#17.

The form: https://huggingface.co/docs/datasets/about_arrow; an image is a struct of its file's bytes and path, and the
schema says under "huggingface" what the columns are (`datasets.Features.arrow_schema`).
"""

import errno
import functools
import json
import os
import re

from srn_tf.errors import InputError

_INSIDE = re.compile(r"(.+\.arrow)#(\d+)", re.DOTALL)


def container_of(path):
    """The file on the disk that holds an image: the Arrow file, or the path itself.

    Args:
        path: str or path.
    """
    inside = _INSIDE.fullmatch(os.fspath(path))
    return inside[1] if inside else os.fspath(path)


def read_bytes(path):
    """Reads the bytes of an image file, be it one of its own or in an Arrow file.

    Args:
        path: str or path.
    Raises:
        OSError: there is no such file or no such image in it.
    """
    inside = _INSIDE.fullmatch(os.fspath(path))
    if inside is None:
        with open(path, "rb") as file:
            return file.read()
    table, column, _ = open_table(inside[1])
    number = int(inside[2])
    image = table.column(column)[number].as_py() if number < table.num_rows else None
    data = image and image["bytes"]
    if data is None:
        raise FileNotFoundError(errno.ENOENT, "no image with this number in the file", path)
    return data


@functools.lru_cache(maxsize=8)
def open_table(path):
    """Opens an Arrow file; its content stays on the disk until it is asked for.

    Args:
        path: str.
    Returns:
        tuple: pyarrow.Table; name of the column of images; dict name -> feature, as `datasets` describes it.
    Raises:
        OSError: there is no such file.
        InputError: it is no Arrow file of `datasets`, or does not have one column of images.
    """
    import pyarrow

    try:
        with pyarrow.memory_map(path) as source:
            table = pyarrow.ipc.open_stream(source).read_all()
    except pyarrow.ArrowInvalid as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} must be an Arrow file saved by datasets. Received: {reason}. Save it again."
        ) from None
    features = features_of(table)
    if not features:
        raise InputError(
            f"{path} must be an Arrow file saved by datasets. Received: a schema without its features. Save it again."
        )
    images = [
        name for name, feature in features.items() if isinstance(feature, dict) and feature.get("_type") == "Image"
    ]
    if len(images) != 1:
        raise InputError(
            f"{path} must have one column of images. Received: {', '.join(images) or 'none'} among the columns "
            f"{', '.join(features)}. Save a data set with one."
        )
    return table, images[0], features


def features_of(table):
    """What the columns of a pyarrow.Table are: dict name -> feature; empty if `datasets` has not written it."""
    try:
        return dict(json.loads((table.schema.metadata or {})[b"huggingface"])["info"]["features"])
    except (KeyError, TypeError, ValueError):
        return {}


class UnknownClass(ValueError):
    """A number of a class without name: the number, and how many names there are."""


def named(value, feature):
    """A value of a column with the names of its classes in place of their numbers.

    Args:
        value: of pyarrow's `as_py`.
        feature: the column's, as of `open_table`.
    Raises:
        UnknownClass: a number has no name.
    """
    if value is None or feature is None:
        return value
    if isinstance(feature, list):  # of an older version
        return [named(one, feature[0]) for one in value]
    kind = feature.get("_type")
    if kind == "ClassLabel":
        if not 0 <= value < len(feature["names"]):
            raise UnknownClass(value, len(feature["names"]))
        return feature["names"][value]
    if isinstance(value, list):
        return [named(one, feature.get("feature")) for one in value]
    if isinstance(value, dict):  # of a Sequence of a dict, `datasets` makes a dict of lists
        inner = feature.get("feature", feature)
        return {
            key: [named(one, inner.get(key)) for one in part] if kind == "Sequence" else named(part, inner.get(key))
            for key, part in value.items()
        }
    return value
