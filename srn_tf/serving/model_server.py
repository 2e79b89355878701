"""OpenVINO Model Server as an engine: an export reads the image files, and the server's network of pixels answers.

The server has no strings, so labels and thresholds are the export's. It speaks TensorFlow Serving's interfaces.
"""

import numpy as np

from srn_tf.errors import InputError
from srn_tf.serving.client import connect, latest_version, no_answer
from srn_tf.serving.client_retry import ServerError
from srn_tf.serving.engines import PixelEngine

_MOST_IMAGES = 8  # a request: as numbers of JSON, an image of 448 pixels takes about 4 MB


class ModelServerEngine(PixelEngine):
    """Asks the version that is served at the beginning, throughout.

    Args:
        path: folder of the export whose OpenVINO model is served.
        num_labels: C, of the export.
        server, model_name, timeout_s, retries: as of `client.ServerPredictor`.
    Raises:
        InputError: the export has no reader; not such an address; no answer; or another model.
    """

    def __init__(self, path, num_labels, server, model_name="srn", timeout_s=60.0, retries=5):
        super().__init__(path, "openvino of the server", "--openvino=float32")
        self._num_labels = num_labels
        self._server, self._model_name = server, model_name
        self._connection = connect(server, model_name, timeout_s, retries)
        try:
            self._version = latest_version(self._connection)
            inputs, outputs = self._connection.signature(self._version)
        except ServerError as error:
            raise no_answer(error, server, model_name) from error
        self.served = f"{model_name} {self._version}"
        if inputs != {"image"} or outputs != {"probabilities"}:
            raise InputError(
                "With --saved_model, the server must be OpenVINO Model Server with that export's model, which takes "
                f"image and gives probabilities. Received: {model_name} on {server}, which takes "
                f"{', '.join(sorted(inputs)) or 'nothing'} and gives {', '.join(sorted(outputs)) or 'nothing'}. Check "
                "the model's name; for TensorFlow Serving, give --server alone."
            )

    def run(self, image):
        """See `PixelEngine`; InputError if the server gives no answer, or another model's."""
        parts = [self._ask(image[start : start + _MOST_IMAGES]) for start in range(0, len(image), _MOST_IMAGES)]
        return np.concatenate(parts)

    def _ask(self, image):
        try:
            answer = self._connection.predict_pixels(self._version, image)
        except ServerError as error:
            raise no_answer(error, self._server, self._model_name) from error
        expected = (len(image), self._num_labels)
        if answer.shape != expected or not ((answer >= 0) & (answer <= 1)).all():  # so written that NaN is found
            raise InputError(
                f"The server must serve the model of the export, with probabilities of shape {expected}. Received from "
                f"{self._model_name} on {self._server}: {answer.shape}, or values that are not from 0 to 1. Check what "
                "is served there."
            )
        return answer
