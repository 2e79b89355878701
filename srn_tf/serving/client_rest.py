"""TensorFlow Serving's REST interface. Needs no TensorFlow.

As its documentation says (the page "RESTful API"):
  - GET /v1/models/NAME gives {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": ...}, ...]};
  - GET /v1/models/NAME/versions/V/metadata gives {"metadata": {"signature_def": {"signature_def": {NAME: ...}}}};
  - POST /v1/models/NAME/versions/V:predict takes {"instances": [{"b64": BASE64}, ...]}, the row format of a signature
    with one input, and gives {"predictions": [{OUTPUT: VALUE, ...}, ...]}, a row an instance, with the words NaN and
    Infinity for such numbers; of a single output, the rows are its values alone;
  - an error has another status than 200, and gives {"error": TEXT}.
OpenVINO Model Server speaks it too, for numbers, and writes signatureDef (its page "TensorFlow Serving compatible
RESTful API").
"""

import base64
import contextlib
import json
from urllib.parse import quote

import numpy as np
import urllib3

from srn_tf.serving.client_retry import BUSY_STATUSES, ServerError, patience

_KINDS = {400: "invalid", 404: "not_found", **dict.fromkeys(BUSY_STATUSES, "unavailable")}
_SIGNATURES = ("signature_def", "signatureDef")
_DTYPES = {"probabilities": np.float32, "predicted": bool, "labels": str}


class RestConnection:
    """Asks one model of one server.

    urllib3, on which requests stands, is used as it is: it reads an answer to its end within the try, so that one
    that breaks off is asked for again. Proxies named in the environment are not used.

    Args:
        url: http://HOST:PORT or https://HOST:PORT.
        model_name: as the server knows it.
        timeout_s: seconds to wait for a connection, and then for the answer.
        retries: how often a request is sent again.

    Every method raises ServerError if there is no answer, or one in another form than TensorFlow Serving's.
    """

    def __init__(self, url, model_name, timeout_s, retries):
        self._pool = urllib3.PoolManager(maxsize=4, timeout=timeout_s, retries=patience(retries))
        self._model_url = f"{url}/v1/models/{quote(model_name, safe='')}"

    def versions(self):
        """dict: number of each version the server knows -> its state, e.g. "AVAILABLE"."""
        answer = self._ask("GET", self._model_url)
        with _documented_form():
            return {int(status["version"]): status["state"] for status in answer["model_version_status"]}

    def signature(self, version):
        """Names of the inputs and of the outputs of serving_default, two sets; empty if there is no such signature."""
        answer = self._ask("GET", f"{self._model_url}/versions/{version}/metadata")
        with _documented_form():
            signatures = answer["metadata"]["signature_def"]
            signature = signatures[next(name for name in _SIGNATURES if name in signatures)].get("serving_default", {})
            return set(signature.get("inputs", ())), set(signature.get("outputs", ()))

    def predict(self, version, images):
        """Asks serving_default.

        Args:
            version: int.
            images: list of N >= 1 bytes.
        Returns:
            dict: "probabilities" float32, "labels" str and, if the model has it, "predicted" bool; arrays with N as
            first axis if the server is right.
        """
        rows = self._predict(version, [{"b64": base64.b64encode(image).decode("ascii")} for image in images])
        with _documented_form():
            names = [name for name in _DTYPES if name in rows[0]]
            return {name: np.array([row[name] for row in rows], _DTYPES[name]) for name in names}

    def predict_pixels(self, version, image):
        """Asks a network of pixels.

        Args:
            version: int.
            image: float32 (N, S, S, 3), its one input.
        Returns:
            its output "probabilities", float32, N being the first axis if the server is right.
        """
        rows = self._predict(version, [{"image": one.tolist()} for one in image])
        with _documented_form():
            return np.array([row["probabilities"] if isinstance(row, dict) else row for row in rows], np.float32)

    def _predict(self, version, instances):
        """The rows of the answer to instances."""
        answer = self._ask("POST", f"{self._model_url}/versions/{version}:predict", {"instances": instances})
        with _documented_form():
            return answer["predictions"]

    def _ask(self, method, url, body=None):
        """Sends a request, again as often as it may, and returns the decoded answer."""
        try:
            response = self._pool.request(method, url, json=body)
        except urllib3.exceptions.HTTPError as error:
            raise ServerError("unavailable", str(getattr(error, "reason", error))) from error
        text = response.data.decode("utf-8", "replace")
        if response.status != 200:
            kind = _KINDS.get(response.status, "other")
            raise ServerError(kind, f"HTTP status {response.status}, {_error_text(text)}")
        with _documented_form():
            return json.loads(text)


def _error_text(text):
    """What {"error": TEXT} says, or whatever a gateway says instead."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(text)["error"])
    return text


@contextlib.contextmanager
def _documented_form():
    try:
        yield
    except (AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ServerError("other", f"an answer that is not in TensorFlow Serving's format, {reason}") from error
