"""OpenVINO Model Server, by its two interfaces, answers as the folder it serves does."""

import shutil

import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.serving import model_server
from srn_tf.serving.engines import write_reader
from srn_tf.serving.predictor import Predictor
from tests.serving.asking import IMAGES, assert_same
from tests.serving.model_server import PixelModel
from tests.serving.model_server_grpc import GrpcServer
from tests.serving.model_server_rest import RestServer


@pytest.fixture(scope="module")
def folder(served_folder, tmp_path_factory):
    """The export of the served model, with its reader, as exports for OpenVINO have it."""
    path = tmp_path_factory.mktemp("export") / "1"
    shutil.copytree(served_folder, path)
    write_reader(path, 56)
    return path


@pytest.fixture(params=[RestServer, GrpcServer])
def server(request, loaded, short_waits):
    """A server of the network; TensorFlow computes what OpenVINO would."""
    pixels = loaded.signatures["serve_pixels"]
    run = lambda image: pixels(pixels=image.astype(np.uint8))["probabilities"].numpy()  # noqa: E731
    server = request.param(PixelModel(run))
    server.is_openvino = True
    yield server
    server.stop()


def test_answers_as_the_folder_does(server, folder, folder_predictor, monkeypatch):
    """Images that are 56 pixels wide already: resized, their pixels are whole numbers, which uint8 keeps."""
    monkeypatch.setattr(model_server, "_MOST_IMAGES", 3)
    images = list(np.random.default_rng(0).integers(0, 256, (8, 56, 56, 3), dtype=np.uint8))
    served = Predictor(folder, server={"server": server.address})
    assert served.labels == folder_predictor.labels
    assert_same(served.answer(images), folder_predictor.answer(images))
    assert server.requests == [3, 3, 2]
    assert served.answer([])["probabilities"].shape == (0, 3)
    assert Predictor(folder, server={"server": server.address}).identity == served.identity
    server.versions = {7: "AVAILABLE"}  # another model, for all that is known
    assert Predictor(folder, server={"server": server.address}).identity != served.identity
    with pytest.raises(InputError, match="engine openvino of the server, which gives probabilities alone"):
        served.embed(images)


def test_bad_files_are_refused_as_by_the_folder(server, folder):
    served = Predictor(folder, server={"server": server.address})
    with pytest.raises(InputError, match="1 .from 0. of 2"):
        served.answer([IMAGES[0], b"no image"])
    assert server.requests == [1]  # the file before it, in the search for the one that is refused


def test_other_models_and_answers_are_refused(server, folder, served_model):
    pixels, server.model = server.model, served_model
    with pytest.raises(InputError, match="which takes image_bytes and gives .*for TensorFlow Serving, give --server a"):
        Predictor(folder, server={"server": server.address})
    server.model = pixels
    with pytest.raises(InputError, match="does not have the requested model and version. Received from lynx on "):
        Predictor(folder, server={"server": server.address, "model_name": "lynx"})
    with pytest.raises(InputError, match="engine says what .* here. Received: engine='openvino' with a server"):
        Predictor(folder, engine="openvino", server={"server": server.address})
    served = Predictor(folder, server={"server": server.address})
    server.change = lambda outputs: {"probabilities": outputs["probabilities"][:, :2]}
    with pytest.raises(InputError, match=r"probabilities of shape \(1, 3\). Received from srn on .*: \(1, 2\), or"):
        served.answer(IMAGES[:1])
    server.change = lambda outputs: {"probabilities": outputs["probabilities"] * np.nan}
    with pytest.raises(InputError, match="or values that are not from 0 to 1"):
        served.answer(IMAGES[:1])
