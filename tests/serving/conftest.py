"""Exported models that several files of tests share: each takes seconds to make."""

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.serving import client_retry
from srn_tf.serving.export import export
from srn_tf.serving.predictor import Predictor
from tests.models.small import small_model
from tests.serving.asking import IMAGES, LABELS
from tests.serving.model_server import ServedModel
from tests.serving.model_server_grpc import GrpcServer
from tests.serving.model_server_rest import RestServer


@pytest.fixture(scope="session")
def srn():
    """A small SRN."""
    tf.keras.utils.set_random_seed(0)
    return small_model("srn", 3, head_channels=8)


@pytest.fixture(scope="session")
def served_folder(srn, tmp_path_factory):
    """That SRN with the labels LABELS, exported; its thresholds lie amid its answers."""
    path = tmp_path_factory.mktemp("run") / "export" / "1"
    logits = srn.network(np.random.default_rng(0).uniform(0, 255, (8, 56, 56, 3)), training=False)["y_hat"]
    export(srn, LABELS, path, np.median(tf.sigmoid(logits), axis=0))
    return path


@pytest.fixture(scope="session")
def main_net():
    return small_model("main_net", 2)


@pytest.fixture(scope="session")
def main_net_folder(main_net, tmp_path_factory):
    """A small main net with the labels a and b, exported."""
    path = tmp_path_factory.mktemp("main_net") / "1"
    export(main_net, ["a", "b"], path)
    return path


@pytest.fixture(scope="session")
def folder_predictor(served_folder):
    return Predictor(served_folder)


@pytest.fixture(scope="session")
def served_model(served_folder):
    model = ServedModel(served_folder)
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
