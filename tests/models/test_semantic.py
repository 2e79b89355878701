"""ResNet-101-semantic: relations of labels without places, against NumPy."""

import numpy as np
import pytest

from srn_tf.models.semantic import build_relations
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


def test_semantic_equals_numpy(images):
    model = randomised(small_model("semantic", C))
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
    assert (model.logits, model.maps) == (("y_hat", "y_cls"), ())


def test_the_layers_of_semantic_at_the_papers_size():
    """2048, 2048 and C neurons behind 2048 features and C confidences, C = 80."""
    f_sem = build_relations(2048, 80)
    shapes = [[weight.shape for weight in layer.weights] for layer in f_sem.layers if layer.weights]
    assert shapes == [[(2128, 2048), (2048,)], [(2048, 2048), (2048,)], [(2048, 80), (80,)]]
    assert f_sem.count_params() == 8_720_464


def test_the_stages_of_semantic():
    stages = small_model("semantic", C).stages
    assert {
        name: (set(stage.trains), set(stage.fixed), losses_of(stage), stage.watched) for name, stage in stages.items()
    } == {
        "cls": ({"trunk", "classifier"}, {"f_sem"}, {"y_cls": 1.0}, "y_cls"),
        "sem": ({"f_sem"}, {"trunk", "classifier"}, {"y_hat": 1.0}, "y_hat"),
        "all": ({"trunk", "classifier", "f_sem"}, set(), {"y_hat": 1.0, "y_cls": 1.0}, "y_hat"),
    }
    assert list(stages) == ["cls", "sem", "all"]
