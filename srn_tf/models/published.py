"""Published weights of PyTorch as Keras' layers have them: names, kinds and the order of axes."""

_KINDS = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def trunk_address(name, array):
    """The address in a trunk of a convolution's or BatchNorm's weight that PyTorch names so.

    Args:
        name: such as "layer1.0.bn1.weight", of the layer "cnn_layer1_0_bn1".
        array: the weight, which is a kernel if it has four axes.
    Returns:
        str, such as "trunk/cnn_layer1_0_bn1/gamma".
    """
    layer, _, kind = name.rpartition(".")
    return f"trunk/cnn_{layer.replace('.', '_')}/{'kernel' if array.ndim == 4 else _KINDS.get(kind, kind)}"


def in_keras_axes(name, array):
    """PyTorch has a kernel as (channels out, channels in, height, width), a depthwise one as (channels, 1, h, w)."""
    if array.ndim != 4:
        return array
    return array.transpose((2, 3, 0, 1) if "depthwise" in name else (2, 3, 1, 0))


def is_weight(name):
    """False for the count of batches that PyTorch keeps beside a BatchNorm."""
    return not name.endswith(".num_batches_tracked")
