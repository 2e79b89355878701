"""The layers of RLSD behind its regions: their features, the sequence of labels of each, the best of all regions.

Axes: B batch, R regions, G side of a region's grid, E width of the embedding, h width of the LSTM, C labels.
"""

import math

import keras
import tensorflow as tf

from srn_tf.models import boxes as geometry
from srn_tf.models.lstm import forget_gate_open, lstm_step


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


class _RegionLSTM(keras.layers.Layer):
    """An LSTM that reads a region, then a learned START, then at each step what its last answer stands for.

    Args:
        num_labels: C.
        width: h.
        num_steps: T, answers of a region; at least 2, since the first reads no embedding.

    Attributes:
        num_answers: what it answers among: the labels, and perhaps END behind them.
        first_label_bias: initializer of the biases of these answers.
    """

    first_label_bias = "zeros"

    def __init__(self, num_labels, width, num_steps, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        if num_steps < 2:
            raise ValueError(f"num_steps must be at least 2. Received: {num_steps}.")
        self.num_labels, self.width, self.num_steps = num_labels, width, num_steps
        self.num_answers = num_labels

    def _build_for(self, embedding):
        """Makes the weights, for regions of E = `embedding` numbers."""

        def weight(name, shape, initializer):
            return self.add_weight(name=name, shape=shape, initializer=initializer)

        def small():
            return keras.initializers.RandomNormal(stddev=0.1)

        self.start = weight("start", (embedding,), small())
        self.embeddings = weight("embeddings", (self.num_labels, embedding), small())
        self.kernel = weight("kernel", (embedding, 4 * self.width), "glorot_uniform")
        self.recurrent_kernel = weight("recurrent_kernel", (self.width, 4 * self.width), "orthogonal")
        self.bias = weight("bias", (4 * self.width,), forget_gate_open)
        self.label_kernel = weight("label_kernel", (self.width, self.num_answers), "glorot_uniform")
        self.label_bias = weight("label_bias", (self.num_answers,), self.first_label_bias)

    def _begin(self, regions):
        """State and first answer: (B, R, E) -> what `_step` gives, with N = B * R."""
        x = tf.reshape(regions, [-1, regions.shape[2]])
        h = c = tf.zeros([tf.shape(x)[0], self.width])
        h, c, _ = self._step(x, h, c)
        return self._step(tf.tile(tf.convert_to_tensor(self.start)[None], [tf.shape(x)[0], 1]), h, c)

    def _step(self, x, h, c):
        """float32 (N, E), (N, h) twice -> the next h and c, and logits (N, answers)."""
        h, c = lstm_step(x, h, c, *map(tf.convert_to_tensor, (self.kernel, self.recurrent_kernel, self.bias)))
        return h, c, h @ tf.convert_to_tensor(self.label_kernel) + tf.convert_to_tensor(self.label_bias)

    def get_config(self):
        own = {"num_labels": self.num_labels, "width": self.width, "num_steps": self.num_steps}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="srn_tf")
class LabelSequence(_RegionLSTM):
    """Names labels of a region one after the other, each as a distribution over all of them.

    A step reads the mean of the labels' embeddings under the last step's distribution. A label's score is the best of
    its logits over the steps. No order of labels is asked for. The highest of R T logits is far above their mean, and
    most labels are absent: first biases that say so, as those of RetinaNet (Lin et al., ICCV 2017, section 4.1, 1 %),
    keep the first steps from driving every unit in one direction, where the LSTM's gates no longer move.

    Args: see `_RegionLSTM`.

    Call: float32 (B, R, E) -> logits float32 (B, R, C).
    """

    first_label_bias = keras.initializers.Constant(-math.log(99.0))

    def build(self, input_shape):
        self._build_for(input_shape[-1])
        super().build(input_shape)

    def call(self, x):
        h, c, logits = self._begin(x)
        best = logits
        for _ in range(self.num_steps - 1):
            h, c, logits = self._step(tf.nn.softmax(logits) @ tf.convert_to_tensor(self.embeddings), h, c)
            best = tf.maximum(best, logits)
        return tf.reshape(best, [-1, x.shape[1], self.num_labels])


@keras.saving.register_keras_serializable(package="srn_tf")
class OrderedLabelSequence(_RegionLSTM):
    """Names an image's labels one after the other and then END, the surest region at each step for all of them.

    At each step a label's probability is the highest that a region gives it. The likeliest answer that was not given
    yet is the next one, and every region reads its embedding. A label's score is its highest probability before END.

    Args: see `_RegionLSTM`.

    Call: regions float32 (B, R, E), is_region bool (B, R) -> logits float32 (B, R, C), of each region's own highest
    probability. With the true labels of an image as path, int32 (B, T') with T' <= T, see `label_path.TruePath` ->
    float32 (B,), minus the mean log-likelihood of its labels and END, where every region reads the right ones before.
    """

    def __init__(self, num_labels, width, num_steps, **kwargs):
        super().__init__(num_labels, width, num_steps, **kwargs)
        self.num_answers = num_labels + 1

    def build(self, input_shape):
        self._build_for(input_shape[0][-1])
        super().build(input_shape)

    def call(self, inputs, path=None):
        return self.search(*inputs) if path is None else self.sequence_loss(*inputs, path)

    def search(self, regions, is_region):
        """Arguments and result as of the call."""
        best, is_given, is_over = 0.0, False, False
        h, c, logits = self._begin(regions)
        for step in range(self.num_steps):
            p = tf.exp(self._log_probabilities(logits, is_region))  # (B, R, C + 1)
            best = tf.maximum(best, tf.where(is_over, 0.0, p[..., :-1]))
            chosen = tf.argmax(tf.where(is_given, -1.0, tf.reduce_max(p, axis=1)), axis=1)  # (B,)
            is_over |= (chosen == self.num_labels)[:, None, None]
            is_given |= tf.one_hot(chosen, self.num_answers, True, False, dtype=tf.bool)
            if step < self.num_steps - 1:
                h, c, logits = self._read(chosen, regions.shape[1], h, c)
        best = tf.clip_by_value(best, 1e-6, 1.0 - 1e-6)
        return tf.math.log(best) - tf.math.log1p(-best)

    def sequence_loss(self, regions, is_region, path):
        """Arguments and result as of the call."""
        num_labels, num_steps = self.num_labels, self.num_steps
        targets = tf.pad(path, [[0, 0], [0, num_steps - path.shape[1]]], constant_values=num_labels)
        lengths = tf.math.count_nonzero(path < num_labels, axis=1, dtype=tf.int32) + 1  # with END, if there is room
        counted = tf.sequence_mask(tf.minimum(lengths, num_steps), num_steps, tf.float32)
        found = []
        h, c, logits = self._begin(regions)
        for step in range(num_steps):
            best = tf.reduce_max(self._log_probabilities(logits, is_region), axis=1)
            found.append(tf.gather(best, targets[:, step], batch_dims=1))
            if step < num_steps - 1:
                h, c, logits = self._read(targets[:, step], regions.shape[1], h, c)
        return -tf.reduce_sum(tf.stack(found, axis=1) * counted, axis=1) / tf.reduce_sum(counted, axis=1)

    def _read(self, answers, num_regions, h, c):
        """A step in which all R regions of an image read its answer, int (B,), nothing for END; see `_step`."""
        # Not gathered, so that the gradient is a tensor.
        x = tf.one_hot(answers, self.num_labels) @ tf.convert_to_tensor(self.embeddings)
        return self._step(tf.repeat(x, num_regions, axis=0), h, c)

    def _log_probabilities(self, logits, is_region):
        """(B * R, C + 1) logits -> (B, R, C + 1), minus infinity where there is no region."""
        logits = tf.reshape(logits, [-1, is_region.shape[1], self.num_answers])
        return tf.where(is_region[..., None], tf.nn.log_softmax(logits), -float("inf"))


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
