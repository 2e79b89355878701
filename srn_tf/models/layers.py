"""The few layers that Keras lacks, registered so that a saved model loads without custom code."""

import keras
import numpy as np
import tensorflow as tf

CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
"""Mean of ImageNet's training images, blue green red, 0 to 255 (the ported ResNet v1 weights expect it)."""

IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
IMAGENET_STD_RGB = (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's training images, red green blue, 0 to 1."""


@keras.saving.register_keras_serializable(package="srn_tf")
class ScaleInput(keras.layers.Layer):
    """Scales pixels as a backbone's pre-trained weights expect it.

    It is part of the model, so that training, evaluation and export cannot differ.

    It computes in float32 under every policy and rounds only the result to the policy's type. In float16 or bfloat16,
    the pixels and their mean would be rounded first.

    Args:
        mode: "symmetric" for RGB in [-1, 1], "caffe" for BGR minus `CAFFE_MEAN_BGR`, or "torch" for RGB in [0, 1]
            minus `IMAGENET_MEAN_RGB` over `IMAGENET_STD_RGB`.

    Call: float32 (B, H, W, 3) RGB, 0 to 255 -> (B, H, W, 3) of the policy's compute type.
    """

    def __init__(self, mode, **kwargs):
        super().__init__(autocast=False, **kwargs)
        if mode not in ("symmetric", "caffe", "torch"):
            raise ValueError(f"mode must be one of symmetric, caffe, torch. Received: {mode!r}.")
        self.mode = mode

    def call(self, image):
        image = tf.cast(image, tf.float32)
        if self.mode == "symmetric":
            scaled = image / 127.5 - 1.0
        elif self.mode == "torch":
            scaled = (image / 255.0 - tf.constant(IMAGENET_MEAN_RGB)) / tf.constant(IMAGENET_STD_RGB)
        else:
            scaled = tf.reverse(image, axis=[-1]) - tf.constant(CAFFE_MEAN_BGR)
        return tf.cast(scaled, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "mode": self.mode}


@keras.saving.register_keras_serializable(package="srn_tf")
class SoftmaxOverGrid(keras.layers.Layer):
    """Softmax over the grid, label by label: float32 (B, H, W, C) -> float32 (B, H, W, C), Eq. (4)."""

    def call(self, Z):
        grid_first = tf.reshape(Z, [-1, Z.shape[1] * Z.shape[2], Z.shape[3]])  # (B, HW, C)
        return tf.reshape(tf.nn.softmax(grid_first, axis=1), [-1, *Z.shape[1:]])


@keras.saving.register_keras_serializable(package="srn_tf")
class DepthwiseOverGrid(keras.layers.DepthwiseConv2D):
    """A DepthwiseConv2D whose kernel is as large as its input: float32 (B, H, W, C) -> float32 (B, 1, 1, C * M).

    There is only one place for the kernel, so the result is, for every channel c, a product of matrices, (B, HW) by
    (HW, M). It is computed that way, because TensorFlow's convolution takes many times as long on CPUs.

    Raises:
        ValueError: kernel and input differ in size.
    """

    def build(self, input_shape):
        super().build(input_shape)
        if tuple(input_shape[1:3]) != tuple(self.kernel_size):
            raise ValueError(
                f"The kernel must be as large as the input. Expected: {tuple(input_shape[1:3])}. "
                f"Received: {tuple(self.kernel_size)}."
            )

    def call(self, x):
        height, width = self.kernel_size
        channels = x.shape[-1]
        kernel = tf.reshape(tf.convert_to_tensor(self.weights[0]), [height * width, channels, self.depth_multiplier])
        cells = tf.reshape(x, [-1, height * width, channels])
        products = tf.transpose(cells, [2, 0, 1]) @ tf.transpose(kernel, [1, 0, 2])  # (C, B, HW) @ (C, HW, M)
        y = tf.reshape(tf.transpose(products, [1, 0, 2]), [-1, 1, 1, channels * self.depth_multiplier])
        return tf.nn.bias_add(y, tf.convert_to_tensor(self.bias)) if self.use_bias else y


@keras.saving.register_keras_serializable(package="srn_tf")
class SumOverGrid(keras.layers.Layer):
    """Sum over height and width: float32 (B, H, W, C) -> float32 (B, C)."""

    def call(self, maps):
        return tf.reduce_sum(maps, axis=[1, 2])


@keras.saving.register_keras_serializable(package="srn_tf")
class WeightedMean(keras.layers.Layer):
    """alpha * first + (1 - alpha) * second, the last equation of the paper's section 3.4; also for n tensors.

    Args:
        learned: False: equal weights, as in the paper. True: learned weights, the softmax over one logit per tensor, of
            which the last is fixed at 0. So weights stay in (0, 1), and weight decay pulls them towards each other. For
            two tensors, alpha is the sigmoid of the one logit.

    Call: n >= 2 float32 (B, C) -> float32 (B, C).
    """

    def __init__(self, learned=False, **kwargs):
        super().__init__(**kwargs)
        self.learned = learned

    def build(self, input_shape):
        if self.learned:
            shape = (len(input_shape) - 1,) if len(input_shape) > 2 else ()
            self.alpha_logit = self.add_weight(name="alpha_logit", shape=shape, initializer="zeros", trainable=True)
        super().build(input_shape)

    def call(self, inputs):
        if self.learned:
            logits = tf.reshape(tf.convert_to_tensor(self.alpha_logit), [-1])
            weights = tf.unstack(tf.nn.softmax(tf.concat([logits, [0.0]], axis=0)))
        else:
            weights = [1.0 / len(inputs)] * len(inputs)
        return tf.add_n([weight * values for weight, values in zip(weights, inputs)])

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return {**super().get_config(), "learned": self.learned}


class DrawingLayer(keras.layers.Layer):
    """Base of layers that draw in training, the same in a run that continues: the state that decides is a weight.

    Keras' own layers draw from a generator outside the model, which a checkpoint does not hold.
    """

    def build(self, input_shape):
        # Counts the draws, from a random start; float32, exact up to 2^24, because it is a weight like others.
        self.draws = self.add_weight(
            name="draws",
            shape=(),
            initializer=keras.initializers.RandomUniform(0.0, 1000.0),
            trainable=False,
            dtype="float32",
        )
        super().build(input_shape)

    def next_seed(self):
        """Two integers that differ in every call and replica, as a tensor."""
        draws = tf.convert_to_tensor(self.draws)
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        seed = tf.random.experimental.stateless_fold_in(tf.stack([tf.bitcast(draws, tf.int32), 0]), replica)
        self.draws.assign(draws + 1.0)
        return seed


@keras.saving.register_keras_serializable(package="srn_tf")
class SeededDropout(DrawingLayer):
    """Dropout whose masks are the same in a run that continues. Like a BatchNorm, it does nothing if it is frozen.

    Args:
        rate: share of entries set to 0, in [0, 1); the others are divided by 1 - rate.
        is_per_image: whether the entries of an image are dropped all together (stochastic depth) or each by itself.

    Call: float (B, ...) -> the same shape and dtype.
    """

    def __init__(self, rate, is_per_image=False, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be in [0, 1). Received: {rate!r}.")
        self.rate, self.is_per_image = rate, is_per_image

    def call(self, x, training=None):
        if not training or not self.trainable or self.rate == 0:
            return x
        shape = [tf.shape(x)[0], *[1] * (x.shape.rank - 1)] if self.is_per_image else None
        return tf.nn.experimental.stateless_dropout(x, self.rate, self.next_seed(), noise_shape=shape)

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "is_per_image": self.is_per_image}


@keras.saving.register_keras_serializable(package="srn_tf")
class HeadAttention(keras.layers.Layer):
    """How much each query attends to each token, head by head: a softmax over the tokens.

    Source: Vaswani et al., "Attention is all you need", NeurIPS 2017, Eq. (1), except that `HeadMix` computes the
    products with the values.

    Args:
        num_heads: number of heads; D must be a multiple of it.

    Call: queries (B, Q, D), keys (B, N, D) -> float32 (B, num_heads, Q, N), each query of each head sums to 1.
    """

    def __init__(self, num_heads, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.num_heads = num_heads

    def call(self, inputs):
        queries, keys = (_split_heads(values, self.num_heads) for values in inputs)  # (B, heads, Q or N, D / heads)
        scores = tf.matmul(queries, keys, transpose_b=True) / queries.shape[-1] ** 0.5
        return tf.nn.softmax(scores, axis=-1)

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}


@keras.saving.register_keras_serializable(package="srn_tf")
class HeadMix(keras.layers.Layer):
    """The sum of the tokens' values, weighted by the attention of each query and head; heads are side by side.

    Call: attention (B, num_heads, Q, N), values (B, N, D) -> (B, Q, D).
    """

    def call(self, inputs):
        attention, values = inputs
        num_heads, channels = attention.shape[1], values.shape[-1]
        mixed = tf.matmul(tf.cast(attention, values.dtype), _split_heads(values, num_heads))  # (B, heads, Q, D / heads)
        return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [-1, attention.shape[2], channels])


def _split_heads(x, num_heads):
    """(B, N, D) -> (B, num_heads, N, D / num_heads)."""
    return tf.transpose(tf.reshape(x, [-1, x.shape[1], num_heads, x.shape[2] // num_heads]), [0, 2, 1, 3])


@keras.saving.register_keras_serializable(package="srn_tf")
class Vectors(keras.layers.Layer):
    """Weights that are vectors, the same for every image, such as one per label.

    Args:
        count, channels: Q and D.
        stddev: standard deviation of their normal initial values, mean 0.
        is_learned: whether they are trained.

    Call: any (B, ...), for B alone -> (B, Q, D).
    """

    def __init__(self, count, channels, stddev=1.0, is_learned=True, **kwargs):
        super().__init__(**kwargs)
        self.count, self.channels, self.stddev, self.is_learned = count, channels, stddev, is_learned

    def build(self, input_shape):
        self.vectors = self.add_weight(
            name="vectors",
            shape=(self.count, self.channels),
            initializer=keras.initializers.RandomNormal(stddev=self.stddev),
            trainable=self.is_learned,
        )
        super().build(input_shape)

    def call(self, x):
        vectors = tf.convert_to_tensor(self.vectors)
        return tf.tile(tf.cast(vectors, self.compute_dtype)[None], [tf.shape(x)[0], 1, 1])

    def get_config(self):
        own = {"count": self.count, "channels": self.channels, "stddev": self.stddev, "is_learned": self.is_learned}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="srn_tf")
class Constant(keras.layers.Layer):
    """An array that is the same for every image and is never trained, such as word vectors.

    It is a weight, so that a stored model contains its values.

    Args:
        values: array, kept as float32.

    Call: any tensor, which is ignored -> float32, of the array's shape, without a batch axis.
    """

    def __init__(self, values, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.array = np.asarray(values, np.float32)

    def build(self, input_shape):
        self.values = self.add_weight(
            name="values",
            shape=self.array.shape,
            initializer=lambda shape, dtype=None: tf.constant(self.array, dtype),
            trainable=False,
        )
        super().build(input_shape)

    def call(self, x):
        return tf.convert_to_tensor(self.values)

    def get_config(self):
        return {**super().get_config(), "values": self.array.tolist()}


@keras.saving.register_keras_serializable(package="srn_tf")
class GroupLinear(keras.layers.Layer):
    """A separate linear layer for each query, which gives the logits of a group of consecutive labels.

    Source: Ridnik et al., "ML-Decoder", WACV 2023, group fully-connected pooling. With Q = C it is one linear layer per
    label.

    Args:
        num_labels: C.
        group: labels per query; the excess of Q * group over C is cut off.
        is_uniform: first values. False: the source's, Xavier's normal kernel and a bias of 0. True: kernel and bias as
            of a linear layer in PyTorch, U(+-1 / sqrt(D)).

    Call: (B, Q, D) -> float32 (B, C).
    """

    def __init__(self, num_labels, group, is_uniform=False, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.num_labels, self.group, self.is_uniform = num_labels, group, is_uniform

    def build(self, input_shape):
        _, queries, channels = input_shape
        if self.is_uniform:
            limit = 1.0 / channels**0.5
            kernel, bias = (keras.initializers.RandomUniform(-limit, limit) for _ in range(2))
        else:
            # Xavier's normal values as PyTorch counts the fans of (Q, D, group): D * group and Q * group.
            stddev = (2.0 / ((queries + channels) * self.group)) ** 0.5
            kernel, bias = keras.initializers.RandomNormal(stddev=stddev), "zeros"
        self.kernel = self.add_weight(name="kernel", shape=(queries, channels, self.group), initializer=kernel)
        self.bias = self.add_weight(name="bias", shape=(self.num_labels,), initializer=bias)
        super().build(input_shape)

    def call(self, x):
        answers = tf.einsum("bqd,qdg->bqg", x, tf.convert_to_tensor(self.kernel))
        flat = tf.reshape(answers, [-1, x.shape[1] * self.group])
        return flat[:, : self.num_labels] + tf.convert_to_tensor(self.bias)

    def get_config(self):
        own = {"num_labels": self.num_labels, "group": self.group, "is_uniform": self.is_uniform}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="srn_tf")
class AttentionMaps(keras.layers.Layer):
    """The attention of queries as maps of their labels: the mean over heads.

    Args:
        grid: (H, W) of the tokens, row by row.
        num_labels: C.
        group: labels per query, see `GroupLinear`.

    Call: (B, num_heads, Q, H * W) -> float32 (B, H, W, C), each label sums to 1 over (H, W).
    """

    def __init__(self, grid, num_labels, group, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.grid, self.num_labels, self.group = tuple(grid), num_labels, group

    def call(self, attention):
        of_queries = tf.transpose(tf.reduce_mean(attention, axis=1), [0, 2, 1])  # (B, HW, Q)
        of_labels = tf.gather(of_queries, [label // self.group for label in range(self.num_labels)], axis=2)
        return tf.reshape(of_labels, [-1, *self.grid, self.num_labels])

    def get_config(self):
        return {**super().get_config(), "grid": self.grid, "num_labels": self.num_labels, "group": self.group}


@keras.saving.register_keras_serializable(package="srn_tf")
class LayerScale(keras.layers.Layer):
    """One learned factor for each channel, 1e-6 at first: float32 (B, H, W, D) -> float32 (B, H, W, D).

    Source: Touvron et al., "Going deeper with image transformers", ICCV 2021, Eq. (4); ConvNeXt ends its
    blocks with it.
    """

    def build(self, input_shape):
        initializer = keras.initializers.Constant(1e-6)
        self.gamma = self.add_weight(name="gamma", shape=(input_shape[-1],), initializer=initializer, trainable=True)
        super().build(input_shape)

    def call(self, x):
        return x * tf.convert_to_tensor(self.gamma)


@keras.saving.register_keras_serializable(package="srn_tf")
class Output(keras.layers.Layer):
    """Gives an output of a model its name: any tensor -> the same, float32.

    Keras 3 compiles a training step with XLA unless a layer says that it cannot. This one does, for layers and
    metrics that XLA does not support, such as `srn_tf.metrics.MeanAveragePrecision`.
    """

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.supports_jit = False

    def call(self, x):
        return tf.identity(x)
