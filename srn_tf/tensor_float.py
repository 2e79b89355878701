"""TensorFloat-32: products of float32 that GPUs since Ampere compute with 10 bits of fraction in place of 23."""

import contextlib

import tensorflow as tf


@contextlib.contextmanager
def tensor_float_32(is_allowed):
    """Allows or forbids it inside, and then leaves it as it was; nothing changes on CPUs and older GPUs.

    TensorFlow has one switch for the whole process, which products look at when they run: never use this in several
    threads at once.

    Args:
        is_allowed: bool.
    """
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(is_allowed)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)
