import json
from pathlib import Path

import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.evaluation import protocols, score_files

GOLDEN = Path(__file__).parents[1] / "golden"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
# Protocol, its labels file, its tables in expected.json, its column of *_ap.csv.
GOLDEN_CASES = [
    ("nus_wide", "labels", ["all", "top3"], 0),
    ("coco", "labels", ["all", "top3_min05"], 0),
    ("scenes", "labels", ["all", "top3_min05"], 0),
    ("wider_attribute", "wider_labels", ["wider"], 1),
]
FURTHER_KEYS = [
    "AP",
    "mAP_by_definition",
    "num_labels_in_mAP",
    "labels_without_positives",
    "labels_without_negatives",
    "ties",
    "threshold",
    "calibration",
]


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize(("protocol", "labels", "tables", "ap_column"), GOLDEN_CASES)
def test_golden_files(name, protocol, labels, tables, ap_column):
    protocol = protocols.PROTOCOLS[protocol]
    result = score_files.evaluate_score_files(GOLDEN / f"{name}_scores.csv", GOLDEN / f"{name}_{labels}.csv", protocol)
    num_images, num_labels = np.loadtxt(GOLDEN / f"{name}_scores.csv", delimiter=",").shape
    keys = [key for table in tables for key in (table, f"{table}_plain")]
    stated = ["protocol", "definition", "images", "labels", "scores_are", "matched_by"]
    assert list(result) == [*stated, *keys, *FURTHER_KEYS]
    assert (result["scores_are"], result["matched_by"]) == ("logits", "place")
    assert (result["protocol"], result["definition"]) == (protocol.name, protocol.definition)
    assert (result["images"], result["labels"]) == (num_images, num_labels)
    for table in tables:
        for key, value in EXPECTED[name][table].items():
            assert result[table][key] == pytest.approx(value, abs=1e-6), (table, key)
    ap = np.loadtxt(GOLDEN / f"{name}_ap.csv", delimiter=",")[:, ap_column]
    np.testing.assert_allclose(result["AP"], 100 * ap, atol=1e-6)
    json.dumps(result, allow_nan=False)


def test_voc2007_means_what_wider_attribute_means():
    scores, labels = GOLDEN / "dev_ties_scores.csv", GOLDEN / "dev_ties_wider_labels.csv"
    result = score_files.evaluate_score_files(scores, labels, protocols.VOC2007)
    for key, value in EXPECTED["dev_ties"]["wider"].items():
        assert result["all"][key] == pytest.approx(value, abs=1e-6), key


def test_any_k_and_ranking():
    files = GOLDEN / "dev_scores.csv", GOLDEN / "dev_labels.csv"
    result = score_files.evaluate_score_files(*files, protocols.COCO, top_k=3, ranking=True)
    assert list(result["ranking"]) == [
        *("LRAP", "coverage_error", "ranking_loss", "hamming_loss", "subset_accuracy", "note")
    ]
    for key, value in EXPECTED["dev"]["top3"].items():  # forced, beside COCO's own table
        assert result["top3"][key] == pytest.approx(value, abs=1e-6), key
    for key, value in EXPECTED["dev"]["top3_min05"].items():
        assert result["top3_min05"][key] == pytest.approx(value, abs=1e-6), key
    result = score_files.evaluate_score_files(*files, protocols.NUS_WIDE, top_k=3, top_k_floor=0.5)
    assert result["top3_min05"]["F1-C"] == pytest.approx(EXPECTED["dev"]["top3_min05"]["F1-C"], abs=1e-6)
    assert result["top3_min05_plain"]["P-C"] < result["top3_min05"]["P-C"]  # one label is never predicted


def test_every_form_of_file_reads_the_same(tmp_path):
    matrix = np.array([[1.5, -2.0, 0.0], [3.25, 1e-3, -1e6]])
    np.savetxt(tmp_path / "comma.csv", matrix, delimiter=",")
    np.savetxt(tmp_path / "space.txt", matrix)
    np.savetxt(tmp_path / "tab.tsv", matrix, delimiter="\t")
    (tmp_path / "mixed.csv").write_text("\ufeff1.5, -2, 0\r\n\r\n 3.25 ,1e-3,-1e6\r\n\r\n", encoding="utf-8")
    np.save(tmp_path / "array.npy", matrix)
    np.savez(tmp_path / "archive.npz", scores=matrix)
    np.savez_compressed(tmp_path / "compressed.NPZ.npz", matrix)
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(score_files.read_matrix(path), matrix, err_msg=path.name)
        np.testing.assert_array_equal(score_files.read_matrix(str(path)), matrix)


def test_a_single_column_and_a_single_row(tmp_path):
    (tmp_path / "column.txt").write_text("1\n2\n3\n")
    (tmp_path / "row.csv").write_text("1,2,3")
    assert score_files.read_matrix(tmp_path / "column.txt").shape == (3, 1)
    assert score_files.read_matrix(tmp_path / "row.csv").shape == (1, 3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "at least one row of numbers. Received: an empty file"),
        ("blank.csv", b"\n  \n", "at least one row of numbers. Received: an empty file"),
        ("header.csv", b"dog,cat\n1,2\n", "A header must begin with .* Received: 'dog' on line 1, entry 1"),
        ("word.csv", b"1,2\n\n3,x\n", "every entry must be a number. .* Received: 'x' on line 3, entry 2"),
        ("hole.csv", b"1,2\n3,\n", "every entry must be a number. .* Received: '' on line 2, entry 2"),
        ("semicolon.csv", b"1;2\n", "Received: '1;2' on line 1, entry 1"),
        ("ragged.csv", b"\n1,2\n3,4\n5,6,7\n", "as many values as the first. Received: 3 on line 4, 2 on line 2"),
        ("ragged.txt", b"1 2\n3\n", "as many values as the first. Received: 1 on line 2, 2 on line 1"),
        ("binary.csv", b"\xff\xfe\x00\x01", "a file that is not UTF-8 text"),
        ("empty.npy", b"", "must be a NumPy file .* Received: No data left in file"),
        ("text.npy", b"1,2\n3,4\n", "must be a NumPy file without pickled objects"),
        ("broken.npz", b"PK\x03\x04 and no more", "must be a NumPy file .* Received: File is not a zip file"),
    ],
)
def test_bad_file(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        score_files.read_matrix(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3), r"a matrix of real numbers, images x labels. Received: shape \(3,\), type float64"),
        (np.zeros((1, 1), dtype=complex), "Received: shape .* type complex128"),
        (np.array([["a"]]), "Received: shape .* type <U1"),
        (np.zeros((0, 3)), "at least one row of numbers"),
        (np.array([[None]]), "without pickled objects. Received: Object arrays cannot be loaded"),
    ],
)
def test_bad_array(tmp_path, array, message):
    np.save(tmp_path / "array.npy", array)
    np.savez(tmp_path / "array.npz", array)
    for name in ("array.npy", "array.npz"):
        with pytest.raises(InputError, match=message):
            score_files.read_matrix(tmp_path / name)


def test_archive_of_two_arrays(tmp_path):
    np.savez(tmp_path / "two.npz", scores=np.zeros((1, 1)), labels=np.zeros((1, 1)))
    with pytest.raises(InputError, match="must have exactly one array. Received: scores, labels"):
        score_files.read_matrix(tmp_path / "two.npz")


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(InputError, match="must be a file of numbers. Received: no such file"):
            score_files.read_matrix(path)


def test_evaluation_errors_name_both_files(tmp_path):
    (tmp_path / "scores.csv").write_text("1,2,nan\n")
    (tmp_path / "labels.csv").write_text("1,0,1\n")
    with pytest.raises(InputError, match="scores.csv with .*labels.csv: scores must be finite. Received: 1 NaN"):
        score_files.evaluate_score_files(tmp_path / "scores.csv", tmp_path / "labels.csv", protocols.COCO)
