"""The layers of transformers in NumPy, float64, from the weights of a built part; names are those of `transformer`."""

import math

import numpy as np


class Reference:
    """The blocks of one part.

    Args:
        part: keras.Model.
        num_heads: int.
    """

    def __init__(self, part, num_heads):
        self._weights = {layer.name: [np.float64(weight) for weight in layer.get_weights()] for layer in part.layers}
        self._num_heads = num_heads

    def linear(self, x, name):
        kernel, bias = self._weights[name]
        return x @ kernel + bias

    def norm(self, x, name):
        gamma, beta = self._weights[name]
        mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    def attend(self, x, queries, keys, values, name, number):
        """(x, attention): head by head."""
        q, k, v = (
            self.linear(tokens, f"{name}_{of}") for of, tokens in (("query", queries), ("key", keys), ("value", values))
        )
        size = q.shape[-1] // self._num_heads
        mixed, attention = [], []
        for start in range(0, q.shape[-1], size):
            own = slice(start, start + size)
            scores = np.exp(np.einsum("bqd,bnd->bqn", q[..., own], k[..., own]) / math.sqrt(size))
            attention.append(scores / scores.sum(axis=-1, keepdims=True))
            mixed.append(np.einsum("bqn,bnd->bqd", attention[-1], v[..., own]))
        looked = self.linear(np.concatenate(mixed, axis=-1), f"{name}_out")
        return self.norm(x + looked, f"{name}_norm{number}"), np.stack(attention, axis=1)

    def feed_forward(self, x, name, number):
        hidden = np.maximum(self.linear(x, f"{name}_hidden"), 0.0)
        return self.norm(x + self.linear(hidden, f"{name}_thought"), f"{name}_norm{number}")


def count(weights):
    """The number of numbers in weights."""
    return sum(int(np.prod(weight.shape)) for weight in weights)
