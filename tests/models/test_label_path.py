"""Paths of labels: the loss and the search against NumPy, the search against all paths there are."""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.models import label_path
from tests.models.reference import sigmoid

C, E, H, B = 5, 4, 3, 6


def make_decoder(num_labels=C, gates="sigmoid", beam=1, most_labels=None, min_labels=0, seed=0):
    """A decoder with weights so large that its distributions are far from flat."""
    most_labels = num_labels if most_labels is None else most_labels
    decoder = label_path.PathDecoder(num_labels, H, E, gates, beam, most_labels, min_labels)
    decoder.build((None, E))
    rng = np.random.default_rng(seed)
    scale = 0.9 if gates == "sigmoid" else 0.6  # gates without a bound grow from step to step
    decoder.set_weights([rng.normal(scale=scale, size=weight.shape) for weight in decoder.get_weights()])
    return decoder


@pytest.fixture(scope="module")
def code():
    return np.random.default_rng(1).normal(size=(B, E)).astype(np.float32)


def numpy_step(weights, gates, token, h, c):
    """One step for one path, as lstm.py has it: the new h and c."""
    blocks = range(0, 4 * H, H)
    before = c if gates == "relu" else h
    read = weights["words"][token] @ weights["kernel"] + before @ weights["recurrent"]
    if gates == "relu":
        i, f, g, o = (np.maximum(read[start : start + H], 0) for start in blocks)
        c = c * f + g * i
        return c * o, c
    i, f, g, o = ((read + weights["bias"])[start : start + H] for start in blocks)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


class Reference:
    """p(token | image, path) of a decoder for one image, in float64."""

    def __init__(self, decoder, code):
        names = ["words", "kernel", "recurrent", "joint", "bias"]
        self.weights = dict(zip(names, (weight.astype(np.float64) for weight in decoder.get_weights())))
        self.gates, self.code = decoder.gates, code
        self.distribution = functools.cache(self._distribution)

    def _distribution(self, path, left_out=()):
        """float64 (C + 1,), behind a path of labels, a tuple."""
        h = c = np.zeros(H)
        for token in (len(self.weights["words"]) - 1, *path):
            h, c = numpy_step(self.weights, self.gates, token, h, c)
        x = np.maximum(h @ self.weights["joint"] + self.code, 0)
        shares = np.exp(self.weights["words"] @ x)
        shares[[*path, *left_out]] = 0
        return shares / shares.sum()

    def probability(self, path, most_labels, min_labels=0, left_out=()):
        """Of a path, END included; a path of most_labels ends by itself, none ends before min_labels."""
        p = 1.0
        path = tuple(path)
        for t, token in enumerate([*path, C][:most_labels]):
            shares = self.distribution(path[:t], left_out)
            p *= 0.0 if token == C and t < min_labels else shares[token] / (1 - shares[C] * (t < min_labels))
        return p

    def best(self, most_labels, min_labels=0):
        """(path, probability) of the most probable of all orders of all sets of labels."""
        paths = (path for n in range(most_labels + 1) for path in itertools.permutations(range(C), n))
        each = ((path, self.probability(path, most_labels, min_labels)) for path in paths)
        return max(each, key=lambda pair: pair[1])


def paths_of(places):
    """Lists of labels in order, of what the search returns; a label's place is one of its own, from 1 on."""
    paths = []
    for row in np.asarray(places):
        path = [label for label in np.argsort(row) if row[label] > 0]
        assert sorted(row[row > 0]) == list(range(1, len(path) + 1))  # never a label twice
        paths.append(path)
    return paths


def test_the_order_of_a_path():
    """Frequencies 3, 9, 0, 9, 5: labels 1 and 3, which tie, then 4, 0 and 2; -1 is none."""
    truth = tf.constant([[1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [1, 0, 1, -1, 0], [0, -1, 0, 1, 1]], tf.float32)
    counts = tf.constant([3.0, 9.0, 0.0, 9.0, 5.0])
    whole = [[1, 3, 4, 0, 2], [5] * 5, [0, 2, 5, 5, 5], [3, 4, 5, 5, 5]]
    for most_labels in (5, 2):
        path = label_path.TruePath(most_labels)([truth, counts])
        np.testing.assert_array_equal(path, [row[:most_labels] for row in whole])
    one = label_path.TruePath(1)([tf.constant([[1.0], [0.0]]), tf.constant([4.0])])
    np.testing.assert_array_equal(one, [[0], [1]])


@pytest.mark.parametrize(("gates", "most_labels"), [("relu", 5), ("sigmoid", 3)])
def test_the_loss_is_minus_the_log_of_the_true_paths_probability(code, gates, most_labels):
    """Of no label, END alone; of as many as there may be, without END; of more, of the first of them."""
    decoder = make_decoder(gates=gates, most_labels=most_labels)
    paths = [[], [2], [1, 4], [3, 0, 2], [0, 1, 2, 3, 4], [4, 2]]
    unknown = [(), (), (0, 3), (), (), (1,)]
    truth = np.zeros((B, C), np.float32)
    for row, (path, left_out) in enumerate(zip(paths, unknown, strict=True)):
        truth[row, path], truth[row, list(left_out)] = 1, -1
    padded = np.array([(path + [C] * C)[:most_labels] for path in paths], np.int32)
    received = decoder(tf.constant(code), truth=tf.constant(truth), path=tf.constant(padded))
    expected = [
        -np.log(Reference(decoder, code[row]).probability(path[:most_labels], most_labels, 0, left_out))
        for row, (path, left_out) in enumerate(zip(paths, unknown, strict=True))
    ]
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("gates", "most_labels", "min_labels"), [("sigmoid", 5, 0), ("relu", 3, 0), ("sigmoid", 4, 3)])
def test_a_wide_beam_finds_the_best_of_all_paths(code, gates, most_labels, min_labels):
    decoder = make_decoder(gates=gates, beam=200, most_labels=most_labels, min_labels=min_labels)
    log_p, places, log_q = decoder.search(tf.constant(code))
    found = paths_of(places)
    for row in range(B):
        reference = Reference(decoder, code[row])
        path, p = reference.best(most_labels, min_labels)
        assert found[row] == list(path)
        assert float(log_p[row]) == pytest.approx(np.log(p), abs=1e-4)
        # Of each label the highest probability along that path, END being one of the choices under any rule.
        along = [reference.distribution(path[:t]) for t in range(min(len(path) + 1, most_labels))]
        np.testing.assert_allclose(np.exp(log_q[row]), np.max(along, axis=0)[:C], rtol=1e-3, atol=1e-5)
    assert len({len(path) for path in found}) > 1 or min_labels  # the six differ
    assert min(map(len, found)) >= min_labels


@pytest.mark.parametrize(("beam", "min_labels"), [(1, 0), (1, 3), (2, 0)])
def test_a_narrow_beam_follows_its_rule(code, beam, min_labels):
    """Against the rule in plain lists; of one path, the most probable label after the other until END."""
    decoder = make_decoder(beam=beam, min_labels=min_labels)
    log_p, places, _ = decoder.search(tf.constant(code))
    for row, found in enumerate(paths_of(places)):
        reference = Reference(decoder, code[row])
        live, best = [((), 1.0)], ((), 0.0)
        for t in range(C):
            longer = []
            for path, p in live:
                shares = reference.distribution(path)
                if t < min_labels:
                    shares = shares / (1 - shares[C])
                    shares[C] = 0
                longer += [((*path, token), p * shares[token]) for token in range(C + 1) if shares[token] > 0]
            kept = sorted(longer, key=lambda pair: -pair[1])[:beam]
            ended = [(path[:-1], p) for path, p in kept if path[-1] == C]
            best = max([best, *ended], key=lambda pair: pair[1])
            live = [pair for pair in kept if pair[0][-1] != C and pair[1] > best[1]]
        best = max([best, *live], key=lambda pair: pair[1])
        assert found == list(best[0])
        assert float(log_p[row]) == pytest.approx(np.log(best[1]), abs=1e-4)


def test_an_images_answer_is_its_own(code):
    decoder = make_decoder(beam=3)
    together = decoder(tf.constant(code)).numpy()
    for row in range(B):
        np.testing.assert_allclose(decoder(tf.constant(code[row : row + 1]))[0], together[row], rtol=1e-4, atol=1e-5)


def test_one_label():
    decoder = make_decoder(num_labels=1, beam=4)
    code = tf.constant(np.random.default_rng(3).normal(size=(9, E)), tf.float32)
    _, places, log_q = decoder.search(code)
    p = np.exp(log_q)[:, 0]
    assert ((p > 0.5) == (np.asarray(places)[:, 0] == 1)).all() and 0 < (p > 0.5).mean() < 1
    path = tf.constant([[1], [0]] * 4 + [[0]])
    loss = decoder(code, truth=tf.constant([[0.0], [1.0]] * 4 + [[1.0]]), path=path)
    np.testing.assert_allclose(loss, -np.log(np.where(path[:, 0] == 0, p, 1 - p)), rtol=1e-3, atol=1e-5)


def test_ranking_logits():
    """The mean of 0 or 1 for the path and q, as log odds: 3/4, 1/4, just above 1/2, 1/10, and the ends."""
    places = tf.constant([[2.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0]])
    log_q = tf.constant([[np.log(0.5), np.log(0.5), -30.0, np.log(0.2), 0.0, 0.0, -200.0]], tf.float32)
    logits = label_path.ranking_logits(places, log_q).numpy()[0]
    np.testing.assert_allclose(logits[[0, 1, 3]], np.log([3, 1 / 3, 1 / 9]), rtol=1e-5)
    assert (tf.sigmoid(logits) > 0.5).numpy().tolist() == [True, False, True, False, True, False, False]
    assert np.isfinite(logits).all() and logits[6] == pytest.approx(-200 - np.log(2), rel=1e-5)
    assert logits.argmax() == 4
