"""CNN-RNN as a model: what it is made of, what its settings refuse, and that it learns."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from srn_tf.data.datasets import open_dataset
from srn_tf.errors import InputError
from srn_tf.evaluation.protocols import COCO, evaluate
from srn_tf.labels import LabelSpace
from srn_tf.models.backbones import build_trunk
from srn_tf.models.cnn_rnn import CNNRNNSettings, build
from srn_tf.models.model import input_of, truth_of
from srn_tf.training.freezing import apply_stage
from srn_tf.training.optimizers import StageOptimizer
from srn_tf.training.plan import TrainingPlan
from srn_tf.training.steps import loss_gradients
from tests.models.small import small_model


def test_bad_settings():
    with pytest.raises(InputError, match="rnn_min_labels must be at most rnn_steps, 2. Received: 3."):
        small_model("cnn_rnn", 5, rnn_steps=2, rnn_min_labels=3)
    with pytest.raises(InputError, match="rnn_beam must be at least 1. Received: 0."):
        small_model("cnn_rnn", 5, rnn_beam=0)


def test_the_truth_of_a_batch():
    y = tf.constant([[1.0, 0.0, 0.0]])
    np.testing.assert_array_equal(truth_of({"y": y}), y)
    np.testing.assert_array_equal(truth_of({"y": y, "counted": tf.constant([[1.0, 1.0, 0.0]])}), [[1.0, 0.0, -1.0]])


@pytest.mark.slow
@pytest.mark.parametrize("gates", ["sigmoid", "relu"])
def test_it_learns_64_images_by_heart(tiny_scenes_dir, gates):
    """On the features of a small trunk with its random weights: mAP above 95 at the end of training, and the decision
    at 0.5 right in nearly all pairs."""
    keras.utils.set_random_seed(0)
    dataset = open_dataset("scenes", tiny_scenes_dir, tiny_scenes_dir)
    records = list(dataset.builder.as_dataset(split="train", shuffle_files=False).as_numpy_iterator())
    images = np.stack([record["image"] for record in records]).astype(np.float32)
    labels = np.stack([record["labels"] for record in records])
    settings = CNNRNNSettings(rnn_width=64, rnn_embedding=32, rnn_gates=gates, rnn_dropout=0.0)
    counts = (labels == 1).sum(axis=0)
    model = build(build_trunk("small", images.shape[1]), LabelSpace(dataset.labels, counts=counts), settings)
    (stage,) = model.stages.values()
    heads, answer = model.heads_for(stage.reads), model.heads_for(("y_rnn",))
    features = {"c5": model.parts["trunk"](images)["c5"]}
    features["c5"] = (features["c5"] - tf.reduce_mean(features["c5"])) / tf.math.reduce_std(features["c5"])
    batch = {**features, "y": tf.constant(labels == 1, tf.float32)}
    variables = apply_stage(model, stage)
    optimizer = StageOptimizer(variables, TrainingPlan(("rnn",), (1,), (0.001,), optimizer="rmsprop", weight_decay=0.0))

    @tf.function
    def step(rate):
        parts, gradients = loss_gradients(heads, stage.terms, variables, batch, len(images))
        optimizer.apply(gradients, rate)
        return parts["path_loss"]

    losses = [float(step(tf.constant(0.001 * min(1.0, 3 * (1 - number / 600))))) for number in range(600)]
    logits = answer(input_of(answer, features), training=False)["y_rnn"].numpy()
    mean_ap = evaluate(logits, labels, COCO)["all"]["mAP"]
    wrong = ((logits > 0) != (labels == 1)).mean()
    assert losses[-1] < 0.1 * losses[0] and mean_ap > 95 and wrong < 0.02, (losses[::100], mean_ap, wrong)
