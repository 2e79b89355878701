import dataclasses
import json

import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.evaluation import protocols
from tests.evaluation import reference

TABLE_KEYS = ["mAP", "F1-C", "P-C", "R-C", "F1-O", "P-O", "R-O", "F1-C-harmonic"]
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
SCORES = np.array([[2.0, -1.0, 0.5], [-0.5, 1.0, -2.0], [1.0, -3.0, 0.0]])
LABELS = np.array([[1, -1, 0], [-1, 1, -1], [0, -1, 1]])


def test_presets():
    assert list(protocols.PROTOCOLS) == ["nus_wide", "coco", "wider_attribute", "voc2007", "scenes", "partial"]
    for name, protocol in protocols.PROTOCOLS.items():
        assert protocol.name == name
        assert protocols.protocol_named(name) == protocol
        assert all(line.endswith(".") for line in protocol.definition.splitlines())
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocols.COCO.use_top3 = False


@pytest.mark.parametrize(
    ("protocol", "parts"),
    [
        (protocols.NUS_WIDE, ["0 and -1 are negative", "In top3, exactly the three highest of each image."]),
        (protocols.COCO, ["0 and -1 are negative", "In top3, those of the three highest with sigmoid(score) >= 0.5."]),
        (
            protocols.WIDER_ATTRIBUTE,
            ["0 is unspecified. 0 is left out of AP and calibration, and negative in precision"],
        ),
        (protocols.PARTIAL, ["0 is left out of AP and calibration, and left out of precision, recall and F1."]),
        (protocols.VOC2007, ["0 is difficult. 0 is left out of AP and calibration, and negative in precision"]),
        (dataclasses.replace(protocols.VOC2007, zero_in_rates="excluded"), ["and left out of precision"]),
        (dataclasses.replace(protocols.VOC2007, zero_in_ap="negative"), ["0 is difficult. 0 is negative in AP"]),
    ],
)
def test_the_definition_says_what_is_done(protocol, parts):
    for part in parts:
        assert part in protocol.definition
    assert ("top3" in protocol.definition) == protocol.use_top3


@pytest.mark.parametrize(
    ("protocol", "policy", "message"),
    [
        (
            protocols.WIDER_ATTRIBUTE,
            {"zero_in_ap": "positive"},
            "zero_in_ap must be negative or excluded in protocol wid",
        ),
        (protocols.COCO, {"zero_in_rates": "excluded"}, "zero_in_rates must be negative in .* where 0 means negative"),
    ],
)
def test_policies_that_are_none(protocol, policy, message):
    with pytest.raises(InputError, match=f"{message}.* Received: '{next(iter(policy.values()))}'"):
        dataclasses.replace(protocol, **policy)


def test_unknown_protocol():
    with pytest.raises(
        InputError,
        match="protocol must be one of nus_wide, coco, wider_attribute, voc2007, scenes, partial. Received: 'v",
    ):
        protocols.protocol_named("voc")


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_result_is_json_with_the_stated_keys(protocol):
    result = protocols.evaluate(SCORES, LABELS, protocol)
    groups = ["all", "all_plain"] + ["top3", "top3_plain"] * protocol.use_top3
    assert list(result) == [*groups, *FURTHER_KEYS]
    for group in groups:
        assert list(result[group]) == TABLE_KEYS
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    more = protocols.evaluate(SCORES, LABELS, protocol, ranking=True, top_k=2, thresholds=[0.1, 0.2, 0.3])
    assert list(more) == [*groups, "top_k", "top_k_plain", *FURTHER_KEYS, "ranking"]
    assert json.loads(json.dumps(more, allow_nan=False)) == more


POLICIES = [
    *protocols.PROTOCOLS.values(),
    dataclasses.replace(protocols.WIDER_ATTRIBUTE, name="all excluded", zero_in_rates="excluded"),
    dataclasses.replace(protocols.VOC2007, name="all negative", zero_in_ap="negative"),
    dataclasses.replace(protocols.VOC2007, name="as CSRA, top-3", zero_in_rates="excluded", use_top3=True),
]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("protocol", POLICIES, ids=lambda protocol: protocol.name)
def test_random_cases_equal_the_reference(protocol, seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, (30, 6)).round(1)
    labels = rng.choice([-1, 0, 1], size=scores.shape, p=[0.5, 0.2, 0.3])
    labels[:, 4] = rng.choice([-1, 0], size=30)
    thresholds = [None, 0.3, [0.1, 0.2, 0.5, 0.7, 0.5, 0.9]][seed % 3]
    k, floor = seed % 6 + 1, [None, 0.25][seed % 2]
    result = protocols.evaluate(
        scores, labels, protocol, thresholds=thresholds, ranking=True, top_k=k, top_k_floor=floor
    )
    # What "excluded" means, written once more: the entries with 0 are not there.
    columns = [(scores[:, label].tolist(), labels[:, label].tolist()) for label in range(6)]
    if protocol.zero_in_ap == "excluded":
        columns = [reference.without_zeros(*column) for column in columns]

    ap = {name: [100 * one_ap(*column) for column in columns] for name, one_ap in reference.AP.items()}
    assert result["AP"][4] is None
    assert (result["labels_without_positives"], result["num_labels_in_mAP"]) == ([4], 5)
    np.testing.assert_allclose(np.array(result["AP"], dtype=float), ap["voc_all_points"])
    mean_ap = {name: sum(values[:4] + values[5:]) / 5 for name, values in ap.items()}
    assert result["mAP_by_definition"] == pytest.approx(mean_ap)

    assert result["threshold"] == (0.5 if thresholds is None else thresholds)
    each = thresholds if isinstance(thresholds, list) else [thresholds or 0.5] * 6
    predicted = {
        "all": reference.predicted_above(scores, each),
        "top_k": reference.predicted_top_k(scores, k, floor),
    }
    if protocol.use_top3:
        predicted["top3"] = reference.predicted_top_k(scores, 3, protocol.top3_min_probability)
    assert {f"{group}{suffix}" for group in predicted for suffix in ("", "_plain")} == {
        key for key, value in result.items() if isinstance(value, dict) and "F1-C" in value
    }
    for group, decisions in predicted.items():
        for suffix, convention in (("", "authors"), ("_plain", "plain")):
            rates = reference.rates(decisions, labels, convention, protocol.zero_in_rates == "excluded")
            expected = {key: 100 * value for key, value in rates.items()} | {"mAP": mean_ap["voc_all_points"]}
            assert result[group + suffix] == pytest.approx(expected)

    ece, bins = reference.calibration(*(sum(lists, []) for lists in zip(*columns, strict=True)))
    assert result["calibration"]["ece"] == pytest.approx(100 * ece)
    for found, (count, confidence, frequency) in zip(result["calibration"]["bins"], bins, strict=True):
        assert found["count"] == count
        if count:
            assert (found["confidence"], found["frequency"]) == pytest.approx((100 * confidence, 100 * frequency))

    lrap, coverage, ranking_loss, hamming, subset = reference.ranking(scores, labels, predicted["all"])
    assert result["ranking"].pop("note").startswith("Unspecified entries count as negative")
    assert result["ranking"] == pytest.approx(
        {
            "LRAP": 100 * lrap,
            "coverage_error": coverage,
            "ranking_loss": 100 * ranking_loss,
            "hamming_loss": 100 * hamming,
            "subset_accuracy": 100 * subset,
        }
    )


@pytest.mark.parametrize("protocol", [protocols.NUS_WIDE, protocols.COCO, protocols.SCENES])
def test_zero_and_minus_one_are_both_negative(protocol):
    zero_one = (LABELS == 1).astype(np.uint8)
    assert protocols.evaluate(SCORES, LABELS, protocol) == protocols.evaluate(SCORES, zero_one, protocol)
    assert protocols.evaluate(SCORES, LABELS, protocol) == protocols.evaluate(SCORES, LABELS == 1, protocol)


def test_wider_leaves_unspecified_out_of_ap_but_counts_it_negative_in_f1():
    scores = np.array([[3.0], [2.0], [-1.0]])
    labels = np.array([[0], [1], [-1]])
    result = protocols.evaluate(scores, labels, protocols.WIDER_ATTRIBUTE)
    assert result["AP"] == [100]
    assert result["all"]["P-O"] == pytest.approx(50)


def test_excluded_entries_do_not_count_as_false_positives():
    """The same three images: the unspecified one is predicted, which is wrong only where it counts as negative."""
    scores = np.array([[3.0], [2.0], [-1.0]])
    labels = np.array([[0], [1], [-1]])
    excluded = dataclasses.replace(protocols.WIDER_ATTRIBUTE, zero_in_rates="excluded")
    assert protocols.evaluate(scores, labels, excluded)["all"]["P-O"] == pytest.approx(100)
    negative = dataclasses.replace(protocols.WIDER_ATTRIBUTE, zero_in_ap="negative")
    assert protocols.evaluate(scores, labels, negative)["AP"] == [50]


def test_thresholds_are_strict():
    p = 1 / (1 + np.exp(-SCORES[0]))  # each score of the first image at its own threshold: not predicted
    counts = protocols.evaluate(SCORES[:1], np.array([[1, 1, 1]]), protocols.VOC2007, thresholds=p)
    assert counts["all"]["R-O"] == pytest.approx(0, abs=1e-9)
    counts = protocols.evaluate(SCORES[:1], np.array([[1, 1, 1]]), protocols.VOC2007, thresholds=p - 1e-9)
    assert counts["all"]["R-O"] == pytest.approx(100)
    at_half = protocols.evaluate(np.array([[0.0, 1e-6]]), np.array([[1, 1]]), protocols.VOC2007)
    assert at_half["all"]["R-O"] == pytest.approx(50)


def test_thresholds_leave_the_other_tables_alone():
    plain = protocols.evaluate(SCORES, LABELS, protocols.COCO)
    moved = protocols.evaluate(SCORES, LABELS, protocols.COCO, thresholds=0.01)
    assert moved["all"] != plain["all"]
    for key in ("top3", "AP", "calibration"):
        assert moved[key] == plain[key]


@pytest.mark.parametrize(
    "thresholds", [0, 1, 1.5, -0.1, np.nan, [0.5, 0.5], [0.5, 0.5, 1], [[0.5, 0.5, 0.5]], "half", [0.5, [0.5], 0.5]]
)
def test_bad_thresholds(thresholds):
    with pytest.raises(
        InputError, match=r"one probability or one per label \(3\), each above 0 and below 1. Received: "
    ):
        protocols.evaluate(SCORES, LABELS, protocols.COCO, thresholds=thresholds)


def test_every_image_counts_once_however_many_there_are():
    """The same images three hundred times over: rates stay, pairs multiply."""
    once = protocols.evaluate(SCORES, LABELS, protocols.WIDER_ATTRIBUTE)
    often = protocols.evaluate(np.tile(SCORES, (300, 1)), np.tile(LABELS, (300, 1)), protocols.WIDER_ATTRIBUTE)
    assert often["all_plain"] == pytest.approx(once["all_plain"] | {"mAP": often["all"]["mAP"]})
    assert often["calibration"]["ece"] == pytest.approx(once["calibration"]["ece"])
    pairs = [[bin["count"] for bin in result["calibration"]["bins"]] for result in (once, often)]
    assert [300 * count for count in pairs[0]] == pairs[1] and sum(pairs[0]) == 7  # of 9, two are unspecified


def test_k_larger_than_the_labels():
    with pytest.raises(InputError, match="k must be from 1 to the number of labels. Received: k = 4 for 3 labels"):
        protocols.evaluate(SCORES, LABELS, protocols.COCO, top_k=4)


def test_top_k_key():
    assert protocols.top_k_key(3, None) == "top3"
    assert protocols.top_k_key(3, 0.5) == "top3_min05"
    assert protocols.top_k_key(10, 0.25) == "top10_min025"


def test_labels_without_positives_are_named():
    labels = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 0]])
    result = protocols.evaluate(SCORES, labels, protocols.COCO, label_names=["dog", "cat", "person"])
    assert (result["labels_without_positives"], result["num_labels_in_mAP"]) == (["cat"], 2)
    assert result["all"]["mAP"] == pytest.approx((result["AP"][0] + result["AP"][2]) / 2)


def test_labels_without_negatives_are_named():
    labels = np.array([[1, 1, 0], [1, 1, 1], [1, 0, -1]])
    assert protocols.evaluate(SCORES, labels, protocols.COCO)["labels_without_negatives"] == [0]
    result = protocols.evaluate(SCORES, labels, protocols.VOC2007, label_names=["dog", "cat", "person"])
    assert result["labels_without_negatives"] == ["dog", "cat"]  # cat's 0 is left out


@pytest.mark.parametrize(
    ("protocol", "policies"),
    [("voc2007", {}), ("wider_attribute", {}), ("voc2007", {"zero_in_ap": "negative", "zero_in_rates": "excluded"})],
)
def test_zero_for_absent_where_it_is_excluded(protocol, policies):
    protocol = protocols.protocol_named(protocol, **policies)
    labels = (LABELS == 1).astype(int)
    with pytest.raises(InputError, match=f"protocol {protocol.name}, .* 0 means .*Received: only 0 and 1. Wri"):
        protocols.evaluate(SCORES, labels, protocol)
    negative = protocols.protocol_named(protocol.name, "negative", "negative")
    assert (
        protocols.evaluate(SCORES, labels, negative)["AP"] == protocols.evaluate(SCORES, labels, protocols.COCO)["AP"]
    )


def test_what_equal_scores_leave_to_the_order():
    """By hand: of four images one is positive, which among equals is ranked 1 to 4; the other label has no ties."""
    scores = np.array([[0.5, 1], [0.5, 2], [0.5, 3], [0.5, 4]])
    for place, ap in enumerate((100, 50, 100 / 3, 25)):
        labels = np.zeros((4, 2))
        labels[place] = 1
        result = protocols.evaluate(scores, labels, protocols.COCO, ["dog", "cat"])
        other = 100 / (4 - place)
        assert result["AP"] == pytest.approx([ap, other])  # in the order of the images, as in the authors' code
        assert result["ties"] == {
            "mAP_lowest": pytest.approx((25 + other) / 2),
            "mAP_highest": pytest.approx((100 + other) / 2),
            "constant_labels": ["dog"],
        }
    assert protocols.evaluate(scores[:1], labels[:1], protocols.COCO)["ties"]["constant_labels"] == []


def test_no_label_with_positives():
    result = protocols.evaluate(SCORES, np.zeros((3, 3)), protocols.NUS_WIDE)
    assert result["all"]["mAP"] is None
    assert result["top3"]["mAP"] is None
    assert result["AP"] == [None, None, None]
    assert result["labels_without_positives"] == [0, 1, 2]
    assert result["num_labels_in_mAP"] == 0 and set(result["mAP_by_definition"].values()) == {None}
    assert result["all"]["R-C"] == pytest.approx(100) and result["all_plain"]["R-C"] == 0


def test_nothing_specified():
    result = protocols.evaluate(SCORES, np.zeros((3, 3)), protocols.WIDER_ATTRIBUTE)
    assert result["calibration"]["ece"] is None and result["all"]["mAP"] is None


def _with_entry(matrix, row, column, value):
    matrix = matrix.astype(np.float64)
    matrix[row, column] = value
    return matrix


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (SCORES[:2], LABELS, r"the same shape, images x labels. Received: scores \(2, 3\), labels \(3, 3\)"),
        (SCORES[0], LABELS[0], r"scores must be a matrix, images x labels. Received: shape \(3,\)"),
        (SCORES, LABELS[0], r"labels must be a matrix, images x labels. Received: shape \(3,\)"),
        (SCORES[:0], LABELS[:0], r"at least one image and one label. Received: shape \(0, 3\)"),
        (
            _with_entry(_with_entry(SCORES, 1, 2, np.nan), 2, 0, np.inf),
            LABELS,
            r"scores must be finite. Received: 2 NaN or infinite, the first at row 1, column 2 \(counted from 0\)",
        ),
        (
            SCORES,
            _with_entry(_with_entry(LABELS, 0, 1, 2), 2, 2, 0.5),
            r"labels must be -1, 0 or 1. Received: 0.5, 2 in 2 entries, the first at row 0, column 1 \(counted",
        ),
        (SCORES, _with_entry(LABELS, 0, 0, np.nan), "labels must be -1, 0 or 1. Received: nan in 1 entries"),
        (SCORES, np.arange(2, 11).reshape(3, 3), r"Received: 2, 3, 4, 5, 6, \.\.\. in 9 entries"),
        ([[1.0, 2.0], [1.0]], LABELS, "scores must be a matrix, images x labels. Received: rows of different lengths"),
        ([["a", "b"]], LABELS, "scores must be real numbers. Received: type <U1"),
    ],
)
def test_bad_input(scores, labels, message):
    with pytest.raises(InputError, match=message) as raised:
        protocols.evaluate(scores, labels, protocols.COCO)
    assert "\n" not in str(raised.value)


def test_label_names_must_fit():
    with pytest.raises(InputError, match="one label name per column of scores. Received: 2 names for 3 columns"):
        protocols.evaluate(SCORES, LABELS, protocols.COCO, label_names=["dog", "cat"])


def test_fewer_than_three_labels_have_no_top3_table():
    result = protocols.evaluate(SCORES[:, :2], LABELS[:, :2], protocols.COCO)
    assert "top3" not in result
    full = protocols.evaluate(SCORES, LABELS, protocols.COCO)
    assert result["AP"] == full["AP"][:2]
