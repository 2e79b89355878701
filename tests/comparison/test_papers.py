"""The papers' rows: as many as printed, and right by the arithmetic between their columns."""

import math

import pytest

from srn_tf.comparison.papers import ALL, PUBLISHED, TOP3

BASELINES = ["ResNet-101", "ResNet-107", "ResNet-101-semantic", "ResNet-SRN-att", "ResNet-SRN"]
ROWS = [
    pytest.param(row, id=f"{dataset} {row.name}")
    for dataset, table in PUBLISHED.items()
    if dataset != "wider_attribute"
    for row in table.rows
]
HARMONIC = ("KNN", "WARP", "CNN-RNN")


def named(dataset):
    return {row.name: row for row in PUBLISHED[dataset].rows}


def test_methods():
    assert list(named("nus_wide")) == ["KNN", "WARP", "CNN-RNN", *BASELINES]
    assert list(named("coco2014")) == ["WARP", "CNN-RNN", *BASELINES]
    assert list(named("wider_attribute")) == ["R-CNN", "R*CNN", "DHC", *BASELINES]
    assert [table.source[-7:] for table in PUBLISHED.values()] == ["Table 1", "Table 2", "Table 3"]


@pytest.mark.parametrize("row", ROWS)
def test_columns(row):
    assert list(row.all) == ([] if row.name in HARMONIC else list(ALL))
    assert list(row.top3) == list(TOP3)


@pytest.mark.parametrize("row", ROWS)
def test_f1_is_the_harmonic_mean_it_should_be(row):
    """F1-O always, F1-C in the older rows; WARP on COCO is printed 0.11 off, the others within rounding."""
    for part in (row.all, row.top3):
        for kind in ("O", "C") if row.name in HARMONIC else ("O",):
            if part:
                precision, recall = part[f"P-{kind}"], part[f"R-{kind}"]
                assert part[f"F1-{kind}"] == pytest.approx(2 * precision * recall / (precision + recall), abs=0.12)


def test_three_labels_on_coco_find_less_and_err_less():
    """There the top-3 rule only takes labels away."""
    for name in BASELINES:
        row = named("coco2014")[name]
        assert row.top3["R-O"] < row.all["R-O"] and row.top3["P-O"] > row.all["P-O"]


@pytest.mark.parametrize(
    ("dataset", "group", "column", "value"),
    [
        ("nus_wide", "all", "mAP", 62.0),
        ("nus_wide", "top3", "F1-C", 48.9),
        ("coco2014", "all", "mAP", 77.1),
        ("coco2014", "top3", "R-O", 62.5),
        ("wider_attribute", "all", "mAP", 86.2),
        ("wider_attribute", "all", "F1-O", 81.3),
        ("wider_attribute", "all", "P-C", math.nan),
        ("wider_attribute", "top3", "F1-C", math.nan),
    ],
)
def test_values_of_srn(dataset, group, column, value):
    assert named(dataset)["ResNet-SRN"].value(group, column) == pytest.approx(value, nan_ok=True)


def test_wider_rows_of_others_have_map_alone():
    rows = named("wider_attribute")
    assert [rows[name].all for name in ("R-CNN", "R*CNN", "DHC")] == [{"mAP": 80.0}, {"mAP": 80.5}, {"mAP": 81.3}]
    assert rows["ResNet-101"].all == {"mAP": 85.0, "F1-C": 74.7, "F1-O": 80.4}
