"""ADD-GCN: its equations against NumPy, and the parameter counts of the published models."""

import numpy as np
import pytest

from srn_tf.models import add_gcn
from tests.models.small import small_model
from tests.training import small

C, WIDTH = 5, 12


def leaky_relu(x):
    return np.where(x > 0, x, 0.2 * x)


def sigmoid(x):
    return 0.5 * (1.0 + np.tanh(x / 2.0))


def test_it_equals_numpy():
    """Image by image, with a column for each label, as the paper writes it."""
    model = small_model("add_gcn", C, graph_width=WIDTH)
    small.randomize(model)
    kernel = model.weights["class_maps/kernel"]
    kernel.assign(0.01 * kernel)  # else every probability is 0 or 1
    image = small.random_batch(2)["image"]
    outputs = {name: value.numpy() for name, value in model.network(image).items()}
    w = {address: weight.numpy().astype(np.float64) for address, weight in model.weights.items()}

    def linear(name, X):
        """W X + b for X (D, C): the kernel is transposed here, the bias is the same in each column."""
        return w[f"graph/{name}/kernel"].T @ X + w[f"graph/{name}/bias"][:, None]

    maps = model.parts["trunk"](image)["c5"].numpy().astype(np.float64).reshape(2, 49, -1)
    for row, x in enumerate(maps):  # (N, D)
        M = x @ w["class_maps/kernel"][0, 0]
        y_map = M.max(axis=0)
        assert np.abs(M).max() < 20.0 and np.ptp(sigmoid(M)) > 0.2
        V = (x @ w["transform/kernel"][0, 0] + w["transform/bias"]).T @ sigmoid(M)  # (WIDTH, C)
        mixed = leaky_relu(V @ w["graph/graph_static/kernel"])  # As of Conv1d is the kernel, transposed
        R = V + leaky_relu(linear("graph_static_weight", mixed))
        g = linear("graph_global", R.mean(axis=1, keepdims=True))[:, 0]
        gamma, beta, mean, variance = (
            w[f"graph/graph_global_bn/{name}"] for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        g = leaky_relu((g - mean) / np.sqrt(variance + 1e-5) * gamma + beta)
        Ad = sigmoid(linear("graph_dynamic", np.concatenate([np.stack([g] * C, axis=1), R])))  # (C, C)
        assert Ad.shape == (C, C) and np.ptp(Ad) > 1e-3
        Z = leaky_relu(linear("graph_dynamic_weight", leaky_relu(R @ Ad)))
        kernel, bias = w["graph/graph_logits/kernel"][:, :, 0], w["graph/graph_logits/bias"]
        y_graph = np.diag(kernel @ (V + Z) + bias[:, None])
        for name, expected in (("y_map", y_map), ("y_graph", y_graph), ("y_add", (y_map + y_graph) / 2)):
            scale = np.abs(expected).max()
            np.testing.assert_allclose(outputs[name][row], expected, rtol=1e-3, atol=1e-4 * scale, err_msg=name)
        np.testing.assert_allclose(outputs["M"][row].reshape(49, C), sigmoid(M), rtol=1e-4, atol=1e-5)
    assert "class_maps/bias" not in model.weights and model.weights["transform/bias"].shape == (WIDTH,)
    assert [(a_map.name, a_map.sums_to_one) for a_map in model.maps] == [("M", False)]
    assert model.logits == ("y_add", "y_map", "y_graph") and model.stages["all"].reads == ("y_add",)


@pytest.mark.parametrize("num_labels, trainable", [(80, 5_665_184), (20, 5_351_864)])
def test_parameter_counts_of_the_published_models(num_labels, trainable):
    """Of the head: class maps without and transform with a bias, on 2048 channels, and the graph."""
    graph = add_gcn.build_graph(num_labels, 1024)
    of_graph = sum(int(np.prod(weight.shape)) for weight in graph.trainable_weights)
    assert 2048 * num_labels + (2048 * 1024 + 1024) + of_graph == trainable
