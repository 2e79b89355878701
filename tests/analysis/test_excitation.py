"""Exciting images and their common labels, counted by hand."""

from math import comb

import numpy as np
import pytest

from srn_tf.analysis.excitation import choose_neurons, excite


def split(seed=0):
    """200 images, 6 neurons that mean nothing, 5 labels on about a quarter of the images."""
    rng = np.random.default_rng(seed)
    return rng.random((200, 6)), rng.random((200, 5)) < 0.25


def test_common_labels_are_counted():
    neurons, positives = split()
    positives[:, 3] = np.arange(200) < 50
    neurons[:, 2] = np.where(np.arange(200) < 18, 9.0, neurons[:, 2])
    neurons[[60, 70], 2] = 8.0, 7.0  # so the twenty are images 0 to 17, 60 and 70: 18 with label 3
    excitation = excite(neurons, positives, 2)
    assert excitation.images.tolist() == [*range(18), 60, 70]
    assert excitation.responses[-2:].tolist() == [8.0, 7.0]
    (common,) = excitation.common
    assert (common.label, common.count, common.lift) == (3, 18, pytest.approx(0.9 / 0.25))
    chance = sum(comb(50, k) * comb(150, 20 - k) for k in range(18, 21)) / comb(200, 20)
    assert common.p == pytest.approx(chance, rel=1e-6)
    assert excite(neurons, positives, 1).common == []


def test_only_images_on_which_the_neuron_fires():
    neurons, positives = split()
    neurons[:, 0] = 0.0
    neurons[[5, 9], 0] = 0.5, 0.7
    assert excite(neurons, positives, 0).images.tolist() == [9, 5]
    neurons[:, 0] = 0.0
    silent = excite(neurons, positives, 0)
    assert len(silent.images) == 0 and silent.common == []


def test_neurons_are_chosen_by_how_many_labels_are_common_to_their_images():
    neurons, positives = split()
    neurons[:, 1] = positives[:, 0] + 0.1 * neurons[:, 1]  # one label
    neurons[:, 3] = (positives[:, 0] & positives[:, 2]) + 0.1 * neurons[:, 3]  # two labels
    neurons[:, 4] = positives[:, 0] + 0.1 * neurons[:, 4]  # the same as neuron 1
    positives[:20, 2] |= positives[:20, 0]
    assert (positives[:, 0] & positives[:, 2]).sum() >= 10
    chosen = choose_neurons(neurons, positives, 5)
    assert [excitation.neuron for excitation in chosen][0] == 3
    assert {common.label for common in chosen[0].common} == {0, 2}
    assert len(chosen) == 2 and [common.label for common in chosen[1].common] == [0]
    assert len(choose_neurons(neurons, positives, 1)) == 1


def test_chance_alone_gives_no_neuron():
    assert sum(len(choose_neurons(*split(seed), 5)) for seed in range(20)) <= 2  # 5 % each are allowed
