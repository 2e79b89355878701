"""A step of an LSTM against Keras' own, and the one of CNN-RNN's text worked out by hand."""

import keras
import numpy as np
import tensorflow as tf

from srn_tf.models.lstm import lstm_step, relu_step


def test_a_step_is_kerass():
    rng = np.random.default_rng(1)
    cell = keras.layers.LSTMCell(3)
    cell.build((None, 2))
    cell.set_weights([rng.normal(size=weight.shape).astype(np.float32) for weight in cell.weights])
    x, h, c = (rng.normal(size=(4, size)).astype(np.float32) for size in (2, 3, 3))
    _, expected = cell(tf.constant(x), [tf.constant(h), tf.constant(c)])
    for received, other in zip(lstm_step(x, h, c, *cell.get_weights()), expected, strict=True):
        np.testing.assert_allclose(received, other, rtol=1e-4, atol=1e-6)
    # Paths of an image side by side: one axis more.
    received = lstm_step(x.reshape(2, 2, 2), h.reshape(2, 2, 3), c.reshape(2, 2, 3), *cell.get_weights())
    np.testing.assert_allclose(tf.reshape(received[0], [4, 3]), expected[0], rtol=1e-4, atol=1e-6)


def test_a_step_with_relus():
    """x = (1, 2), c = 3: i = 1 + 3, f = 2 - 3 below 0, g = 1 + 2, o = 2 * 3; the cell was forgotten."""
    kernel = tf.constant([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0]])
    recurrent = tf.constant([[1.0, -1.0, 0.0, 2.0]])
    h, c = relu_step(tf.constant([[1.0, 2.0]]), tf.constant([[3.0]]), kernel, recurrent)
    assert c.numpy().tolist() == [[4.0 * 3.0]] and h.numpy().tolist() == [[6.0 * 12.0]]
