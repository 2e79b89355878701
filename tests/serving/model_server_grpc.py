"""TensorFlow Serving's gRPC interface: its official service definition (tensorflow-serving-api)."""

from concurrent import futures

import grpc
import tensorflow as tf
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.apis.predict_pb2 import PredictResponse

from tests.serving.model_server import Code, ModelServer, Refusal


class GrpcServer(ModelServer):
    @property
    def address(self):
        return f"grpc://127.0.0.1:{self.port}"

    def listen(self, port):
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._grpc = grpc.server(futures.ThreadPoolExecutor(8), options=unlimited)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_PredictionService(self), self._grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(self), self._grpc)
        port = self._grpc.add_insecure_port(f"127.0.0.1:{port}")
        self._grpc.start()
        return port

    def close(self):
        self._grpc.stop(None).wait(10)


def _refusing(method):
    """A method of a service that answers a Refusal with its status."""

    def answer(self, request, context):
        try:
            self.served.check_name(request.model_spec.name)
            return method(self, request)
        except Refusal as refusal:
            context.abort(refusal.code, str(refusal))
        except ConnectionAbortedError:
            context.abort(Code.UNKNOWN, "has died: nobody gets this")

    return answer


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, served):
        self.served = served

    @_refusing
    def Predict(self, request):
        if set(request.inputs) != set(self.served.model.signatures["serving_default"].inputs):
            raise Refusal(Code.INVALID_ARGUMENT, "input size does not match signature")
        (images,) = (tf.make_ndarray(tensor) for tensor in request.inputs.values())
        outputs = self.served.predict(self._version(request), images.tolist() if images.dtype == object else images)
        answer = PredictResponse()
        for name, values in outputs.items():
            answer.outputs[name].CopyFrom(tf.make_tensor_proto(values))
        return answer

    @_refusing
    def GetModelMetadata(self, request):
        if list(request.metadata_field) != ["signature_def"]:
            raise Refusal(Code.INVALID_ARGUMENT, "Metadata field is not supported")
        answer, signatures = self.served.metadata(self._version(request))
        answer.metadata["signature_def"].Pack(signatures)
        return answer

    def _version(self, request):
        """The one that is asked for, or else the latest."""
        spec = request.model_spec
        return spec.version.value if spec.HasField("version") else max(self.served.versions)


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, served):
        self.served = served

    @_refusing
    def GetModelStatus(self, request):
        return self.served.status()
