"""Stratified splits: training and test images in which each label has the same share, as far as that goes."""

import numpy as np

from srn_tf.errors import InputError

_TRIED = 200  # images that may change places with one of a rare label


def split_photos(photos, labels, seed, test_fraction, validation_fraction=0.0, groups=None):
    """Divides photographs into training, test and perhaps validation images, see `stratified_split`.

    Args:
        photos: list of N Photos.
        labels: array-like (N, C), what is to be spread evenly; 1 is positive.
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
        labels: array-like (N, C); 1 is positive, anything else is not. Examples without a positive are spread too.
        fractions: S shares of the examples, > 0, their sum 1; S <= N.
        seed: int in [0, 2**32); the same seed divides the same labels in the same way.
    Returns:
        list of S ascending int64 arrays of indices; together they have each of 0 to N - 1 once. Their sizes are
        N times the fractions, rounded, and at least 1.
    """
    # Here, since scikit-learn comes with it and takes a second. The function and not the package's class
    # MultilabelStratifiedShuffleSplit, which refuses a single label and more than two splits.
    from iterstrat.ml_stratifiers import IterativeStratification

    labels = np.asarray(labels) == 1
    num_examples = len(labels)
    sizes = _round_sizes(num_examples, fractions)
    rng = np.random.RandomState(seed)  # Unlike a Generator's, its numbers stay the same with every NumPy.
    order = rng.permutation(num_examples)
    split_of = IterativeStratification(labels[order], sizes / num_examples, rng)
    _move_to_sizes(split_of, labels[order], sizes)
    _exchange_for_rare(split_of, labels[order], len(sizes))
    return [np.sort(order[split_of == split]) for split in range(len(sizes))]


def grouped_split(labels, groups, fractions, seed):
    """Divides examples into splits so that none has a part of a group, and each label about the same share.

    The groups that hold the largest part of a label go first, each to the split where it brings examples and labels
    nearest to their shares: the sum over splits of squared deviations, divided by the number of examples of a label.
    Sizes are near what was asked, as far as the groups allow.

    Args:
        labels: array-like (N, C); 1 is positive.
        groups: N values; examples of equal ones belong together. At least S different ones.
        fractions: S shares of the examples, > 0, their sum 1.
        seed: int in [0, 2**32), which decides between groups that are alike.
    Returns:
        list of S ascending int64 arrays of indices, none empty; together they have each of 0 to N - 1 once.
    """
    labels = np.asarray(labels) == 1
    _, group_of = np.unique(np.asarray(groups), return_inverse=True)
    num_groups, num_splits = group_of.max() + 1, len(fractions)
    units = np.zeros((num_groups, labels.shape[1] + 1))  # examples of each label, and all of them
    np.add.at(units, group_of, np.column_stack([labels, np.ones(len(labels))]))
    total = np.maximum(units.sum(axis=0), 1)
    order = np.random.RandomState(seed).permutation(num_groups)
    order = order[np.argsort(-(units[order] / total).max(axis=1), kind="stable")]
    missing = np.outer(fractions, total)  # what each split still lacks; below 0 it has too much
    split_of, num_empty = np.zeros(num_groups, np.int64), num_splits
    is_empty = np.ones(num_splits, bool)
    for place, unit in enumerate(order):
        cost = ((units[unit] - 2 * missing) * units[unit] / total).sum(axis=1)
        if num_groups - place == num_empty:  # one for each split that has none yet
            cost[~is_empty] = np.inf
        split = cost.argmin()
        num_empty -= int(is_empty[split])
        is_empty[split] = False
        missing[split] -= units[unit]
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


def _move_to_sizes(split_of, labels, sizes):
    """Moves examples between splits until the sizes are as asked.

    What is kept small is the sum over splits and labels of squared deviations from a label's even share. In whole
    numbers (deviations times N), so that ties are ties on every machine.

    Args:
        split_of: int (N,), the split of each example; changed in place.
        labels: bool (N, C).
        sizes: int64 (S,), sum N.
    """
    num_examples, splits = len(labels), range(len(sizes))
    excess = np.bincount(split_of, minlength=len(sizes)) - sizes
    counts = np.stack([labels[split_of == split].sum(axis=0) for split in splits])
    deviation = num_examples * counts - np.outer(sizes, labels.sum(axis=0))
    while excess.any():
        giver, taker = excess.argmax(), excess.argmin()
        candidates = np.flatnonzero(split_of == giver)
        # For each label moved: (taker + N)^2 - taker^2 + (giver - N)^2 - giver^2, divided by 2 N.
        harm = labels[candidates] @ (deviation[taker] - deviation[giver] + num_examples)
        moved = candidates[harm.argmin()]
        split_of[moved] = taker
        deviation[giver] -= num_examples * labels[moved]
        deviation[taker] += num_examples * labels[moved]
        excess[giver] -= 1
        excess[taker] += 1


def _exchange_for_rare(split_of, labels, num_splits):
    """Brings labels into splits where they are missing, the rarest first, each for an example that can be spared there.

    Args:
        split_of: int (N,), the split of each example; changed in place.
        labels: bool (N, C), the examples in mixed order.
        num_splits: int.
    """
    totals = labels.sum(axis=0)
    counts = np.stack([labels[split_of == split].sum(axis=0) for split in range(num_splits)])
    for label in np.argsort(totals, kind="stable"):
        for split in range(min(totals[label], num_splits)):  # the first splits matter most: train, test
            if counts[split, label]:
                continue
            for giver in np.flatnonzero(labels[:, label])[:_TRIED]:
                home = split_of[giver]
                if counts[home, label] < 2:
                    continue
                takers = np.flatnonzero(split_of == split)[:_TRIED]
                # What an exchange would take away: a label's only example in either split, unless it comes back.
                lost = labels[takers] & (counts[split] == 1) & ~labels[giver]
                lost_at_home = labels[giver] & (counts[home] == 1) & ~labels[takers]
                spared = takers[~(lost.any(axis=1) | lost_at_home.any(axis=1))]
                if len(spared):
                    taker = spared[0]
                    change = labels[giver].astype(np.int64) - labels[taker]
                    split_of[giver], split_of[taker] = split, home
                    counts[split] += change
                    counts[home] -= change
                    break
