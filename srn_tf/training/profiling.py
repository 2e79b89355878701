"""TensorFlow's profiler over a few steps of a run, for TensorBoard's profile tab."""

import tensorflow as tf


class Profile:
    """Profiles some steps; a context manager, at whose end a profile that has begun is written.

    Args:
        folder: of TensorBoard's files.
        steps: (first, last), counted from 1 since the program began to train, or None. Several steps of one call
            cannot be told apart: the profile is of every call that holds one of them.
    """

    def __init__(self, folder, steps):
        self._folder = folder
        self._first, self._last = steps or (0, 0)
        self._done = 0
        self._is_running = False

    def __enter__(self):
        self.update(0)
        return self

    def __exit__(self, *exception):
        self._stop()

    def update(self, num_steps):
        """Says that steps have been made.

        Args:
            num_steps: int, since the last time.
        """
        self._done += num_steps
        if self._is_running and self._done >= self._last:
            self._stop()
        if self._last > self._done >= self._first - 1 and not self._is_running:
            tf.profiler.experimental.start(self._folder)
            self._is_running = True

    def _stop(self):
        if self._is_running:
            tf.profiler.experimental.stop()
            self._is_running = False
            self._last = 0
