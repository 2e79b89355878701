"""RLSD as a whole: its regions, stages and refusals. Equations: in the files it is made of."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

from srn_tf.errors import InputError
from srn_tf.evaluation.metrics import average_precisions
from srn_tf.labels import LabelSpace
from srn_tf.models import boxes as geometry
from srn_tf.models.model import input_of
from srn_tf.models.registry import METHODS, ModelConfig, build_model
from srn_tf.models.rlsd import FT_RPN_STAGES, RPN, STAGES, build_label_lstm, build_region_net
from srn_tf.runs import checkpoint
from srn_tf.training.checks import warn_of_untrained
from srn_tf.training.freezing import apply_stage
from srn_tf.training.optimizers import StageOptimizer
from srn_tf.training.plan import TrainingPlan
from srn_tf.training.steps import loss_gradients, term_values
from tests.models.reference import sigmoid
from tests.models.small import SMALL_RLSD, losses_of, small_model
from tests.training import small, small_runs

C = 3


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = small_model("rlsd", C, **SMALL_RLSD)
    small.randomize(model)
    return model


def test_regions_and_answer(model):
    batch = small.random_batch(3)
    outputs = {name: value.numpy() for name, value in model.network(batch["image"], training=False).items()}
    boxes, scores = outputs["boxes"], outputs["scores"]
    assert boxes.shape == (3, 6, 4) and scores.shape == (3, 6, C)
    assert (boxes >= 0).all() and (boxes <= 1).all() and (scores[boxes.any(axis=2)] > 0).all()
    np.testing.assert_allclose(scores.max(axis=1), sigmoid(outputs["y_rlsd"]), rtol=1e-5)
    offsets = outputs["rpn_offsets"].reshape(3, -1, 4)
    found = np.clip(geometry.decode(offsets, geometry.make_anchors(14, 14)), 0, 1)
    is_usable = (np.abs(offsets) <= 10).all(axis=2) & (found[..., 2:] > found[..., :2]).all(axis=2)
    surest = np.where(is_usable, outputs["rpn_objectness"].reshape(3, -1), -np.inf).argmax(axis=1)
    for own, others, best in zip(boxes, found, surest, strict=True):  # each is an anchor's, one the surest's
        assert all((np.abs(others - box).max(axis=1) < 1e-5).any() for box in own if box.any())
        assert (np.abs(own - others[best]).max(axis=1) < 1e-5).any()
    assert model.explanation == ("boxes", "scores", "y_rlsd") and model.image_size == 56
    assert model.outputs["pooled"].shape == (None, 64) and list(model.features) == ["c4"]
    assert not any("cnn_stage3" in address for address in model.weights)  # of what is behind X


@pytest.mark.slow
def test_the_last_map_with_the_whole_trunk():
    wide = small_model("rlsd", C, x_stride=32, **SMALL_RLSD)
    assert list(wide.features) == ["c5"] and wide.outputs["rpn_objectness"].shape == (None, 7, 7, 12)
    trunk = small_model("main_net", C).parts["trunk"]
    assert len(wide.parts["trunk"].weights) == len(trunk.weights)


def test_it_starts_from_a_whole_trunk(model, tmp_path):
    """Of a run of another method and other labels, whose trunk goes on behind X; not the other way round."""
    main_net = small_model("main_net", 5)
    path = str(tmp_path / "main_net.npz")
    checkpoint.save_weights(path, main_net, {"labels": list("abcde")})
    taken, _, _ = checkpoint.load_fitting_parts(path, model, list("abc"))
    assert taken == ["trunk"]
    for address, weight in model.weights.items():
        if address.startswith("trunk/"):
            np.testing.assert_array_equal(weight, main_net.weights[address], err_msg=address)
    checkpoint.save_weights(path, model, {"labels": list("abc")})
    with pytest.raises(InputError, match="trunk: .* weights are missing"):
        checkpoint.load_fitting_parts(path, main_net, list("abcde"))


def test_parameters():
    settings = METHODS["rlsd"].settings(region_lstm_width=7, region_embedding_width=6)
    assert build_region_net(50, 49 * 4, 5, 0.5).count_params() == 196 * 5 + 5 + 5 * 5 + 5 + 2  # draws of two dropouts
    of_lstm = 6 + C * 6 + 4 * 7 * (6 + 7 + 1) + 7 * C + C
    assert build_label_lstm(50, 5, C, settings).count_params() == 5 * 6 + 6 + of_lstm


def test_stages():
    assert list(STAGES) == list(FT_RPN_STAGES) == ["rpn", "heads", "joint"]
    assert [stage.is_default for stage in STAGES.values()] == [False, True, True]
    assert all(stage.is_default for stage in FT_RPN_STAGES.values())
    assert all("rpn" not in stage.trains or stage.needs == ("boxes",) for stage in STAGES.values())
    assert [stage.trains for stage in STAGES.values()] == [
        ("rpn",),
        ("region_net", "label_lstm"),
        ("trunk", "region_net", "label_lstm"),
    ]
    assert FT_RPN_STAGES["joint"].trains == ("trunk", "rpn", "region_net", "label_lstm")
    assert losses_of(FT_RPN_STAGES["joint"]) == {"y_rlsd": 1.0, "rpn": 1.0} and STAGES["rpn"].watched == "rpn"
    assert losses_of(STAGES["joint"]) == losses_of(STAGES["heads"]) == {"y_rlsd": 1.0}


def test_the_labels_of_boxes_do_not_matter(model):
    batch = small.random_batch(num_boxes=3)
    outputs = model.network_for(RPN.reads)(batch["image"], training=False)
    batch["box_labels"] = tf.constant([[0, 1, -1], [2, -1, -1], [0, 0, 0], [-1, -1, -1]], tf.int64)
    other = {**batch, "box_labels": tf.where(batch["box_labels"] < 0, batch["box_labels"], 1)}
    received = [RPN.function(outputs, some, (0, 1)).numpy() for some in (batch, other)]
    np.testing.assert_array_equal(*received)
    assert received[0].shape == (4,) and np.isfinite(received[0]).all()


def test_regions_that_were_never_learned_are_said(model, caplog):
    plan = small_runs.make_plan(stages=("heads", "joint"), learning_rates=(0.1, 0.1))
    with caplog.at_level(logging.WARNING, "srn_tf"):
        warn_of_untrained(plan, model, ["trunk"])
    said = [record.getMessage() for record in caplog.records]
    assert "Stage heads trains region_net, label_lstm on top of random weights: rpn were never trained" in said[0]
    assert "--init_from" in said[0]
    caplog.clear()
    warn_of_untrained(plan, model, ["trunk", "rpn"])
    assert not caplog.records


@pytest.mark.slow
def test_one_label_and_images_without_labels_or_boxes_train():
    keras.utils.set_random_seed(0)
    model = small_model("rlsd_ft_rpn", 1, **SMALL_RLSD)
    batch = {**small.random_batch(num_labels=1, num_boxes=2), "y": tf.zeros([4, 1])}
    batch["box_labels"] = -tf.ones([4, 2], tf.int64)
    batch["boxes"] = tf.zeros([4, 2, 4])
    before = small.weights_of(model)
    small.descend(model, model.stages["joint"], batch)
    after = small.weights_of(model)
    assert all(np.isfinite(value).all() for value in after.values())
    assert any((after[name] != before[name]).any() for name in after if name.startswith("rpn/"))


@pytest.mark.slow
def test_an_ordered_sequence_learns_its_own_loss():
    """Every weight of the heads moves, and the loss is that of the layer on the labels in order of frequency."""
    settings = METHODS["rlsd"].settings(**SMALL_RLSD, region_sequence="ordered")
    assert settings.label_fields == ("counts",) and METHODS["rlsd"].settings().label_fields == ()
    labels = LabelSpace("abc", counts=np.array([2, 9, 5]))
    model = build_model(ModelConfig("rlsd", "small", 56, settings), labels)
    small.randomize(model)
    batch, stage = small.random_batch(), model.stages["heads"]
    assert stage.reads == ("sequence_loss",) and stage.watched == "y_rlsd"
    batch["y"] = tf.constant([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    network = model.network_for(stage.reads)
    outputs = network(input_of(network, batch), training=False)
    (received,) = (term_values(term, outputs, batch, None, (0, 0)).numpy() for term in stage.terms)
    path = keras.Model(model.truth, network.get_layer("true_path").output)(batch["y"])
    assert path.numpy().tolist() == [[2, 0, 3], [1, 3, 3], [3, 3, 3], [1, 2, 0]]  # b, c, a; 3 is END
    assert received.shape == (4,) and (received > 0).all()
    before = small.weights_of(model)
    trained = small.descend(model, stage, batch)
    after = small.weights_of(model)
    assert all((after[name] != before[name]).any() and np.isfinite(after[name]).all() for name in trained)
    assert {name.split("/")[0] for name in trained} == {"region_net", "label_lstm"}


def test_more_regions_than_anchors():
    expected = "regions must be at most 588, the anchors of a map of 7 x 7. Received: 589. Use fewer regions, or a lar"
    with pytest.raises(InputError, match=expected):
        small_model("rlsd", C, **{**SMALL_RLSD, "regions": 589}, x_stride=32)


def test_a_trunk_that_goes_on_is_taken_and_another_network_is_not(model, monkeypatch):
    """Whose layers are all there, but not in front of all others: as those of ResNet-50 in ResNet-101."""
    own, more = checkpoint.weight_arrays(model), {"trunk/other/kernel": np.zeros(3)}
    for arrays, is_taken in (({**own, **more}, True), ({**more, **own}, False)):
        monkeypatch.setattr(checkpoint, "_load_weight_arrays", lambda path, arrays=arrays: (arrays, {"labels": ["a"]}))
        taken, left, _ = checkpoint.load_fitting_parts("file.npz", model, ["a"])
        assert ("trunk" in taken, "trunk" in left) == (is_taken, not is_taken)


@pytest.mark.slow
def test_it_learns_64_images_by_heart():
    """On random maps, from its first weights, at a rate at which first biases of 0 end in one answer for all images."""
    keras.utils.set_random_seed(0)
    widths = {name: 32 for name in ("region_width", "region_lstm_width", "region_embedding_width")}
    model = small_model("rlsd", 5, **widths, regions=20, rpn_width=8, region_grid=3, region_dropout=0.0, region_steps=3)
    stage = model.stages["heads"]
    heads, variables = model.heads_for(stage.reads), apply_stage(model, stage)
    rng = np.random.default_rng(0)
    X = tf.constant(np.abs(rng.normal(size=(64, *heads.input["c4"].shape[1:]))), tf.float32)
    y = tf.constant(rng.random((64, 5)) < 0.1, tf.float32)
    optimizer = StageOptimizer(variables, TrainingPlan(("heads",), (1,), (0.001,), optimizer="adam", weight_decay=0.0))

    @tf.function
    def step():
        optimizer.apply(loss_gradients(heads, stage.terms, variables, {"c4": X, "y": y}, 64)[1], 0.001)

    for _ in range(150):
        step()
    scores = heads({"c4": X}, training=False)["y_rlsd"].numpy()
    ap = average_precisions(scores, y.numpy() == 1)["voc_all_points"]
    assert np.mean(ap) > 0.95, ap
