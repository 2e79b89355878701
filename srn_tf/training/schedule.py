"""Learning rates, step by step.

A schedule has `rates(first_step, num_steps)`, `momenta` likewise, `update(validation_loss)` for the end of every epoch,
and `is_over`. Its fields are its whole state: dataclasses.asdict makes them ready for JSON, setattr restores them.
"""

import dataclasses
import math

from srn_tf.choices import SCHEDULES
from srn_tf.errors import InputError

# Of one_cycle.
_RISING_SHARE = 0.2
_FIRST_DIVISOR, _LAST_DIVISOR = 25.0, 1e4  # of the highest rate, and then of the first one
_HIGH_MOMENTUM, _LOW_MOMENTUM = 0.95, 0.85


def make_schedule(plan, stage_index, steps_per_epoch):
    """The schedule of a stage.

    Args:
        plan: TrainingPlan.
        stage_index: index of the stage in the plan.
        steps_per_epoch: steps per epoch.
    Returns:
        PlateauSchedule, CosineSchedule or OneCycleSchedule.
    Raises:
        InputError: an unknown schedule, a warm-up as long as the stage, or one before a cycle.
    """
    rate, epochs = plan.learning_rates[stage_index], plan.epochs[stage_index]
    warmup_steps, total_steps = round(plan.warmup_epochs * steps_per_epoch), epochs * steps_per_epoch
    if warmup_steps >= total_steps:
        raise InputError(
            f"warmup_epochs must be fewer than the epochs of every stage. Received: {plan.warmup_epochs:g}, and "
            f"{epochs} epochs for stage {plan.stages[stage_index]}. Use a smaller --warmup_epochs or more --epochs."
        )
    if plan.schedule == "plateau":
        return PlateauSchedule(rate, plan.learning_rate_min, plan.patience, warmup_steps=warmup_steps)
    if plan.schedule == "cosine":
        return CosineSchedule(rate, plan.learning_rate_min, warmup_steps, total_steps)
    if plan.schedule == "one_cycle":
        if plan.warmup_epochs:
            raise InputError(
                "warmup_epochs must be 0 with schedule one_cycle, which begins with its own warm-up. Received: "
                f"{plan.warmup_epochs:g}. Remove --warmup_epochs, or use another --schedule."
            )
        return OneCycleSchedule(rate, total_steps, plan.cycle_momentum)
    raise InputError(f"schedule must be one of {', '.join(SCHEDULES)}. Received: {plan.schedule!r}.")


class _OptimizersMomentum:
    """Schedules that leave the momentum alone."""

    def momenta(self, first_step, num_steps):
        """None: the optimizer's own momentum."""


@dataclasses.dataclass
class PlateauSchedule(_OptimizersMomentum):
    """Divides the learning rate by ten when the validation loss saturates; ends when the rate would fall below a floor.

    Paper: section 3.4, "decreased to 1/10 of the previous value whenever validation loss gets
    saturated, until 1e-5". Saturated: no new minimum for `patience` epochs.

    Attributes:
        learning_rate: the current rate.
        learning_rate_min: the lowest rate that is still used.
        patience: epochs without a new minimum before a decrease.
        best_loss: lowest validation loss so far.
        epochs_waited: epochs since that minimum, or since the last decrease.
        is_over: whether the next rate would be below the floor.
        warmup_steps: see `_warmup_factor`; the paper has none.
    """

    learning_rate: float
    learning_rate_min: float
    patience: int
    best_loss: float = float("inf")
    epochs_waited: int = 0
    is_over: bool = False
    warmup_steps: int = 0

    def rates(self, first_step, num_steps):
        """The learning rates of some steps of one epoch.

        Args:
            first_step: number of steps of the stage before them.
            num_steps: number of steps.
        Returns:
            list of floats.
        """
        steps = range(first_step, first_step + num_steps)
        return [self.learning_rate * _warmup_factor(step, self.warmup_steps) for step in steps]

    def update(self, validation_loss):
        """Takes one epoch's validation loss; sets the next rate or `is_over`."""
        if validation_loss < self.best_loss:
            self.best_loss = validation_loss
            self.epochs_waited = 0
            return
        self.epochs_waited += 1
        if self.epochs_waited < self.patience:
            return
        self.epochs_waited = 0
        # A rate of exactly the floor is used; the margin absorbs rounding of repeated divisions.
        if self.learning_rate / 10.0 < self.learning_rate_min * (1.0 - 1e-6):
            self.is_over = True
        else:
            self.learning_rate /= 10.0


@dataclasses.dataclass
class CosineSchedule(_OptimizersMomentum):
    """Falls from the learning rate to its floor along half a cosine. The last step has the floor as its rate.

    Source: Loshchilov and Hutter, "SGDR: Stochastic gradient descent with warm restarts", ICLR 2017, Eq. (5), without
    restarts.

    Attributes:
        learning_rate: the highest rate, that of the first step or of the last step of the warm-up.
        learning_rate_min: the rate of the last step of the stage.
        warmup_steps: see `_warmup_factor`.
        total_steps: steps of the stage.
        is_over: False; the stage ends with its epochs.
    """

    learning_rate: float
    learning_rate_min: float
    warmup_steps: int
    total_steps: int
    is_over: bool = False

    def rates(self, first_step, num_steps):
        """The learning rates of steps; see `PlateauSchedule.rates`."""
        return [self._rate(step) for step in range(first_step, first_step + num_steps)]

    def _rate(self, step):
        if step < self.warmup_steps:
            return self.learning_rate * _warmup_factor(step, self.warmup_steps)
        highest = max(self.warmup_steps - 1, 0)  # the step with the full rate
        progress = (step - highest) / max(self.total_steps - 1 - highest, 1)
        return _along_cosine(self.learning_rate, self.learning_rate_min, progress)

    def update(self, validation_loss):
        """Takes one epoch's validation loss, and ignores it."""


@dataclasses.dataclass
class OneCycleSchedule:
    """One cycle: the rate rises along half a cosine and falls along another, while the momentum falls and rises.

    Source: Smith and Topin, "Super-convergence", 2018; in the form and with the defaults of PyTorch's OneCycleLR, but
    that it rises over a fifth of the steps (its pct_start), as in the training scripts of ASL, ML-Decoder and
    Query2Label: the rate goes from 1 / 25 of the highest to the highest and to 1 / 250,000 of it, the momentum (of
    Adam, beta 1) from 0.95 to 0.85 and back.

    Attributes:
        learning_rate: the highest rate.
        total_steps: steps of the stage; the last one has the lowest rate.
        cycles_momentum: whether the momentum follows; if not, it is the optimizer's own.
        is_over: False; the stage ends with its epochs.
    """

    learning_rate: float
    total_steps: int
    cycles_momentum: bool = True
    is_over: bool = False

    def rates(self, first_step, num_steps):
        """The learning rates of steps; see `PlateauSchedule.rates`."""
        highest = self.learning_rate
        first = highest / _FIRST_DIVISOR
        steps = range(first_step, first_step + num_steps)
        return [self._between(step, first, highest, first / _LAST_DIVISOR) for step in steps]

    def momenta(self, first_step, num_steps):
        """The momenta of the same steps: list of floats; None: the optimizer's own."""
        if not self.cycles_momentum:
            return None
        steps = range(first_step, first_step + num_steps)
        return [self._between(step, _HIGH_MOMENTUM, _LOW_MOMENTUM, _HIGH_MOMENTUM) for step in steps]

    def _between(self, step, first, middle, last):
        """From `first` at step 0 to `middle` at the turn, which may lie between two steps, to `last` at the last."""
        turn = max(_RISING_SHARE * self.total_steps - 1, 0.0)
        if step < turn:
            return _along_cosine(first, middle, step / turn)
        return _along_cosine(middle, last, (step - turn) / max(self.total_steps - 1 - turn, 1))

    def update(self, validation_loss):
        """Takes one epoch's validation loss, and ignores it."""


def _along_cosine(start, end, progress):
    """From start at progress 0 to end at progress 1, along half a cosine."""
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * progress))


def _warmup_factor(step, warmup_steps):
    """Rises linearly from 1 / warmup_steps at step 0 to 1 at the last step of the warm-up, and stays there."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
