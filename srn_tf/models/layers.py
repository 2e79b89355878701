"""The few layers that stock Keras lacks, registered so that a saved model loads without custom code."""

import keras
import tensorflow as tf

CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
"""Mean of ImageNet's training images, blue green red, 0 to 255 (the ported ResNet v1 weights expect it)."""


@keras.saving.register_keras_serializable(package="srn_tf")
class ScaleInput(keras.layers.Layer):
    """Scales pixels the way a backbone's pre-trained weights expect; part of the model, so that training,
    evaluation and export cannot differ.

    Args:
        mode: "symmetric" for RGB in [-1, 1], or "caffe" for BGR minus `CAFFE_MEAN_BGR`.

    Call: float32 (B, H, W, 3) RGB, 0 to 255 -> float32 (B, H, W, 3).
    """

    def __init__(self, mode, **kwargs):
        super().__init__(**kwargs)
        if mode not in ("symmetric", "caffe"):
            raise ValueError(f"mode must be one of symmetric, caffe. Received: {mode!r}.")
        self.mode = mode

    def call(self, image):
        if self.mode == "symmetric":
            return image / 127.5 - 1.0
        return tf.reverse(image, axis=[-1]) - tf.constant(CAFFE_MEAN_BGR, image.dtype)

    def get_config(self):
        return {**super().get_config(), "mode": self.mode}


@keras.saving.register_keras_serializable(package="srn_tf")
class SoftmaxOverGrid(keras.layers.Layer):
    """Softmax over the grid, label by label: float32 (B, H, W, C) -> float32 (B, H, W, C), Eq. (4)."""

    def call(self, Z):
        grid_first = tf.reshape(Z, [-1, Z.shape[1] * Z.shape[2], Z.shape[3]])  # (B, HW, C)
        return tf.reshape(tf.nn.softmax(grid_first, axis=1), [-1, *Z.shape[1:]])


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
