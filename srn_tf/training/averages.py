"""Exponential moving average of the weights, BatchNorm statistics included."""

import contextlib

import tensorflow as tf


class WeightAverage:
    """Keeps average = d * average + (1 - d) * weight, with d = min(decay, (1 + n) / (10 + n)) at update n.

    The ramp lets a short stage forget its start (as in tf.train.ExponentialMovingAverage).

    Args:
        weights: list of tf.Variable.
        decay: float in (0, 1).
    """

    def __init__(self, weights, decay):
        self._weights = list(weights)
        self._decay = decay
        self.updates = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.averages = [tf.Variable(weight.value(), trainable=False) for weight in self._weights]

    def update(self):
        """One update; call it after every step, outside the replicas."""
        n = tf.cast(self.updates, tf.float32)
        decay = tf.minimum(self._decay, (1.0 + n) / (10.0 + n))
        for average, weight in zip(self.averages, self._weights):
            average.assign(decay * average + (1.0 - decay) * weight)
        self.updates.assign_add(1)

    @contextlib.contextmanager
    def swapped_in(self):
        """Within this context the weights hold their averages; afterwards they are what they were."""
        kept = [weight.numpy() for weight in self._weights]
        for weight, average in zip(self._weights, self.averages):
            weight.assign(average.numpy())
        try:
            yield
        finally:
            for weight, value in zip(self._weights, kept):
                weight.assign(value)
