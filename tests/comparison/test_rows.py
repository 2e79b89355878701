"""Runs merged to rows, and the rows' names."""

import json
from pathlib import Path

import numpy as np
import pytest

from srn_tf.comparison.rows import compare_runs
from srn_tf.errors import InputError
from tests.comparison.small_runs import PERFECT, TRUTH, WEAK, write_run

FREQUENCIES = [("mAP_by_frequency", group) for group in ("head", "middle", "tail")]


def names_of(tmp_path, *configurations):
    """Row names of runs with these flags, in folders run0, run1 ..."""
    paths = [write_run(tmp_path / f"run{number}", flags) for number, flags in enumerate(configurations)]
    return [row.name for row in compare_runs(paths, "test").rows]


def test_runs_that_differ_in_seed_and_place_are_one_row(tmp_path):
    paths = [
        write_run(tmp_path / "srn_0", {"model": "srn", "seed": 0, "cache": "none"}, PERFECT),
        write_run(tmp_path / "main", {"model": "main_net", "seed": 0}, WEAK, output="y_cls", final="y_cls"),
        write_run(tmp_path / "srn_1", {"seed": 1, "model": "srn", "data_dir": "D", "prepared_dir": "P"}, WEAK),
    ]
    comparison = compare_runs(paths, "test")
    assert (comparison.dataset, comparison.split, comparison.protocol.name) == ("scenes", "test", "scenes")
    assert comparison.label_names == ("disk", "ring", "star")
    np.testing.assert_array_equal(comparison.labels, TRUTH)
    srn, main_net = comparison.rows
    assert (srn.name, main_net.name) == ("srn", "main_net")
    assert [run.path for run in srn.runs] == [paths[0], paths[2]] and [run.seed for run in srn.runs] == ["0", "1"]
    assert srn.values("all", "mAP") == pytest.approx([100, 800 / 9])
    assert srn.values("all", "F1-C") == pytest.approx([100, 3700 / 45])
    assert main_net.values("all", "F1-O") == pytest.approx([80])
    assert srn.ap == pytest.approx([100, (100 + 200 / 3) / 2, 100])


@pytest.mark.parametrize("flag", ["init_from", "selective_prior"])
def test_runs_that_begin_with_seeds_of_one_configuration_are_one_row(tmp_path, flag):
    before = [write_run(tmp_path / f"before{seed}", {"model": "srn", "seed": seed}) for seed in (0, 1)]
    other = write_run(tmp_path / "other", {"model": "srn", "seed": 0, "epochs": 5})
    twice = [  # what these began with began elsewhere, with two seeds again
        write_run(tmp_path / f"twice{seed}", {"model": "srn", "seed": seed, flag: path})
        for seed, path in enumerate(before)
    ]
    paths = [
        write_run(tmp_path / f"run{number}", {"model": "srn", "seed": number, "epochs": 9, flag: path})
        for number, path in enumerate([*before, other, *twice, "gone", str(tmp_path / "run6")])
    ]
    rows = compare_runs(paths, "test").rows
    assert [len(row.runs) for row in rows] == [2, 1, 2, 1, 1]
    assert len({row.name for row in rows}) == 5


def test_labels_without_positives_have_no_ap(tmp_path):
    truth = TRUTH.copy()
    truth[3, 2] = 0
    (row,) = compare_runs([write_run(tmp_path, {"model": "srn"}, WEAK, labels=truth)], "test").rows
    assert row.ap == pytest.approx([100, 200 / 3, np.nan], nan_ok=True)
    (row,) = compare_runs([write_run(tmp_path, {"model": "srn"}, labels=0 * truth)], "test").rows
    assert row.values("all", "mAP") is None and row.values("all", "F1-O") is not None


def test_columns(tmp_path):
    path = write_run(tmp_path, {"model": "srn"})
    rates = ["F1-C", "P-C", "R-C", "F1-O", "P-O", "R-O"]
    everything = [("all", column) for column in ["mAP", *rates]]
    top3 = [("top3", column) for column in rates]
    assert compare_runs([path], "test").columns == everything + top3 + FREQUENCIES
    path = write_run(
        tmp_path, {"model": "srn"}, dataset="wider_attribute", protocol="wider_attribute", labels=2 * TRUTH - 1
    )
    assert compare_runs([path], "test").columns == everything + FREQUENCIES


def test_frequencies(tmp_path):
    """AP is 100, 200 / 3 and 100; ring is the most frequent label of training, then star."""
    paths = [write_run(tmp_path / name, {"model": name}, WEAK) for name in ("srn", "main_net")]
    for path in paths:
        run = Path(path, "run.json")
        run.write_text(json.dumps(json.loads(run.read_text()) | {"training_positives": [1, 5, 3]}))
    comparison = compare_runs(paths, "test")
    assert comparison.columns[-3:] == FREQUENCIES
    for row in comparison.rows:
        assert [row.values(*column)[0] for column in FREQUENCIES] == pytest.approx([200 / 3, 100, 100])


SRN = {"model": "srn", "alpha": "0.5", "head": "paper"}


@pytest.mark.parametrize(
    ("configurations", "names"),
    [
        ([SRN], ["srn"]),
        ([SRN, {"model": "main_net", "epochs": "9"}], ["srn", "main_net"]),
        ([SRN, {**SRN, "head": "released"}], ["srn: head=paper", "srn: head=released"]),
        (
            [SRN, {"model": "main_net"}, {**SRN, "alpha": "1", "head": "released"}],
            ["srn: alpha=0.5, head=paper", "main_net", "srn: alpha=1, head=released"],
        ),
        ([SRN, {**SRN, "mirror": "true"}], ["srn: no mirror", "srn: mirror=true"]),
        ([SRN, {**SRN, "init_from": 70 * "x"}], ["srn: no init_from", "srn (run1)"]),
        ([{"epochs": "1"}, {"epochs": "2"}], ["run: epochs=1", "run: epochs=2"]),
    ],
)
def test_names(tmp_path, configurations, names):
    assert names_of(tmp_path, *configurations) == names


def test_folders_of_one_name_are_told_apart(tmp_path):
    one = write_run(tmp_path / "one" / "run", {"model": "srn", "init_from": 70 * "x"})
    two = write_run(tmp_path / "two" / "run", {"model": "srn", "init_from": 70 * "y"})
    assert [row.name for row in compare_runs([one, two], "test").rows] == [f"srn ({one})", f"srn ({two})"]


def test_no_run():
    with pytest.raises(InputError, match="At least one run is needed to compare. Received: none."):
        compare_runs([], "test")


def test_a_run_given_twice(tmp_path):
    path = write_run(tmp_path / "run", {"model": "srn", "seed": 0})
    with pytest.raises(InputError, match="Each run must be given once. Received: .*/run/../run twice"):
        compare_runs([path, f"{path}/../run"], "test")


def test_one_configuration_with_one_seed_twice(tmp_path):
    paths = [write_run(tmp_path / name, {"model": "srn", "seed": 4}) for name in ("one", "two")]
    with pytest.raises(InputError, match="must differ in their seed. Received: seed 4 in .*/one and .*/two"):
        compare_runs(paths, "test")


def test_runs_must_be_comparable(tmp_path):
    one = write_run(tmp_path / "one", {"model": "srn"})
    two = write_run(tmp_path / "two", {"model": "srn"}, names=["a", "b", "c", "e"])
    with pytest.raises(InputError, match="same images in the same order. Received: image 3 .*'d' in .*'e' in"):
        compare_runs([one, two], "test")


def test_scores_that_are_no_numbers_name_the_file(tmp_path):
    scores = WEAK.copy()
    scores[1, 2] = np.nan
    path = write_run(tmp_path, {"model": "srn"}, scores)
    with pytest.raises(InputError, match="predictions/test.npz: scores must be finite.*row 1, column 2"):
        compare_runs([path], "test")
