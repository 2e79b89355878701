"""The part of a training step that one replica computes; callable with or without a strategy."""

import functools

import tensorflow as tf

from srn_tf.errors import InputError
from srn_tf.models.model import input_of
from srn_tf.training.losses import sigmoid_loss, step_seed


def term_values(term, outputs, batch, label_loss, seed):
    """The value of a term of a stage's loss: float32 (b,), one per image, or a scalar if the term is per step.

    Args:
        term: models.model.Term.
        outputs: name -> tensor, at least those of `term.reads`.
        batch: see `models.model.Term`.
        label_loss: the loss that --loss names, see `training.losses`.
        seed: two integers.
    Raises:
        InputError: the term's function reads something that is not in the batch.
    """
    read = {name: tf.cast(outputs[name], tf.float32) for name in term.reads}
    if term.function is not None:
        return term.function(read, _Batch(batch, term), seed)
    logits, *masks = read.values()
    if "counted" in batch:
        masks.append(batch["counted"])
    values = label_loss(batch["y"], logits, functools.reduce(tf.multiply, masks) if masks else None, seed)
    return values * batch["image_weight"] if "image_weight" in batch else values


class _Batch(dict):
    """A batch as a term's function sees it; reading what is not there gives one clear message."""

    def __init__(self, batch, term):
        super().__init__(batch)
        self._term = term

    def __missing__(self, name):
        raise InputError(
            f"Loss term {self._term.name} must read what is in a batch: {', '.join(self)}. Received: {name!r}. With "
            "--cache=features there are no images. Use another --cache, or leave the stage out of --stages."
        )


def loss_gradients(
    network, terms, variables, batch, global_batch_size, label_loss=sigmoid_loss, seed=(0, 0), loss_scale=None
):
    """The terms of the loss on some images, and the gradient of their weighted sum.

    The results of all replicas and pieces add up to that of the whole batch: the mean of a term over all images, or the
    term itself if it is per step.

    Args:
        network: keras.Model, image (or features, see `model.input_of`) -> dict of the outputs that the terms read.
        terms: tuple of models.model.Term.
        variables: address -> tf.Variable, those that this stage trains; there is no gradient for others.
        batch: {"image": float32 (b, S, S, 3) or features, "y": float32 (b, C)} and perhaps "counted" (see
            `training.losses`) and "image_weight" (see `unspecified.with_image_weights`).
        global_batch_size: images per step over all replicas.
        label_loss: see `term_values`.
        seed: two integers that differ in every step, replica and piece.
        loss_scale: float32 scalar, the factor of the loss in the backward pass, so that float16 does not lose small
            gradients; None: 1.
    Returns:
        (parts, gradients): dict, term's name -> its unweighted value, float32 scalar; list of the gradients of
        `variables`, float32, without weight decay and without `loss_scale`.
    Raises:
        ValueError: no term depends on one of the variables.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(list(variables.values()))
        outputs = network(input_of(network, batch), training=True)
        num_images = tf.cast(tf.shape(batch["y"])[0], tf.float32)
        parts = {}
        for term in terms:
            values = term_values(term, outputs, batch, label_loss, seed)
            # The sum over these images, divided by the images of all replicas: adding up all replicas gives the mean.
            parts[term.name] = (values * num_images if term.is_per_step else tf.reduce_sum(values)) / global_batch_size
        total = tf.add_n([term.weight * parts[term.name] for term in terms])
        scaled = total if loss_scale is None else loss_scale * total
    gradients = tape.gradient(scaled, list(variables.values()))
    idle = [address for address, gradient in zip(variables, gradients) if gradient is None]
    if idle:
        raise ValueError(
            f"Every weight that a stage trains must move one of its terms ({', '.join(parts)}). "
            f"Received: {len(idle)} that do not, first {idle[0]}."
        )
    if loss_scale is not None:
        gradients = [gradient / loss_scale for gradient in gradients]
    return parts, gradients


def accumulated_gradients(
    network,
    terms,
    variables,
    batch,
    global_batch_size,
    num_pieces=1,
    label_loss=sigmoid_loss,
    seed=(0, 0),
    loss_scale=None,
):
    """As `loss_gradients`, with the images in pieces one after the other: in the memory that one piece takes.

    A BatchNorm that is trained normalizes each piece by itself and moves its statistics with each.

    Args:
        num_pieces: pieces; the images must be a multiple of it.
        seed: two integers, another one in every step and replica.
        Others and return value: see `loss_gradients`.
    """
    if num_pieces == 1:
        return loss_gradients(network, terms, variables, batch, global_batch_size, label_loss, seed, loss_scale)
    pieces = {name: tf.reshape(value, [num_pieces, -1, *value.shape[1:]]) for name, value in batch.items()}

    def add_piece(i, parts, gradients):
        piece = {name: value[i] for name, value in pieces.items()}
        piece_seed = step_seed(*tf.unstack(seed), i)
        more_parts, more_gradients = loss_gradients(
            network, terms, variables, piece, global_batch_size, label_loss, piece_seed, loss_scale
        )
        parts = {name: value + more_parts[name] for name, value in parts.items()}
        return i + 1, parts, [total + more for total, more in zip(gradients, more_gradients)]

    nothing = {term.name: tf.constant(0.0) for term in terms}
    start = (0, nothing, [tf.zeros(variable.shape) for variable in variables.values()])
    _, parts, gradients = tf.while_loop(
        lambda i, parts, gradients: i < num_pieces,
        add_piece,
        start,
        parallel_iterations=1,  # otherwise several pieces would take memory at once
    )
    return parts, gradients
