"""Over REST anything may answer: what is no TensorFlow Serving is said to be none. And no TensorFlow is needed."""

import http.server
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.serving.client import ServerPredictor
from tests.serving.asking import IMAGES
from tests.serving.model_server_rest import RestServer

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b"[]", b'{"model_version_status": [{"version": "a"}]}', b"\xff"]
)
def test_a_server_of_another_kind(body):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        with pytest.raises(InputError, match="not in TensorFlow Serving's format.* Check that it is a model server"):
            ServerPredictor(f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()


def test_a_gateway_says_no_in_its_own_words():
    """A plain socket that answers with 403 and no JSON, but a terminal's escape sequence."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse():
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.sendall(
                b"HTTP/1.1 403 Forbidden\r\nContent-Length: 12\r\nConnection: close\r\n\r\nkeep\n\x1b[1mout"
            )
            connection.close()

        threading.Thread(target=refuse, daemon=True).start()
        with pytest.raises(
            InputError, match="Received from srn on .*: HTTP status 403, keep \\[1mout. Check that it is"
        ):
            ServerPredictor(f"http://127.0.0.1:{listener.getsockname()[1]}")


def test_rest_needs_no_tensorflow(served_model, expected):
    program = """
import sys
for name in ("tensorflow", "keras", "grpc"):
    sys.modules[name] = None
from srn_tf.serving.client import ServerPredictor
served = ServerPredictor(sys.argv[1])
image = sys.stdin.buffer.read()
print(" ".join(str(p) for p in served.predict([image])[0]))
"""
    server = RestServer(served_model)
    command = [sys.executable, "-c", program, server.address]
    result = subprocess.run(command, cwd=ROOT, input=IMAGES[0], capture_output=True, timeout=60)
    server.stop()
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(np.array(result.stdout.split(), float), expected["probabilities"][0], rtol=0, atol=1e-6)
