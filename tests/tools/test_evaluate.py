"""tools/evaluate.py as a user runs it; with --scores it needs no TensorFlow."""

import functools
import json

import numpy as np
import pytest

from tests.tools.running import ROOT, assert_refused, mostly_slow, run_without_tensorflow

run_tool = functools.partial(run_without_tensorflow, "evaluate")

GOLDEN = ROOT / "tests" / "golden"
GOLDEN_FILES = [f"--scores={GOLDEN}/dev_scores.csv", f"--labels={GOLDEN}/dev_labels.csv"]
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())


@pytest.mark.parametrize(
    ("protocol", "labels", "tables"),
    mostly_slow(
        [
            ("coco", "labels", ["all", "top3_min05"]),
            ("nus_wide", "labels", ["all", "top3"]),
            ("wider_attribute", "wider_labels", ["wider"]),
        ],
        fast=1,
    ),
)
@pytest.mark.parametrize("name", mostly_slow([(name,) for name in EXPECTED], fast=1))
def test_golden_scores(tmp_path, name, protocol, labels, tables):
    output = tmp_path / "J.json"
    result = run_without_tensorflow(
        "evaluate",
        f"--scores={GOLDEN / f'{name}_scores.csv'}",
        f"--labels={GOLDEN / f'{name}_{labels}.csv'}",
        f"--protocol={protocol}",
        f"--output={output}",
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == str(output)
    written = json.loads(output.read_text())
    for table in tables:  # what is printed is what is written
        cells = [f"{written[table][column]:.2f}" for column in ("mAP", "F1-C", "P-C", "R-C", "F1-O", "P-O", "R-O")]
        assert [line.split()[1:] for line in result.stdout.splitlines() if line.split()[:1] == [table]] == [cells]
    assert written["protocol"] == protocol and written["definition"]
    for table in tables:
        for key, value in EXPECTED[name][table].items():
            assert written[table][key] == pytest.approx(value, abs=1e-6), (table, key)
    ap = np.loadtxt(GOLDEN / f"{name}_ap.csv", delimiter=",")[:, int(protocol == "wider_attribute")]
    np.testing.assert_allclose(written["AP"], 100 * ap, atol=1e-6)


@pytest.mark.slow
def test_what_is_asked_for_is_added(tmp_path):
    scores, labels = GOLDEN / "dev_scores.csv", GOLDEN / "dev_wider_labels.csv"
    output, picture = tmp_path / "J.json", tmp_path / "reliability.png"
    files = [f"--scores={scores}", f"--labels={labels}", "--protocol=voc2007", f"--output={output}"]
    result = run_without_tensorflow(
        "evaluate",
        *files,
        *("--top_k=5", "--top_k_floor=0.25", "--ranking", "--zero_in_rates=excluded", f"--reliability={picture}"),
    )
    assert (result.returncode, result.stderr) == (0, "")
    written = json.loads(output.read_text())
    assert written["top5_min025"]["R-O"] > written["all"]["R-O"]  # more labels are given
    # Unspecified entries are no false positives, unlike in the golden table.
    assert written["all"]["P-O"] > EXPECTED["dev"]["wider"]["P-O"] + 1
    assert written["all"]["R-O"] == pytest.approx(EXPECTED["dev"]["wider"]["R-O"], abs=1e-6)
    assert "0 is difficult. 0 is left out of AP and calibration, and left out of precision" in written["definition"]
    assert 0 < written["ranking"]["LRAP"] < 100
    assert "LRAP" in result.stdout and "top5_min025" in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_bad_score_files(tmp_path):
    scores, labels = GOLDEN / "dev_scores.csv", GOLDEN / "dev_labels.csv"
    matrix = np.loadtxt(scores, delimiter=",")
    np.savetxt(tmp_path / "narrow.csv", matrix[:, :-1], delimiter=",")
    matrix[3, 2] = np.nan
    np.savetxt(tmp_path / "nan.csv", matrix, delimiter=",")
    (tmp_path / "words.csv").write_text("dog,cat\n")
    output = tmp_path / "J.json"
    for file, parts in (
        ("narrow.csv", ("same shape", str(matrix.shape), str((len(matrix), matrix.shape[1] - 1)))),
        ("nan.csv", ("scores must be finite", "row 3, column 2")),
        ("words.csv", ("words.csv", "must be a number")),
        ("none.csv", ("none.csv", "no such file")),
    ):
        result = run_without_tensorflow(
            "evaluate", f"--scores={tmp_path / file}", f"--labels={labels}", f"--output={output}"
        )
        assert_refused(result, *parts)
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    mostly_slow(
        [
            ([], ["Give exactly one of --work_dir, --saved_model and --scores"]),
            (
                ["--work_dir=W", "--scores=S.csv"],
                ["Give exactly one of --work_dir", "Received: --work_dir and --scores."],
            ),
            (["--scores=S.csv"], ["--scores needs --labels and --output"]),
            (["--work_dir=W"], ["--work_dir needs --data_dir"]),
            (["--work_dir=W", "--data_dir=D", "--top_k_floor=0.5"], ["--top_k_floor needs --top_k"]),
            (
                ["--saved_model=M", "--dataset=scenes", "--data_dir=D", "--thresholds=T"],
                ["--thresholds cannot be used with"],
            ),
            (["--saved_model=M", "--data_dir=D"], ["--saved_model needs --dataset. Received: no --dataset."]),
            (["--saved_model=M", "--scores=S"], ["Give exactly one of --work_dir, --saved_model and --scores"]),
            (["--scores=S.csv", "--labels=L.csv", "--output=J", "--top_k_floor=0.5"], ["--top_k_floor needs --top_k"]),
            ([*GOLDEN_FILES, "--output=J", "--top_k=13"], ["k must be from 1 to", "k = 13 for 12 labels"]),
            ([*GOLDEN_FILES, "--output=J", "--top_k=0"], ["top_k", "0", "--help"]),
            ([*GOLDEN_FILES, "--output=J", "--zero_in_ap=excluded"], ["zero_in_ap must be negative in protocol coco"]),
            (["--work_dir=W", "--data_dir=D", "--scores_are=logits"], ["--scores_are needs --scores"]),
            ([*GOLDEN_FILES, "--output=J", "--scores_are=probabilities"], ["probabilities must be from 0 to 1"]),
            (
                ["--work_dir=W", "--data_dir=D", "--engine=openvino"],
                ["--engine needs --saved_model. Received: --engine=openvino without it."],
            ),
            (
                ["--work_dir=W", "--data_dir=D", "--known_fraction=0.5"],
                ["--known_fraction needs --saved_model. Received: --known_fraction=0.5 without it."],
            ),
            (["--saved_model=M", "--known_fraction=1"], ["--known_fraction must be above 0 and below 1", "1."]),
            (
                ["--saved_model=M", "--known_fraction=0.5", "--ranking"],
                ["--known_fraction goes with neither --ranking nor --top_k"],
            ),
            (
                ["--saved_model=M", "--known_fraction=0.5", "--tta=flip"],
                ["--tta cannot be used with --known_fraction", "Received: --tta=flip and --known_fraction=0.5"],
            ),
            (
                ["--saved_model=M", "--dataset=scenes", "--data_dir=D", "--csra_at_test=0.2"],
                ["--csra_at_test needs --work_dir. Received: --csra_at_test=0.2 without it. Export the run"],
            ),
            ([*GOLDEN_FILES, "--output=J", "--tta=flip"], ["--tta needs a model. Received: --tta=flip with --scores"]),
            (
                ["--work_dir=W", "--data_dir=D", "--label_issues=I.json"],
                ["label_issues must end in .csv, .coco.json, .fiftyone.json, .label_studio.json. Received: I.json."],
            ),
            (
                ["--work_dir=W", "--data_dir=D", "--label_issues=I.fiftyone.json"],
                ["FiftyOne needs the paths of the images.", "Give the folder of the images as --image_prefix."],
            ),
            (
                ["--work_dir=W", "--data_dir=D", "--image_prefix=P/"],
                ["image_prefix needs a file for label_issues that ends in .coco.json"],
            ),
            (["--protocol=voc"], ["protocol", "voc", "--help"]),
            (["--split=val"], ["split", "val", "--help"]),
            (["--score=S.csv"], ["Unknown command line flag 'score'", "--help"]),
            (["S.csv"], ["Options must be written as --name=value. Received: 'S.csv'"]),
            ([*GOLDEN_FILES, "--output=/no/folder/J.json"], ["/no/folder/J.json must be a writable file"]),
        ],
        fast=2,
    ),
    ids=lambda value: " ".join(value)[:40],
)
def test_bad_command_lines(arguments, parts):
    assert_refused(run_tool(*arguments), *parts)


def test_the_record_of_a_run_is_not_replaced(tmp_path):
    for name in ("run.json", "metrics.json"):
        (tmp_path / name).write_text("{}")
    result = run_without_tensorflow("evaluate", *GOLDEN_FILES, f"--output={tmp_path}/metrics.json")
    assert_refused(result, "--output must not overwrite a file that tools/train.py wrote", "Give another name")
    assert (tmp_path / "metrics.json").read_text() == "{}"


@pytest.mark.slow
def test_a_picture_that_cannot_be_written(tmp_path):
    result = run_without_tensorflow(
        "evaluate", *GOLDEN_FILES, f"--output={tmp_path}/J.json", f"--reliability={tmp_path}/none/r.png"
    )
    assert_refused(result, "none/r.png must be a writable file. Received: No such file or directory")


def test_help_shows_the_flags():
    result = run_tool("--help")
    assert result.returncode == 0 and result.stderr == ""
    for flag in ("--scores", "--labels", "--protocol", "--work_dir", "--data_dir", "--split"):
        assert flag in result.stdout
