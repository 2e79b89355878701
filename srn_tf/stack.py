"""The stack that this process runs on: the one module that asks which versions of TensorFlow and Keras there are.

There are two: the card's, TensorFlow 2.15 with Keras 2 and tensorflow-addons; and the current TensorFlow with Keras 3.
"""

import platform

import keras
import tensorflow as tf

HAS_ADDONS = keras.__version__.startswith("2.")
"""Whether this is the card's stack, the only one that tensorflow-addons works with."""


def versions():
    """dict: "python", "tensorflow" and "keras" -> version, as run.json holds them."""
    return {"python": platform.python_version(), "tensorflow": tf.__version__, "keras": keras.__version__}


def is_this(recorded):
    """Whether what `versions` gave elsewhere is of this stack: of the same Keras, 2 or 3."""
    return recorded["keras"].split(".")[0] == keras.__version__.split(".")[0]


def in_words(recorded):
    """What `versions` gave, for a message, such as "Python 3.11.7, TensorFlow 2.15.1, Keras 2.15.0"."""
    return "Python {python}, TensorFlow {tensorflow}, Keras {keras}".format_map(recorded)
