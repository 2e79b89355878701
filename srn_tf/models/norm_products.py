"""A network whose BatchNorms that only answer are products: the same values in fewer passes over a map, on CPUs."""

import keras
import tensorflow as tf


class NormAsProduct(keras.layers.Layer):
    """What a BatchNorm answers in inference, computed by the convolution before it, or by one of a single pixel.

    With s = gamma / sqrt(variance + epsilon) a BatchNorm answers s x + (beta - s mean). Behind a convolution with
    kernel k and bias b, that is a convolution with kernel s k and bias s b + beta - s mean; elsewhere a depthwise one
    of one pixel. TensorFlow computes a convolution, its bias and a ReLU behind them in one pass over the map, and the
    gradient of s k needs no other map; for a BatchNorm it takes several (docs/measurements.md, Training speed). It
    holds the weights of the layers it stands for, and their gradients reach them.

    Args:
        norm: keras.layers.BatchNormalization of the last axis, built.
        convolution: the Conv2D or DepthwiseConv2D whose output the norm alone reads; None: another layer.

    Call: float32 (B, H, W, C), what the convolution reads or else the norm -> float32 (B, H', W', C'), in training as
    well.
    """

    def __init__(self, norm, convolution=None):
        super().__init__(name=norm.name, trainable=convolution is not None and convolution.trainable)
        self._norm, self._convolution = norm, convolution

    def call(self, x, training=None, mask=None):
        """The answer; `training` and `mask` are what Keras gives a BatchNorm, and decide nothing."""
        norm, convolution = self._norm, self._convolution
        scale = tf.math.rsqrt(tf.convert_to_tensor(norm.moving_variance) + norm.epsilon)
        if norm.scale:
            scale *= tf.convert_to_tensor(norm.gamma)
        shift = -scale * tf.convert_to_tensor(norm.moving_mean)
        if norm.center:
            shift += tf.convert_to_tensor(norm.beta)
        if convolution is None:
            y = tf.nn.depthwise_conv2d(x, tf.reshape(scale, [1, 1, -1, 1]), [1, 1, 1, 1], "VALID")
            return tf.nn.bias_add(y, shift)
        kernel, *bias = (tf.convert_to_tensor(weight) for weight in convolution.weights)
        if bias:
            shift += scale * bias[0]
        is_depthwise = isinstance(convolution, keras.layers.DepthwiseConv2D)
        convolve = tf.nn.depthwise_conv2d if is_depthwise else tf.nn.conv2d
        y = convolve(
            x,
            kernel * (tf.reshape(scale, kernel.shape[2:]) if is_depthwise else scale),
            [1, *convolution.strides, 1],
            convolution.padding.upper(),
            dilations=convolution.dilation_rate,
        )
        return tf.nn.bias_add(y, shift)


def with_norm_products(network, answers_only=False):
    """The same network with its frozen BatchNorms as products, on CPUs.

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

    def is_replaced(layer):
        return (
            isinstance(layer, keras.layers.BatchNormalization)
            and (answers_only or not layer.trainable)
            and layer.compute_dtype == "float32"
            and len(layer.input.shape) == 4
        )

    def holds_replaced(layer):
        return any(is_replaced(inner) or holds_replaced(inner) for inner in getattr(layer, "layers", ()))

    def copied(model):
        convolutions = {id(norm): convolution for norm, convolution in _behind_convolutions(model) if is_replaced(norm)}
        joined = {id(convolution) for convolution in convolutions.values()}

        def replace(layer):
            if is_replaced(layer):
                return NormAsProduct(layer, convolutions.get(id(layer)))
            if id(layer) in joined:  # its product stands where the norm was
                return keras.layers.Activation("linear", name=layer.name)
            return copied(layer) if holds_replaced(layer) else layer

        return keras.models.clone_model(model, clone_function=replace)

    return copied(network) if holds_replaced(network) else network


def _behind_convolutions(model):
    """Yields (norm, convolution) for each norm that alone reads a convolution, in a model of layers called once."""
    if any(hasattr(layer, "layers") or not hasattr(layer, "input") for layer in model.layers):
        return  # what a model inside reads, or a layer that is called twice, is not among their attributes
    readers = {}
    for layer in model.layers:
        for tensor in tf.nest.flatten(layer.input):
            readers.setdefault(id(tensor), []).append(layer)
    for tensor in tf.nest.flatten(model.output):
        readers.setdefault(id(tensor), []).append(None)
    for layer in model.layers:
        if _is_sum(layer):
            first, *others = readers.get(id(layer.output), [None])
            if isinstance(first, keras.layers.BatchNormalization) and not others:
                yield first, layer


def _is_sum(layer):
    """Whether a layer is a convolution, of one group or of as many as channels, and nothing more."""
    has_one_group = type(layer) is keras.layers.Conv2D and layer.groups == 1
    is_convolution = has_one_group or type(layer) is keras.layers.DepthwiseConv2D
    return is_convolution and layer.activation is keras.activations.linear
