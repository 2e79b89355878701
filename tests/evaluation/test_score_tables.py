"""Scores and truth with names: what tools/predict.py writes is read, and matched by name."""

import dataclasses

import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.evaluation.protocols import COCO, evaluate
from srn_tf.evaluation.score_files import evaluate_score_files
from srn_tf.evaluation.score_tables import match, read_named_table
from srn_tf.prediction.answers import Answer
from srn_tf.prediction.rows import FORMATS, Columns

LABELS = ["dog, small", "cat"]
IMAGES = ["photos/a.jpg", "photos/b.jpg", "photos/ü.jpg", "photos/d.jpg"]
P = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.4], [0.1, 0.7]], np.float32)
TRUTH = np.array([[1, 0], [0, 1], [1, 0], [0, 1]])
LOGITS = np.log(P.astype(np.float64)) - np.log1p(-P.astype(np.float64))


def write_predictions(path, write="probabilities", error=None, labels=LABELS, images=IMAGES):
    """What tools/predict.py writes; with `error`, that the last image has no answer."""
    columns = Columns(labels, write, 1)
    form = FORMATS[path.suffix](columns)
    answers = [Answer(image, p, p > 0.5, None) for image, p in zip(images, P, strict=True)]
    if error:
        answers[-1] = Answer(images[-1], None, None, error)
    with open(path.with_suffix(".part"), "wb") as part:
        form.write_part([columns.row(answer) for answer in answers], part)
    with open(path, "wb") as file:
        form.join([part.name], file)
    return path


@pytest.fixture
def truth(tmp_path):
    """Truth of the same images, in another order of rows and of columns, in another folder."""
    path = tmp_path / "truth.csv"
    rows = [f"{IMAGES[i][7:]},{TRUTH[i, 1]},{TRUTH[i, 0]}\n" for i in (2, 0, 3, 1)]
    path.write_text("".join(['Image,cat,"dog, small"\n', *rows]), encoding="utf-8")
    return path


@pytest.mark.parametrize("ending", FORMATS)
def test_what_predict_writes_is_evaluated(tmp_path, truth, ending):
    path = write_predictions(tmp_path / f"P{ending}")
    table = read_named_table(path)
    assert (table.images, table.labels, table.is_of_predict) == (IMAGES, LABELS, True)
    np.testing.assert_allclose(table.values, P, rtol=0, atol=1e-7)
    found = evaluate_score_files(path, truth, COCO)
    assert (found["scores_are"], found["matched_by"], found["label_names"]) == ("probabilities", "name", LABELS)
    expected = evaluate(LOGITS, TRUTH, COCO)
    assert found["AP"] == pytest.approx(expected["AP"]) and found["all"] == pytest.approx(expected["all"])
    np.savetxt(tmp_path / "truth.txt", TRUTH)
    by_place = evaluate_score_files(path, tmp_path / "truth.txt", COCO)
    assert by_place["matched_by"] == "place" and by_place["all"] == found["all"]


def test_probabilities_without_names(tmp_path):
    np.savetxt(tmp_path / "P.csv", P, delimiter=",")
    np.savetxt(tmp_path / "L.csv", TRUTH, delimiter=",")
    files = (tmp_path / "P.csv", tmp_path / "L.csv", COCO)
    with pytest.raises(
        InputError, match="scale of scores is unclear .* Received: 0.1 to 0.9. Set scores_are=probabilities"
    ):
        evaluate_score_files(*files)
    found = evaluate_score_files(*files, scores_are="probabilities")
    assert found["all"] == pytest.approx(evaluate(LOGITS, TRUTH, COCO)["all"])
    assert found["all"]["R-O"] == pytest.approx(75)
    assert evaluate_score_files(*files, scores_are="logits")["all"]["R-O"] == pytest.approx(100)  # as the user says
    np.savetxt(tmp_path / "P.csv", LOGITS, delimiter=",")
    assert evaluate_score_files(*files)["AP"] == found["AP"]
    with pytest.raises(InputError, match="probabilities must be from 0 to 1. Received: -2.19722 to 2.19722"):
        evaluate_score_files(*files, scores_are="probabilities")


def test_scores_that_are_the_same_for_every_image(tmp_path):
    np.savetxt(tmp_path / "L.csv", TRUTH, delimiter=",")
    np.savetxt(tmp_path / "S.csv", np.tile(LOGITS[0], (4, 1)), delimiter=",")
    with pytest.raises(InputError, match="must differ between images. Received: the same scores for every image"):
        evaluate_score_files(tmp_path / "S.csv", tmp_path / "L.csv", COCO)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"write": "labels"}, "a number for every image and label. Received: .*--write=probabilities"),
        ({"write": "top_k"}, "a number for every image and label. Received: 'dog, small'"),
        ({"error": "It is damaged."}, "Received: 1 without one, the first photos/d.jpg: It is damaged. Remove"),
        ({"images": [*IMAGES[:3], IMAGES[0]]}, "every image once. Received: 'photos/a.jpg' twice"),
    ],
)
def test_predictions_that_cannot_be_evaluated(tmp_path, ending, changes, message):
    with pytest.raises(InputError, match=message) as raised:
        read_named_table(write_predictions(tmp_path / f"P{ending}", **changes))
    assert f"P{ending}" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("T.csv", "path,dog,dog\na,1,0\n", "every label once. Received: 'dog' twice"),
        ("T.csv", "path,dog\na,1,0\n", "line 2: a row must have 2 cells, .* Received: 3"),
        ("T.csv", "path,dog\n", "a row per image and a column per label. Received: no row"),
        ("T.csv", "path\na\n", "Received: no label"),
        ("T.csv", 'path,dog\n"a,1\n', "must be a table of scores or true labels. Received: unexpected end of data"),
        (
            "T.csv",
            "path,dog,split\na,1,test\n",
            "Received: 'test' for 'split' of a. All columns but the first must be labels",
        ),
        ("T.jsonl", "{", "must be a table of scores or true labels. Received: Expecting"),
        ("T.jsonl", '{"dog": 1}\n', "line 1: a line must be an object whose first key is"),
        ("T.jsonl", '{"path": "a", "dog": 1}\n{"path": "b", "cat": 1}\n', "line 2: .* Expected: dog. Received: cat"),
        ("T.jsonl", "[1, 2]\n", "line 1: a line must be an object whose first key is"),
        ("T.jsonl", "", "Received: no label"),
        ("T.parquet", "no", "must be a Parquet file"),
    ],
)
def test_bad_tables(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as raised:
        read_named_table(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_names_that_differ(tmp_path, truth):
    scores, truth = read_named_table(write_predictions(tmp_path / "P.csv")), read_named_table(truth)
    np.testing.assert_array_equal(match(scores, truth), TRUTH)
    renamed = dataclasses.replace(truth, labels=["Cat", "dog, small"])
    with pytest.raises(InputError, match="same labels, .*: 1 only in .*P.csv, such as 'cat'; 1 only in .*, such as 'C"):
        match(scores, renamed)
    fewer = dataclasses.replace(truth, images=truth.images[:3], values=truth.values[:3])
    with pytest.raises(InputError, match="same images, .*: 1 only in .*P.csv, such as 'b.jpg'. Correct"):
        match(scores, fewer)
    # The same file name in two folders does not tell which is meant.
    twins = dataclasses.replace(scores, images=["x/a.jpg", "y/a.jpg", "x/b.jpg", "x/c.jpg"])
    with pytest.raises(InputError, match="4 only in .*P.csv, such as 'x/a.jpg'; 4 only in .*truth.csv"):
        match(twins, truth)
