"""KNN by hand and against brute force: neighbours with ties, votes, and scores as logits."""

import numpy as np
import pytest

from srn_tf.baselines import knn
from srn_tf.baselines.knn import check_k, find_neighbours, label_shares, shares_as_logits
from srn_tf.errors import InputError
from srn_tf.evaluation.metrics import sigmoid, top_k

# Neighbours.


def brute_force(train, queries, count, distance):
    """All distances in float64; of equal ones the earlier image."""
    order = 1 if distance == "manhattan" else 2
    distances = np.stack([np.linalg.norm(train.astype(float) - query, ord=order, axis=1) for query in queries])
    indices = np.argsort(distances, axis=1, kind="stable")[:, :count]
    return indices, np.take_along_axis(distances, indices, axis=1)


def assert_equal_to_brute_force(train, queries, count, distance):
    indices, distances = find_neighbours(train, queries, count, distance)
    expected_indices, expected_distances = brute_force(train, queries, count, distance)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-6)


def test_neighbours_by_hand():
    train = np.array([[0, 0], [3, 4], [6, 0], [0, 1]], np.float32)
    queries = np.array([[0, 0], [6, 1]], np.float32)
    # Euclidean: 0, 5, 6, 1 and sqrt(37), sqrt(18), 1, 6; Manhattan: 0, 7, 6, 1 and 7, 6, 1, 6.
    indices, distances = find_neighbours(train, queries, 3, "euclidean")
    assert indices.tolist() == [[0, 3, 1], [2, 1, 3]]
    np.testing.assert_allclose(distances, [[0, 1, 5], [1, 18**0.5, 6]], rtol=1e-6)
    indices, distances = find_neighbours(train, queries, 3, "manhattan")
    assert indices.tolist() == [[0, 3, 2], [2, 1, 3]]
    assert distances.tolist() == [[0, 1, 6], [1, 6, 6]]
    assert (indices.dtype, distances.dtype) == (np.int32, np.float32)


@pytest.mark.parametrize("distance", knn.DISTANCES)
@pytest.mark.parametrize("count", [1, 7, 120])
def test_neighbours_equal_brute_force(distance, count, monkeypatch):
    monkeypatch.setattr(knn, "_QUERIES", 16)  # several batches, the last one not full
    monkeypatch.setattr(knn, "_ROWS", 50)
    rng = np.random.default_rng(0)
    train, queries = (rng.normal(size=(size, 5)).astype(np.float32) for size in (120, 41))
    assert_equal_to_brute_force(train, queries, count, distance)


@pytest.mark.parametrize("distance", knn.DISTANCES)
@pytest.mark.parametrize("count", [1, 7, 120])
def test_of_equal_distances_the_earlier_image_comes_first(distance, count, monkeypatch):
    """On a grid of 27 points nearly all distances are shared, also by the last neighbour and the first left out."""
    monkeypatch.setattr(knn, "_QUERIES", 16)
    monkeypatch.setattr(knn, "_ROWS", 50)
    rng = np.random.default_rng(1)
    train, queries = (rng.integers(0, 3, (size, 3)).astype(np.float32) for size in (120, 41))
    assert_equal_to_brute_force(train, queries, count, distance)


@pytest.mark.parametrize("distance", knn.DISTANCES)
def test_copies_far_from_the_origin(distance):
    """Where scikit-learn's quick Euclidean distance, |x|^2 - 2 xy + |y|^2, is all rounding."""
    train = np.full((50, 4), 1000.1, np.float32)
    train[10:20] += 0.001
    queries = train[[0, 10]]
    indices, distances = find_neighbours(train, queries, 12, distance)
    assert indices.tolist() == [[*range(10), 20, 21], [*range(10, 20), 0, 1]]
    assert distances[0].tolist() == [0] * 12
    assert distances[1, :10].tolist() == [0] * 10 and distances[1, 10] == distances[1, 11] > 0


# Votes.

INDICES = np.array([[2, 0, 1], [1, 3, 2]], np.int32)
DISTANCES = np.array([[1, 2, 4], [5, 5, 6]], np.float32)
LABELS = np.array([[1, 0, -1], [1, 1, 0], [0, 1, 1], [0, 0, 0]], np.int8)


def test_shares_by_hand():
    # Neighbours' labels of the first: 011, 100, 110; of the second: 110, 000, 011.
    assert label_shares(INDICES, DISTANCES, LABELS, 1).tolist() == [[0, 1, 1], [1, 1, 0]]
    assert label_shares(INDICES, DISTANCES, LABELS, 2).tolist() == [[0.5, 0.5, 0.5], [0.5, 0.5, 0]]
    np.testing.assert_allclose(
        label_shares(INDICES, DISTANCES, LABELS, 3), [[2 / 3, 2 / 3, 1 / 3], [1 / 3, 2 / 3, 1 / 3]], rtol=1e-15
    )


def test_weighted_shares_by_hand():
    # sigma = 1 / ln 2: the weight halves with each unit of distance: 1/2, 1/4, 1/16 are 8 : 4 : 1; 2 : 2 : 1.
    shares = label_shares(INDICES, DISTANCES, LABELS, 3, sigma=1 / np.log(2))
    expected = [[5 / 13, 9 / 13, 8 / 13], [2 / 5, 3 / 5, 1 / 5]]
    np.testing.assert_allclose(shares, expected, rtol=1e-12)
    # Far from everything all weights would be 0; the shares stay.
    far = label_shares(INDICES, DISTANCES + 8192, LABELS, 3, sigma=1 / np.log(2))
    np.testing.assert_allclose(far, expected, rtol=1e-12)


def test_shares_are_whole_where_all_neighbours_agree():
    rng = np.random.default_rng(0)
    distances = np.sort(rng.random((20, 30)).astype(np.float32), axis=1)
    labels = np.tile(np.array([[1, 0]], np.int8), (40, 1))
    shares = label_shares(rng.integers(0, 40, (20, 30)), distances, labels, 30, sigma=0.1)
    assert shares.tolist() == [[1.0, 0.0]] * 20


# Logits.


def test_logits_by_hand():
    labels = np.array([[1, 0], [1, 0], [0, 1]], np.int8)
    shares = np.array([[0.75, 0.75], [0.0, 0.2], [1.0, 1.0], [0.5, 0.5]])
    logits = shares_as_logits(shares, labels)
    assert logits.dtype == np.float32
    ln3, ln4, top = np.log(3), np.log(4), np.log(999_999)
    # The second label is the rarer one of two: 0.00005 of the logit lower.
    expected = [[ln3, ln3 * 0.99995], [-top, -ln4 * 1.00005], [top, top * 0.99995]]
    np.testing.assert_allclose(logits[:3], expected, rtol=2e-7)
    assert logits[3, 0] == 0 and -1e-20 < logits[3, 1] < 0


@pytest.mark.parametrize("k", [1, 2, 10, 200, 1000])
def test_order_and_thresholds_stay(k):
    rng = np.random.default_rng(k)
    shares = np.vstack([np.full((2, 8), 0.5), rng.integers(0, k + 1, (300, 8)) / k])
    labels = (rng.random((50, 8)) < np.linspace(0.1, 0.9, 8)).astype(np.int8)
    logits = shares_as_logits(shares, labels)
    assert np.isfinite(logits).all()
    probabilities = sigmoid(logits)
    np.testing.assert_array_equal(probabilities > 0.5, shares > 0.5)
    np.testing.assert_array_equal(probabilities >= 0.5, shares >= 0.5)
    for label in range(8):  # over images: the same order, with the same ties
        np.testing.assert_array_equal(
            np.sign(np.subtract.outer(logits[:, label], logits[:, label])),
            np.sign(np.subtract.outer(shares[:, label], shares[:, label])),
        )
    for image in range(len(shares)):  # over labels: the same order
        higher = np.subtract.outer(shares[image], shares[image]) > 0
        assert (np.subtract.outer(logits[image], logits[image])[higher] > 0).all()


def test_of_equal_shares_the_more_frequent_label_is_higher():
    # The labels are on 1, 3, 0, 2 and 3 of the training images; -1 does not count.
    labels = np.array([[1, 1, 0, 1, 1], [-1, 1, 0, 1, 1], [-1, 1, 0, 0, 1], [0, 0, 0, 0, 0]], np.int8)
    shares = np.array([[0.2] * 5, [0.5] * 5, [0.0] * 5, [1.0] * 5, [1.0, 0.0, 0.5, 0.0, 0.0]])
    logits = shares_as_logits(shares, labels)
    order = np.argsort(-logits, axis=1, kind="stable")
    assert order[:4].tolist() == [[1, 4, 3, 0, 2]] * 4  # of equal frequency the first
    assert order[4].tolist() == [0, 2, 1, 4, 3]
    chosen = [np.flatnonzero(row).tolist() for row in top_k(logits, 3)]
    assert chosen == [[1, 3, 4], [1, 3, 4], [1, 3, 4], [1, 3, 4], [0, 1, 2]]
    # Exactly one half is enough for a top-3 that needs a probability of 0.5, whichever the label.
    assert np.flatnonzero(top_k(logits, 3, 0.5)[1]).tolist() == [1, 3, 4]


# k.


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "k must be different whole numbers above 0, separated by commas. Received: ''"),
        ([0, 5], "Received: '0,5'"),
        ([5, 1, 5], "different whole numbers .* Received: '5,1,5'"),
        ([1, 65], "k must be at most the number of training images, 64. Received: 1,65. Remove the larger values."),
    ],
)
def test_bad_k(values, message):
    with pytest.raises(InputError, match=message):
        check_k(values, 64)


def test_k_may_be_all_training_images():
    check_k([64, 1], 64)
