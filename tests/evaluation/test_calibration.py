"""Calibration against bins filled by hand, and what is drawn of it."""

import numpy as np
import pytest

from srn_tf.evaluation.calibration import Reliability, draw_reliability
from srn_tf.pictures import to_pixels


def reliability(probabilities, positives):
    found = Reliability()
    found.update(np.array(probabilities), np.array(positives, bool))
    return found.result()


def test_by_hand():
    """Bin 7 is (7/15, 8/15]: probabilities .48 and .52, one of them true; bin 14 holds 0.99, not true."""
    result = reliability([0.48, 0.52, 0.99], [1, 0, 0])
    assert [bin["count"] for bin in result["bins"]] == [0] * 7 + [2] + [0] * 6 + [1]
    assert (result["bins"][7]["confidence"], result["bins"][7]["frequency"]) == pytest.approx((50, 50))
    assert (result["bins"][14]["confidence"], result["bins"][14]["frequency"]) == pytest.approx((99, 0))
    assert result["bins"][0] == {"count": 0, "confidence": None, "frequency": None}
    assert result["ece"] == pytest.approx(99 / 3)


def test_the_ends_of_the_bins():
    """A bin holds its upper end; the first holds 0 too."""
    counts = [bin["count"] for bin in reliability([0.0, 0.2, np.nextafter(0.2, 1), 1.0], [0, 0, 0, 1])["bins"]]
    assert counts == [1, 0, 1, 1] + [0] * 10 + [1]


def test_a_calibrated_model_has_no_error():
    rng = np.random.default_rng(0)
    p = rng.random(200_000)
    assert reliability(p, rng.random(p.size) < p)["ece"] < 0.5
    assert reliability(p, rng.random(p.size) < p**2)["ece"] > 10  # the mean of p - p ** 2 is 1 / 6


def test_updates_add_up():
    rng = np.random.default_rng(0)
    p, is_true = rng.random(100), rng.random(100) < 0.5
    parts = Reliability()
    parts.update(p[:30], is_true[:30])
    parts.update(p[30:], is_true[30:])
    parts.update(p[:0], is_true[:0])
    result, whole = parts.result(), reliability(p, is_true)
    assert result["ece"] == pytest.approx(whole["ece"])
    assert [bin["count"] for bin in result["bins"]] == [bin["count"] for bin in whole["bins"]]


def test_nothing_counted():
    result = Reliability().result()
    assert result["ece"] is None and {bin["count"] for bin in result["bins"]} == {0}
    assert draw_reliability(result).axes[0].get_title() == "no pairs"


def test_the_diagram_shows_frequency_and_pairs():
    result = reliability([0.48, 0.52, 0.99, 0.95], [1, 0, 1, 1])
    figure = draw_reliability(result, "scenes test, y_hat")
    frequencies, pairs = (
        {round(bar.get_x()): bar.get_height() for bar in panel.patches if bar.get_height()} for panel in figure.axes
    )
    assert frequencies == pytest.approx({47: 50, 93: 100})
    assert pairs == {47: 2, 93: 2}
    assert figure.axes[0].get_title() == f"scenes test, y_hat\nECE {result['ece']:.2f} %"
    assert to_pixels(figure).std() > 20  # not a blank sheet
