"""The plateau schedule, worked by hand."""

import math

import pytest

from srn_tf.training.schedule import PlateauSchedule


def rates(schedule, losses):
    """The rate after each loss, or "over"."""
    seen = []
    for loss in losses:
        schedule.update(loss)
        seen.append("over" if schedule.is_over else schedule.learning_rate)
    return seen


def approx(*values):
    return [value if isinstance(value, str) else pytest.approx(value, rel=1e-12) for value in values]


def test_three_rates_and_the_end():
    """0.001, 0.0001 and 0.00001 are all used, although 0.001 / 10 / 10 is not exactly 0.00001 in binary."""
    schedule = PlateauSchedule(1e-3, 1e-5, patience=2)
    losses = [5.0, 4.0, 4.5, 4.5, 3.0, 3.5, 3.5, 3.6, 3.7]
    expected = approx(1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 1e-4, 1e-5, 1e-5, "over")
    assert rates(schedule, losses) == expected
    assert schedule.best_loss == 3.0


@pytest.mark.parametrize("first", [1e-3, 3e-2, 0.1, 0.7, 1.0])
def test_the_floor_itself_is_used_whatever_the_rounding(first):
    schedule = PlateauSchedule(first, first / 1000.0, patience=1)
    assert rates(schedule, [1.0] * 5) == approx(first, first / 10, first / 100, first / 1000, "over")


def test_a_floor_between_two_rates_is_not_crossed():
    assert rates(PlateauSchedule(1e-3, 5e-5, patience=1), [1.0] * 3) == approx(1e-3, 1e-4, "over")


def test_a_floor_of_zero_never_ends():
    schedule = PlateauSchedule(1e-3, 0.0, patience=1)
    rates(schedule, [1.0] * 50)
    assert not schedule.is_over and schedule.learning_rate == pytest.approx(1e-52, rel=1e-9)


def test_an_equal_loss_is_no_improvement():
    schedule = PlateauSchedule(1e-3, 1e-5, patience=3)
    assert rates(schedule, [2.0, 2.0, 2.0, 2.0]) == approx(1e-3, 1e-3, 1e-3, 1e-4)


def test_patience_counts_from_the_last_minimum_or_decrease():
    schedule = PlateauSchedule(1e-3, 1e-5, patience=3)
    # A new minimum at the third epoch of waiting starts the count again.
    assert rates(schedule, [2.0, 2.1, 2.1, 1.9, 2.0, 2.0]) == approx(*[1e-3] * 6)
    assert schedule.epochs_waited == 2
    assert rates(schedule, [2.0]) == approx(1e-4)
    assert schedule.epochs_waited == 0
    assert rates(schedule, [1.95, 1.95]) == approx(1e-4, 1e-4)


def test_nan_waits_and_does_not_become_the_best():
    schedule = PlateauSchedule(1e-3, 1e-5, patience=2)
    assert rates(schedule, [math.nan, 2.0, math.nan, math.nan]) == approx(1e-3, 1e-3, 1e-3, 1e-4)
    assert schedule.best_loss == 2.0
