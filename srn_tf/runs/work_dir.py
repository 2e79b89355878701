"""The work folder: what a run leaves behind, and under which names."""

import datetime
import json
import logging
import os
import shutil
import socket
import subprocess
import tempfile

from srn_tf.errors import InputError
from srn_tf.files import lock, write_json, written_whole
from srn_tf.labels import check_same_labels
from srn_tf.program import command, tool
from srn_tf.runs.format import FORMAT, check_format

logger = logging.getLogger("srn_tf")

_LOCK = ".lock"
_HELD = []  # open files that this process has locked; the system lets go of them when it ends


class WorkDir:
    """Paths and small files of one run.

    flags.txt     the options, itself a flagfile
    run.json      what the run is: labels, data set, protocol, model description, versions; "final", the output that is
                  served, where it is not the model's own, and "choice", what it was chosen by;
                  "training_positives", see `comparison.runs.Run`; "label_prior", see `training.unspecified`
    log.jsonl     one line an epoch
    metrics.json  the evaluation of the final weights
    reliability.png  how often labels of a given probability are true, of the final output on test
    predictions/  <split>.npz, logits and truth of the validation and test images; other-<fingerprint>/<split>.npz,
                  those of another data set
    thresholds.json  of tools/tune_thresholds.py, if it was run
    checkpoints/  <stage>.npz, the best weights of each stage, <stage>-<epoch>.npz while it trains; final.npz, those
                  evaluated and exported; state/, from which an interrupted run continues, see `states`
    tensorboard/  event files
    export/       SavedModels, one folder per version
    dataset/      the prepared data set, unless it is elsewhere
    .lock         locked while a run is at work here; says which
    """

    def __init__(self, path):
        self.path = path
        self.flags = os.path.join(path, "flags.txt")
        self.run = os.path.join(path, "run.json")
        self.log = os.path.join(path, "log.jsonl")
        self.metrics = os.path.join(path, "metrics.json")
        self.reliability = os.path.join(path, "reliability.png")
        self.checkpoints = os.path.join(path, "checkpoints")
        self.states = os.path.join(self.checkpoints, "state")
        self.final = os.path.join(self.checkpoints, "final.npz")
        self.tensorboard = os.path.join(path, "tensorboard")
        self.export = os.path.join(path, "export")

    def predictions(self, split, other="", tta="none"):
        """Path of the predictions on a split, see evaluation.predictions.

        Args:
            split: str.
            other: fingerprint of a data set that is not the run's own; "" for its own.
            tta: one of `choices.TTA`; what is averaged over views is kept apart.
        """
        folders = [f"other-{other[:12]}"] if other else []
        folders += [f"tta-{tta.replace(',', '-')}"] if tta != "none" else []
        return os.path.join(self.path, "predictions", *folders, f"{split}.npz")

    def stage_weights(self, stage_name):
        """Path of a stage's best weights."""
        return os.path.join(self.checkpoints, f"{stage_name}.npz")

    def best_weights(self, stage_name, epoch):
        """Path of the weights after an epoch (from 1) of a stage, the best when they were written."""
        return os.path.join(self.checkpoints, f"{stage_name}-{epoch:03d}.npz")

    def export_versions(self):
        """Numbers of the versions that were exported: list of int, ascending."""
        return versions_in(self.export)

    def newest_export(self):
        """Path of the highest version.

        Raises:
            InputError: there is none.
        """
        versions = self.export_versions()
        if not versions:
            raise InputError(
                f"The run must have an exported model. Received: no export in {self.export}. Make one: "
                f"{command('export')} --work_dir={self.path}"
            )
        return os.path.join(self.export, str(versions[-1]))

    def claim(self, flagfile):
        """Makes the folder this run's own, against every other process as long as this one lives.

        A new run is in it when `write_run` has written it. Until then it is as good as empty, whatever fails.

        Args:
            flagfile: the options as text.
        Raises:
            InputError: another process is at work in it, it holds a run that began with other options (the
                differences are shown), holds something else, or cannot be written.
        """
        try:
            has_flags = os.path.isfile(self.flags)
            os.makedirs(self.path, exist_ok=True)
            if not has_flags and set(os.listdir(self.path)) - {"dataset", _LOCK}:
                raise InputError(
                    f"work_dir must be new, empty or the folder of this run. Received: {self.path!r}, which has other "
                    "files. Give another --work_dir."
                )
            self._lock()
            if has_flags and os.path.isfile(self.run):  # without run.json nothing was trained with the flags there
                with open(self.flags, encoding="utf-8", errors="replace") as file:
                    self._check_same_flags(file.read(), flagfile)
        except OSError as error:
            raise self._not_writable(error) from error

    def check_restart(self):
        """Takes the folder for a new run in the place of one that is there, which stays until `restart`.

        Returns:
            bool, whether there is one.
        Raises:
            InputError: the folder is not a run's, another process is at work in it, or it cannot be written.
        """
        if not os.path.isdir(self.path) or not set(os.listdir(self.path)) - {"dataset", _LOCK}:
            return False
        if not os.path.isfile(self.flags) or "model" not in self.read_flags():
            raise InputError(
                f"--restart needs the work folder of a run. Received: {self.path!r}, which has no flags.txt of a run. "
                "Give another --work_dir, or empty the folder yourself."
            )
        try:
            self._lock()
        except OSError as error:
            raise self._not_writable(error) from error
        return True

    def restart(self):
        """Removes what a run left, so that another can begin here; the prepared data set and files of others stay.

        Raises:
            InputError: see `check_restart`.
        """
        if not self.check_restart():
            return
        names = ("checkpoints", "log.jsonl", "metrics.json", "reliability.png", "predictions", "thresholds.json")
        try:
            # run.json comes last: until then the flags there guard what is left. They are write_run's to replace.
            for name in (*names, "tensorboard", "export", "run.json"):
                path = os.path.join(self.path, name)
                if os.path.isdir(path):
                    shutil.rmtree(path)
                elif os.path.lexists(path):
                    os.remove(path)
        except OSError as error:
            raise self._not_writable(error) from error

    def _lock(self):
        """Takes the folder for this process; a second time changes nothing."""
        tempfile.TemporaryFile(dir=self.path).close()  # the lock may be there in a folder that is read-only by now
        file = open(os.path.join(self.path, _LOCK), "a+", encoding="utf-8", errors="replace")
        if any(os.path.sameopenfile(file.fileno(), held.fileno()) for held in _HELD):
            file.close()
            return
        is_locked = lock(file.fileno())
        if is_locked is False:
            file.seek(0)
            holder = " ".join(file.read(200).split()) or "another process"
            file.close()
            raise InputError(
                f"Only one run can use work_dir {self.path!r} at a time. Received: a second run. The first is "
                f"{holder}. Wait for it, stop it, or give another --work_dir."
            )
        if is_locked is None:
            logger.warning(
                "%s cannot be locked on this file system. Make sure that no other run uses this work_dir.", file.name
            )
        file.truncate(0)
        since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}")
        file.flush()
        _HELD.append(file)

    def _not_writable(self, error):
        return InputError(
            f"work_dir must be writable. Received: {self.path!r} ({error.strerror}). Check its permissions and free "
            "space, or give another --work_dir."
        )

    def _check_same_flags(self, before, now):
        before, now = before.splitlines(), now.splitlines()
        removed = [line for line in before if line not in now]
        added = [line for line in now if line not in before]
        if removed or added:
            raise InputError(
                f"work_dir {self.path!r} must be used with the flags of its run. Expected: "
                f"{' '.join(removed) or 'none of these'}. Received: {' '.join(added) or 'none of these'}. Use the "
                "run's flags, or another --work_dir."
            )

    def write_run(self, description, flagfile):
        """Writes flags.txt and run.json, or checks that the run there is of the same data set.

        Args:
            description: JSON-ready dict with "labels" and "fingerprint", see `data.datasets.DataSet.fingerprint`.
            flagfile: as of `claim`.
        Raises:
            InputError: other labels or another fingerprint; both sides are shown. Or the folder cannot be written.
        """
        if not os.path.isfile(self.run):
            try:
                os.makedirs(self.path, exist_ok=True)
                with written_whole(self.flags) as file:  # first: by it `claim` knows what else is there
                    file.write(flagfile.encode("utf-8"))
                os.makedirs(self.checkpoints, exist_ok=True)
            except OSError as error:
                raise self._not_writable(error) from error
            write_json(self.run, {"format": FORMAT, **description})
            return
        before = self.read_run()
        check_same_labels(before["labels"], description["labels"], f"The data set for work_dir {self.path!r}")
        expected, received = before["fingerprint"], description["fingerprint"]
        if expected != received:
            raise InputError(
                f"The data set must be the one that the run in {self.path!r} started with. Expected: fingerprint "
                f"{expected}. Received: {received}. Give the original --data_dir, or another --work_dir."
            )

    def add_to_run(self, **values):
        """Adds values, JSON-ready, to the run.json that is there."""
        write_json(self.run, {**self.read_run(), **values})

    def read_flags(self):
        """The run's flagfile as a dict, flag -> value.

        Raises:
            InputError: it is missing or no text.
        """
        try:
            with open(self.flags, encoding="utf-8") as file:
                lines = [line.strip() for line in file]
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise InputError(
                f"{self.flags} must have the run's flags. Received: {reason}. Give a run of {tool('train')}."
            ) from None
        return dict(line[2:].split("=", 1) for line in lines if line.startswith("--") and "=" in line)

    def read_metrics(self):
        """dict: metrics.json; None if the run was not evaluated.

        Raises:
            InputError: it cannot be read.
        """
        if not os.path.isfile(self.metrics):
            return None
        try:
            with open(self.metrics, encoding="utf-8") as file:
                return json.load(file)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.metrics} must be readable JSON. Received: {error}. Evaluate the run again."
            ) from error

    def read_run(self):
        """Reads run.json.

        Raises:
            InputError: there is none; the folder is not a run's.
        """
        if not os.path.isfile(self.run):
            raise InputError(
                f"work_dir must be a run of {tool('train')}. Received: {self.path!r}, which has no run.json. Check "
                "the path."
            )
        try:
            with open(self.run, encoding="utf-8") as file:
                run = json.load(file)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.run} must be readable JSON. Received: {error}. Restore it from a copy, or train the run again."
            ) from error
        check_format(run, self.run)
        return run


def versions_in(folder):
    """Numbers of the exported versions in a folder such as RUN/export, which may be missing: list of int, ascending."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(int(name) for name in names if name.isdecimal())


def code_version():
    """The git commit of the code with "+" if files differ from it, or "unknown" outside a checkout."""
    here = os.path.dirname(os.path.abspath(__file__))

    def git(*arguments):
        return subprocess.run(
            ["git", "-C", here, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if not git("ls-files", os.path.abspath(__file__)):
            return "unknown"
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
