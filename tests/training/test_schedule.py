"""The schedules, worked by hand."""

import dataclasses
import json
import math

import keras
import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.training.plan import TrainingPlan
from srn_tf.training.schedule import CosineSchedule, OneCycleSchedule, PlateauSchedule, make_schedule


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


def test_the_plateaus_rates_without_and_with_warmup():
    schedule = PlateauSchedule(0.1, 1e-5, patience=1)
    assert schedule.rates(0, 3) == [0.1] * 3
    schedule = PlateauSchedule(0.1, 1e-5, patience=1, warmup_steps=4)
    assert schedule.rates(0, 6) == approx(0.025, 0.05, 0.075, 0.1, 0.1, 0.1)
    assert schedule.rates(2, 2) == schedule.rates(0, 6)[2:4]
    rates(schedule, [1.0, 1.0])
    assert schedule.rates(1, 4) == approx(0.005, 0.0075, 0.01, 0.01)


def test_cosine_by_hand():
    """cos of 0, 45, 90, 135 and 180 degrees; from 1.0 to 0.2."""
    half = 0.4 * math.sqrt(0.5)
    assert CosineSchedule(1.0, 0.2, 0, total_steps=5).rates(0, 5) == approx(1.0, 0.6 + half, 0.6, 0.6 - half, 0.2)


def test_cosine_after_a_warmup():
    """Three steps up to the full rate, four down to the floor at the last step; asked for in any portions."""
    schedule = CosineSchedule(0.3, 0.0, warmup_steps=3, total_steps=7)
    half = 0.15 * math.sqrt(0.5)
    expected = approx(0.1, 0.2, 0.3, 0.15 + half, 0.15, 0.15 - half, 0.0)
    expected[-1] = pytest.approx(0.0, abs=1e-12)
    assert schedule.rates(0, 7) == expected
    assert schedule.rates(0, 3) + schedule.rates(3, 3) + schedule.rates(6, 1) == schedule.rates(0, 7)
    for loss in [1.0] * 20:
        schedule.update(loss)
    assert schedule.rates(0, 7) == expected and not schedule.is_over


def test_cosine_equals_keras_decay():
    decay = keras.optimizers.schedules.CosineDecay(0.05, decay_steps=99, alpha=0.01)
    received = CosineSchedule(0.05, 0.0005, 0, total_steps=100).rates(0, 100)
    np.testing.assert_allclose(received, [float(decay(step)) for step in range(100)], rtol=1e-4)


def test_a_stage_of_one_step():
    assert CosineSchedule(0.1, 0.01, 0, total_steps=1).rates(0, 1) == [0.1]


def test_one_cycle_by_hand():
    """Of 15 steps the third has the full rate; half way up and half way down are the means of the ends."""
    schedule = OneCycleSchedule(0.5, total_steps=15)
    rates, momenta = schedule.rates(0, 15), schedule.momenta(0, 15)
    assert [rates[step] for step in (0, 1, 2, 8, 14)] == approx(0.02, 0.26, 0.5, (0.5 + 2e-6) / 2, 2e-6)
    assert [momenta[step] for step in (0, 1, 2, 8, 14)] == approx(0.95, 0.9, 0.85, 0.9, 0.95)
    assert rates[5] == pytest.approx(2e-6 + (0.5 - 2e-6) * (1 + math.sqrt(0.5)) / 2)  # 45 of 180 degrees
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert schedule.rates(0, 4) + schedule.rates(4, 11) == rates
    schedule.update(1.0)
    assert not schedule.is_over and schedule.rates(0, 15) == rates
    assert OneCycleSchedule(0.5, 15, cycles_momentum=False).momenta(0, 15) is None
    assert CosineSchedule(0.5, 0.0, 0, 15).momenta(0, 15) is None


def test_one_cycle_turns_between_two_steps_as_pytorchs_does():
    """Of torch.optim.lr_scheduler.OneCycleLR(SGD, 1.0, total_steps=12, pct_start=0.2) of PyTorch 2.13; turns at 1.4."""
    rates = [0.04, 0.8192751048921919, 0.9903926786310544, 0.9330129698414118, 0.8296735888584043, 0.6913429508156802]
    rates += [0.5327034338088132, 0.3705929950868298, 0.22221799463066508, 0.10332691656106306, 0.026538829112706202]
    momenta = [0.95, 0.8688255099070633, 0.8509607359798385, 0.856698729810778, 0.8670327092449965, 0.8808658283817454]
    momenta += [0.8967298435384928, 0.912940952255126, 0.92777851165098, 0.9396676670145617, 0.9473465064747553, 0.95]
    schedule = OneCycleSchedule(1.0, total_steps=12)
    assert schedule.rates(0, 12) == pytest.approx([*rates, 4e-6], rel=1e-12)
    assert schedule.momenta(0, 12) == pytest.approx(momenta, rel=1e-12)


@pytest.mark.parametrize("total_steps", [1, 2, 4, 5])
def test_a_cycle_too_short_to_rise_begins_at_the_full_rate(total_steps):
    rates = OneCycleSchedule(1.0, total_steps).rates(0, total_steps)
    assert rates == sorted(rates, reverse=True) and rates[0] == 1.0
    assert total_steps == 1 or rates[-1] == pytest.approx(4e-6)


def plan(**changes):
    return TrainingPlan(("cls", "att"), (2, 10), (0.1, 0.01), learning_rate_min=0.001, **changes)


def test_the_plan_makes_the_schedule_of_its_stage():
    assert make_schedule(plan(patience=7), 0, 5) == PlateauSchedule(0.1, 0.001, 7)
    assert make_schedule(plan(warmup_epochs=0.5), 0, 5).warmup_steps == 2
    assert make_schedule(plan(schedule="cosine", warmup_epochs=1.0), 1, 5) == CosineSchedule(0.01, 0.001, 5, 50)
    one_cycle = make_schedule(plan(schedule="one_cycle", cycle_momentum=False), 1, 5)
    assert one_cycle == OneCycleSchedule(0.01, 50, cycles_momentum=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "linear"}, "schedule must be one of plateau, cosine, one_cycle. Received: 'linear'."),
        ({"schedule": "one_cycle", "warmup_epochs": 0.5}, "warmup_epochs must be 0 with schedule one_cycle"),
        ({"warmup_epochs": 2.0}, "warmup_epochs must be fewer than the epochs of every stage. Received: 2, and 2 epo"),
    ],
)
def test_plans_that_cannot_be(changes, message):
    with pytest.raises(InputError) as raised:
        make_schedule(plan(**changes), 0, 5)
    assert message in str(raised.value)


@pytest.mark.parametrize(("name", "warmup"), [("plateau", 0.4), ("cosine", 0.4), ("one_cycle", 0.0)])
def test_a_schedule_comes_back_from_json(name, warmup):
    made = [make_schedule(plan(schedule=name, warmup_epochs=warmup, patience=1), 0, 5) for _ in range(2)]
    for schedule in (made[0], made[0], made[0]):
        schedule.update(1.0)
    for field, value in json.loads(json.dumps(dataclasses.asdict(made[0]))).items():
        setattr(made[1], field, value)
    assert made[1] == made[0] and made[1].rates(0, 9) == made[0].rates(0, 9)
