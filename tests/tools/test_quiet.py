"""What reaches stderr while TensorFlow is loaded, with a package of that name that writes as TensorFlow does."""

import os
import subprocess
import sys

import pytest

from tests.tools.running import ROOT

TENSORFLOW = """
import os
os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\\n"
    b"I0000 00:00:1795871284.875094   30770 cudart_stub.cc:31] Could not find cuda drivers on your machine.\\n"
    b"The library was compiled to use AVX instructions, but these aren't available on your machine.\\n")
"""
REASON = "The library was compiled to use AVX instructions, but these aren't available on your machine.\n"


@pytest.mark.parametrize(
    ("level", "ending", "status", "expected"),
    [
        (None, "", 0, REASON + "later\n"),
        (None, "os.abort()", -6, REASON),
        (None, "raise SystemExit('not today')", 1, REASON + "not today\n"),
        ("0", "", 0, None),
    ],
)
def test_notices_are_left_out_and_reasons_are_not(tmp_path, level, ending, status, expected):
    (tmp_path / "tensorflow.py").write_text(TENSORFLOW + ending)
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    environment |= {"PYTHONPATH": f"{tmp_path}:{ROOT}"} | ({"TF_CPP_MIN_LOG_LEVEL": level} if level else {})
    code = "import sys, srn_tf.commands.quiet, tensorflow; sys.stderr.write('later\\n')"
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == status
    if expected is None:
        assert "cudart_stub" in result.stderr
    else:
        assert result.stderr == expected
