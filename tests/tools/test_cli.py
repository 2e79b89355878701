"""What every command line shares."""

import subprocess
import sys

from tests.tools.running import ROOT


def test_a_reader_that_has_enough_is_no_failure_to_report():
    command = [sys.executable, str(ROOT / "tools" / "compare.py"), "--help"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()  # before anything is written
    assert process.stderr.read() == ""
    assert process.wait() == 141
