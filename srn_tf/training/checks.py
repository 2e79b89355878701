"""Checks before the first step: whether a plan fits model, devices and data, and which parts start at random."""

import glob
import itertools
import logging
import os

import tensorflow as tf

from srn_tf import stack
from srn_tf.choices import RANKING_LOSSES
from srn_tf.data.augments import SPLICED
from srn_tf.data.features import check_features
from srn_tf.errors import InputError
from srn_tf.training.freezing import apply_stage, planned_stage, untrained_parts
from srn_tf.training.schedule import make_schedule
from srn_tf.training.unspecified import check_unspecified

logger = logging.getLogger("srn_tf")


def check_plan(plan, model, strategy, dataset):
    """Checks that a model can be trained as planned. The arguments are those of `trainer.Trainer`.

    Raises:
        InputError: a stage or part that the model does not have, a stage without weights to train, fewer images than a
            batch, a batch that devices and accumulation cannot share evenly, a warm-up as long as a stage, no label in
            train or validation, no box for a stage that needs them, impossible features, or augmentation that a loss,
            stage or batch does not go with; see `check_unspecified`.
    """
    unknown = [name for name in plan.stages if name not in model.stages]
    if unknown:
        raise InputError(f"stages must be among {', '.join(model.stages)}. Received: {unknown[0]!r}.")
    for flag in ("rate_scales", "frozen_parts", "frozen_norms"):
        unknown = [name for name in getattr(plan, flag) if name not in model.parts]
        if unknown:
            raise InputError(
                f"{flag} must name parts of the model: {', '.join(model.parts)}. Received: {unknown[0]!r}."
            )
    _check_something_trains(plan, model)
    if plan.cache == "features":
        check_features(model, plan)
    if plan.batch_size % (strategy.num_replicas_in_sync * plan.accumulation_steps):
        raise InputError(
            f"batch_size must be a multiple of devices x accumulation_steps, {strategy.num_replicas_in_sync} x "
            f"{plan.accumulation_steps}. Received: {plan.batch_size}."
        )
    _check_augmentation(plan, model, strategy)
    num_images = dataset.num_images("train")
    if num_images < plan.batch_size:
        raise InputError(
            f"batch_size must be at most the number of training images, {num_images}. Received: {plan.batch_size}."
        )
    for index in range(len(plan.stages)):
        make_schedule(plan, index, num_images // plan.batch_size)
    check_unspecified(plan, dataset, {name: model.stages[name] for name in plan.stages})
    _check_labels(dataset)
    for name in plan.stages:
        _check_boxes(name, model.stages[name], model, dataset)


def _check_augmentation(plan, model, strategy):
    """Raises InputError for augmentation that does not go with the loss, a stage or the batch."""
    effects = plan.effects
    pieces = strategy.num_replicas_in_sync * plan.accumulation_steps
    if effects.mix == "splicemix" and plan.batch_size % (SPLICED * pieces):
        raise InputError(
            f"batch_size must be a multiple of {SPLICED} x devices x accumulation_steps, {SPLICED * pieces}, for "
            f"splicemix, which adds an image to every {SPLICED}. Received: {plan.batch_size}. Change --batch_size, or "
            "remove splicemix from --augment."
        )
    soft = ", ".join(effects.soft)
    if soft and plan.loss in RANKING_LOSSES:
        raise InputError(
            f"--loss={plan.loss} needs labels that are true or false. Received: {soft} in --augment, which make labels "
            "between. Remove from the list, or use --loss=sigmoid, focal or asymmetric."
        )
    for name in plan.stages:
        stage = model.stages[name]
        if effects.relabels and not model.taught.keys().isdisjoint(stage.reads):
            raise InputError(
                f"Stage {name} reads the labels of an image, as they are stored. Received: "
                f"{', '.join(effects.relabels)} in --augment, which change labels. Remove from the list, or leave the "
                "stage out of --stages."
            )
        if "boxes" in stage.needs and effects.moves_boxes:
            raise InputError(
                f"Stage {name} needs boxes, which move with crops and mirroring only. Received: "
                f"{', '.join(effects.moves_boxes)} in --augment. Remove from the list, or leave the stage out of "
                "--stages."
            )


def _check_something_trains(plan, model):
    """Raises InputError for a stage whose weights are all frozen; what draws or counts has weights that never learn."""
    for name in plan.stages:
        if not apply_stage(model, planned_stage(model.stages[name], plan), plan.frozen_norms):
            frozen = {"frozen_parts": plan.frozen_parts, "frozen_norms": plan.frozen_norms}
            received = " and ".join(f"--{flag}={','.join(parts)}" for flag, parts in frozen.items() if parts)
            raise InputError(
                f"Stage {name} must train a weight of its parts {', '.join(model.stages[name].trains)}. Received: "
                f"{received}, with which none learns. Freeze fewer parts, or leave the stage out of --stages."
            )


def _check_boxes(name, stage, model, dataset):
    """Raises InputError if a stage needs boxes, and no image for its training or validation has one."""
    if "boxes" not in stage.needs:
        return
    for role in ("train",) if stage.watched in model.logits else ("train", "validation"):
        has_boxes = dataset.records(role).map(lambda record: tf.size(record["objects"]["label"]) > 0)
        if not any(has_boxes.as_numpy_iterator()):
            raise InputError(
                f"Stage {name} needs boxes. Received: {dataset.name}, with no box on its {dataset.num_images(role)} "
                f"{role} images. Use a data set with boxes, or leave the stage out of --stages."
            )


def _check_labels(dataset):
    """Raises InputError if no training or no validation image has a label: an epoch would end without mAP."""
    in_train = _labelled_positions(dataset.records("train"), 2)
    if not in_train:
        raise InputError(
            f"Training images must have labels. Received: no label on {dataset.num_images('train')} images. Check the "
            "labels that the data set was prepared from, and --validation_fraction."
        )
    if _labelled_positions(dataset.records("validation"), 1):
        return
    held_out, num_train = dataset.num_images("validation"), dataset.num_images("train")
    if dataset.splits["validation"] == "validation":
        advice = "Prepare the data set with labelled validation images"
    elif len(in_train) < 2:
        advice = "Prepare the data set with more labelled images, because only one training image has a label"
    else:
        fraction = (held_out + in_train[0] + 1) / (held_out + num_train)
        advice = (
            f"Use --validation_fraction={fraction:.6g}, which holds out a labelled image. A run that has begun also "
            "needs --restart or another --work_dir"
        )
    raise InputError(
        "Validation images must have labels, because the best epoch is chosen by them. Received: no label on "
        f"{held_out} images. {advice}."
    )


def _labelled_positions(records, count):
    """Positions of the first records with a positive label, ascending: list of at most `count` int."""
    is_labelled = records.map(lambda record: tf.reduce_any(record["labels"] == 1))
    found = (position for position, has in enumerate(is_labelled.as_numpy_iterator()) if has)
    return list(itertools.islice(found, count))


def check_same_stack(work, meta):
    """Whether an interrupted run can be continued: the two stacks draw and round otherwise.

    Args:
        work: WorkDir of the run.
        meta: of its state, with "versions", see `stack.versions`.
    Raises:
        InputError: it began with the other stack.
    """
    began, here = meta["versions"], stack.versions()
    if stack.is_same(began, here):
        return
    weights = glob.glob(os.path.join(glob.escape(work.checkpoints), "*.npz"))
    start = f" and --init_from={max(weights, key=os.path.getmtime)}" if weights else ""
    raise InputError(
        f"The interrupted run in {work.path} must be continued with the versions it began with. Expected: "
        f"{stack.in_words(began)}. Received: {stack.in_words(here)}. Use that Python with the same command, or start "
        f"a new run with another --work_dir{start}."
    )


def warn_of_untrained(plan, model, trained):
    """Warns of parts that stay random although a stage builds on them or the model's answer depends on them.

    Args:
        plan, model: as of `trainer.Trainer`.
        trained: names of the parts that hold learned weights before the first stage.
    """
    for name in plan.stages:
        stage = planned_stage(model.stages[name], plan)
        for part, source in stage.copied_parts(trained).items():
            if source not in trained:
                logger.warning(
                    "Stage %s copies into %s the weights of %s, which are random and were never trained. Start from "
                    "a trained run with --init_from, or train them in an earlier stage of --stages.",
                    name,
                    part,
                    source,
                )
        trained = stage.learned_parts(trained)
        untrained = untrained_parts(model, stage.reads, trained)
        if untrained:
            logger.warning(
                "Stage %s trains %s on top of random weights: %s were never trained. Start from a trained run with "
                "--init_from, or train them in an earlier stage of --stages.",
                name,
                ", ".join(stage.trains),
                ", ".join(untrained),
            )
    untrained = untrained_parts(model, [model.final], trained)
    if untrained:
        logger.warning(
            "After the last stage, the answer %s still depends on random weights: %s will not be trained. Use only "
            "the outputs that the stages train.",
            model.final,
            ", ".join(untrained),
        )
