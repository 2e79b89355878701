"""The record shared by all data sets: what goes in comes out, and the label names travel with it."""

import io
import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from srn_tf.data import examples
from srn_tf.data.image_files import read_image_file
from srn_tf.errors import InputError

NAMES = ["sky", "traffic light", "sea"]


class TwoRecords(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Two records of the shared kind: a photo with two boxes, and an unlabelled one given as a stream."""

    VERSION = tfds.core.Version("1.0.0")
    url_infos = None
    files = ()  # Two paths, set by the test.

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=examples.features(NAMES), metadata=examples.metadata(NAMES))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        boxes = [
            {"bbox": tfds.features.BBox(0.0, 0.25, 0.5, 1.0), "label": 2},
            {"bbox": tfds.features.BBox(0.125, 0.0, 1.0, 0.75), "label": 0},
        ]
        data = [read_image_file(path) for path in self.files]
        yield 0, {"image": data[0], "name": "a/0.jpg", "labels": np.array([1, 0, 1], np.int8), "objects": boxes}
        yield (
            1,
            {
                "image": io.BytesIO(data[1]),
                "name": "a/1.png",
                "labels": np.array([-1, 0, 0], np.int8),
                "objects": [],
            },
        )


@pytest.fixture
def builder(tmp_path, monkeypatch):
    """A prepared builder; `files` are its two source images."""
    photo = np.arange(16 * 24 * 3).reshape(16, 24, 3).astype(np.uint8)
    files = (tmp_path / "0.jpg", tmp_path / "1.png")
    Image.fromarray(photo).save(files[0], quality=80)
    Image.fromarray(photo[:5, :7]).save(files[1])
    monkeypatch.setattr(TwoRecords, "files", files)
    builder = TwoRecords(data_dir=tmp_path / "prepared")
    builder.download_and_prepare()
    return builder


def records(builder, **options):
    """name -> record."""
    return {record["name"]: record for record in tfds.as_numpy(builder.as_dataset(split="train", **options))}


def test_records_come_back(builder):
    by_name = records(builder)
    assert set(by_name) == {b"a/0.jpg", b"a/1.png"}
    photo, small = by_name[b"a/0.jpg"], by_name[b"a/1.png"]
    assert photo["image"].shape == (16, 24, 3) and photo["image"].dtype == np.uint8
    np.testing.assert_array_equal(small["image"], np.asarray(Image.open(builder.files[1])))
    assert photo["labels"].dtype == np.int8 and photo["labels"].tolist() == [1, 0, 1]
    assert small["labels"].tolist() == [-1, 0, 0]
    assert photo["objects"]["bbox"].dtype == np.float32
    assert photo["objects"]["bbox"].tolist() == [[0.0, 0.25, 0.5, 1.0], [0.125, 0.0, 1.0, 0.75]]
    assert photo["objects"]["label"].tolist() == [2, 0]
    assert small["objects"]["bbox"].shape == (0, 4) and small["objects"]["label"].shape == (0,)


def test_stored_bytes_are_those_of_the_file(builder):
    by_name = records(builder, decoders={"image": tfds.decode.SkipDecoding()})
    assert by_name[b"a/0.jpg"]["image"] == builder.files[0].read_bytes()
    assert by_name[b"a/1.png"]["image"] == builder.files[1].read_bytes()


def test_label_names_are_read_from_the_records_folder(builder):
    assert examples.label_names(builder) == NAMES
    assert examples.label_names(tfds.builder_from_directory(builder.data_dir)) == NAMES
    # The stored names count, not those that the code would give today.
    (builder.data_path / "metadata.json").write_text('{"labels": ["other", "names", "here"]}')
    assert examples.label_names(TwoRecords(data_dir=builder.data_dir_root)) == ["other", "names", "here"]


def test_many_labels_come_back():
    """Compressed, in less than a byte for each, and read as every other record is."""
    features = examples.features([f"label {i}" for i in range(1500)])
    labels = np.where(np.arange(1500) % 500 == 7, 1, np.where(np.arange(1500) % 500 == 8, 0, -1)).astype(np.int8)
    image = io.BytesIO()
    Image.new("RGB", (2, 2)).save(image, format="PNG")
    record = {"image": image.getvalue(), "name": "a.png", "labels": labels, "objects": []}
    stored = features.serialize_example(record)
    assert len(stored) < 500
    found = features.deserialize_example(stored)
    assert found["labels"].dtype == np.int8 and found["labels"].numpy().tolist() == labels.tolist()


def test_metadata_holds_names():
    metadata = examples.metadata(tuple(NAMES))
    assert isinstance(metadata, tfds.core.MetadataDict)
    assert metadata == {"labels": NAMES}


def test_stored_metadata(builder):
    assert examples.stored_metadata(builder) == {"labels": NAMES, "options": {}}
    stored = {"labels": ["other"], "options": {"store_size": 256}, "audit": {"splits": {}}}
    (builder.data_path / "metadata.json").write_text(json.dumps(stored))
    assert examples.stored_metadata(builder) == stored
    assert examples.stored_metadata(tfds.builder_from_directory(builder.data_dir)) == stored
    (builder.data_path / "metadata.json").write_text('{"labels": ["other"]}')  # as of a program without options
    assert examples.stored_metadata(builder) == {"labels": ["other"], "options": {}}


@pytest.mark.parametrize("read", [examples.label_names, examples.stored_metadata])
def test_metadata_needs_a_prepared_data_set(builder, tmp_path, read):
    unprepared = TwoRecords(data_dir=tmp_path / "elsewhere")
    with pytest.raises(InputError, match="two_records.* must have a metadata.json with label names"):
        read(unprepared)
    for text in ("{}", "not JSON", '{"labels": []}', '{"labels": "sky"}'):
        (builder.data_path / "metadata.json").write_text(text)
        with pytest.raises(InputError, match="must have a metadata.json with label names"):
            read(builder)


@pytest.mark.parametrize(
    "names, message",
    [
        ([], "at least one label. Received: no label names"),
        (["sky", " "], "must be one line of text. Received: ' '"),
        (["sky", "two\nlines"], "must be one line of text"),
        (["sky", "sea", "sky"], "must differ. Received: sky twice"),
    ],
)
def test_bad_label_names(names, message):
    for function in (examples.features, examples.metadata):
        with pytest.raises(InputError, match=message):
            function(names)
