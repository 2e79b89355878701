import dataclasses
import json

import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.evaluation import protocols
from tests.evaluation import reference

TABLE_KEYS = ["mAP", "F1-C", "P-C", "R-C", "F1-O", "P-O", "R-O", "F1-C-harmonic"]
SCORES = np.array([[2.0, -1.0, 0.5], [-0.5, 1.0, -2.0], [1.0, -3.0, 0.0]])
LABELS = np.array([[1, -1, 0], [-1, 1, -1], [0, -1, 1]])


def test_presets():
    assert list(protocols.PROTOCOLS) == ["nus_wide", "coco", "wider_attribute", "scenes"]
    for name, protocol in protocols.PROTOCOLS.items():
        assert protocol.name == name
        assert protocols.protocol_named(name) is protocol
        assert protocol.definition.endswith(".") and "\n" not in protocol.definition
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocols.COCO.use_top3 = False


def test_unknown_protocol():
    with pytest.raises(
        InputError, match="protocol must be one of nus_wide, coco, wider_attribute, scenes. Received: 'v"
    ):
        protocols.protocol_named("voc")


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_result_is_json_with_the_stated_keys(protocol):
    result = protocols.evaluate(SCORES, LABELS, protocol)
    groups = ["all", "top3"] if protocol.use_top3 else ["all"]
    assert list(result) == [*groups, "AP", "labels_without_positives"]
    for group in groups:
        assert list(result[group]) == TABLE_KEYS
    assert json.loads(json.dumps(result, allow_nan=False)) == result


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("protocol", protocols.PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_random_cases_equal_the_reference(protocol, seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, (30, 6)).round(1)
    labels = rng.choice([-1, 0, 1], size=scores.shape, p=[0.5, 0.2, 0.3])
    labels[:, 4] = rng.choice([-1, 0], size=30)
    result = protocols.evaluate(scores, labels, protocol)

    one_ap = reference.ap_eccv16 if protocol.name == "wider_attribute" else reference.ap_voc
    ap = [100 * one_ap(scores[:, label], labels[:, label]) for label in range(6)]
    assert result["AP"][4] is None
    assert result["labels_without_positives"] == [4]
    np.testing.assert_allclose(np.array(result["AP"], dtype=float), ap)

    predicted = {"all": reference.predicted_above_half(scores)}
    if protocol.name == "nus_wide":
        predicted["top3"] = reference.predicted_top_k(scores, 3)
    elif protocol.name != "wider_attribute":
        predicted["top3"] = reference.predicted_top_k(scores, 3, 0.5)
    assert predicted.keys() == result.keys() - {"AP", "labels_without_positives"}
    for group, decisions in predicted.items():
        expected = {key: 100 * value for key, value in reference.rates(decisions, labels).items()}
        expected["mAP"] = sum(ap[:4] + ap[5:]) / 5
        assert result[group] == pytest.approx(expected)


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


def test_labels_without_positives_are_named():
    labels = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 0]])
    result = protocols.evaluate(SCORES, labels, protocols.COCO, label_names=["dog", "cat", "person"])
    assert result["labels_without_positives"] == ["cat"]
    assert result["all"]["mAP"] == pytest.approx((result["AP"][0] + result["AP"][2]) / 2)


def test_no_label_with_positives():
    result = protocols.evaluate(SCORES, np.zeros((3, 3)), protocols.NUS_WIDE)
    assert result["all"]["mAP"] is None
    assert result["top3"]["mAP"] is None
    assert result["AP"] == [None, None, None]
    assert result["labels_without_positives"] == [0, 1, 2]
    assert result["all"]["R-C"] == pytest.approx(100)


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
        ([["a", "b"]], LABELS, "scores must be real numbers. Received: values of type <U1"),
    ],
)
def test_bad_input(scores, labels, message):
    with pytest.raises(InputError, match=message) as raised:
        protocols.evaluate(scores, labels, protocols.COCO)
    assert "\n" not in str(raised.value)


def test_label_names_must_fit():
    with pytest.raises(InputError, match="one name per column of scores. Received: 2 names for 3 columns"):
        protocols.evaluate(SCORES, LABELS, protocols.COCO, label_names=["dog", "cat"])


def test_fewer_than_three_labels_have_no_top3_table():
    result = protocols.evaluate(SCORES[:, :2], LABELS[:, :2], protocols.COCO)
    assert "top3" not in result
    full = protocols.evaluate(SCORES, LABELS, protocols.COCO)
    assert result["AP"] == full["AP"][:2]
