"""What one replica computes of a training step, and one evaluation step; callable with or without a strategy."""

import tensorflow as tf

from srn_tf.training.losses import sigmoid_loss, step_seed


def loss_gradients(
    network, losses, variables, batch, global_batch_size, loss=sigmoid_loss, seed=(0, 0), loss_scale=None
):
    """The losses of some images and the gradient of their weighted sum.

    The replicas' results, and those of a replica's pieces, add up to the whole batch's: of the loss the mean over its
    images.

    Args:
        network: keras.Model, image -> dict of the outputs named in `losses`.
        losses: output name -> weight of its loss.
        variables: the trainable variables of this stage; nothing else is differentiated.
        batch: {"image": float32 (b, S, S, 3), "y": float32 (b, C)} and perhaps "counted" (see `training.losses`).
        global_batch_size: images of the step over all replicas.
        loss: the loss of every output, see `training.losses`; its logits are float32 under mixed precision as well.
        seed: two integers; another one in every step, replica and piece.
        loss_scale: float32 scalar, the factor of the loss in the backward pass, where float16 would lose what is
            small; None is 1.
    Returns:
        (parts, gradients): dict, output name -> unweighted loss, float32 scalar; list of the gradients of `variables`
        without any weight decay and without `loss_scale`, float32.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variables)
        outputs = network(batch["image"], training=True)
        # Sum over these images, divided by the images of all replicas: the sum over all is a mean.
        parts = {
            name: tf.reduce_sum(loss(batch["y"], tf.cast(outputs[name], tf.float32), batch.get("counted"), seed))
            / global_batch_size
            for name in losses
        }
        total = tf.add_n([weight * parts[name] for name, weight in losses.items()])
        scaled = total if loss_scale is None else loss_scale * total
    gradients = tape.gradient(scaled, variables)
    if loss_scale is not None:
        gradients = [gradient / loss_scale for gradient in gradients]
    return parts, gradients


def accumulated_gradients(
    network, losses, variables, batch, global_batch_size, num_pieces=1, loss=sigmoid_loss, seed=(0, 0), loss_scale=None
):
    """As `loss_gradients`, with the images in pieces one after the other: in the memory that one piece takes.

    A BatchNorm that is trained normalizes each piece by itself and moves its statistics with each.

    Args:
        num_pieces: pieces; the images must be a multiple of it.
        seed: two integers, another one in every step and replica.
        Others and return value: see `loss_gradients`.
    """
    if num_pieces == 1:
        return loss_gradients(network, losses, variables, batch, global_batch_size, loss, seed, loss_scale)
    pieces = {name: tf.reshape(value, [num_pieces, -1, *value.shape[1:]]) for name, value in batch.items()}

    def add_piece(i, parts, gradients):
        piece = {name: value[i] for name, value in pieces.items()}
        more_parts, more_gradients = loss_gradients(
            network, losses, variables, piece, global_batch_size, loss, step_seed(*tf.unstack(seed), i), loss_scale
        )
        parts = {name: parts[name] + more_parts[name] for name in losses}
        return i + 1, parts, [total + more for total, more in zip(gradients, more_gradients)]

    start = (0, dict.fromkeys(losses, tf.constant(0.0)), [tf.zeros(variable.shape) for variable in variables])
    _, parts, gradients = tf.while_loop(
        lambda i, parts, gradients: i < num_pieces,
        add_piece,
        start,
        parallel_iterations=1,  # else pieces would take memory side by side
    )
    return parts, gradients


def evaluate_step(network, image, attention=None):
    """Runs the network in inference mode.

    Args:
        network: keras.Model, image -> dict of outputs.
        image: float32 (B, S, S, 3) RGB, 0 to 255.
        attention: name of the (B, H, W, C) output whose maxima are wanted, or None.
    Returns:
        dict of the (B, C) outputs, and "attention_cell" int64 (B, C), the flat index of each label's
        maximum in H*W, if `attention` is given.
    """
    outputs = network(image, training=False)
    results = {name: value for name, value in outputs.items() if value.shape.rank == 2}
    if attention is not None:
        maps = outputs[attention]
        grid_first = tf.reshape(maps, [-1, maps.shape[1] * maps.shape[2], maps.shape[3]])
        results["attention_cell"] = tf.argmax(grid_first, axis=1)
    return results
