"""A step of an LSTM, which CNN-RNN's path of labels and RLSD's regions share. Gates: in, forget, candidate, out."""

import tensorflow as tf


def lstm_step(x, h, c, kernel, recurrent_kernel, bias):
    """One step: Hochreiter and Schmidhuber, Neural Computation 1997, with the forget gate of Gers et al., 2000.

    i, f and o are sigmoid(W x + V h + b), g = tanh(W x + V h + b), c' = f c + i g and h' = o tanh(c').

    Args:
        x: float32 (..., E).
        h, c: float32 (..., H), hidden state and cell.
        kernel, recurrent_kernel, bias: (E, 4 H), (H, 4 H) and (4 H,), of i, f, g and o side by side, as Keras has them.
    Returns:
        (h', c'), float32 (..., H) each.
    """
    i, f, g, o = tf.split(product(x, kernel) + product(h, recurrent_kernel) + bias, 4, axis=-1)
    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
    return tf.sigmoid(o) * tf.tanh(c), c


def relu_step(x, c, kernel, recurrent_kernel):
    """One step with the equations of CNN-RNN's text: Wang et al., CVPR 2016, section 3.1.

    i, f, g and o are ReLU(W x + V c), c' = f c + i g and h' = o c': gates read the cell, and there are no biases. The
    paper calls the cell r, the candidate x, the gate out u and the hidden state o.

    Args: as those of `lstm_step`.
    Returns:
        (h', c'), float32 (..., H) each.
    """
    i, f, g, o = tf.split(tf.nn.relu(product(x, kernel) + product(c, recurrent_kernel)), 4, axis=-1)
    c = f * c + i * g
    return o * c, c


def forget_gate_open(shape, dtype=None):
    """First biases (4 H,): 1 for the forget gate, else 0 (Jozefowicz et al., ICML 2015)."""
    return tf.repeat(tf.constant([0.0, 1.0, 0.0, 0.0], dtype), shape[0] // 4)


def product(x, kernel):
    """x (..., D) times (D, D') -> (..., D'): one product of matrices."""
    if len(x.shape) == 2:
        return x @ kernel
    flat = tf.reshape(x, [-1, x.shape[-1]]) @ kernel
    return tf.reshape(flat, [-1, *x.shape[1:-1], kernel.shape[1]])
