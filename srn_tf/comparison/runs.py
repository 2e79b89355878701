"""One run as a comparison needs it: what it is, its flags, and its predictions on a split."""

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass

import numpy as np

from srn_tf.errors import InputError
from srn_tf.evaluation.blocks import row_blocks
from srn_tf.evaluation.predictions import SavedPredictions, load_predictions
from srn_tf.evaluation.protocols import Protocol, protocol_named
from srn_tf.program import command, tool
from srn_tf.runs.work_dir import WorkDir

# Flags in which runs of one configuration may differ: the seed, places, and where images wait.
_FREE_FLAGS = ("seed", "data_dir", "work_dir", "prepared_dir", "cache")
_RUN_FLAGS = ("init_from", "selective_prior")  # another run for every seed, of one configuration


@dataclass(frozen=True)
class Run:
    """One run with its predictions on a split.

    Attributes:
        path: str, its work folder as given.
        file: str, where its predictions are.
        dataset: str.
        protocol: protocols.Protocol.
        flags: flag -> value as text, without those that a configuration leaves open.
        seed: str.
        output: str, name of the output that is compared, the model's final one.
        predictions: SavedPredictions with that output alone.
        training_positives: list of C int, training images with each label.
    """

    path: str
    file: str
    dataset: str
    protocol: Protocol
    flags: dict
    seed: str
    output: str
    predictions: SavedPredictions
    training_positives: list

    @property
    def scores(self):
        """float32 (N, C), logits of the compared output."""
        return self.predictions.logits[self.output]


def read_run(path, split):
    """Reads what a comparison needs of a run.

    Args:
        path: str, its work folder.
        split: str.
    Returns:
        Run.
    Raises:
        InputError: it is no run's folder, has no predictions on the split, or they do not fit together.
    """
    work = WorkDir(path)
    description = work.read_run()
    try:
        dataset, protocol, final = description["dataset"], description["protocol"], description.get("final")
    except (KeyError, TypeError, AttributeError):
        raise InputError(
            f"{work.run} must name the run's dataset and protocol. Received: a file without both. "
            f"Give a run of {tool('train')}."
        ) from None
    flags, seed = _configuration(work)
    file = work.predictions(split)
    if not os.path.isfile(file):
        raise InputError(
            f"{file} must exist. Received: no such file. Make it: {command('evaluate')} --work_dir={path} "
            f"--data_dir=DATA --split={split}"
        )
    predictions = load_predictions(file)
    outputs = predictions.logits
    output = final or next(iter(outputs), None)
    if output not in outputs:
        raise InputError(
            f"{file} must have the run's final output {output}. Received: {', '.join(outputs) or 'no output'}. "
            "Evaluate the run again."
        )
    shape = (predictions.names.size, len(predictions.label_names))
    if not shape == predictions.labels.shape == outputs[output].shape:
        raise InputError(
            f"{file} must have a true label and a score for every image and label, shape {shape}. Received: labels "
            f"{predictions.labels.shape}, {output} {outputs[output].shape}. Evaluate the run again."
        )
    only = dataclasses.replace(predictions, logits={output: outputs[output]})
    positives = description["training_positives"]
    return Run(path, file, dataset, protocol_named(protocol), flags, seed, output, only, positives)


def _configuration(work, before=()):
    """The flags in which runs of one configuration agree, as texts, and the seed; `before` are runs that began here."""
    flags = work.read_flags()
    kept = {flag: value for flag, value in flags.items() if flag not in _FREE_FLAGS}
    others = {flag: _named_by_configuration(kept[flag], before) for flag in _RUN_FLAGS if kept.get(flag)}
    return {**kept, **others}, flags.get("seed", "?")


def _named_by_configuration(path, before):
    """A name for the configuration of the run in a folder; the path where no run is, or one that leads back here."""
    if path in before:
        return path
    try:
        flags, _ = _configuration(WorkDir(path), (*before, path))
    except InputError:
        return path
    return f"a run ({hashlib.sha256(json.dumps(flags, sort_keys=True).encode()).hexdigest()[:6]})"


def check_comparable(first, run):
    """Makes sure that two runs say something of the same truth.

    Args:
        first, run: Runs.
    Raises:
        InputError: they differ in data set, protocol, labels, images, their order, or truth; shows both sides.
    """
    for what, received in (
        ("data set", (first.dataset, run.dataset)),
        ("protocol", (first.protocol.name, run.protocol.name)),
    ):
        if received[0] != received[1]:
            raise InputError(
                f"Runs must have the same {what}. Received: {received[0]} in {first.path}, {received[1]} in "
                f"{run.path}. Compare them separately."
            )
    ours, theirs = first.predictions, run.predictions
    _check_same_list("label", "labels", ours.label_names, theirs.label_names, first.path, run.path)
    _check_same_list("image", "images", ours.names.tolist(), theirs.names.tolist(), first.path, run.path)
    for rows in row_blocks(ours.labels, theirs.labels):
        if np.array_equal(ours.labels[rows], theirs.labels[rows]):
            continue
        image, label = np.argwhere(ours.labels[rows] != theirs.labels[rows])[0]
        image += rows.start
        raise InputError(
            f"Runs must have the same true labels. Received: {ours.label_names[label]!r} of {ours.names[image]} is "
            f"{ours.labels[image, label]} in {first.path}, {theirs.labels[image, label]} in {run.path}. Evaluate both "
            "on the same prepared data."
        )


def _check_same_list(one, many, ours, theirs, our_path, their_path):
    if list(ours) == list(theirs):
        return
    if len(ours) != len(theirs):
        received = f"{len(ours)} in {our_path}, {len(theirs)} in {their_path}"
    else:
        place = next(place for place, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1])
        another = "in another order, " if sorted(ours) == sorted(theirs) else ""
        received = (
            f"{another}{one} {place} (from 0) is {ours[place]!r} in {our_path}, {theirs[place]!r} in {their_path}"
        )
    raise InputError(
        f"Runs must have the same {many} in the same order. Received: {received}. "
        "Evaluate both on the same split of the same prepared data."
    )
