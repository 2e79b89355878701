"""Exported models that several files of tests share: each takes seconds to make."""

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.data.preprocessing import preprocess_upright
from srn_tf.serving import client_retry
from srn_tf.serving.export import export
from srn_tf.serving.predictor import Predictor
from tests.models.small import small_model
from tests.serving.asking import IMAGES, LABELS
from tests.serving.kinds_of_files import IMAGES as KINDS
from tests.serving.model_server import ServedModel
from tests.serving.model_server_grpc import GrpcServer
from tests.serving.model_server_rest import RestServer


@pytest.fixture(scope="session")
def srn():
    """A small SRN; values of BatchNorm and biases are not those of new layers."""
    tf.keras.utils.set_random_seed(1)
    model = small_model("srn", 3, head_channels=8)
    random = np.random.default_rng(0)
    for address, weight in model.weights.items():
        if address.endswith("moving_variance"):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif address.endswith(("moving_mean", "bias")):
            weight.assign(random.uniform(-0.2, 0.2, weight.shape))
    return model


@pytest.fixture(scope="session")
def in_memory(srn):
    """All outputs of that SRN by name, for every image of KINDS, in order."""
    image = tf.stack([preprocess_upright(tf.constant(data), 56) for data in KINDS.values()])
    return {name: values.numpy() for name, values in srn.network(image, training=False).items()}


@pytest.fixture(scope="session")
def served_thresholds(in_memory):
    """For each label the middle of the widest gap among the probabilities of KINDS, but for those at the ends."""
    p = np.sort(1.0 / (1.0 + np.exp(-in_memory["y_hat"].astype(np.float64))), axis=0)[2:-2]
    place = np.argmax(np.diff(p, axis=0), axis=0)
    return (p[place, range(3)] + p[place + 1, range(3)]) / 2


@pytest.fixture(scope="session")
def served_folder(srn, served_thresholds, made_once):
    """That SRN with the labels LABELS, exported; its thresholds lie amid its answers."""
    folder = made_once("served", lambda folder: export(srn, LABELS, folder / "export" / "1", served_thresholds))
    return folder / "export" / "1"


@pytest.fixture(scope="session")
def main_net():
    tf.keras.utils.set_random_seed(0)
    return small_model("main_net", 2)


@pytest.fixture(scope="session")
def main_net_folder(main_net, made_once):
    """A small main net with the labels a and b, exported."""
    return made_once("main_net", lambda folder: export(main_net, ["a", "b"], folder / "1")) / "1"


@pytest.fixture(scope="session")
def folder_predictor(served_folder):
    return Predictor(served_folder)


@pytest.fixture(scope="session")
def loaded(folder_predictor):
    """That folder as TensorFlow loads it, which takes seconds."""
    return folder_predictor._engine._loaded


@pytest.fixture(scope="session")
def served_model(served_folder, loaded):
    model = ServedModel(served_folder, loaded)
    model.predict(IMAGES)  # the first answer takes longer than the others
    return model


@pytest.fixture(scope="session")
def expected(folder_predictor):
    """What the folder answers to IMAGES."""
    answer = folder_predictor.answer(IMAGES)
    assert np.ptp(answer["probabilities"], axis=0).min() > 1e-4  # images that were swapped would be noticed
    return answer


@pytest.fixture
def short_waits(monkeypatch):
    monkeypatch.setattr(client_retry, "BACKOFF_S", 0.03)


@pytest.fixture(params=[RestServer, GrpcServer])
def server(request, served_model, short_waits):
    """A server of that model, by each protocol; its client does not wait for long."""
    server = request.param(served_model)
    yield server
    server.stop()
