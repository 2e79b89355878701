"""mAP by frequency, worked by hand."""

import json

import pytest

from srn_tf.evaluation.frequency import frequency_groups, mean_ap_by_frequency


@pytest.mark.parametrize(
    ("positives", "expected"),
    [
        ([3, 9, 1, 9, 0], [[1, 3], [0, 2], [4]]),  # of equal counts the first label comes first
        ([1, 2, 3, 4, 5, 6], [[5, 4], [3, 2], [1, 0]]),
        ([7, 7, 7, 8], [[3, 0], [1], [2]]),
        ([4], [[0], [], []]),
    ],
)
def test_thirds_of_the_labels(positives, expected):
    assert [labels.tolist() for labels in frequency_groups(positives).values()] == expected


def test_by_hand():
    """Labels by frequency: 4, 1 | 0, 3 | 2. Label 3 has no positive among the images that were evaluated."""
    result = mean_ap_by_frequency([30.0, 60.0, None, None, 80.0], [20, 50, 0, 10, 90])
    assert json.loads(json.dumps(result)) == result
    assert result == {
        "mAP_by_frequency": {"head": 70.0, "middle": 30.0, "tail": None},
        "frequency": {
            "labels": {"head": 2, "middle": 1, "tail": 0},
            "training_images": {"head": [50, 90], "middle": [10, 20], "tail": [0, 0]},
        },
    }
    assert mean_ap_by_frequency([5.0], [3])["frequency"]["training_images"] == {
        "head": [3, 3],
        "middle": None,
        "tail": None,
    }
