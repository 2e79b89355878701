"""A stand-in for a model server: an exported model behind TensorFlow Serving's interfaces, with faults to switch on.

`model_server_rest.RestServer` and `model_server_grpc.GrpcServer` speak the protocols.
"""

import threading

import grpc
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse

Code = grpc.StatusCode


class Refusal(Exception):
    """A request that is answered with an error status."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class ServedModel:
    """A SavedModel for several servers; `loaded` is what TensorFlow makes of it, else it is loaded here."""

    def __init__(self, saved_model_dir, loaded=None):
        self._loaded = loaded or tf.saved_model.load(str(saved_model_dir))
        saved_model = SavedModel.FromString((saved_model_dir / "saved_model.pb").read_bytes())
        self.signatures = saved_model.meta_graphs[0].signature_def

    def predict(self, images):
        """list of bytes -> dict of arrays."""
        try:
            outputs = self._loaded.signatures["serving_default"](image_bytes=tf.constant(images))
        except tf.errors.InvalidArgumentError as error:
            raise Refusal(Code.INVALID_ARGUMENT, error.message) from error
        return {name: values.numpy() for name, values in outputs.items()}


class PixelModel:
    """What OpenVINO Model Server serves of an export: image float32 (N, S, S, 3) to probabilities, no strings.

    Args:
        run: function of the two.
    """

    def __init__(self, run):
        self.predict = lambda image: {"probabilities": run(image)}
        signature = SignatureDef()
        signature.inputs["image"].dtype = signature.outputs["probabilities"].dtype = tf.float32.as_datatype_enum
        self.signatures = {"serving_default": signature}


class ModelServer:
    """One served model, by the protocol of the subclass. Faults are attributes, and concern predictions only.

    Attributes:
        model: ServedModel or PixelModel.
        name: of the model.
        versions: version number -> state; only an AVAILABLE one answers.
        requests: number of images of every prediction asked for, in order, answered or not.
        refusals: list of grpc.StatusCode: the next requests are answered with them.
        slow: how many of the next requests are not answered before the server stops.
        deaths: how many of the next requests kill the server after it has read them.
        down_s: how long it is then away.
        change: a function that is given the outputs of every prediction and may change them.
        refuses_batches: whether requests of more than one image are refused as if one of them were damaged.
    """

    def __init__(self, model, name="srn", versions=None):
        self.model = model
        self.name = name
        self.versions = versions or {1: "AVAILABLE"}
        self.requests = []
        self.refusals = []
        self.slow = 0
        self.deaths = 0
        self.down_s = 0.2
        self.change = lambda outputs: outputs
        self.refuses_batches = False
        self._stopped = threading.Event()
        self.port = self.listen(0)

    def stop(self):
        self._stopped.set()
        self.close()

    def predict(self, version, images):
        """dict of arrays; or Refusal."""
        self.check(version)
        self.requests.append(len(images))
        if self.deaths:
            self.deaths -= 1
            self._die()
        if self.slow:
            self.slow -= 1
            if self._stopped.wait(60):  # nobody listens any more
                raise Refusal(Code.UNAVAILABLE, "stopped")
        if self.refusals:
            raise Refusal(self.refusals.pop(0), "told to")
        if self.refuses_batches and len(images) > 1:
            raise Refusal(Code.INVALID_ARGUMENT, "told to")
        return self.change(self.model.predict(images))

    def check(self, version):
        if self.versions.get(version) != "AVAILABLE":
            raise Refusal(Code.NOT_FOUND, f"Servable not found for request: Specific({self.name}, {version})")

    def check_name(self, name):
        if name != self.name:
            raise Refusal(Code.NOT_FOUND, f"Could not find any versions of model {name}")

    def status(self):
        answer = GetModelStatusResponse()
        for version, state in self.versions.items():
            answer.model_version_status.add(version=version, state=state)
        return answer

    def metadata(self, version):
        """GetModelMetadataResponse without the signatures, and these: SignatureDefMap."""
        self.check(version)
        answer = GetModelMetadataResponse()
        answer.model_spec.name = self.name
        answer.model_spec.version.value = version
        signatures = SignatureDefMap()
        for name, signature in self.model.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        return answer, signatures

    def _die(self):
        """Closes every connection and the port, and listens again after a while; the request gets no answer."""
        closed = threading.Event()

        def die_and_come_back():
            self.close()
            closed.set()
            if not self._stopped.wait(self.down_s):
                self.listen(self.port)

        threading.Thread(target=die_and_come_back, daemon=True).start()
        closed.wait()
        raise ConnectionAbortedError
