"""The trap of maps that sum to 1: fed plainly to f_sr they carry too little signal, and f_sr stays at chance.

y_hat cannot show it, because y_cls carries y_hat; so y_sr alone is scored, after stage 3.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from srn_tf.evaluation.metrics import average_precision
from srn_tf.training.losses import sigmoid_loss
from srn_tf.training.plan import TrainingPlan
from srn_tf.training.stage_step import StageStep
from tests.models.small import small_model

COLOURS = np.array([[220, 40, 40], [40, 200, 40], [50, 60, 230], [230, 220, 40]], np.float32)
BATCH = 32


def _draw(count, seed):
    """Grey noise with up to four squares, each of another colour; label l: a square of colour l is there."""
    rng = np.random.default_rng(seed)
    images = rng.normal(128, 12, (count, 56, 56, 3)).astype(np.float32)
    y = (rng.random((count, len(COLOURS))) < 0.4).astype(np.float32)
    for image, present in zip(images, y):
        for label in np.flatnonzero(present):
            top, left = rng.integers(0, 44, 2)
            image[top : top + 12, left : left + 12] = COLOURS[label]
    return np.clip(images, 0, 255), y


@pytest.mark.slow
@pytest.mark.parametrize("head", ["released", "paper"])
def test_f_sr_alone_beats_chance_after_stage_3(head):
    keras.utils.set_random_seed(1)
    images, y = _draw(768, 1)
    test_images, test_y = _draw(256, 2)
    model = small_model("srn", len(COLOURS), head=head, head_channels=16)
    for name, epochs in (("cls", 3), ("att", 3), ("sr", 3)):
        _train(model, name, images, y, epochs)
    logits = model.network_for(["y_sr"])(test_images, training=False)["y_sr"].numpy()
    mean_ap = 100 * average_precision(logits, test_y == 1).mean()
    chance = 100 * test_y.mean()
    assert mean_ap > chance + 30, f"y_sr {mean_ap:.1f}, chance {chance:.1f}"


def _train(model, name, images, y, epochs):
    stage = model.stages[name]
    plan = TrainingPlan((name,), (epochs,), (0.01,), batch_size=BATCH)
    step = StageStep(model, tf.distribute.get_strategy(), stage, 0, plan, sigmoid_loss)
    num_steps = len(images) // BATCH
    stack = {"image": images.reshape(num_steps, BATCH, *images.shape[1:]), "y": y.reshape(num_steps, BATCH, -1)}
    for _ in range(epochs):
        step.run(stack, [0.01] * num_steps)
