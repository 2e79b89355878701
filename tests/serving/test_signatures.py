"""The parts of the signatures that are not seen through an export."""

import math

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.serving.signatures import _logits_below, contract


@pytest.mark.parametrize("threshold", [1e-300, 1e-8, 0.1, 0.3, 0.5, 0.7, 0.9, 1 - 1e-12, 1 - 2**-53])
def test_the_logit_of_a_threshold_decides_as_the_threshold(threshold):
    """A float32 x is greater than the rounded logit exactly where it is greater than the logit itself."""
    exact = math.log(threshold) - math.log1p(-threshold)
    (rounded,) = _logits_below(np.array([threshold]))
    assert rounded.dtype == np.float32
    assert float(rounded) <= exact < float(np.nextafter(rounded, np.float32(np.inf)))


def test_contract(tmp_path):
    @tf.function(input_signature=[tf.TensorSpec([None, 2, 3], tf.uint8, name="x")])
    def answer(x):
        return {"s": tf.fill([tf.shape(x)[0], 4], "a"), "b": x[:, 0, 0] > 0}

    tf.saved_model.save(tf.Module(), str(tmp_path), signatures={"one": answer})
    assert contract(tf.saved_model.load(str(tmp_path)).signatures) == {
        "one": {
            "inputs": {"x": {"dtype": "uint8", "shape": [None, 2, 3]}},
            "outputs": {"b": {"dtype": "bool", "shape": [None]}, "s": {"dtype": "string", "shape": [None, 4]}},
        }
    }
