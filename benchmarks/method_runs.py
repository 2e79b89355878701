"""Trains flagfiles of configs/ for several seeds, each in a process of its own, and reads what they measured."""

import json
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [ROOT, os.path.join(ROOT, "tools")]

from srn_tf.errors import InputError  # noqa: E402


class MethodRuns:
    """The runs of some flagfiles, side by side in a folder; a finished run is taken as it is.

    Args:
        output_dir: folder; a run is in <output_dir>/<flagfile>_<seed>.
        data_dir: folder of the data set.
        configs: names of flagfiles in configs/, without ending; the first is what others are compared with.
        seeds: list of int.
        extra: further flags of every run.
    """

    def __init__(self, output_dir, data_dir, configs, seeds, extra=()):
        self._output_dir, self._data_dir = output_dir, data_dir
        self._configs, self._seeds, self._extra = configs, seeds, extra

    def train(self):
        """Trains them, seed after seed.

        Returns:
            dict: (flagfile, seed) -> metrics, as in its metrics.json.
        Raises:
            InputError: a run failed; its own message is above.
        """
        return {(config, seed): self._train(config, seed) for seed in self._seeds for config in self._configs}

    def compare(self):
        """Writes <output_dir>/compare: the papers' table, and differences to the first flagfile's runs."""
        folders = [self.folder(config, seed) for config in self._configs for seed in self._seeds]
        call("compare", f"--output={os.path.join(self._output_dir, 'compare')}", *folders)

    def folder(self, config, seed):
        """The work folder of a run."""
        return os.path.join(self._output_dir, f"{config}_{seed}")

    def _train(self, config, seed):
        work_dir = self.folder(config, seed)
        flagfile = f"--flagfile={os.path.join(ROOT, 'configs', config)}.flags"
        places = f"--data_dir={self._data_dir}", f"--work_dir={work_dir}"
        if not os.path.isdir(os.path.join(work_dir, "export", "1")):  # a run's last
            call("train", flagfile, *places, f"--seed={seed}", *self._extra)
        with open(os.path.join(work_dir, "metrics.json"), encoding="utf-8") as file:
            return json.load(file)


def call(tool, *arguments):
    """Runs tools/<tool>.py; InputError if it fails."""
    if subprocess.run([sys.executable, os.path.join(ROOT, "tools", f"{tool}.py"), *arguments]).returncode:
        raise InputError(f"tools/{tool}.py failed; its message is above.")


def mean_ap(metrics, output, labels=None):
    """Mean AP of an output over some labels, or all that have one, percent."""
    ap = dict(zip(metrics["labels"], metrics["outputs"][output]["AP"]))
    return statistics.mean(ap[label] for label in labels or ap if ap[label] is not None)


def spread(numbers):
    """ "87.5 (87.1 to 87.9)": mean, lowest and highest of some numbers; one number alone."""
    mean = f"{statistics.mean(numbers):.1f}"
    return mean if len(numbers) == 1 else f"{mean} ({min(numbers):.1f} to {max(numbers):.1f})"
