"""A quiet start: keeps TensorFlow's notices about the machine out of stderr, which is for errors.

Importing this module is enough. TF_CPP_MIN_LOG_LEVEL=0 shows all notices.
"""

import contextlib
import importlib.abc
import importlib.util
import os
import subprocess
import sys

# The form of the notices that absl writes before TensorFlow has read its log level.
_NOTICES = r"/^WARNING: All log messages before absl/d; /^[IWE][0-9]* [0-9:.]*  *[0-9]* [a-z_]*\.cc:[0-9]*\]/d"


@contextlib.contextmanager
def _without_notices():
    """Sends stderr through another program, so that an error message arrives even if loading ends this process."""
    stderr = os.dup(2)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, stderr)
        try:
            sed = stack.enter_context(subprocess.Popen(["sed", _NOTICES], stdin=subprocess.PIPE, stdout=stderr))
        except OSError:  # no sed: nothing is left out
            yield
            return
        stack.callback(sed.stdin.close)
        stack.callback(os.dup2, stderr, 2)
        os.dup2(sed.stdin.fileno(), 2)
        yield


class _QuietLoading(importlib.abc.MetaPathFinder):
    """Finds the package tensorflow as Python does, once, and loads it without notices."""

    def find_spec(self, name, path, target=None):
        """The spec of tensorflow with a quiet loader; None for every other package."""
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None:
            load = spec.loader.exec_module

            def load_quietly(module):
                with _without_notices():
                    load(module)

            spec.loader.exec_module = load_quietly
        return spec


if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3":
    sys.meta_path.insert(0, _QuietLoading())
