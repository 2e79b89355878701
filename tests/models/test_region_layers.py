"""RLSD's layers behind its regions, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.models.region_layers import LabelSequence, MaxOverRegions, OrderedLabelSequence, RegionProbabilities
from tests.models.reference import sigmoid


def step_of(x, h, c, kernel, recurrent, bias):
    """One step of an LSTM, gate by gate, float64."""
    width = len(h)
    values = x @ kernel.astype(np.float64) + h @ recurrent.astype(np.float64) + bias
    i, f, g, o = (values[number * width : (number + 1) * width] for number in range(4))
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def softmax(values):
    exponentials = np.exp(values - values.max())
    return exponentials / exponentials.sum()


def random_sequence(num_labels, kind=LabelSequence, num_steps=3):
    layer = kind(num_labels, 4, num_steps)
    layer.build((None, 2, 5) if kind is LabelSequence else [(None, 2, 5), (None, 2)])
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=weight.shape).astype(np.float32) for weight in layer.weights]
    if kind is OrderedLabelSequence:
        weights[-1][-1] -= 2.0  # else END comes first
    layer.set_weights(weights)
    return layer


@pytest.mark.parametrize("num_labels", [3, 1])
def test_a_sequence_of_labels(num_labels):
    layer = random_sequence(num_labels)
    start, embeddings, kernel, recurrent, bias, label_kernel, label_bias = layer.get_weights()
    regions = np.random.default_rng(2).normal(size=(2, 2, 5)).astype(np.float32)
    received = layer(tf.constant(regions)).numpy()
    assert received.shape == (2, 2, num_labels)
    for i in range(2):
        for r in range(2):
            h = c = np.zeros(4)
            logits, x = [], regions[i, r]
            for step in range(1 + 3):
                h, c = step_of(x, h, c, kernel, recurrent, bias)
                if step == 0:
                    x = start
                else:
                    logits.append(h @ label_kernel + label_bias)
                    x = softmax(logits[-1]) @ embeddings
            np.testing.assert_allclose(received[i, r], np.max(logits, axis=0), rtol=1e-3, atol=1e-4)


def answers_of(layer, regions, inputs):
    """Probabilities where all regions of an image read the embeddings of these labels: (T, R, C + 1)."""
    start, embeddings, kernel, recurrent, bias, label_kernel, label_bias = layer.get_weights()
    embeddings = np.concatenate([embeddings, np.zeros((1, 5))])  # END
    found = []
    for region in regions:
        h = c = np.zeros(4)
        h, c = step_of(region, h, c, kernel, recurrent, bias)
        found.append([])
        for x in (start, *(embeddings[label] for label in inputs)):
            h, c = step_of(x, h, c, kernel, recurrent, bias)
            found[-1].append(softmax(h @ label_kernel + label_bias))
    return np.swapaxes(found, 0, 1)


@pytest.mark.parametrize("num_labels", [4, 1])
def test_an_ordered_sequence_of_labels(num_labels):
    """Greedily, step by step: the surest region names the next label for all; END ends it; filling has no say."""
    layer = random_sequence(num_labels, OrderedLabelSequence, num_steps=4)
    regions = 2.0 * np.random.default_rng(4).normal(size=(6, 3, 5)).astype(np.float32)
    is_region = np.array([[True] * 3, [True, False, False]] * 3)
    received = layer([tf.constant(regions), tf.constant(is_region)]).numpy()
    lengths = set()
    for i in range(6):
        real, given = regions[i][is_region[i]], []
        best = np.zeros((len(real), num_labels))
        while len(given) < 4:
            p = answers_of(layer, real, given)[-1]
            best = np.maximum(best, p[:, :num_labels])
            pooled = p.max(axis=0)
            pooled[given] = -1.0
            if pooled.argmax() == num_labels:
                break
            given.append(int(pooled.argmax()))
        lengths.add(len(given))
        np.testing.assert_allclose(sigmoid(received[i][is_region[i]]), best, rtol=1e-3, atol=1e-5)
        assert (received[i][~is_region[i]] < -13).all()  # log(1e-6)
    assert lengths == ({1, 2, 4} if num_labels == 4 else {1})


def test_the_likelihood_of_labels_in_order():
    """Of two labels, of none and of three: END counts behind the last, and there is no room for it behind three."""
    paths = np.int32([[2, 0, 4], [4, 4, 4], [2, 0, 3]])
    layer = random_sequence(4, OrderedLabelSequence)
    regions = np.random.default_rng(5).normal(size=(3, 3, 5)).astype(np.float32)
    is_region = np.array([[True] * 3, [True] * 3, [True, True, False]])
    received = layer([tf.constant(regions), tf.constant(is_region)], path=tf.constant(paths)).numpy()
    shorter = layer([tf.constant(regions), tf.constant(is_region)], path=tf.constant(paths[:, :2]))
    np.testing.assert_allclose(shorter[:2], received[:2], rtol=1e-6)  # filled up with END
    for i, (path, counted) in enumerate(zip(paths, (3, 1, 3), strict=True)):
        p = answers_of(layer, regions[i][is_region[i]], path[:2]).max(axis=1)
        np.testing.assert_allclose(received[i], -np.log(p[np.arange(3), path])[:counted].mean(), rtol=1e-3)


def test_the_forget_gate_starts_open():
    layer = LabelSequence(3, 2, 2)
    layer.build((None, 1, 4))
    np.testing.assert_array_equal(layer.bias.numpy(), [0, 0, 1, 1, 0, 0, 0, 0])
    with pytest.raises(ValueError, match="num_steps must be at least 2. Received: 1"):
        LabelSequence(3, 2, 1)


def test_the_best_region_answers():
    """One of the regions' scores, that of none smaller; whatever their order, and however often one is there."""
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(2, 6, 4)).astype(np.float32) - 5.0
    is_region = np.array([[True] * 6, [True, True, False, False, False, False]])
    scores[1, 2:] = 100.0  # of filling, which never wins
    pool = MaxOverRegions()

    def pooled(scores, is_region):
        return pool([tf.constant(scores), tf.constant(is_region)]).numpy()

    received = pooled(scores, is_region)
    np.testing.assert_array_equal(received, [scores[0].max(axis=0), scores[1, :2].max(axis=0)])
    order = rng.permutation(6)
    np.testing.assert_array_equal(pooled(scores[:, order], is_region[:, order]), received)
    twice = np.concatenate([scores, scores[:, :1]], axis=1), np.concatenate([is_region, is_region[:, :1]], axis=1)
    np.testing.assert_array_equal(pooled(*twice), received)
    shown = RegionProbabilities()([tf.constant(scores), tf.constant(is_region)]).numpy()
    np.testing.assert_allclose(shown[0], sigmoid(scores[0]), rtol=1e-5)
    assert not shown[1, 2:].any() and shown[1, :2].all()
    given = tf.constant(scores)
    with tf.GradientTape() as tape:
        tape.watch(given)
        total = tf.reduce_sum(pool([given, tf.constant(is_region)]))
    gradient = tape.gradient(total, given).numpy()
    assert np.isfinite(gradient).all() and gradient.sum() == 8 and not gradient[1, 2:].any()
