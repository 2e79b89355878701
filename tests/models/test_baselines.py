"""ResNet-107 and ResNet-101-semantic: what they compute against NumPy, their stages, and what a stage moves."""

import numpy as np
import pytest

from srn_tf.models.backbones import build_more_blocks
from srn_tf.models.baselines import build_relations, build_resnet107, build_semantic
from tests.models import reference
from tests.training import small

C, S_PX, B = 3, 56, 4


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(0, 255, (B, S_PX, S_PX, 3)).astype(np.float32)


def randomised(model):
    for seed, name in enumerate(sorted(model.parts)):
        reference.randomise(model.parts[name], seed)
    return model


def main_net_outputs(model, images):
    """What its parts f_cnn and f_cls give."""
    outputs = model.parts["f_cls"](model.parts["f_cnn"](images))
    return {name: value.numpy() for name, value in outputs.items()}


def logits_of(model, pooled):
    kernel, bias = model.parts["f_cls"].get_layer("cls_logits").get_weights()
    return pooled @ kernel + bias


# ResNet-107.


def test_resnet107_has_its_blocks_between_the_last_map_and_the_pooling(images):
    model = randomised(build_resnet107("small", S_PX, C))
    main_net = main_net_outputs(model, images)
    more = model.parts["f_more"](main_net["last_map"]).numpy()
    received = {name: value.numpy() for name, value in model.network(images).items()}
    assert set(received) == {"y_cls", "pooled"} and model.embedding == "pooled"
    np.testing.assert_allclose(received["pooled"], more.mean(axis=(1, 2)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(received["y_cls"], logits_of(model, more.mean(axis=(1, 2))), rtol=1e-3, atol=1e-4)
    assert np.abs(received["y_cls"] - main_net["y_cls"]).max() > 0.01
    assert (model.logits, model.maps, model.attention, model.final) == (("y_cls",), (), None, "y_cls")


def test_blocks_without_residual_change_nothing():
    """With post-activation, since what they read is behind a ReLU already."""
    f_more = build_more_blocks("resnet50", (2, 2, 8))
    for block in ("more_block1", "more_block2"):
        f_more.get_layer(f"{block}_3_bn").gamma.assign(np.zeros(8))
    x = np.random.default_rng(0).uniform(0, 2, (B, 2, 2, 8)).astype(np.float32)
    np.testing.assert_array_equal(f_more(x), x)


def test_resnet107_has_one_stage():
    (stage,) = build_resnet107("small", S_PX, C).stages.items()
    assert stage[0] == "cls" and set(stage[1].trains) == {"f_cnn", "f_cls", "f_more"} and stage[1].fixed == ()
    assert (stage[1].losses, stage[1].watched) == ({"y_cls": 1.0}, "y_cls")


# ResNet-101-semantic.


def test_semantic_equals_numpy(images):
    model = randomised(build_semantic("small", S_PX, C))
    main_net = main_net_outputs(model, images)
    weights = reference.weights_of(model.parts["f_sem"])
    x = np.concatenate([main_net["y_cls"], main_net["pooled"]], axis=1)
    for name in ("sem_1", "sem_2"):
        kernel, bias = weights[name]
        x = reference.relu(x @ kernel + bias)
    kernel, bias = weights["sem_logits"]
    received = {name: value.numpy() for name, value in model.network(images).items()}
    assert set(received) == {"y_hat", "y_cls", "pooled"} and model.embedding == "pooled"
    np.testing.assert_allclose(received["pooled"], main_net["pooled"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(received["y_hat"], x @ kernel + bias, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(received["y_cls"], main_net["y_cls"], rtol=1e-4, atol=1e-5)
    assert (model.logits, model.maps, model.attention) == (("y_hat", "y_cls"), (), None)


def test_the_layers_of_semantic_at_the_papers_size():
    """2048, 2048 and C neurons behind 2048 features and C confidences, C = 80."""
    f_sem = build_relations(2048, 80)
    shapes = [[weight.shape for weight in layer.weights] for layer in f_sem.layers if layer.weights]
    assert shapes == [[(2128, 2048), (2048,)], [(2048, 2048), (2048,)], [(2048, 80), (80,)]]
    assert f_sem.count_params() == 8_720_464


def test_the_stages_of_semantic():
    stages = build_semantic("small", S_PX, C).stages
    assert {
        name: (set(stage.trains), set(stage.fixed), stage.losses, stage.watched) for name, stage in stages.items()
    } == {
        "cls": ({"f_cnn", "f_cls"}, {"f_sem"}, {"y_cls": 1.0}, "y_cls"),
        "sem": ({"f_sem"}, {"f_cnn", "f_cls"}, {"y_hat": 1.0}, "y_hat"),
        "all": ({"f_cnn", "f_cls", "f_sem"}, set(), {"y_hat": 1.0, "y_cls": 1.0}, "y_hat"),
    }
    assert list(stages) == ["cls", "sem", "all"]


# Training.


@pytest.mark.parametrize("build", [build_resnet107, build_semantic])
def test_a_stage_moves_every_weight_of_what_it_trains_and_no_other(build):
    model = build("small", S_PX, C)
    small.randomize(model)
    for stage in model.stages.values():
        before = small.weights_of(model)
        small.descend(model, stage, small.random_batch())
        for name, value in small.weights_of(model).items():
            assert np.isfinite(value).all(), name
            assert (value != before[name]).any() == (name.split("/")[0] in stage.trains), name
