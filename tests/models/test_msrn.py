"""MSRN: its layers against NumPy, the gradient that is computed again, its parameter counts, and that it learns."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from srn_tf.labels import LabelSpace
from srn_tf.models import msrn
from srn_tf.models.backbones import build_trunk
from srn_tf.models.channel_attention import ChannelAttention, ChannelAttentionMaps
from srn_tf.models.label_graph import GraphAttention, GroupSums, edges_of
from srn_tf.models.registry import ModelConfig, build_model
from tests.models.small import small_model
from tests.training import small
from tests.training.by_heart import mean_ap_by_heart

C, K, D = 5, 3, 8
SETTINGS = {"msrn_width": D, "msrn_hidden": 12, "group_ratio": 0.7}
EDGES = np.array([[1, 0, 1, 1, 0], [0, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0], [1, 1, 1, 1, 1]], np.float32)


@pytest.fixture(scope="module")
def model():
    model = small_model("msrn", C, **SETTINGS)
    small.randomize(model)
    model.weights["graph/values"].assign(EDGES)
    return model


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def elu(x):
    return np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)


def graph_attention(X, edges, kernel, attention):
    """The layer's equations label by label."""
    H = X.astype(np.float64) @ kernel
    rows = []
    for i, row in enumerate(edges):
        joined = np.flatnonzero(row > 0)
        scores = np.array([np.concatenate([H[i], H[j]]) @ attention[:, 0] for j in joined])
        shares = np.exp(np.where(scores > 0, scores, 0.2 * scores))
        rows.append((shares / shares.sum()) @ H[joined] + H[i])
    return elu(np.array(rows))


def softmax(x, axis):
    shares = np.exp(x - x.max(axis=axis, keepdims=True))
    return shares / shares.sum(axis=axis, keepdims=True)


def channel_attention(V, queries):
    """(A (B, R, D), w (B, P, R, D)) with all weights at once."""
    places = V.reshape(len(V), -1, 1, V.shape[-1]).astype(np.float64)
    w = softmax(places * queries, axis=1)
    return (w * places).sum(axis=1), w


def test_graph_attention_equals_numpy():
    layer, X = GraphAttention(4), random(C, 6)
    received = layer([X, EDGES]).numpy()
    kernel, attention = layer.get_weights()
    assert [weight.shape for weight in (kernel, attention)] == [(6, 4), (8, 1)]
    np.testing.assert_allclose(received, graph_attention(X, EDGES, kernel, attention), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(received[1], elu(2 * X[1] @ kernel), rtol=1e-4, atol=1e-5)  # no edge but its own


def test_who_learns_from_whom():
    """By hand: 4 of 10 bicycles come with a person, 4 of 40 persons with a bicycle; the last label is in no image."""
    together = np.array([[40, 4, 3, 0], [4, 10, 0, 0], [3, 0, 8, 0], [0, 0, 0, 0]])
    expected = np.eye(4, dtype=bool)
    expected[0, 1] = True  # person from bicycle: exactly 0.4
    np.testing.assert_array_equal(edges_of(together, 0.4), expected)
    expected[0, 2] = True  # 3 of 8
    np.testing.assert_array_equal(edges_of(together, 0.375), expected)


def test_groups():
    """Every label's shares sum to 1, and groups are sums of labels by them."""
    branch = msrn.build_group_branch(C, K, D)
    L = random(C, D, seed=1)
    outputs = {name: value.numpy() for name, value in branch({"labels": L, "edges": EDGES}).items()}
    R = np.maximum(L, 0)
    Z, S = (
        graph_attention(R, EDGES, *branch.get_layer(name).get_weights()) for name in ("group_graph", "group_shares")
    )
    S = softmax(S, axis=1)
    np.testing.assert_allclose(outputs["S"].sum(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(outputs["S"], S, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(outputs["G"], S.T @ Z, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(GroupSums()([S, Z]), S.T @ Z, rtol=1e-5)


def test_group_loss():
    L, G, S = random(C, D), random(K, D, seed=1), softmax(random(C, K, seed=2), axis=1)
    expected = C * sum(np.linalg.norm(L[i].astype(np.float64) - G[S[i].argmax()]) for i in range(C))
    outputs = {name: tf.constant(value, tf.float32) for name, value in (("L", L), ("G", G), ("S", S))}
    assert float(msrn.group_loss(outputs, {}, (0, 0))) == pytest.approx(expected, rel=1e-5)
    outputs["L"] = tf.gather(outputs["G"], S.argmax(axis=1))
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        loss = msrn.group_loss(outputs, {}, (0, 0))
    gradients = tape.gradient(loss, [outputs["L"], tf.convert_to_tensor(outputs["G"])])
    assert loss == 0.0 and all(np.isfinite(tf.convert_to_tensor(gradient)).all() for gradient in gradients)
    (term,) = (term for term in msrn.STAGES["all"].terms if term.name == "groups")
    assert (term.weight, term.is_per_step) == (1e-4, True)


def test_channel_attention_and_its_gradient_equal_the_plain_formula():
    V, queries, upstream = 3 * random(2, 3, 4, D), random(K, D, seed=1), random(2, K, D, seed=2)
    expected, w = channel_attention(V, queries)
    np.testing.assert_allclose(w.sum(axis=1), 1.0)
    V, queries = tf.constant(V), tf.constant(queries)
    layer = ChannelAttention()

    @tf.function
    def gradients_of(V, queries):
        with tf.GradientTape() as tape:
            tape.watch([V, queries])
            answer = layer([V, queries], training=True)
        return answer, tape.gradient(answer, [V, queries], upstream)

    with tf.GradientTape() as tape:
        tape.watch([V, queries])
        places = tf.reshape(V, [2, 12, 1, D])
        plain = tf.reduce_sum(tf.nn.softmax(places * queries, axis=1) * places, axis=1)
    of_plain = tape.gradient(plain, [V, queries], upstream)
    answer, gradients = gradients_of(V, queries)
    for received in (answer, layer([V, queries])):
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)
    for received, value in zip(gradients, of_plain, strict=True):
        np.testing.assert_allclose(received, value, rtol=1e-4, atol=1e-5)
    maps = ChannelAttentionMaps()([V, queries])
    np.testing.assert_allclose(maps, w.mean(axis=3).reshape(2, 3, 4, K), rtol=1e-4, atol=1e-6)
    # Scores in the thousands, of which float16 would know no more than infinity.
    assert np.isfinite(layer([300.0 * V, 300.0 * queries])).all()


def test_the_heads_equal_numpy(model):
    image = small.random_batch(2)["image"]
    outputs = {name: value.numpy() for name, value in model.network(image).items()}
    maps = {name: value.numpy() for name, value in model.parts["trunk"](image).items()}
    w = {address: weight.numpy().astype(np.float64) for address, weight in model.weights.items()}

    def graph(part, name, X):
        return graph_attention(X, EDGES, w[f"{part}/{name}/kernel"], w[f"{part}/{name}/attention"])

    def linear(address, x):
        kernel = w[f"{address}/kernel"]
        return x @ kernel.reshape(kernel.shape[-2:]) + w[f"{address}/bias"]

    L = linear("label_branch/label_fc", w["words/values"])
    L = graph("label_branch", "label_graph2", graph("label_branch", "label_graph1", L))
    R = np.maximum(L, 0)
    S = softmax(graph("group_branch", "group_shares", R), axis=1)
    G = S.T @ graph("group_branch", "group_graph", R)
    found, at_finest = [], None
    for name in msrn.SCALES:
        x = maps[name].astype(np.float64)
        x = linear(f"buffers/buffer_{name}_conv", x) if name in msrn.BUFFERED else x
        height, width = (side // 2 for side in x.shape[1:3])
        x = x[:, : 2 * height, : 2 * width].reshape(2, height, 2, width, 2, -1).max(axis=(2, 4))
        answer, shares = channel_attention(linear(f"projection/project_{name}_conv", x), np.concatenate([L, G]))
        found.append(answer)
        at_finest = shares[:, :, :C].mean(axis=3).reshape(2, height, width, C) if name == "c3" else at_finest
    hidden = linear("perceptron/msrn_fc1", np.tanh(np.concatenate(found, axis=2)).reshape(2, -1))
    y = linear("perceptron/msrn_logits", np.where(hidden > 0, hidden, 0.01 * hidden))
    for name, expected in {"L": L, "G": G, "S": S, "A": at_finest, "y_msrn": y}.items():
        scale = np.abs(expected).max()
        np.testing.assert_allclose(outputs[name], expected, rtol=1e-3, atol=1e-4 * scale, err_msg=name)
    np.testing.assert_allclose(outputs["A"].sum(axis=(1, 2)), 1.0, rtol=1e-5)


# C, K's ratio -> millions of weights outside the ResNet, as published.
PUBLISHED = [(20, 0.2, 79.39), (80, 0.05, 268.44), (81, 0.05, 271.59)]  # arrays of up to a gigabyte


@pytest.mark.slow
@pytest.mark.parametrize("num_labels, ratio, millions", PUBLISHED)
def test_parameter_counts_of_the_published_models(num_labels, ratio, millions):
    """The published networks hold weights that nothing reads: a convolution of c2, and a classifier for each label."""
    num_groups = max(1, int(ratio * num_labels))
    shapes = {"c3": (2, 2, 512), "c4": (2, 2, 1024), "c5": (2, 2, 2048)}
    parts = (
        msrn.build_buffers(shapes),
        msrn.build_projection(shapes, 512),
        msrn.build_label_branch(num_labels, 300, 512),
        msrn.build_group_branch(num_labels, num_groups, 512),
        msrn.build_perceptron(num_labels, num_groups, 512, 2048),
    )
    unread = (256 * 256 + 256) + num_labels * (2 * 3 * 512 + 1)
    assert round((sum(part.count_params() for part in parts) + unread) / 1e6, 2) == millions


@pytest.mark.slow
def test_words_from_a_file_or_learned(model):
    np.testing.assert_array_equal(small_model("msrn", C, **SETTINGS).weights["words/values"], np.eye(C))
    assert model.weights["label_branch/label_fc/kernel"].shape == (C, 256)
    settings = msrn.MSRNSettings(label_embeddings="vectors.txt", label_width=4, **SETTINGS)
    assert settings.label_fields == ("embeddings", "cooccurrence")
    vectors, together = random(C, 4), np.diag([5, 6, 7, 8, 9])
    together[0, 1] = together[1, 0] = 3
    labels = LabelSpace("abcde", embeddings=vectors, cooccurrence=together)
    config = ModelConfig("msrn", "small", 56, settings)
    built, stored = build_model(config, labels), build_model(config, "abcde")  # as training, and as a stored run does
    np.testing.assert_array_equal(built.weights["words/values"], vectors)
    np.testing.assert_array_equal(built.weights["graph/values"], edges_of(together, 0.4))
    shapes = [{address: weight.shape for address, weight in one.weights.items()} for one in (built, stored)]
    assert shapes[0] == shapes[1]


def test_one_label_and_maps_of_one_cell():
    model = small_model("msrn", 1, 32, **SETTINGS)
    outputs = model.network(small.random_batch(2, side_px=32)["image"])
    assert outputs["y_msrn"].shape == (2, 1) and outputs["G"].shape == (1, D)
    assert np.isfinite(outputs["y_msrn"]).all() and np.isfinite(msrn.group_loss(outputs, {}, (0, 0)))
    shapes = {"c3": (4, 4, 6), "c4": (2, 3, 6), "c5": (1, 1, 6)}
    pooled = {name: tuple(x.shape[1:3]) for name, x in msrn.build_buffers(shapes).output.items()}
    assert pooled == {"c3": (2, 2), "c4": (1, 1), "c5": (1, 1)}


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "convnext_tiny", "resnet50v2", "resnet101_torch"])
def test_other_trunks(backbone):
    """Of any widths; at 32 pixels the last map has one cell."""
    model = small_model("msrn", C, 32, backbone, **SETTINGS)
    outputs = model.network(small.random_batch(2, side_px=32)["image"])
    assert np.isfinite(outputs["y_msrn"]).all()
    assert build_trunk(backbone, 32).maps["c3"].shape[-1] == model.weights["buffers/buffer_c3_conv/bias"].shape[0]


@pytest.mark.slow
def test_it_learns_64_scenes_by_heart(tiny_scenes_dir):
    keras.utils.set_random_seed(0)
    model = small_model("msrn", 16, msrn_width=32, msrn_hidden=64, group_ratio=0.2)
    assert mean_ap_by_heart(model, "all", tiny_scenes_dir, 50) > 95.0
