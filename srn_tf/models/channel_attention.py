"""Channel-wise attention of queries over the places of a map, as MSRN has it, in the memory of one query.

For a map V (B, P, D) of P places and queries q (R, D), each channel j has a softmax over places of its own:

    w[b, p, r, j] = softmax over p of V[b, p, j] q[r, j];   A[b, r, j] = sum over p of w[b, p, r, j] V[b, p, j].

w has P * R * D values for each image: at 448 pixels with 80 labels 128 MiB, of which plain differentiation keeps
several. So the queries follow one another, and the gradient computes w again:

    dA/dV[p] = w[p] (1 + q (V[p] - A));   dA/dq = sum over p of w[p] V[p] (V[p] - A).
"""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="srn_tf")
class ChannelAttention(keras.layers.Layer):
    """What each query finds in a map, channel by channel; the same for every query at a place would be its mean.

    Source: Che et al., MSRN (arXiv 2106.11596), as in its authors' code (chehao2628/MSRN, models.py).

    Call: V (B, H, W, D), queries (R, D) without a batch axis -> float32 (B, R, D).
    """

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, inputs, training=None):
        V, queries = inputs
        # The gradient is declared in training alone: a graph that only answers is stored without it.
        found = (_attend_and_recompute if training else _attend)(_places_last(V), queries)  # (R, B, D)
        return tf.reshape(tf.transpose(found, [1, 0, 2]), [-1, *queries.shape])


@keras.saving.register_keras_serializable(package="srn_tf")
class ChannelAttentionMaps(keras.layers.Layer):
    """How much the channels of each query look at each place, as a mean over channels.

    Call: V (B, H, W, D), queries (R, D) without a batch axis -> float32 (B, H, W, R), each sums to 1 over (H, W).
    """

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, inputs):
        V, queries = inputs
        places = _places_last(V)
        of_one = (tf.shape(places)[0], places.shape[2])
        looked = _for_each_query(lambda q: tf.reduce_mean(_weights(places, q), axis=1), queries, of_one)  # (R, B, P)
        return tf.reshape(tf.transpose(looked, [1, 2, 0]), [-1, *V.shape[1:3], queries.shape[0]])


def _places_last(V):
    """(B, H, W, D) -> (B, D, P): softmax and sums run over the last axis."""
    return tf.transpose(tf.reshape(V, [-1, V.shape[1] * V.shape[2], V.shape[3]]), [0, 2, 1])


def _weights(V, q):
    """V (B, D, P), q (D,) -> w (B, D, P), each channel sums to 1 over places."""
    return tf.nn.softmax(V * q[:, None], axis=-1)


def _for_each_query(function, queries, of_one):
    """One query after the other: (D,) -> a matrix of the shape `of_one`, all of them float32 (R, *of_one).

    The matrices are added at their places, since not every format of exports knows the lists that loops can fill.
    """
    count = queries.shape[0]
    start = (0, tf.zeros([count, *of_one], queries.dtype))

    def add(r, found):
        return r + 1, found + _place(r, count)[..., None] * function(tf.gather(queries, r))

    # One iteration at a time: several would take memory side by side.
    return tf.while_loop(lambda r, _: r < count, add, start, parallel_iterations=1)[1]


def _place(r, count):
    """float32 (R, 1): 1 at r, else 0."""
    return tf.one_hot(r, count)[:, None]


def _attend(V, queries):
    """V (B, D, P), queries (R, D) -> A (R, B, D)."""
    of_one = (tf.shape(V)[0], V.shape[1])
    return _for_each_query(lambda q: tf.reduce_sum(_weights(V, q) * V, axis=-1), queries, of_one)


@tf.custom_gradient
def _attend_and_recompute(V, queries):
    """`_attend` with a gradient that keeps V, the queries and A alone."""
    A, count = _attend(V, queries), queries.shape[0]

    def gradient(of_A):
        def add(r, of_V, of_queries):
            q, found, upstream = (tf.gather(values, r) for values in (queries, A[..., None], of_A[..., None]))
            weighted = upstream * _weights(V, q)
            off = V - found
            of_query = tf.reduce_sum(weighted * V * off, axis=[0, 2])
            return r + 1, of_V + weighted * (1.0 + q[:, None] * off), of_queries + _place(r, count) * of_query

        start = (0, tf.zeros_like(V), tf.zeros_like(queries))
        return tf.while_loop(lambda r, *_: r < count, add, start, parallel_iterations=1)[1:]

    return A, gradient
