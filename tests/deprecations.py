"""TensorFlow logs what it deprecates, once per process. Here it is an error where our own code causes it.

What warns (Python, NumPy, Keras) is turned into errors by the `filterwarnings` of pyproject.toml.
"""

import sys

OURS = ("srn_tf", "tests", "tools")
_LOGGING = "tensorflow.python.util.deprecation"
# Between the caller and what it calls: decorators, and AutoGraph, whose converted functions keep the module's name.
_BETWEEN = ("tensorflow.python.util", "tensorflow.python.autograph")


class Logged(dict):
    """TensorFlow's record of the deprecations it has logged, which it asks at every use of a deprecated function.

    Raises:
        DeprecationWarning: the use stems from our code.
    """

    def __contains__(self, used):
        frame = sys._getframe(1)
        while frame.f_globals["__name__"].startswith(_BETWEEN) and frame.f_back:
            frame = frame.f_back
        module = frame.f_globals["__name__"]
        if module.split(".")[0] in OURS:
            function, *argument = used if isinstance(used, tuple) else (used,)
            raise DeprecationWarning(
                f"{module}, line {frame.f_lineno}, uses {function.__module__}.{function.__qualname__}"
                + "".join(f" with {name}=" for name in argument)
                + ", which TensorFlow deprecates."
            )
        return super().__contains__(used)


def make_errors():
    """Watches TensorFlow from now on, if it is imported."""
    deprecation = sys.modules.get(_LOGGING)
    if deprecation and not isinstance(deprecation._PRINTED_WARNING, Logged):
        deprecation._PRINTED_WARNING = Logged(deprecation._PRINTED_WARNING)
