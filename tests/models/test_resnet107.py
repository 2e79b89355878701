"""ResNet-107: two more residual blocks, against NumPy."""

import numpy as np
import pytest

from srn_tf.models.resnet107 import build_more_blocks
from tests.models import reference
from tests.models.small import losses_of, main_net_outputs, small_model

C, S_PX, B = 3, 56, 4


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(0, 255, (B, S_PX, S_PX, 3)).astype(np.float32)


def randomised(model):
    for seed, name in enumerate(sorted(model.parts)):
        reference.randomise(model.parts[name], seed)
    return model


def logits_of(model, pooled):
    kernel, bias = model.parts["classifier"].get_layer("cls_logits").get_weights()
    return pooled @ kernel + bias


def test_resnet107_has_its_blocks_between_the_last_map_and_the_pooling(images):
    model = randomised(small_model("resnet107", C))
    main_net = main_net_outputs(model, images)
    more = model.parts["f_more"](main_net["last_map"]).numpy()
    received = {name: value.numpy() for name, value in model.network(images).items()}
    assert set(received) == {"y_cls", "pooled"} and model.embedding == "pooled"
    np.testing.assert_allclose(received["pooled"], more.mean(axis=(1, 2)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(received["y_cls"], logits_of(model, more.mean(axis=(1, 2))), rtol=1e-3, atol=1e-4)
    assert np.abs(received["y_cls"] - main_net["y_cls"]).max() > 0.01
    assert (model.logits, model.maps, model.final) == (("y_cls",), (), "y_cls")


def test_blocks_without_residual_change_nothing():
    """With post-activation, since what they read is behind a ReLU already."""
    f_more = build_more_blocks("postactivation", (2, 2, 8))
    for block in ("more_block1", "more_block2"):
        f_more.get_layer(f"{block}_3_bn").gamma.assign(np.zeros(8))
    x = np.random.default_rng(0).uniform(0, 2, (B, 2, 2, 8)).astype(np.float32)
    np.testing.assert_array_equal(f_more(x), x)


def test_resnet107_has_one_stage():
    (stage,) = small_model("resnet107", C).stages.items()
    assert stage[0] == "cls" and set(stage[1].trains) == {"trunk", "classifier", "f_more"} and stage[1].fixed == ()
    assert (losses_of(stage[1]), stage[1].watched) == ({"y_cls": 1.0}, "y_cls")


def test_how_the_blocks_start():
    reference.assert_starts(build_more_blocks("small", (7, 7, 128)))
