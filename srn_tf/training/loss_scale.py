"""The factor of the loss that keeps float16 gradients in float16's range."""

import tensorflow as tf

START = 2.0**15
STEPS_BEFORE_DOUBLING = 2000


class LossScale:
    """Halves when a gradient was not finite, doubles after 2000 steps that were; never below 1.

    Source: Micikevicius et al., "Mixed precision training", ICLR 2018, section 3.2; the numbers are those of Keras.
    All methods belong outside the replicas. Make it in the strategy's scope.

    Attributes:
        value: float32 scalar variable, a power of two.
        finite_steps: int64 scalar variable, since the last change.
    """

    def __init__(self):
        self.value = tf.Variable(START, trainable=False, name="loss_scale")
        self.finite_steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="loss_scale_finite_steps")

    @property
    def state(self):
        """dict: stable name -> tf.Variable."""
        return {"loss_scale": self.value, "loss_scale_finite_steps": self.finite_steps}

    def count_finite(self):
        """Takes note of a step whose gradient was finite."""
        is_due = self.finite_steps + 1 >= STEPS_BEFORE_DOUBLING
        self.value.assign(tf.where(is_due, 2.0 * self.value, self.value))
        self.finite_steps.assign(tf.where(is_due, tf.constant(0, tf.int64), self.finite_steps + 1))

    def reduce(self):
        """Takes note of a step whose gradient was not finite."""
        self.value.assign(tf.maximum(self.value / 2.0, 1.0))
        self.finite_steps.assign(0)
