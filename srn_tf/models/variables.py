"""The weights of layers as TensorFlow's variables, and their addresses: all that depends on how Keras holds a weight."""

import tensorflow as tf


def variable_of(weight):
    """The tf.Variable that holds a layer's weight, in its own type under every precision; call it outside of layers.

    Args:
        weight: of a Keras layer: in Keras 2 the variable itself, in Keras 3 an object around it.
    """
    return weight if isinstance(weight, tf.Variable) else weight.value


def addresses(layer, path):
    """Yields (address, tf.Variable) of a layer or a model whose own address is `path`, see `MultiLabelModel.weights`."""
    layers = getattr(layer, "layers", None)
    if layers is not None:
        for inner in layers:
            yield from addresses(inner, f"{path}/{inner.name.replace('/', '_')}")
        return
    for weight in layer.weights:
        # Keras 3 has the path of a weight, through the layers within a layer, as `path`; Keras 2 as its name.
        full = f"/{getattr(weight, 'path', weight.name)}".split(":")[0]
        _, found, inner = full.rpartition(f"/{layer.name}/")
        inner = inner if found else full.rpartition("/")[2]
        yield f"{path}/{inner.replace('depthwise_kernel', 'kernel')}", variable_of(weight)  # as Keras 3 has it
