"""Pearson correlation of many neurons with places, and how large the largest of so many is by chance alone."""

import numpy as np
from tqdm import tqdm

PERMUTATIONS = 200
LEVEL = 0.95


def pearson(responses, values):
    """Correlation of each neuron with each value over images.

    Args:
        responses: float (n, M).
        values: float (n, K).
    Returns:
        float64 (M, K), -1 to 1; NaN where one of the two is the same in all images.
    """
    return _standardised(responses).T @ _standardised(values)


def chance_limit(responses, targets, seed=0, title=None):
    """What the strongest correlation of all stays below by chance.

    Permutation test over everything that is tried at once: the places of each target are dealt anew to its images,
    both axes together, and the strongest of all correlations is kept; of 200 such strongest ones, the 95th percentile.
    As rare labels reach a high r more easily, strength is Fisher's atanh(r) sqrt(n - 3).

    Args:
        responses: float (N, M).
        targets: list of targets.Target, each of at least 4 images.
        seed: int, of the permutations.
        title: text of the progress bar; None shows none.
    Returns:
        float, a limit for `largest_by_chance`.
    """
    rng = np.random.default_rng(seed)
    strongest = np.zeros(PERMUTATIONS)
    for target in tqdm(targets, title, unit="target", leave=False, disable=None if title else True):
        num_images = len(target.images)
        neurons = np.nan_to_num(_standardised(responses[target.images])).astype(np.float32)
        values = np.nan_to_num(_standardised(target.values)).astype(np.float32)
        order = np.argsort(rng.random((PERMUTATIONS, num_images)), axis=1)
        dealt = values[order].transpose(1, 0, 2).reshape(num_images, -1)  # (n, PERMUTATIONS * 2)
        r = np.abs(neurons.T @ dealt).max(axis=0).reshape(PERMUTATIONS, -1).max(axis=1)
        strongest = np.maximum(strongest, np.arctanh(np.minimum(r, 1 - 1e-7)) * np.sqrt(num_images - 3))
    return float(np.quantile(strongest, LEVEL))


def largest_by_chance(limit, num_images):
    """The |r| that a correlation over so many images must exceed.

    Args:
        limit: float, of `chance_limit`.
        num_images: int, at least 4.
    Returns:
        float, 0 to 1.
    """
    return float(np.tanh(limit / np.sqrt(num_images - 3)))


def _standardised(values):
    """Columns with mean 0 and sum of squares 1; NaN where a column is constant."""
    values = np.asarray(values, np.float64)
    centred = values - values.mean(axis=0)
    norms = np.linalg.norm(centred, axis=0)
    norms[np.ptp(values, axis=0) == 0] = np.nan  # rounding may leave something of a constant
    return centred / norms
