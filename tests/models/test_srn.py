"""SRN: every equation against NumPy, the parts, the stage tables."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from srn_tf.models.model import Stage, label_loss
from tests.models import reference
from tests.models.small import losses_of, main_net_outputs, small_model

C, S_PX, B = 5, 56, 3
PARTS = {
    "paper": {"trunk", "classifier", "f_att", "f_conf", "f_sr", "mix"},
    "released": {"trunk", "classifier", "f_neck", "f_att", "f_conf", "f_sr", "mix"},
}


def build(head="released", reads="U", **settings):
    return small_model("srn" if reads == "U" else "srn_att", C, srn_head=head, head_channels=8, **settings)


def randomised(model):
    for seed, name in enumerate(sorted(model.parts)):
        reference.randomise(model.parts[name], seed)
    return model


@pytest.fixture(scope="module")
def models():
    """(head, what f_sr reads) -> model whose biases and BatchNorm values are neither 0 nor 1."""
    return {(head, source): randomised(build(head, source)) for head in ("paper", "released") for source in ("U", "A")}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(0, 255, (B, S_PX, S_PX, 3)).astype(np.float32)


def outputs_of(model, images):
    return {name: value.numpy() for name, value in model.network(images).items()}


def heads_input(model, images):
    """What f_att and f_conf read: X, or in the released nets what f_neck makes of it."""
    X = main_net_outputs(model, images)["X"]
    return model.parts["f_neck"](X).numpy() if "f_neck" in model.parts else X


BOTH_HEADS = pytest.mark.parametrize("head", ["paper", "released"])


# Shapes and names.


@BOTH_HEADS
def test_outputs(models, images, head):
    model = models[head, "U"]
    grid, logits = (B, 14, 14, C), (B, C)
    shapes = {name: value.shape for name, value in outputs_of(model, images).items()}
    assert shapes == {
        **{"y_hat": logits, "y_cls": logits, "y_att": logits, "y_sr": logits},
        **{"A": grid, "S": grid, "U": grid, "pooled": (B, 128)},
    }
    assert model.logits == ("y_hat", "y_cls", "y_att", "y_sr")
    assert [(a_map.name, a_map.range) for a_map in model.maps] == [("A", (0.0, 1.0)), ("U", (0.0, 1.0))]
    assert (model.final, model.image_size, model.num_labels) == ("y_hat", S_PX, C)
    assert model.embedding == "pooled" and set(model.explanation) == set(shapes) - {"pooled"}
    assert set(model.parts) == PARTS[head]


# The equations.


@BOTH_HEADS
@pytest.mark.parametrize("source", ["U", "A"])
def test_equations_4_to_9_equal_numpy(models, images, head, source):
    model = models[head, source]
    X = heads_input(model, images)
    Z, S = model.parts["f_att"](X).numpy(), model.parts["f_conf"](X).numpy()
    main_net = main_net_outputs(model, images)
    y_cls = main_net["y_cls"]
    A = np.exp(Z) / np.exp(Z).sum(axis=(1, 2), keepdims=True)  # Eq. (4)
    y_att = (A * S).sum(axis=(1, 2))  # Eq. (7)
    U = A / (1 + np.exp(-S))  # Eq. (8)
    y_sr = reference.regularizer(model.parts["f_sr"], U if source == "U" else A, head)  # Eq. (9)
    expected = {"A": A, "S": S, "U": U, "y_cls": y_cls, "y_att": y_att, "y_sr": y_sr, "pooled": main_net["pooled"]}
    expected["y_hat"] = 0.5 * y_cls + 0.5 * y_sr
    received = outputs_of(model, images)
    assert sorted(received) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(received[name], value, rtol=2e-3, atol=1e-5, err_msg=name)


@BOTH_HEADS
def test_heads_read_x(models, images, head):
    """f_att, f_conf and f_neck sit where the equations put them: all from X, in NumPy."""
    model = models[head, "U"]
    X = main_net_outputs(model, images)["X"]
    if head == "released":
        X = reference.neck(model.parts["f_neck"], X)
    A = reference.softmax_over_grid(reference.attention_scores(model.parts["f_att"], X, head))
    S, _ = reference.confidence(model.parts["f_conf"], X, head)
    received = outputs_of(model, images)
    np.testing.assert_allclose(received["A"], A, rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(received["U"], A * reference.sigmoid(S), rtol=2e-3, atol=1e-6)


@BOTH_HEADS
def test_attention_sums_to_1_and_bounds_u(models, images, head):
    received = outputs_of(models[head, "U"], images)
    A, U = received["A"], received["U"]
    assert (A >= 0).all() and (U >= 0).all() and (U <= A).all()
    np.testing.assert_allclose(A.sum(axis=(1, 2)), np.ones((B, C)), rtol=1e-5)
    assert A.std() > 1e-4  # it is not the same everywhere


@BOTH_HEADS
def test_equation_6_equals_equation_7(models, images, head):
    """Averaging the features by attention and classifying once gives what the network sums up cell by cell."""
    model = models[head, "U"]
    received = outputs_of(model, images)
    _, read = reference.confidence(model.parts["f_conf"], heads_input(model, images), head)
    kernel, bias = model.parts["f_conf"].get_layer("conf_2_conv").get_weights()
    v = np.einsum("bhwd,bhwc->bcd", read, received["A"])  # Eq. (5)
    y_att = np.einsum("bcd,dc->bc", v, kernel[0, 0]) + bias  # Eq. (6)
    np.testing.assert_allclose(received["y_att"], y_att, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_two_models_differ_in_what_f_sr_reads(images):
    received = {}
    for source in ("U", "A"):
        keras.utils.set_random_seed(0)
        received[source] = outputs_of(build("paper", source), images)
    for name in ("A", "U", "y_cls", "y_att"):
        np.testing.assert_allclose(received["U"][name], received["A"][name], rtol=1e-5, atol=1e-6)  # rounding
    assert np.abs(received["U"]["y_sr"] - received["A"]["y_sr"]).max() > 1e-3


def test_one_image_gives_what_it_gives_in_a_batch(models, images):
    model = models["released", "U"]
    together = outputs_of(model, images)
    for i in range(B):
        alone = outputs_of(model, images[i : i + 1])
        for name, value in alone.items():
            np.testing.assert_allclose(value[0], together[name][i], rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights():
    def weights(seed):
        keras.utils.set_random_seed(seed)
        return build("paper").network.get_weights()

    first, again, other = weights(3), weights(3), weights(4)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


# alpha.


@pytest.mark.parametrize("head", ["paper", pytest.param("released", marks=pytest.mark.slow)])
def test_learn_alpha_adds_exactly_one_weight(models, images, head):
    model = build(head, learn_alpha=True)
    assert len(model.network.weights) == len(models[head, "U"].network.weights) + 1
    assert model.network.count_params() == models[head, "U"].network.count_params() + 1
    assert models[head, "U"].parts["mix"].weights == []
    assert_every_weight_is_in_exactly_one_part(model)
    (alpha_logit,) = model.parts["mix"].weights
    received = outputs_of(model, images)
    np.testing.assert_allclose(received["y_hat"], (received["y_cls"] + received["y_sr"]) / 2, rtol=1e-4, atol=1e-5)
    alpha_logit.assign(np.log(0.2 / 0.8))
    received = outputs_of(model, images)
    expected = 0.2 * received["y_cls"] + 0.8 * received["y_sr"]
    np.testing.assert_allclose(received["y_hat"], expected, rtol=1e-4, atol=1e-5)


# What y_hat is the mean of, and dropout.


def test_an_answer_of_three(images):
    model = build("paper", answer="cls_att_sr", learn_alpha=True)
    received = outputs_of(model, images)
    of_three = [received[name] for name in ("y_cls", "y_att", "y_sr")]
    np.testing.assert_allclose(received["y_hat"], np.mean(of_three, axis=0), rtol=1e-4, atol=1e-5)
    (logits,) = model.parts["mix"].weights
    logits.assign(np.log([3.0, 2.0]))
    expected = np.average(of_three, axis=0, weights=[3, 2, 1])
    np.testing.assert_allclose(outputs_of(model, images)["y_hat"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head", ["paper", pytest.param("released", marks=pytest.mark.slow)])
def test_dropout_is_before_the_last_layer_of_heads_with_hidden_ones_and_where_attention_reads(models, images, head):
    model, without = build(head, head_dropout=0.5), models[head, "U"]
    draws = {name for name in model.weights if name not in without.weights}
    with_hidden = ("att", "sr") if head == "paper" else ("att", "conf", "sr")
    assert draws == {"f_att/att_x_dropout/draws", *(f"f_{part}/{part}_dropout/draws" for part in with_hidden)}
    for name, weight in without.weights.items():
        model.weights[name].assign(weight)
    expected = outputs_of(without, images)
    for name, value in outputs_of(model, images).items():  # at work it drops nothing
        np.testing.assert_array_equal(value, expected[name])
    x = np.random.default_rng(0).uniform(1, 2, (1, 14, 14, C)).astype(np.float32)
    last = model.parts["f_sr"].get_layer("sr_logits")
    read = keras.Model(model.parts["f_sr"].input, last.input)
    kept, dropped = read(x).numpy(), read(x, training=True).numpy()
    assert kept.shape == (1, 4 * 8)
    if head == "paper":  # without a BatchNorm, whose statistics are the batch's in training
        is_kept = dropped != 0
        np.testing.assert_allclose(dropped[is_kept], 2 * kept[is_kept], rtol=1e-5)
        assert 0 < is_kept.sum() < (kept != 0).sum()


# Parts and stages.


def assert_every_weight_is_in_exactly_one_part(model):
    in_parts = [id(weight) for part in model.parts.values() for weight in part.weights]
    assert len(set(in_parts)) == len(in_parts)
    assert set(in_parts) == {id(weight) for weight in model.network.weights}


@BOTH_HEADS
def test_every_weight_is_in_exactly_one_part(models, head):
    assert_every_weight_is_in_exactly_one_part(models[head, "U"])


# Section 3.4, as (what trains, the outputs in the loss).
HEADS_ONLY = {"paper": {"f_att", "f_conf"}, "released": {"f_neck", "f_att", "f_conf"}}
LAST_LOSS = {"paper": {"y_hat": 1.0, "y_att": 1.0}, "released": {"y_att": 1.0, "y_sr": 1.0, "y_cls": 1.0}}


@BOTH_HEADS
def test_stage_tables(models, head):
    model = models[head, "U"]
    expected = {
        "cls": ({"trunk", "classifier"}, {"y_cls": 1.0}, "y_cls"),
        "att": (HEADS_ONLY[head], {"y_att": 1.0}, "y_att"),
        "sr": ({"f_sr"}, {"y_sr": 1.0}, "y_sr"),
        "all": (PARTS[head], LAST_LOSS[head], "y_hat"),
    }
    assert list(model.stages) == list(expected)
    for name, (trains, losses, watched) in expected.items():
        stage = model.stages[name]
        assert (set(stage.trains), losses_of(stage), stage.watched) == (trains, losses, watched)
        assert set(stage.fixed) == PARTS[head] - trains
        assert len(stage.trains) + len(stage.fixed) == len(PARTS[head])
        assert stage.watched in model.outputs


def network_ops(network):
    """Names of all operations that a call of the network runs."""
    spec = tf.TensorSpec([2, S_PX, S_PX, 3])
    return [op.name for op in tf.function(network).get_concrete_function(spec).graph.get_operations()]


@BOTH_HEADS
@pytest.mark.parametrize("stage", ["att", "sr"])
def test_nothing_past_x_runs_in_the_middle_stages(models, head, stage):
    model = models[head, "U"]
    network = model.network_for(model.stages[stage].reads)
    assert set(network.output) == {f"y_{stage}"}
    in_network = {id(weight) for weight in network.weights}
    behind_x = [weight for name, weight in model.weights.items() if name.startswith(("classifier/", "trunk/cls_"))]
    assert len(behind_x) > 10 and not in_network & set(map(id, behind_x))
    names = network_ops(network)
    assert any("cnn_x_relu" in name for name in names)
    assert not any("classifier" in name or "cls_" in name for name in names)
    if stage == "att":
        assert not any("sr_conv4" in name for name in names)


def test_network_for_shares_the_weights(models, images):
    model = models["released", "U"]
    network = model.network_for(("U", "y_cls"))
    received, expected = network(images), outputs_of(model, images)
    assert set(received) == {"U", "y_cls"}
    for name, value in received.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)


def with_stage(model, stage):
    return dataclasses.replace(model, stages={**model.stages, "sr": stage})


def test_a_stage_that_leaves_out_a_part_is_refused(models):
    model = models["released", "U"]
    stage = model.stages["sr"]
    without_neck = tuple(name for name in stage.fixed if name != "f_neck")
    with pytest.raises(ValueError, match=r"Stage sr must name every part once. Expected: .*'f_neck'.* Received: \["):
        with_stage(model, dataclasses.replace(stage, fixed=without_neck))
    with pytest.raises(ValueError, match="Stage sr must name every part once"):
        with_stage(model, dataclasses.replace(stage, trains=("f_sr", "f_att")))  # f_att is also fixed
    with pytest.raises(ValueError, match="Stage sr must name every part once"):
        with_stage(model, Stage(stage.trains, (*stage.fixed, "f_other"), stage.terms, stage.watched))


def test_a_weight_in_no_part_or_in_two_is_refused(models):
    model = models["paper", "U"]
    stages = {"only": Stage(tuple(name for name in model.parts if name != "f_sr"), (), (label_loss("y_sr"),), "y_sr")}
    parts = {name: part for name, part in model.parts.items() if name != "f_sr"}
    with pytest.raises(ValueError, match="Every weight must belong to exactly one part"):
        dataclasses.replace(model, parts=parts, stages=stages)
    stages = {"only": Stage((*model.parts, "again"), (), (label_loss("y_sr"),), "y_sr")}
    with pytest.raises(ValueError, match="Every weight must belong to exactly one part"):
        dataclasses.replace(model, parts={**model.parts, "again": model.parts["f_sr"]}, stages=stages)


# X elsewhere.


@pytest.mark.parametrize("neck_blocks", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_x_may_be_the_last_map_and_the_neck_shorter(neck_blocks):
    model = randomised(small_model("srn", C, image_size=112, head_channels=8, x_stride=32, neck_blocks=neck_blocks))
    assert model.outputs["A"].shape[1:] == (7, 7, C)
    neck = {name.split("/")[1].split("_conv")[0] for name in model.weights if name.startswith("f_neck/neck_block")}
    assert len({name[: len("neck_block1")] for name in neck}) == neck_blocks
    image = np.random.default_rng(1).uniform(0, 255, (B, 112, 112, 3)).astype(np.float32)
    X = main_net_outputs(model, image)["last_map"]
    if neck_blocks:
        X = model.parts["f_neck"](X).numpy()
    else:
        assert all("f_neck" not in (*stage.trains, *stage.fixed) for stage in model.stages.values())
    A = reference.softmax_over_grid(reference.attention_scores(model.parts["f_att"], X, "released"))
    np.testing.assert_allclose(outputs_of(model, image)["A"], A, rtol=2e-3, atol=1e-6)


# A confidence that starts as the classifier.


@pytest.mark.parametrize("head", ["released", pytest.param("paper", marks=pytest.mark.slow)])
def test_a_confidence_from_the_classifier_gives_y_cls_under_uniform_attention(images, head):
    model = build(head, x_stride=32, init_confidence="classifier")
    assert not model.weights["f_att/att_3_conv/kernel"].numpy().any()  # attention starts uniform
    randomised(model)
    starts = {name for name, stage in model.stages.items() if stage.starts_from}
    assert starts == {"att", "all"} and model.stages["att"].starts_from == model.stages["all"].starts_from
    assert sorted(name for name in model.weights if name.startswith("f_conf/")) == [
        "f_conf/conf_2_conv/bias",
        "f_conf/conf_2_conv/kernel",
    ]
    attention = [weight for name, weight in model.weights.items() if name.startswith("f_att/att_3_conv/")]
    for weight in attention:
        weight.assign(np.zeros(weight.shape))
    received = outputs_of(model, images)
    np.testing.assert_allclose(received["A"], np.full_like(received["A"], 1 / 49), rtol=1e-6)
    assert np.abs(received["y_att"] - received["y_cls"]).max() > 0.1
    assert model.copy_weights(model.stages["att"], ("trunk", "classifier")) == {"f_conf": "classifier"}
    received = outputs_of(model, images)
    np.testing.assert_allclose(received["y_att"], received["y_cls"], rtol=1e-5, atol=1e-5)
    # S is the classifier, cell by cell, of X itself, also where a neck stands before f_att.
    kernel, bias = (model.weights[f"classifier/cls_logits/{name}"].numpy() for name in ("kernel", "bias"))
    np.testing.assert_allclose(
        received["S"], main_net_outputs(model, images)["last_map"] @ kernel + bias, rtol=1e-4, atol=1e-5
    )
    assert model.copy_weights(model.stages["att"], ("f_conf",)) == {}
