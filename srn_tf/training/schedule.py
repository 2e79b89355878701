"""The paper's learning-rate schedule."""

import dataclasses


@dataclasses.dataclass
class PlateauSchedule:
    """Divides the learning rate by ten when the validation loss saturates, and ends below a floor.

    Paper: section 3.4, "decreased to 1/10 of the previous value whenever validation loss gets
    saturated, until 1e-5". Saturated: no new minimum for `patience` epochs.

    Attributes:
        learning_rate: the current rate.
        learning_rate_min: the last rate that is still used.
        patience: epochs without a new minimum before a decrease.
        best_loss: lowest validation loss so far.
        epochs_waited: epochs since then or since the last decrease.
        is_over: the rate has fallen below the floor.
    """

    learning_rate: float
    learning_rate_min: float
    patience: int
    best_loss: float = float("inf")
    epochs_waited: int = 0
    is_over: bool = False

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
