"""What every method of the table must do, whatever its equations: on the small backbone, with small settings."""

import keras
import numpy as np
import pytest

from srn_tf.models.model import input_of
from srn_tf.models.registry import METHODS
from srn_tf.runs import checkpoint
from tests.models.region_toy import REGION_TOY
from tests.models.small import SMALL_SETTINGS, digest_of, small_model
from tests.models.toy import TOY
from tests.training import small

C = 3
# Whose gradient is rounding alone: the softmax over the grid or over the tokens, and a BatchNorm, ignore a constant.
NO_GRADIENT = ("f_att/att_3_conv/bias", "key/bias", "graph_global/bias")
# Of what is no gradient's: statistics and counts, which move in training, and constants, which do not.
MOVED_BY_ITSELF = ("moving_mean", "moving_variance", "draws")

# What `digest_of` says, as Keras 2.15 and 3.15 both have them: files of weights go from one to the other. A digest that
# changes makes the weights of earlier runs useless.
OF_METHODS = {
    "srn": (114, "a4ccbc191a03a177"),
    "srn_att": (114, "a4ccbc191a03a177"),
    "main_net": (44, "aaa28c9a0de6f823"),
    "resnet107": (68, "897187ff67a33006"),
    "semantic": (50, "cd3a714c938ab5af"),
    "cnn_rnn": (50, "c1bcf2127d79025e"),
    "ml_decoder": (70, "a0b4505a82aab827"),
    "query2label": (109, "62c8f4d71c1dcc24"),
    "c_tran": (112, "0d3de48045984aa6"),
    "csra": (43, "18feb91fef3b9141"),
    "ml_gcn": (46, "b3775de94ebfebaf"),
    "add_gcn": (60, "d919dc1d23530ec2"),
    "msrn": (68, "47efd6963a5453c3"),
    "rlsd": (48, "31a3b3cf411d8248"),
    "rlsd_ft_rpn": (48, "31a3b3cf411d8248"),
}


# With tests of their own.
SLOW = (
    "srn_att",
    "resnet107",
    "semantic",
    "cnn_rnn",
    "csra",
    "ml_gcn",
    "add_gcn",
    "query2label",
    "c_tran",
    "msrn",
    "rlsd",
    "rlsd_ft_rpn",
)
EACH = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in METHODS]


@pytest.fixture(
    scope="module", params=[*EACH, *(pytest.param(toy, marks=pytest.mark.slow) for toy in ("toy", "region_toy"))]
)
def method_name(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "toy", TOY)
        patch.setitem(METHODS, "region_toy", REGION_TOY)
        yield request.param


@pytest.fixture(scope="module")
def model(method_name):
    keras.utils.set_random_seed(0)
    model = small_model(method_name, C, **SMALL_SETTINGS.get(method_name, {}))
    small.randomize(model)
    return model


def test_parts_and_stages(model):
    in_parts = [id(weight) for part in model.parts.values() for weight in part.weights]
    assert len(set(in_parts)) == len(in_parts) == len(model.weights)
    everything = model.network_for((*model.outputs, *model.taught))
    assert set(in_parts) == {id(weight) for weight in everything.weights}
    assert not any(character in address for address in model.weights for character in ": ")
    assert set(model.label_free) & set(model.parts) and model.embedding in model.outputs
    last = list(model.stages.values())[-1]
    assert last.watched == model.final or set(last.reads) <= set(model.taught)
    for a_map in model.maps:
        assert len(model.outputs[a_map.name].shape) == 4 and model.outputs[a_map.name].shape[-1] == C


def test_addresses(method_name, model):
    if method_name not in ("toy", "region_toy"):
        assert digest_of(model) == OF_METHODS[method_name]


def test_a_stage_moves_every_weight_of_what_it_trains_and_no_other(model):
    for stage in model.stages.values():
        before = small.weights_of(model)
        trained = small.descend(model, stage, small.random_batch(num_boxes=2))
        for name, value in small.weights_of(model).items():
            is_trained = name.split("/")[0] in stage.trains
            is_fixed = name not in trained and not name.endswith(MOVED_BY_ITSELF)
            assert np.isfinite(value).all(), name
            if not name.endswith(NO_GRADIENT):
                assert (value != before[name]).any() == (is_trained and not is_fixed), name
        for name, weight in model.weights.items():  # every stage begins at the same weights
            weight.assign(before[name])


def test_the_heads_go_on_from_the_features(method_name, model):
    """Bit for bit, without a weight of the trunk, and from no more of the features than the outputs come of."""
    assert bool(model.features) == (method_name not in ("toy", "region_toy"))
    batch = small.random_batch()
    image = batch["image"]
    features = dict(keras.Model(model.image, dict(model.features))(image, training=False)) if model.features else {}
    for names in [tuple(model.outputs), *(stage.reads for stage in model.stages.values())] if features else []:
        heads = model.heads_for(names)
        in_trunk = {id(weight) for weight in model.parts["trunk"].weights}
        assert not in_trunk & {id(weight) for weight in heads.weights}
        whole, read = model.network_for(names), input_of(heads, {**features, "y": batch["y"]})
        received, expected = heads(read, training=False), whole(input_of(whole, batch), training=False)
        assert sorted(received) == sorted(names)
        for name, value in expected.items():
            np.testing.assert_array_equal(received[name], value, err_msg=name)
        if method_name in ("srn", "srn_att"):
            assert list(read) == {("y_cls",): ["c5"], ("y_att",): ["c4"], ("y_sr",): ["c4"]}.get(names, ["c4", "c5"])


@pytest.mark.slow
def test_every_weight_is_in_a_checkpoint(model, tmp_path):
    """A weight that moved moves its array, and with all of them moved, what is read answers as before."""
    path = str(tmp_path / "w.npz")
    checkpoint.save_weights(path, model, {"labels": ["a", "b", "c"]})
    image = small.random_batch()["image"]
    expected = model.network(image, training=False)
    before = checkpoint.weight_arrays(model)
    small.randomize(model, seed=2)
    after = checkpoint.weight_arrays(model)
    assert len(after) == len(model.weights)
    assert all((after[address] != before[address]).any() for address in model.weights)
    checkpoint.load_weights(path, model, ["a", "b", "c"])
    received = model.network(image, training=False)
    for output, value in expected.items():  # rounding may differ between two executions, which of weights does not
        np.testing.assert_allclose(received[output], value, rtol=1e-5, atol=1e-6, err_msg=output)


@pytest.mark.parametrize(
    "name", ["srn", *(pytest.param(name, marks=pytest.mark.slow) for name in METHODS if name != "srn")]
)
def test_what_scores_labels_is_float32_in_mixed_precision(name):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = small_model(name, C, **SMALL_SETTINGS.get(name, {}))
    finally:
        keras.mixed_precision.set_global_policy(before)
    assert any(layer.compute_dtype == "bfloat16" for layer in model.parts["trunk"].layers)  # else nothing is mixed
    for output in (*model.logits, *(a_map.name for a_map in model.maps)):
        assert model.outputs[output].dtype == "float32", output
    assert all(weight.dtype == "float32" for weight in model.network.weights)
