"""Explains a trained regularizer: neurons that follow the place of a label, and what excites a neuron most.

Section 4.3 of Zhu et al., CVPR 2017, Figures 5 and 6. The paper leaves open what a response and a location are; here
see `responses.Responses`.
"""

import dataclasses

import numpy as np

from srn_tf.analysis import correlation
from srn_tf.analysis.excitation import choose_neurons, excite
from srn_tf.analysis.responses import Responses, read_responses
from srn_tf.analysis.targets import AXES, Target, label_targets, offset_targets
from srn_tf.data.datasets import DataSet
from srn_tf.errors import InputError
from srn_tf.models.registry import ModelConfig
from srn_tf.models.srn import CONV4_KERNELS_PER_CHANNEL
from srn_tf.run import load_model
from srn_tf.runs.run_data import open_run_data
from srn_tf.runs.work_dir import WorkDir

MODELS = ("srn", "srn_att")  # those that have a regularizer
_CHOSEN_NEURONS = 5


@dataclasses.dataclass(frozen=True)
class Correlations:
    """All neurons against one target.

    Attributes:
        target: targets.Target.
        by_chance: what |r| must exceed, see `correlation.chance_limit`.
        r: float (M, 2), with the vertical and the horizontal value of the target.
        r_blind: float (M, 2), the same of the mean over the grid of the channel each neuron reads.
        r_place: float (M, 2), of each neuron with the place itself where the target is an offset; else None.
    """

    target: Target
    by_chance: float
    r: np.ndarray
    r_blind: np.ndarray
    r_place: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Finding:
    """One neuron and one axis of one target."""

    correlations: Correlations
    neuron: int
    axis: int  # index into targets.AXES

    @property
    def target(self):
        """The targets.Target."""
        return self.correlations.target

    @property
    def r(self):
        """The correlation with the target."""
        return float(self.correlations.r[self.neuron, self.axis])

    @property
    def r_blind(self):
        """The same for the mean of the channel that the neuron reads."""
        return float(self.correlations.r_blind[self.neuron, self.axis])

    @property
    def r_place(self):
        """The correlation with the place itself; NaN if the target is a place."""
        of = self.correlations
        return np.nan if of.r_place is None else float(of.r_place[self.neuron, self.axis])

    @property
    def is_own(self):
        """Whether the neuron finds it itself: its channel, without places, tells no more of it than chance."""
        return not abs(self.r_blind) > self.correlations.by_chance


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What was found in one split.

    Attributes:
        dataset: data.datasets.DataSet.
        split: its role.
        responses: responses.Responses.
        places, offsets: lists of Correlations.
        excitations: list of excitation.Excitation.
    """

    dataset: DataSet
    split: str
    responses: Responses
    places: list
    offsets: list
    excitations: list


def explain_regularizer(work_dir, data_dir, split, prepared_dir="", min_images=30, neurons=()):
    """Reads a run's neurons on a split and looks for what they follow.

    Args:
        work_dir: a run's work folder.
        data_dir, prepared_dir: as in training.
        split: "train", "validation" or "test".
        min_images: places and offsets on fewer images are left out; at least 4.
        neurons: indices of those to show with the images that excite them; empty chooses.
    Returns:
        Explanation.
    Raises:
        InputError: a run without a regularizer or not trained, other labels, an unknown split or neuron.
    """
    work = WorkDir(work_dir)
    run = work.read_run()
    if run["model"]["model"] not in MODELS:
        raise InputError(
            f"work_dir must be a run of --model={' or '.join(MODELS)}, which has a regularizer f_sr. Received: "
            f"{work_dir}, a run of {run['model']['model']}. Give another run."
        )
    dataset, _ = open_run_data(work, data_dir, prepared_dir)
    config = ModelConfig.from_record(run["model"])
    _check_neurons(neurons, CONV4_KERNELS_PER_CHANNEL * config.settings.head_channels)
    records = dataset.records(split)
    reads = "A" if config.model == "srn_att" else "U"
    responses = read_responses(load_model(work, run), reads, records, title="responses")
    return explain_responses(dataset, split, responses, min_images, neurons)


def explain_responses(dataset, split, responses, min_images, neurons=()):
    """Looks for what neurons follow in their responses to a split.

    Args:
        dataset: data.datasets.DataSet.
        split: its role.
        responses: responses.Responses of it.
        min_images, neurons: as `explain_regularizer`.
    Returns:
        Explanation.
    Raises:
        InputError: a neuron that never fires.
    """
    targets = label_targets(responses.places, dataset.labels, min_images)
    offsets = offset_targets(dataset.name, responses.places, dataset.labels, min_images)
    limit = correlation.chance_limit(responses.neurons, targets + offsets, title="permutations")
    positives = responses.labels == 1
    if neurons:
        excitations = [excite(responses.neurons, positives, neuron) for neuron in neurons]
        silent = [excitation.neuron for excitation in excitations if not len(excitation.images)]
        if silent:
            raise InputError(
                f"--neurons must name neurons that fire on at least one image of the {split} split. Received: "
                f"{silent[0]}, which never fires. Remove it."
            )
    else:
        excitations = choose_neurons(responses.neurons, positives, _CHOSEN_NEURONS, title="exciting images")
    places, offsets = ([_correlate(responses, target, limit) for target in group] for group in (targets, offsets))
    return Explanation(dataset, split, responses, places, offsets, excitations)


def clear_findings(correlations):
    """The findings that chance does not explain, from the highest |r| down.

    Args:
        correlations: list of Correlations.
    Returns:
        list of Finding.
    """
    found = [
        Finding(one, int(neuron), int(axis))
        for one in correlations
        for neuron, axis in np.argwhere(np.abs(one.r) > one.by_chance)  # false for NaN
    ]
    return sorted(found, key=lambda finding: -abs(finding.r))


def distinct_findings(correlations, count):
    """The strongest of `clear_findings`, no two of the same neuron or the same target: list of `count` or fewer."""
    chosen, neurons, targets = [], set(), set()
    for finding in clear_findings(correlations):
        target = (finding.target.name, finding.target.partner_name)
        if finding.neuron not in neurons and target not in targets and len(chosen) < count:
            chosen.append(finding)
            neurons.add(finding.neuron)
            targets.add(target)
    return chosen


def best_of_each(correlations):
    """The strongest finding of each target and axis, whether clear or not: list of Finding.

    Targets that no neuron varies on are left out.
    """
    return [
        Finding(one, int(np.nanargmax(np.abs(one.r[:, axis]))), axis)
        for one in correlations
        for axis in range(len(AXES))
        if np.isfinite(one.r[:, axis]).any()
    ]


def _check_neurons(neurons, num_neurons):
    unknown = [neuron for neuron in neurons if not 0 <= neuron < num_neurons]
    if unknown:
        raise InputError(
            f"--neurons must be numbers from 0 to {num_neurons - 1}, channels of conv4. Received: {unknown[0]}."
        )


def _correlate(responses, target, limit):
    neurons = responses.neurons[target.images]
    return Correlations(
        target,
        correlation.largest_by_chance(limit, len(target.images)),
        correlation.pearson(neurons, target.values),
        correlation.pearson(responses.channels[target.images], target.values),
        None if target.partners is None else correlation.pearson(neurons, target.subject_places),
    )
