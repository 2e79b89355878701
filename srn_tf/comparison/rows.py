"""Runs side by side: those that differ only in their seed become one row, with a name that tells it from others."""

import os
from dataclasses import dataclass

import numpy as np

from srn_tf.comparison.papers import ALL, TOP3
from srn_tf.comparison.runs import check_comparable, read_run
from srn_tf.errors import InputError
from srn_tf.evaluation.frequency import GROUPS, mean_ap_by_frequency
from srn_tf.evaluation.protocols import Protocol, evaluate
from srn_tf.evaluation.sizes import SIZES, mean_ap_by_size

_LONGEST_NAME = 60  # characters; beyond, a row is named by its folder


@dataclass(frozen=True)
class Row:
    """The runs of one configuration, one a seed.

    Attributes:
        name: str, unique in its comparison.
        runs: Runs, at least one.
        results: for each of them what `protocols.evaluate` gives; with boxes, `sizes.mean_ap_by_size`; where training
            is known, `frequency.mean_ap_by_frequency`.
    """

    name: str
    runs: tuple
    results: tuple

    def values(self, group, column):
        """A metric of each run, percent; None if it is not known.

        Args:
            group: "all", "top3", "mAP_by_size" or "mAP_by_frequency".
            column: str, such as "mAP".
        """
        values = [result[group][column] for result in self.results]
        return None if None in values else np.array(values)

    @property
    def ap(self):
        """float64 (C,), percent, mean over the runs; NaN where a label has no positive."""
        return np.mean([np.array(result["AP"], np.float64) for result in self.results], axis=0)


@dataclass(frozen=True)
class Comparison:
    """Rows on the same images of the same split.

    Attributes:
        dataset, split: str.
        protocol: protocols.Protocol.
        label_names: C names.
        labels: int8 (N, C), the truth.
        rows: Rows in the order in which their first runs were given.
    """

    dataset: str
    split: str
    protocol: Protocol
    label_names: tuple
    labels: np.ndarray
    rows: tuple

    @property
    def columns(self):
        """(group, column) of the table, in the paper's order; sizes and frequencies where all runs have them."""
        has_top3 = "top3" in self.rows[0].results[0]
        columns = [("all", column) for column in ALL] + [("top3", column) for column in TOP3 if has_top3]
        for group, of_group in (("mAP_by_size", SIZES), ("mAP_by_frequency", GROUPS)):
            if all(group in result for row in self.rows for result in row.results):
                columns += [(group, column) for column in of_group]
        return columns


def compare_runs(paths, split):
    """Reads runs and merges those that differ only in their seed.

    Args:
        paths: work folders of runs, at least one.
        split: "train", "validation" or "test".
    Returns:
        Comparison.
    Raises:
        InputError: no run; a folder is no run's, or given twice; a run without predictions on the split, or with
            damaged ones; runs that differ in data set, protocol, labels or their order, images or truth; two runs of
            one configuration with one seed.
    """
    if not paths:
        raise InputError("At least one run is needed to compare. Received: none. Give the work folders of runs.")
    runs = []
    for path in paths:
        if any(os.path.realpath(path) == os.path.realpath(run.path) for run in runs):
            raise InputError(f"Each run must be given once. Received: {path} twice. Remove one.")
        runs.append(read_run(path, split))
        check_comparable(runs[0], runs[-1])
    groups = _merge(runs)
    names = row_names([group[0] for group in groups])
    rows = tuple(
        Row(name, tuple(group), tuple(_evaluate(run) for run in group))
        for name, group in zip(names, groups, strict=True)
    )
    first = runs[0]
    return Comparison(
        first.dataset, split, first.protocol, first.predictions.label_names, first.predictions.labels, rows
    )


def row_names(runs):
    """Names configurations: the model, and where several have it, the flags in which those differ.

    Args:
        runs: one Run of each configuration.
    Returns:
        list of str, all different; with the folder in place of flags that would make the name long.
    """
    names = []
    for run in runs:
        model = run.flags.get("model", "run")
        peers = [peer for peer in runs if peer.flags.get("model", "run") == model]
        differing = differing_flags(peers)
        name = ": ".join([model, ", ".join(_shown(run, flag) for flag in differing)]) if differing else model
        if len(name) > _LONGEST_NAME:
            folders = [os.path.basename(os.path.abspath(peer.path)) for peer in peers]
            folder = os.path.basename(os.path.abspath(run.path))
            name = f"{model} ({folder if folders.count(folder) == 1 else run.path})"
        names.append(name)
    return names


def differing_flags(runs):
    """The flags that are not the same in all of the runs, in the order of their flagfiles.

    Args:
        runs: Runs.
    Returns:
        list of str; a flag that only some runs have is one of them.
    """
    flags = dict.fromkeys(flag for run in runs for flag in run.flags)
    return [flag for flag in flags if len({run.flags.get(flag) for run in runs}) > 1]


def _shown(run, flag):
    return f"{flag}={run.flags[flag]}" if flag in run.flags else f"no {flag}"


def _merge(runs):
    """Lists of runs of one configuration, in the order of their first."""
    groups = []
    for run in runs:
        group = next((group for group in groups if group[0].flags == run.flags), None)
        if group is None:
            groups.append([run])
            continue
        twin = next((other for other in group if other.seed == run.seed), None)
        if twin:
            raise InputError(
                f"Runs of the same configuration must differ in their seed. Received: seed {run.seed} in {twin.path} "
                f"and {run.path}. Leave one out, or compare them separately."
            )
        group.append(run)
    return groups


def _evaluate(run):
    predictions = run.predictions
    try:
        result = evaluate(run.scores, predictions.labels, run.protocol, predictions.label_names)
    except InputError as error:
        raise InputError(f"{run.file}: {error}") from None
    if predictions.sizes is not None:
        result |= mean_ap_by_size(run.scores, predictions.labels, run.protocol, predictions.sizes)
    return result | mean_ap_by_frequency(result["AP"], run.training_positives)
