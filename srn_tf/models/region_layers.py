"""The layers of RLSD behind its regions: their features, the sequence of labels of each, the best of all regions.

Axes: B batch, R regions, G side of a region's grid, E width of the embedding, h width of the LSTM, C labels.
"""

import keras
import tensorflow as tf

from srn_tf.models import boxes as geometry


@keras.saving.register_keras_serializable(package="srn_tf")
class RegionSamples(keras.layers.Layer):
    """What a map holds in each region, see `boxes.sample`.

    Args:
        side: G.

    Call: map (B, H, W, D), boxes float32 (B, R, 4) -> (B, R, G * G * D).
    """

    def __init__(self, side, **kwargs):
        super().__init__(autocast=False, **kwargs)  # places are not rounded with the features
        self.side = side

    def call(self, inputs):
        features, boxes = inputs
        samples = geometry.sample(tf.cast(features, self.compute_dtype), tf.cast(boxes, tf.float32), self.side)
        return tf.reshape(samples, [-1, boxes.shape[1], self.side**2 * features.shape[3]])

    def get_config(self):
        return {**super().get_config(), "side": self.side}


@keras.saving.register_keras_serializable(package="srn_tf")
class LabelSequence(keras.layers.Layer):
    """An LSTM that names labels of a region one after the other, each as a distribution over all of them.

    It reads the region, then a learned START, then at each step the mean of the labels' embeddings under the last
    step's distribution. A label's score is the best of its logits over the steps. No order of labels is asked for.

    Args:
        num_labels: C.
        width: h.
        num_steps: T, at least 2: the first step reads no embedding.

    Call: float32 (B, R, E) -> logits float32 (B, R, C).
    """

    def __init__(self, num_labels, width, num_steps, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        if num_steps < 2:
            raise ValueError(f"num_steps must be at least 2. Received: {num_steps}.")
        self.num_labels, self.width, self.num_steps = num_labels, width, num_steps

    def build(self, input_shape):
        embedding = input_shape[-1]

        def weight(name, shape, initializer):
            return self.add_weight(name=name, shape=shape, initializer=initializer)

        small = keras.initializers.RandomNormal(stddev=0.1)
        self.start = weight("start", (embedding,), small)
        self.embeddings = weight("embeddings", (self.num_labels, embedding), small)
        self.kernel = weight("kernel", (embedding, 4 * self.width), "glorot_uniform")
        self.recurrent_kernel = weight("recurrent_kernel", (self.width, 4 * self.width), "orthogonal")
        self.bias = weight("bias", (4 * self.width,), _forget_gate_open)
        self.label_kernel = weight("label_kernel", (self.width, self.num_labels), "glorot_uniform")
        self.label_bias = weight("label_bias", (self.num_labels,), "zeros")
        super().build(input_shape)

    def call(self, x):
        lstm = [tf.convert_to_tensor(weight) for weight in (self.kernel, self.recurrent_kernel, self.bias)]
        embeddings = tf.convert_to_tensor(self.embeddings)
        num_regions = x.shape[1]
        x = tf.reshape(x, [-1, x.shape[2]])
        h = c = tf.zeros([tf.shape(x)[0], self.width])
        h, c = lstm_step(x, h, c, *lstm)
        x = tf.tile(tf.convert_to_tensor(self.start)[None], [tf.shape(x)[0], 1])
        best = None
        for step in range(self.num_steps):
            h, c = lstm_step(x, h, c, *lstm)
            logits = h @ tf.convert_to_tensor(self.label_kernel) + tf.convert_to_tensor(self.label_bias)
            best = logits if best is None else tf.maximum(best, logits)
            if step < self.num_steps - 1:
                x = tf.nn.softmax(logits) @ embeddings
        return tf.reshape(best, [-1, num_regions, self.num_labels])

    def get_config(self):
        own = {"num_labels": self.num_labels, "width": self.width, "num_steps": self.num_steps}
        return {**super().get_config(), **own}


def _forget_gate_open(shape, dtype=None):
    """Jozefowicz et al., "An empirical exploration of recurrent network architectures", ICML 2015: 1, others 0."""
    width = shape[0] // 4
    return tf.concat([tf.zeros([width], dtype), tf.ones([width], dtype), tf.zeros([2 * width], dtype)], axis=0)


def lstm_step(x, h, c, kernel, recurrent_kernel, bias):
    """One step of an LSTM: Hochreiter and Schmidhuber, Neural Computation 1997, with the forget gate of Gers et al.

    Args:
        x: float32 (N, E).
        h, c: float32 (N, h), hidden state and cell.
        kernel, recurrent_kernel, bias: (E, 4h), (h, 4h) and (4h,): gates in, forget, candidate and out, side by side.
    Returns:
        (h, c) of the next step.
    """
    gates = tf.split(x @ kernel + h @ recurrent_kernel + bias, 4, axis=1)
    let_in, keep, candidate, let_out = (
        tf.sigmoid(gates[0]),
        tf.sigmoid(gates[1]),
        tf.tanh(gates[2]),
        tf.sigmoid(gates[3]),
    )
    c = keep * c + let_in * candidate
    return let_out * tf.tanh(c), c


@keras.saving.register_keras_serializable(package="srn_tf")
class MaxOverRegions(keras.layers.Layer):
    """Category-wise max pooling: scores (B, R, C), is_region bool (B, R), one at least -> float32 (B, C)."""

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, inputs):
        scores, is_region = inputs
        return tf.reduce_max(tf.where(is_region[..., None], scores, -float("inf")), axis=1)


@keras.saving.register_keras_serializable(package="srn_tf")
class RegionProbabilities(keras.layers.Layer):
    """Logits (B, R, C), is_region bool (B, R) -> probabilities float32 (B, R, C), 0 where there is no region."""

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, inputs):
        logits, is_region = inputs
        return tf.where(is_region[..., None], tf.sigmoid(logits), 0.0)
