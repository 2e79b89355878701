"""Mixed batches: images by hand and NumPy, labels from what is left of each image."""

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.data import mixing
from srn_tf.data.augments import Effects
from srn_tf.training import losses

B, SIDE, C = 8, 12, 5


def batch_of(with_counted=False):
    """Images of one colour each, 10 (i + 1) in all channels, and random labels."""
    rng = np.random.default_rng(0)
    batch = {
        "image": tf.constant(np.tile(10.0 * np.arange(1, B + 1)[:, None, None, None], [1, SIDE, SIDE, 3]), tf.float32),
        "y": tf.constant(rng.random((B, C)) < 0.5, tf.float32),
    }
    if with_counted:
        batch["counted"] = tf.constant(rng.random((B, C)) < 0.6, tf.float32)
        batch["y"] *= batch["counted"]
    return batch


def numpy_of(batch):
    return {name: value.numpy() for name, value in batch.items()}


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_labels_are_mixed_as_the_pixels_are(name):
    """Every pixel is of image i or j (or between, for Mixup); the share is what the pixels say."""
    batch = batch_of()
    y = batch["y"].numpy()
    shares, partners = [], []
    for seed in range(12):
        result = numpy_of(mixing.mixed(batch, tf.constant([seed, 1]), Effects((name,), mixup_alpha=0.8)))
        assert result["image"].shape == (B, SIDE, SIDE, 3) and result["y"].shape == (B, C)
        expected = np.argsort(tf.random.stateless_uniform([B], tf.random.split([seed, 1], 2 + (name == "cutmix"))[0]))
        for i, j in enumerate(expected):
            values = np.unique(result["image"][i])
            own, other = 10.0 * (i + 1), 10.0 * (j + 1)
            share = 1.0 if i == j else (result["image"][i].mean() - other) / (own - other)
            if name == "cutmix":
                assert set(values.tolist()) <= {own, other}
                rows, columns = np.nonzero(result["image"][i][..., 0] == other)
                if i != j and len(rows):  # a rectangle
                    assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            else:
                assert np.ptp(values) < 1e-4
            np.testing.assert_allclose(result["y"][i], share * y[i] + (1 - share) * y[j], atol=1e-5)
            shares.append(share)
            partners.append(j)
    assert -1e-5 < min(shares) < 0.3 and max(shares) > 0.9 and len(set(partners)) == B


def test_shares_are_of_a_beta_distribution():
    """Mean 1/2 and variance 1 / (4 (2 alpha + 1)), within four standard errors."""
    batch = {"y": tf.zeros([4000, 1])}
    for alpha in (0.05, 0.2, 1.0, 4.0):
        drawn = mixing._beta(batch, tf.constant([3, 4]), alpha).numpy()
        assert ((drawn >= 0) & (drawn <= 1)).all()
        variance = 1 / (4 * (2 * alpha + 1))
        assert abs(drawn.mean() - 0.5) < 4 * (variance / 4000) ** 0.5
        assert abs(drawn.var() - variance) < 0.06 * variance


@pytest.mark.parametrize("loss", ["sigmoid", "focal", "asymmetric"])
def test_a_mixed_loss_is_the_mixture_of_two_losses_of_what_is_known(loss):
    """The losses of both images with their own labels and unknown ones, weighted by the shares."""
    batch = batch_of(with_counted=True)
    seed = tf.constant([5, 1])
    result = mixing.mixup(batch, seed, 1.0)
    seeds = tf.random.split(seed)
    partners = np.argsort(tf.random.stateless_uniform([B], seeds[0]))
    kept = mixing._beta(batch, seeds[1], 1.0).numpy()
    logits = tf.constant(np.random.default_rng(1).normal(0, 2, (B, C)), tf.float32)
    function = losses.make_loss(loss)
    own = function(batch["y"], logits, batch["counted"]).numpy()
    other = function(tf.gather(batch["y"], partners), logits, tf.gather(batch["counted"], partners)).numpy()
    received = function(result["y"], logits, result["counted"])
    np.testing.assert_allclose(received, kept * own + (1 - kept) * other, rtol=1e-4, atol=1e-6)


def test_label_smoothing_by_hand():
    batch = {"y": tf.constant([[1.0, 0.0, 0.5]]), "row": tf.constant([3])}
    result = mixing.mixed(batch, tf.constant([0, 0]), Effects(("label_smoothing",)))
    np.testing.assert_allclose(result["y"], [[0.95, 0.05, 0.5]], atol=1e-6)
    assert result["row"].numpy().tolist() == [3]


# SpliceMix.


def resized(image, height, width):
    """Bilinear, corners on corners, written out."""

    def along(values, size):
        places = np.linspace(0, len(values) - 1, size)
        low = np.minimum(np.floor(places).astype(int), len(values) - 2)
        share = (places - low)[:, None, None]
        return values[low] * (1 - share) + values[low + 1] * share

    return along(along(image, height).swapaxes(0, 1), width).swapaxes(0, 1)


def test_spliced_images_are_grids_of_the_batchs_images():
    """Each cell is one image or blank; labels are those of the cells; grids and blanks come as often as they should."""
    batch = batch_of(with_counted=True)
    y, counted = batch["y"].numpy(), batch["counted"].numpy()
    grids, blanks = [], []
    for seed in range(80):
        result = numpy_of(mixing.splicemix(batch, tf.constant([seed, 2]), 0.3))
        for name, values in result.items():
            parts = values.reshape(B // 4, 5, *values.shape[1:])
            np.testing.assert_array_equal(parts[:, :4].reshape(batch[name].shape), batch[name])
            result[name] = parts[:, 4]
        found = [cells_of(image) for image in result["image"]]
        assert len({(rows, columns) for rows, columns, _ in found}) == 1  # one grid for a batch
        assert len({sum(cell is None for cell in cells) for *_, cells in found}) == 1
        for (rows, columns, cells), labels, known in zip(found, result["y"], result["counted"], strict=True):
            shown = [cell for cell in cells if cell is not None]
            assert shown and len(set(shown)) == len(shown) or rows * columns == 6  # of one order, or two
            for label in range(C):
                is_true = any(y[i, label] for i in shown)
                assert labels[label] == is_true
                assert known[label] == (is_true or all(counted[i, label] for i in shown))
        grids.append((rows, columns))
        blanks.append(len(cells) > len(shown))
    shares = {grid: grids.count(grid) / 80 for grid in mixing._GRIDS}
    for grid, expected in mixing._GRIDS.items():
        assert abs(shares[grid] - expected) < 4 * (expected * (1 - expected) / 80) ** 0.5, grid
    assert abs(np.mean(blanks) - 0.3) < 4 * (0.3 * 0.7 / 80) ** 0.5


def cells_of(image):
    """(rows, columns, for each cell the image of the batch or None) of a spliced image of `batch_of`."""
    for rows, columns in ((2, 3), (3, 2), (2, 2), (2, 1), (1, 2)):
        cells = image.reshape(rows, SIDE // rows, columns, SIDE // columns, 3).transpose(0, 2, 1, 3, 4)
        cells = cells.reshape(rows * columns, -1, 3)
        flat = np.ptp(cells, axis=1).max() < 1e-3
        if flat and not any(fewer(image, rows, columns)):
            colours = cells[:, 0]
            blank = np.abs(colours - mixing.BLANK).max(axis=1) < 1e-3
            return rows, columns, [None if b else round(float(c[0]) / 10) - 1 for b, c in zip(blank, colours)]
    raise AssertionError("no grid fits")


def fewer(image, rows, columns):
    """Whether coarser grids describe the image as well."""
    for r, c in ((1, 2), (2, 1), (2, 2)):
        if (r, c) != (rows, columns) and rows % r == 0 and columns % c == 0:
            cells = image.reshape(r, SIDE // r, c, SIDE // c, 3)
            yield np.ptp(cells, axis=(1, 3)).max() < 1e-3


def test_a_cell_is_the_image_made_smaller():
    """Against bilinear interpolation written out; 13 pixels are no multiple of the cells'."""
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (4, 13, 13, 3)).astype(np.float32)
    batch = {"image": tf.constant(images), "y": tf.zeros([4, 2])}
    seeds = tf.constant([[1, 2], [3, 4]])
    for rows, columns in ((1, 2), (3, 2)):
        spliced = mixing._spliced(batch, seeds, 0.0, rows, columns)["image"].numpy()
        count = -(-rows * columns // 4)
        order = np.argsort(tf.random.stateless_uniform([count, 4], seeds[0]), axis=1).ravel()[: rows * columns]
        cells = [resized(images[i], 13 // rows, 13 // columns) for i in order]
        lines = [np.concatenate(cells[r * columns : (r + 1) * columns], axis=1) for r in range(rows)]
        expected = resized(np.concatenate(lines, axis=0), 13, 13)
        np.testing.assert_allclose(spliced[0], expected, atol=1e-2)
