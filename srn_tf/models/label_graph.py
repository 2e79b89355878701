"""Graphs of labels: which labels come together, and layers in which a label learns from those it is joined to.

Where a tensor has no batch axis here, its labels are the same for every image.
"""

import keras
import numpy as np
import tensorflow as tf

_NO_EDGE = -1e12  # a score so low that the softmax gives it nothing
_OF_OTHERS = 0.25  # what a label's neighbours weigh together beside its own 1, as in ML-GCN's code


def word_vectors(labels):
    """What a method starts from that learns the vectors of its labels where there are none.

    Args:
        labels: labels.LabelSpace.
    Returns:
        float (C, E), its word vectors. Without them a unit vector for each label, E = C, which makes the linear layer
        that reads it the table that is learned.
    """
    return np.eye(len(labels)) if labels.embeddings is None else labels.embeddings


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


def adjacency_of(cooccurrence, threshold):
    """How much each label learns from which, normalised: D^-1/2 A^T D^-1/2.

    A^T is `edges_of` with 1 on the diagonal and 0.25 in all in the rest of a row that has edges; D has the sums of A's
    rows, which are A^T's columns, on its diagonal.

    Source: Chen et al., CVPR 2019, Eq. (7) and (8). As in its authors' code, the weight of the label itself is 1, where
    Eq. (8) has 1 - p, and A is transposed.

    Args:
        cooccurrence, threshold: as of `edges_of`.
    Returns:
        float64 (C, C), row i for what label i learns from column j.
    """
    others = edges_of(cooccurrence, threshold) & ~np.eye(len(cooccurrence), dtype=bool)
    A = _OF_OTHERS * others / (others.sum(axis=1, keepdims=True) + 1e-6) + np.eye(len(others))  # A^T
    scale = A.sum(axis=0) ** -0.5
    return scale[:, None] * A * scale


@keras.saving.register_keras_serializable(package="srn_tf")
class GraphConvolution(keras.layers.Layer):
    """What each label becomes as a weighted sum of the labels it learns from: A (X W), without a bias.

    Source: Kipf, Welling: Semi-Supervised Classification with Graph Convolutional Networks, ICLR 2017, Eq. (2), without
    its non-linearity. W starts uniform in +-1 / sqrt(D'), as in ML-GCN's code.

    Args:
        channels: D' of the result.

    Call: X (C, D), A (C, C) -> float32 (C, D').
    """

    def __init__(self, channels, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.channels = channels

    def build(self, input_shape):
        (_, width), _ = input_shape
        limit = self.channels**-0.5
        initializer = keras.initializers.RandomUniform(-limit, limit)
        self.kernel = self.add_weight(name="kernel", shape=(width, self.channels), initializer=initializer)
        super().build(input_shape)

    def call(self, inputs):
        X, A = inputs
        return A @ (X @ tf.convert_to_tensor(self.kernel))

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable(package="srn_tf")
class LabelProducts(keras.layers.Layer):
    """A linear layer whose weights are given, one vector per label: features (B, D), Z (C, D) -> float32 (B, C)."""

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, inputs):
        features, Z = inputs
        return tf.matmul(features, Z, transpose_b=True)


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
    """What the labels of each group sum to, by their shares in it.

    Call: shares (..., C, K), Z (..., C, D) -> float32 (..., K, D).

    Source: Ying et al., "Hierarchical Graph Representation Learning with Differentiable Pooling", NeurIPS 2018,
    Eq. (3).
    """

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, inputs):
        shares, Z = inputs
        return tf.matmul(shares, Z, transpose_a=True)
