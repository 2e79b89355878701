"""Deprecated functions that our own code uses are errors in the tests, others are not."""

import warnings

import pytest
import tensorflow as tf


def function_of(module, line):
    """A function f(value) of a module of this name, made of one line."""
    there = {"__name__": module, "tf": tf, "warnings": warnings}
    exec(f"def f(value):\n    return {line}", there)
    return there["f"]


@pytest.mark.parametrize("module", ["srn_tf.data.pipeline", "tools.train", "tests.test_run"])
def test_tensorflow_refuses_what_it_deprecates(module):
    counted = tf.data.Dataset.range(1)
    for _ in range(2):  # TensorFlow itself logs the first use alone.
        with pytest.raises(DeprecationWarning, match=f"{module}, line 2, uses .*get_single_element, which TensorFlow"):
            function_of(module, "tf.data.experimental.get_single_element(value)")(counted)
    fold = function_of(module, "tf.foldl(lambda a, b: a + b, value, back_prop=False)")
    with pytest.raises(DeprecationWarning, match="uses .*foldl.* with back_prop=, which TensorFlow"):
        tf.function(fold)(tf.ones(3))


def test_a_library_may_use_it():
    assert function_of("a_library", "tf.data.experimental.get_single_element(value)")(tf.data.Dataset.range(1)) == 0


@pytest.mark.parametrize("category", ["DeprecationWarning", "PendingDeprecationWarning", "FutureWarning"])
def test_warnings_that_stem_from_our_code_are_errors(category):
    line = f"warnings.warn('old', {category})"
    with pytest.raises(Warning, match="old"):
        function_of("srn_tf.data.pipeline", line)(None)
    function_of("srn_tf_of_another", "warnings.simplefilter('ignore')")(None)
    function_of("srn_tf_of_another", line)(None)


def test_what_keras_calls_deprecated_is_an_error():
    with pytest.raises(UserWarning, match="deprecated"):
        function_of("keras.layers", "warnings.warn('Argument `alpha` is deprecated.')")(None)
