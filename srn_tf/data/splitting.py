"""Stratified splits: training and test images in which each label has the same share, as far as that goes."""

import array
import heapq

import numpy as np
from scipy import sparse

from srn_tf.errors import InputError

_TRIED = 200  # images of a label that may be brought into a split where it is missing


def matrix_of(positives, num_labels):
    """Labels in the form that needs memory for positive ones only.

    Args:
        positives: iterable of N tuples of indices, ascending.
        num_labels: C.
    Returns:
        scipy.sparse.csr_matrix (N, C) of ones.
    """
    ends, indices = array.array("q", [0]), array.array("i")
    for own in positives:
        indices.extend(own)
        ends.append(len(indices))
    shape = (len(ends) - 1, num_labels)
    return sparse.csr_matrix((np.ones(len(indices), np.int64), np.array(indices, np.int32), np.array(ends)), shape)


def split_photos(photos, labels, seed, test_fraction, validation_fraction=0.0, groups=None):
    """Divides photographs into training, test and perhaps validation images, see `stratified_split`.

    Args:
        photos: list of N Photos.
        labels: array-like (N, C), what is to be spread evenly; 1 is positive. Or as of `matrix_of`.
        seed: int, the option `split_seed`.
        test_fraction: share of the photographs, in (0, 1).
        validation_fraction: likewise; 0 for no such split.
        groups: N values; photographs of equal ones stay together, see `grouped_split`. None: each by itself.
    Returns:
        dict "train", "test" and, if its share is above 0, "validation" -> list of Photos, in the given order.
    Raises:
        InputError: shares that leave nothing to train on or to test on, a seed below 0 or above 2**32 - 1, or
            fewer photographs or groups than splits.
    """
    if not (0.0 < test_fraction < 1.0 and 0.0 <= validation_fraction < 1.0 - test_fraction):
        raise InputError(
            "test_fraction must be above 0, validation_fraction at least 0, and their sum below 1. "
            f"Received: {test_fraction} and {validation_fraction}."
        )
    if not 0 <= seed < 2**32:
        raise InputError(f"split_seed must be a whole number from 0 to {2**32 - 1}. Received: {seed}.")
    fractions = {"train": 1.0 - test_fraction - validation_fraction, "test": test_fraction}
    if validation_fraction:
        fractions["validation"] = validation_fraction
    if len(photos) < len(fractions):
        raise InputError(
            f"The splits {', '.join(fractions)} need one image each. Received: {len(photos)} image(s). Add images."
        )
    if groups is not None and len(set(groups)) < len(fractions):
        raise InputError(
            f"The splits {', '.join(fractions)} need one group of images each. Received: {len(set(groups))} group(s). "
            "Use smaller groups."
        )
    if groups is None:
        indices = stratified_split(labels, list(fractions.values()), seed)
    else:
        indices = grouped_split(labels, groups, list(fractions.values()), seed)
    return {split: [photos[i] for i in chosen] for split, chosen in zip(fractions, indices)}


def stratified_split(labels, fractions, seed):
    """Divides examples into splits of given sizes, in which each label has nearly the same share.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data", ECML
    PKDD 2011) places the examples of the rarest label first, and lets sizes deviate: where most labels have few
    examples, it may leave a split empty. So then examples are moved until the sizes are as asked, each time the
    one whose move does the least harm to the labels' shares. What remains is a difference of about one example from
    a label's even share, now and then a few for a label that most examples have: it is placed last. Last, a label that
    is missing in a split though it has an example for each comes there by an exchange, if no other label then misses.

    Args:
        labels: array-like (N, C); 1 is positive, anything else is not. Or as of `matrix_of`. Examples without a
            positive are spread too.
        fractions: S shares of the examples, > 0, their sum 1; S <= N.
        seed: int in [0, 2**32); the same seed divides the same labels in the same way.
    Returns:
        list of S ascending int64 arrays of indices; together they have each of 0 to N - 1 once. Their sizes are
        N times the fractions, rounded, and at least 1.
    """
    labels = _as_matrix(labels)
    num_examples = labels.shape[0]
    sizes = _round_sizes(num_examples, fractions)
    rng = np.random.RandomState(seed)  # Unlike a Generator's, its numbers stay the same with every NumPy.
    order = rng.permutation(num_examples)
    mixed = labels[order]
    split_of = _stratify(mixed, sizes / num_examples, rng)
    _move_to_sizes(split_of, mixed, sizes)
    _exchange_for_rare(split_of, mixed, len(sizes))
    return [np.sort(order[split_of == split]) for split in range(len(sizes))]


def grouped_split(labels, groups, fractions, seed):
    """Divides examples into splits so that none has a part of a group, and each label about the same share.

    The groups that hold the largest part of a label go first, each to the split where it brings examples and labels
    nearest to their shares: the sum over splits of squared deviations, divided by the number of examples of a label.
    Sizes are near what was asked, as far as the groups allow.

    Args:
        labels: array-like (N, C); 1 is positive. Or as of `matrix_of`.
        groups: N values; examples of equal ones belong together. At least S different ones.
        fractions: S shares of the examples, > 0, their sum 1.
        seed: int in [0, 2**32), which decides between groups that are alike.
    Returns:
        list of S ascending int64 arrays of indices, none empty; together they have each of 0 to N - 1 once.
    """
    labels = _as_matrix(labels)
    num_examples = labels.shape[0]
    _, group_of = np.unique(np.asarray(groups), return_inverse=True)
    num_groups, num_splits = group_of.max() + 1, len(fractions)
    members = sparse.csr_matrix((np.ones(num_examples), (group_of, np.arange(num_examples))))
    every = sparse.csr_matrix(np.ones((num_examples, 1)))
    units = members @ sparse.hstack([labels, every], "csr")  # examples of each label, and all of them
    total = np.maximum(np.asarray(units.sum(axis=0)).ravel(), 1)
    order = np.random.RandomState(seed).permutation(num_groups)
    largest = units.multiply(1 / total).max(axis=1).toarray().ravel()
    order = order[np.argsort(-largest[order], kind="stable")]
    missing = np.outer(fractions, total)  # what each split still lacks; below 0 it has too much
    split_of, num_empty = np.zeros(num_groups, np.int64), num_splits
    is_empty = np.ones(num_splits, bool)
    for place, unit in enumerate(order):
        own = slice(units.indptr[unit], units.indptr[unit + 1])
        columns, unit_counts = units.indices[own], units.data[own]
        cost = ((unit_counts - 2 * missing[:, columns]) * unit_counts / total[columns]).sum(axis=1)
        if num_groups - place == num_empty:  # one for each split that has none yet
            cost[~is_empty] = np.inf
        split = cost.argmin()
        num_empty -= int(is_empty[split])
        is_empty[split] = False
        missing[split, columns] -= unit_counts
        split_of[unit] = split
    return [np.flatnonzero(split_of[group_of] == split) for split in range(num_splits)]


def _round_sizes(num_examples, fractions):
    """Returns int64 (S,) sizes, each at least 1, their sum num_examples."""
    ends = np.rint(np.cumsum(fractions) * num_examples).astype(np.int64)
    sizes = np.diff(ends, prepend=0)
    while sizes.min() < 1:
        sizes[sizes.argmin()] += 1
        sizes[sizes.argmax()] -= 1
    return sizes


def _as_matrix(labels):
    """Which examples have which labels: CSR (N, C) of ones, indices ascending; of a sparse matrix or array-like."""
    if sparse.issparse(labels):
        return labels
    return sparse.csr_matrix(np.asarray(labels) == 1, dtype=np.int64)


def _own_labels(labels, example):
    """The indices of the labels that an example has, ascending."""
    return labels.indices[labels.indptr[example] : labels.indptr[example + 1]]


def _counts(split_of, labels, num_splits):
    """int64 (S, C), examples with each label in each split."""
    owner = np.repeat(split_of, np.diff(labels.indptr))
    return np.stack(
        [np.bincount(labels.indices[owner == split], minlength=labels.shape[1]) for split in range(num_splits)]
    )


def _stratify(labels, shares, rng):
    """Iterative stratification, see `stratified_split`.

    It does what `IterativeStratification` of the package iterative-stratification does, random numbers included. That
    one goes through all N x C entries once for each label: of a million examples with 10,000 labels for ever.

    Args:
        labels: as of `_as_matrix`, the examples in mixed order.
        shares: float64 (S,), their sum 1.
        rng: np.random.RandomState.
    Returns:
        int64 (N,), the split of each example.
    """
    num_examples, num_labels = labels.shape
    left = np.bincount(labels.indices, minlength=num_labels)  # examples of each label that have no split yet
    wanted_of = np.outer(shares, left).tolist()  # what each split still lacks: of each label, and of all examples
    wanted = (shares * num_examples).tolist()
    split_of, is_placed = np.zeros(num_examples, np.int64), np.zeros(num_examples, bool)
    by_label = labels.tocsc()
    while left.any():
        rarest = np.flatnonzero(left == left[left > 0].min())
        label = rarest[rng.choice(len(rarest))] if len(rarest) > 1 else rarest[0]
        examples = _own_labels(by_label, label)
        examples = examples[~is_placed[examples]]
        for example in examples.tolist():
            own = _own_labels(labels, example)
            splits = _largest([of_label[label] for of_label in wanted_of], range(len(wanted)))
            split = _drawn(_largest(wanted, splits), rng) if len(splits) > 1 else splits[0]
            split_of[example] = split
            wanted[split] -= 1
            for index in own.tolist():
                wanted_of[split][index] -= 1
            left[own] -= 1
        is_placed[examples] = True
    for example in np.flatnonzero(~is_placed).tolist():  # those without labels
        split = _drawn(_largest(wanted, range(len(wanted))), rng)
        split_of[example] = split
        wanted[split] -= 1
    return split_of


def _largest(values, splits):
    """Those of some splits whose value is the largest: list."""
    largest = max(values[split] for split in splits)
    return [split for split in splits if values[split] == largest]


def _drawn(splits, rng):
    return splits[rng.choice(len(splits))] if len(splits) > 1 else splits[0]


def _move_to_sizes(split_of, labels, sizes):
    """Moves examples between splits until the sizes are as asked.

    What is kept small is the sum over splits and labels of squared deviations from a label's even share. In whole
    numbers (deviations times N), so that ties are ties on every machine.

    Args:
        split_of: int (N,), the split of each example; changed in place.
        labels: as of `_as_matrix`.
        sizes: int64 (S,), sum N.
    """
    num_examples = labels.shape[0]
    excess = np.bincount(split_of, minlength=len(sizes)) - sizes
    totals = np.bincount(labels.indices, minlength=labels.shape[1])
    deviation = num_examples * _counts(split_of, labels, len(sizes)) - np.outer(sizes, totals)
    queues = {}  # (giver, taker) -> heap of (harm, example)
    while excess.any():
        giver, taker = excess.argmax(), excess.argmin()
        # For each label moved: (taker + N)^2 - taker^2 + (giver - N)^2 - giver^2, divided by 2 N.
        harm_of = deviation[taker] - deviation[giver] + num_examples
        if (giver, taker) not in queues:
            candidates = np.flatnonzero(split_of == giver)
            harm = (labels[candidates] @ harm_of).tolist()
            queues[giver, taker] = list(zip(harm, candidates.tolist(), strict=True))
            heapq.heapify(queues[giver, taker])
        moved = _least_harm(queues[giver, taker], split_of, giver, labels, harm_of)
        own = _own_labels(labels, moved)
        split_of[moved] = taker
        deviation[giver, own] -= num_examples
        deviation[taker, own] += num_examples
        excess[giver] -= 1
        excess[taker] += 1


def _least_harm(queue, split_of, giver, labels, harm_of):
    """Takes the example whose move does the least harm from a heap; of equals the first.

    A giver only gives and a taker only takes, so harm only grows: an example whose harm is still what it was when it
    came into the heap is the one.
    """
    while True:
        harm, example = heapq.heappop(queue)
        if split_of[example] != giver:
            continue
        now = int(harm_of[_own_labels(labels, example)].sum())
        if now == harm:
            return example
        heapq.heappush(queue, (now, example))


def _exchange_for_rare(split_of, labels, num_splits):
    """Brings labels into splits where they are missing, the rarest first, each for an example that can be spared there.

    Args:
        split_of: int (N,), the split of each example; changed in place.
        labels: as of `_as_matrix`, the examples in mixed order.
        num_splits: int.
    """
    totals = np.bincount(labels.indices, minlength=labels.shape[1])
    counts = _counts(split_of, labels, num_splits)
    by_label = labels.tocsc()
    for label in np.argsort(totals, kind="stable"):
        for split in range(min(totals[label], num_splits)):  # the first splits matter most: train, test
            if counts[split, label]:
                continue
            for giver in _own_labels(by_label, label)[:_TRIED].tolist():
                home, given = split_of[giver], _own_labels(labels, giver)
                if counts[home, label] < 2:
                    continue
                taker = _spared(split_of, labels, by_label, counts, split, home, given)
                if taker is not None:
                    split_of[giver], split_of[taker] = split, home
                    for examples_labels, change in ((given, 1), (_own_labels(labels, taker), -1)):
                        counts[split, examples_labels] += change
                        counts[home, examples_labels] -= change
                    break


def _spared(split_of, labels, by_label, counts, split, home, given):
    """The first example of a split that may change places with one at home; None if there is none.

    What an exchange may not take away is a label's only example in either split, unless it comes back.

    Args:
        by_label: `labels` as CSC.
        counts: as of `_counts`.
        given: indices of the labels of the example at home.
    """
    only_at_home = given[counts[home, given] == 1]
    if not counts[split, only_at_home].all():
        return None  # nothing there could bring it back
    is_only_there = counts[split] == 1
    is_only_there[given] = False
    may_go = (split_of == split) & (labels @ is_only_there.astype(np.int64) == 0)
    for label in only_at_home:
        brings_back = np.zeros(len(may_go), bool)
        brings_back[_own_labels(by_label, label)] = True
        may_go &= brings_back
    return may_go.argmax() if may_go.any() else None
