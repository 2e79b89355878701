"""export.json and the model card say what an export is, takes, gives and comes from."""

import json

import numpy as np
import pytest
import tensorflow as tf

from srn_tf import __version__
from srn_tf.evaluation.evaluator import Predictions, score
from srn_tf.evaluation.protocols import COCO
from srn_tf.serving.description import Provenance, describe, write_description
from srn_tf.serving.signatures import contract

LABELS = ["dog", "cat | small", "Straße"]
RUN = {
    "dataset": "photos",
    "protocol": "coco",
    "labels": LABELS,
    "model": {"model": "srn", "backbone": "small", "image_size": 56},
    "stages": ["cls", "att"],
    "seed": 3,
    "code": {"srn_tf": "0.1.0", "commit": "0123456789abcdef"},
    "versions": {"tensorflow": "2.15.1"},
}
FLAGS = {"backbone_weights": "none", "batch_size": "32"}


@pytest.fixture(scope="module")
def metrics():
    random = np.random.default_rng(0)
    truth = np.where(random.random((40, 3)) < 0.4, 1, -1).astype(np.int8)
    truth[:, 2] = -1  # without positives there is no AP
    logits = {"y_hat": random.normal(truth, 2).astype(np.float32)}
    return {"dataset": "photos", "split": "test", **score(Predictions(logits, truth, None), COCO, LABELS)}


@pytest.fixture(scope="module")
def signatures(loaded):
    """Of a small SRN."""
    return loaded.signatures


@pytest.fixture(scope="module")
def extra(srn, served_folder, signatures, metrics, tmp_path_factory):
    """Folder with the description of that SRN, as if it came of a run."""
    path = tmp_path_factory.mktemp("extra")
    served = json.loads((served_folder / "assets.extra" / "export.json").read_text(encoding="utf-8"))
    made = {name: served[name] for name in ("precision", "weights", "batch_norms")}
    checks, run = {"": served["check"]}, Provenance(RUN, FLAGS, metrics)
    description = describe(srn, LABELS, np.array([0.25, 0.5, 0.625]), made, contract(signatures), checks, run)
    write_description(path, description)
    return path


def test_description(extra, metrics):
    description = json.loads((extra / "export.json").read_text(encoding="utf-8"))
    assert description["labels"] == LABELS and description["thresholds"] == [0.25, 0.5, 0.625]
    assert (description["image_size"], description["precision"], description["output"]) == (56, "float32", "y_hat")
    assert description["run"] == {name: value for name, value in RUN.items() if name != "labels"}
    assert description["flags"] == FLAGS
    assert description["metrics"] == json.loads(json.dumps(metrics))
    assert description["metrics"]["protocol"] == "coco"
    assert (description["versions"]["srn_tf"], description["versions"]["tensorflow"]) == (__version__, tf.__version__)
    assert set(description["check"]["largest_difference"]) == {"probabilities", "other outputs"}
    allowed = description["check"]["tolerance"]["probabilities"]
    assert 1e-5 <= allowed < 1e-3 and description["check"]["largest_difference"]["probabilities"] <= allowed
    assert description["files"] == {}


def test_description_has_the_contract_of_every_signature(extra, signatures):
    described = json.loads((extra / "export.json").read_text(encoding="utf-8"))["signatures"]
    assert sorted(described) == sorted(signatures)
    for name, signature in described.items():
        assert set(signature["inputs"]) == set(signatures[name].structured_input_signature[1])
        assert set(signature["outputs"]) == set(signatures[name].structured_outputs)
    assert described["serve_pixels"]["inputs"] == {"pixels": {"dtype": "uint8", "shape": [None, None, None, 3]}}
    assert described["explain"]["outputs"]["A"] == {"dtype": "float32", "shape": [None, 14, 14, 3]}


def test_card_says_what_it_is_and_how_good(extra, metrics):
    card = (extra / "model_card.md").read_text(encoding="utf-8")
    assert card.startswith("# srn on photos\n\nSays of each of 3 labels")
    for part in (
        "0123456789abcdef",
        "40 images of the split test, protocol coco",
        "- F1-C: mean of F1 over labels.",
        "EXIF",
    ):
        assert part in card
    tables = metrics["outputs"]["y_hat"]
    rows = [[cell.strip() for cell in line.split(" | ")] for line in card.splitlines() if line.startswith("| ")]
    cells = {row[0].strip("| "): [cell.strip("| ") for cell in row[1:]] for row in rows}
    for group in ("all", "top3"):
        expected = [tables[group].get(name) for name in ("mAP", "F1-C", "P-C", "R-C", "F1-O", "P-O", "R-O")]
        assert cells[group] == [f"{value:.2f}" for value in expected]
    assert cells["dog"] == [f"{tables['AP'][0]:.2f}", "0.25"]
    assert cells["cat \\| small"] == [f"{tables['AP'][1]:.2f}", "0.5"]
    assert cells["Straße"] == ["-", "0.625"]
    assert cells["`embed`"] == ["`image_bytes` string [-]", "`embedding` float32 [-, 128]"]


def test_card_without_a_run_says_so(served_folder):
    card = (served_folder / "assets.extra" / "model_card.md").read_text(encoding="utf-8")
    assert "it was exported without its run" in card and "it was exported without an evaluation" in card
    assert "| dog" in card and "None" not in card
