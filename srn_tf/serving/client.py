"""Asks a TensorFlow Serving server for predictions, as `predictor.Predictor` asks a folder."""

import hashlib
import io
import json
import re
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from srn_tf.errors import InputError
from srn_tf.serving.client_rest import RestConnection
from srn_tf.serving.client_retry import ServerError
from srn_tf.serving.images import refusal, to_image_files

MAX_BATCH_IMAGES = 32
"""Most images in one request."""

MAX_BATCH_BYTES = 3_500_000
"""Most bytes of images in one request, a larger image alone: gRPC servers and gateways refuse 4 MiB by default."""

_HOST = r"([\w.-]+|\[[0-9a-fA-F:]+\])"
_ADDRESS = re.compile(rf"(https?://{_HOST}(:\d{{1,5}})?|grpc://{_HOST}:\d{{1,5}})/?")

# What to tell the user: the kind of a ServerError -> the rule, and what to do.
_NO_ANSWER = {
    "unavailable": (
        "The server did not answer",
        "Check that it runs there (TensorFlow Serving has http:// usually at port 8501, grpc:// at 8500) and has "
        "capacity. Allow more time (--timeout_s), or send fewer images per request (--batch_size).",
    ),
    "not_found": (
        "The server does not have the requested model and version",
        "Check the model's name. If another version has replaced this one, start the prediction again.",
    ),
    "invalid": ("The server refuses what it is asked", "Check that it serves this export, and read its log."),
    "other": ("The server gave no usable answer", "Check that it is a model server, and read its log."),
}


class ServerPredictor:
    """An exported model behind TensorFlow Serving.

    The version that is served at the beginning is asked throughout: where the server goes on to another one, it says
    that this one is gone. Every answer's label names, shapes and values are checked as well, since a server may come
    back with another model under the same version. (One of the same labels cannot be told apart: give each export a
    version of its own.)

    A request that finds no server, no answer in time or an overloaded server is sent again after ever longer waits
    (`client_retry.patience`). Several threads may ask at once.

    Args:
        server: "http://HOST:8501" or "https://HOST" (REST), or "grpc://HOST:8500" (gRPC, which imports
            TensorFlow).
        model_name: the name the server serves the model under, its --model_name.
        timeout_s: seconds to wait for the answer to one request of up to `MAX_BATCH_IMAGES` images.
        retries: how often a request is sent again.

    Attributes:
        labels: list of C str, the label names in order.
        version: int, number of the served version.
        identity: str, a digest of model name, version and labels, wherever they are served.

    Raises:
        InputError: not such an address; no answer; no such model, or one of another project.
    """

    def __init__(self, server, model_name="srn", timeout_s=60.0, retries=5):
        self._server = server
        self._model_name = model_name
        self._connection = connect(server, model_name, timeout_s, retries)
        try:
            self.version = latest_version(self._connection)
            inputs, outputs = self._connection.signature(self.version)
            if inputs != {"image_bytes"} or not {"probabilities", "labels"} <= outputs:
                raise InputError(
                    f"The served model must be an export of srn_tf. Received: {model_name} on {server}, a SavedModel "
                    "of another kind (its serving_default must take image_bytes and give probabilities and labels). "
                    "Check the model's name and what is served."
                )
            # The names are in the graph, a row for each image: one pixel is asked for its row.
            outputs = self._connection.predict(self.version, [_pixel()])
        except ServerError as error:
            raise no_answer(error, server, model_name) from error
        self.labels = [str(name) for name in np.ravel(outputs.get("labels", []))]
        self._checked(outputs, 1)
        self.identity = hashlib.sha256(json.dumps([model_name, self.version, self.labels]).encode()).hexdigest()

    def answer(self, images):
        """Gives every label's probability in every image, and what it decides.

        Args:
            images: list of N, each a path, the bytes of an image file, a uint8 (H, W, 3) array or a PIL image.
        Returns:
            dict: "probabilities" float32 (N, C), in [0, 1]; "predicted" bool (N, C), whether they exceed the
            thresholds of the export. Nothing is kept of a call that fails.
        Raises:
            InputError: an image that cannot be read or decoded; no answer; the answer of another model.
        """
        files = to_image_files(images)
        shape = [0, len(self.labels)]
        answers = [{"probabilities": np.zeros(shape, np.float32), "predicted": np.zeros(shape, bool)}]
        for start, end in _batches([len(file) for file in files]):
            answers += self._ask(files, start, end)
        return {name: np.concatenate([one[name] for one in answers]) for name in answers[0]}

    def predict(self, images):
        """Gives the probabilities of `answer` alone: float32 (N, C)."""
        return self.answer(images)["probabilities"]

    def predict_labels(self, images):
        """Names the predicted labels of every image: list of N lists of str, in the order of `labels`."""
        predicted = self.answer(images)["predicted"]
        return [[self.labels[label] for label in np.flatnonzero(row)] for row in predicted]

    def _ask(self, files, start, end):
        """The answers to the files from `start` to `end`, a list of dicts: of one request, or one for each file."""
        try:
            return [self._checked(self._connection.predict(self.version, files[start:end]), end - start)]
        except ServerError as error:
            if error.kind != "invalid":
                raise no_answer(error, self._server, self._model_name) from error
            if end - start == 1:
                raise refusal(start, len(files), str(error), self._server) from error
        # One of them is refused. (Or none: a server that batches refuses what it has put with a bad one of others.)
        return [answer for position in range(start, end) for answer in self._ask(files, position, position + 1)]

    def _checked(self, outputs, num_images):
        """Returns "probabilities" and "predicted" of an answer to N images, if it is this model's; else InputError."""
        shape = (num_images, len(self.labels))
        missing = [name for name in ("labels", "probabilities", "predicted") if name not in outputs]
        labels, probabilities, predicted = map(outputs.get, ("labels", "probabilities", "predicted"))
        if missing:
            fault = f"an answer without {' and '.join(missing)}: {', '.join(outputs)}"
        elif labels.shape != shape:
            fault = f"labels of shape {labels.shape} instead of {shape}"
        elif (labels != self.labels).any():
            row, label = np.argwhere(labels != self.labels)[0]
            fault = f"label {label} (from 0) is {str(labels[row, label])!r} instead of {self.labels[label]!r}"
        elif probabilities.shape != shape:
            fault = f"probabilities of shape {probabilities.shape} instead of {shape}"
        elif not ((probabilities >= 0) & (probabilities <= 1)).all():  # so written that NaN is found
            fault = "probabilities that are not numbers from 0 to 1"
        elif predicted.shape != shape:
            fault = f"decisions of shape {predicted.shape} instead of {shape}"
        else:
            return {"probabilities": probabilities, "predicted": predicted}
        raise InputError(
            f"The server must keep serving the same model. Received from {self._model_name} on {self._server}: "
            f"{fault}. Check what is served there, and start the prediction again."
        )


def connect(server, model_name, timeout_s, retries):
    """A connection by the protocol that an address names; nothing is sent yet.

    Args:
        server, model_name, timeout_s, retries: see `ServerPredictor`.
    Returns:
        client_rest.RestConnection or client_grpc.GrpcConnection.
    Raises:
        InputError: not such an address.
    """
    if not _ADDRESS.fullmatch(server):
        raise InputError(
            f"server must be http://HOST:8501 (REST) or grpc://HOST:8500 (gRPC). Received: {server!r}. Check the "
            "address."
        )
    parts = urlsplit(server)
    if parts.scheme == "grpc":
        from srn_tf.serving.client_grpc import GrpcConnection  # late: it imports TensorFlow

        return GrpcConnection(parts.netloc, model_name, timeout_s, retries)
    return RestConnection(f"{parts.scheme}://{parts.netloc}", model_name, timeout_s, retries)


def latest_version(connection):
    """The highest version that is ready, which is the one a server answers with unless told otherwise.

    Raises:
        ServerError: there is none, or no answer.
    """
    versions = connection.versions()
    ready = [version for version, state in versions.items() if state == "AVAILABLE"]
    if not ready:
        raise ServerError("other", f"none of its versions is available: {_listed(versions)}")
    return max(ready)


def no_answer(error, server, model_name):
    """The InputError for a ServerError, of a server by its address, and a model by its name there."""
    rule, remedy = _NO_ANSWER[error.kind]
    return InputError(f"{rule}. Received from {model_name} on {server}: {error}. {remedy}")


def _batches(sizes):
    """Splits files into requests.

    Args:
        sizes: bytes of every file.
    Yields:
        (start, end): consecutive ranges, each at most `MAX_BATCH_IMAGES` long and, unless it is of one file, of at
        most `MAX_BATCH_BYTES`.
    """
    start, total = 0, 0
    for position, size in enumerate(sizes):
        if position > start and (position - start == MAX_BATCH_IMAGES or total + size > MAX_BATCH_BYTES):
            yield start, position
            start, total = position, 0
        total += size
    if start < len(sizes):
        yield start, len(sizes)


def _pixel():
    """One black pixel as a PNG file."""
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, format="PNG")
    return buffer.getvalue()


def _listed(versions):
    return ", ".join(f"{version} is {state}" for version, state in sorted(versions.items()))
