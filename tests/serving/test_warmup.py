"""The warm-up file holds requests that every signature answers, as TensorFlow Serving reads them."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from srn_tf.serving.warmup import BATCH_SIZES


@pytest.fixture(scope="module")
def requests(served_folder):
    records = tf.data.TFRecordDataset(str(served_folder / "assets.extra" / "tf_serving_warmup_requests"))
    logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in records.as_numpy_iterator()]
    assert all(log.WhichOneof("log_type") == "predict_log" for log in logs)
    return [log.predict_log.request for log in logs]


@pytest.mark.slow
def test_every_signature_is_asked_with_every_batch_size_and_answers(served_folder, requests):
    signatures = tf.saved_model.load(str(served_folder)).signatures
    asked = [
        (request.model_spec.signature_name, value.tensor_shape.dim[0].size)
        for request in requests
        for value in request.inputs.values()
    ]
    assert len(signatures) == 4
    assert sorted(asked) == sorted((name, size) for name in signatures for size in BATCH_SIZES)
    for request in requests:
        signature = signatures[request.model_spec.signature_name]
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        assert set(inputs) == set(signature.structured_input_signature[1])
        answer = signature(**inputs)
        (batch_size,) = {len(values) for values in inputs.values()}
        assert all(len(values) == batch_size for values in answer.values())
        assert all(np.isfinite(values).all() for values in answer.values() if values.dtype == tf.float32)


def test_the_file_is_small_enough_to_be_read(requests):
    assert len(requests) <= 1000  # TensorFlow Serving refuses more
