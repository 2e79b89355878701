"""Layers for tokens of images and labels, see `transformer`; registered so that a saved model loads without code."""

import keras
import numpy as np
import tensorflow as tf


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
