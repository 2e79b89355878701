"""The choice of k, what is evaluated on what, and what is left for other tools."""

import json
import os

import numpy as np
import pytest

from srn_tf.baselines.knn_run import Images, evaluate_knn
from srn_tf.comparison.rows import compare_runs
from srn_tf.errors import InputError
from srn_tf.evaluation.predictions import load_predictions
from srn_tf.runs.work_dir import WorkDir


def images(role, values, labels):
    return Images(
        np.array([f"{role}/{number}" for number in range(len(values))]),
        np.array(values, np.float32)[:, np.newaxis],
        np.array(labels, np.int8)[:, np.newaxis],
    )


class Source:
    """Six training images in two heaps, each with an odd one in front.

    A query left of a heap gets the odd one's label with k = 1 and the others' with k = 3 (a share of 2/3 or 1/3).
    Validation says that k = 3 is right (AP 1), and k = 1 wrong: the negative is ranked first (AP 1/2). Test says the
    opposite.
    """

    dataset, protocol, labels = "scenes", "scenes", ("dog",)
    distance, num_train, validation_fraction, fingerprint = "euclidean", 6, 0.1, "12ab"
    flags = {"features": "main_net", "dataset": "scenes", "seed": "0"}

    def __init__(self, **changes):
        self.images = {
            "train": images("train", [0, 1, 2, 100, 101, 102], [0, 1, 1, 1, -1, -1]),
            "validation": images("validation", [-1, 99], [1, 0]),
            "test": images("test", [-2, 98, 97], [0, 1, 1]),
            **changes,
        }

    def describe(self):
        return {"model": {"model": "main_net"}}

    def read(self):
        return self.images


def test_k_is_chosen_on_validation_and_never_on_test(tmp_path):
    metrics = evaluate_knn(Source(), [3, 1], 0.0, str(tmp_path / "out"))
    assert (metrics["k"], metrics["validation_mAP"]) == (3, {"1": 50.0, "3": 100.0})
    # Test is ranked 2/3 (negative), 1/3, 1/3 (positive): precisions 1/2 and 2/3, interpolated 2/3 for both.
    result = metrics["outputs"]["knn"]
    assert result["AP"] == [pytest.approx(100 * 2 / 3)]
    assert (result["all"]["P-O"], result["all"]["R-O"]) == pytest.approx((0.0, 0.0), abs=1e-9)
    assert (metrics["dataset"], metrics["split"], metrics["images"]) == ("scenes", "test", 3)
    swapped = Source(validation=Source().images["test"], test=Source().images["validation"])
    assert evaluate_knn(swapped, [3, 1], 0.0, str(tmp_path / "swapped"))["k"] == 1


def test_of_equal_candidates_the_smallest(tmp_path):
    same = Source(validation=images("validation", [1.9, 101.9], [1, 0]))  # right with 1, 2 and 3 neighbours
    metrics = evaluate_knn(same, [3, 2, 1], 0.0, str(tmp_path / "out"))
    assert (metrics["k"], metrics["validation_mAP"]) == (1, {"1": 100.0, "2": 100.0, "3": 100.0})
    assert metrics["outputs"]["knn"]["AP"] == [100.0]  # as one neighbour has it, and three have not


def test_sigma_weighs_the_neighbours(tmp_path):
    evaluate_knn(Source(), [3], 1e-3, str(tmp_path / "out"))  # the nearest is all that counts
    saved = load_predictions(WorkDir(str(tmp_path / "out")).predictions("validation"))
    np.testing.assert_allclose(saved.logits["knn"][:, 0], [-np.log(999_999), np.log(999_999)], rtol=1e-6)


def test_what_is_left(tmp_path):
    out = tmp_path / "out"
    metrics = evaluate_knn(Source(), [1, 3], 0.0, str(out))
    assert json.loads((out / "metrics.json").read_text()) == metrics
    assert (out / "flags.txt").read_text().splitlines() == [
        *("--model=knn", "--k=1,3", "--sigma=0.0", "--features=main_net", "--dataset=scenes", "--seed=0")
    ]
    description = WorkDir(str(out)).read_run()
    assert (description["dataset"], description["protocol"], description["final"]) == ("scenes", "scenes", "knn")
    assert description["labels"] == ["dog"]
    assert description["model"] == {"model": "knn", "k": [1, 3], "sigma": 0.0, "distance": "euclidean"}
    assert description["features"] == {"model": {"model": "main_net"}}
    assert sorted(os.listdir(out / "predictions")) == ["test.npz", "validation.npz"]
    expected = {"validation": (2, [1, 0], [2 / 3, 1 / 3]), "test": (3, [0, 1, 1], [2 / 3, 1 / 3, 1 / 3])}
    for split, (count, labels, shares) in expected.items():
        saved = load_predictions(str(out / "predictions" / f"{split}.npz"))
        assert saved.names.tolist() == [f"{split}/{number}" for number in range(count)]
        assert saved.labels[:, 0].tolist() == labels and saved.label_names == ("dog",)
        assert list(saved.logits) == ["knn"]
        np.testing.assert_allclose(1 / (1 + np.exp(-saved.logits["knn"][:, 0])), shares, rtol=1e-6)


def test_a_comparison_takes_it_like_runs(tmp_path):
    for name, seed, sigma in (("a", "0", 0.0), ("b", "1", 0.0), ("c", "0", 1.0)):
        source = Source()
        source.flags = {**source.flags, "seed": seed}
        evaluate_knn(source, [3], sigma, str(tmp_path / name))
    comparison = compare_runs([str(tmp_path / name) for name in "abc"], "test")
    assert [(row.name, len(row.runs)) for row in comparison.rows] == [("knn: sigma=0.0", 2), ("knn: sigma=1.0", 1)]


def test_the_same_again_and_something_else_in_the_folder(tmp_path):
    out = str(tmp_path / "out")
    assert evaluate_knn(Source(), [1, 3], 0.0, out) == evaluate_knn(Source(), [3, 1], 0.0, out)
    other = Source(test=Source().images["validation"])
    other.fingerprint = "34cd"
    with pytest.raises(InputError, match="Expected: fingerprint 12ab. Received: 34cd"):
        evaluate_knn(other, [1, 3], 0.0, out)
    assert load_predictions(WorkDir(out).predictions("test")).names[0] == "test/0"
    with pytest.raises(InputError, match="output_dir becomes the work folder .* Expected: --k=1,3. Received: --k=1. "):
        evaluate_knn(Source(), [1], 0.0, out)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").touch()
    with pytest.raises(InputError, match="output_dir becomes the work folder .* has other files"):
        evaluate_knn(Source(), [1], 0.0, str(tmp_path / "other"))


def test_too_many_neighbours_leave_no_folder(tmp_path):
    with pytest.raises(InputError, match="k must be at most the number of training images, 6. Received: 1,7"):
        evaluate_knn(Source(), [1, 7], 0.0, str(tmp_path / "out"))
    assert os.listdir(tmp_path) == []


def test_validation_without_a_positive(tmp_path):
    source = Source(validation=images("validation", [-1, 99], [0, -1]))
    with pytest.raises(InputError, match="Validation images must have labels, because k is chosen by validation mAP"):
        evaluate_knn(source, [1], 0.0, str(tmp_path / "out"))
