"""The main net alone: its equations, its pooling, and that SRN begins as it."""

import numpy as np
import pytest

from tests.models import reference
from tests.models.small import losses_of, main_net_outputs, small_model

C, S_PX, B = 5, 56, 3


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(0, 255, (B, S_PX, S_PX, 3)).astype(np.float32)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_main_net(images, pooling):
    model = small_model("main_net", C, pooling=pooling)
    for seed, part in enumerate(model.parts.values()):
        reference.randomise(part, seed)
    received = {name: value.numpy() for name, value in model.network(images).items()}
    assert {name: value.shape for name, value in received.items()} == {"y_cls": (B, C), "pooled": (B, 128)}
    assert (model.logits, model.maps, model.explanation, model.final) == (("y_cls",), (), (), "y_cls")
    last_map = main_net_outputs(model, images)["last_map"]
    pooled = last_map.mean(axis=(1, 2)) if pooling == "mean" else last_map.max(axis=(1, 2))
    np.testing.assert_allclose(received[model.embedding], pooled, rtol=1e-4, atol=1e-5)
    kernel, bias = model.parts["classifier"].get_layer("cls_logits").get_weights()
    np.testing.assert_allclose(received["y_cls"], pooled @ kernel + bias, rtol=1e-4, atol=1e-4)
    assert np.ptp(received["y_cls"], axis=0).min() > 1e-4  # the image matters
    ((name, stage),) = model.stages.items()
    assert (name, stage.trains, stage.fixed, losses_of(stage), stage.watched) == (
        *("cls", ("trunk", "classifier"), ()),
        *({"y_cls": 1.0}, "y_cls"),
    )


@pytest.mark.slow
def test_main_net_is_the_first_stage_of_srn(images):
    srn, main_net = small_model("srn", C, head_channels=8), small_model("main_net", C)
    for name in ("trunk", "classifier"):
        srn.parts[name].set_weights(main_net.parts[name].get_weights())
    np.testing.assert_allclose(srn.network(images)["y_cls"], main_net.network(images)["y_cls"], rtol=1e-5, atol=1e-6)
