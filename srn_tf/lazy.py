"""Modules that are imported when they are first used."""

import importlib


class LazyModule:
    """Stands for a module until one of its names is asked for.

    The files of srn_tf/models/ hold their settings, from which --help and options are made, beside the code that builds
    networks: what needs TensorFlow is named so there, and loads only where a network is built.

    Args:
        name: full name of the module.
    """

    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        return getattr(importlib.import_module(self._name), attribute)
