"""Labels whose truth is not known: what training makes of them.

`loss` below is one of `training.losses`. The modes are those that Ben-Baruch et al. compare in "Multi-label
classification with partial annotations using class-aware selective loss", CVPR 2022.
"""

import dataclasses
import logging
import os

import numpy as np
import tensorflow as tf

from srn_tf.data.label_facts import label_blocks
from srn_tf.errors import InputError
from srn_tf.evaluation.blocks import row_blocks
from srn_tf.evaluation.metrics import sigmoid
from srn_tf.evaluation.predictions import load_predictions
from srn_tf.labels import check_same_labels
from srn_tf.runs.work_dir import WorkDir
from srn_tf.training.losses import LABEL_BY_LABEL, make_loss

logger = logging.getLogger("srn_tf")


def mode_of(plan, dataset):
    """What training does with unspecified labels: "ignore", "normalize", "selective" or "negative".

    Args:
        plan: TrainingPlan.
        dataset: data.datasets.DataSet.
    """
    if plan.unspecified != "auto":
        return plan.unspecified
    return "ignore" if dataset.ignores_unspecified or dataset.dropped is not None else "negative"


def check_unspecified(plan, dataset, stages):
    """Checks that training can treat unspecified labels as planned.

    Args:
        plan, dataset: as of `mode_of`.
        stages: name -> models.model.Stage, those of the plan.
    Raises:
        InputError: a treatment is asked for and there are none, or "selective" for a loss that compares labels or
            leaves some out by itself.
    """
    if plan.unspecified == "auto":
        return
    if not (dataset.has_unspecified or dataset.dropped is not None):
        raise InputError(
            f"unspecified={plan.unspecified} needs labels that may be unspecified. Received: data set {dataset.name}, "
            "where every label is given. Remove --unspecified, prepare a table with --unspecified_marks, or simulate "
            "it with --drop_labels."
        )
    if plan.unspecified != "selective":
        return
    if plan.loss not in LABEL_BY_LABEL:
        raise InputError(
            f"unspecified=selective needs a loss of each label by itself: {', '.join(LABEL_BY_LABEL)}. Received: "
            f"--loss={plan.loss}, which compares labels. Use another --loss or --unspecified."
        )
    for name, stage in stages.items():
        if any(term.function is None and len(term.reads) > 1 for term in stage.terms):
            # Else a label that the term does not count, which may be a positive, would be an unspecified one here.
            raise InputError(
                f"unspecified=selective needs a loss of all labels. Received: stage {name}, whose loss leaves out the "
                "labels that the network is told. Use another --unspecified, such as ignore."
            )


def training_loss(loss, mode, plan, labels, prior=None):
    """The loss of training, made of the loss of specified labels; see also `with_image_weights`.

    Args:
        loss: which leaves out what is not counted.
        mode: see `mode_of`.
        plan: TrainingPlan.
        labels: C label names.
        prior: float64 (C,) of `label_prior`, for "selective".
    Returns:
        callable, as `loss`.
    """
    if mode != "selective":
        return loss
    of_unspecified = loss
    if plan.loss == "asymmetric":
        of_unspecified = make_loss(**loss_options(dataclasses.replace(plan, asl_gamma_neg=plan.selective_gamma)))
    is_likely = prior > plan.selective_threshold
    likely = [f"{name} {value:.2f}" for name, value, so in zip(labels, prior, is_likely) if so]
    logger.info(
        "Unspecified labels are negative, but for the %d most probable of each batch per image, and for those with a "
        "prior above %g: %s.",
        plan.selective_top_k,
        plan.selective_threshold,
        ", ".join(likely) or "none",
    )
    return selective_loss(loss, of_unspecified, is_likely, plan.selective_top_k, plan.selective_weight)


def loss_options(plan):
    """The arguments of `losses.make_loss` that a plan has."""
    names = ("focal_gamma", "asl_gamma_pos", "asl_gamma_neg", "asl_margin", "asl_focal_gradient")
    return {"name": plan.loss, **{name: getattr(plan, name) for name in names}}


def with_image_weights(batch):
    """Adds the weights of images for mode "normalize": 1 / (1 + n) + 1, n being the specified labels of an image.

    A label counts in n whether or not the network is told it, so that what C-Tran draws does not weigh images.

    Source: "ignore_normalize_classes" of the authors' code, after Durand et al., "Learning a deep ConvNet for
    multi-label classification with partial labels", CVPR 2019.

    Args:
        batch: see `models.model.Term`.
    Returns:
        dict, the batch with "image_weight", float32 (b,), which `steps.term_values` multiplies the label loss by.
    """
    number = tf.reduce_sum(batch.get("counted", tf.ones_like(batch["y"])), axis=1)
    return {**batch, "image_weight": 1.0 / (1.0 + number) + 1.0}


def selective_loss(loss, of_unspecified, is_likely, top_k, weight=1.0):
    """Specified labels as they are; unspecified ones as negatives, without those that may well be positive.

    Source: mode "selective" of the authors' code. Differs from it: the batch is a device's share (of
    --accumulation_steps, a piece), and the prior's may be another, see `label_prior`.

    Args:
        loss: of specified labels.
        of_unspecified: loss of the unspecified ones, which are its negatives.
        is_likely: bool (C,), labels whose unspecified entries are left out.
        top_k: K; of a batch of B images the K * B unspecified entries with the highest logits are left out, too.
        weight: factor of the unspecified entries.
    Returns:
        callable, as `loss`.
    """
    may_be_absent = tf.constant(~np.asarray(is_likely), tf.float32)

    def selective(y, logits, counted=None, seed=(0, 0)):
        if counted is None:
            return loss(y, logits, None, seed)
        negative = (1.0 - counted) * may_be_absent * _below_the_top(logits, counted, top_k)
        return loss(y, logits, counted, seed) + weight * of_unspecified(tf.zeros_like(y), logits, negative, seed)

    return selective


def _below_the_top(logits, counted, top_k):
    """float32 (B, C), 0 at the `top_k` * B highest logits among those that are not counted, else 1."""
    flat = tf.reshape(tf.where(counted == 0, tf.stop_gradient(logits), tf.float32.min), [-1])
    count = tf.minimum(top_k * tf.shape(logits)[0], tf.size(flat))
    _, highest = tf.math.top_k(flat, count)
    flat = tf.tensor_scatter_nd_update(tf.ones_like(flat), highest[:, None], tf.zeros(tf.shape(highest)))
    return tf.reshape(flat, tf.shape(logits))


def label_prior(path, dataset):
    """How probable each label is on an image of the data set, for `selective_loss`; a run keeps it in run.json.

    Differs from the source: the authors average over the training images. Here a run's folder gives the average over
    its validation images, which are held out and whose predictions every run keeps.

    Args:
        path: a run's folder, or a file of its predictions, whose mean probabilities are taken; "" takes the share of
            positives among each label's specified training labels, which is wrong where the share that is specified
            differs between positives and negatives.
        dataset: data.datasets.DataSet.
    Returns:
        float64 (C,), in [0, 1]; of frequencies 0 where a label is specified nowhere.
    Raises:
        InputError: no such file, of a model with other labels, without an image, or with a score that is no number.
    """
    if not path:
        return _frequencies(dataset)
    path = WorkDir(path).predictions("validation") if os.path.isdir(path) else path
    predictions = load_predictions(path)
    check_same_labels(dataset.labels, predictions.label_names, path)
    logits = next(iter(predictions.logits.values()))
    unusable = "no image" if not len(logits) else "a score that is no number" if np.isnan(logits).any() else ""
    if unusable:
        raise InputError(
            f"--selective_prior must be predictions on images, each score a number. Received: {path} with {unusable}. "
            "Evaluate the run again, or name another."
        )
    return sum(sigmoid(logits[rows]).sum(axis=0) for rows in row_blocks(logits)) / len(logits)


def _frequencies(dataset):
    positives = specified = 0
    for labels in label_blocks(dataset.records("train")):
        positives = positives + (labels == 1).sum(axis=0)
        specified = specified + (labels != 0).sum(axis=0)
    return positives / np.maximum(specified, 1)
