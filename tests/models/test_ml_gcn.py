"""ML-GCN: its adjacency against the authors' five steps, its parameter count, NumPy, and the folded classifier."""

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.labels import LabelSpace
from srn_tf.models import ml_gcn
from srn_tf.models.label_graph import adjacency_of
from srn_tf.models.registry import ModelConfig, build_model
from srn_tf.serving.inference_graph import fold_batch_norms, trace
from tests.models.small import small_model
from tests.training import small

C, HIDDEN = 5, 12


@pytest.fixture(scope="module")
def model():
    model = small_model("ml_gcn", C, gcn_hidden=HIDDEN)
    small.randomize(model)
    model.weights["graph/values"].assign(np.random.default_rng(1).uniform(0, 1, (C, C)))
    return model


def test_the_adjacency_is_that_of_the_five_steps():
    """As METHODS of the authors' util.py count them, from co-occurrence without a diagonal and numbers of images."""
    rng = np.random.default_rng(0)
    together = np.triu(rng.integers(0, 30, (8, 8)), 1)
    together = together + together.T
    nums = together.max(axis=1) + rng.integers(1, 40, 8)
    P = together / nums[:, None]  # 1: P(j | i)
    A = np.where(P >= 0.4, 1.0, 0.0)  # 2
    assert 0 < A.sum() < 30 and (A != A.T).any()
    A = A * 0.25 / (A.sum(axis=0, keepdims=True) + 1e-6)  # 3
    A = A + np.eye(8)  # 4
    D = np.diag(A.sum(axis=1) ** -0.5)  # 5
    np.testing.assert_allclose(adjacency_of(together + np.diag(nums), 0.4), (A @ D).T @ D, rtol=1e-12)
    np.testing.assert_array_equal(adjacency_of(np.zeros((3, 3), int), 0.4), np.eye(3))


def test_the_published_number_of_weights():
    gcn = ml_gcn.build_gcn(80, 300, 2048, 1024)
    assert gcn.count_params() == sum(int(np.prod(w.shape)) for w in gcn.trainable_weights) == 2_404_352
    for weight, limit in zip(gcn.get_weights(), (1024**-0.5, 2048**-0.5), strict=True):
        assert 0.99 * limit < np.abs(weight).max() <= limit


def test_it_equals_numpy_and_its_export_holds_one_linear_layer(model):
    """Z depends on no image: the graph that is exported reads it as a constant, as a plain classifier its weights."""
    image = small.random_batch(2)["image"]
    outputs = {name: value.numpy() for name, value in model.network(image).items()}
    w = {address: weight.numpy().astype(np.float64) for address, weight in model.weights.items()}
    x = w["words/values"] @ w["gcn/gcn_1/kernel"]
    x = w["graph/values"] @ x
    x = w["graph/values"] @ (np.where(x > 0, x, 0.2 * x) @ w["gcn/gcn_2/kernel"])
    np.testing.assert_allclose(outputs["Z"], x, rtol=1e-4, atol=1e-4)
    pooled = model.parts["trunk"](image)["c5"].numpy().astype(np.float64).max(axis=(1, 2))
    np.testing.assert_allclose(outputs["pooled"], pooled, rtol=1e-5)
    np.testing.assert_allclose(outputs["y_gcn"], pooled @ x.T, rtol=1e-3, atol=1e-3)

    graph = fold_batch_norms(trace(model.network_for(("y_gcn",)), 56))
    products = [node for node in graph.nodes if node.op in ("MatMul", "BatchMatMulV2")]
    constants = {node.name: node.attr["value"].tensor for node in graph.nodes if node.op == "Const"}
    (vectors,) = [tf.make_ndarray(constants[product.input[1]]) for product in products]
    np.testing.assert_allclose(vectors, outputs["Z"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(graph.as_function()[0](image)["y_gcn"], outputs["y_gcn"], rtol=1e-3, atol=1e-3)


def test_words_from_a_file_or_learned(model):
    np.testing.assert_array_equal(small_model("ml_gcn", C, gcn_hidden=3).weights["words/values"], np.eye(C))
    settings = ml_gcn.MLGCNSettings(label_embeddings="vectors.txt", label_width=4, gcn_hidden=3)
    together = np.diag([5, 6, 7, 8, 9])
    together[0, 1] = together[1, 0] = 3
    vectors = np.random.default_rng(0).normal(size=(C, 4)).astype(np.float32)
    built = build_model(
        ModelConfig("ml_gcn", "small", 56, settings), LabelSpace("abcde", embeddings=vectors, cooccurrence=together)
    )
    np.testing.assert_array_equal(built.weights["words/values"], vectors)
    np.testing.assert_allclose(built.weights["graph/values"], adjacency_of(together, 0.4), rtol=1e-6)
    assert built.weights["gcn/gcn_1/kernel"].shape == (4, 3)
