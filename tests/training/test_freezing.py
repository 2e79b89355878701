"""What a stage does not train stays bit for bit, BatchNorm statistics included; nothing runs past X needlessly."""

import collections

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
    return request.param, small.small_srn(request.param)


def assert_only_trained_parts_moved(before, after, stage):
    assert list(before) == list(after)
    for name, value in before.items():
        if name.split("/")[0] in stage.fixed:
            np.testing.assert_array_equal(after[name], value, err_msg=name)
        elif has_gradient(name):
            assert np.isfinite(after[name]).all(), name
            assert (after[name] != value).any(), name


@pytest.mark.slow
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
        moved_alone = ("moving_mean", "moving_variance")
        expected = {name for name in before if name.split("/")[0] in stage.trains and not name.endswith(moved_alone)}
        assert set(variables) == expected
        assert all(variable is model.weights[name] for name, variable in variables.items())


@pytest.mark.parametrize("head", ["released", pytest.param("paper", marks=pytest.mark.slow)])
def test_a_learned_alpha_moves_in_the_last_stage_alone(head):
    model = small.small_srn(head, learn_alpha=True)
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
    """Of a stage's step: the addresses of the weights that its graph touches, and each type of operation's number."""
    variables = apply_stage(model, stage)
    network = model.network_for(stage.reads)

    @tf.function
    def step(batch):
        return loss_gradients(network, stage.terms, variables, batch, 4)

    graph = step.get_concrete_function(small.random_batch()).graph
    assert not graph.as_graph_def().library.function  # else operations would hide in functions
    touched = {id(variable) for variable in graph.variables}
    return (
        {address for address, variable in model.weights.items() if id(variable) in touched},
        collections.Counter(operation.type for operation in needed_operations(graph)),
    )


def needed_operations(graph):
    """Those that what the graph gives or assigns depends on; others are traced, too, but do not run."""
    found, left = set(), [*(tensor.op for tensor in graph.outputs), *graph.control_outputs]
    while left:
        operation = left.pop()
        if operation not in found:
            found.add(operation)
            left += [*(tensor.op for tensor in operation.inputs), *operation.control_inputs]
    return found


def weights_up_to_X(model, *parts):
    """The addresses of the trunk's weights up to X, and of all in the parts named."""
    is_past_X = {address for address in model.weights if address.startswith("trunk/cls_")}
    assert len(is_past_X) == 15  # a block of three convolutions and two BatchNorms, and a last BatchNorm
    return {address for address in model.weights if address.split("/")[0] in ("trunk", *parts)} - is_past_X


# How often a gradient goes on to what a convolution reads. In the paper's heads the first ones read X or U, before
# which nothing is trained; in the released ones a BatchNorm of theirs is between X and every convolution.
GRADIENTS_THROUGH_CONVOLUTIONS = {
    ("paper", "att"): 2,
    ("released", "att"): 11,
    ("paper", "sr"): 1,
    ("released", "sr"): 1,
}


@pytest.mark.parametrize("stage_name", ["att", "sr"])
def test_no_gradient_crosses_X_and_nothing_runs_past_it(head_and_model, stage_name):
    head, model = head_and_model
    stage = model.stages[stage_name]
    touched, count = traced_step(model, stage)
    heads = ("f_neck", "f_att", "f_conf", *(("f_sr",) if stage_name == "sr" else ()))
    assert touched == weights_up_to_X(model, *heads)
    trained = [name for name in model.weights if name.split("/")[0] in stage.trains and name.endswith("_conv/kernel")]
    assert count["Conv2DBackpropFilter"] == len(trained) > 0
    assert count["Conv2DBackpropInput"] == GRADIENTS_THROUGH_CONVOLUTIONS[head, stage_name]


def test_the_main_nets_stage_runs_no_head(head_and_model):
    """Also the control of the test above: in this stage what lies behind X is there, and gradients go through it."""
    _, model = head_and_model
    touched, count = traced_step(model, model.stages["cls"])
    assert touched == {address for address in model.weights if address.split("/")[0] in ("trunk", "classifier")}
    convolutions = sum(name.startswith("trunk/") and name.endswith("_conv/kernel") for name in model.weights)
    assert count["Conv2DBackpropFilter"] == convolutions
    assert count["Conv2DBackpropInput"] == convolutions - 1  # the first one reads the image


@pytest.mark.slow
@pytest.mark.parametrize("head", ["released", "paper"])
def test_only_trained_parts_move_in_the_papers_net(head):
    model = small_model("srn", 3, 224, "resnet101v2", srn_head=head)
    batch = small.random_batch(2, side_px=224)
    for stage in model.stages.values():
        before = small.weights_of(model)
        small.descend(model, stage, batch)
        assert_only_trained_parts_moved(before, small.weights_of(model), stage)
