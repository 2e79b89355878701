"""Predicted labels as annotation tools read them: by their own libraries where these are installed, else as JSON."""

import json
import os

import numpy as np
import pytest

from srn_tf.data.coco_json import read_coco_json
from srn_tf.data.label_studio import read_label_studio
from srn_tf.errors import InputError
from srn_tf.prediction.annotation_forms import FORMS, PredictedLabels, form_of_output
from srn_tf.prediction.answers import Answer
from srn_tf.prediction.predict import predict_files
from srn_tf.prediction.rows import format_of
from tests.prediction.pictures import LABELS, ColourPredictor, write_pictures

NAMES = ["dog", "cat, small", "été"]
ANSWERS = [
    Answer("a/x 1.jpg", np.float32([0.9, 0.2, 2 / 3]), np.array([True, False, True]), None),
    Answer("bad.jpg", None, None, "bad.jpg must be an image"),
    Answer(os.fsdecode(b"y\xff.jpg"), np.float32([0.1, 0.2, 0.3]), np.array([False] * 3), None),
]
CONFIG = """<View><Image name="image" value="$image"/><Choices name="choice" toName="image" choice="multiple">
<Choice value="dog"/><Choice value="cat, small"/><Choice value="été"/></Choices></View>"""


def written(folder, ending, image_prefix=""):
    columns, form = PredictedLabels(NAMES), FORMS[ending](NAMES, image_prefix)
    paths = [folder / "0", folder / "1"]
    for path, answers in zip(paths, (ANSWERS[:1], ANSWERS[1:]), strict=True):
        with open(path, "wb") as file:
            form.write_part([columns.row(answer) for answer in answers], file)
    output = folder / f"P{ending}"
    with open(output, "wb") as file:
        form.join(paths, file)
    return output


def test_coco(tmp_path):
    path = written(tmp_path, ".coco.json")
    content = json.loads(path.read_text("utf-8"))
    assert content["categories"] == [{"id": number, "name": name} for number, name in enumerate(NAMES, 1)]
    assert content["images"] == [
        {"id": 1, "file_name": "a/x 1.jpg"},
        {"id": 2, "file_name": "bad.jpg", "error": "bad.jpg must be an image"},
        {"id": 3, "file_name": "y\\xff.jpg"},
    ]
    assert content["annotations"] == [
        {"id": 1, "image_id": 1, "category_id": 1, "score": 0.9},
        {"id": 2, "image_id": 1, "category_id": 3, "score": 0.666667},
    ]


def test_coco_is_read_as_ones_own_labels(tmp_path):
    predict_files(ColourPredictor(), write_pictures(tmp_path, 2), str(tmp_path / "P.coco.json"))
    content = json.loads((tmp_path / "P.coco.json").read_text())
    for image in content["images"]:
        image["file_name"] = os.path.relpath(image["file_name"], tmp_path)
    (tmp_path / "own.json").write_text(json.dumps(content))
    listing = read_coco_json(str(tmp_path / "own.json"))
    assert list(listing.labels) == LABELS
    assert {row.path: row.present for row in listing.rows} == {f"0000{i}.png": {LABELS[2]} for i in range(2)}


def test_pycocotools_reads_coco(tmp_path, capsys):
    COCO = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed").COCO
    coco = COCO(str(written(tmp_path, ".coco.json")))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == NAMES
    assert coco.getImgIds(catIds=coco.getCatIds(catNms=["été"])) == [1] and coco.getAnnIds(imgIds=[2, 3]) == []
    assert [annotation["score"] for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[1]))] == [0.9, 0.666667]


def test_fiftyone(tmp_path, monkeypatch):
    """As its documentation has it: targets by absolute path, dicts with a class and a confidence, null for none."""
    monkeypatch.chdir(tmp_path)
    here = os.getcwd()
    path = written(tmp_path, ".fiftyone.json")
    assert json.loads(path.read_text("utf-8")) == {
        "classes": NAMES,
        "labels": {
            f"{here}/a/x 1.jpg": [{"label": "dog", "confidence": 0.9}, {"label": "été", "confidence": 0.666667}],
            f"{here}/bad.jpg": None,
            f"{here}/y\\xff.jpg": [],
        },
        "errors": {f"{here}/bad.jpg": "bad.jpg must be an image"},
    }
    other = json.loads(written(tmp_path, ".fiftyone.json", "/photos").read_text("utf-8"))
    assert list(other["labels"])[0] == "/photos/a/x 1.jpg"


@pytest.mark.slow
def test_the_library_of_fiftyone_reads_it(tmp_path, monkeypatch):
    """Its importer, which a Dataset uses; a Dataset itself needs a running MongoDB."""
    importers = pytest.importorskip("fiftyone.utils.data.importers", reason="fiftyone is not installed")
    monkeypatch.chdir(tmp_path)
    path, data_path = str(written(tmp_path, ".fiftyone.json")), str(tmp_path)
    with importers.FiftyOneImageClassificationDatasetImporter(data_path=data_path, labels_path=path) as importer:
        assert importer.get_dataset_info() == {"classes": NAMES}
        found = {
            os.path.relpath(image): label and [(one.label, one.confidence) for one in label.classifications]
            for image, _, label in importer
        }
    assert found == {"a/x 1.jpg": [("dog", 0.9), ("été", 0.666667)], "bad.jpg": None, "y\\xff.jpg": []}


def test_label_studio(tmp_path):
    first, bad, none = json.loads(written(tmp_path, ".label_studio.json").read_text("utf-8"))
    assert first == {
        "data": {
            "image": "/data/local-files/?d=a/x%201.jpg",
            "probabilities": {"dog": 0.9, "été": 0.666667},
        },
        "predictions": [
            {
                "model_version": "srn_tf",
                "score": 0.666667,
                "result": [
                    {
                        "id": "1",
                        "from_name": "choice",
                        "to_name": "image",
                        "type": "choices",
                        "value": {"choices": ["dog", "été"]},
                    }
                ],
            }
        ],
    }
    assert bad == {"data": {"image": "/data/local-files/?d=bad.jpg"}, "meta": {"error": "bad.jpg must be an image"}}
    assert none["predictions"] == [{"model_version": "srn_tf", "result": []}]
    for prefix, image in {"http://h:1": "http://h:1/a/x%201.jpg", "s3://bucket/": "s3://bucket/a/x 1.jpg"}.items():
        task, *_ = json.loads(written(tmp_path, ".label_studio.json", prefix).read_text("utf-8"))
        assert task["data"]["image"] == image


def test_what_a_person_accepts_in_label_studio_is_read_back(tmp_path):
    tasks = json.loads(written(tmp_path, ".label_studio.json").read_text("utf-8"))
    for task in tasks:
        task["annotations"] = [{"result": one["result"]} for one in task.pop("predictions", ())]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    first, none = read_label_studio(str(tmp_path / "export.json")).rows
    assert (first.path, first.present, none.present) == ("a/x 1.jpg", {"dog", "été"}, set())


def test_the_library_of_label_studio_accepts_the_tasks(tmp_path):
    interface = pytest.importorskip("label_studio_sdk.label_interface", reason="label-studio-sdk is not installed")
    tags = interface.LabelInterface(CONFIG)
    for task in json.loads(written(tmp_path, ".label_studio.json").read_text("utf-8")):
        predictions = task.pop("predictions", ())
        assert tags.validate_task(task)
        assert [tags.validate_prediction(one, return_errors=True) for one in predictions] == [[]] * len(predictions)


def test_labels_may_be_asked_for(tmp_path):
    paths = write_pictures(tmp_path / "images", 1)
    for name, write in (("P", "labels"), ("Q", None)):
        predict_files(ColourPredictor(), paths, str(tmp_path / f"{name}.coco.json"), write)
    assert (tmp_path / "P.coco.json").read_bytes() == (tmp_path / "Q.coco.json").read_bytes()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"output": "P.json"}, "output must end in .csv, .jsonl, .parquet, .coco.json, .fiftyone.json, .label_studio"),
        ({"write": "top_k", "top_k": 1}, "has the labels above the thresholds. Received: write=top_k. Remove it"),
        ({"output": "P.csv", "image_prefix": "a/"}, "image_prefix needs a file for output that ends in .coco.json"),
        ({"output": "P.fiftyone.json", "image_prefix": "http://h"}, "must be a folder. Received: http://h. Give"),
        ({"output": "P.label_studio.json"}, "must be in the folder that image_prefix .* stands for. Received: ../x.jp"),
    ],
)
def test_refused_before_any_work(tmp_path, arguments, message):
    predictor, arguments = ColourPredictor(), {"output": "P.coco.json", **arguments}
    with pytest.raises(InputError, match=message):
        predict_files(predictor, ["../x.jpg"], **{**arguments, "output": str(tmp_path / arguments["output"])})
    assert predictor.asked == [] and os.listdir(tmp_path) == []


def test_on_a_cluster_there_are_rows_alone():
    assert form_of_output("P.coco.json") is FORMS[".coco.json"]
    with pytest.raises(InputError, match="output must end in .csv, .jsonl, .parquet. Received: P.coco.json."):
        format_of("P.coco.json")
