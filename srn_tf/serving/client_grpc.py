"""TensorFlow Serving's gRPC interface, through its official API (tensorflow-serving-api), which needs TensorFlow."""

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, ModelVersionStatus
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub
from urllib3.exceptions import MaxRetryError

from srn_tf.serving.client_retry import ServerError, patience

_KINDS = {
    grpc.StatusCode.INVALID_ARGUMENT: "invalid",
    grpc.StatusCode.NOT_FOUND: "not_found",
    grpc.StatusCode.UNAVAILABLE: "unavailable",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "unavailable",
    grpc.StatusCode.DEADLINE_EXCEEDED: "unavailable",
}

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),  # no limit: an answer names every label for every image
    ("grpc.enable_http_proxy", 0),  # no proxies, as with REST
    # A lost connection is made anew this often; how often the server is asked is for Patience to say.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 200),
]


class GrpcConnection:
    """Asks one model of one server; the methods are those of client_rest.RestConnection.

    Args:
        address: HOST:PORT.
        model_name: as the server knows it.
        timeout_s: seconds to wait for an answer.
        retries: how often a request is sent again.
    """

    def __init__(self, address, model_name, timeout_s, retries):
        self._model_name = model_name
        self._timeout_s = timeout_s
        self._patience = patience(retries)
        channel = grpc.insecure_channel(address, _OPTIONS)
        self._prediction = PredictionServiceStub(channel)
        self._model = ModelServiceStub(channel)

    def versions(self):
        """dict: number of each version the server knows -> its state, e.g. "AVAILABLE"."""
        answer = self._ask(self._model.GetModelStatus, GetModelStatusRequest())
        return {status.version: ModelVersionStatus.State.Name(status.state) for status in answer.model_version_status}

    def signature(self, version):
        """Names of the inputs and of the outputs of serving_default, two sets; empty if there is no such signature."""
        request = GetModelMetadataRequest(metadata_field=["signature_def"])
        answer = self._ask(self._prediction.GetModelMetadata, request, version)
        signatures = SignatureDefMap()
        answer.metadata["signature_def"].Unpack(signatures)
        signature = signatures.signature_def["serving_default"]  # an empty one if there is none
        return set(signature.inputs), set(signature.outputs)

    def predict(self, version, images):
        """Asks serving_default, as `client_rest.RestConnection.predict` does."""
        arrays = self._predict(version, "image_bytes", tf.make_tensor_proto(images, tf.string))
        if "labels" in arrays:
            names = arrays["labels"]
            arrays["labels"] = np.array([name.decode() for name in names.flat], str).reshape(names.shape)
        return arrays

    def predict_pixels(self, version, image):
        """Asks a network of pixels, as `client_rest.RestConnection.predict_pixels` does."""
        arrays = self._predict(version, "image", tf.make_tensor_proto(image))
        if "probabilities" not in arrays:
            raise ServerError("other", f"an answer without probabilities: {', '.join(arrays)}")
        return arrays["probabilities"]

    def _predict(self, version, name, tensor):
        """The outputs for one input: name -> array."""
        request = PredictRequest()
        request.inputs[name].CopyFrom(tensor)
        outputs = self._ask(self._prediction.Predict, request, version).outputs
        return {name: tf.make_ndarray(tensor) for name, tensor in outputs.items()}

    def _ask(self, method, request, version=None):
        """Sends a request, again as often as it may, and returns the answer."""
        request.model_spec.name = self._model_name
        if version is not None:
            request.model_spec.version.value = version
        retry = self._patience
        while True:
            try:
                return method(request, timeout=self._timeout_s)
            except grpc.RpcError as error:
                kind = _KINDS.get(error.code(), "other")
                failure = ServerError(kind, f"{error.code().name}, {error.details()}")
            if failure.kind != "unavailable":
                raise failure
            try:
                retry = retry.increment(error=failure)
            except MaxRetryError:
                raise failure from None
            retry.sleep()
