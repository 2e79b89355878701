"""The work folder: what a run leaves behind, and under which names."""

import json
import os
import subprocess

from srn_tf.errors import InputError
from srn_tf.evaluation.report import write_json
from srn_tf.training.checkpoint import check_same_labels


class WorkDir:
    """Paths and small files of one run.

    flags.txt     the options, itself a flagfile
    run.json      what the run is: labels, data set, protocol, model description, versions
    log.jsonl     one line an epoch
    metrics.json  the evaluation of the final weights
    reliability.png  how often labels of a given probability are true, of the final output on test
    predictions/  <split>.npz, logits and truth of the validation and test images
    thresholds.json  of tools/tune_thresholds.py, if it was run
    checkpoints/  <stage>.npz, the best weights of each stage; final.npz, those evaluated and exported;
                  last.npz, the state after the last epoch
    tensorboard/  event files
    export/       SavedModels, one folder per version
    """

    def __init__(self, path):
        self.path = path
        self.flags = os.path.join(path, "flags.txt")
        self.run = os.path.join(path, "run.json")
        self.log = os.path.join(path, "log.jsonl")
        self.metrics = os.path.join(path, "metrics.json")
        self.reliability = os.path.join(path, "reliability.png")
        self.checkpoints = os.path.join(path, "checkpoints")
        self.last = os.path.join(self.checkpoints, "last.npz")
        self.final = os.path.join(self.checkpoints, "final.npz")
        self.tensorboard = os.path.join(path, "tensorboard")
        self.export = os.path.join(path, "export")

    def predictions(self, split):
        """Path of the predictions on a split, see evaluation.predictions."""
        return os.path.join(self.path, "predictions", f"{split}.npz")

    def stage_weights(self, stage_name):
        """Path of a stage's best weights."""
        return os.path.join(self.checkpoints, f"{stage_name}.npz")

    def claim(self, flagfile):
        """Makes the folder this run's own.

        Args:
            flagfile: the options as text.
        Raises:
            InputError: it holds a run that began with other options (the differences are shown), holds
                something else, or cannot be written.
        """
        try:
            is_claimed = os.path.isfile(self.flags)
            if is_claimed and os.path.isfile(self.run):  # without run.json nothing was trained with the flags there
                with open(self.flags, encoding="utf-8", errors="replace") as file:
                    self._check_same_flags(file.read(), flagfile)
                return
            os.makedirs(self.path, exist_ok=True)
            if not is_claimed and set(os.listdir(self.path)) - {"dataset"}:
                raise InputError(
                    f"work_dir must be a new folder or one of this run. Received: {self.path!r}, "
                    "which holds other files."
                )
            os.makedirs(self.checkpoints, exist_ok=True)
            with open(self.flags, "w", encoding="utf-8") as file:
                file.write(flagfile)
        except OSError as error:
            raise InputError(f"work_dir must be writable. Received: {self.path!r} ({error.strerror}).") from error

    def _check_same_flags(self, before, now):
        before, now = before.splitlines(), now.splitlines()
        removed = [line for line in before if line not in now]
        added = [line for line in now if line not in before]
        if removed or added:
            raise InputError(
                f"work_dir {self.path!r} holds a run with other flags: it has {' '.join(removed) or 'none of them'}, "
                f"received {' '.join(added) or 'nothing in their place'}. Use another --work_dir, or the run's flags."
            )

    def write_run(self, description):
        """Writes run.json, or checks that the one there has the same labels."""
        if os.path.isfile(self.run):
            check_same_labels(
                self.read_run()["labels"], description["labels"], f"The data set for work_dir {self.path!r}"
            )
            return
        write_json(self.run, description)

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
                f"{self.flags} must hold the run's flags. Received: {reason}. Give a run of tools/train.py."
            ) from None
        return dict(line[2:].split("=", 1) for line in lines if line.startswith("--") and "=" in line)

    def read_run(self):
        """Reads run.json.

        Raises:
            InputError: there is none; the folder is not a run's.
        """
        if not os.path.isfile(self.run):
            raise InputError(
                f"A work folder of tools/train.py was expected. Received: {self.path!r}, which has no run.json."
            )
        try:
            with open(self.run, encoding="utf-8") as file:
                return json.load(file)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.run} cannot be read ({error}).") from error


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
