"""What the command lines are called: files of a checkout (tools/), or commands of `srn-tf`, which pip installs.

Nothing here loads TensorFlow.
"""

import os
import re
import sys

from srn_tf.errors import InputError

NAME = "srn-tf"

COMMANDS = {
    "prepare": "prepare_data",
    "describe": "describe_data",
    "train": "train",
    "evaluate": "evaluate",
    "predict": "predict",
    "predict-beam": "predict_beam",
    "export": "export",
    "visualize": "visualize",
    "compare": "compare",
    "tune-thresholds": "tune_thresholds",
    "explain": "explain_regularizer",
    "knn": "knn",
    "demo": "demo",
}
"""Command of `srn-tf` -> its module in srn_tf/commands/, and its file in tools/."""

_CONFIGS = "configs"
_HERE = os.path.dirname(os.path.abspath(__file__))


def tool(module):
    """A command line as the user calls it: "tools/train.py", or "srn-tf train".

    The second form is for those who started the program `srn-tf`, and wherever there is no tools/ beside the package.

    Args:
        module: its name in srn_tf/commands/.
    """
    if _is_beside("tools") and sys.argv[0].split(" ")[0] != NAME:
        return f"tools/{module}.py"
    return f"{NAME} {next(command for command, name in COMMANDS.items() if name == module)}"


def command(module):
    """The words to type before the flags: "python tools/train.py", or "srn-tf train". Argument as of `tool`."""
    name = tool(module)
    return f"python {name}" if name.endswith(".py") else name


def as_called(text):
    """A text that names command lines as files of a checkout, with the names that the user calls them by."""
    return re.sub(r"(python )?tools/(\w+)\.py", lambda found: (command if found[1] else tool)(found[2]), text)


def install(requirements, packages):
    """The command that installs what an optional feature needs.

    Args:
        requirements: name of the checkout's file of pinned versions.
        packages: names of the packages, for where there is no checkout.
    """
    return f"pip install -r {requirements}" if _is_beside(requirements) else f"pip install {packages}"


def _is_beside(name):
    """Whether a checkout has this file or folder beside the package."""
    return os.path.exists(os.path.join(os.path.dirname(_HERE), name))


def find_flagfile(path):
    """A flagfile by the path that was given: where there is none, one that came with the package.

    Args:
        path: str, such as "configs/own_photos.flags".
    Returns:
        str: the path itself, or that of the package's own file of this path.
    Raises:
        InputError: neither is there.
    """
    if os.path.exists(os.path.expanduser(path)):
        return path
    own = sorted(f"{_CONFIGS}/{name}" for name in os.listdir(os.path.join(_HERE, _CONFIGS)))
    if os.path.normpath(path) in own:
        return os.path.join(_HERE, os.path.normpath(path))
    raise InputError(f"flagfile must be an existing file. Received: {path!r}. The package brings: {', '.join(own)}.")
