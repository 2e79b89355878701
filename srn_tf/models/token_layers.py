"""Layers for tokens of images and labels, see `transformer`; registered so that a saved model loads without code."""

import keras
import numpy as np
import tensorflow as tf

from srn_tf.models.layers import DrawingLayer

UNKNOWN, ABSENT = -1.0, 0.0
"""What may be known of a label in an image, its state; any other number says that it is present."""


@keras.saving.register_keras_serializable(package="srn_tf")
class AddSinePositions(keras.layers.Layer):
    """Adds to each token of a map where it is, see `sine_positions`.

    Args:
        grid: (H, W) of the tokens, row by row.

    Call: (B, H * W, D) -> the same shape and dtype; D is a multiple of 4.
    """

    def __init__(self, grid, **kwargs):
        super().__init__(**kwargs)
        self.grid = tuple(grid)

    def call(self, tokens):
        return tokens + tf.constant(sine_positions(*self.grid, tokens.shape[-1]), tokens.dtype)

    def get_config(self):
        return {**super().get_config(), "grid": self.grid}


def sine_positions(height, width, channels):
    """Places on a grid as sines and cosines of several periods.

    Source: Carion et al., "End-to-end object detection with transformers" (DETR), ECCV 2020, with coordinates
    normalized to 2 pi. The first half of the channels is of the row, the second of the column; even channels are sines,
    odd ones cosines.

    Args:
        height, width: of the grid.
        channels: D, a multiple of 4.
    Returns:
        float32 (height * width, D), in [-1, 1].
    """
    half = channels // 2
    channel = np.arange(half)
    periods = 10_000.0 ** (2 * (channel // 2) / half)

    def along(size):
        angles = 2 * np.pi * np.arange(1, size + 1)[:, None] / (size + 1e-6) / periods
        return np.where(channel % 2 == 0, np.sin(angles), np.cos(angles))

    rows = np.broadcast_to(along(height)[:, None], (height, width, half))
    columns = np.broadcast_to(along(width)[None], (height, width, half))
    return np.concatenate([rows, columns], axis=2).reshape(height * width, channels).astype(np.float32)


@keras.saving.register_keras_serializable(package="srn_tf")
class AllUnknown(keras.layers.Layer):
    """The states of labels of which nothing is known: any (B, ...), for B alone -> float32 (B, C) of -1.

    Args:
        num_labels: C.
    """

    def __init__(self, num_labels, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.num_labels = num_labels

    def call(self, x):
        return tf.fill([tf.shape(x)[0], self.num_labels], UNKNOWN)

    def get_config(self):
        return {**super().get_config(), "num_labels": self.num_labels}


@keras.saving.register_keras_serializable(package="srn_tf")
class LabelMask(DrawingLayer):
    """Hides most labels of an image in training, so that a model learns to infer them from the others.

    For each image a number n is drawn from 0, 1, ..., floor(share * C), each as likely as the others, and then n of its
    labels. They stay, all others become unknown. Outside of training it hides nothing. Frozen, it hides all of them in
    training.

    Source: Lanchantin, Wang, Ordonez, Qi, "General multi-label image classification with transformers", CVPR 2021,
    section 3.3, label mask training.

    Args:
        share: of the labels that may be known.

    Call: states (B, C), 1 present, 0 absent, -1 unknown -> float32 (B, C), likewise.
    """

    def __init__(self, share, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.share = share

    def call(self, states, training=None):
        if not training:
            return states
        if not self.trainable:
            return tf.fill(tf.shape(states), UNKNOWN)
        num_images, num_labels = tf.shape(states)[0], states.shape[1]
        seed = self.next_seed()
        number_seed, label_seed = (tf.random.experimental.stateless_fold_in(seed, place) for place in (0, 1))
        most = int(self.share * num_labels)
        numbers = tf.random.stateless_uniform([num_images, 1], number_seed, maxval=most + 1, dtype=tf.int32)
        order = tf.argsort(tf.random.stateless_uniform([num_images, num_labels], label_seed), axis=1)
        ranks = tf.argsort(order, axis=1)  # of each label in the order drawn
        return tf.where(ranks < numbers, states, UNKNOWN)

    def get_config(self):
        return {**super().get_config(), "share": self.share}


@keras.saving.register_keras_serializable(package="srn_tf")
class IsUnknown(keras.layers.Layer):
    """Which labels are unknown: states (B, C), see `LabelMask` -> float32 (B, C), 1 where they are, else 0."""

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, states):
        return tf.cast(states == UNKNOWN, tf.float32)


@keras.saving.register_keras_serializable(package="srn_tf")
class LabelTokens(keras.layers.Layer):
    """A learned vector for each label, plus one for its state.

    The vector of the unknown state is random and stays so: the labels' own vectors can take up any other.

    Args:
        num_labels, channels: C and D.

    Call: states (B, C), see `LabelMask` -> (B, C, D).
    """

    def __init__(self, num_labels, channels, **kwargs):
        super().__init__(**kwargs)
        self.num_labels, self.channels = num_labels, channels

    def build(self, input_shape):
        limit = 1.0 / self.channels**0.5

        def vectors(name, count, is_learned=True):
            initializer = keras.initializers.RandomUniform(-limit, limit)
            shape = (count, self.channels)
            return self.add_weight(name=name, shape=shape, initializer=initializer, trainable=is_learned)

        self.of_labels = vectors("labels", self.num_labels)
        self.of_known = vectors("known", 2)
        self.of_unknown = vectors("unknown", 1, is_learned=False)
        super().build(input_shape)

    def call(self, states):
        of_labels, of_known, of_unknown = (
            tf.cast(tf.convert_to_tensor(vectors), self.compute_dtype)
            for vectors in (self.of_labels, self.of_known, self.of_unknown)
        )
        states = states[:, :, None]
        of_states = tf.where(states == ABSENT, of_known[0], of_known[1])
        return of_labels + tf.where(states == UNKNOWN, of_unknown[0], of_states)

    def get_config(self):
        return {**super().get_config(), "num_labels": self.num_labels, "channels": self.channels}
