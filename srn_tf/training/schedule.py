"""Learning rates, step by step.

A schedule has `rates(first_step, num_steps)`, `update(validation_loss)` for the end of every epoch, and `is_over`. Its
fields are its whole state: dataclasses.asdict makes them ready for JSON, setattr restores them.
"""

import dataclasses
import math

from srn_tf.choices import SCHEDULES
from srn_tf.errors import InputError


def make_schedule(plan, stage_index, steps_per_epoch):
    """The schedule of a stage.

    Args:
        plan: TrainingPlan.
        stage_index: index of the stage in the plan.
        steps_per_epoch: steps per epoch.
    Returns:
        PlateauSchedule or CosineSchedule.
    Raises:
        InputError: an unknown schedule, or a warm-up as long as the stage.
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
    raise InputError(f"schedule must be one of {', '.join(SCHEDULES)}. Received: {plan.schedule!r}.")


@dataclasses.dataclass
class PlateauSchedule:
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
class CosineSchedule:
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
        fall = self.learning_rate - self.learning_rate_min
        return self.learning_rate_min + fall * 0.5 * (1.0 + math.cos(math.pi * progress))

    def update(self, validation_loss):
        """Takes one epoch's validation loss, and ignores it."""


def _warmup_factor(step, warmup_steps):
    """Rises linearly from 1 / warmup_steps at step 0 to 1 at the last step of the warm-up, and stays there."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
