"""What the report says: cells, marks, notes, the paper's rows, CSV."""

import csv

import numpy as np
import pytest

from srn_tf.comparison import report
from srn_tf.comparison.differences import Difference
from srn_tf.comparison.report import Heading, Paragraph, Picture, Table
from srn_tf.comparison.rows import compare_runs
from srn_tf.evaluation.frequency import NOTE
from srn_tf.evaluation.sizes import LabelSizes
from tests.comparison.small_runs import PERFECT, TRUTH, WEAK, write_run

RUNS = (({"model": "weak"}, WEAK), ({"model": "srn", "seed": 0}, PERFECT), ({"model": "srn", "seed": 1}, WEAK))


def compared(tmp_path, *runs, split="test", **kind):
    paths = [
        write_run(tmp_path / f"run{number}", flags, scores, split=split, **kind)
        for number, (flags, scores) in enumerate(runs)
    ]
    return compare_runs(paths, split)


def difference(**changes):
    values = {
        "row": "srn",
        "reference": "weak",
        "metrics": {"mAP": (1.234, 0.5, 2.0), "F1-C": (-1.0, -2.0, 0.5), "F1-O": (np.nan, np.nan, np.nan)},
        "ap": np.array([1.5, -0.25, np.nan]),
        "ap_low": np.array([1.0, -0.5, np.nan]),
        "ap_high": np.array([2.0, 0.5, np.nan]),
    }
    return Difference(**{**values, **changes})


def texts(row):
    return [cell.text + "*" * cell.is_bold for cell in row]


def notes(comparison):
    return [block.text for block in report.blocks(comparison, [], []) if isinstance(block, Paragraph)]


def test_main_table(tmp_path):
    """WEAK: P-C is the mean of 1, 2/3, 1 and R-C of 1/2, 1, 1; srn's row is the mean with PERFECT, ± their distance
    over the square root of 2. The three highest at 0.5 or more are all those predicted."""
    table = report.main_table(compared(tmp_path, *RUNS))
    rates = ("F1-C", "P-C", "R-C", "F1-O", "P-O", "R-O")
    frequencies = ("mAP by frequency", ("head", "middle", "tail"))
    assert table.groups == (("", ("Method", "Seeds")), ("All", ("mAP", *rates)), ("top-3", rates), frequencies)
    weak = ["82.2", "88.9", "83.3", "80.0", "80.0", "80.0"]
    srn = ["91.1 ± 12.6*", "94.4 ± 7.9*", "91.7 ± 11.8*", "90.0 ± 14.1*", "90.0 ± 14.1*", "90.0 ± 14.1*"]
    assert [texts(row) for row in table.rows] == [
        ["weak", "1", "88.9", *weak, *weak, "100.0*", "66.7", "100.0*"],
        ["srn", "2", "94.4 ± 7.9*", *srn, *srn, "100.0 ± 0.0*", "83.3 ± 23.6*", "100.0 ± 0.0*"],
    ]
    assert table.printed is None


def test_map_by_size(tmp_path):
    """Of WEAK's disk, b a c d, a is small and b large: AP 1 each; of its ring, a c b d, b is small: 1/2 without c."""
    sizes = LabelSizes(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([0.001, 0.5, 0.002]))
    comparison = compared(tmp_path, *RUNS, sizes=sizes)
    table = report.main_table(comparison)
    assert table.groups[-2] == ("mAP by size", ("small", "medium", "large"))
    assert [texts(row)[-6:-3] for row in table.rows] == [["75.0", "-", "100.0*"], ["87.5 ± 17.7*", "-", "100.0 ± 0.0*"]]
    assert any("Over: small 2 labels, 2 pairs; medium 0" in note for note in notes(comparison))
    assert "mAP by size large,mAP by size large sd" in report.table_csv(comparison).splitlines()[0]


def test_marks(tmp_path):
    """Rows that print the same are both highest; a row alone is not marked."""
    rows = report.main_table(compared(tmp_path, RUNS[0], ({"model": "same"}, WEAK))).rows
    assert all(cell.is_bold for row in rows for cell in row[2:])
    (row,) = report.main_table(compared(tmp_path / "alone", RUNS[0])).rows
    assert not any(cell.is_bold for cell in row)


def test_scores_that_tell_no_images_apart_are_said(tmp_path):
    found = notes(compared(tmp_path, *RUNS, ({"model": "flat"}, 0 * WEAK)))
    said = [note for note in found if note.startswith(("weak: ", "srn: ", "flat: "))]
    assert said[0] == (
        "flat: AP says nothing about these labels, because their score is the same for every image: disk, ring, star."
    )
    assert len(said) == 2 and said[1].endswith(
        "mAP would be between 41.67 and 100.00."
    )  # 1/2, 1/2 and 1/4 at the worst


def test_unknown_values(tmp_path):
    comparison = compared(tmp_path, *RUNS, labels=0 * TRUTH)
    rows = report.main_table(comparison).rows
    assert [row[2].text for row in rows] == ["-", "-"] and not any(row[2].is_bold for row in rows)
    assert "Labels without positives are left out of mAP: disk, ring, star." in notes(comparison)


@pytest.mark.parametrize(
    ("dataset", "protocol", "source", "srn"),
    [
        ("nus_wide", "nus_wide", "Zhu et al., CVPR 2017, Table 1", ["62.0", "58.5", "65.2", "55.8"]),
        ("coco2014", "coco", "Zhu et al., CVPR 2017, Table 2", ["77.1", "71.2", "81.6", "65.4"]),
        ("wider_attribute", "wider_attribute", "Zhu et al., CVPR 2017, Table 3", ["86.2", "75.9", "-", "-"]),
    ],
)
def test_rows_of_the_paper(tmp_path, dataset, protocol, source, srn):
    comparison = compared(tmp_path, *RUNS, dataset=dataset, protocol=protocol, labels=2 * TRUTH - 1)
    table = report.main_table(comparison)
    title, printed = table.printed
    assert title == source
    assert texts(printed[-1])[:6] == ["ResNet-SRN", "", *srn]
    assert {len(row) for row in (*table.rows, *printed)} == {sum(len(columns) for _, columns in table.groups)}
    assert not any(cell.is_bold for row in printed for cell in row)
    found = "\n".join(notes(comparison))
    assert f"The rows under {source} are quoted from there, not measured here." in found
    assert "Not directly comparable: the paper's rows are for " in found and "test images, ours for 4." in found
    assert "The highest value of our rows in each column is marked (bold or *); the paper's rows do not count." in found


def test_rows_of_the_paper_are_of_the_test_split(tmp_path):
    comparison = compared(tmp_path, *RUNS, dataset="coco2014", protocol="coco", split="validation")
    assert report.main_table(comparison).printed is None
    assert "paper" not in "\n".join(notes(comparison))


def test_notes(tmp_path):
    comparison = compared(tmp_path, *RUNS)
    found = notes(comparison)
    assert found[:3] == [
        "Scores are those of each model's final output: y_hat of weak, y_hat of srn.",
        "The highest value of our rows in each column is marked (bold or *).",
        "± is the standard deviation over seeds (n - 1).",
    ]
    assert found[3] == NOTE and found[4].startswith("mAP by frequency covers: head 1 labels, 3 to 3 training images")
    assert found[5] == "Protocol: scenes." and found[6].startswith("Labels: 1 is positive")
    assert found[6:] == comparison.protocol.definition.splitlines()
    alone = [note[:6] for note in notes(compared(tmp_path / "alone", RUNS[0]))[:4]]
    assert alone == ["Scores", "mAP by", "mAP by", "Protoc"]


def test_blocks(tmp_path):
    comparison = compared(tmp_path, *RUNS)
    pictures = [Picture("one.png", "The first."), Picture("two.png", "The second.")]
    lower = difference(row="c", metrics={metric: (-1.0, -2.0, -0.5) for metric in ("mAP", "F1-C", "F1-O")})
    page = report.blocks(comparison, [lower, difference()], [[], pictures])
    assert [block.text for block in page if isinstance(block, Heading)] == [
        "scenes, test split: 4 images, 3 labels, percent",
        "What differs in the flags",
        "Differences to weak, percentage points",
        "c minus weak, label by label",
        "srn minus weak, label by label",
    ]
    _, flags, differences = (block for block in page if isinstance(block, Table))
    assert [texts(row) for row in flags.rows] == [["model", "weak", "srn"]]
    assert [texts(row) for row in differences.rows] == [
        ["c", *["-1.00 (-2.00 to -0.50)*"] * 3],
        ["srn", "+1.23 (+0.50 to +2.00)*", "-1.00 (-2.00 to +0.50)", "-"],
    ]
    assert page[-2:] == pictures


def test_flags_that_were_not_recorded(tmp_path):
    comparison = compared(tmp_path, ({"model": "srn", "mirror": "true"}, WEAK), ({"model": "srn"}, WEAK))
    page = report.blocks(comparison, [difference()], [[]])
    flags = [block for block in page if isinstance(block, Table)][1]
    assert [texts(row) for row in flags.rows] == [["mirror", "true", "(not recorded)"]]


def test_table_csv(tmp_path):
    comparison = compared(tmp_path, *RUNS, dataset="coco2014", protocol="coco")
    header, weak, srn, *printed = csv.reader(report.table_csv(comparison).splitlines())
    assert header[:5] == ["method", "source", "seeds", "All mAP", "All mAP sd"]
    assert header[-2:] == ["mAP by frequency tail", "mAP by frequency tail sd"] and len(header) == 3 + 2 * 16
    assert weak[:5] == ["weak", "ours", "1", "88.888889", ""]
    assert srn[:5] == ["srn", "ours", "2", "94.444444", "7.856742"]
    assert printed[0][:5] == ["WARP", "Zhu et al., CVPR 2017, Table 2", "", "", ""]
    assert printed[-1][3:6] == ["77.100000", "", "71.200000"] and len(printed) == 7
    assert {len(line) for line in (weak, srn, *printed)} == {len(header)}


def test_differences_csv(tmp_path):
    comparison = compared(tmp_path, *RUNS)
    text = report.differences_csv(comparison, [difference()], np.array([0.5, 0.5, np.nan]))
    assert list(csv.reader(text.splitlines())) == [
        ["row", "reference", "metric", "label", "difference", "low", "high", "images", "cooccurring"],
        ["srn", "weak", "mAP", "", "1.234000", "0.500000", "2.000000", "", ""],
        ["srn", "weak", "F1-C", "", "-1.000000", "-2.000000", "0.500000", "", ""],
        ["srn", "weak", "F1-O", "", "", "", "", "", ""],
        ["srn", "weak", "AP", "disk", "1.500000", "1.000000", "2.000000", "2", "0.500000"],
        ["srn", "weak", "AP", "ring", "-0.250000", "-0.500000", "0.500000", "2", "0.500000"],
        ["srn", "weak", "AP", "star", "", "", "", "1", ""],
    ]
