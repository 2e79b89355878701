"""What one record of every data set of this project looks like, and how label names travel with it."""

import numpy as np
import tensorflow_datasets as tfds

from srn_tf.data.label_names import clean_name, repeated
from srn_tf.errors import InputError

_MANY_LABELS = 1000
"""Above it, the labels of a record are stored compressed: tfds takes 3.8 ms and 10 kB for 10,000 numbers, and 0.4 ms
and 0.1 kB for them compressed."""


def features(label_names):
    """Describes a record.

    image:   uint8 (height, width, 3), RGB; stored as the bytes of `image_files.read_image_file`.
    name:    bytes (), path of the image relative to the source folder, "/" between parts; unique.
    labels:  int8 (C,), 1 positive; other values as the data set's protocol defines (COCO: 0 negative).
    objects: boxes, where the source has them, else none; N of them:
      bbox:  float32 (N, 4), ymin xmin ymax xmax, fractions of the image's height and width, 0 to 1.
      label: int64 (N,), index into the label names.

    Args:
        label_names: C names, in the order of `labels`.
    Returns:
        tfds.features.FeaturesDict.
    Raises:
        InputError: no name, an empty name, a name of several lines, or the same name twice once they are cleaned.
    """
    names = _check_names(label_names)
    encoding = tfds.features.Encoding.ZLIB if len(names) > _MANY_LABELS else tfds.features.Encoding.NONE
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "name": tfds.features.Text(),
            "labels": tfds.features.Tensor(shape=(len(names),), dtype=np.int8, encoding=encoding),
            "objects": tfds.features.Sequence(
                {"bbox": tfds.features.BBoxFeature(), "label": tfds.features.ClassLabel(names=names)}
            ),
        }
    )


def metadata(label_names):
    """Returns the `metadata` of a builder's DatasetInfo: what is stored beside the records.

    Args:
        label_names: C names, in the order of `labels`.
    Returns:
        tfds.core.MetadataDict {"labels": [C str]}; builders add "label_counts", `SourceBuilder` the rest.
    Raises:
        InputError: as `features`.
    """
    return tfds.core.MetadataDict({"labels": _check_names(label_names)})


def stored_metadata(builder):
    """Reads the metadata that was stored with a prepared data set.

    From the disk and not from the builder's code, so that it is what the records were made with.

    Args:
        builder: tfds.core.DatasetBuilder, prepared; also one of `tfds.builder_from_directory`.
    Returns:
        dict: "labels" list of C str in the order of `labels`; "options" dict; perhaps "label_counts", see
        `audit.Audit.label_counts`; of a data set with a source "source", hashes of what it was prepared from, and
        "audit", see `audit.Audit.finish`.
    Raises:
        InputError: the data set is not prepared, or stores no label names.
    """
    stored = tfds.core.MetadataDict()
    try:
        stored.load_metadata(builder.data_dir)
    except (OSError, ValueError):  # Missing, or not JSON.
        stored.clear()
    names = stored.get("labels")
    if not isinstance(names, list) or not names:
        raise InputError(
            f"{builder.data_dir} must have a metadata.json with label names. Received: no label names. Prepare data "
            f"set {builder.name} (again)."
        )
    return {"options": {}, **stored}


def label_names(builder):
    """Returns the label names stored with a prepared data set: list of C str; errors as `stored_metadata`."""
    return stored_metadata(builder)["labels"]


def _check_names(label_names):
    """Returns the names as a list of str, cleaned; InputError if they cannot name labels."""
    names = [str(name) for name in label_names]
    if not names:
        raise InputError("A data set must have at least one label. Received: no label names.")
    for name in names:
        if not clean_name(name) or len(name.splitlines()) != 1:
            raise InputError(f"A label name must be one line of text. Received: {name!r}.")
    names = [clean_name(name) for name in names]
    twice = sorted(repeated(names))
    if twice:
        raise InputError(f"Label names must differ. Received: {', '.join(twice)} twice. Rename or remove one.")
    return names
