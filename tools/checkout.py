"""Makes the package of this checkout importable, for the command lines in this folder."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from srn_tf.commands.cli import start  # noqa: E402, F401
