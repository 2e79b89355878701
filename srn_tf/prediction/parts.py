"""What a prediction has answered so far, kept beside its output: a killed run goes on from there."""

import contextlib
import json
import os
import shutil

from tqdm import tqdm

from srn_tf.errors import InputError
from srn_tf.files import lock, write_json, written_whole

_PLAN = "plan.json"


def check_output(output):
    """Makes sure that an output can be written, before any work.

    Args:
        output: path of the file to be.
    Raises:
        InputError: it is no file, or its folder is missing or cannot be written.
    """
    output = os.path.realpath(output)
    if os.path.exists(output) and not os.path.isfile(output):
        raise InputError(f"output must be a file. Received: {output}, which is something else. Give another path.")
    folder = os.path.dirname(output)
    trial = os.path.join(folder, f".{os.path.basename(output)}.{os.getpid()}.tmp")
    with _written(output):
        open(trial, "xb").close()
        os.unlink(trial)


class Parts:
    """A folder `.<output>.parts` beside the output.

      - plan.json: what is asked, as given;
      - <index>-<failed>: the rows of one part, as a format writes them, and how many have no answer.

    A file that is there under such a name is whole. Made by `open_parts`.

    Attributes:
        done: number of parts that are there; they are the first ones.
        failed: number of rows in them without an answer.
    """

    def __init__(self, folder, output):
        self._folder = folder
        self._output = output
        self._paths = []
        self.failed = 0
        for name in sorted(os.listdir(folder)):
            index, _, failed = name.partition("-")
            if failed.isdigit() and int(index) == self.done:
                self._paths.append(os.path.join(folder, name))
                self.failed += int(failed)

    @property
    def done(self):
        """Number of parts that exist."""
        return len(self._paths)

    def add(self, rows, failed, row_format):
        """Keeps the rows of the next part, whole or not at all.

        Args:
            rows: dicts of rows.Columns.row.
            failed: int, how many of them have no answer.
            row_format: an instance of a class of rows.FORMATS.
        Raises:
            InputError: they cannot be written.
        """
        path = os.path.join(self._folder, f"{self.done:08d}-{failed}")
        self._write(path, lambda file: row_format.write_part(rows, file))
        self._paths.append(path)
        self.failed += failed

    def join(self, row_format):
        """Puts all parts together into the output, which takes the place of an older one, and removes them.

        Raises:
            InputError: the output cannot be written; the parts stay.
        """
        paths = tqdm(self._paths, "join", unit="part", leave=False, disable=None)
        self._write(self._output, lambda file: row_format.join(paths, file))
        self.remove()

    def remove(self):
        """Removes the folder; the plan first, so that what is left of a removal that was stopped is no run."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self._folder, _PLAN))
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self, path, write):
        # Written among the parts: what a killed process leaves is removed with them.
        with _written(self._output), written_whole(path, os.path.join(self._folder, "writing")) as file:
            write(file)


@contextlib.contextmanager
def open_parts(output, plan, restart=False):
    """Opens the parts of an output, or begins them; nothing is left if the first of them is never finished.

    Args:
        output: path of the file to be.
        plan: dict ready for JSON: all that the rows depend on.
        restart: drop the parts of an earlier run.
    Yields:
        Parts, locked against other processes.
    Raises:
        InputError: the parts there are of another plan, another process is at work on them, or they cannot be written.
    """
    output = os.path.realpath(output)
    folder = os.path.join(os.path.dirname(output), f".{os.path.basename(output)}.parts")
    with contextlib.ExitStack() as stack:
        with _written(output):
            os.makedirs(folder, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            if lock(descriptor) is False:
                raise InputError(
                    f"Only one process can write an output. Received: {output}, which another process is writing. "
                    "Wait until it is done, or give another output."
                )
            stored = _read_plan(folder)
            if restart or stored is None:
                for name in os.listdir(folder):
                    os.unlink(os.path.join(folder, name))
                write_json(os.path.join(folder, _PLAN), plan)
            elif stored != plan:
                raise InputError(_other_plan(output, stored, plan))
            parts = Parts(folder, output)
        try:
            yield parts
        finally:
            if not parts.done:
                parts.remove()


def _read_plan(folder):
    """Returns the stored plan, None if there is none that can be read."""
    try:
        with open(os.path.join(folder, _PLAN), encoding="utf-8") as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):
        return None


def _other_plan(output, stored, plan):
    different = ", ".join(name for name in plan if stored.get(name) != plan[name])
    return (
        f"The rows of an output must come from one model, with the same inputs and options. Received: {output}, begun "
        f"with another {different}. Finish it with the command that began it, or start again with --restart."
    )


@contextlib.contextmanager
def _written(output):
    """Says in one line that something beside an output cannot be written."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"output must be a writable file. Received: {output} ({error.strerror or error}). Check its folder's "
            "permissions and free space."
        ) from error
