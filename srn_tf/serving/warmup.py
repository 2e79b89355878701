"""Requests that TensorFlow Serving answers for itself when it loads a model, so that no user's is the slow first one.

A version is announced as available only after them. Written to assets.extra/tf_serving_warmup_requests.
"""

import os

import numpy as np
import tensorflow as tf

from srn_tf.serving.signatures import IMAGE_BYTES, KNOWN, PIXELS

BATCH_SIZES = (1, 8)
"""Images a request; oneDNN and GPUs prepare themselves for each size anew."""


def write_warmup(folder, image_size, signatures):
    """Writes a request for every signature and batch size.

    Args:
        folder: of the SavedModel's assets.extra.
        image_size: side of the black images that are asked about, pixels.
        signatures: name -> loaded signature.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    pixels = np.zeros([image_size, image_size, 3], np.uint8)
    file = tf.io.encode_jpeg(pixels).numpy()
    with tf.io.TFRecordWriter(os.path.join(folder, "tf_serving_warmup_requests")) as writer:
        for name, signature in signatures.items():
            specs = signature.structured_input_signature[1]
            images = {PIXELS: pixels} if PIXELS in specs else {IMAGE_BYTES: file}
            known = {KNOWN: np.full(specs[KNOWN].shape[1:], -1, np.int32)} if KNOWN in specs else {}
            for batch_size in BATCH_SIZES:
                log = prediction_log_pb2.PredictionLog()
                request = log.predict_log.request
                request.model_spec.signature_name = name
                for argument, row in {**images, **known}.items():
                    request.inputs[argument].CopyFrom(tf.make_tensor_proto(np.stack([row] * batch_size)))
                writer.write(log.SerializeToString())
