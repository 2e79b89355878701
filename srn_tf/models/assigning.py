"""Weights from arrays: all of them, or what does not fit."""

from srn_tf.errors import InputError

USE_RANDOM_WEIGHTS = "use random weights (--backbone_weights=none; weights=None of create_model)"
"""What a message advises where the pre-trained weights of a backbone cannot be had."""


def assign_arrays(weights, arrays, source):
    """Gives variables the arrays of the same names; every name and shape must match, on both sides.

    Args:
        weights: name -> tf.Variable.
        arrays: name -> array.
        source: path, for the message.
    Raises:
        InputError: missing, unexpected or misshapen arrays, the first of each named; nothing is assigned.
    """
    misfits = misfits_of(weights, arrays)
    if misfits:
        raise InputError(
            f"The weights in {source} must fit the model. Received: {misfits}. Use weights of the same architecture."
        )
    for name, weight in weights.items():
        weight.assign(arrays[name])


def misfits_of(weights, arrays):
    """What of two dicts, name -> variable and name -> array, does not fit: words, empty if all does."""
    missing = [name for name in weights if name not in arrays]
    unexpected = [name for name in arrays if name not in weights]
    misshapen = [name for name in weights if name in arrays and arrays[name].shape != tuple(weights[name].shape)]
    misfits = []
    if missing:
        misfits.append(f"{len(missing)} weights are missing (first {missing[0]})")
    if unexpected:
        misfits.append(f"{len(unexpected)} are unknown (first {unexpected[0]})")
    if misshapen:
        name = misshapen[0]
        misfits.append(
            f"{len(misshapen)} have another shape (first {name}: expected {tuple(weights[name].shape)}, "
            f"received {arrays[name].shape})"
        )
    return "; ".join(misfits)
