"""From file to records: whose bytes are stored, which pixels, and what is reported about the rest."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from srn_tf.data import photo_records
from srn_tf.data.image_files import encode_png
from srn_tf.data.photo_records import clip_crop, read_photo
from srn_tf.data.source import Example, Photo
from srn_tf.data.source_files import stamp
from srn_tf.errors import InputError

# 10 wide, 8 high, all pixels different.
PIXELS = np.arange(8 * 10 * 3).reshape(8, 10, 3).astype(np.uint8)


def save(path, pixels=PIXELS, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def whole(name, labels=(1, 0)):
    """The Photo of a file that is stored as a whole."""
    return Photo(name, (Example(name, labels),))


def crops(name, *boxes):
    """The Photo of a file from which boxes are cut."""
    return Photo(name, tuple(Example(f"{name}#{index}", (1, 0), crop=box) for index, box in enumerate(boxes)))


def decode(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def only_image(folder, photo, store_size=0):
    _, records = read_photo(folder, photo, store_size)
    ((_, record),) = records
    return record["image"]


# What is stored.


@pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "grey.png", "photo.bmp"])
def test_a_plain_file_is_stored_as_it_is(tmp_path, name):
    path = save(tmp_path / name, PIXELS[:, :, 0] if name.startswith("grey") else PIXELS)
    assert only_image(tmp_path, whole(name)) == path.read_bytes()


def test_other_files_are_stored_as_png(tmp_path):
    save(tmp_path / "photo.webp", lossless=True)
    stored = only_image(str(tmp_path), whole("photo.webp"))
    assert stored.startswith(b"\x89PNG")
    np.testing.assert_array_equal(decode(stored), PIXELS)

    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown turned clockwise by a quarter
    save(tmp_path / "turned.png", exif=turned)
    stored = only_image(tmp_path, whole("turned.png"))
    np.testing.assert_array_equal(decode(stored), np.rot90(PIXELS, -1))


def test_a_record_and_its_report(tmp_path):
    save(tmp_path / "photo.png")
    objects = (((0.0, 0.25, 0.5, 1.0), 2), ((0.0, 0.0, 1.0, 1.0), 0))
    report, records = read_photo(tmp_path, Photo("photo.png", (Example("a", (1, 0, 1), objects),)), 0)
    assert records == [
        (
            "a",
            {
                "image": (tmp_path / "photo.png").read_bytes(),
                "name": "a",
                "labels": (1, 0, 1),
                "objects": [
                    {"bbox": (0.0, 0.25, 0.5, 1.0), "label": 2},
                    {"bbox": (0.0, 0.0, 1.0, 1.0), "label": 0},
                ],
            },
        )
    ]
    digest, stamped = report.pop("digest"), report.pop("stamp")
    counts = {"images": 1, "unlabelled": 0, "resized": 0, "positives": [0, 2]}
    assert report == {"path": "photo.png", **counts, "rejected": []}
    assert stamped == stamp(tmp_path / "photo.png")
    assert isinstance(digest, str) and len(digest) == 32


# Crops.


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((2, 1, 4, 3), slice(1, 4), slice(2, 6)),
        ((0, 0, 10, 8), slice(0, 8), slice(0, 10)),
        ((9, 7, 1, 1), slice(7, 8), slice(9, 10)),
        ((-2, -3, 5, 6), slice(0, 3), slice(0, 3)),  # leaves the photograph at the upper left
        ((7, 6, 10, 10), slice(6, 8), slice(7, 10)),  # at the lower right
        ((-5, -5, 100, 100), slice(0, 8), slice(0, 10)),  # on all sides
        ((1.4, 2.6, 3.2, 2.0), slice(3, 5), slice(1, 5)),  # from 1.4 to 4.6, and from 2.6 to 4.6
    ],
)
def test_a_crop_is_a_slice_of_the_pixels(tmp_path, box, rows, columns):
    save(tmp_path / "photo.png")
    stored = only_image(tmp_path, crops("photo.png", box))
    assert stored.startswith(b"\x89PNG")
    np.testing.assert_array_equal(decode(stored), PIXELS[rows, columns])


def test_crops_are_of_the_upright_photo(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    save(tmp_path / "turned.png", exif=turned)
    stored = only_image(tmp_path, crops("turned.png", (0, 4, 8, 6)))
    np.testing.assert_array_equal(decode(stored), np.rot90(PIXELS, -1)[4:10])


EMPTY = {
    "beside it": (10, 0, 3, 3),
    "above it": (0, -3, 3, 3),
    "no width": (2, 2, 0, 5),
    "no height": (2, 2, 5, 0),
    "negative width": (5, 2, -3, 3),
    "less than half a pixel": (2.1, 2.1, 0.3, 0.3),
}


@pytest.mark.parametrize("kind", EMPTY)
def test_an_empty_crop_is_rejected_and_the_others_survive(tmp_path, kind):
    save(tmp_path / "photo.png")
    report, records = read_photo(tmp_path, crops("photo.png", (0, 0, 2, 2), EMPTY[kind], (3, 3, 2, 2)), 0)
    assert [name for name, _ in records] == ["photo.png#0", "photo.png#2"]
    assert (report["images"], report["unlabelled"]) == (2, 0)
    ((name, reason),) = report["rejected"]
    assert name == "photo.png#1" and report["digest"] is not None
    assert "must have an area inside the image of 10 x 8 pixels" in reason and "\n" not in reason


def test_clip_crop():
    assert clip_crop((-1, 2, 5, 100), 10, 8) == (0, 2, 4, 8)
    with pytest.raises(InputError, match="Received: x 12.5, y 0, width 3, height 3. Correct or remove the box.$"):
        clip_crop((12.5, 0, 3, 3), 10, 8)


@pytest.mark.parametrize("kind", ["cut", "empty", "text", "missing"])
def test_a_damaged_file_rejects_all_its_examples(tmp_path, kind):
    path = save(tmp_path / "photo.jpg")
    data = {"cut": path.read_bytes()[:-50], "empty": b"", "text": b"no image at all"}
    if kind == "missing":
        path.unlink()
    else:
        path.write_bytes(data[kind])
    report, records = read_photo(tmp_path, crops("photo.jpg", (0, 0, 2, 2), (3, 3, 2, 2)), 0)
    assert records == []
    assert (report["digest"], report["images"], report["unlabelled"]) == (None, 0, 0)
    assert [name for name, _ in report["rejected"]] == ["photo.jpg#0", "photo.jpg#1"]
    for _, reason in report["rejected"]:
        assert str(path) in reason and "\n" not in reason


# Resized.


def smooth_photo(width, height):
    """An image of slow waves, much as a photograph is, without pixels clipped at 0 or 255."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + channel) + np.cos(y / 7 - channel) for channel in range(3)]
    return np.rint(127 + 50 * np.stack(waves, axis=-1)).astype(np.uint8)


def resized_by_tensorflow(pixels, size):
    return tf.image.resize(pixels, (size, size), method="bilinear", antialias=True).numpy()


SIZES = [(90, 61), (61, 90), (20, 13), (32, 32), (33, 31)]  # smaller, larger and the same; to 32 x 32


@pytest.mark.parametrize("kind", ["smooth", "noise"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_resized_pixels_are_those_of_tensorflow(tmp_path, monkeypatch, kind, width, height):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    pixels = smooth_photo(width, height) if kind == "smooth" else noise
    save(tmp_path / "photo.png", pixels)
    expected = resized_by_tensorflow(pixels, 32)

    stored = only_image(tmp_path, whole("photo.png"), store_size=32)
    assert stored.startswith(b"\xff\xd8")  # JPEG
    decoded = decode(stored).astype(float)
    assert decoded.shape == (32, 32, 3)
    # What JPEG of quality 95 loses, measured: 0.7 to 1.0 levels of smooth images, 2.9 to 3.4 of noise.
    assert np.abs(decoded - expected).mean() < {"smooth": 1.2, "noise": 4.0}[kind]

    monkeypatch.setattr(photo_records, "_encode_jpeg", encode_png)
    unspoilt = decode(only_image(tmp_path, whole("photo.png"), store_size=32)).astype(float)
    assert np.abs(unspoilt - expected).max() <= 1.0


def test_resized_images_keep_their_colours_sharp(tmp_path):
    save(tmp_path / "photo.png")
    image = Image.open(io.BytesIO(only_image(tmp_path, whole("photo.png"), store_size=32)))
    assert [component[1:3] for component in image.layer] == [(1, 1)] * 3  # no chroma subsampling
    assert set(image.quantization) == {0, 1} and max(image.quantization[0]) <= 12  # of quality 95


def test_a_crop_is_cut_before_it_is_resized(tmp_path, monkeypatch):
    monkeypatch.setattr(photo_records, "_encode_jpeg", encode_png)
    pixels = smooth_photo(90, 61)
    save(tmp_path / "photo.png", pixels)
    stored = decode(only_image(tmp_path, crops("photo.png", (20, 10, 50, 40)), store_size=16))
    expected = resized_by_tensorflow(pixels[10:50, 20:70], 16)
    assert np.abs(stored - expected).max() <= 1.0


# The report.


def digest_of(folder, name):
    return read_photo(folder, whole(name), 0)[0]["digest"]


def test_the_digest_is_that_of_the_pixels(tmp_path):
    save(tmp_path / "photo.png")
    save(tmp_path / "photo.bmp")
    save(tmp_path / "photo.webp", lossless=True)
    one_off = PIXELS.copy()
    one_off[7, 9, 2] += 1
    save(tmp_path / "one_off.png", one_off)
    digest = digest_of(tmp_path, "photo.png")
    assert digest_of(tmp_path, "photo.bmp") == digest_of(tmp_path, "photo.webp") == digest
    assert digest_of(tmp_path, "one_off.png") != digest
    report, _ = read_photo(tmp_path, crops("photo.png", (0, 0, 2, 2)), 32)
    assert report["digest"] == digest  # of the photograph, whatever is stored of it


def test_the_digest_knows_the_shape(tmp_path):
    save(tmp_path / "wide.png", np.zeros((2, 6, 3), np.uint8))
    save(tmp_path / "high.png", np.zeros((6, 2, 3), np.uint8))
    assert digest_of(tmp_path, "wide.png") != digest_of(tmp_path, "high.png")


def test_unlabelled_are_those_without_a_positive_label(tmp_path):
    save(tmp_path / "photo.png")
    labels = [(0, 0), (-1, 0), (0, 1), (1, -1), (-1, -1)]
    examples = [Example(str(index), values) for index, values in enumerate(labels)]
    examples.append(Example("rejected", (0, 0), crop=(100, 0, 1, 1)))
    report, _ = read_photo(tmp_path, Photo("photo.png", tuple(examples)), 0)
    assert (report["images"], report["unlabelled"], len(report["rejected"])) == (5, 3, 1)


def test_the_report_can_be_written_as_json(tmp_path):
    save(tmp_path / "photo.png")
    report, _ = read_photo(tmp_path, crops("photo.png", (0, 0, 2, 2), (50, 50, 2, 2)), 0)
    assert json.loads(json.dumps(report)) == report


def test_a_worker_process_loads_no_tensorflow():
    code = "import sys, srn_tf.data.photo_records, srn_tf.data.workers; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
