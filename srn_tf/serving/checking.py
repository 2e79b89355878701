"""Compares what was written with the model in memory, on odd images, before anyone is served by it."""

import numpy as np
import tensorflow as tf

from srn_tf.data.preprocessing import preprocess_upright, squash
from srn_tf.errors import InputError
from srn_tf.serving.signatures import PIXELS

TOLERANCES = {
    "float32": {"probabilities": 1e-5, "other outputs": 1e-4},
    "bfloat16": {"probabilities": 0.1, "other outputs": 0.3},
}
"""Largest differences allowed: of probabilities, and of any other output as a share of its largest magnitude."""

BATCH_SIZES = (1, 3)


def compare(model, labels, thresholds, signatures, precision):
    """Compares every output of every signature with the model in memory.

    Args:
        model: MultiLabelModel.
        labels: C label names.
        thresholds: float64 (C,).
        signatures: name -> loaded signature of the SavedModel.
        precision: key of `TOLERANCES`.
    Returns:
        dict: "probabilities" and "other outputs" -> the largest difference, see `TOLERANCES`.
    Raises:
        InputError: other labels, another decision than a difference explains, or a difference that is too large or not
            a number.
    """
    largest = {"probabilities": [0.0], "other outputs": [0.0]}
    # On the CPU: a GPU's convolutions may use fewer bits (TF32) and another algorithm each time.
    with tf.device("/cpu:0"):
        answer = answer_in_memory(model)
        for name, signature in signatures.items():
            ((argument, _),) = signature.structured_input_signature[1].items()
            for batch_size in BATCH_SIZES:
                images = odd_pixels(batch_size) if argument == PIXELS else odd_files()[:batch_size]
                received = {key: value.numpy() for key, value in signature(**{argument: tf.constant(images)}).items()}
                expected = answer(_as_seen(images, model.image_size))
                for key, values in received.items():
                    if key == "labels":
                        _check_labels(values, labels, name)
                    elif key == "predicted":
                        p = expected["probabilities"]
                        largest["probabilities"].append(np.where(values == (p > thresholds), 0.0, p - thresholds))
                    elif key == "probabilities":
                        largest[key].append(values - expected[key])
                    else:
                        scale = np.abs(expected[key]).max()
                        largest["other outputs"].append((values - expected[key]) / (scale or 1.0))
    return check_differences(largest, TOLERANCES[precision], "A written model")


def check_differences(differences, tolerances, what):
    """Finds the largest differences and refuses those above their tolerance.

    Args:
        differences: key -> list of arrays.
        tolerances: key -> largest one allowed.
        what: what was compared with the model in memory, for the message.
    Returns:
        dict: key -> largest magnitude.
    Raises:
        InputError: one is too large or not a number.
    """
    largest = {key: float(np.max([np.abs(part).max() for part in parts])) for key, parts in differences.items()}
    for key, value in largest.items():
        if not value <= tolerances[key]:  # so written that NaN is refused
            raise InputError(
                f"{what} must answer as the one in memory, its {key} within {tolerances[key]:g}. Received: a largest "
                f"difference of {value:g}. Nothing was exported. Check the weights for values that are not finite."
            )
    return largest


def answer_in_memory(model):
    """A function from what the network sees to all outputs and probabilities, by the model itself.

    It runs as a graph, as evaluation does: single operations round differently from TensorFlow's fused ones.

    Args:
        model: MultiLabelModel.
    Returns:
        function: float32 (N, S, S, 3) -> dict of arrays: the model's outputs, "probabilities" and "embedding".
    """

    @tf.function(input_signature=[tf.TensorSpec(model.image.shape, tf.float32)])
    def outputs_of(image):
        return model.network(image, training=False)

    def answer(image):
        outputs = {name: values.numpy() for name, values in outputs_of(image).items()}
        outputs["probabilities"] = tf.sigmoid(outputs[model.final]).numpy()
        return {**outputs, "embedding": outputs.get(model.embedding)}

    return answer


def odd_files():
    """Three small image files as bytes: a non-square JPEG, a grey PNG and a PNG with alpha."""
    random = np.random.default_rng(0)

    def pixels(height, width, channels):
        return random.integers(0, 256, (height, width, channels), dtype=np.uint8)

    return [
        tf.io.encode_jpeg(pixels(37, 90, 3)).numpy(),
        tf.io.encode_png(pixels(131, 64, 1)).numpy(),
        tf.io.encode_png(pixels(53, 29, 4)).numpy(),
    ]


def odd_pixels(count):
    """uint8 (count, 61, 97, 3), noise."""
    return np.random.default_rng(1).integers(0, 256, (count, 61, 97, 3), dtype=np.uint8)


def _as_seen(images, size_px):
    """Image files or pixels as the network sees them: float32 (N, S, S, 3)."""
    if isinstance(images, np.ndarray):
        return squash(tf.cast(images, tf.float32), size_px)
    return tf.stack([preprocess_upright(tf.constant(file), size_px) for file in images])


def _check_labels(values, labels, name):
    served = [[label.decode("utf-8") for label in row] for row in values]
    if served != [list(labels)] * len(served):
        raise InputError(
            f"Signature {name} must name the labels in order. Expected: {labels}. Received: {served[0]}. "
            "Nothing was exported."
        )
