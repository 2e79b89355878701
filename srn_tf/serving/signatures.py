"""What an exported model can be asked, as TensorFlow functions from images to named answers."""

import numpy as np
import tensorflow as tf

from srn_tf.data.preprocessing import preprocess_upright, squash

IMAGE_BYTES = "image_bytes"
PIXELS = "pixels"
KNOWN = "known"


def build_signatures(network, model, labels, thresholds):
    """Makes the signatures of an export; every output has N as its first axis, as TensorFlow Serving's rows want it.

    - serving_default: `image_bytes` string (N,), files of JPEG, PNG, BMP or GIF (first frame), of any sizes, seen
      as a person sees them or refused, see `data.preprocessing.decode_image` ->
      `probabilities` float32 (N, C), the sigmoid of the final logits; `labels` string (N, C), the label names in order,
      the same in every row; `predicted` bool (N, C), whether the label's probability exceeds its threshold.
    - serve_pixels: `pixels` uint8 (N, H, W, 3), RGB, of one size that may be any -> the same.
    - explain, if the model names what explains its answer: `image_bytes` -> the same, and each of those outputs under
      its name.
    - embed, if the model has an embedding: `image_bytes` -> `embedding` float32 (N, D).
    - serve_known, if the model answers where labels are known: `image_bytes` and `known` int32 (N, C), 1 for a label in
      the image, 0 for one that is not, -1 for all others -> as serving_default; what is known is answered as given.

    Args:
        network: function, float32 (N, S, S, 3), perhaps known labels float32 (N, C) -> dict of the model's outputs.
        model: models.model.MultiLabelModel, for its names.
        labels: C label names.
        thresholds: float64 (C,), in (0, 1).
    Returns:
        dict: name -> tf.function, not yet traced.
    """
    size_px = model.image_size
    highest_refused = _logits_below(thresholds)

    def read_pixels(pixels):
        with tf.device("/cpu:0"):
            return squash(tf.cast(pixels, tf.float32), size_px)

    def answer(image, names=()):
        outputs = network(image)
        return {
            "probabilities": tf.sigmoid(outputs[model.final]),
            "labels": tf.tile(tf.constant([labels]), [tf.shape(image)[0], 1]),
            "predicted": outputs[model.final] > highest_refused,
            **{name: outputs[name] for name in names},
        }

    def answer_knowing(image, known):
        outputs = network(image, tf.cast(known, tf.float32))
        logits, is_known = outputs[model.informed], known >= 0
        return {
            "probabilities": tf.where(is_known, tf.cast(known, tf.float32), tf.sigmoid(logits)),
            "labels": tf.tile(tf.constant([labels]), [tf.shape(image)[0], 1]),
            "predicted": tf.where(is_known, known > 0, logits > highest_refused),
        }

    def embed(image):
        return {"embedding": network(image)[model.embedding]}

    files = tf.TensorSpec([None], tf.string, name=IMAGE_BYTES)
    pixels = tf.TensorSpec([None, None, None, 3], tf.uint8, name=PIXELS)
    read_files = file_reader(size_px)  # built once for the three that call it
    signatures = {
        "serving_default": _signature(files, lambda image_bytes: answer(read_files(image_bytes))),
        "serve_pixels": _signature(pixels, lambda pixels: answer(read_pixels(pixels))),
    }
    if model.explanation:
        signatures["explain"] = _signature(
            files, lambda image_bytes: answer(read_files(image_bytes), model.explanation)
        )
    if model.embedding:
        signatures["embed"] = _signature(files, lambda image_bytes: embed(read_files(image_bytes)))
    if model.informed:
        known = tf.TensorSpec([None, len(labels)], tf.int32, name=KNOWN)
        signatures["serve_known"] = tf.function(
            lambda image_bytes, known: answer_knowing(read_files(image_bytes), known), [files, known], autograph=False
        )
    return signatures


def file_reader(size_px):
    """Makes the function that reads image files as the network sees them.

    Args:
        size_px: side S of the network's input, pixels.
    Returns:
        tf.function, `image_bytes` string (N,), see `build_signatures` -> float32 (N, S, S, 3), RGB, 0 to 255.
    """

    def read_files(image_bytes):
        with tf.device("/cpu:0"):  # decoding and antialiased resizing have no GPU kernels
            return tf.map_fn(
                lambda file: preprocess_upright(file, size_px),
                image_bytes,
                fn_output_signature=tf.TensorSpec([size_px, size_px, 3], tf.float32),
            )

    return _signature(tf.TensorSpec([None], tf.string, name=IMAGE_BYTES), read_files)


def contract(signatures):
    """Says what signatures take and give, as plain values.

    Args:
        signatures: name -> loaded signature of a SavedModel.
    Returns:
        dict: name -> {"inputs": {name: {"dtype", "shape"}}, "outputs": likewise}; None in a shape is any number.
    """

    def plain(specs):
        return {name: {"dtype": specs[name].dtype.name, "shape": specs[name].shape.as_list()} for name in sorted(specs)}

    return {
        name: {
            "inputs": plain(signature.structured_input_signature[1]),
            "outputs": plain(signature.structured_outputs),
        }
        for name, signature in signatures.items()
    }


def _signature(spec, function):
    return tf.function(function, input_signature=[spec], autograph=False)


def _logits_below(thresholds):
    """The same decision on logits, which float32 tells apart where probabilities are all 1.

    Args:
        thresholds: float64 (C,), in (0, 1).
    Returns:
        float32 (C,): for every float32 x, x is greater exactly where it is greater than the threshold's logit.
    """
    exact = np.log(thresholds / (1 - thresholds))
    rounded = exact.astype(np.float32)
    return np.where(rounded > exact, np.nextafter(rounded, np.float32(-np.inf)), rounded)
