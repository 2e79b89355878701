"""Losses of logits against labels: one number per image, a sum over its labels (or pairs of labels).

For every loss, `steps.loss_gradients` divides the sum over a batch by its number of images. A loss is a function

    loss(y, logits, counted=None, seed=(0, 0)) -> float32 (B,), >= 0

    y: float32 (B, C) in {0, 1}; of sigmoid, focal and asymmetric also between: their entry is then y times the loss of
        a positive and 1 - y times that of a negative.
    logits: float32 (B, C).
    counted: float32 (B, C), 0 for entries to leave out, else 1, or between as a weight; None counts all. An entry left
        out is neither positive nor negative, and the others are not scaled up to compensate.
    seed: two integers, which decide what a loss draws, if it draws.

The ranking losses (softmax, pairwise, warp, warp_exact) compare the labels of an image. They do not decide where a
probability of 0.5 lies: read their mAP, not their F1. pairwise, warp and warp_exact need memory for B * C * C numbers.
"""

import functools

import numpy as np
import tensorflow as tf

from srn_tf.choices import LOSSES
from srn_tf.data.label_facts import label_blocks
from srn_tf.errors import InputError
from srn_tf.evaluation.blocks import row_blocks

MAX_POSITIVE_WEIGHT = 100.0  # chosen by this project: COCO's rarest label would otherwise weigh 547
MARGIN = 1.0  # of the ranking losses
LABEL_BY_LABEL = ("sigmoid", "focal", "asymmetric")  # the losses in which a label's term does not depend on others


def make_loss(
    name,
    focal_gamma=2.0,
    asl_gamma_pos=0.0,
    asl_gamma_neg=4.0,
    asl_margin=0.05,
    asl_focal_gradient=False,
    positive_weights=None,
):
    """Makes a loss, as the docstring of the module describes it.

    Args:
        name: one of `LOSSES`.
        focal_gamma: see `focal_loss`.
        asl_gamma_pos, asl_gamma_neg, asl_margin, asl_focal_gradient: see `asymmetric_loss`.
        positive_weights: float32 (C,) for "sigmoid", see `sigmoid_loss`; None for every other loss.
    Returns:
        callable.
    Raises:
        InputError: an unknown name, or weights for a loss that takes none.
    """
    if name not in LOSSES:
        raise InputError(f"loss must be one of {', '.join(LOSSES)}. Received: {name!r}.")
    if positive_weights is not None and name != "sigmoid":
        raise InputError(
            f"positive_weights must be none unless loss is sigmoid. Received: --loss={name}. Use "
            "--positive_weights=none."
        )
    return {
        "sigmoid": functools.partial(sigmoid_loss, positive_weights=positive_weights),
        "softmax": softmax_loss,
        "pairwise": pairwise_loss,
        "warp": warp_loss,
        "warp_exact": warp_exact_loss,
        "focal": functools.partial(focal_loss, gamma=focal_gamma),
        "asymmetric": functools.partial(
            asymmetric_loss,
            gamma_pos=asl_gamma_pos,
            gamma_neg=asl_gamma_neg,
            margin=asl_margin,
            focal_gradient=asl_focal_gradient,
        ),
    }[name]


# Label by label.


def sigmoid_loss(y, logits, counted=None, seed=(0, 0), positive_weights=None):
    """Sigmoid cross-entropy.

    Paper: Zhu et al., CVPR 2017, Eq. (10) with the sign that makes it a loss. It is a sum over labels, not a mean: the
    paper's learning rates assume that, because Caffe's layer divides by the number of images only.

    Args:
        positive_weights: float32 (C,), factors of the terms of positive labels; None: 1 for all.
        Others and return value: see the module.
    """
    if positive_weights is None:
        entries = tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=logits)
    else:
        entries = tf.nn.weighted_cross_entropy_with_logits(labels=y, logits=logits, pos_weight=positive_weights)
    return _sum_counted(entries, counted)


def focal_loss(y, logits, counted=None, seed=(0, 0), gamma=2.0):
    """Cross-entropy with less weight on entries that are already right: (1 - p_t)^gamma * -log(p_t).

    Source: Lin et al., "Focal loss for dense object detection", ICCV 2017, Eq. (4), without their alpha. p_t is the
    probability given to the truth.

    Args:
        gamma: >= 0; 0 is the sigmoid loss, 2 the source's choice.
        Others and return value: see the module.
    """
    return _sum_counted(_of_labels(y, _focal(logits, gamma), _focal(-logits, gamma)), counted)


def asymmetric_loss(
    y, logits, counted=None, seed=(0, 0), gamma_pos=0.0, gamma_neg=4.0, margin=0.05, focal_gradient=False
):
    """Focal loss with one gamma for positives and one for negatives; negatives of low probability cost nothing.

    Source: Ben-Baruch et al., "Asymmetric loss for multi-label classification", ICCV 2021, Eq. (4) to (7):
    positive (1 - p)^gamma_pos * -log(p); negative p_m^gamma_neg * -log(1 - p_m) with p_m = max(p - margin, 0).
    In the formulas, the gradient passes through the powers. The authors' training scripts, and those of ML-Decoder,
    stop it there (disable_torch_grad_focal_loss): the powers are then only weights of the entries.

    Args:
        gamma_pos, gamma_neg: >= 0. The source's: 0 and 4.
        margin: probability in [0, 1). The source's: 0.05. With all three at 0 this is the sigmoid loss.
        focal_gradient: whether the gradient passes through the powers. False as in the scripts. The loss is the same.
        Others and return value: see the module.
    """
    weigh = tf.identity if focal_gradient else tf.stop_gradient
    if margin == 0:
        negative = _focal(-logits, gamma_neg, weigh)  # from logits, which keep their precision
    else:
        p = tf.sigmoid(logits)
        is_above = p > margin
        shifted = tf.where(is_above, p - margin, 0.5)  # any positive number where the loss is 0: 0^gamma has no slope
        negative = tf.where(is_above, weigh(shifted**gamma_neg) * -tf.math.log(1.0 - shifted), 0.0)
    return _sum_counted(_of_labels(y, _focal(logits, gamma_pos, weigh), negative), counted)


def _of_labels(y, positive, negative):
    """Entries of labels y in [0, 1], of what they would be for 1 and for 0."""
    return y * positive + (1.0 - y) * negative


def _focal(right, gamma, weigh=tf.identity):
    """(1 - p)^gamma * -log(p), `right` being the logit of p; `weigh` is applied to the power."""
    log_wrong = tf.math.log_sigmoid(-right)  # log(1 - p)
    return weigh(tf.exp(gamma * log_wrong)) * -tf.math.log_sigmoid(right)


# Label against label. Source of these four: Gong et al., "Deep convolutional ranking for multilabel image
# annotation", ICLR 2014.


def softmax_loss(y, logits, counted=None, seed=(0, 0)):
    """Cross-entropy between a softmax over the counted labels and a target that shares 1 equally among the positives.

    An image without positives has loss 0, and still counts as an image. Args and return value: see the module.
    """
    positive, negative = _sides(y, counted)
    far_below = tf.float32.min / 2  # finite, so that its product with a target of 0 is 0
    log_p = tf.nn.log_softmax(tf.where(positive + negative > 0, logits, far_below), axis=1)
    num_positives = tf.maximum(tf.reduce_sum(positive, axis=1, keepdims=True), 1.0)
    return -tf.reduce_sum(positive / num_positives * log_p, axis=1)


def pairwise_loss(y, logits, counted=None, seed=(0, 0)):
    """Sum of max(0, 1 - f_j + f_k) over positives j and negatives k. Args and return value: see the module."""
    return tf.reduce_sum(_hinges(logits, *_sides(y, counted)), axis=[1, 2])


def warp_exact_loss(y, logits, counted=None, seed=(0, 0)):
    """WARP that looks at every negative instead of drawing some.

    Positive j has n_j negatives inside its margin. The loss is the sum over positives of L(n_j) / n_j times the sum of
    their hinges, with L(n) = 1 + 1/2 + ... + 1/n. L has no gradient. Args and return value: see the module.
    """
    hinges = _hinges(logits, *_sides(y, counted))
    inside = tf.math.count_nonzero(hinges > 0, axis=2)  # (B, C), n_j
    weights = tf.gather(_rank_weights(logits.shape[1]), inside) / tf.maximum(tf.cast(inside, tf.float32), 1.0)
    return tf.reduce_sum(weights * tf.reduce_sum(hinges, axis=2), axis=1)


def warp_loss(y, logits, counted=None, seed=(0, 0)):
    """WARP as published: for each positive j, negatives are drawn (with replacement) until one is inside its margin.

    If that took s draws, the rank of j is estimated as r = floor((C - 1) / s), C being the counted labels of the image.
    Its loss is L(r) * max(0, 1 - f_j + f_k) with that negative k. After C - 1 draws without success it is 0. L is that
    of `warp_exact_loss`. Args and return value: see the module.
    """
    logits = tf.convert_to_tensor(logits)
    positive, negative = _sides(y, counted)
    num_labels = logits.shape[1]
    most_draws = max(num_labels - 1, 1)
    num_negatives = tf.reduce_sum(negative, axis=1)[:, None, None]
    allowed_draws = tf.reduce_sum(positive + negative, axis=1)[:, None, None] - 1.0
    # The negatives of each image come first, so that every number below num_negatives stands for one.
    order = tf.argsort(negative, axis=1, direction="DESCENDING", stable=True)
    candidates = tf.gather(logits, order, batch_dims=1)  # (B, C)
    uniform = tf.random.stateless_uniform([tf.shape(logits)[0], num_labels, most_draws], seed)
    drawn = tf.cast(uniform * num_negatives, tf.int32)  # (B, C, draws)
    draws = tf.range(most_draws)
    is_allowed = (tf.cast(draws, tf.float32) < allowed_draws) & (num_negatives > 0)
    is_inside = tf.gather(candidates, drawn, batch_dims=1) > logits[:, :, None] - MARGIN
    first = tf.reduce_min(tf.where(is_allowed & is_inside, draws, most_draws), axis=2)  # (B, C)
    is_found = first < most_draws
    found = tf.gather(drawn, tf.minimum(first, most_draws - 1), batch_dims=2)
    hinge = tf.nn.relu(MARGIN - logits + tf.gather(candidates, found, batch_dims=1))
    rank = tf.cast(allowed_draws[:, :, 0], tf.int32) // (first + 1)
    weights = tf.gather(_rank_weights(num_labels), tf.maximum(rank, 0))
    return tf.reduce_sum(tf.where(is_found, positive * weights * hinge, 0.0), axis=1)


def _hinges(logits, positive, negative):
    """(B, C, C): max(0, 1 - f_j + f_k) at positive j, negative k, else 0."""
    hinges = tf.nn.relu(MARGIN - logits[:, :, None] + logits[:, None, :])
    return hinges * positive[:, :, None] * negative[:, None, :]


def _rank_weights(num_labels):
    """float32 (C,): L(0) = 0, L(1) = 1, ... L(r) = 1 + 1/2 + ... + 1/r, up to C - 1."""
    return tf.constant(np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, num_labels))]), tf.float32)


def _sides(y, counted):
    """The positive and the negative entries as two masks, float32 (B, C)."""
    return (y, 1.0 - y) if counted is None else (y * counted, (1.0 - y) * counted)


def _sum_counted(entries, counted):
    return tf.reduce_sum(entries if counted is None else entries * counted, axis=1)


# Around a loss.


def step_seed(*numbers):
    """The seed of one step on one device.

    Args:
        numbers: integers, or integer scalar tensors; no other step on any device has the same in this order.
    Returns:
        two integers, as a tensor.
    """
    seed = tf.constant([0, 0], tf.int64)
    for number in numbers:
        seed = tf.random.experimental.stateless_fold_in(seed, tf.cast(number, tf.int64))
    return seed


def mean_loss(loss, y, logits, counted=None, images_at_once=256):
    """Mean of a loss over many images. Its random draws are the same at every call.

    Args:
        loss: see the module.
        y, logits, counted: as for the loss, N rows; NumPy arrays or blocks.Derived.
        images_at_once: limits the memory for comparing labels.
    Returns:
        float.
    """
    total = 0.0
    for part in row_blocks(y, logits, num_rows=images_at_once):
        part_counted = None if counted is None else counted[part]
        total += float(tf.reduce_sum(loss(y[part], logits[part], part_counted, seed=(0, part.start))))
    return total / len(y)


def balanced_weights(records, ignore_unspecified):
    """Negatives per positive of each label: weights that make both sides of a label weigh the same.

    Args:
        records: see `data.pipeline.read_records`.
        ignore_unspecified: whether labels that are 0 count on neither side; otherwise they are negatives.
    Returns:
        float32 (C,), at most `MAX_POSITIVE_WEIGHT`; a side without images counts as one.
    """
    positives = negatives = 0
    for labels in label_blocks(records):
        positives = positives + (labels == 1).sum(axis=0)
        negatives = negatives + ((labels == -1) if ignore_unspecified else (labels != 1)).sum(axis=0)
    weights = np.maximum(negatives, 1) / np.maximum(positives, 1)
    return np.minimum(weights, MAX_POSITIVE_WEIGHT).astype(np.float32)
