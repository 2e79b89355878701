"""k nearest neighbours: a label's score is the share of the k nearest training images that have it.

The baseline "KNN" of NUS-WIDE (Chua et al., CIVR 2009) and of the SRN paper's Table 1. Differs from the paper: its k,
distance and vote could not be read, so k is chosen on validation images, and distance and vote are those said here.
Axes: N training images, M other images, D features, K neighbours, C labels.
"""

import numpy as np
from tqdm import tqdm

from srn_tf.errors import InputError

DISTANCES = ("euclidean", "manhattan")

CLIP = 1e-6  # a share closer to 0 or 1 counts as so far from it: logits are finite, from -13.8 to 13.8
_TIE_BREAK = 1e-4  # relative; far below what lies between two shares, far above the precision of float32
_ROUNDING = 2e-7  # relative; differences in float32 move a distance by less
_QUERIES = 256  # searched together; two batches' distances to all training images never exist at once
_ROWS = 4096  # training images measured together


def check_k(values, num_train):
    """Makes sure that there are as many training images as neighbours wanted.

    Args:
        values: the k to try, ints.
        num_train: N.
    Raises:
        InputError: none, one below 1 or given twice, or more than N.
    """
    shown = ",".join(map(str, values))
    if not values or min(values) < 1 or len(set(values)) < len(values):
        raise InputError(f"k must be different whole numbers above 0, separated by commas. Received: {shown!r}.")
    if max(values) > num_train:
        raise InputError(
            f"k must be at most the number of training images, {num_train}. Received: {shown}. Remove the larger "
            "values."
        )


def find_neighbours(train, queries, count, distance, title=None):
    """Finds the training images nearest to each query.

    Of training images at one distance the earlier comes first, also where only some of them are among the nearest.
    For that, what scikit-learn finds is measured again: its distances carry rounding.

    Args:
        train: float32 (N, D), finite.
        queries: float32 (M, D), finite; none of them a training image, which would be its own neighbour.
        count: int, K, 1 to N.
        distance: one of `DISTANCES`.
        title: text of the progress bar; None shows none.
    Returns:
        indices int32 (M, K) into `train` and distances float32 (M, K), nearest first.
    """
    from sklearn.neighbors import NearestNeighbors  # here: it takes a second to load

    # One more than asked for, to see whether something as near was left out.
    search = NearestNeighbors(n_neighbors=min(count + 1, len(train)), algorithm="brute", metric=distance).fit(train)
    indices = np.empty((len(queries), count), np.int32)
    distances = np.empty((len(queries), count), np.float32)
    with tqdm(total=len(queries), desc=title, unit="image", leave=False, disable=None if title else True) as progress:
        for start in range(0, len(queries), _QUERIES):
            batch = queries[start : start + _QUERIES]
            found = search.kneighbors(batch, return_distance=False)
            for row, (query, nearest) in enumerate(zip(batch, found, strict=True), start):
                indices[row], distances[row] = _rank(train, query, nearest, count, distance)
            progress.update(len(batch))
    return indices, distances


def label_shares(indices, distances, labels, k, sigma=0.0):
    """The share of each image's k nearest neighbours that have a label.

    Args:
        indices, distances: (M, K), see `find_neighbours`.
        labels: int (N, C), of the training images; 1 is positive, and all else does not vote for the label.
        k: int, 1 to K.
        sigma: 0: each neighbour counts alike; above: one at distance d counts exp(-d / sigma).
    Returns:
        float64 (M, C), in [0, 1].
    """
    positives = labels == 1
    weights = np.ones((len(indices), k))
    if sigma:
        # Shares stay the same if all weights are multiplied; so the nearest weighs 1, however far it is.
        weights = np.exp((distances[:, :1] - distances[:, :k]) / np.float64(sigma))
    votes, total = np.zeros((len(indices), labels.shape[1])), np.zeros((len(indices), 1))
    for place in range(k):
        weight = weights[:, place, np.newaxis]
        votes += weight * positives[indices[:, place]]
        total += weight
    return votes / total


def shares_as_logits(shares, labels):
    """Turns shares into logits, which is what the protocols take.

    For each label the images keep their order, and a share above, at or below 0.5 gives a probability above, at or
    below 0.5. For each image the labels keep their order as well; of equal shares (for weighted votes: of logits
    closer than 0.01 %) that of the label more frequent in training is a little higher.

    Args:
        shares: float (M, C), in [0, 1]; those within `CLIP` of 0 or 1 become equal.
        labels: int (N, C), of the training images; 1 is positive.
    Returns:
        float32 (M, C).
    """
    clipped = np.clip(shares, CLIP, 1.0 - CLIP)
    logits = np.log(clipped / (1.0 - clipped))
    num_labels = labels.shape[1]
    places = np.empty(num_labels)
    places[np.argsort(-(labels == 1).sum(axis=0), kind="stable")] = np.arange(num_labels)  # 0: the most frequent
    # In proportion to the logit, so that none changes its sign. A logit of 0 becomes one of -1e-24 at most, of which
    # the probability still is 0.5 exactly.
    logits -= _TIE_BREAK * places / num_labels * (np.abs(logits) + 1e-20)
    return logits.astype(np.float32)


def _rank(train, query, candidates, count, distance):
    """Returns indices and distances, (count,), of the nearest among the candidates, or among all where it is close."""
    exact = _measure(train[candidates], query, distance)
    order = np.lexsort((candidates, exact))
    if len(candidates) > count:
        last, left_out = exact[order[count - 1 : count + 1]]
        if left_out - last <= _ROUNDING * left_out:  # others that were left out may be as near
            candidates = np.arange(len(train))
            exact = _measure(train, query, distance)
            order = np.argsort(exact, kind="stable")
    return candidates[order[:count]], exact[order[:count]]


def _measure(images, query, distance):
    """Distances of images (R, D) from a query (D,): float64 (R,)."""
    parts = []
    for start in range(0, len(images), _ROWS):
        differences = images[start : start + _ROWS] - query
        if distance == "euclidean":
            parts.append(np.sqrt(np.square(differences, dtype=np.float64).sum(axis=1)))
        else:
            parts.append(np.abs(differences).sum(axis=1, dtype=np.float64))
    return np.concatenate(parts)
