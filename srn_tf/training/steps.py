"""What one replica computes of a training step; callable with or without a strategy."""

import tensorflow as tf

from srn_tf.errors import InputError
from srn_tf.models.model import input_of
from srn_tf.training.losses import sigmoid_loss, step_seed


def term_values(term, outputs, batch, label_loss, seed):
    """What a term of a stage's loss gives: float32 (b,), a value per image, or a scalar if it is per step.

    Args:
        term: models.model.Term.
        outputs: name -> tensor, those of `term.reads` at least.
        batch: see `models.model.Term`.
        label_loss: the loss that --loss names, see `training.losses`.
        seed: two integers.
    Raises:
        InputError: the term's function asks the batch for what is not in it.
    """
    read = {name: tf.cast(outputs[name], tf.float32) for name in term.reads}
    if term.function is not None:
        return term.function(read, _Batch(batch, term), seed)
    (logits,) = read.values()
    return label_loss(batch["y"], logits, batch.get("counted"), seed)


class _Batch(dict):
    """A batch as a term's function sees it: what is not there is named in one message."""

    def __init__(self, batch, term):
        super().__init__(batch)
        self._term = term

    def __missing__(self, name):
        raise InputError(
            f"Term {self._term.name} must read what is in a batch: {', '.join(self)}. Received: {name!r}. With "
            "--cache=features there are no images: use another --cache, or leave the stage out of --stages."
        )


def loss_gradients(
    network, terms, variables, batch, global_batch_size, label_loss=sigmoid_loss, seed=(0, 0), loss_scale=None
):
    """The terms of the loss of some images and the gradient of their weighted sum.

    The replicas' results, and those of a replica's pieces, add up to the whole batch's: of a term its mean over the
    images, or the term itself if it is per step.

    Args:
        network: keras.Model, image (or features, see `model.input_of`) -> dict of the outputs that the terms read.
        terms: tuple of models.model.Term.
        variables: address -> tf.Variable that this stage trains; nothing else is differentiated.
        batch: {"image": float32 (b, S, S, 3) or features, "y": float32 (b, C)} and perhaps "counted" (see
            `training.losses`).
        global_batch_size: images of the step over all replicas.
        label_loss: see `term_values`.
        seed: two integers; another one in every step, replica and piece.
        loss_scale: float32 scalar, the factor of the loss in the backward pass, where float16 would lose what is
            small; None is 1.
    Returns:
        (parts, gradients): dict, term's name -> its unweighted value, float32 scalar; list of the gradients of
        `variables` without any weight decay and without `loss_scale`, float32.
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
            # Sum over these images, divided by the images of all replicas: the sum over all is a mean.
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
        parallel_iterations=1,  # else pieces would take memory side by side
    )
    return parts, gradients
