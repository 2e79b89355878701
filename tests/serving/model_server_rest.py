"""TensorFlow Serving's REST interface, written after its documentation (the page "RESTful API")."""

import base64
import contextlib
import inspect
import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import numpy as np
from google.protobuf import json_format

from tests.serving.model_server import Code, ModelServer, Refusal

# http_server.cc of TensorFlow Serving, ToHTTPStatusCode.
HTTP_STATUSES = {
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.UNAVAILABLE: 503,
    Code.INTERNAL: 500,
}


class RestServer(ModelServer):
    """Attributes: half_answers, how many of the next answers break off half-way; is_openvino, whether it is to be
    OpenVINO Model Server, after its page "TensorFlow Serving compatible RESTful API"."""

    half_answers = 0
    is_openvino = False

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}"

    def listen(self, port):
        self.connections = []
        self._http = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_RestHandler,), {"served": self}))
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self._http.server_address[1]

    def close(self):
        self._http.shutdown()
        self._http.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)


class _RestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(/metadata|:predict)?")

    def setup(self):
        super().setup()
        self.served.connections.append(self.connection)

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except ConnectionError:  # the server has died, or the client has gone
            self.close_connection = True

    def do_GET(self):
        self._answer(b"")

    def do_POST(self):
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body):
        try:
            status, answer = 200, self._process(body)
        except Refusal as refusal:
            status, answer = HTTP_STATUSES[refusal.code], {"error": str(refusal)}
        data = json.dumps(answer, ensure_ascii=False, indent=4).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "POST" and self.served.half_answers:
            self.served.half_answers -= 1
            self.wfile.write(data[: len(data) // 2])
            raise ConnectionAbortedError
        self.wfile.write(data)

    def _process(self, body):
        """The answer to a request as what json.dumps takes; NaN and Infinity become these words."""
        match = self.PATH.fullmatch(self.path)
        if not match or (match[3] == ":predict") != (self.command == "POST"):
            raise Refusal(Code.INVALID_ARGUMENT, f"Malformed request: {self.command} {self.path}")
        self.served.check_name(unquote(match[1]))
        version = int(match[2]) if match[2] else max(self.served.versions)
        if match[3] == ":predict":
            return {"predictions": _rows(self.served.predict(version, _instances(json.loads(body))))}
        if match[3] == "/metadata":
            answer, signatures = self.served.metadata(version)
            signatures = _as_json(signatures)
            if self.served.is_openvino:
                signatures = {"signatureDef": signatures["signature_def"]}
            return {"model_spec": _as_json(answer.model_spec), "metadata": {"signature_def": signatures}}
        return _as_json(self.served.status())

    def log_message(self, *_):
        pass


def _instances(body):
    """The images of a row-format request, in which an instance of a signature with one input may be its value."""
    if set(body) == {"instances"} and all(set(instance) == {"image"} for instance in body["instances"]):
        return np.array([instance["image"] for instance in body["instances"]], np.float32)
    if set(body) != {"instances"} or not all(set(instance) == {"b64"} for instance in body["instances"]):
        raise Refusal(Code.INVALID_ARGUMENT, "JSON Value is not formatted correctly for base64 data")
    return [base64.b64decode(instance["b64"], validate=True) for instance in body["instances"]]


def _rows(outputs):
    num_rows = len(next(iter(outputs.values())))
    if len(outputs) == 1:
        return [_values(row) for (values,) in [outputs.values()] for row in values]
    return [{name: _values(values[row]) for name, values in outputs.items()} for row in range(num_rows)]


def _values(array):
    """A row as JSON has it; of a float32 the digits that tell it from others."""
    if array.dtype == np.float32:
        return [float(str(value)) for value in array]
    return [value.decode() if isinstance(value, bytes) else value for value in array.tolist()]


def _as_json(message):
    names = ("including_default_value_fields", "always_print_fields_with_no_presence")  # until protobuf 4, from 5 on
    known = inspect.signature(json_format.MessageToDict).parameters
    options = {name: True for name in names if name in known}
    return json_format.MessageToDict(message, preserving_proto_field_name=True, **options)
