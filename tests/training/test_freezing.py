"""What a stage does not train stays bit for bit, BatchNorm statistics included; nothing runs past X needlessly."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.models.srn import PAPER_STAGES, RELEASED_STAGES
from srn_tf.training.freezing import apply_stage, planned_stage, untrained_parts
from srn_tf.training.losses import sigmoid_loss
from srn_tf.training.plan import TrainingPlan
from srn_tf.training.stage_step import StageStep
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


@pytest.mark.slow
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


def take_steps(model, stage_name, **changes):
    """Two steps of a stage as a run takes them; returns the StageStep."""
    plan = TrainingPlan((stage_name,), (1,), (1e-3,), batch_size=4, **changes)
    stage = planned_stage(model.stages[stage_name], plan)
    step = StageStep(model, tf.distribute.get_strategy(), stage, 0, plan, sigmoid_loss)
    step.run({name: tf.stack([value, value]) for name, value in small.random_batch().items()}, [1e-3, 1e-3])
    return step


@pytest.mark.parametrize(
    "method, stage, frozen",
    [("main_net", "cls", ("trunk",)), pytest.param("srn", "all", ("trunk", "f_conf"), marks=pytest.mark.slow)],
)
def test_frozen_parts_stay_bit_for_bit(method, stage, frozen):
    model = small_model(method, 3, **({"head_channels": 8} if method == "srn" else {}))
    small.randomize(model)
    before = small.weights_of(model)
    step = take_steps(model, stage, frozen_parts=frozen, ema_decay=0.5)
    planned = planned_stage(model.stages[stage], TrainingPlan((stage,), (1,), (1.0,), frozen_parts=frozen))
    assert planned.trains == tuple(part for part in model.stages[stage].trains if part not in frozen)
    assert_only_trained_parts_moved(before, small.weights_of(model), planned)
    assert not any(part in name for name in step.variables for part in frozen)  # no momentum, no average
    trained = [weight for part in planned.trains for weight in model.parts[part].trainable_weights]
    assert step.num_trained == (sum(int(np.prod(weight.shape)) for weight in trained), len(trained))


@pytest.mark.slow
@pytest.mark.parametrize("method, stage", [("main_net", "cls"), ("srn", "att")])
def test_frozen_norms_stay_bit_for_bit_while_the_rest_of_their_part_moves(method, stage):
    """Momentum, averages and weight decay would move them by rounding alone if they took part."""
    model = small_model(method, 3, **({"head_channels": 8} if method == "srn" else {}))
    small.randomize(model)
    part = model.stages[stage].trains[0]
    norms = {
        name for name in model.weights if name.startswith(f"{part}/") and name.rpartition("/")[2] in NAMES_IN_NORMS
    }
    before = small.weights_of(model)
    step = take_steps(model, stage, frozen_norms=(part,), ema_decay=0.5)
    for name, value in small.weights_of(model).items():
        is_fixed = name.split("/")[0] in model.stages[stage].fixed or name in norms
        if has_gradient(name):
            assert (value == before[name]).all() == is_fixed, name
    assert norms and not any(name in variable for variable in step.variables for name in norms)
    take_steps(model, stage)  # the flags leave no trace
    assert all((model.weights[name].numpy() != before[name]).any() for name in norms)


NAMES_IN_NORMS = ("gamma", "beta", "moving_mean", "moving_variance")


@pytest.mark.parametrize("head", ["paper", pytest.param("released", marks=pytest.mark.slow)])
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
