"""Labels in the forms in which other programs write them, read to values worked out by hand; and near misses.

Each form is a small folder as its program writes it; the page of documentation that says so stands beside it.
"""

import csv
import json
import shutil

import pytest
from PIL import Image

from srn_tf.choices import OWN_PHOTOS
from srn_tf.data.csv_file import CsvFile
from srn_tf.data.own_photos import CocoJson, Cvat, Folders, HuggingFace, LabelStudio, VocFolder
from srn_tf.errors import InputError

BUILDERS = {
    **{"csv": CsvFile, "folders": Folders, "coco_json": CocoJson, "voc_folder": VocFolder},
    **{"label_studio": LabelStudio, "cvat": Cvat, "huggingface": HuggingFace},
}


def write(folder, files):
    """Writes files: dict path -> text, bytes, an object for JSON; None for an empty file, such as an image."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, (dict, list)):
            content = json.dumps(content)
        path.write_bytes(content.encode() if isinstance(content, str) else content or b"")
    return str(folder)


def read(folder, dataset, **options):
    builder = BUILDERS[dataset]
    return builder.read(str(folder), {**builder.OPTIONS, **options})


def truth(source):
    """Path -> names of its labels, as one text with commas."""
    return {
        photo.path: ",".join(
            name for name, value in zip(source.labels, photo.examples[0].labels, strict=True) if value == 1
        )
        for photos in source.splits.values()
        for photo in photos
    }


def boxes(source):
    """Path -> list of (name, ymin, xmin, ymax, xmax) of its boxes, for images that have any."""
    return {
        photo.path: [(source.labels[label], *(round(side, 4) for side in box)) for box, label in example.objects]
        for photos in source.splits.values()
        for photo in photos
        for example in photo.examples
        if example.objects
    }


def splits(source):
    """Split -> its paths, as one text with blanks."""
    return {split: " ".join(sorted(photo.path for photo in photos)) for split, photos in source.splits.items()}


def message(*arguments, **options):
    """The message of a failure to read, which is one line."""
    with pytest.raises(InputError) as error:
        read(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_every_form_has_its_builder():
    assert set(BUILDERS) == set(OWN_PHOTOS)


# Tables.

PHOTOS = {"a.jpg": None, "b.jpg": None, "sub/c.png": None}
TABLES = {
    "long": ("image,label\na.jpg,cat\nb.jpg,dog\na.jpg,dog\nsub/c.png,\n", "rows: one for each label: 4 for 3 images"),
    "semicolons": ("image;labels\na.jpg;cat,dog\nb.jpg;dog\nsub/c.png;\n", "cells separated by semicolons"),
    "tabs of UTF-16": (
        "image\tlabels\r\na.jpg\tcat;dog\r\nb.jpg\tdog\r\nsub/c.png\t\r\n".encode("utf-16"),
        "encoding UTF-16; cells separated by tabs",
    ),
    "UTF-16 without its mark": (
        "image,labels\na.jpg,cat;dog\nb.jpg,dog\nsub/c.png,\n".encode("utf-16-be"),
        "encoding UTF-16-BE",
    ),
    "yes and no": ("image,cat,dog\na.jpg,yes,TRUE\nb.jpg,No,1.0\nsub/c.png,false,0\n", None),
    "path not first": ("labels,file_name\ncat;dog,a.jpg\ndog,b.jpg\n,sub/c.png\n", "images in column 'file_name'"),
    "ids, and numbers of pandas": (",image_id,labels\n0,a,cat;dog\n1,b,dog\n2,c,\n", "images in column 'image_id'"),
    # https://www.kaggle.com/c/planet-understanding-the-amazon-from-space/data, train_v2.csv
    "Kaggle's tags": ("image_name,tags\na,cat dog\nb,dog\nc,\n", "names in column 'tags', separated by ' '"),
    # Movies_Poster/Multi_Label_dataset/train.csv, 7,254 posters: an id, a list as text, and a column for each label
    "posters": ("Id,Genre,cat,dog\na,\"['cat', 'dog']\",1,1\nb,['dog'],0,1\nc,[],0,0\n", None),
    "JSON lists": ('image,labels\na.jpg,"[""cat"", ""dog""]"\nb.jpg,"[""dog""]"\nsub/c.png,[]\n', None),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables(tmp_path, kind):
    content, taken = TABLES[kind]
    folder = write(tmp_path, {**PHOTOS, "labels.csv": content})
    source = read(folder, "csv", csv="labels.csv", separator="," if kind == "semicolons" else ";")
    assert truth(source) == {"a.jpg": "cat,dog", "b.jpg": "dog", "sub/c.png": ""}
    lines = [note for note in source.notes if note.startswith(f"{folder}/labels.csv: read with ")]
    assert lines == ([] if taken is None else [f"{folder}/labels.csv: read with {taken}."])


def test_columns_are_named(tmp_path):
    folder = write(tmp_path, {**PHOTOS, "labels.csv": "7,a.jpg,cat;dog\n8,b.jpg,dog\n"})
    source = read(folder, "csv", csv="labels.csv", columns="-,image,labels")
    assert truth(source) == {"a.jpg": "cat,dog", "b.jpg": "dog"}
    write(tmp_path, {"labels.csv": "Datei,Art\na.jpg,cat\nb.jpg,dog\na.jpg,dog\n"})
    source = read(folder, "csv", csv="labels.csv", columns="image,label")
    assert truth(source) == {"a.jpg": "cat,dog", "b.jpg": "dog"}
    assert "header: the first row, 'Datei,Art', replaced by --columns; rows: one for each label" in source.notes[0]
    assert "Received: 1 names for 2 columns" in message(folder, "csv", csv="labels.csv", columns="image")


def test_roboflow(tmp_path):
    """https://openvinotoolkit.github.io/datumaro/latest/docs/data-formats/formats/roboflow.html, with blanks."""
    header = "filename, cat, dog\n"
    files = {f"{name}_jpg.rf.0a.jpg": None for name in ("train/a", "train/b", "valid/a", "test/d")}
    files |= {
        "train/_classes.csv": header + "a_jpg.rf.0a.jpg, 1, 0\nb_jpg.rf.0a.jpg, 1, 1\n",
        "valid/_classes.csv": header + "a_jpg.rf.0a.jpg, 0, 1\n",
        "test/_classes.csv": header + "d_jpg.rf.0a.jpg, 0, 0\n",
    }
    names = {f"{word}csv": f"{folder}/_classes.csv" for word, folder in (("", "train"), ("test_", "test"))}
    source = read(write(tmp_path, files), "csv", **names, validation_csv="valid/_classes.csv")
    assert truth(source) == {
        "train/a_jpg.rf.0a.jpg": "cat",
        "train/b_jpg.rf.0a.jpg": "cat,dog",
        "valid/a_jpg.rf.0a.jpg": "dog",
        "test/d_jpg.rf.0a.jpg": "",
    }
    assert splits(source)["validation"] == "valid/a_jpg.rf.0a.jpg"


def test_a_missing_file(tmp_path):
    folder = write(tmp_path, {**PHOTOS, "labels.csv": "image,labels\na.jpg,cat\nd.jpg,dog\nsub/C.png,dog\n"})
    assert "Received: 1 of 3 missing, the first d.jpg." in message(folder, "csv", csv="labels.csv")
    source = read(folder, "csv", csv="labels.csv", skip_missing=True)
    assert truth(source) == {"a.jpg": "cat", "sub/c.png": "dog"}
    assert source.notes[:2] == (
        "1 images were found by the end of their path, the first: sub/C.png is sub/c.png.",
        "1 of 3 images are missing and left out, as --skip_missing says, the first d.jpg.",
    )


@pytest.mark.slow
def test_7254_rows_with_missing_files(tmp_path):
    """25 labels, every hundredth of the images not there."""
    names = [f"genre {i}" for i in range(25)]
    lines = [",".join(["Id", "split", *names])]
    (tmp_path / "images").mkdir()
    for i in range(7254):
        split = "test" if i % 5 == 1 else "train"
        lines.append(",".join([f"tt{i:07d}", split, *(str(int(i % 25 in (k, 24 - k))) for k in range(25))]))
        if i % 100:
            (tmp_path / "images" / f"tt{i:07d}.jpg").touch()
    folder = write(tmp_path, {"train.csv": "\n".join(lines)})
    assert message(folder, "csv", csv="train.csv") == (
        f"Every image of {folder}/train.csv must be in {folder}. Received: 73 of 7,254 missing, the first tt0000000. "
        "Write paths relative to source_dir, remove the rows of images that are not there, or leave them out with "
        "--skip_missing."
    )
    source = read(folder, "csv", csv="train.csv", skip_missing=True)
    assert {split: len(photos) for split, photos in source.splits.items()} == {"train": 5730, "test": 1451}
    assert len(source.labels) == 25 and list(source.notes[:2]) == [
        f"{folder}/train.csv: every column except the path and a split is a label (25). To ignore columns, list the "
        "labels in a file for --labels_file.",
        "7,181 images were found by the end of their path, the first: tt0000001 is images/tt0000001.jpg.",
    ]
    assert "73 of 7,254 images are missing and left out, as --skip_missing says, the first tt0000000." in source.notes


# Folders.


def test_folders(tmp_path):
    """https://docs.cvat.ai/docs/manual/advanced/formats/format-imagenet/: with two tags, it is in two folders."""
    files = {"cat/cat_1.jpg": "one", "dog/dog_1.jpg": "one", "dog/big/2.jpg": "two", "cow/3.jpg": "three", "x.jpg": ""}
    source = read(write(tmp_path, files), "folders")
    assert truth(source) == {"cat/cat_1.jpg": "cat,dog", "dog/big/2.jpg": "dog", "cow/3.jpg": "cow"}
    assert source.notes[:2] == (
        "1 files are the same image as another, the first dog/dog_1.jpg as cat/cat_1.jpg: one image with the labels of "
        "all its folders.",
        "1 images that are in no label's folder are left out.",
    )


def test_folders_in_folders_of_splits(tmp_path):
    """https://huggingface.co/docs/datasets/image_dataset; the same image in two splits is for the checks to find."""
    files = {"train/cat/1.jpg": "one", "train/dog/2.jpg": "one", "Valid/cat/3.jpg": "three", "test/dog/4.jpg": "one"}
    source = read(write(tmp_path, files), "folders")
    assert splits(source) == {"train": "train/cat/1.jpg", "validation": "Valid/cat/3.jpg", "test": "test/dog/4.jpg"}
    assert truth(source)["train/cat/1.jpg"] == "cat,dog"


def test_no_folders(tmp_path):
    assert "Received: 1 images, none of them in such a folder. Check the folder. For images with a table" in message(
        write(tmp_path, {"a.jpg": None}), "folders"
    )


# COCO.


def coco(images, annotations, names=("cat", "dog")):
    return {
        "images": images,
        "annotations": [dict(zip(("image_id", "category_id", "bbox"), one, strict=False)) for one in annotations],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)],
    }


def test_coco_json(tmp_path):
    """https://cocodataset.org/#format-data, with ids as texts, backslashes, and without sizes, boxes or iscrowd."""
    content = coco(
        [
            {"id": "x", "file_name": "sub\\c.png", "width": 20, "height": 10},
            {"id": 7, "file_name": "a.jpg", "width": None},
            {"id": "8", "file_name": "./b.jpg", "width": 4, "height": 4},
        ],
        [("x", 1, [5, 0, 10, 5]), ("x", "2", [-5, 5, 10, 50]), ("7", 2, [0, 0, 1, 1]), (7, 1), (8, 2, [])],
    )
    content["annotations"][0]["iscrowd"] = 0
    source = read(write(tmp_path, {**PHOTOS, "labels.json": content}), "coco_json", annotations="labels.json")
    assert truth(source) == {"sub/c.png": "cat,dog", "a.jpg": "cat,dog", "b.jpg": "dog"}
    assert boxes(source) == {"sub/c.png": [("cat", 0.0, 0.25, 0.5, 0.75), ("dog", 0.5, 0.0, 1.0, 0.25)]}
    assert source.notes[0].endswith("1 images have no width and height. Their labels are kept, not their boxes.")
    split = ("split", "drawn, each label with its share: 20% test")
    assert source.form == (("annotations", "COCO's detection JSON"), ("labels", "2 categories"), ("boxes", "2"), split)


def test_coco_json_of_roboflow(tmp_path):
    """https://openvinotoolkit.github.io/datumaro/latest/docs/data-formats/formats/roboflow.html, "COCO JSON"."""
    files = {}
    for split, number in (("train", 2), ("test", 1)):
        content = coco([{"id": 0, "file_name": "a.jpg", "width": 4, "height": 4}], [(0, number, [0, 0, 4, 2])])
        content["categories"] = [
            {"id": 0, "name": "pets", "supercategory": "none"},
            *({**category, "supercategory": "pets"} for category in content["categories"]),
        ]
        files |= {f"{split}/_annotations.coco.json": content, f"{split}/a.jpg": None}
    names = {"annotations": "train/_annotations.coco.json", "test_annotations": "test/_annotations.coco.json"}
    source = read(write(tmp_path, files), "coco_json", **names)
    assert source.labels == ("cat", "dog")
    assert truth(source) == {"train/a.jpg": "dog", "test/a.jpg": "cat"}
    assert boxes(source)["train/a.jpg"] == [("dog", 0.0, 0.0, 0.5, 1.0)]
    source = read(tmp_path, "coco_json", **names, labels_file=write_labels(tmp_path, "dog"))
    assert (source.labels, truth(source)) == (("dog",), {"train/a.jpg": "dog", "test/a.jpg": ""})
    assert "categories not used: cat" in " ".join(source.notes)


def write_labels(folder, *names):
    (folder / "labels.txt").write_text("\n".join(names))
    return "labels.txt"


# Pascal VOC.


def voc(name, *objects, size=(20, 10)):
    """An XML file as labelImg writes it; objects: (name, difficult or None, xmin, ymin, xmax, ymax)."""
    text = "".join(
        f"<object><name>{label}</name><pose>Unspecified</pose><truncated>0</truncated>"
        + (f"<difficult>{difficult}</difficult>" if difficult is not None else "")
        + "<bndbox>"
        + "".join(f"<{key}>{side}</{key}>" for key, side in zip(("xmin", "ymin", "xmax", "ymax"), corners))
        + "</bndbox></object>"
        for label, difficult, *corners in objects
    )
    size = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return (
        f"<annotation><folder>f</folder><filename>{name}</filename><path>C:\\f\\{name}</path>{size}{text}</annotation>"
    )


def test_voc_folder(tmp_path):
    """https://docs.cvat.ai/docs/manual/advanced/formats/format-voc/, with lists of splits as VOC itself has them."""
    files = {
        "Annotations/a.xml": voc("a.jpg", ("cat", 1, 5, 0, 15, 5), ("dog", None, 10, 5, 30, 10)),
        "Annotations/b.xml": voc("b.jpg", ("dog", 0, 1, 1, 1, 1), size=(0, 0)),
        "Annotations/c.xml": voc("c.jpg"),
        "ImageSets/Main/train.txt": "a\nc\n",
        "ImageSets/Main/test.txt": "b  1\n",
        "ImageSets/Main/cat_test.txt": "not read",
        **{f"JPEGImages/{name}.jpg": None for name in "abcd"},
    }
    source = read(write(tmp_path, files), "voc_folder")
    assert truth(source) == {"JPEGImages/a.jpg": "cat,dog", "JPEGImages/b.jpg": "dog", "JPEGImages/c.jpg": ""}
    assert splits(source) == {"train": "JPEGImages/a.jpg JPEGImages/c.jpg", "test": "JPEGImages/b.jpg"}
    assert boxes(source) == {"JPEGImages/a.jpg": [("cat", 0.0, 0.25, 0.5, 0.75), ("dog", 0.5, 0.5, 1.0, 1.0)]}
    assert source.notes[0] == "1 images without XML file are left out."


def test_voc_folder_of_roboflow(tmp_path):
    """https://openvinotoolkit.github.io/datumaro/latest/docs/data-formats/formats/roboflow.html, "VOC XML"."""
    files = {f"{split}/a.xml": voc("a.jpg", ("cat", 0, 0, 0, 20, 10)) for split in ("train", "valid", "test")}
    source = read(write(tmp_path, {**files, **{f"{name[:-4]}.jpg": None for name in files}}), "voc_folder")
    assert splits(source) == {"train": "train/a.jpg", "validation": "valid/a.jpg", "test": "test/a.jpg"}


# Label Studio, https://labelstud.io/guide/export.html.

CHOICES = {"type": "choices", "from_name": "pets", "to_name": "image"}
RECTANGLE = {"x": 25.0, "y": 0, "width": 50, "height": 50.0, "rotation": 0, "rectanglelabels": ["dog"]}
TASKS = [
    {
        "id": 1,
        "data": {"image": "/data/upload/3/0f1e2d3c-a.jpg"},
        "annotations": [
            {"id": 11, "was_cancelled": False, "result": [{**CHOICES, "value": {"choices": ["cat", "dog"]}}]},
            {"id": 12, "was_cancelled": True, "result": []},
        ],
    },
    {
        "id": 2,
        "data": {"image": "/data/local-files/?d=photos%2Fb.jpg"},
        "annotations": [{"id": 13, "result": [{"type": "rectanglelabels", "from_name": "box", "value": RECTANGLE}]}],
    },
    {"id": 3, "data": {"image": "s3://bucket/photos/sub/c.png"}, "annotations": [{"id": 14, "result": []}]},
    {"id": 4, "data": {"image": "https://example.com/d.jpg"}, "annotations": []},
]
OWN = {"annotator": 1, "annotation_id": 11, "created_at": "2026", "updated_at": "2026", "lead_time": 4.2}
SHORT = [
    {"image": "/data/upload/3/0f1e2d3c-a.jpg", "id": 1, "pets": {"choices": ["cat", "dog"]}, "note": "x", **OWN},
    {"image": "/data/local-files/?d=photos%2Fb.jpg", "id": 2, "box": [RECTANGLE], "note": "y", **OWN},
    {"image": "s3://bucket/photos/sub/c.png", "id": 3, "note": "z", **OWN},
    {"image": "https://example.com/d.jpg", "id": 4, "note": "z", **dict.fromkeys(OWN)},
]
# The columns are in the order of the alphabet, and every text is in quotes.
TABLE = """"annotation_id","annotator","created_at","id","image","lead_time","pets","updated_at"
11,"1","2026",1,"/data/upload/3/0f1e2d3c-a.jpg",4.2,"{""choices"":[""cat"",""dog""]}","2026"
13,"1","2026",2,"/data/local-files/?d=photos%2Fb.jpg",4.2,"dog","2026"
14,"1","2026",3,"s3://bucket/photos/sub/c.png",4.2,"","2026"
"","","",4,"https://example.com/d.jpg","","",""
"""


def quoted(cell):
    return '"' + cell.replace('"', '""') + '"'


LABEL_STUDIO = {
    "JSON": ("e.json", TASKS),
    "JSON_MIN": ("e.json", SHORT),
    "CSV": ("e.csv", TABLE),
    "TSV": ("e.tsv", "\n".join("\t".join(map(quoted, cells)) for cells in csv.reader(TABLE.splitlines()))),
}


@pytest.mark.parametrize("kind", LABEL_STUDIO)
def test_label_studio(tmp_path, kind):
    name, content = LABEL_STUDIO[kind]
    folder = write(tmp_path, {**PHOTOS, name: content})
    source = read(folder, "label_studio", annotations=name)
    assert truth(source) == {"a.jpg": "cat,dog", "b.jpg": "dog", "sub/c.png": ""}
    assert boxes(source) == ({"b.jpg": [("dog", 0.0, 0.25, 0.5, 0.75)]} if name == "e.json" else {})
    assert source.notes[0] == f"{folder}/{name}: 1 tasks without annotation are left out."


@pytest.mark.parametrize("kind", ["JSON", "JSON_MIN", "CSV", "TSV"])
def test_label_studio_as_its_own_converter_writes_it(tmp_path, kind):
    converter = pytest.importorskip("label_studio_sdk.converter")
    config = (
        '<View><Image name="image" value="$image"/><Choices name="pets" toName="image" choice="multiple">'
        '<Choice value="cat"/><Choice value="dog"/></Choices><RectangleLabels name="box" toName="image">'
        '<Label value="dog"/></RectangleLabels></View>'
    )
    tasks = json.loads(json.dumps(TASKS))
    for made in (one for task in tasks for one in task["annotations"]):
        made |= {"created_at": "2026", "updated_at": "2026", "lead_time": 4.2, "completed_by": 1}
    folder = write(tmp_path, {**PHOTOS, "tasks.json": tasks})
    converter.Converter(config, folder).convert(f"{folder}/tasks.json", f"{folder}/out", kind, is_dir=False)
    (path,) = (tmp_path / "out").iterdir()
    name = f"e.{kind.lower().replace('_min', '')}"
    source = read(write(tmp_path, {name: path.read_bytes()}), "label_studio", annotations=name)
    assert truth(source) == {"a.jpg": "cat,dog", "b.jpg": "dog", "sub/c.png": ""}
    assert boxes(source) == {"b.jpg": [("dog", 0.0, 0.25, 0.5, 0.75)]}


def test_label_studio_with_annotations_that_contradict(tmp_path):
    first, *others = TASKS
    again = {**first["annotations"][0], "result": [{**CHOICES, "value": {"choices": ["cat"]}}]}
    tasks = [{**first, "annotations": [first["annotations"][0], again]}, *others]
    folder = write(tmp_path, {**PHOTOS, "e.json": tasks})
    assert message(folder, "label_studio", annotations="e.json") == (
        f"{folder}/e.json, task 1: rows of the same image must have the same labels. Received: a.jpg with other labels "
        "than in an earlier row. Correct one of the annotations in Label Studio and export again."
    )


def test_label_studio_with_two_texts(tmp_path):
    """A single choice looks like any other text of a task."""
    entries = [{**entry, "pets": "dog" if number else "cat"} for number, entry in enumerate(SHORT[:3])]
    del entries[1]["box"]
    folder = write(tmp_path, {**PHOTOS, "e.json": entries})
    assert "must have one field with the choices. Received: pets, note. Export as JSON" in message(
        folder, "label_studio", annotations="e.json"
    )
    source = read(folder, "label_studio", annotations="e.json", labels_file=write_labels(tmp_path, "cat", "dog"))
    assert truth(source) == {"a.jpg": "cat", "b.jpg": "dog", "sub/c.png": "dog"}


# CVAT.

CVAT_XML = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><id>1</id><mode>annotation</mode><labels>
<label><name>dog</name><type>tag</type></label><label><name>cat</name><type>any</type></label></labels></task></meta>
<image id="0" name="a.jpg" subset="Train" width="20" height="10"><tag label="cat" source="manual"></tag>
<tag label="dog" source="manual"></tag></image>
<image id="1" name="b.jpg" subset="Train" width="20" height="10">
<box label="dog" source="manual" occluded="0" xtl="5.00" ytl="0.00" xbr="15.00" ybr="5.00" z_order="0"></box></image>
<image id="2" name="sub/c.png" subset="Test" width="20" height="10"></image>
</annotations>
"""
"""https://docs.cvat.ai/docs/manual/advanced/xml_format/"""


def datumaro(items):
    """https://docs.cvat.ai/docs/manual/advanced/formats/format-datumaro/"""
    labels = [{"name": name, "parent": "", "attributes": []} for name in ("dog", "cat")]
    return {"info": {}, "categories": {"label": {"labels": labels, "attributes": []}}, "items": items}


def item(item_id, path, *annotations):
    made = [{"id": 0, "attributes": {}, "group": 0, **annotation} for annotation in annotations]
    return {"id": item_id, "annotations": made, "attr": {"frame": 0}, "image": {"path": path, "size": [10, 20]}}


CVAT = {
    "XML": {"annotations.xml": CVAT_XML},
    "Datumaro": {
        "default.json": datumaro(
            [
                item("a", "a.jpg", {"type": "label", "label_id": 1}, {"type": "label", "label_id": 0}),
                item("b", "b.jpg", {"type": "bbox", "label_id": 0, "bbox": [5.0, 0.0, 10.0, 5.0]}),
                item("sub/c", "", {"type": "caption", "caption": "x"}),
            ]
        )
    },
    # https://docs.cvat.ai/docs/manual/advanced/formats/format-openimages/ and
    # https://storage.googleapis.com/openimages/web/download_v7.html, "Image labels"
    "Open Images": {
        "annotations/default-annotations-human-imagelabels.csv": "ImageID,Source,LabelName,Confidence\n"
        "a,,/m/0,1\na,,/m/1,1.0\nb,,/m/0,1\nb,,/m/1,0\nsub/c,,/m/1,0\n",
        "annotations/class-descriptions.csv": "/m/0,dog\n/m/1,cat\n",
    },
}


@pytest.mark.parametrize("kind", CVAT)
def test_cvat(tmp_path, kind):
    source = read(write(tmp_path, {**PHOTOS, **CVAT[kind]}), "cvat", annotations=next(iter(CVAT[kind])))
    assert source.labels == ("dog", "cat")
    assert truth(source) == {"a.jpg": "dog,cat", "b.jpg": "dog", "sub/c.png": ""}
    assert boxes(source) == ({} if kind == "Open Images" else {"b.jpg": [("dog", 0.0, 0.25, 0.5, 0.75)]})
    if kind == "XML":
        assert splits(source) == {"train": "a.jpg b.jpg", "test": "sub/c.png"}


# Hugging Face, https://huggingface.co/docs/datasets/image_dataset, "ImageFolder".


@pytest.mark.parametrize("kind", ["csv", "jsonl", "objects", "boxes", "parquet"])
def test_huggingface(tmp_path, kind):
    """A category or label that is null is none, and not one of the name None."""
    rows = {"train": [("1.png", ["cat", "dog"]), ("2.png", [])], "test": [("sub/1.png", ["dog"])]}
    for split, images in rows.items():
        write(tmp_path, {f"{split}/{name}": None for name, _ in images})
        form = {
            "objects": lambda names: {"objects": {"bbox": [[0, 0, 1, 1]] * len(names), "categories": names}},
            "boxes": lambda names: {"objects": [{"bbox": [0, 0, 1, 1], "category": one} for one in [*names, None][:2]]},
            "jsonl": lambda names: {"text": "a photograph", "labels": [*names, None]},
            "parquet": lambda names: {"text": "a photograph", "labels": names},
        }
        objects = [{"file_name": name, **form[kind](names)} for name, names in images if kind != "csv"]
        path = tmp_path / split / f"metadata.{kind}"
        if kind == "csv":
            path.write_text("file_name,cat,dog\n" + "".join(f"{n},{'cat' in s},{'dog' in s}\n" for n, s in images))
        elif kind == "parquet":
            import pyarrow
            from pyarrow import parquet

            parquet.write_table(pyarrow.Table.from_pylist(objects), path)
        else:
            path.with_suffix(".jsonl").write_text("".join(json.dumps(one) + "\n" for one in objects))
    source = read(tmp_path, "huggingface")
    assert truth(source) == {"train/1.png": "cat,dog", "train/2.png": "", "test/sub/1.png": "dog"}
    assert splits(source)["test"] == "test/sub/1.png"


def save_to_disk(folder, rows, features):
    """What `datasets.Dataset.save_to_disk` writes: https://huggingface.co/docs/datasets/about_arrow."""
    import pyarrow

    folder.mkdir(parents=True)
    table = pyarrow.Table.from_pylist(rows)
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    with pyarrow.ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as file:
        file.write_table(table)
    write(folder, {"state.json": {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}})


def test_a_saved_data_set(tmp_path):
    import tensorflow_datasets as tfds

    from srn_tf.data.prepare import prepare

    files = {}
    for number in range(3):
        Image.new("RGB", (4, 3), (80 * number, 0, 0)).save(tmp_path / "photo.png")
        files[number] = (tmp_path / "photo.png").read_bytes()
    classes = {"names": ["cat", "dog"], "_type": "ClassLabel"}
    features = {"image": {"_type": "Image"}, "labels": {"feature": classes, "_type": "List"}}
    images = [{"image": {"bytes": data, "path": f"{number}.png"}} for number, data in files.items()]
    for split, rows in {
        "train": [{**images[0], "labels": [1, 0]}, {**images[1], "labels": [0]}],
        "test": [{**images[2], "labels": [1]}],
    }.items():
        save_to_disk(tmp_path / "saved" / split, rows, features)
    builder = HuggingFace(data_dir=tmp_path / "data", source_dir=tmp_path / "saved", options={})
    place = "data-00000-of-00001.arrow"
    assert truth(builder.source) == {
        f"train/{place}#0": "cat,dog",
        f"train/{place}#1": "cat",
        f"test/{place}#0": "dog",
    }
    prepare(builder)
    stored = builder.as_dataset(split="train+test", decoders={"image": tfds.decode.SkipDecoding()})
    found = {record["name"].decode(): record["image"] for record in tfds.as_numpy(stored)}
    assert found == {f"train/{place}#0": files[0], f"train/{place}#1": files[1], f"test/{place}#0": files[2]}
    prepare(HuggingFace(data_dir=tmp_path / "data", source_dir=tmp_path / "saved", options={}))  # the same source


def test_a_data_set_that_the_library_saved(tmp_path):
    datasets = pytest.importorskip("datasets")
    names = datasets.ClassLabel(names=["cat", "dog"])
    Image.new("RGB", (4, 3), (80, 0, 0)).save(tmp_path / "photo.png")
    boxes_of = {"bbox": [[0.0, 0.0, 1.0, 1.0]], "category": [1]}
    kinds = {
        "list": (datasets.Sequence(names), "labels", [1], "dog"),
        "one": (names, "label", 0, "cat"),
        "texts": (datasets.Sequence(datasets.Value("string")), "labels", ["cow"], "cow"),
        "objects": (
            datasets.Sequence({"bbox": datasets.Sequence(datasets.Value("float32")), "category": names}),
            "objects",
            boxes_of,
            "dog",
        ),
    }
    for kind, (feature, column, value, expected) in kinds.items():
        features = datasets.Features({"image": datasets.Image(), column: feature})
        rows = {"image": [str(tmp_path / "photo.png")] * 2, column: [value] * 2}
        datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / kind)
        assert set(truth(read(tmp_path / kind, "huggingface")).values()) == {expected}, kind


# Near misses: what was tried, and which form it is.


def near_misses(folder):
    """Kind -> (data set, options, parts of the message)."""
    write(
        folder,
        {
            **PHOTOS,
            "tasks.json": TASKS,
            "short.json": SHORT,
            "coco.json": coco([{"id": 1, "file_name": "a.jpg"}], []),
            "datumaro.json": datumaro([]),
            "cvat.xml": CVAT_XML,
            "video.xml": "<annotations><track id='0'></track></annotations>",
            "studio.csv": TABLE,
            "open.csv": "ImageID,Source,LabelName,Confidence\na,,cat,1\n",
            "labels.csv": "image,labels\na.jpg,cat\n",
            "list.json": [1],
            "scores.json": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}],
            "outside.json": coco([{"id": 1, "file_name": "../a.jpg"}], []),
        },
    )
    of_coco = "must be COCO's detection JSON, an object with the lists images, annotations and categories. Received: "
    return {
        "tasks as COCO": ("coco_json", "tasks.json", of_coco, "JSON of Label Studio. Use --dataset=label_studio."),
        "Datumaro as COCO": ("coco_json", "datumaro.json", of_coco, "as CVAT writes it. Use --dataset=cvat."),
        "predictions as COCO": ("coco_json", "scores.json", "COCO's JSON of predictions. It is not read"),
        "numbers as COCO": ("coco_json", "list.json", of_coco, "a list of numbers."),
        "COCO as Label Studio": ("label_studio", "coco.json", "Use --dataset=coco_json."),
        "table as Label Studio": ("label_studio", "labels.csv", "objects with the keys image, labels."),
        "COCO as CVAT": ("cvat", "coco.json", "Use --dataset=coco_json."),
        "video of CVAT": ("cvat", "video.xml", "Received: tracks, the form of videos. Export it as 'CVAT for images'."),
        "table as CVAT": ("cvat", "labels.csv", "Received: the columns image, labels."),
        "Label Studio as table": ("csv", "studio.csv", "a table of Label Studio. Use --dataset=label_studio."),
        "CVAT as table": ("csv", "open.csv", "labels of Open Images, as CVAT writes them. Use --dataset=cvat."),
        "JSON as table": ("csv", "short.json", "must be a table (CSV). Received: ", "Use --dataset=label_studio."),
        "XML as table": ("csv", "cvat.xml", "XML of CVAT. Use --dataset=cvat."),
        "outside the folder": (
            "coco_json",
            "outside.json",
            "a path must stay inside the source folder. Received: '../a",
        ),
        "XML of CVAT as VOC": ("voc_folder", "", "with the root <annotation>", "XML of CVAT. Use --dataset=cvat."),
        "no metadata": (
            "huggingface",
            "",
            "Received: none. For a folder of images for each label, use --dataset=folder",
        ),
    }


def test_near_misses(tmp_path):
    for kind, (dataset, name, *parts) in near_misses(tmp_path).items():
        flag = {"csv": "csv", "voc_folder": None, "huggingface": None}.get(dataset, "annotations")
        text = message(tmp_path, dataset, **({flag: name} if flag else {}))
        for part in parts:
            assert part in text, (kind, text)


def test_rows_and_files_that_contradict(tmp_path):
    folder = write(tmp_path, {**PHOTOS, "x/b.jpg": None, "y/d.jpg": None, "z/d.png": None})
    write(tmp_path, {"l.csv": "image,labels\na.jpg,cat\na.jpg,dog\n"})
    assert (
        "a.jpg with other labels than in an earlier row. Correct or remove one of the rows. In a table with a row for "
        "each label, call the column 'label'."
    ) in message(folder, "csv", csv="l.csv")
    write(tmp_path, {"l.csv": "image,label,film\na.jpg,cat,1\na.jpg,dog,2\n"})
    assert "line 3: an image must be in one group. Received: a.jpg in 2 here, and in 1 in " in (
        message(folder, "csv", csv="l.csv", group_column="film")
    )
    write(tmp_path, {"l.csv": "image,labels\na.jpg,cat\nd,dog\n"})
    assert (
        "line 3: a path must mean one image in the source folder. Received: 'd', which may be y/d.jpg or z/d.png."
        in (message(folder, "csv", csv="l.csv"))
    )
    write(tmp_path, {"l.csv": "ImageID,Source,LabelName,Confidence\na,,cat,1\na,,cat,0\n"})
    assert "line 3: rows of the same image must not contradict each other. Received: 'cat' of a with confidence" in (
        message(folder, "cvat", annotations="l.csv")
    )
    write(tmp_path, {"l.json": coco([{"id": 1, "file_name": "a.jpg"}, {"id": "1", "file_name": "b.jpg"}], [])})
    assert "image ids must be unique. Received: 1 twice" in message(folder, "coco_json", annotations="l.json")


def test_exports_of_another_structure(tmp_path):
    """Each is one message that names the file."""
    (task, *_), (row, *_) = TASKS, SHORT
    exports = {
        "d1.json": datumaro([item("a", "a.jpg", {"type": "bbox", "label_id": 0, "bbox": [1, 2]})]),
        "d2.json": datumaro([{**item("a", "a.jpg"), "image": "a.jpg"}]),
        "d3.json": {**datumaro([]), "categories": []},
        "wide.xml": CVAT_XML.replace('width="20"', 'width="wide"'),
    }
    studio = {
        "s1.json": [{**task, "annotations": [11]}],
        "s2.json": [{**task, "data": {"image": "/data/local-files/?d=#a.jpg"}}],
        "s3.json": [{**row, "pets": [{"choices": ["cat"]}], "image": "../a.jpg"}],
    }
    folder = write(tmp_path / "photos", {**PHOTOS, **exports, **studio})
    for name in (*exports, *studio):
        text = message(folder, "cvat" if name in exports else "label_studio", annotations=name)
        assert text.startswith(f"{folder}/{name}") and "Received: " in text, text
    folder = write(tmp_path / "voc", {"a.jpg": None, "a.xml": voc("a.jpg", size=("wide", 1))})
    assert "a.xml: <annotation> must have a number at size/width. Received: 'wide'." in message(folder, "voc_folder")


@pytest.mark.parametrize("state", [{"_data_files": [{"filename": "../data.arrow"}]}, {"_data_files": [{}]}, {}])
def test_a_saved_data_set_names_files_beside_it(tmp_path, state):
    folder = write(tmp_path, {"saved/state.json": state, "data.arrow": None, "saved/data.arrow": None})
    assert "state.json must name the files of a saved data set beside it. Received: " in (
        message(f"{folder}/saved", "huggingface")
    )


def test_damaged_files_of_hugging_face(tmp_path):
    folder = write(tmp_path / "parquet", {"metadata.parquet": "PAR1"})
    assert "metadata.parquet must be a Parquet file. Received: " in message(folder, "huggingface")
    state = {"_data_files": [{"filename": "data.arrow"}]}
    folder = write(tmp_path / "arrow", {"state.json": state, "data.arrow": "no table"})
    assert "data.arrow must be an Arrow file saved by datasets. Received: " in message(folder, "huggingface")


def test_the_longer_path_of_an_image_counts_first(tmp_path):
    """s3://bucket/y/a.jpg is x/y/a.jpg, not a.jpg."""
    tasks = [
        {"id": i, "data": {"image": address}, "annotations": [{"result": [{**CHOICES, "value": {"choices": [name]}}]}]}
        for i, (address, name) in enumerate([("s3://bucket/y/a.jpg", "cat"), ("s3://bucket/a.jpg", "dog")])
    ]
    folder = write(tmp_path, {"e.json": tasks, "a.jpg": None, "x/y/a.jpg": None})
    assert truth(read(folder, "label_studio", annotations="e.json")) == {"x/y/a.jpg": "cat", "a.jpg": "dog"}


def test_nothing_but_missing_files(tmp_path):
    folder = write(tmp_path, {"l.csv": "image,labels\na.jpg,cat\nb.jpg,dog\n"})
    assert message(folder, "csv", csv="l.csv", skip_missing=True).endswith(
        "Received: 2 of 2 missing, the first a.jpg. Write paths relative to source_dir."
    )
    folder = write(tmp_path / "f", {"cat/a.jpg": "one", "dog/b.jpg": "two"})
    (tmp_path / "f" / "dog" / "c.jpg").symlink_to("nowhere.jpg")
    assert "Received: 1 of 3 missing, the first dog/c.jpg." in message(folder, "folders")
    assert truth(read(folder, "folders", skip_missing=True)) == {"cat/a.jpg": "cat", "dog/b.jpg": "dog"}


# On the way to records, all forms are one: boxes and labels of one of them, with the checks of all.


def test_prepared_records(tmp_path, caplog):
    import tensorflow_datasets as tfds

    from srn_tf.data.prepare import prepare

    images = [{"id": i, "file_name": f"{i}.png", "width": 20, "height": 10} for i in range(4)]
    content = coco(images, [(i, 1 + i % 2, [5, 0, 10, 5]) for i in range(4)], ("Café", "cafe"))
    folder = write(tmp_path / "photos", {"labels.json": content})
    for i in range(4):
        Image.new("RGB", (20, 10), (60 * i, 0, 9)).save(tmp_path / "photos" / f"{i}.png")
    options = {"annotations": "labels.json", "test_fraction": 0.25}
    builder = CocoJson(data_dir=tmp_path / "data", source_dir=folder, options=options)
    with caplog.at_level("WARNING", "srn_tf"):
        prepare(builder)
    assert "Labels that look alike are kept separate: 'Café', 'cafe'." in caplog.text
    records = [record for split in ("train", "test") for record in tfds.as_numpy(builder.as_dataset(split=split))]
    assert sorted(record["name"].decode() for record in records) == [f"{i}.png" for i in range(4)]
    for record in records:
        number = int(record["name"].decode()[0]) % 2
        assert record["labels"].tolist() == [1 - number, number]
        assert record["objects"]["label"].tolist() == [number]
        assert record["objects"]["bbox"].tolist() == [[0.0, 0.25, 0.5, 0.75]]
    shutil.rmtree(folder)
    prepare(CocoJson(data_dir=tmp_path / "data"))


def test_linked_folders(tmp_path):
    """Outside the source folder and inside it, a circle and a link to nowhere: every image once, by its real folder."""
    folder = write(tmp_path / "photos", {"cat/a.jpg": "one", "labels.csv": "image,labels\na.jpg,cat\nb.jpg,dog\n"})
    write(tmp_path / "elsewhere", {"deep/b.jpg": "two"})
    (tmp_path / "photos" / "dog").symlink_to("../elsewhere")
    (tmp_path / "photos" / "a_second_name").symlink_to("cat")
    (tmp_path / "photos" / "cat" / "circle").symlink_to("..")
    (tmp_path / "photos" / "cat" / "nowhere").symlink_to("none")
    assert truth(read(folder, "csv", csv="labels.csv")) == {"cat/a.jpg": "cat", "dog/deep/b.jpg": "dog"}
    assert truth(read(folder, "folders")) == {"cat/a.jpg": "cat", "dog/deep/b.jpg": "dog"}


def test_linked_folders_of_other_forms(tmp_path):
    xml = "<annotation><filename>a.jpg</filename><object><name>cat</name></object></annotation>"
    write(tmp_path / "elsewhere", {"a.xml": xml, "a.jpg": None, "b.xml": xml.replace("a.jpg", "b.jpg"), "b.jpg": None})
    write(tmp_path / "elsewhere", {"metadata.csv": "file_name,labels\na.jpg,cat\nb.jpg,cat\n"})
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "linked").symlink_to("../elsewhere")
    for dataset in ("voc_folder", "huggingface"):
        assert truth(read(tmp_path / "photos", dataset)) == {"linked/a.jpg": "cat", "linked/b.jpg": "cat"}


def test_accents_composed_in_another_way(tmp_path):
    """A table from Windows, files from macOS, and the other way round."""
    names = {"composed": "Caf\u00e9", "decomposed": "Cafe\u0301"}
    for kind, other in (("composed", "decomposed"), ("decomposed", "composed")):
        rows = f"image,labels\nb/{names[kind]}.jpg,cat\nother.jpg,dog\n"
        folder = write(tmp_path / kind, {f"b/{names[other]}.JPG": None, "other.jpg": None, "labels.csv": rows})
        source = read(folder, "csv", csv="labels.csv")
        path = f"b/{names[other]}.JPG"
        assert truth(source) == {path: "cat", "other.jpg": "dog"}
        assert any("1 images were found by the end of their path" in note for note in source.notes)
    files = {f"{names['composed']}.jpg": None, f"{names['decomposed']}.jpg": None, "x/other.jpg": None}
    rows = f"image,labels\n{names['decomposed']}.jpg,cat\nother.jpg,dog\n"
    folder = write(tmp_path / "both", {**files, "labels.csv": rows})
    assert truth(read(folder, "csv", csv="labels.csv")) == {f"{names['decomposed']}.jpg": "cat", "x/other.jpg": "dog"}


def test_the_same_name_in_many_folders(tmp_path):
    """Found by as many parts of its path as the table has."""
    files = {f"photos/{i}/1.jpg": None for i in range(30)}
    rows = "".join(f"{i}/1,{'cat' if i % 2 else 'dog'}\n" for i in range(30))
    folder = write(tmp_path, {**files, "labels.csv": f"image,labels\n{rows}"})
    expected = {f"photos/{i}/1.jpg": "cat" if i % 2 else "dog" for i in range(30)}
    assert truth(read(folder, "csv", csv="labels.csv")) == expected


def test_a_class_that_is_not_known(tmp_path):
    """-1, as `datasets` writes it, was no label once; of a list and of boxes it is refused likewise."""
    classes = {"names": ["cat", "dog"], "_type": "ClassLabel"}
    image = {"bytes": b"", "path": "a.png"}
    for kind, feature, value in (
        ("label", classes, -1),
        ("labels", {"feature": classes, "_type": "List"}, [0, 2]),
        ("objects", {"feature": {"category": classes}, "_type": "Sequence"}, {"category": [-1]}),
    ):
        good = {"label": 0, "labels": [1], "objects": {"category": [0]}}[kind]
        rows = [{"image": image, kind: good}, {"image": image, kind: value}]
        save_to_disk(tmp_path / kind, rows, {"image": {"_type": "Image"}, kind: feature})
        assert (
            f"data-00000-of-00001.arrow, row 2, column {kind!r}: a class must be one of the 2 that it has names for. "
            f"Received: {2 if kind == 'labels' else -1}. "
        ) in message(tmp_path / kind, "huggingface")


def test_classes_of_a_parquet_table(tmp_path):
    import pyarrow
    from pyarrow import parquet

    folder = write(tmp_path, {"a.jpg": None, "b.jpg": None})
    classes = {"names": ["cat", "dog"], "_type": "ClassLabel"}
    for labels, expected in (((1, 0), {"a.jpg": "dog", "b.jpg": "cat"}), ((1, -1), None)):
        table = pyarrow.table({"file_name": ["a.jpg", "b.jpg"], "label": labels})
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": {"label": classes}}})})
        parquet.write_table(table, tmp_path / "metadata.parquet")
        if expected:
            assert truth(read(folder, "huggingface")) == expected
        else:
            assert "row 2, column 'label': a class must be one of the 2" in message(folder, "huggingface")


def test_messages_name_only_flags_that_the_form_has(tmp_path):
    for number, (table, part) in enumerate(
        (
            (
                "file_name,cat,dog\na.jpg,1,-1\n",
                "write a CSV of the table and give --dataset=csv --unspecified_marks=-1",
            ),
            ("file_name,labels\na.jpg,cat|dog\n", "Write ';' between the names, or make a list of them."),
        )
    ):
        folder = write(tmp_path / str(number), {"metadata.csv": table, "a.jpg": None})
        assert part in (text := message(folder, "huggingface")) and "--separator" not in text
    rows = "file_name,labels\na.jpg,cat\nb.jpg,dog\nc.jpg,cat dog\n"
    folder = write(tmp_path / "several", {"metadata.csv": rows, "a.jpg": None, "b.jpg": None, "c.jpg": None})
    (warning,) = read(folder, "huggingface").warnings
    assert "write them as lists, or with ';' between them" in warning and "--separator" not in warning
