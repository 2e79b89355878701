"""The layers of transformers: attention of several heads and feed-forward, with a norm behind each sum.

Source: Vaswani et al., "Attention is all you need", NeurIPS 2017. What it leaves open is as in PyTorch's layers, which
the authors of the methods here use. A block has the prefix `name`, and its sum a number within the layer: together they
are addresses of weights.
"""

import keras

from srn_tf.errors import InputError
from srn_tf.models import layers
from srn_tf.models.blocks import torch_uniform


def check_width(setting, width, num_heads):
    """Raises InputError for a width that the heads cannot share; `setting` is its name."""
    if width % num_heads:
        raise InputError(f"{setting} must be a multiple of {num_heads}. Received: {width}.")


def xavier_uniform():
    """Xavier's initial kernel, U(+-sqrt(6 / (inputs + outputs)))."""
    return keras.initializers.GlorotUniform()


def tokens_of(last_map, name):
    """A map as tokens, row by row: (B, H, W, D) -> (B, H * W, D)."""
    height, width, channels = last_map.shape[1:]
    return keras.layers.Reshape((height * width, channels), name=name)(last_map)


def linear(x, channels, name, activation=None, kernel=torch_uniform):
    """A Dense layer: (B, N, D) -> (B, N, channels); `kernel` makes its initial kernel."""
    return keras.layers.Dense(channels, activation, kernel_initializer=kernel(), name=name)(x)


def norm(x, name):
    """A LayerNorm with PyTorch's epsilon."""
    return keras.layers.LayerNormalization(epsilon=1e-5, name=name)(x)


def add_and_norm(x, change, rate, name, number):
    """LN(x + dropout(change)): layers `<name>_drop<number>`, `_sum<number>` and `_norm<number>`.

    Args:
        x: (B, N, D), or None for zeros.
        change: (B, N, D).
        rate: of dropout.
        name, number: see the module.
    Returns:
        (B, N, D).
    """
    change = _dropout(change, rate, f"{name}_drop{number}")
    total = change if x is None else keras.layers.Add(name=f"{name}_sum{number}")([x, change])
    return norm(total, f"{name}_norm{number}")


def attend(x, queries, keys, values, num_heads, rate, name, number, kernel=torch_uniform):
    """Attention of several heads, added to x.

    Args:
        x: (B, Q, D), or None for zeros.
        queries, keys, values: (B, Q, D), (B, N, D) and (B, N, D), D being a multiple of num_heads.
        num_heads: int.
        rate: of dropout, also of the attention.
        name, number: see the module.
        kernel: makes the initial kernel of what follows the heads.
    Returns:
        (x, attention): (B, Q, D); float32 (B, num_heads, Q, N), each query of each head sums to 1.
    """
    width = queries.shape[-1]
    limit = (6.0 / (4 * width)) ** 0.5  # Xavier's uniform values of PyTorch's packed projection (3D, D)
    of_query, of_key, of_value = (
        keras.layers.Dense(
            width, kernel_initializer=keras.initializers.RandomUniform(-limit, limit), name=f"{name}_{of}"
        )(tokens)
        for of, tokens in (("query", queries), ("key", keys), ("value", values))
    )
    attention = layers.HeadAttention(num_heads, name=f"{name}_attention")([of_query, of_key])
    mixed = layers.HeadMix(name=f"{name}_mix")([_dropout(attention, rate, f"{name}_drop_attention"), of_value])
    looked = linear(mixed, width, f"{name}_out", kernel=kernel)
    return add_and_norm(x, looked, rate, name, number), attention


def feed_forward(x, hidden, rate, name, number, kernel=torch_uniform):
    """Two linear layers with a ReLU between them, token by token, added to x.

    Args:
        x: (B, N, D).
        hidden: width between the two.
        rate: of dropout, also between the two.
        name, number: see the module.
        kernel: makes the initial kernels.
    Returns:
        (B, N, D).
    """
    inner = _dropout(linear(x, hidden, f"{name}_hidden", "relu", kernel), rate, f"{name}_drop_hidden")
    thought = linear(inner, x.shape[-1], f"{name}_thought", kernel=kernel)
    return add_and_norm(x, thought, rate, name, number)


def _dropout(x, rate, name):
    return layers.SeededDropout(rate, name=name)(x)
