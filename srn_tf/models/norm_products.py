"""A network whose BatchNorms that only answer are products: the same values in one pass over a map, on CPUs."""

import keras
import tensorflow as tf


class NormAsProduct(keras.layers.Layer):
    """What a BatchNorm answers in inference, computed as a depthwise convolution of one pixel, with a bias.

    TensorFlow computes the product, the bias and a ReLU behind them in one pass over the map; for a BatchNorm it takes
    several (docs/measurements.md, Training speed). With s = gamma / sqrt(variance + epsilon) the answer is
    s x + (beta - s mean). It holds the BatchNorm's own weights.

    Args:
        norm: keras.layers.BatchNormalization of the last axis, built.

    Call: float32 (B, H, W, C) -> float32 (B, H, W, C), in training as well.
    """

    def __init__(self, norm):
        super().__init__(name=norm.name, trainable=False)
        self._norm = norm

    def call(self, x, training=None, mask=None):
        """The answer; `training` and `mask` are what Keras gives a BatchNorm, and decide nothing."""
        norm = self._norm
        scale = tf.math.rsqrt(tf.convert_to_tensor(norm.moving_variance) + norm.epsilon)
        if norm.scale:
            scale *= tf.convert_to_tensor(norm.gamma)
        shift = -scale * tf.convert_to_tensor(norm.moving_mean)
        if norm.center:
            shift += tf.convert_to_tensor(norm.beta)
        y = tf.nn.depthwise_conv2d(x, tf.reshape(scale, [1, 1, -1, 1]), [1, 1, 1, 1], "VALID")
        return tf.nn.bias_add(y, shift)


def with_norm_products(network, answers_only=False):
    """The same network with its frozen BatchNorms as products, on CPUs.

    A BatchNorm right behind a convolution without bias stays: TensorFlow computes the two as one.

    Args:
        network: keras.Model, functional, perhaps with others inside. Only the BatchNorms whose `trainable` is False now
            are replaced, since Keras runs these in inference mode.
        answers_only: whether it is only called with training=False; trainable ones are then replaced, too.
    Returns:
        keras.Model with the same inputs, outputs and variables; on other devices than CPUs, and where there is nothing
        to replace, the network itself.
    """
    if any(device.device_type != "CPU" for device in tf.config.list_logical_devices()):
        return network
    joined = set(_bare_convolutions(network))

    def is_replaced(layer):
        return (
            isinstance(layer, keras.layers.BatchNormalization)
            and (answers_only or not layer.trainable)
            and layer.compute_dtype == "float32"
            and len(layer.input.shape) == 4
            and id(layer.input) not in joined
        )

    def holds_replaced(layer):
        return any(is_replaced(inner) or holds_replaced(inner) for inner in getattr(layer, "layers", ()))

    def replace(layer):
        if is_replaced(layer):
            return NormAsProduct(layer)
        return keras.models.clone_model(layer, clone_function=replace) if holds_replaced(layer) else layer

    return replace(network)


def _bare_convolutions(network):
    """Yields the id of each symbolic tensor that a convolution without bias gives."""
    for layer in getattr(network, "layers", ()):
        is_convolution = isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D))
        if is_convolution and not layer.use_bias:
            yield id(layer.output)
        yield from _bare_convolutions(layer)
