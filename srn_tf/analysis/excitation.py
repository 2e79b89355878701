"""The images that excite a neuron most, and the labels these have in common (the paper's Figure 6)."""

import dataclasses
import math

import numpy as np
from scipy.stats import hypergeom
from tqdm import tqdm

TOP_IMAGES = 20
LEVEL = 0.05  # of finding a common label by chance, over all neurons and labels together


@dataclasses.dataclass(frozen=True)
class CommonLabel:
    """A label that the most exciting images have more often than the split.

    Attributes:
        label: index.
        count: how many of them have it.
        lift: its share among them over its share in the split.
        p: chance of as many or more if as many images are drawn blindly (hypergeometric).
    """

    label: int
    count: int
    lift: float
    p: float


@dataclasses.dataclass(frozen=True)
class Excitation:
    """The most exciting images of one neuron.

    Attributes:
        neuron: index.
        images: int (T,), from the most exciting down, T <= 20; the neuron fires on all of them.
        responses: float32 (T,).
        common: list of CommonLabel, from the least likely chance up.
    """

    neuron: int
    images: np.ndarray
    responses: np.ndarray
    common: list


def excite(neurons, positives, neuron):
    """Finds the most exciting images of a neuron.

    A label is common if chance would give it to so many of them with a probability below 0.05 / (M C): one false find
    in twenty over all neurons and labels.

    Args:
        neurons: float (N, M), responses >= 0.
        positives: bool (N, C).
        neuron: index.
    Returns:
        Excitation.
    """
    response = neurons[:, neuron]
    images = np.argsort(-response, kind="stable")[:TOP_IMAGES]
    images = images[response[images] > 0]
    counts = positives[images].sum(axis=0)  # (C,)
    of_split = positives.sum(axis=0)
    p = hypergeom.sf(counts - 1, len(positives), of_split, len(images))
    num_tests = neurons.shape[1] * positives.shape[1]
    common = [
        CommonLabel(
            int(label),
            int(counts[label]),
            float(counts[label] / len(images) / (of_split[label] / len(positives))),
            float(p[label]),
        )
        for label in np.argsort(p, kind="stable")
        if p[label] < LEVEL / num_tests
    ]
    return Excitation(int(neuron), images, response[images], common)


def choose_neurons(neurons, positives, count, title=None):
    """Chooses neurons to show: most common labels first, then the least likely; no two with the same labels.

    Args:
        neurons, positives: as `excite`.
        count: how many; fewer if fewer have a common label.
        title: text of the progress bar; None shows none.
    Returns:
        list of Excitation.
    """
    progress = tqdm(range(neurons.shape[1]), title, unit="neuron", leave=False, disable=None if title else True)
    excitations = [excite(neurons, positives, neuron) for neuron in progress]
    excitations = [excitation for excitation in excitations if excitation.common]
    excitations.sort(key=lambda one: (-len(one.common), sum(math.log(max(label.p, 1e-300)) for label in one.common)))
    chosen = {}
    for excitation in excitations:
        chosen.setdefault(frozenset(label.label for label in excitation.common), excitation)
    return list(chosen.values())[:count]
