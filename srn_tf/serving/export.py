"""Writes a model as a SavedModel folder that TensorFlow Serving loads: image files in, probabilities out."""

import logging
import os
import shutil

import numpy as np
import tensorflow as tf

import srn_tf
from srn_tf.data.preprocessing import preprocess
from srn_tf.errors import InputError
from srn_tf.evaluation.report import write_json
from srn_tf.serving.predictor import Predictor

logger = logging.getLogger("srn_tf")

TOLERANCE = 1e-5
"""Largest difference allowed between an output of the written model and of the one in memory."""

CHECKED_BATCH_SIZES = (1, 3)


def export(model, labels, path, thresholds=None):
    """Writes a model as a SavedModel that needs no code of this project to be loaded and served.

    Signatures; every output has N as its first axis, as TensorFlow Serving's row format wants it:
      - serving_default: `image_bytes` string (N,), files of JPEG, PNG, BMP or GIF (first frame), of any
        sizes -> `probabilities` float32 (N, C), the sigmoid of the final logits; `labels` string (N, C),
        the label names in order, the same in every row; `predicted` bool (N, C), whether the label's
        probability exceeds its threshold.
      - explain, only if the model has maps: the same, and each map under its name, float32 (N, H, W, C).
    Beside the graph lies assets.extra/export.json (labels, thresholds, image_size, outputs, srn_tf_version),
    which TensorFlow Serving ignores.

    The folder is written under a name that is no version number, loaded again and compared with the
    model in memory; only then does it get its final name.

    Args:
        model: MultiLabelModel; it may have been built under a tf.distribute strategy.
        labels: C label names in order.
        path: the folder to write, <base>/<version number>; missing parents are made.
        thresholds: float () or (C,), probabilities in (0, 1) of the final output, such as the values of
            evaluation.thresholds.Thresholds; None is 0.5.
    Raises:
        InputError: `path` exists or cannot be written, the number of labels is not C, or the written model
            does not answer as the one in memory does; nothing is left in `path`.
    """
    labels = [str(label) for label in labels]
    if len(labels) != model.num_labels:
        raise InputError(f"An export needs one name a label. Expected: {model.num_labels}. Received: {len(labels)}.")
    thresholds = np.broadcast_to(np.float64(0.5 if thresholds is None else thresholds), [model.num_labels])
    path = os.path.abspath(path)
    if os.path.lexists(path):
        raise InputError(f"An export must go to a new folder. Received: {path}, which exists. Use the next version.")
    base, version = os.path.split(path)
    temporary = os.path.join(base, f".writing-{version}")
    try:
        os.makedirs(base, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)  # of an export that was killed
        os.mkdir(temporary)
        outputs = _write(model, labels, thresholds, temporary)
        _write_description(temporary, model, labels, thresholds, outputs)
        difference = _check_same_answers(model, labels, thresholds, temporary)
        os.rename(temporary, path)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise InputError(
            f"An export must go to a folder that can be written. Received: {path} ({reason}). "
            "Check its parent's permissions and free space."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    logger.info("Exported to %s; loaded again, it differs by at most %.1e from the model in memory.", path, difference)


def _write(model, labels, thresholds, folder):
    """Writes the SavedModel.

    Returns:
        dict: signature name -> sorted names of its outputs.
    """
    outputs = {"serving_default": (model.final,)}
    if model.maps:
        outputs["explain"] = (model.final, *model.maps)
    signatures = {name: _signature(model, labels, thresholds, names) for name, names in outputs.items()}
    # Only the variables are tracked: with the Keras model itself, its layers' own functions would be written too.
    module = tf.Module()
    module.model_weights = [_tf_variable(weight) for weight in model.network.weights]
    # The signatures are tf.functions and not yet traced: they are traced while they are saved, when a
    # variable of a distribution strategy reads as a single one.
    tf.saved_model.save(module, folder, signatures=signatures)
    return {name: sorted({"probabilities", "labels", "predicted", *names[1:]}) for name, names in outputs.items()}


def _signature(model, labels, thresholds, names):
    """A tf.function from image files to the answer and the maps among `names`; the logits come first."""
    network = model.network_for(names)
    final, *maps = names
    highest_refused = _logits_below(thresholds)
    size_px = model.image_size

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def answer(image_bytes):
        with tf.device("/cpu:0"):  # decoding and antialiased resizing have no GPU kernels
            image = tf.map_fn(
                lambda one: preprocess(one, size_px),
                image_bytes,
                fn_output_signature=tf.TensorSpec([size_px, size_px, 3], tf.float32),
            )
        outputs = network(image, training=False)
        return {
            "probabilities": tf.sigmoid(outputs[final]),
            "labels": tf.tile(tf.constant([labels]), [tf.shape(image_bytes)[0], 1]),
            "predicted": outputs[final] > highest_refused,
            **{name: outputs[name] for name in maps},
        }

    return answer


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


def _tf_variable(weight):
    """The tf.Variable of a Keras weight: itself in Keras 2, wrapped in Keras 3."""
    return weight if isinstance(weight, tf.Variable) else weight.value


def _write_description(folder, model, labels, thresholds, outputs):
    extra = os.path.join(folder, "assets.extra")
    os.mkdir(extra)
    write_json(
        os.path.join(extra, "export.json"),
        {
            "labels": labels,
            "thresholds": thresholds.tolist(),
            "image_size": model.image_size,
            "outputs": outputs,
            "srn_tf_version": srn_tf.__version__,
        },
    )


def _check_same_answers(model, labels, thresholds, folder):
    """Compares every output of every signature with the model in memory, on odd images.

    Returns:
        float: the largest difference; of a label predicted there and not here, how far it is from its threshold.
    Raises:
        InputError: other labels, or a difference above `TOLERANCE` or not a number.
    """
    images = _odd_images()
    differences = []
    # On the CPU: a GPU's convolutions may use fewer bits (TF32) and another algorithm each time.
    with tf.device("/cpu:0"):
        served = Predictor(folder)
        answer = _answer_in_memory(model)
        for batch_size in CHECKED_BATCH_SIZES:
            batch = images[:batch_size]
            expected = {name: values.numpy() for name, values in answer(batch).items()}
            p = expected["probabilities"]
            differences.append(served.predict(batch) - p)
            predicted = np.array([[label in names for label in labels] for names in served.predict_labels(batch)])
            differences.append(np.where(predicted == (p > thresholds), 0.0, p - thresholds))
            if model.maps:
                explained = served.explain(batch)
                differences += [explained[name] - expected[name] for name in expected]
    difference = float(np.max([np.abs(values).max() for values in differences]))
    if served.labels != labels or not difference <= TOLERANCE:  # so written that NaN is refused
        raise InputError(
            f"A written model must answer as the one in memory, within {TOLERANCE:g}. Received: a largest difference "
            f"of {difference:g}. Nothing was exported. Check the weights for values that are not finite."
        )
    return difference


def _answer_in_memory(model):
    """A function from a list of image files to the probabilities and all maps, by the model itself.

    It runs as a graph, as evaluation does: single operations round differently from TensorFlow's fused ones.
    """
    network = model.network_for((model.final, *model.maps))
    prepare = tf.function(lambda image: preprocess(image, model.image_size))

    @tf.function(input_signature=[tf.TensorSpec(model.image.shape, tf.float32)])
    def answer(image):
        outputs = network(image, training=False)
        return {"probabilities": tf.sigmoid(outputs[model.final]), **{name: outputs[name] for name in model.maps}}

    return lambda images: answer(tf.stack([prepare(tf.constant(image)) for image in images]))


def _odd_images():
    """Three small image files as bytes: a non-square JPEG, a grey PNG and a PNG with alpha."""
    random = np.random.default_rng(0)

    def pixels(height, width, channels):
        return random.integers(0, 256, (height, width, channels), dtype=np.uint8)

    return [
        tf.io.encode_jpeg(pixels(37, 90, 3)).numpy(),
        tf.io.encode_png(pixels(131, 64, 1)).numpy(),
        tf.io.encode_png(pixels(53, 29, 4)).numpy(),
    ]
