"""One training step and one evaluation step; callable with or without a distribution strategy."""

import tensorflow as tf

from srn_tf.training.losses import sigmoid_loss


def train_step(
    network,
    losses,
    optimizer,
    variables,
    batch,
    global_batch_size,
    weight_decay,
    num_replicas=1,
    loss=sigmoid_loss,
    seed=(0, 0),
):
    """Moves `variables` by one step of the stage's loss with L2 inside the gradient.

    Args:
        network: keras.Model, image -> dict of the outputs named in `losses`.
        losses: output name -> weight of its loss.
        optimizer: keras optimizer; it sums gradients over replicas.
        variables: the trainable variables of this stage; nothing else is differentiated.
        batch: {"image": float32 (b, S, S, 3), "y": float32 (b, C)} and perhaps "counted" (see `training.losses`),
            this replica's share.
        global_batch_size: images over all replicas.
        weight_decay: factor of w in every variable's gradient (Caffe's L2, biases and BatchNorm included).
        num_replicas: replicas whose gradients are summed.
        loss: the loss of every output, see `training.losses`.
        seed: two integers; another one in every step and replica.
    Returns:
        dict: output name -> unweighted loss, float32 scalar; the sum over replicas is the mean over images.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variables)
        outputs = network(batch["image"], training=True)
        # Sum over this replica's images, divided by the images of all replicas: the replicas' sum is a mean.
        parts = {
            name: tf.reduce_sum(loss(batch["y"], outputs[name], batch.get("counted"), seed)) / global_batch_size
            for name in losses
        }
        total = tf.add_n([weight * parts[name] for name, weight in losses.items()])
    gradients = tape.gradient(total, variables)
    # The optimizer sums over replicas, so each contributes its share of the decay once.
    decayed = [g + (weight_decay / num_replicas) * v for g, v in zip(gradients, variables)]
    optimizer.apply_gradients(zip(decayed, variables))
    return parts


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
