"""What a stage does not train stays bit for bit, BatchNorm statistics included; nothing runs past X needlessly."""

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.models.srn import PAPER_STAGES, RELEASED_STAGES
from srn_tf.training.freezing import apply_stage, untrained_parts
from srn_tf.training.steps import loss_gradients
from tests.models.small import losses_of, small_model
from tests.training import small


def has_gradient(name):
    """Whether a weight's gradient is more than rounding.

    The softmax over the grid ignores a constant, and so does every BatchNorm after a bias of ResNet V2.
    """
    is_resnet_bias = name.startswith("trunk/conv") and name.endswith("_conv/bias")
    return name != "f_att/att_3_conv/bias" and not is_resnet_bias


@pytest.fixture(scope="module", params=["released", "paper"])
def head_and_model(request):
    return request.param, small.build_small_srn(request.param)


def assert_only_trained_parts_moved(before, after, stage):
    assert list(before) == list(after)
    for name, value in before.items():
        if name.split("/")[0] in stage.fixed:
            np.testing.assert_array_equal(after[name], value, err_msg=name)
        elif has_gradient(name):
            assert np.isfinite(after[name]).all(), name
            assert (after[name] != value).any(), name


@pytest.mark.parametrize("stage_name", ["cls", "att", "sr", "all"])
def test_only_trained_parts_move(head_and_model, stage_name):
    head, model = head_and_model
    stage = model.stages[stage_name]
    before = small.weights_of(model)
    small.descend(model, stage, small.random_batch(), 1e-3)
    assert_only_trained_parts_moved(before, small.weights_of(model), stage)


def test_stages_may_come_in_any_order(head_and_model):
    """The flag of an earlier stage leaves no trace."""
    _, model = head_and_model
    for stage_name in ("all", "sr", "cls", "att"):
        stage = model.stages[stage_name]
        before = small.weights_of(model)
        variables = small.descend(model, stage, small.random_batch(), 1e-3)
        assert_only_trained_parts_moved(before, small.weights_of(model), stage)
        trainable = [part.trainable_variables for name, part in model.parts.items() if name in stage.trains]
        assert {v.ref() for v in variables} == {v.ref() for part in trainable for v in part}
        assert len(variables) == len({v.ref() for v in variables})


@pytest.mark.parametrize("head", ["released", "paper"])
def test_a_learned_alpha_moves_in_the_last_stage_alone(head):
    model = small.build_small_srn(head, learn_alpha=True)
    for name, stage in model.stages.items():
        before = small.weights_of(model)
        small.descend(model, stage, small.random_batch(), 1e-3)
        assert_only_trained_parts_moved(before, small.weights_of(model), stage)
        assert ("mix" in stage.trains) == (name == "all")


@pytest.mark.parametrize(
    "output, trained, expected",
    [
        ("y_cls", (), ["trunk", "classifier"]),
        ("y_att", ("trunk",), ["f_neck", "f_att", "f_conf"]),
        ("y_sr", ("trunk", "f_conf"), ["f_neck", "f_att", "f_sr"]),
        ("y_hat", ("trunk", "classifier", "f_neck", "f_att", "f_conf"), ["f_sr"]),
        ("y_hat", ("trunk", "classifier", "f_neck", "f_att", "f_conf", "f_sr"), []),
    ],
)
def test_untrained_parts_are_those_an_output_comes_of(head_and_model, output, trained, expected):
    head, model = head_and_model
    present = {name for name in expected if name != "f_neck" or head == "released"}
    received = untrained_parts(model, [output], trained)
    assert set(received) == present and len(received) == len(present)


def test_the_two_tables():
    """Section 3.4 of the paper; in the released nets the bottlenecks learn with the attention."""
    for stages, neck in ((PAPER_STAGES, ()), (RELEASED_STAGES, ("f_neck",))):
        assert list(stages) == ["cls", "att", "sr", "all"]
        assert set(stages["cls"].trains) == {"trunk", "classifier"}
        assert set(stages["att"].trains) == {"f_att", "f_conf", *neck}
        assert set(stages["sr"].trains) == {"f_sr"}
        assert not stages["all"].fixed
    assert losses_of(PAPER_STAGES["all"]) == {"y_hat": 1.0, "y_att": 1.0}
    assert losses_of(RELEASED_STAGES["all"]) == {"y_att": 1.0, "y_sr": 1.0, "y_cls": 1.0}


def traced_step(model, stage):
    """The names and types of all operations of a stage's step."""
    variables = apply_stage(model, stage)
    network = model.network_for(stage.reads)

    @tf.function
    def step(batch):
        return loss_gradients(network, stage.terms, variables, batch, 4)

    graph = step.get_concrete_function(small.random_batch()).graph
    assert not graph.as_graph_def().library.function  # else operations would hide in functions
    return [(operation.type, operation.name) for operation in graph.get_operations()]


@pytest.mark.parametrize("stage_name", ["att", "sr"])
def test_no_gradient_crosses_X_and_nothing_runs_past_it(head_and_model, stage_name):
    _, model = head_and_model
    stage = model.stages[stage_name]
    operations = traced_step(model, stage)
    kernels = [name for name in small.weights_of(model) if name.split("/")[0] in stage.trains]
    convolutions = sum(name.endswith("_conv/kernel") for name in kernels)
    count = [type_ for type_, _ in operations].count
    assert count("Conv2DBackpropFilter") == convolutions > 0
    names = [name for _, name in operations]
    is_conv4_trained = any(name.startswith("gradient_tape") and "/sr_conv4/" in name for name in names)
    assert is_conv4_trained == (stage_name == "sr")
    assert any("/trunk_until_c4/" in name for name in names)
    assert not any("classifier" in name or "/cls_" in name for name in names)
    for fixed in stage.fixed:
        assert not [name for name in names if name.startswith("gradient_tape") and f"/{fixed}/" in name]


def test_the_main_nets_stage_runs_no_head(head_and_model):
    """Also the control of the test above: in this stage the names of what lies behind X are there."""
    _, model = head_and_model
    names = [name for _, name in traced_step(model, model.stages["cls"])]
    assert any(name.startswith("gradient_tape") and "/classifier/" in name for name in names)
    assert any(name.startswith("gradient_tape") and "/cls_" in name for name in names)
    assert any(name.startswith("gradient_tape") and "/trunk_until_c4/" in name for name in names)
    assert not any(f"/{part}/" in name for name in names for part in ("f_neck", "f_att", "f_conf", "f_sr"))


@pytest.mark.slow
@pytest.mark.parametrize("head", ["released", "paper"])
def test_only_trained_parts_move_in_the_papers_net(head):
    model = small_model("srn", 3, 224, "resnet101v2", srn_head=head)
    batch = small.random_batch(2, side_px=224)
    for stage in model.stages.values():
        before = small.weights_of(model)
        small.descend(model, stage, batch)
        assert_only_trained_parts_moved(before, small.weights_of(model), stage)
