"""How the tests of the tools run one as a user does."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Runs a tool in a Python where TensorFlow and Keras cannot be imported.
WITHOUT_TENSORFLOW = """
import os, runpy, sys
for name in ("tensorflow", "keras", "tensorflow_addons", "tensorflow_datasets"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_without_tensorflow(name, *arguments, given=None):
    """Runs tools/<name>.py in a Python that has no TensorFlow; `given` is its standard input."""
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, ROOT / "tools" / f"{name}.py", *arguments]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=120)


def mostly_slow(cases, fast):
    """Tuples of a test's parameters, of which all but the first few are slow: each takes a process."""
    return [pytest.param(*case, marks=() if place < fast else pytest.mark.slow) for place, case in enumerate(cases)]


def assert_refused(result, *parts, stdout=""):
    """A status, one line, no traceback; `stdout` is what was printed before, None for anything."""
    assert result.returncode == 1, result.stderr
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: "), result.stderr
    assert stdout is None or result.stdout == stdout
    for part in parts:
        assert part in result.stderr
