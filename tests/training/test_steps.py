"""One step of SGD as Caffe does it: sum over labels, mean over images, L2 inside the gradient."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from srn_tf.training.freezing import apply_stage
from srn_tf.training.losses import make_loss
from srn_tf.training.steps import evaluate_step, train_step
from tests.training import small

LEARNING_RATE, WEIGHT_DECAY, MOMENTUM = 0.01, 0.1, 0.9


def expected_gradients(network, losses, variables, batch):
    with tf.GradientTape() as tape:
        outputs = network(batch["image"], training=True)
        total = sum(weight * small.sum_over_labels_loss(batch["y"], outputs[name]) for name, weight in losses.items())
    return [gradient.numpy() for gradient in tape.gradient(total, variables)]


def test_two_steps_with_momentum_equal_caffes_rule():
    model = small.build_small_srn("paper")
    stage = model.stages["all"]
    variables = apply_stage(model, stage)
    network = model.network_for(stage.losses)
    optimizer = keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM)
    velocities = [np.zeros(v.shape, np.float32) for v in variables]
    for seed in (1, 2):
        batch = small.random_batch(seed=seed)
        before = [v.numpy().copy() for v in variables]
        gradients = expected_gradients(network, stage.losses, variables, batch)
        parts = train_step(network, stage.losses, optimizer, variables, batch, 4, WEIGHT_DECAY)
        for i, (w, g) in enumerate(zip(before, gradients, strict=True)):
            velocities[i] = MOMENTUM * velocities[i] + LEARNING_RATE * (g + WEIGHT_DECAY * w)
            moved = variables[i].numpy() - w
            scale = np.abs(velocities[i]).max()
            np.testing.assert_allclose(
                moved, -velocities[i], rtol=0, atol=1e-4 * scale + 1e-7, err_msg=variables[i].name
            )
        assert list(parts) == list(stage.losses)


def test_one_plain_step_and_the_losses_it_reports():
    model = small.build_small_srn()
    stage = model.stages["all"]
    variables = apply_stage(model, stage)
    network = model.network_for(stage.losses)
    batch = small.random_batch()
    before = [v.numpy().copy() for v in variables]
    gradients = expected_gradients(network, stage.losses, variables, batch)
    outputs = network(batch["image"], training=True)
    parts = train_step(network, stage.losses, keras.optimizers.SGD(LEARNING_RATE), variables, batch, 4, WEIGHT_DECAY)
    for variable, w, g in zip(variables, before, gradients, strict=True):
        expected = w - LEARNING_RATE * (g + WEIGHT_DECAY * w)
        np.testing.assert_allclose(variable, expected, rtol=1e-5, atol=1e-6, err_msg=variable.name)
    for name in stage.losses:
        expected = small.sum_over_labels_loss(batch["y"], outputs[name]).numpy()
        assert float(parts[name]) == pytest.approx(expected, rel=1e-5)


class Recorder:
    """Stands for an optimizer: keeps what it is given."""

    def apply_gradients(self, pairs):
        self.gradients = [gradient.numpy() for gradient, _ in pairs]


def recorded_gradients(model, stage, batch, global_batch_size, weight_decay, num_replicas=1, **loss):
    variables = apply_stage(model, stage)
    recorder = Recorder()
    network = model.network_for(stage.losses)
    train_step(network, stage.losses, recorder, variables, batch, global_batch_size, weight_decay, num_replicas, **loss)
    return variables, recorder.gradients


def test_l2_reaches_biases_and_batch_norm():
    model = small.build_small_srn("released")
    batch = small.random_batch()
    variables, plain = recorded_gradients(model, model.stages["all"], batch, 4, 0.0)
    _, decayed = recorded_gradients(model, model.stages["all"], batch, 4, 2.0)
    kinds = set()
    for variable, with_l2, without in zip(variables, decayed, plain, strict=True):
        scale = np.abs(without).max()
        np.testing.assert_allclose(
            with_l2 - without, 2.0 * variable.numpy(), rtol=1e-4, atol=1e-4 * scale, err_msg=variable.name
        )
        kinds.add(variable.name.split("/")[-1].split(":")[0])
    assert kinds == {"kernel", "depthwise_kernel", "bias", "gamma", "beta"}


def test_entries_that_are_not_counted_move_nothing():
    model = small.build_small_srn("paper")
    stage, batch = model.stages["all"], small.random_batch(4)
    counted = tf.constant([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    other_y = tf.where(counted == 1, batch["y"], 1.0 - batch["y"])
    _, all_counted = recorded_gradients(model, stage, batch, 4, 0.0)
    _, expected = recorded_gradients(model, stage, {**batch, "counted": counted}, 4, 0.0)
    _, received = recorded_gradients(model, stage, {**batch, "y": other_y, "counted": counted}, 4, 0.0)
    for one, other in zip(received, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max() + 1e-8)
    assert any(np.abs(one - other).max() > 0.1 * np.abs(other).max() for one, other in zip(expected, all_counted))


@pytest.mark.parametrize("loss", ["sigmoid", "softmax", "warp_exact", "asymmetric"])
@pytest.mark.parametrize("stage_name", ["att", "sr"])
def test_the_shares_of_two_replicas_sum_to_one_whole_step(stage_name, loss):
    """No BatchNorm moves in these stages of the paper's heads, so the halves of a batch are independent."""
    model = small.build_small_srn("paper")
    stage, batch = model.stages[stage_name], small.random_batch(4)
    loss = make_loss(loss)
    _, whole = recorded_gradients(model, stage, batch, 4, WEIGHT_DECAY, loss=loss)
    halves = [{name: value[start : start + 2] for name, value in batch.items()} for start in (0, 2)]
    shares = [recorded_gradients(model, stage, half, 4, WEIGHT_DECAY, 2, loss=loss)[1] for half in halves]
    for total, first, second in zip(whole, *shares, strict=True):
        np.testing.assert_allclose(first + second, total, rtol=1e-4, atol=1e-5 * np.abs(total).max() + 1e-8)


def test_a_loss_gets_the_truth_the_logits_and_the_seed():
    model = small.build_small_srn()
    stage, batch = model.stages["all"], {**small.random_batch(), "counted": tf.ones((4, 3))}
    received = []

    def loss(y, logits, counted, seed):
        received.append((y is batch["y"], logits.shape, counted is batch["counted"], seed))
        return tf.reduce_sum(logits, axis=1) + 2.0

    parts = train_step(
        model.network_for(stage.losses), stage.losses, Recorder(), [], batch, 8, 0.0, loss=loss, seed=(1, 2)
    )
    assert received == [(True, (4, 3), True, (1, 2))] * 3 and list(parts) == list(stage.losses)


def test_evaluate_step_names_the_cell_of_the_maximum():
    model = small.build_small_srn()
    image = small.random_batch(3)["image"]
    network = model.network_for(("y_hat", "y_cls", "A"))
    expected = {name: value.numpy() for name, value in network(image, training=False).items()}
    results = evaluate_step(network, image, "A")
    assert sorted(results) == ["attention_cell", "y_cls", "y_hat"]
    for name in ("y_hat", "y_cls"):
        np.testing.assert_array_equal(results[name], expected[name])
    for index in range(3):
        for label in range(3):
            row, column = np.unravel_index(expected["A"][index, :, :, label].argmax(), (14, 14))
            assert int(results["attention_cell"][index, label]) == row * 14 + column
    assert "attention_cell" not in evaluate_step(network, image)
