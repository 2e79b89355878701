"""Graphs of labels: which labels come together, and layers in which a label looks at those it is joined to.

No tensor here has a batch axis: labels are the same for every image.
"""

import keras
import numpy as np
import tensorflow as tf

_NO_EDGE = -1e12  # a score so low that the softmax gives it nothing


def edges_of(cooccurrence, threshold):
    """Which label learns from which: i from j where i = j, or where i is in enough of the images of j.

    Source: Chen et al., "Multi-Label Image Recognition with Graph Convolutional Networks", CVPR 2019, Eq. (7), with
    the matrix transposed as in its authors' code.

    Args:
        cooccurrence: int (C, C), images with both labels; its diagonal is the images of each.
        threshold: lowest share of the images of j in which i must be.
    Returns:
        bool (C, C), row i and column j. A label without images has no edge but its own.
    """
    images = np.diag(cooccurrence)  # of j, along the columns
    share = cooccurrence / np.maximum(images, 1)
    return ((share >= threshold) & (images > 0)) | np.eye(len(images), dtype=bool)


@keras.saving.register_keras_serializable(package="srn_tf")
class GraphAttention(keras.layers.Layer):
    """What each label becomes by looking at the labels it is joined to, and at itself once more.

    H = X W; e_ij = LeakyReLU(a^T [H_i; H_j]); alpha_i = softmax of e_i over the edges of i; ELU(alpha H + H).

    Source: Velickovic et al., "Graph Attention Networks", ICLR 2018, Eq. (1) to (4), with one head; the second H is of
    MSRN's authors (chehao2628/MSRN, LabelEmbedding.py). A label whose only edge is its own becomes ELU(2 H_i).

    Args:
        channels: D' of the result.

    Call: X (C, D), edges (C, C), where > 0 is an edge -> float32 (C, D').
    """

    def __init__(self, channels, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.channels = channels

    def build(self, input_shape):
        (_, width), _ = input_shape
        xavier = keras.initializers.VarianceScaling(1.414**2, "fan_avg", "uniform")  # with the authors' gain of 1.414
        self.kernel = self.add_weight(name="kernel", shape=(width, self.channels), initializer=xavier)
        other = keras.initializers.VarianceScaling(1.414**2, "fan_avg", "uniform")
        self.attention = self.add_weight(name="attention", shape=(2 * self.channels, 1), initializer=other)
        super().build(input_shape)

    def call(self, inputs):
        X, edges = inputs
        H = X @ tf.convert_to_tensor(self.kernel)
        own, others = tf.split(tf.convert_to_tensor(self.attention), 2)
        scores = tf.nn.leaky_relu(H @ own + tf.transpose(H @ others), 0.2)  # (C, C)
        alpha = tf.nn.softmax(tf.where(edges > 0, scores, _NO_EDGE), axis=1)
        return tf.nn.elu(alpha @ H + H)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable(package="srn_tf")
class GroupShares(keras.layers.Layer):
    """A softmax over groups, label by label: (C, K) -> float32 (C, K). Keras' own warns where there is one group."""

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, scores):
        return tf.nn.softmax(scores, axis=1)


@keras.saving.register_keras_serializable(package="srn_tf")
class GroupSums(keras.layers.Layer):
    """What the labels of each group sum to, by their shares in it: shares (C, K), Z (C, D) -> float32 (K, D).

    Source: Ying et al., "Hierarchical Graph Representation Learning with Differentiable Pooling", NeurIPS 2018,
    Eq. (3).
    """

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, inputs):
        shares, Z = inputs
        return tf.matmul(shares, Z, transpose_a=True)
