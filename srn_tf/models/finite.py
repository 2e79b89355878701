"""Whether weights are numbers, wherever they come from."""

import numpy as np

from srn_tf.errors import InputError


def check_finite(arrays, source):
    """Refuses infinities and NaN among weights: what they compute would be blamed on something else.

    Args:
        arrays: name -> array.
        source: where they come from, for the message.
    Raises:
        InputError: the first array that is not finite, and how many others are not.
    """
    is_float = {name: np.issubdtype(array.dtype, np.inexact) for name, array in arrays.items()}
    faulty = [name for name, array in arrays.items() if is_float[name] and not np.isfinite(array).all()]
    if faulty:
        array = arrays[faulty[0]]
        others = f", and in {len(faulty) - 1} more arrays" if len(faulty) > 1 else ""
        raise InputError(
            f"The weights in {source} must be finite numbers. Received: NaN or infinity in "
            f"{np.sum(~np.isfinite(array))} of {array.size} values of {faulty[0]}{others}. The file is damaged, or "
            "its training failed. Use another file."
        )
