"""The package for users of Python and Keras: models, runs and metrics in a few functions.

`import srn_tf` gives all of them. Functions that need TensorFlow load it when they are called.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from srn_tf.errors import InputError

if TYPE_CHECKING:
    import keras

    from srn_tf.runs.work_dir import WorkDir
    from srn_tf.serving.predictor import Predictor

OUTPUTS = ("answer", "all")
"""The values of `outputs` in `create_model`."""


def list_models() -> list[str]:
    """Names of the methods, see docs/methods.md."""
    from srn_tf.models.registry import METHODS

    return list(METHODS)


def list_backbones() -> list[str]:
    """Names of the backbone networks; every method works with each."""
    from srn_tf.models.backbones import BACKBONES

    return list(BACKBONES)


def create_model(
    name: str,
    *,
    backbone: str = "efficientnet_lite0",
    labels: Sequence[str] | int,
    image_size: int = 224,
    weights: str | None = None,
    outputs: str = "answer",
    **settings: Any,
) -> keras.Model:
    """A method as a Keras model for `compile` and `fit`, without the stages of a run.

    It takes plain pixels, uint8 or float from 0 to 255, RGB, (B, S, S, 3); scaling is part of the model. It gives
    logits: use a loss of `srn_tf.losses`, or `keras.losses.BinaryCrossentropy(from_logits=True)`. Parts that no stage
    of the method trains, such as RLSD's region proposals, are not trainable. MSRN and ML-GCN come without their label
    graph, which needs a data set: each label is joined to itself only. MSRN comes without its loss of groups, too.

    Args:
        name: one of `list_models()`.
        backbone: one of `list_backbones()`.
        labels: C names, in order, or C alone.
        image_size: S, pixels; a multiple of 32 ("small": of 32 or 56).
        weights: of the backbone. None: random; "imagenet"; or a file, see `models.backbones.build_trunk`.
        outputs: "answer": the logits (B, C) of the method's answer. "all": dict of the logits of every head by its
            name, the answer first; for SRN y_hat, y_cls, y_att and y_sr.
        **settings: the method's own, such as head_channels=256, see `srn-tf train --helpfull`.
    Returns:
        keras.Model, functional; its outputs have the heads' names.
    Raises:
        InputError: an unknown name or setting; an impossible value; a method whose loss is not one of its logits
            (c_tran, cnn_rnn, rlsd with region_sequence="ordered", rlsd_ft_rpn): train it with `srn_tf.train`.
    """
    from srn_tf.data.label_facts import label_embeddings
    from srn_tf.labels import LabelSpace
    from srn_tf.models.registry import METHODS, ModelConfig, build_model

    _check_one_of("model", name, list_models())
    _check_one_of("backbone", backbone, list_backbones())
    _check_one_of("outputs", outputs, OUTPUTS)
    names = _label_names(labels)
    own = METHODS[name].settings(**_typed(settings, METHODS[name].settings, name))
    stages = [stage for stage in own.stages.values() if stage.is_default]
    for stage in stages:
        if all(term.function is not None or len(term.reads) > 1 for term in stage.terms):
            raise InputError(
                f"create_model needs a method whose loss is computed from its logits. Received: {name!r}, whose loss "
                f"is {', '.join(term.name for term in stage.terms)}. Train it with srn_tf.train(model={name!r}, ...)."
            )
    facts = {}
    if "embeddings" in own.label_fields:
        facts["embeddings"] = label_embeddings(own.label_embeddings, names, own.label_width)
    config = ModelConfig(name, backbone, image_size, own)
    model = build_model(config, LabelSpace(tuple(names), **facts), weights or "none")
    for part_name, part in model.parts.items():
        if not any(part_name in stage.trains for stage in stages):
            part.trainable = False

    import keras

    from srn_tf.models.layers import Output

    heads = model.logits if outputs == "all" else (model.final,)
    given = {head: Output(name=head)(model.outputs[head]) for head in heads}
    return keras.Model(model.image, given if outputs == "all" else given[model.final], name=name)


class Predictions(NamedTuple):
    """What a run predicted for the images of a split.

    Attributes:
        names: str (N,), the images' names.
        scores: float32 (N, C), logits.
        truth: int8 (N, C), 1, 0 or -1 as stored; the protocol says what 0 means.
    """

    names: np.ndarray
    scores: np.ndarray
    truth: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run on disk, as `srn_tf.train` or `srn-tf train` wrote it.

    Attributes:
        path: its work folder.
        labels: tuple of C names, in order.
        protocol: name of the protocol of its data set, for `srn_tf.evaluate`.
        settings: flag -> text, all options of its training, as in flags.txt.
        metrics: dict of metrics.json; None before its evaluation.
    """

    path: str
    labels: tuple[str, ...]
    protocol: str
    settings: Mapping[str, str] = dataclasses.field(repr=False)
    metrics: dict[str, Any] | None = dataclasses.field(repr=False)

    @functools.cached_property
    def model(self) -> keras.Model:
        """The network with the run's final weights, built on first use.

        It takes pixels (B, S, S, 3), 0 to 255, and gives a dict of all outputs: logits such as y_hat (B, C), the
        answer first, and the method's maps and features.

        Raises:
            InputError: the run has no network, or is not fully trained.
        """
        from srn_tf.run import load_model

        work = self._work()
        return load_model(work, work.read_run()).network

    def predictions(self, split: str, output: str | None = None) -> Predictions:
        """The predictions that the run keeps.

        Args:
            split: "validation", "test", or another split that was evaluated.
            output: name of the logits; None: the run's answer.
        Raises:
            InputError: no predictions on that split, or no such output.
        """
        from srn_tf.evaluation.predictions import load_predictions

        kept = load_predictions(self._work().predictions(split))
        name = next(iter(kept.logits)) if output is None else output
        _check_one_of("output", name, list(kept.logits))
        return Predictions(kept.names, kept.logits[name], kept.labels)

    def predictor(self) -> Predictor:
        """The newest export of the run, loaded; it takes image files.

        Raises:
            InputError: the run has no export.
        """
        from srn_tf.serving.predictor import Predictor

        return Predictor(self._work().newest_export())

    def _work(self) -> WorkDir:
        from srn_tf.runs.work_dir import WorkDir

        return WorkDir(self.path)


def load_run(path: str | os.PathLike[str]) -> Run:
    """Opens the work folder of a run.

    Args:
        path: the folder.
    Returns:
        Run.
    Raises:
        InputError: it is not the folder of a run, or a file in it cannot be read.
    """
    from srn_tf.runs.work_dir import WorkDir

    work = WorkDir(os.fspath(path))
    description, metrics = work.read_run(), work.read_metrics()
    return Run(work.path, tuple(description["labels"]), description["protocol"], work.read_flags(), metrics)


def evaluate(
    scores: Any,
    truth: Any,
    protocol: str = "coco",
    *,
    scores_are: str | None = None,
    labels: Sequence[str] | None = None,
    thresholds: Any = None,
    ranking: bool = False,
    top_k: int | None = None,
    top_k_floor: float | None = None,
) -> dict[str, Any]:
    """Metrics of the scores of any method, under the protocol of a data set.

    Args:
        scores: real (N, C), finite.
        truth: real (N, C), 1, 0 or -1. 1 is positive, -1 negative. 0 is negative too, but means "not
            known" in the protocols voc2007, wider_attribute and partial.
        protocol: "coco", "nus_wide", "voc2007", "wider_attribute", "partial" or "scenes", see docs.
        scores_are: "logits" or "probabilities". None: logits, if one of them is below 0.
        labels: C names, or None.
        thresholds: one probability, or C, each in (0, 1), above which a label is predicted; None: 0.5.
        ranking: also ranking metrics, such as LRAP.
        top_k: also a table that predicts this many highest labels per image.
        top_k_floor: with top_k, the minimum probability of a label in that table.
    Returns:
        dict, ready for JSON: "images", "labels", "protocol" and "definition", and all that metrics.json has for an
        output, such as ["all"]["mAP"] in percent; see `evaluation.protocols.evaluate`.
    Raises:
        InputError: arrays, names or values that cannot be evaluated.
    """
    from srn_tf.evaluation import protocols
    from srn_tf.evaluation.score_files import SCALES, as_logits

    rules = protocols.protocol_named(protocol)
    scores = np.asarray(scores)
    if scores.size and scores.dtype.kind in "fiub":
        if scores_are is not None:
            _check_one_of("scores_are", scores_are, SCALES)
        scores = as_logits(scores, scores_are)
    options = {"ranking": ranking, "top_k": top_k, "top_k_floor": top_k_floor}
    evaluated = protocols.evaluate(scores, truth, rules, labels, thresholds, **options)
    return {
        "images": scores.shape[0],
        "labels": scores.shape[1] if labels is None else list(labels),
        "protocol": rules.name,
        "definition": rules.definition,
        **protocols.with_top_k_named(evaluated, top_k, top_k_floor),
    }


def train(
    model: str | None = None,
    dataset: str | None = None,
    *,
    data_dir: str | os.PathLike[str],
    work_dir: str | os.PathLike[str],
    flagfile: str | os.PathLike[str] | None = None,
    **flags: Any,
) -> Run:
    """Trains a method in its stages, evaluates it on the test split and exports it, as `srn-tf train` does.

    Every argument is the flag of the same name, see `srn-tf train --helpfull`. Lists may be Python lists, such as
    epochs=[6, 4, 8, 4]. The same call continues an interrupted run. Progress goes to the logger "srn_tf":
    `logging.basicConfig(level=logging.INFO, force=True)` shows it.

    Args:
        model: one of `list_models()`. None: the flagfile's, else the flag's default.
        dataset: name of the data set. None: likewise.
        data_dir: folder of the data set, as `srn-tf prepare` wrote it.
        work_dir: folder for everything that the run writes.
        flagfile: options to start from, such as "configs/own_photos.flags" (the package brings its configs/). The other
            arguments override it.
        **flags: any other flags.
    Returns:
        Run, as from `load_run`.
    Raises:
        InputError: an impossible flag or value, or anything else that `srn-tf train` refuses.
        srn_tf.training.interruption.Stopped: SIGTERM or SIGINT arrived during training; everything is saved.
    """
    from absl import flags as absl_flags

    from srn_tf import options
    from srn_tf.program import find_flagfile, tool

    values = absl_flags.FlagValues()
    options.define_flags(values)
    given = {"model": model, "dataset": dataset, "data_dir": data_dir, "work_dir": work_dir}
    given = {name: value for name, value in given.items() if value is not None} | flags
    words = [] if flagfile is None else [f"--flagfile={find_flagfile(os.fspath(flagfile))}"]
    for name, value in given.items():
        if name not in values:
            near = difflib.get_close_matches(name, values, n=5)
            hint = f"Did you mean {' or '.join(near)}?" if near else f"See {tool('train')} --helpfull."
            raise InputError(f"train has no argument {name!r}. {hint}")
        words.append(f"--{name}={_as_text(value)}")
    try:
        leftover = values(["srn_tf.train", *words])[1:]
    except absl_flags.Error as error:
        raise InputError(str(error)) from None
    if leftover:
        raise InputError(
            f"Every line of the flagfile must be --name=value. Received: {leftover[0]!r}. Correct {flagfile}."
        )
    settings = options.read_options(values)

    from srn_tf.run import train_run

    train_run(settings)
    return load_run(settings.work_dir)


def _as_text(value: Any) -> str:
    """A value as a flagfile has it."""
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_one_of(what: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InputError(f"{what} must be one of {', '.join(allowed)}. Received: {value!r}.")


def _typed(given: Mapping[str, Any], kind: Any, model: str) -> dict[str, Any]:
    """Settings of a method, whole numbers standing for floats too; InputError for a name that it does not have."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in given:
        if name not in fields:
            raise InputError(f"Settings of {model} are {', '.join(fields) or 'none'}. Received: {name!r}. Remove it.")
    return {
        name: float(value) if type(value) is int and isinstance(fields[name].default, float) else value
        for name, value in given.items()
    }


def _label_names(labels: Sequence[str] | int) -> list[str]:
    names: list[str] = []
    if isinstance(labels, int):
        names = [str(place) for place in range(labels)]
    elif isinstance(labels, Iterable) and not isinstance(labels, str):
        names = list(labels)
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise InputError(f"labels must be a list of different names, or their number. Received: {labels!r}.")
    return names
