"""What holds for every trunk."""

import numpy as np
import tensorflow as tf

from srn_tf.models.backbones import MAPS


def as_numpy(tensors):
    return {key: np.asarray(value) for key, value in tensors.items()}


def check_maps(maps, side_px, channels):
    """c3, c4 and c5 at three strides, each half as large as the one before."""
    sides = (side_px, side_px // 2, side_px // 4)
    expected = {name: (side, side, depth) for name, side, depth in zip(MAPS, sides, channels, strict=True)}
    assert {name: tuple(value.shape[1:]) for name, value in maps.items()} == expected


def check_cuts(trunk, images):
    """Every cut gives the maps of the whole trunk to the bit, and both pieces together have its weights, each once."""
    whole = as_numpy(trunk.model(images))
    for index, name in enumerate(MAPS):
        until = trunk.until(name)
        features = until(images)
        received = {name: np.asarray(features[name])}
        assert until.name == f"trunk_until_{name}"
        assert set(features) == ({name, "shortcut"} if trunk.block == "preactivation" and name != "c5" else {name})
        if name != "c5":
            after = trunk.after(name)
            assert after.name == f"trunk_after_{name}"
            rest = after(features)
            assert set(rest) == set(MAPS[index + 1 :])
            received.update(as_numpy(rest))
            pieces = [*until.weights, *after.weights]
            assert len({id(weight) for weight in pieces}) == len(pieces)
            assert {id(weight) for weight in pieces} == {id(weight) for weight in trunk.model.weights}
        for key, value in received.items():
            # Two executions: kernels of several threads may sum in another order each time.
            np.testing.assert_allclose(value, whole[key], rtol=1e-5, atol=1e-6 * np.abs(whole[key]).max())


def check_gradients(trunk, images):
    """Gradients of c5 reach every trainable weight through the cut at c4."""
    until, after = trunk.until("c4"), trunk.after("c4")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(after(until(images))["c5"] ** 2)
    variables = trunk.model.trainable_variables
    gradients = tape.gradient(loss, variables)
    assert all(gradient is not None for gradient in gradients)
    # A bias in front of a BatchNorm that sees one cell, or a ReLU that is shut, has none: most have one.
    assert np.mean([np.abs(gradient).max() > 0 for gradient in gradients]) > 0.9
