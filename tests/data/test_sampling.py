"""Repeat factors and what an epoch makes of them, against cases worked by hand."""

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.data.sampling import images_of_an_epoch, repeat_factors, repeats_of_an_epoch


def test_factors_by_hand(caplog):
    """Of 8 images: label 0 on all, label 1 on 2, label 2 on 1; half of the images is rare. Only 1 is a positive."""
    caplog.set_level("INFO")
    labels = np.full((8, 4), -1, np.int8)
    labels[:, 0], labels[:, 3] = 1, 0
    labels[[2, 5], 1], labels[5, 2] = 1, 1
    factors = repeat_factors(tf.data.Dataset.from_tensor_slices({"labels": labels}), 0.5)
    np.testing.assert_allclose(factors, [1, 1, np.sqrt(2), 1, 1, 2, 1, 1])
    assert "2 of 8 training images, up to 2.00 times. An epoch has 9 images." in caplog.text
    np.testing.assert_array_equal(repeat_factors(tf.data.Dataset.from_tensor_slices({"labels": labels}), 0.1), 1)


def test_an_epoch_rounds_every_factor_up_or_down():
    """Equally long epochs, and over many of them each image as often as its factor says."""
    factors = 1 + np.random.default_rng(0).exponential(0.8, 300)
    epochs = np.stack([repeats_of_an_epoch(factors, 3, epoch) for epoch in range(1000)])
    assert epochs.dtype == np.int64 and (epochs.sum(axis=1) == images_of_an_epoch(factors)).all()
    assert images_of_an_epoch(factors) == int(factors.sum())
    assert ((epochs == np.floor(factors)) | (epochs == np.ceil(factors))).all()
    # A mean of 1000 draws of variance at most 1/4; the last place of the scale may be cut by less than 1 of about 150.
    np.testing.assert_allclose(epochs.mean(axis=0), factors, atol=5 * np.sqrt(0.25 / 1000) + 1 / 100)
    assert len(np.unique(epochs, axis=0)) == 1000
    np.testing.assert_array_equal(repeats_of_an_epoch(factors, 3, 7), epochs[7])
    assert (repeats_of_an_epoch(factors, 4, 7) != epochs[7]).any()


@pytest.mark.parametrize(
    ("factors", "expected"), [([1.0, 1.0], [1, 1]), ([2.0, 3.0], [2, 3]), ([1.5, 1.4], [1, 1]), ([1.0] * 7, [1] * 7)]
)
def test_whole_factors_and_less_than_one_image_more(factors, expected):
    for epoch in range(5):
        assert repeats_of_an_epoch(np.array(factors), 0, epoch).tolist() == expected
    assert images_of_an_epoch(np.array(factors)) == sum(expected)


def test_a_sum_that_is_whole_but_for_rounding():
    factors = np.full(10, 1.1)
    assert images_of_an_epoch(factors) == 11
    assert all(repeats_of_an_epoch(factors, 0, epoch).sum() == 11 for epoch in range(100))
