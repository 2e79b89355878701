"""Stratified splits: training and test images in which each label has the same share, as far as that goes."""

import numpy as np

from srn_tf.errors import InputError


def split_photos(photos, labels, seed, test_fraction, validation_fraction=0.0):
    """Divides photographs into training, test and perhaps validation images, see `stratified_split`.

    Args:
        photos: list of N Photos.
        labels: array-like (N, C), what is to be spread evenly; 1 is positive.
        seed: int, the option `split_seed`.
        test_fraction: share of the photographs, in (0, 1).
        validation_fraction: likewise; 0 for no such split.
    Returns:
        dict "train", "test" and, if its share is above 0, "validation" -> list of Photos, in the given order.
    Raises:
        InputError: shares that leave nothing to train on or to test on, a seed below 0 or above 2**32 - 1, or
            fewer photographs than splits.
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
    indices = stratified_split(labels, list(fractions.values()), seed)
    return {split: [photos[i] for i in chosen] for split, chosen in zip(fractions, indices)}


def stratified_split(labels, fractions, seed):
    """Divides examples into splits of given sizes, in which each label has nearly the same share.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data", ECML
    PKDD 2011) places the examples of the rarest label first, and lets sizes deviate: where most labels have few
    examples, it may leave a split empty. So then examples are moved until the sizes are as asked, each time the
    one whose move does the least harm to the labels' shares. What remains is a difference of about one example from
    a label's even share, now and then a few for a label that most examples have: it is placed last.

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
    return [np.sort(order[split_of == split]) for split in range(len(sizes))]


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
