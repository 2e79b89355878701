"""Writes a model as a SavedModel folder that TensorFlow Serving loads: image files in, probabilities out."""

import functools
import logging
import os
import shutil

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from srn_tf.errors import InputError
from srn_tf.serving.checking import DifferenceError, answer_in_memory, compare, effect_of_rounding
from srn_tf.serving.description import Provenance, describe, write_description
from srn_tf.serving.engines import EXTRA, write_reader
from srn_tf.serving.inference_graph import (
    PRECISIONS,
    WEIGHTS,
    batch_norms_as_products,
    count_batch_norms,
    fold_batch_norms,
    to_bfloat16,
    trace,
)
from srn_tf.serving.onnx_file import check_onnx_installed, write_onnx
from srn_tf.serving.openvino_file import KINDS, link_for_model_server, write_openvino
from srn_tf.serving.openvino_model import check_openvino_installed
from srn_tf.serving.quantization import int8_note
from srn_tf.serving.signatures import build_signatures, contract
from srn_tf.serving.speed import measure_speed, speed_note
from srn_tf.serving.tflite import write_tflite
from srn_tf.serving.warmup import write_warmup

logger = logging.getLogger("srn_tf")


def export(
    model,
    labels,
    path,
    thresholds=None,
    precision="float32",
    tflite="none",
    is_onnx_wanted=False,
    provenance=None,
    weights="variables",
    openvino="none",
    validation=None,
):
    """Writes a model as a SavedModel that needs no code of this project to be loaded and served.

    Its signatures are those of `signatures.build_signatures`. Beside the graph, in assets.extra, which TensorFlow
    Serving ignores but for its own file, lie
      - export.json and model_card.md: what the model is, takes and gives, comes from, and is good for;
      - tf_serving_warmup_requests, see `warmup`;
      - if wanted, model_<kind>.tflite with labels.txt, model.onnx, and openvino/model.xml with model.bin. With one of
        the latter two, also the graph that reads image files for `engines`, and in export.json how fast each engine is.

    The folder is written under a name that is no version number, loaded again and compared with the
    model in memory; only then does it get its final name. BatchNorm is folded into the convolutions before it, unless
    that costs accuracy in float32, which is then said.

    Args:
        model: MultiLabelModel; it may have been built under a tf.distribute strategy.
        labels: C label names in order.
        path: the folder to write, <base>/<version number>; missing parents are made.
        thresholds: float () or (C,), probabilities in (0, 1) of the final output, such as the values of
            evaluation.thresholds.Thresholds; None is 0.5.
        precision: of activations and products: "float32", or "bfloat16". Outputs are float32 with either.
        tflite: one of `tflite.KINDS`, a TFLite file to write as well.
        is_onnx_wanted: write an ONNX file as well.
        provenance: description.Provenance, or None if nothing is known.
        weights: "variables", or "constants": faster, and of more memory, see `inference_graph`.
        openvino: one of `openvino_file.KINDS`, an OpenVINO model to write as well.
        validation: quantization.Validation, for openvino="int8".
    Raises:
        InputError: `path` exists or cannot be written, the number of labels is not C, an option is unknown, packages
            for ONNX or OpenVINO are missing, what was written does not answer as the model in memory does, or int8 has
            no validation images or loses too much on them; nothing is left in `path`.
    """
    labels = [str(label) for label in labels]
    if len(labels) != model.num_labels:
        raise InputError(
            f"labels must have one name per label of the model. Expected: {model.num_labels}. Received: {len(labels)}."
        )
    if precision not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}. Received: {precision!r}.")
    if weights not in WEIGHTS:
        raise InputError(f"weights must be one of {', '.join(WEIGHTS)}. Received: {weights!r}.")
    if openvino not in KINDS:
        raise InputError(f"openvino must be one of {', '.join(KINDS)}. Received: {openvino!r}.")
    if openvino == "int8" and validation is None:
        raise InputError("openvino='int8' needs validation images. Received: none. Give them as validation.")
    if is_onnx_wanted:
        check_onnx_installed()
    if openvino != "none":
        check_openvino_installed(*(["nncf"] if openvino == "int8" else []))
    thresholds = np.broadcast_to(np.float64(0.5 if thresholds is None else thresholds), [model.num_labels])
    path = os.path.abspath(path)
    if os.path.lexists(path):
        raise InputError(f"The export must go to a new folder. Received: {path}, which exists. Use the next version.")
    base, version = os.path.split(path)
    temporary = os.path.join(base, f".writing-{version}")
    try:
        os.makedirs(base, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)  # of an export that was killed
        wanted = (precision, weights, tflite, is_onnx_wanted, openvino, validation)
        checks, made = _write_version(temporary, model, labels, thresholds, *wanted, provenance or Provenance())
        os.rename(temporary, path)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise InputError(
            f"The export must go to a writable folder. Received: {path} ({reason}). Check its parent's permissions "
            "and free space."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for name, check in checks.items():
        logger.info(
            "Exported %s. Its probabilities differ by at most %.1e from those of the model in memory.",
            os.path.join(path, EXTRA, name) if name else path,
            check["largest_difference"]["probabilities"],
        )
    if "quantization" in made:
        logger.info("%s", int8_note(made["quantization"]))
    if "speed" in made:
        logger.info("%s", speed_note(made["speed"]))


def _write_version(
    folder, model, labels, thresholds, precision, weights, tflite, is_onnx_wanted, openvino, validation, provenance
):
    """Writes all files of a version and compares them with the model in memory.

    Returns:
        (checks, made): file name ("" is the SavedModel) -> its largest difference and the tolerance; as of
        `description.describe`.
    """
    extra = os.path.join(folder, EXTRA)
    steps = 3 + (tflite != "none") + is_onnx_wanted + (openvino != "none")
    quantization = None
    runs = {}  # of engines beside TensorFlow
    with tqdm(total=steps, unit="step", leave=False, disable=None) as progress:

        def begin(step):
            progress.set_description(f"export: {step}", refresh=True)
            progress.update()

        begin("trace")
        traced = trace(model.served_network, model.image_size)
        answer = answer_in_memory(model, traced.source)
        begin("write and compare")
        write = functools.partial(_write_saved_model, folder, model, answer, labels, thresholds, precision, weights)
        graph = fold_batch_norms(traced)
        folded = count_batch_norms(traced) - count_batch_norms(graph)
        try:
            loaded, check = write(graph)
        except DifferenceError:
            if precision != "float32":
                raise
            exact = trace(model.served_network, model.image_size, joins_batch_norms=False)
            loaded, check = write(exact, effect_of_rounding(model, exact))
            if folded:
                logger.warning(
                    "BatchNorm is not folded into the convolutions, because that would change this model's answers "
                    "by more than rounding. The export is correct, but somewhat slower on CPUs."
                )
            graph, folded = exact, 0
        batch_norms = {"folded": folded, "kept": _batch_norms_in(model) - folded}
        checks = {"": check}
        os.makedirs(extra)
        if tflite != "none":
            begin("TFLite")
            checks |= write_tflite(extra, graph, model, answer, labels, tflite)
        if is_onnx_wanted:
            begin("ONNX")
            check, runs["onnxruntime"] = write_onnx(extra, graph, model, answer)
            checks |= check
        if openvino != "none":
            begin("OpenVINO")
            check, runs["openvino"], quantization = write_openvino(
                extra, graph, model, answer, labels, thresholds, openvino, validation
            )
            checks |= check
            link_for_model_server(folder, extra)
        begin("describe")
        write_warmup(extra, model.image_size, loaded.signatures)
        signatures = contract(loaded.signatures)
        made = {"precision": precision, "weights": weights, "batch_norms": batch_norms}
        if runs:
            write_reader(folder, model.image_size)
            made["speed"] = _speed(loaded, runs, model.image_size)
        if quantization:
            made["quantization"] = quantization
        write_description(extra, describe(model, labels, thresholds, made, signatures, checks, provenance))
    return checks, made


def _speed(loaded, runs, image_size):
    """What `speed.measure_speed` says of a loaded SavedModel and of other engines."""
    serve_pixels = loaded.signatures["serve_pixels"]
    others = {name: lambda pixels, run=run: run(pixels.astype(np.float32)) for name, run in runs.items()}
    ours = {"tensorflow": lambda pixels: serve_pixels(pixels=tf.constant(pixels))["probabilities"].numpy()}
    return measure_speed(ours | others, image_size)


def _batch_norms_in(model):
    """The number of BatchNorms of a model, each of which has a moving variance."""
    return sum(address.endswith("/moving_variance") for address in model.weights)


def _write_saved_model(folder, model, answer, labels, thresholds, precision, weights, graph, rounding=None):
    """Writes the SavedModel alone, in the place of one that is there, and compares it.

    Args:
        answer: what `checking.answer_in_memory` gave.
        graph: InferenceGraph, float32.
        rounding: as of `checking.compare`.
        The others: as of `_write_version`.
    Returns:
        (loaded, check): what was written, loaded again; its largest difference and the tolerance.
    Raises:
        InputError: see `checking.compare`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    if precision == "bfloat16":
        served = to_bfloat16(graph)
    else:
        served = batch_norms_as_products(graph) if rounding is None else graph
    module = tf.Module()
    network, module.model_weights = served.as_function(weights, **({} if rounding is None else {"smallest": 1}))
    tf.saved_model.save(module, folder, signatures=build_signatures(network, model, labels, thresholds))
    loaded = tf.saved_model.load(folder)
    return loaded, compare(model, answer, labels, thresholds, loaded.signatures, precision, rounding)
