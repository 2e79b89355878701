"""The client answers as the folder does, over both protocols, and refuses whatever is not that model's answer."""

import concurrent.futures

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from srn_tf.errors import InputError
from srn_tf.serving import client
from srn_tf.serving.client import ServerPredictor
from tests.serving.asking import IMAGES, LABELS, ask, assert_same
from tests.serving.model_server import ServedModel
from tests.serving.model_server_grpc import GrpcServer
from tests.serving.model_server_rest import RestServer


def test_answers_as_the_folder_does(server, folder_predictor, expected, tmp_path):
    served = ask(server)
    assert served.labels == LABELS and served.version == 1
    assert all(type(label) is str for label in served.labels)
    assert_same(served.answer(IMAGES), expected)
    assert 0 < expected["predicted"].sum() < expected["predicted"].size
    np.testing.assert_allclose(served.predict(IMAGES), expected["probabilities"], rtol=0, atol=1e-6)
    assert served.predict_labels(IMAGES) == folder_predictor.predict_labels(IMAGES)
    assert server.requests == [8, 8, 8]
    (tmp_path / "a.png").write_bytes(IMAGES[1])
    pixels = np.random.default_rng(0).integers(0, 256, (31, 57, 3), dtype=np.uint8)
    images = [tmp_path / "a.png", str(tmp_path / "a.png"), pixels, Image.fromarray(pixels)]
    assert_same(served.answer(images), folder_predictor.answer(images))


def test_no_images(server):
    answer = ask(server).answer([])
    assert answer["probabilities"].shape == answer["predicted"].shape == (0, 3)
    assert answer["probabilities"].dtype == np.float32 and answer["predicted"].dtype == bool
    assert server.requests == []


def test_requests_are_bounded_in_images_and_bytes(server, expected, monkeypatch):
    served = ask(server)
    monkeypatch.setattr(client, "MAX_BATCH_IMAGES", 3)
    assert_same(served.answer(IMAGES), expected)
    assert server.requests == [3, 3, 2]
    server.requests.clear()
    monkeypatch.setattr(client, "MAX_BATCH_BYTES", 1)
    assert_same(served.answer(IMAGES), expected)
    assert server.requests == [1] * 8


def test_several_threads_may_ask_at_once(server, expected):
    served = ask(server)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        for answer in threads.map(served.answer, [IMAGES] * 12):
            assert_same(answer, expected)
    assert server.requests == [8] * 12


@pytest.mark.parametrize(
    ("sizes", "ranges"),
    [
        ([], []),
        ([9], [(0, 1)]),
        ([1, 1, 1, 1], [(0, 3), (3, 4)]),
        ([4, 4, 4, 1], [(0, 2), (2, 4)]),
        ([1, 99, 1, 7, 1], [(0, 1), (1, 2), (2, 4), (4, 5)]),
    ],
)
def test_batches(sizes, ranges, monkeypatch):
    monkeypatch.setattr(client, "MAX_BATCH_IMAGES", 3)
    monkeypatch.setattr(client, "MAX_BATCH_BYTES", 8)
    assert list(client._batches(sizes)) == ranges


def test_an_image_larger_than_the_usual_limit_of_a_message(server, folder_predictor):
    pixels = np.random.default_rng(0).integers(0, 256, (1250, 1250, 3), dtype=np.uint8)  # 4.7 MB as a file
    assert_same(ask(server).answer([IMAGES[0], pixels]), folder_predictor.answer([IMAGES[0], pixels]))
    assert server.requests == [1, 1]


def test_an_answer_larger_than_the_usual_limit_of_a_message(served_model, expected):
    server = GrpcServer(served_model)
    server.change = lambda outputs: {**outputs, "more": np.zeros([len(outputs["labels"]), 200_000], np.float32)}
    assert_same(ask(server, retries=0).answer(IMAGES), expected)
    server.stop()


@pytest.mark.parametrize("bad", [b"", b"no image", IMAGES[0][:200]])
def test_undecodable_image_is_named_by_its_position(server, bad, monkeypatch):
    monkeypatch.setattr(client, "MAX_BATCH_IMAGES", 3)
    served = ask(server)
    with pytest.raises(
        InputError, match=r"^Every image must be .* that can be decoded. .* 4 \(from 0\) of 9, which cannot"
    ) as e:
        served.answer([*IMAGES[:4], bad, *IMAGES[4:]])
    assert server.address in str(e.value) and "\n" not in str(e.value)
    assert e.value.reason.startswith("An image must be a JPEG" if len(bad) < 9 else "The decoder reports damage")
    assert server.requests == [3, 3, 1, 1]


def test_a_batch_that_is_refused_for_no_image_of_it_is_answered_one_by_one(server, expected):
    served = ask(server)
    server.refuses_batches = True
    assert_same(served.answer(IMAGES), expected)
    assert server.requests == [8] + [1] * 8


def swap_labels(outputs):
    return {**outputs, "labels": outputs["labels"][:, ::-1]}


def rename_label(outputs):
    outputs["labels"][:, 1] = b"lynx"
    return outputs


def last_row_of_another_model(outputs):
    outputs["labels"][-1, 2] = b"lynx"
    return outputs


def not_finite(value):
    def change(outputs):
        outputs["probabilities"][2, 1] = value
        return outputs

    return change


OTHER_MODELS = [  # what changes the outputs of a right answer, what is said of it
    (swap_labels, r"label 0 \(from 0\) is 'Straße' instead of 'dog'"),
    (rename_label, r"label 1 \(from 0\) is 'lynx' instead of 'cat, small'"),
    (last_row_of_another_model, r"label 2 \(from 0\) is 'lynx' instead of 'Straße'"),
    (lambda o: {name: v[:, :2] for name, v in o.items()}, r"labels of shape \(8, 2\) instead of \(8, 3\)"),
    (lambda o: {name: v[:7] for name, v in o.items()}, r"labels of shape \(7, 3\) instead of \(8, 3\)"),
    (lambda o: {**o, "probabilities": o["probabilities"][:, :2]}, r"probabilities of shape \(8, 2\)"),
    (lambda o: {**o, "predicted": o["predicted"][:, :2]}, r"decisions of shape \(8, 2\) instead of \(8, 3\)"),
    (lambda o: {"probabilities": o["probabilities"], "x": o["labels"]}, "an answer without labels and predicted: "),
    (not_finite(np.nan), "probabilities that are not numbers from 0 to 1"),
    (not_finite(np.inf), "probabilities that are not numbers from 0 to 1"),
    (not_finite(-0.5), "probabilities that are not numbers from 0 to 1"),
]


def test_the_answer_of_another_model(server):
    """And each refusal leaves the client as it was."""
    served = ask(server)
    for change, message in OTHER_MODELS:
        server.change = change
        with pytest.raises(
            InputError, match=f"must keep serving the same model. Received from srn on {server.address}: {message}"
        ):
            served.answer(IMAGES)
    assert server.requests == [8] * len(OTHER_MODELS)


def test_another_version_takes_the_place_of_the_first(server):
    served = ask(server)
    server.versions = {1: "END", 2: "AVAILABLE"}
    with pytest.raises(
        InputError,
        match=r"does not have the requested model and version. .*Specific\(srn, 1\).* start the prediction again",
    ):
        served.answer(IMAGES)
    assert ServerPredictor(server.address).version == 2


def test_the_highest_available_version_is_asked(server, expected):
    server.versions = {3: "LOADING", 10: "AVAILABLE", 9: "AVAILABLE", 11: "END"}
    served = ask(server)
    assert served.version == 10
    assert_same(served.answer(IMAGES), expected)


def test_no_version_is_available(server):
    server.versions = {2: "LOADING", 1: "END"}
    with pytest.raises(InputError, match="none of its versions is available: 1 is END, 2 is LOADING"):
        ServerPredictor(server.address)


def test_a_model_of_another_name(server):
    with pytest.raises(
        InputError, match="Received from cats on .*find any versions of model cats. Check the model's name"
    ):
        ServerPredictor(server.address, model_name="cats")


def test_identity(served_model):
    def identity(protocol, **options):
        server = protocol(served_model, **options)
        try:
            return ServerPredictor(server.address, model_name=server.name).identity
        finally:
            server.stop()

    first = identity(RestServer)
    assert first == identity(RestServer) == identity(GrpcServer)
    others = [identity(RestServer, name="cats & dogs/1"), identity(GrpcServer, versions={2: "AVAILABLE"})]
    server = RestServer(served_model)
    server.change = swap_labels
    others.append(ServerPredictor(server.address).identity)
    server.stop()
    assert len({first, *others}) == 4


def test_models_of_another_kind(tmp_path):
    def plus_one(x):
        return {"y": x + 1.0}

    signature = tf.function(plus_one, input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    for name, signatures in (("none", None), ("other", signature)):
        tf.saved_model.save(tf.Module(), str(tmp_path / name), signatures=signatures)
        for protocol in (RestServer, GrpcServer):
            server = protocol(ServedModel(tmp_path / name))
            with pytest.raises(InputError, match=f"srn on {server.address}, a SavedModel of another kind"):
                ServerPredictor(server.address)
            server.stop()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost:8501",
        "localhost",
        "http://",
        "ftp://host:8501",
        "http://host:port",
        "http://host:8501/v1/models/srn",
        "http://host:8501?x=1",
        "grpc://host",
        "grpc://:8500",
        "http://ho st:8501",
        "http://user@host:8501",
    ],
)
def test_addresses_that_are_none(address):
    with pytest.raises(InputError, match="^server must be http://HOST:8501 .*Received: '.*'. Check"):
        ServerPredictor(address)


@pytest.mark.parametrize(("scheme", "protocol"), [("grpc", RestServer), ("http", GrpcServer)])
def test_the_port_of_the_other_protocol(served_model, short_waits, scheme, protocol):
    server = protocol(served_model)
    with pytest.raises(InputError, match="The server did not answer. .*http:// usually at port 8501") as e:
        ServerPredictor(f"{scheme}://127.0.0.1:{server.port}", timeout_s=5.0, retries=1)
    assert str(e.value).isprintable()
    server.stop()
