"""PASCAL VOC 2007 from a small folder of the official layout, image by image."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from srn_tf.data import examples
from srn_tf.data.prepare import prepare
from srn_tf.data.source import Count
from srn_tf.data.voc2007 import LABEL_NAMES, Voc2007, read_objects
from srn_tf.errors import InputError

# Written out: not taken from the module under test.
CLASSES = [
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
]
BIRD, CHAIR, PERSON, SOFA = 2, 8, 14, 17

# Image -> size and objects: class, difficult, xmin, ymin, xmax, ymax in pixels counted from 1, the last included.
SIZE = (20, 10)
OBJECTS = {
    "000012": [("chair", 0, 6, 1, 10, 5), ("chair", 1, 1, 6, 20, 10), ("sofa", 1, 11, 1, 20, 10)],
    "000017": [("person", 0, 1, 1, 20, 10)],
    "000005": [("bird", 0, 20, 10, 20, 10), ("person", 1, 1, 1, 2, 5)],
    "000001": [("person", 1, 3, 2, 4, 4), ("chair", 0, 1, 1, 10, 10)],
    "000002": [],
}
SETS = {"train": ["000012", "000017"], "val": ["000005"], "test": ["000001", "000002"]}

# Worked by hand: (xmin - 1) / 20, xmax / 20 and so on; ymin, xmin, ymax, xmax.
CHAIR_BOXES = (((0.0, 0.25, 0.5, 0.5), CHAIR), ((0.5, 0.0, 1.0, 1.0), CHAIR))
SOFA_BOX = ((0.0, 0.5, 1.0, 1.0), SOFA)
BIRD_BOX = ((0.9, 0.95, 1.0, 1.0), BIRD)
VAL_PERSON_BOX = ((0.0, 0.0, 0.5, 0.1), PERSON)
TEST_PERSON_BOX = ((0.1, 0.1, 0.4, 0.2), PERSON)
TEST_CHAIR_BOX = ((0.0, 0.0, 1.0, 0.5), CHAIR)


def row(**values):
    """20 labels: those given, the others -1."""
    return tuple(values.get(name, -1) for name in CLASSES)


def list_value(name, image_id):
    """What the official lists say: 1, 0 if all objects of the class are difficult, -1 if there are none."""
    difficult = [entry[1] for entry in OBJECTS[image_id] if entry[0] == name]
    return -1 if not difficult else 0 if all(difficult) else 1


def xml(image_id, size=SIZE, objects=None):
    """An annotation file as the official ones are, a person with the box of a part."""
    part = "<part><name>head</name><bndbox><xmin>7</xmin><ymin>7</ymin><xmax>8</xmax><ymax>8</ymax></bndbox></part>"
    text = f"<annotation>\n\t<folder>VOC2007</folder>\n\t<filename>{image_id}.jpg</filename>\n"
    text += f"\t<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>\n"
    for name, difficult, xmin, ymin, xmax, ymax in OBJECTS[image_id] if objects is None else objects:
        text += (
            f"\t<object>\n\t\t<name>{name}</name>\n\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>\n"
            f"\t\t<difficult>{difficult}</difficult>\n\t\t{part if name == 'person' else ''}\n"
            f"\t\t<bndbox>\n\t\t\t<xmin>{xmin}</xmin>\n\t\t\t<ymin>{ymin}</ymin>\n\t\t\t<xmax>{xmax}</xmax>\n"
            f"\t\t\t<ymax>{ymax}</ymax>\n\t\t</bndbox>\n\t</object>\n"
        )
    return text + "</annotation>\n"


def write_list(root, name, part, image_ids, end="\r\n"):
    lines = [f"{image_id} {list_value(name, image_id):2d}" for image_id in image_ids]
    (root / "ImageSets" / "Main" / f"{name}_{part}.txt").write_bytes("".join(line + end for line in lines).encode())


@pytest.fixture
def source(tmp_path):
    """A folder with VOCdevkit, as both archives leave it."""
    root = tmp_path / "voc" / "VOCdevkit" / "VOC2007"
    for folder in ("ImageSets/Main", "JPEGImages", "Annotations"):
        (root / folder).mkdir(parents=True)
    for part, image_ids in {**SETS, "trainval": SETS["train"] + SETS["val"]}.items():
        for name in CLASSES:
            write_list(root, name, part, image_ids)
        (root / "ImageSets" / "Main" / f"{part}.txt").write_text("".join(f"{image_id}\r\n" for image_id in image_ids))
    (root / "ImageSets" / "Main" / "unicorn_train.txt").write_text("not read")
    for number, image_id in enumerate(OBJECTS):
        Image.new("RGB", SIZE, (40 * number, 0, 200)).save(root / "JPEGImages" / f"{image_id}.jpg")
        (root / "Annotations" / f"{image_id}.xml").write_text(xml(image_id))
    return tmp_path / "voc"


def path_of(image_id):
    return f"VOCdevkit/VOC2007/JPEGImages/{image_id}.jpg"


def read(source, **options):
    return Voc2007.read(source, {**Voc2007.OPTIONS, **options})


def records(found, split):
    """Image id -> (labels, objects) of a split."""
    result = {}
    for photo in found.splits[split]:
        (example,) = photo.examples
        assert example.name == photo.path and example.crop is None
        image_id = photo.path.removeprefix("VOCdevkit/VOC2007/JPEGImages/").removesuffix(".jpg")
        objects = tuple((pytest.approx(box), label) for box, label in example.objects)
        result[image_id] = (example.labels, objects)
    return result


def test_images_of_the_small_folder(source):
    found = read(source)
    assert found.labels == tuple(CLASSES) == LABEL_NAMES
    assert list(found.splits) == ["train", "test"]
    assert records(found, "train") == {
        "000012": (row(chair=1, sofa=1), (*CHAIR_BOXES, SOFA_BOX)),
        "000017": (row(person=1), (((0.0, 0.0, 1.0, 1.0), PERSON),)),
        "000005": (row(bird=1, person=1), (BIRD_BOX, VAL_PERSON_BOX)),
    }
    assert records(found, "test") == {"000001": (row(chair=1, person=0), (TEST_CHAIR_BOX,)), "000002": (row(), ())}
    assert read(str(source)) == found


def test_official_val_as_validation_is_judged_like_test(source):
    found = read(source, official_val="validation")
    assert list(found.splits) == ["train", "validation", "test"]
    assert set(records(found, "train")) == {"000012", "000017"}
    assert records(found, "validation") == {"000005": (row(bird=1, person=0), (BIRD_BOX,))}
    found = read(source, official_val="validation", difficult_test="negative", difficult_train="ignored")
    assert records(found, "validation") == {"000005": (row(bird=1, person=-1), (BIRD_BOX,))}


@pytest.mark.parametrize(
    "policy, value, is_located", [("positive", 1, True), ("negative", -1, False), ("ignored", 0, False)]
)
def test_policies(source, policy, value, is_located):
    found = read(source, difficult_train=policy)
    objects = (*CHAIR_BOXES, SOFA_BOX) if is_located else CHAIR_BOXES
    assert records(found, "train")["000012"] == (row(chair=1, sofa=value), objects)
    assert records(found, "test")["000001"] == (row(chair=1, person=0), (TEST_CHAIR_BOX,))
    found = read(source, difficult_test=policy)
    objects = (TEST_PERSON_BOX, TEST_CHAIR_BOX) if is_located else (TEST_CHAIR_BOX,)
    assert records(found, "test")["000001"] == (row(chair=1, person=value), objects)
    assert records(found, "train")["000012"] == (row(chair=1, sofa=1), (*CHAIR_BOXES, SOFA_BOX))


def test_counts(source):
    found = read(source, difficult_train="negative")
    assert found.notes == ()
    assert found.counts[:3] == (
        Count("official train images", 2, 2501),
        Count("official val images", 1, 2510),
        Count("official test images", 2, 4952),
    )
    published = [238, 243, 330, 181, 244, 186, 713, 337, 445, 141, 200, 421, 287, 245, 2008, 245, 96, 229, 261, 256]
    of_class = {BIRD: 1, CHAIR: 1, PERSON: 1}  # Not difficult, in train and val.
    assert found.counts[3:23] == tuple(
        Count(f"official train and val images with {name}", of_class.get(label, 0), published[label])
        for label, name in enumerate(CLASSES)
    )
    assert found.counts[23:] == (Count("images whose lists and annotation disagree", 0, 0),)


@pytest.mark.parametrize(
    "objects",
    [
        [],
        [("bird", 0, 1, 1, 2, 2), ("person", 0, 1, 1, 2, 2)],
        [("bird", 1, 1, 1, 2, 2), ("person", 1, 1, 1, 2, 2)],
        [*OBJECTS["000005"], ("cow", 1, 1, 1, 2, 2)],
    ],
)
def test_lists_and_annotation_disagree(source, objects):
    (source / "VOCdevkit/VOC2007/Annotations/000005.xml").write_text(xml("000005", objects=objects))
    found = read(source)
    assert found.counts[-1] == Count("images whose lists and annotation disagree", 1, 0)
    assert found.notes == ("VOCdevkit/VOC2007/Annotations/000005.xml is the first that disagrees with the lists.",)


def test_line_ends_and_blanks_do_not_matter(source):
    expected = read(source)
    main = source / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main"
    write_list(main.parents[1], "chair", "train", SETS["train"], end="\n")
    (main / "sofa_train.txt").write_bytes(b"\xef\xbb\xbf000017 -1\n\n 000012\t0  ")
    assert read(source) == expected


def test_a_box_of_fractions_of_pixels(source):
    path = source / "VOCdevkit/VOC2007/Annotations/000001.xml"
    path.write_text(xml("000001", objects=[("bird", 0, 1.5, 2.0, 11.0, 9.5)]))
    assert read_objects(path) == ((pytest.approx((0.1, 0.025, 0.95, 0.55)), BIRD, False),)


# Bad input: one line that says what and where.


def assert_refused(source, *parts, **options):
    with pytest.raises(InputError) as error:
        read(source, **options)
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert part in text


BAD_LISTS = {
    "value 2": ("000012 -1\r\n000017 2\r\n", "chair_train.txt, line 2", "1, -1 or 0. Received: '000017 2'"),
    "value +1": ("000012 -1\r\n000017 +1\r\n", "chair_train.txt, line 2", "Received: '000017 +1'"),
    "no value": ("000012\n000017 1\n", "chair_train.txt, line 1", "Received: '000012'"),
    "a column more": ("000012 1 1\n000017 1\n", "chair_train.txt, line 1", "Received: '000012 1 1'"),
    "shorter": (
        "000012  1\n",
        "chair_train.txt must list the same images as aeroplane_train.txt",
        "1 images and 2, 000017",
    ),
    "longer": ("000012  1\n000017 -1\n000023 -1\n", "Received: 3 images and 2, 000023 in one of them only"),
    "another image": ("000012  1\n000018 -1\n", "Received: 2 images and 2, 000017 in one of them only"),
    "an image twice": (
        "000012  1\n000012  1\n",
        "chair_train.txt, line 2: every image must be listed once",
        "000012 twice",
    ),
    "empty": ("", "chair_train.txt must list at least one image"),
    "climbing": ("../000012  1\n", "chair_train.txt, line 1: a path must stay inside"),
    "absolute": ("/000012  1\n", "chair_train.txt, line 1: a path must stay inside"),
}


@pytest.mark.parametrize("kind", BAD_LISTS)
def test_bad_list(source, kind):
    text, *parts = BAD_LISTS[kind]
    (source / "VOCdevkit/VOC2007/ImageSets/Main/chair_train.txt").write_bytes(text.encode())
    assert_refused(source, *parts)


@pytest.mark.parametrize("first, second", [("train", "test"), ("val", "test"), ("train", "val")])
def test_an_image_in_two_sets(source, first, second):
    image_id = SETS[first][0]
    for name in CLASSES:
        write_list(source / "VOCdevkit" / "VOC2007", name, second, [*SETS[second], image_id])
    assert_refused(source, "Every image must be in only one of", f"Received: {image_id} in {first} and {second}")


GOOD = ("cow", 0, 1, 1, 2, 2)
BAD_XML = {
    "not XML": ("<annotation>", "000005.xml must be XML. Received: no element found: line 1, column 12"),
    "unknown class": (
        xml("000005", objects=[("unicorn", 0, 1, 1, 2, 2)]),
        "one of the 20 classes. Received: 'unicorn'",
    ),
    "no class": (xml("000005", objects=[GOOD]).replace("<name>cow</name>", ""), "one of the 20 classes. Received: ''"),
    "no size": (
        xml("000005").replace("<width>20</width>", ""),
        "<annotation> must have a number at size/width. Received: nothing",
    ),
    "size not a number": (xml("000005", size=("wide", 10)), "a number at size/width. Received: 'wide'"),
    "no box": (xml("000005", objects=[GOOD]).replace("bndbox", "box"), "<object> must have a number at bndbox/xmin"),
    "no corner": (xml("000005", objects=[GOOD]).replace("<ymax>2</ymax>", ""), "at bndbox/ymax. Received: nothing"),
    "no difficult": (xml("000005", objects=[GOOD]).replace("difficult", "hard"), "at difficult. Received: nothing"),
    "no width": (
        xml("000005", objects=[("cow", 0, 5, 1, 4, 2)]),
        "inside the image of 20 x 10 pixels",
        "x 5 to 4, y 1 to 2",
    ),
    "no height": (xml("000005", objects=[("cow", 0, 1, 5, 2, 4)]), "cow with x 1 to 2, y 5 to 4"),
    "at the left": (xml("000005", objects=[("cow", 0, 0, 1, 4, 2)]), "cow with x 0 to 4"),
    "above": (xml("000005", objects=[("cow", 0, 1, 0, 4, 2)]), "y 0 to 2"),
    "at the right": (xml("000005", objects=[("cow", 0, 1, 1, 21, 2)]), "x 1 to 21"),
    "below": (xml("000005", objects=[("cow", 0, 1, 1, 4, 11)]), "y 1 to 11"),
    "not a finite corner": (xml("000005", objects=[("cow", 0, "nan", 1, 4, 2)]), "x nan to 4"),
}


@pytest.mark.parametrize("kind", BAD_XML)
def test_bad_annotation(source, kind):
    text, *parts = BAD_XML[kind]
    (source / "VOCdevkit/VOC2007/Annotations/000005.xml").write_text(text)
    assert_refused(source, "Annotations/000005.xml", *parts)


@pytest.mark.parametrize("name", ["tvmonitor_test.txt", "aeroplane_val.txt", "train_train.txt"])
def test_list_missing(source, name):
    (source / "VOCdevkit/VOC2007/ImageSets/Main" / name).unlink()
    assert_refused(source, f"ImageSets/Main/{name} must exist", "VOCtest_06-Nov-2007.tar, both")


def test_image_or_annotation_missing(source):
    (source / "VOCdevkit/VOC2007/Annotations/000001.xml").unlink()
    assert_refused(source, "Annotations/000001.xml must exist", "VOCtrainval_06-Nov-2007.tar")
    (source / "VOCdevkit/VOC2007/JPEGImages/000017.jpg").unlink()
    assert_refused(source, f"1 of 2 missing, the first {path_of('000017')}")


def test_source_missing_or_empty(tmp_path):
    assert_refused(tmp_path / "none", "source_dir must be a folder", "VOCdevkit/VOC2007/JPEGImages/*.jpg")
    assert_refused(tmp_path, "which is empty", "VOCdevkit/VOC2007/Annotations/*.xml")


@pytest.mark.parametrize("option", ["difficult_train", "difficult_test", "official_val"])
def test_unknown_option_value(source, option):
    assert_refused(source, f"{option} must be one of ", "Received: 'neither'", **{option: "neither"})


# From the folder to the records.


def test_prepared_records(source, tmp_path):
    builder = Voc2007(data_dir=tmp_path / "data", source_dir=source, options={"difficult_train": "negative"})
    prepare(builder)
    assert examples.label_names(builder) == CLASSES
    expected = {
        "train": {
            "000012": (row(chair=1, sofa=-1), CHAIR_BOXES),
            "000017": (row(person=1), (((0.0, 0.0, 1.0, 1.0), PERSON),)),
            "000005": (row(bird=1, person=-1), (BIRD_BOX,)),
        },
        "test": {"000001": (row(chair=1, person=0), (TEST_CHAIR_BOX,)), "000002": (row(), ())},
    }
    for split, images in expected.items():
        stored = builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()})
        found = {record["name"].decode(): record for record in tfds.as_numpy(stored)}
        assert sorted(found) == sorted(path_of(image_id) for image_id in images)
        for image_id, (labels, objects) in images.items():
            record = found[path_of(image_id)]
            assert record["image"] == (source / path_of(image_id)).read_bytes()
            assert record["labels"].dtype == np.int8 and tuple(record["labels"]) == labels
            assert record["objects"]["label"].tolist() == [label for _, label in objects]
            for box, (expected_box, _) in zip(record["objects"]["bbox"], objects):
                np.testing.assert_allclose(box, expected_box, rtol=1e-6)
