"""Class-specific residual attention over the places of a map: the layers of CSRA, written from its formulas.

Zhu, Wu: Residual Attention: A Simple but Effective Method for Multi-Label Recognition, ICCV 2021 (arXiv 2108.02456).
Axes: N = H W places, K heads. A temperature is a number, or None for an infinite one: the softmax is then a maximum.
"""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="srn_tf")
class NormedScores(keras.layers.Layer):
    """How much each place looks like each label, by weights of length 1 and without a bias: s = (w / |w|) . x.

    The length of w changes no score; it only divides the gradient. At first w is uniform in +-1 / sqrt(D).

    Args:
        num_heads, num_labels: K and C; each head has weights of its own.

    Call: (B, H, W, D) -> float32 (B, N, K, C).
    """

    def __init__(self, num_heads, num_labels, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.num_heads, self.num_labels = num_heads, num_labels

    def build(self, input_shape):
        channels = input_shape[-1]
        limit = channels**-0.5
        self.kernel = self.add_weight(
            name="kernel",
            shape=(channels, self.num_heads, self.num_labels),
            initializer=keras.initializers.RandomUniform(-limit, limit),
        )
        super().build(input_shape)

    def call(self, x):
        channels, count = x.shape[-1], self.num_heads * self.num_labels
        kernel = tf.reshape(tf.convert_to_tensor(self.kernel), [channels, count])
        kernel = kernel / tf.sqrt(tf.reduce_sum(kernel**2, axis=0))
        scores = tf.reshape(x, [-1, channels]) @ kernel
        return tf.reshape(scores, [-1, x.shape[1] * x.shape[2], self.num_heads, self.num_labels])

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads, "num_labels": self.num_labels}


@keras.saving.register_keras_serializable(package="srn_tf")
class ResidualAttention(keras.layers.Layer):
    """The mean score over places plus lambda times what attention finds, summed over heads.

    A head of temperature T has softmax(T s) over places as its attention, and finds the sum of attention times s.

    Args:
        temperatures: K numbers, or None for an infinite one, whose head finds the highest score.
        factor: lambda, >= 0.

    Call: s (B, N, K, C) -> logits float32 (B, C).
    """

    def __init__(self, temperatures, factor, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.temperatures, self.factor = tuple(temperatures), factor

    def call(self, scores):
        logits = tf.reduce_sum(tf.reduce_mean(scores, axis=1), axis=1)  # mean over places, sum over heads
        for s, temperature in zip(tf.unstack(scores, axis=2), self.temperatures, strict=True):  # s (B, N, C)
            if temperature is None:
                found = tf.reduce_max(s, axis=1)
            else:
                found = tf.reduce_sum(tf.nn.softmax(temperature * s, axis=1) * s, axis=1)
            logits += self.factor * found
        return logits

    def get_config(self):
        return {**super().get_config(), "temperatures": self.temperatures, "factor": self.factor}


@keras.saving.register_keras_serializable(package="srn_tf")
class ResidualAttentionMaps(keras.layers.Layer):
    """Where the heads of finite temperature look: the mean of their attention.

    Args:
        grid: (H, W) of the places, row by row.
        temperatures: as of `ResidualAttention`; at least one is finite.

    Call: s (B, N, K, C) -> float32 (B, H, W, C), each label sums to 1 over (H, W).
    """

    def __init__(self, grid, temperatures, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.grid, self.temperatures = tuple(grid), tuple(temperatures)

    def call(self, scores):
        heads = zip(tf.unstack(scores, axis=2), self.temperatures, strict=True)
        attention = [tf.nn.softmax(temperature * s, axis=1) for s, temperature in heads if temperature is not None]
        return tf.reshape(tf.add_n(attention) / len(attention), [-1, *self.grid, scores.shape[-1]])

    def get_config(self):
        return {**super().get_config(), "grid": self.grid, "temperatures": self.temperatures}
