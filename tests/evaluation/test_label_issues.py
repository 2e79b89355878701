"""Labels that are probably wrong: planted errors are found, unspecified labels are not judged; the list as a file."""

import json
import sys

import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.evaluation import label_issues
from srn_tf.evaluation.label_issues import (
    LabelIssue,
    find_label_issues,
    read_label_issues,
    write_label_issues,
    write_label_issues_for_tool,
)
from srn_tf.evaluation.predictions import SavedPredictions
from srn_tf.evaluation.protocols import COCO, PARTIAL

N, C, PLANTED = 400, 5, 20
NAMES = np.array([f"{i}.jpg" for i in range(N)])
LABELS = tuple("abcde")


@pytest.fixture
def planted():
    """Predictions of a good model, with errors in the truth: 10 labels missing, 10 given wrongly; and where."""
    rng = np.random.default_rng(0)
    truth = rng.random((N, C)) < [0.5, 0.3, 0.3, 0.1, 0.05]
    logits = np.where(truth, 4.0, -4.0) + rng.normal(0, 1.2, truth.shape)
    wrong = [
        tuple(place) for has in (True, False) for place in rng.permutation(np.argwhere(truth == has))[: PLANTED // 2]
    ]
    for place in wrong:
        truth[place] = ~truth[place]
    labels = np.where(truth, 1, 0).astype(np.int8)
    predictions = SavedPredictions(NAMES, labels, LABELS, {"y_hat": logits, "y_cls": -logits})
    return predictions, {(f"{image}.jpg", LABELS[label]) for image, label in wrong}


def test_planted_errors_come_first(planted):
    pytest.importorskip("cleanlab")
    predictions, wrong = planted
    issues = find_label_issues(predictions, COCO)
    assert [issue.score for issue in issues] == sorted(issue.score for issue in issues)
    found = {(issue.image, issue.label) for issue in issues}
    assert found <= wrong and len(found) >= 0.7 * PLANTED  # confident learning rather lists too few
    for issue in issues:
        row, column = int(issue.image.split(".")[0]), LABELS.index(issue.label)
        p = 1 / (1 + np.exp(-predictions.logits["y_hat"][row, column]))
        assert issue.given == predictions.labels[row, column] and issue.probability == pytest.approx(p)
        assert issue.score == pytest.approx(p if issue.given else 1 - p)  # of what is given


def test_what_is_not_known_is_not_judged(planted):
    pytest.importorskip("cleanlab")
    predictions, wrong = planted
    image, label = sorted(wrong)[0]
    labels = np.where(predictions.labels == 1, 1, -1).astype(np.int8)
    labels[int(image.split(".")[0]), LABELS.index(label)] = 0
    labels[:, 4] = -1  # on no image
    known = SavedPredictions(NAMES, labels, LABELS, predictions.logits)
    found = {(issue.image, issue.label) for issue in find_label_issues(known, PARTIAL)}
    assert (image, label) not in found and not any(name == "e" for _, name in found)
    assert found <= wrong and len(found) >= 0.6 * sum(name != "e" for _, name in wrong)


def test_without_the_package(planted, monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    with pytest.raises(InputError) as error:
        find_label_issues(planted[0], COCO)
    assert str(error.value) == (
        "Label issues need further packages. Received: no package cleanlab. Install them: pip install -r "
        "requirements-cleanlab.txt"
    )


def test_the_list_as_a_file(tmp_path):
    issues = [LabelIssue('a, "b".jpg', "dog", 0, 0.98, 0.02), LabelIssue("c.jpg", "cat", 1, 0.1, 0.1)]
    path = tmp_path / "issues.csv"
    write_label_issues(path, issues)
    assert path.read_text().splitlines()[0] == "image,label,given,probability,score"
    assert read_label_issues(path) == issues
    write_label_issues(path, [])
    assert read_label_issues(path) == []
    path.write_text("image,label\na.jpg,dog\n")
    with pytest.raises(InputError, match="must be a list of label issues, .* Received: the header 'image,label'. Give"):
        read_label_issues(path)
    with pytest.raises(InputError, match="Received: No such file or directory"):
        read_label_issues(tmp_path / "none.csv")
    assert label_issues._HEADER == ["image", "label", "given", "probability", "score"]


def test_the_list_for_annotation_tools(tmp_path):
    labels = np.array([[1, 0, 1], [0, 1, 0]], np.int8)
    predictions = SavedPredictions(np.array(["a.jpg", "b/c.jpg"]), labels, ("x", "y", "z"), {})
    issues = [
        LabelIssue("b/c.jpg", "z", 0, 0.98, 0.02),
        LabelIssue("a.jpg", "x", 1, 0.1, 0.1),
        LabelIssue("b/c.jpg", "y", 1, 0.2, 0.2),
    ]

    def content(ending, prefix=""):
        path = tmp_path / f"issues{ending}"
        write_label_issues_for_tool(path, issues, predictions, label_issues.FORMATS[ending], prefix)
        return json.loads(path.read_text("utf-8"))

    coco = content(".coco.json")
    assert [image["file_name"] for image in coco["images"]] == ["b/c.jpg", "a.jpg"]  # the likeliest first
    assert coco["annotations"][1] == {
        **{"id": 2, "image_id": 1, "category_id": 2, "score": 0.2},
        "attributes": {"given": 1, "quality": 0.2},
    }
    assert content(".fiftyone.json", "/photos")["labels"]["/photos/a.jpg"] == [
        {"label": "x", "confidence": 0.1, "attributes": {"given": 1, "quality": 0.1}}
    ]
    first, second = content(".label_studio.json", "http://host/")
    assert first["data"] == {
        "image": "http://host/b/c.jpg",
        "probabilities": {"z": 0.98, "y": 0.2},
        "issues": "z is missing, probability 0.98; y is given, probability 0.20",
    }
    assert first["predictions"][0]["result"][0]["value"] == {"choices": ["z"]}  # corrected: without y, with z
    assert second["predictions"][0]["result"][0]["value"] == {"choices": ["z"]}  # as given, without x
