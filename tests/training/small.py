"""Small models and helpers for the tests of training."""

import functools

import keras
import numpy as np
import tensorflow as tf

from srn_tf.models.model import MultiLabelModel, Stage, label_loss
from srn_tf.runs import checkpoint
from srn_tf.training.freezing import apply_stage
from srn_tf.training.steps import loss_gradients
from tests.models.small import small_model


@functools.cache
def _kept_srn(head, learn_alpha):
    model = build_small_srn(head, learn_alpha=learn_alpha)
    return model, weights_of(model)


def small_srn(head="released", learn_alpha=False):
    """What `build_small_srn` builds, built once: one at a time may be used."""
    model, weights = _kept_srn(head, learn_alpha)
    checkpoint.assign_weights(model, weights, "as built")
    return model


def build_small_srn(head="released", num_labels=3, **options):
    """The smallest SRN, always the same, every weight moved off its symmetric start (zero biases, gamma 1)."""
    keras.utils.set_random_seed(0)
    model = small_model("srn", num_labels, srn_head=head, head_channels=8, **options)
    randomize(model)
    return model


def build_two_parts(num_labels=16):
    """Two convolutions with BatchNorm in two parts and two stages: all that a trainer needs of a model."""
    image = keras.Input((16, 16, 3), name="image")
    first = _part("first", image.shape[1:], 4, num_labels)
    last = _part("last", first.output["X"].shape[1:], 8, num_labels)
    features = first(image)
    return MultiLabelModel(
        image=image,
        outputs={"y_last": last(features["X"])["y"], "y_first": features["y"]},
        parts={"first": first, "last": last},
        stages={
            "begin": Stage(trains=("first",), fixed=("last",), terms=(label_loss("y_first"),), watched="y_first"),
            "end": Stage(
                trains=("last",),
                fixed=("first",),
                terms=(label_loss("y_last"),),
                watched="y_last",
                starts_from={"last/last_logits/bias": "first/first_logits/bias"},
            ),
        },
        logits=("y_last", "y_first"),
    )


def _part(name, shape, channels, num_labels):
    x = inputs = keras.Input(shape, name=f"{name}_input")
    if name == "first":
        x = keras.layers.Rescaling(1 / 127.5, -1.0, name=f"{name}_scale")(x)
    x = keras.layers.Conv2D(channels, 3, 2, use_bias=False, name=f"{name}_conv")(x)
    X = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
    y = keras.layers.Dense(num_labels, name=f"{name}_logits")(keras.layers.Flatten(name=f"{name}_flatten")(X))
    return keras.Model(inputs, {"X": X, "y": y}, name=name)


def randomize(model, seed=0):
    """Adds a little noise to every weight (to a variance, a positive one)."""
    rng = np.random.default_rng(seed)
    for name, weight in model.weights.items():
        noise = rng.uniform(0.05, 0.2, weight.shape).astype(np.float32)
        sign = 1.0 if name.endswith("variance") else rng.choice([-1.0, 1.0], weight.shape).astype(np.float32)
        weight.assign_add(sign * noise)


def random_batch(num_images=4, num_labels=3, side_px=56, seed=1, num_boxes=0):
    """{"image", "y"} as `training_batches` yields them, with "boxes" and "box_labels" if a number of them is given."""
    rng = np.random.default_rng(seed)
    y = (rng.random((num_images, num_labels)) < 0.5).astype(np.float32)
    image = rng.uniform(0, 255, (num_images, side_px, side_px, 3)).astype(np.float32)
    batch = {"image": tf.constant(image), "y": tf.constant(y)}
    if num_boxes:
        first, last = np.sort(rng.random((2, num_images, num_boxes, 2)), axis=0)
        batch["boxes"] = tf.constant(np.concatenate([first, last], axis=2), tf.float32)
        batch["box_labels"] = tf.constant(rng.integers(-1, num_labels, (num_images, num_boxes)))  # -1: none
    return batch


def weights_of(model):
    """dict: address -> array."""
    return {name: weight.numpy().copy() for name, weight in model.weights.items()}


def assert_bit_equal(weights, expected):
    """Compares two results of `weights_of`."""
    assert list(weights) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(weights[name], value, err_msg=name)


def descend(model, stage, batch, learning_rate=0.01):
    """One plain step down the gradient of a stage's loss; returns the variables it trains by their addresses."""
    variables = apply_stage(model, stage)
    network = model.network_for(stage.reads)
    _, gradients = loss_gradients(network, stage.terms, variables, batch, len(batch["y"]))
    for variable, gradient in zip(variables.values(), gradients):
        variable.assign_sub(learning_rate * gradient)
    return variables


def sum_over_labels_loss(y, logits):
    """The loss written from its definition: minus the log-likelihood, summed over labels, mean over images."""
    likelihood = y * tf.math.log_sigmoid(logits) + (1.0 - y) * tf.math.log_sigmoid(-logits)
    return tf.reduce_mean(-tf.reduce_sum(likelihood, axis=1))
