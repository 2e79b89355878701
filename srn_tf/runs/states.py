"""The last states of a run in training: from which it continues, even if the newest of them is damaged."""

import contextlib
import glob
import logging
import os
import re

from srn_tf.errors import InputError
from srn_tf.runs import checkpoint

logger = logging.getLogger("srn_tf")


class States:
    """A folder of numbered states, state-<number>.npz, of which the last few are kept.

    One process writes; any may read.

    Args:
        folder: made when the first state is saved.
        keep: int > 0, how many stay.
    """

    def __init__(self, folder, keep):
        self._folder, self._keep = folder, keep
        self._damaged = []

    def save(self, arrays, meta):
        """Writes the next state, see `checkpoint.save_arrays`, and then removes those beyond the last `keep`.

        Args:
            arrays: name -> array.
            meta: JSON-ready dict with "labels".
        Raises:
            InputError: it cannot be written whole; the earlier states stay.
        """
        number = max(self._paths(), default=0) + 1
        checkpoint.save_arrays(os.path.join(self._folder, f"state-{number}.npz"), arrays, meta)
        whole = [path for path in self._paths().values() if path not in self._damaged]
        for path in self._damaged + whole[: -self._keep]:
            with contextlib.suppress(OSError):  # a state too many is no reason to stop
                os.remove(path)
        self._damaged = []

    def newest(self):
        """The newest state that can be read; what a killed write left is removed.

        Returns:
            (arrays, meta), or None where there is no state.
        Raises:
            InputError: there are states, and all are damaged.
        """
        for leftover in glob.glob(os.path.join(glob.escape(self._folder), "state-*.npz.*writing")):
            with contextlib.suppress(OSError):
                os.remove(leftover)
        self._damaged, reasons = [], []
        for path in reversed(self._paths().values()):
            try:
                arrays, meta = checkpoint.load_arrays(path)
            except InputError as error:
                self._damaged.append(path)
                reasons.append(str(error))
                continue
            for reason in reasons:
                logger.warning("%s The state is skipped; %s is used instead.", reason, path)
            return arrays, meta
        if reasons:
            raise InputError(
                f"At least one saved state in {self._folder} must be readable. Received: {len(reasons)}, all damaged. "
                f"The newest: {reasons[0]} Restore one from a copy, or start again with --restart."
            )
        return None

    def metas(self):
        """The meta dicts of the states, oldest first; arrays are not read, so damage in them goes unseen.

        Returns:
            list of dicts, without those of states that cannot be read at all.
        """
        metas = []
        for path in self._paths().values():
            with contextlib.suppress(InputError):
                metas.append(checkpoint.load_meta(path))
        return metas

    def _paths(self):
        """Number -> path of every state there is, oldest first."""
        names = os.listdir(self._folder) if os.path.isdir(self._folder) else []
        matches = filter(None, (re.fullmatch(r"state-(\d+)\.npz", name) for name in names))
        return {number: os.path.join(self._folder, name) for number, name in sorted((int(m[1]), m[0]) for m in matches)}
