"""What one replica computes of a step: sum over labels, mean over the images of all replicas."""

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.evaluation.evaluator import evaluate_step
from srn_tf.runs import checkpoint
from srn_tf.training.freezing import apply_stage
from srn_tf.training.losses import make_loss, sigmoid_loss
from srn_tf.training.steps import accumulated_gradients, loss_gradients
from tests.training import small


def compute(model, stage, batch, global_batch_size=4, function=loss_gradients, **options):
    """(parts, gradients) as arrays, by variable."""
    variables = apply_stage(model, stage)
    network = model.network_for(stage.reads)
    parts, gradients = function(network, stage.terms, variables, batch, global_batch_size, **options)
    return {name: float(value) for name, value in parts.items()}, [gradient.numpy() for gradient in gradients]


def assert_close(received, expected):
    for one, other in zip(received, expected, strict=True):
        # The bias before the softmax over the grid has no gradient but rounding.
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max() + 1e-6)


@pytest.mark.parametrize("head", [pytest.param("paper", marks=pytest.mark.slow), "released"])
def test_the_gradient_is_that_of_the_losses_definition(head):
    """Of every term, whose loss gets the truth, its logits and the seed."""
    model = small.small_srn(head)
    stage, batch = model.stages["all"], {**small.random_batch(), "counted": tf.ones((4, 3))}
    received = []

    def loss(y, logits, counted, seed):
        received.append((y is batch["y"], logits.shape, logits.dtype, counted is batch["counted"], seed))
        return sigmoid_loss(y, logits, counted)

    variables = apply_stage(model, stage)
    with tf.GradientTape() as tape:
        outputs = model.network_for(stage.reads)(batch["image"], training=True)
        losses = {name: small.sum_over_labels_loss(batch["y"], outputs[name]) for name in stage.reads}
        total = sum(term.weight * losses[term.name] for term in stage.terms)
    expected = [gradient.numpy() for gradient in tape.gradient(total, list(variables.values()))]
    parts, gradients = compute(model, stage, batch, label_loss=loss, seed=(1, 2))
    assert_close(gradients, expected)
    assert received == [(True, (4, 3), tf.float32, True, (1, 2))] * len(stage.terms)
    assert list(parts) == list(stage.reads)
    for name, value in losses.items():
        assert parts[name] == pytest.approx(float(value), rel=1e-5)


def test_entries_that_are_not_counted_move_nothing():
    model = small.build_two_parts(3)
    stage, batch = model.stages["begin"], small.random_batch(4, side_px=16)
    counted = tf.constant([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    other_y = tf.where(counted == 1, batch["y"], 1.0 - batch["y"])
    _, all_counted = compute(model, stage, batch)
    _, expected = compute(model, stage, {**batch, "counted": counted})
    _, received = compute(model, stage, {**batch, "y": other_y, "counted": counted})
    assert_close(received, expected)
    assert any(np.abs(one - other).max() > 0.1 * np.abs(other).max() for one, other in zip(expected, all_counted))


@pytest.mark.parametrize(
    "stage_name, loss",
    [
        ("sr", "warp_exact"),
        *(
            pytest.param("att", loss, marks=pytest.mark.slow)
            for loss in ("sigmoid", "softmax", "warp_exact", "asymmetric")
        ),
        *(pytest.param("sr", loss, marks=pytest.mark.slow) for loss in ("sigmoid", "softmax", "asymmetric")),
    ],
)
def test_the_shares_of_two_replicas_sum_to_one_whole_step(stage_name, loss):
    """No BatchNorm moves in these stages of the paper's heads, so the halves of a batch are independent."""
    model = small.small_srn("paper")
    stage, batch = model.stages[stage_name], small.random_batch(4)
    loss = make_loss(loss)
    whole_parts, whole = compute(model, stage, batch, label_loss=loss)
    halves = [{name: value[start : start + 2] for name, value in batch.items()} for start in (0, 2)]
    (first_parts, first), (second_parts, second) = (compute(model, stage, half, label_loss=loss) for half in halves)
    assert_close([one + other for one, other in zip(first, second)], whole)
    for name, value in whole_parts.items():
        assert first_parts[name] + second_parts[name] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(
    "pieces", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(4, marks=pytest.mark.slow)]
)
def test_pieces_sum_to_the_whole(pieces):
    model = small.small_srn("paper")
    stage, batch = model.stages["att"], {**small.random_batch(4), "counted": tf.constant([[1.0, 0.0, 1.0]] * 4)}
    expected_parts, expected = compute(model, stage, batch)
    parts, gradients = compute(model, stage, batch, function=accumulated_gradients, num_pieces=pieces)
    assert_close(gradients, expected)
    assert parts == pytest.approx(expected_parts, rel=1e-5)


def test_every_piece_has_its_images_and_a_seed_of_its_own():
    """A BatchNorm that is trained sees pieces: here three images a time, one after the other."""
    model = small.build_two_parts(3)
    stage, batch, seen = model.stages["begin"], small.random_batch(6, side_px=16), []

    def loss(y, logits, counted, seed):
        seen.append((y.numpy(), tuple(seed.numpy())))
        return tf.reduce_sum(logits, axis=1)

    before = small.weights_of(model)
    compute(
        model, stage, batch, 6, accumulated_gradients, num_pieces=2, label_loss=loss, seed=tf.constant([3, 4], tf.int64)
    )
    np.testing.assert_array_equal(np.concatenate([y for y, _ in seen]), batch["y"])
    assert len({seed for _, seed in seen}) == 2
    in_pieces = small.weights_of(model)
    checkpoint.assign_weights(model, before, "before")
    for start in (0, 3):
        compute(model, stage, {name: value[start : start + 3] for name, value in batch.items()}, 6)
    for name, value in small.weights_of(model).items():
        np.testing.assert_allclose(in_pieces[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    assert any((in_pieces[name] != value).any() for name, value in before.items())


def test_a_loss_scale_leaves_the_gradient():
    model = small.build_two_parts(3)
    stage, batch = model.stages["begin"], small.random_batch(side_px=16)
    expected_parts, expected = compute(model, stage, batch)
    parts, gradients = compute(model, stage, batch, loss_scale=tf.constant(1024.0))
    assert parts == pytest.approx(expected_parts, rel=1e-6)  # of two executions
    assert_close(gradients, expected)


def test_evaluate_step_names_the_cell_of_the_maximum():
    model = small.small_srn()
    image = small.random_batch(3)["image"]
    network = model.network_for(("y_hat", "y_cls", "A"))
    expected = {name: value.numpy() for name, value in network(image, training=False).items()}
    results = evaluate_step(network, image)
    assert sorted(results) == ["A", "y_cls", "y_hat"]
    for name in ("y_hat", "y_cls"):
        np.testing.assert_allclose(results[name], expected[name], rtol=1e-5, atol=1e-6)  # of two executions
    for index in range(3):
        for label in range(3):
            row, column = np.unravel_index(expected["A"][index, :, :, label].argmax(), (14, 14))
            assert int(results["A"][index, label]) == row * 14 + column
