"""Stratified splits: sizes, shares of the labels, and what iterative stratification by itself gets wrong."""

import subprocess
import sys

import numpy as np
import pytest

from srn_tf.data.source import Example, Photo
from srn_tf.data.splitting import grouped_split, matrix_of, split_photos, stratified_split
from srn_tf.errors import InputError

ONE_EACH = np.eye(50, dtype=int)  # 50 labels with an image each
THREE_EACH = np.repeat(np.eye(16, dtype=int), 3, axis=0)  # 16 labels with three images each


def long_tailed(num_images, num_labels=20, seed=0):
    """Labels as photographs have them: the first on 60 % of the images, the last on 3 %."""
    return (np.random.default_rng(seed).random((num_images, num_labels)) < 0.6 / np.arange(1, num_labels + 1)).astype(
        int
    )


def counts(labels, indices):
    """(splits, labels): positives of each label in each split."""
    return np.stack([np.asarray(labels)[chosen].sum(axis=0) for chosen in indices])


@pytest.mark.parametrize("seed", range(5))
def test_halves_share_every_label(seed):
    labels = [[1, 0]] * 4 + [[0, 1]] * 4
    indices = stratified_split(labels, [0.5, 0.5], seed)
    assert counts(labels, indices).tolist() == [[2, 2], [2, 2]]


def test_one_label_and_images_without_any():
    labels = [[1]] * 5 + [[0]] * 5
    indices = stratified_split(labels, [0.8, 0.2], seed=0)
    assert [len(chosen) for chosen in indices] == [8, 2]
    assert counts(labels, indices).tolist() == [[4], [1]]


def test_without_a_positive_the_sizes_are_kept():
    assert [len(chosen) for chosen in stratified_split(np.zeros((10, 3)), [0.5, 0.3, 0.2], seed=0)] == [5, 3, 2]


def test_only_1_is_positive():
    labels = long_tailed(60)
    with_unspecified = np.where(labels == 1, 1, np.arange(20) % 2 - 1)  # negatives become -1 and 0
    for plain, other in zip(
        stratified_split(labels, [0.7, 0.3], seed=3), stratified_split(with_unspecified, [0.7, 0.3], seed=3)
    ):
        np.testing.assert_array_equal(plain, other)


@pytest.mark.parametrize(
    "labels, fractions, sizes",
    [
        (long_tailed(50), [0.8, 0.2], [40, 10]),
        (long_tailed(20), [0.7, 0.1, 0.2], [14, 2, 4]),
        (long_tailed(7), [0.5, 0.5], [4, 3]),
        (long_tailed(5), [0.98, 0.02], [4, 1]),  # a split is never empty
        (long_tailed(3), [0.98, 0.01, 0.01], [1, 1, 1]),
        (long_tailed(2), [0.1, 0.9], [1, 1]),
        (ONE_EACH, [0.8, 0.2], [40, 10]),  # the library leaves the second empty
        (ONE_EACH, [0.2, 0.1, 0.7], [10, 5, 35]),
        (THREE_EACH, [0.9, 0.1], [43, 5]),  # the library leaves the second empty
        (THREE_EACH, [0.8, 0.2], [38, 10]),  # the library puts 16 into the second
    ],
)
def test_sizes_are_as_asked_and_nothing_is_lost(labels, fractions, sizes):
    indices = stratified_split(labels, fractions, seed=1)
    assert [len(chosen) for chosen in indices] == sizes
    assert np.concatenate(indices).dtype == np.int64
    assert sorted(np.concatenate(indices)) == list(range(len(labels)))
    assert all((np.diff(chosen) > 0).all() for chosen in indices)


def test_moves_for_the_size_do_the_least_harm():
    # Of three images, 0.3 are due in the small split: one is nearer than two, so no label gives two.
    train, test = counts(THREE_EACH, stratified_split(THREE_EACH, [0.9, 0.1], seed=0))
    assert sorted(test) == [0] * 11 + [1] * 5 and set(train + test) == {3}
    # Likewise with two small splits: what a label has given to one counts when the other takes.
    for seed in range(5):
        indices = stratified_split(THREE_EACH, [0.8, 0.1, 0.1], seed)
        assert sorted(counts(THREE_EACH, indices)[0]) == [2] * 10 + [3] * 6
    # A label with one image among frequent ones: nothing is gained by giving it away.
    labels = np.zeros((50, 2), int)
    labels[:30, 0], labels[7, 1] = 1, 1
    assert counts(labels, stratified_split(labels, [0.8, 0.2], seed=0)).tolist() == [[24, 1], [6, 0]]


def worst_deviation(labels, indices, fractions):
    """Images by which a label's count in a split differs from its even share, at most."""
    return np.abs(counts(labels, indices) - np.outer(fractions, labels.sum(axis=0))).max()


@pytest.mark.parametrize("fractions", [[0.8, 0.2], [0.5, 0.5], [0.7, 0.1, 0.2]])
def test_labels_keep_their_share(fractions):
    labels = long_tailed(400)
    ends = np.rint(np.cumsum(fractions) * 400).astype(int)[:-1]
    stratified, random = [], []
    for seed in range(5):
        stratified.append(worst_deviation(labels, stratified_split(labels, fractions, seed), fractions))
        shuffled = np.random.default_rng(seed).permutation(400)
        random.append(worst_deviation(labels, np.split(shuffled, ends), fractions))
    # Counts are whole, so 0.5 is unavoidable. A label that most images have is placed last, and may be off by more.
    assert np.median(stratified) <= 1.5 and max(stratified) <= 5.0
    assert np.median(random) > 4.5


def test_a_label_with_two_images_is_on_both_sides():
    """Twenty labels with two images each, of which by their share half an image is due in test."""
    labels = np.zeros((100, 21), int)
    labels[np.arange(40), np.arange(40) // 2] = 1
    labels[50:, 20] = 1
    for seed in range(3):
        indices = stratified_split(labels, [0.75, 0.25], seed)
        assert counts(labels, indices)[:, :20].tolist() == [[1] * 20, [1] * 20]
        assert [len(chosen) for chosen in indices] == [75, 25]
        assert sorted(np.concatenate(indices)) == list(range(100))


@pytest.mark.parametrize("fractions", [[0.8, 0.2], [0.7, 0.1, 0.2]])
def test_groups_stay_together(fractions):
    labels = long_tailed(400)
    groups = np.random.default_rng(1).integers(0, 120, 400)
    for seed in range(3):
        indices = grouped_split(labels, groups, fractions, seed)
        assert sorted(np.concatenate(indices)) == list(range(400))
        of_split = [set(groups[chosen]) for chosen in indices]
        assert sum(map(len, of_split)) == len(set.union(*of_split))
        assert np.abs(np.array([len(chosen) for chosen in indices]) - 400 * np.array(fractions)).max() <= 12
        assert worst_deviation(labels, indices, fractions) <= 12
    assert [chosen.tolist() for chosen in grouped_split(labels, groups, fractions, 0)] == [
        chosen.tolist() for chosen in grouped_split(labels, groups, fractions, 0)
    ]


def test_few_large_groups():
    """No split is empty, whatever the shares."""
    assert [len(chosen) for chosen in grouped_split([[1]] * 6, [*"aaaabb"], [0.98, 0.02], 0)] in ([4, 2], [2, 4])
    assert sorted(len(chosen) for chosen in grouped_split([[0]] * 4, [*"aabc"], [0.8, 0.1, 0.1], 0)) == [1, 1, 2]
    listed = photos(4)
    with pytest.raises(InputError, match="need one group of images each. Received: 1 group"):
        split_photos(listed, [[1]] * 4, 0, 0.5, groups=["a"] * 4)


def test_a_seed_decides():
    labels = long_tailed(100)
    first, again, other = (stratified_split(labels, [0.8, 0.2], seed)[1].tolist() for seed in (7, 7, 8))
    assert first == again != other


def test_the_split_of_a_seed_stays_what_it_is():
    # Published results name a seed: neither a new NumPy nor a new library may change what it means.
    labels = np.stack([np.arange(20) % 2 == 0, np.arange(20) % 3 == 0, np.arange(20) % 7 == 0], axis=1)
    assert stratified_split(labels, [0.7, 0.3], seed=2017)[1].tolist() == [2, 6, 7, 10, 13, 15]


def test_importing_does_not_load_scikit_learn():
    code = "import sys, srn_tf.data.splitting; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def photos(number):
    return [Photo(f"{i}.jpg", (Example(f"{i}.jpg", (i % 2,)),)) for i in range(number)]


def test_photos_go_to_named_splits_in_order():
    listed = photos(20)
    labels = [photo.examples[0].labels for photo in listed]
    splits = split_photos(listed, labels, seed=0, test_fraction=0.2, validation_fraction=0.1)
    assert {split: len(chosen) for split, chosen in splits.items()} == {"train": 14, "test": 4, "validation": 2}
    for chosen in splits.values():
        assert chosen == sorted(chosen, key=listed.index)
        assert sum(photo.examples[0].labels[0] for photo in chosen) == len(chosen) / 2
    assert list(split_photos(listed, labels, seed=0, test_fraction=0.5)) == ["train", "test"]


@pytest.mark.parametrize(
    "number, seed, test_fraction, validation_fraction, message",
    [
        (20, 0, 0.0, 0.0, "test_fraction must be above 0.* Received: 0.0 and 0.0"),
        (20, 0, 1.0, 0.0, "their sum below 1. Received: 1.0 and 0.0"),
        (20, 0, 0.5, 0.5, "their sum below 1. Received: 0.5 and 0.5"),
        (20, 0, 0.5, -0.1, "validation_fraction at least 0.* Received: 0.5 and -0.1"),
        (20, 0, float("nan"), 0.0, "Received: nan and 0.0"),
        (20, -1, 0.5, 0.0, "split_seed must be a whole number from 0 to 4294967295. Received: -1"),
        (20, 2**32, 0.5, 0.0, "split_seed must be .* Received: 4294967296"),
        (1, 0, 0.5, 0.0, "The splits train, test need one image each. Received: 1 image"),
        (2, 0, 0.5, 0.2, "The splits train, test, validation need one image each. Received: 2 image"),
    ],
)
def test_bad_options(number, seed, test_fraction, validation_fraction, message):
    with pytest.raises(InputError, match=message):
        split_photos(photos(number), [[1]] * number, seed, test_fraction, validation_fraction)


def long_tail(num_examples, num_labels, seed=0):
    """Indices of the labels of each example, about four; the k-th label comes in proportion to 1 / k."""
    random = np.random.default_rng(seed)
    ends = np.cumsum(1 / np.arange(1, num_labels + 1))
    drawn = [np.searchsorted(ends, random.random(1 + random.poisson(3)) * ends[-1]) for _ in range(num_examples)]
    return [tuple(sorted(set(labels.tolist()))) for labels in drawn]


@pytest.mark.parametrize("seed", range(5))
def test_iterative_stratification_is_that_of_the_package(seed):
    from iterstrat.ml_stratifiers import IterativeStratification

    from srn_tf.data.splitting import _stratify

    positives = [labels if i % 7 else () for i, labels in enumerate(long_tail(200, 40, seed))]
    dense = matrix_of(positives, 40).toarray() == 1
    shares = np.array([[0.8, 0.2], [0.7, 0.1, 0.2]][seed % 2])
    expected = IterativeStratification(dense, shares, np.random.RandomState(seed))
    assert _stratify(matrix_of(positives, 40), shares, np.random.RandomState(seed)).tolist() == expected.tolist()


def test_labels_by_their_indices_give_the_same_splits():
    positives = long_tail(100, 30)
    dense, groups = matrix_of(positives, 30).toarray(), np.arange(100) // 3
    for split, arguments in ((stratified_split, ()), (grouped_split, (groups,))):
        expected = split(dense, *arguments, [0.7, 0.2, 0.1], 3)
        found = split(matrix_of(positives, 30), *arguments, [0.7, 0.2, 0.1], 3)
        assert [one.tolist() for one in found] == [one.tolist() for one in expected]


def test_many_rare_labels_are_on_both_sides():
    """2,000 images with 400 labels, of which many are on two or three images: none of these is on one side."""
    labels = matrix_of(long_tail(2000, 400), 400)
    train, test = (np.asarray(labels[chosen].sum(axis=0)).ravel() for chosen in stratified_split(labels, [0.8, 0.2], 0))
    is_several = train + test > 1
    assert ((train + test)[is_several] < 4).sum() > 20
    assert train[is_several].all() and test[is_several].all()
