"""Reading runs, and refusing those that cannot be compared."""

import contextlib

import numpy as np
import pytest

from srn_tf.comparison.runs import check_comparable, read_run
from srn_tf.errors import InputError
from tests.comparison.small_runs import IMAGES, LABELS, PERFECT, TRUTH, WEAK, write_run

FLAGS = {"model": "srn", "seed": 3}


@contextlib.contextmanager
def refused(*parts):
    """Expects an InputError of one line with these parts."""
    with pytest.raises(InputError) as error:
        yield
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert part in text


def test_a_run(tmp_path):
    flags = {
        "model": "srn",
        "seed": 3,
        "epochs": "2,3",
        "data_dir": "D",
        "work_dir": "W",
        "cache": "none",
        "init_from": "",
    }
    path = write_run(tmp_path / "run", flags, WEAK)
    run = read_run(path, "test")
    assert (run.path, run.dataset, run.protocol.name, run.seed) == (path, "scenes", "scenes", "3")
    assert run.flags == {"model": "srn", "epochs": "2,3", "init_from": ""}
    assert run.output == "y_hat" and list(run.predictions.logits) == ["y_hat"]
    np.testing.assert_array_equal(run.scores, WEAK)
    assert run.predictions.names.tolist() == list(IMAGES) and run.predictions.label_names == LABELS


def test_the_final_output_is_compared(tmp_path):
    assert read_run(write_run(tmp_path / "named", FLAGS, final="y_other"), "test").output == "y_other"
    assert read_run(write_run(tmp_path / "older", FLAGS, output="y_cls", final=None), "test").output == "y_cls"


def test_each_split_has_its_own_predictions(tmp_path):
    path = write_run(tmp_path, FLAGS, WEAK, split="validation")
    write_run(tmp_path, FLAGS, PERFECT)
    np.testing.assert_array_equal(read_run(path, "validation").scores, WEAK)
    np.testing.assert_array_equal(read_run(path, "test").scores, PERFECT)


def test_no_run(tmp_path):
    with refused("work_dir must be a run of tools/train.py", str(tmp_path), "no run.json"):
        read_run(str(tmp_path), "test")
    with refused("work_dir must be a run of tools/train.py", "nowhere"):
        read_run(str(tmp_path / "nowhere"), "test")


def test_no_predictions(tmp_path):
    path = write_run(tmp_path / "run", FLAGS)
    with refused(
        "run/predictions/train.npz must exist. Received: no such file.",
        f"python tools/evaluate.py --work_dir={path} --data_dir=DATA --split=train",
    ):
        read_run(path, "train")


@pytest.mark.parametrize("content", ["[]", "{}", "7", '{"format": 1}'])
def test_a_run_of_another_version(tmp_path, content):
    path = write_run(tmp_path, FLAGS)
    (tmp_path / "run.json").write_text(content)
    with refused("run.json must have format 3, of this version of srn_tf. Received: format 1. Train the run again"):
        read_run(path, "test")


@pytest.mark.parametrize("content", ['{"format": 3}', '{"format": 3, "dataset": "scenes"}'])
def test_run_json_that_says_nothing(tmp_path, content):
    path = write_run(tmp_path, FLAGS)
    (tmp_path / "run.json").write_text(content)
    with refused("run.json must name the run's dataset and protocol"):
        read_run(path, "test")


def test_unknown_protocol(tmp_path):
    with refused("protocol must be one of", "'iris'"):
        read_run(write_run(tmp_path, FLAGS, protocol="iris"), "test")


def test_no_flags(tmp_path):
    path = write_run(tmp_path, FLAGS)
    (tmp_path / "flags.txt").write_bytes(b"\xff\xfe--seed=1")
    with refused("flags.txt must have the run's flags. Received: not text"):
        read_run(path, "test")
    (tmp_path / "flags.txt").unlink()
    with refused("flags.txt must have the run's flags. Received: No such file"):
        read_run(path, "test")


def test_final_output_not_there(tmp_path):
    with refused("test.npz must have the run's final output y_sr. Received: y_hat, y_other."):
        read_run(write_run(tmp_path, FLAGS, final="y_sr"), "test")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"scores": PERFECT[:, :2]}, ("(4, 3)", "y_hat (4, 2)")),
        ({"labels": TRUTH[:3]}, ("(4, 3)", "labels (3, 3)")),
        ({"names": ["a", "b"]}, ("(2, 3)", "labels (4, 3), y_hat (4, 3)")),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, change, parts):
    with refused("test.npz must have a true label and a score for every image and label", *parts):
        read_run(write_run(tmp_path, FLAGS, **change), "test")


def changed_truth():
    labels = TRUTH.copy()
    labels[2, 0] = 1
    return labels


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"dataset": "csv"}, ("same data set", "scenes in ", "csv in ")),
        ({"protocol": "nus_wide"}, ("same protocol", "scenes in ", "nus_wide in ")),
        (
            {"label_names": ("disk", "star", "ring")},
            ("same labels in the same order", "in another order, label 1 (from 0) is 'ring' in ", "'star' in "),
        ),
        ({"label_names": ("disk", "ring", "moon")}, ("Received: label 2 (from 0) is 'star' in ", "'moon' in ")),
        (
            {"label_names": LABELS[:2], "labels": TRUTH[:, :2], "scores": PERFECT[:, :2]},
            ("same labels in the same order", "3 in ", "2 in "),
        ),
        (
            {"names": ["a", "c", "b", "d"]},
            ("same images in the same order", "in another order, image 1 (from 0) is 'b' in ", "'c' in "),
        ),
        ({"names": ["a", "b", "c", "e"]}, ("Received: image 3 (from 0) is 'd' in ", "'e' in ", "same split")),
        (
            {"names": IMAGES[:3], "labels": TRUTH[:3], "scores": PERFECT[:3]},
            ("same images in the same order", "4 in ", "3 in "),
        ),
        ({"labels": changed_truth()}, ("same true labels", "'disk' of c is 0 in ", "1 in ")),
    ],
)
def test_runs_that_differ_show_both_sides(tmp_path, change, parts):
    first = read_run(write_run(tmp_path / "one", FLAGS), "test")
    other = read_run(write_run(tmp_path / "two", FLAGS, **change), "test")
    with refused(*parts, first.path, other.path):
        check_comparable(first, other)


def test_runs_on_the_same_truth_are_comparable(tmp_path):
    first = read_run(write_run(tmp_path / "one", FLAGS), "test")
    other = read_run(write_run(tmp_path / "two", {"model": "main_net"}, WEAK, output="y_cls", final="y_cls"), "test")
    assert check_comparable(first, other) is None
