"""Trains flagfiles of configs/ for several seeds, each in a process of its own, and reads what they measured."""

import json
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from srn_tf.comparison.differences import differences_to_first  # noqa: E402
from srn_tf.comparison.rows import compare_runs  # noqa: E402
from srn_tf.errors import InputError  # noqa: E402
from srn_tf.runs.work_dir import WorkDir  # noqa: E402


class MethodRuns:
    """The runs of some flagfiles, side by side in a folder; a finished run is taken as it is.

    Args:
        output_dir: folder; a run is in <output_dir>/<flagfile>_<seed>.
        data_dir: folder of the data set.
        configs: names of flagfiles in configs/, without ending; the first is what others are compared with.
        seeds: list of int.
        extra: further flags of every run.
        own: flagfile -> further flags of its runs.
        settings: name -> flags, what is tried of every flagfile with the first seed: "" is the flagfile as it is. The
            one with the best validation mAP is taken for all seeds.
    """

    def __init__(self, output_dir, data_dir, configs, seeds, extra=(), settings=None, own=None):
        self._output_dir, self._data_dir = output_dir, data_dir
        self._configs, self._seeds, self._extra = configs, seeds, extra
        self._settings = settings or {"": ()}
        self._own = own or {}
        self.tried = {}
        """flagfile -> {name of the settings: its validation mAP with the first seed, percent}."""
        self.chosen = {}
        """flagfile -> name of the settings that are taken."""

    def train(self):
        """Trains them, seed after seed.

        Returns:
            dict: (flagfile, seed) -> metrics, as in its metrics.json.
        Raises:
            InputError: a run failed, its own message being above; or two seeds of a flagfile have other flags, as when
                it was changed between them.
        """
        for config in self._configs:
            self.tried[config] = {name: self._try(config, name) for name in self._settings if len(self._settings) > 1}
            self.chosen[config] = max(self._settings, key=lambda name: self.tried[config].get(name, 0.0))
        for seed in self._seeds:
            for config in self._configs:
                self._train(config, self.chosen[config], seed)
                self._check_flags(config, seed)
        return {
            (config, seed): _read_json(os.path.join(self.folder(config, seed), "metrics.json"))
            for config in self._configs
            for seed in self._seeds
        }

    def compare(self):
        """Writes <output_dir>/compare: the papers' table, and differences to the first flagfile's runs."""
        folders = [self.folder(config, seed) for config in self._configs for seed in self._seeds]
        call("compare", f"--output={os.path.join(self._output_dir, 'compare')}", *folders)

    def folder(self, config, seed):
        """The work folder of a run with the settings that were chosen."""
        return self._folder(config, self.chosen[config], seed)

    def _folder(self, config, name, seed):
        return os.path.join(self._output_dir, "_".join(filter(None, (config, name, str(seed)))))

    def _check_flags(self, config, seed):
        """InputError where a run has another value of a flag than that of the first seed."""
        first, own = (WorkDir(self.folder(config, of_seed)).read_flags() for of_seed in (self._seeds[0], seed))
        other = [name for name in first if name in own and own[name] != first[name] and name != "seed"]
        if other:
            raise InputError(
                f"Runs of {config} must have the same flags for every seed. Received: {self.folder(config, seed)} with "
                f"--{other[0]}={own[other[0]]}, the first seed's with {first[other[0]]}. Delete what is old."
            )

    def _try(self, config, name):
        """Trains with some settings, and no more: the validation mAP."""
        folder = self._folder(config, name, self._seeds[0])
        if not os.path.isfile(os.path.join(folder, "checkpoints", "final.npz")):
            self._train(config, name, self._seeds[0], "--train_only")
        file = f"{folder}_validation.json"
        if not os.path.isfile(file):
            places = f"--work_dir={folder}", f"--data_dir={self._data_dir}"
            call("evaluate", *places, "--split=validation", f"--output={file}")
        return next(iter(_read_json(file)["outputs"].values()))["all"]["mAP"]

    def _train(self, config, name, seed, *more):
        settings = [
            f"--learning_rate={_scaled_rates(config, flag.removeprefix(RATE_FACTOR))}"
            if flag.startswith(RATE_FACTOR)
            else flag
            for flag in self._settings[name]
        ]
        own = (*settings, *self._extra, *self._own.get(config, ()), *more)
        train_once(self._folder(config, name, seed), config, self._data_dir, seed, *own)


def train_once(work_dir, config, data_dir, seed, *own):
    """Trains a flagfile of configs/ (its name without ending) with further flags in a folder, unless that is done."""
    if os.path.isdir(os.path.join(work_dir, "export", "1")):  # a run's last
        return
    call("train", flagfile(config), f"--data_dir={data_dir}", f"--work_dir={work_dir}", f"--seed={seed}", *own)


def flagfile(config):
    """The flag that reads a flagfile of configs/ (its name without ending)."""
    return f"--flagfile={os.path.join(ROOT, 'configs', config)}.flags"


RATE_FACTOR = "rate*"
"""In settings, "rate*3" is a flagfile's learning rates times 3."""


def _scaled_rates(config, factor):
    """A flagfile's learning rates, one a stage, times a factor, as --learning_rate takes them."""
    rates = flags_of(config)["learning_rate"].split(",")
    return ",".join(f"{float(rate) * float(factor):.3g}" for rate in rates)


def flags_of(config):
    """A flagfile's flags that have a value: name -> text."""
    with open(flagfile(config).split("=", 1)[1], encoding="utf-8") as file:
        return dict(line.strip()[2:].split("=", 1) for line in file if line.startswith("--") and "=" in line)


def _read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def call(tool, *arguments):
    """Runs tools/<tool>.py; InputError if it fails."""
    if subprocess.run([sys.executable, os.path.join(ROOT, "tools", f"{tool}.py"), *arguments]).returncode:
        raise InputError(f"tools/{tool}.py failed; its message is above.")


def answer_of(work_dir):
    """The test metrics of a run's answer, its first output: dict of percent."""
    return next(iter(_read_json(os.path.join(work_dir, "metrics.json"))["outputs"].values()))["all"]


def map_difference(references, folders, num_resamples=1000):
    """mAP of some runs minus that of others of the same seeds on test, with its bootstrap interval, as text.

    Raises:
        InputError: the runs are not of two configurations, or tools/compare.py would refuse them.
    """
    comparison = compare_runs([*references, *folders], "test")
    if len(comparison.rows) != 2:
        raise InputError(
            f"Runs must be of two configurations, each with all seeds. Received: {len(comparison.rows)} in "
            f"{references[0]} to {folders[-1]}. Delete what is old."
        )
    (found,) = differences_to_first(comparison, num_resamples, 0)
    mean, low, high = found.metrics["mAP"]
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def check_one_of(flag, given, known):
    """Raises InputError for a flag's list of names that is empty or has one that is not known."""
    unknown = [name for name in given if name not in known]
    if unknown or not given:
        raise InputError(f"--{flag} must be among {', '.join(known)}. Received: {','.join(unknown) or 'none'}.")


def whole_numbers(flag, texts, highest=2**31 - 1, lowest=0):
    """A flag's list of texts as ints."""
    if not texts or not all(text.isdecimal() and lowest <= int(text) <= highest for text in texts):
        raise InputError(
            f"--{flag} must be whole numbers from {lowest} to {highest}, separated by commas. Received: "
            f"{','.join(texts)!r}."
        )
    return [int(text) for text in texts]


def mean_ap(metrics, output, labels=None):
    """Mean AP of an output over some labels, or all that have one, percent."""
    ap = dict(zip(metrics["labels"], metrics["outputs"][output]["AP"]))
    return statistics.mean(ap[label] for label in labels or ap if ap[label] is not None)


def spread(numbers):
    """ "87.5 (87.1 to 87.9)": mean, lowest and highest of some numbers; one number alone."""
    mean = f"{statistics.mean(numbers):.1f}"
    return mean if len(numbers) == 1 else f"{mean} ({min(numbers):.1f} to {max(numbers):.1f})"
