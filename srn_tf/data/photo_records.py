"""From an image file to records: what the worker processes of a preparation do. TensorFlow is not needed here."""

import hashlib
import io
import os

from PIL import Image

from srn_tf.data.image_files import encode_png, open_image_file
from srn_tf.data.source import positive_labels
from srn_tf.data.source_files import stamp
from srn_tf.errors import InputError

JPEG_QUALITY = 95
"""Of stored images that were resized, without chroma subsampling."""


def read_photo(source_dir, photo, store_size):
    """Opens a photograph and makes the records of its examples.

    An image is stored as the bytes of its file (see `image_files.read_image_file` for the exceptions), a crop
    as PNG, a resized image as JPEG. Whatever cannot be used is named in the report and does not stop the rest.

    Args:
        source_dir: str, folder the photograph's path starts from.
        photo: source.Photo.
        store_size: side in pixels of the square that images are resized to, bilinear and antialiased, aspect not
            kept; 0 stores them as they came.
    Returns:
        pair (report, records). report is a dict ready for JSON: "path"; "stamp" of the file, see `source_files`;
        "digest", hex of the decoded pixels (None if the file is damaged); "images", "unlabelled", "resized", the
        number of records, of those without a positive label and of those that were resized; "positives", list of the
        positive labels' indices of all records; "rejected", list of [name, reason]. records are pairs (name, dict as in
        `examples.features`).
    """
    path = os.path.join(source_dir, photo.path)
    counts = {"images": 0, "unlabelled": 0, "resized": 0, "positives": []}
    report = {"path": photo.path, "stamp": stamp(path), "digest": None, **counts, "rejected": []}
    try:
        data, image = open_image_file(path)
    except InputError as error:
        report["rejected"] = [[example.name, str(error)] for example in photo.examples]
        return report, []
    report["digest"] = _digest(image)
    records = []
    for example in photo.examples:
        try:
            stored = _stored_bytes(data, image, example.crop, store_size)
        except InputError as error:
            report["rejected"].append([example.name, str(error)])
            continue
        objects = [{"bbox": box, "label": label} for box, label in example.objects]
        record = {"image": stored, "name": example.name, "labels": example.labels, "objects": objects}
        records.append((example.name, record))
    report["images"] = len(records)
    positives = [positive_labels(record["labels"]) for _, record in records]
    report["unlabelled"] = sum(not indices for indices in positives)
    report["resized"] = len(records) if store_size else 0
    report["positives"] = [index for indices in positives for index in indices]
    return report, records


def clip_crop(crop, width, height):
    """Clips a crop to its photograph.

    Args:
        crop: (x, y, width, height), numbers in pixels, x and y of the upper left corner.
        width, height: of the photograph in pixels.
    Returns:
        (left, upper, right, lower) ints, 0 <= left < right <= width and likewise in height.
    Raises:
        InputError: nothing of the crop lies in the photograph, or it has no area.
    """
    x, y, w, h = crop
    left, right = max(round(x), 0), min(round(x + w), width)
    upper, lower = max(round(y), 0), min(round(y + h), height)
    if left >= right or upper >= lower:
        raise InputError(
            f"The box of a crop must have an area inside the image of {width} x {height} pixels. Received: x {x:g}, "
            f"y {y:g}, width {w:g}, height {h:g}. Correct or remove the box."
        )
    return left, upper, right, lower


def _stored_bytes(data, image, crop, store_size):
    if crop is not None:
        image = image.crop(clip_crop(crop, *image.size))
    if store_size:
        image = image.resize((store_size, store_size), Image.Resampling.BILINEAR)
        return _encode_jpeg(image)
    return data if data is not None and crop is None else encode_png(image)


def _encode_jpeg(image):
    image.info.clear()
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def _digest(image):
    """Hash of what is seen, so that the same pixels in another file are found."""
    digest = hashlib.blake2b(repr(image.size).encode(), digest_size=16)
    digest.update(image.tobytes())
    return digest.hexdigest()
