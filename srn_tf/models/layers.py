"""The few layers that stock Keras lacks, registered so that a saved model loads without custom code."""

import keras
import tensorflow as tf

CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
"""Mean of ImageNet's training images, blue green red, 0 to 255 (the ported ResNet v1 weights expect it)."""


@keras.saving.register_keras_serializable(package="srn_tf")
class ScaleInput(keras.layers.Layer):
    """Scales pixels the way a backbone's pre-trained weights expect; part of the model, so that training,
    evaluation and export cannot differ.

    It computes in float32 under every policy, and rounds the result to the policy's type: in float16 or bfloat16 the
    pixels themselves would be rounded first, and their mean.

    Args:
        mode: "symmetric" for RGB in [-1, 1], or "caffe" for BGR minus `CAFFE_MEAN_BGR`.

    Call: float32 (B, H, W, 3) RGB, 0 to 255 -> (B, H, W, 3) of the policy's compute type.
    """

    def __init__(self, mode, **kwargs):
        super().__init__(autocast=False, **kwargs)
        if mode not in ("symmetric", "caffe"):
            raise ValueError(f"mode must be one of symmetric, caffe. Received: {mode!r}.")
        self.mode = mode

    def call(self, image):
        image = tf.cast(image, tf.float32)
        if self.mode == "symmetric":
            scaled = image / 127.5 - 1.0
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

    It then has one place, and is for every channel c a product of matrices, (B, HW) by (HW, M). So it is computed,
    since on CPUs TensorFlow takes many times as long for the convolution.

    Raises:
        ValueError: the kernel is of another size than the input.
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
    """alpha * first + (1 - alpha) * second, the last equation of the paper's section 3.4.

    Args:
        learned: False keeps alpha at 0.5, as the paper does. True learns one scalar, stored as
            logit(alpha) so that alpha stays in (0, 1) and weight decay pulls it towards 0.5.

    Call: two float32 (B, C) -> float32 (B, C).
    """

    def __init__(self, learned=False, **kwargs):
        super().__init__(**kwargs)
        self.learned = learned

    def build(self, input_shape):
        if self.learned:
            self.alpha_logit = self.add_weight(name="alpha_logit", shape=(), initializer="zeros", trainable=True)
        super().build(input_shape)

    def call(self, inputs):
        first, second = inputs
        alpha = tf.sigmoid(tf.convert_to_tensor(self.alpha_logit)) if self.learned else 0.5
        return alpha * first + (1.0 - alpha) * second

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return {**super().get_config(), "learned": self.learned}
