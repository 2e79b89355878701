"""Writes the final answer of a model for OpenVINO, in float32, for bfloat16 or quantized to int8."""

import json
import os
import shutil

from srn_tf.serving.checking import compare_probabilities
from srn_tf.serving.openvino_model import (
    ADVICE,
    FILE_NAME,
    WHAT,
    check_openvino_installed,
    convertible,
    describe_model,
    open_model,
)
from srn_tf.serving.quantization import quantize_within

KINDS = ("none", "float32", "bfloat16", "int8")

TOLERANCES = {"float32": 1e-4, "bfloat16": 0.1, "int8": 1.0}
"""Of probabilities, see `checking.probability_tolerance`. On noise, int8 may answer anything: its mAP judges it."""

PREPROCESSING = (
    "float32 RGB from 0 to 255; files turned upright by EXIF, transparency over white; resized to the input's size "
    "without keeping the aspect, bilinear, antialiased where it shrinks"
)


def write_openvino(folder, graph, model, answer, labels, thresholds, kind, validation=None):
    """Writes openvino/model.xml and model.bin, and compares them with the model in memory.

    Input: `image` float32 (N, S, S, 3), RGB, 0 to 255, resized already. Output: `probabilities` float32 (N, C). Labels,
    thresholds, preprocessing and precision are in the file, as its rt_info "srn_tf".

    Args:
        folder: to write to.
        graph: InferenceGraph of the model, float32.
        model: MultiLabelModel.
        answer: what `checking.answer_in_memory` gave.
        labels: C label names.
        thresholds: float64 (C,).
        kind: one of `KINDS`, but "none".
        validation: quantization.Validation, for int8.
    Returns:
        (checks, run, quantization): its file name -> its largest difference, the tolerance and the precision; what
        `openvino_model.open_model` gives; what `quantization.quantize_within` says, None unless int8.
    Raises:
        InputError: packages are missing, the model has operations that cannot be written, a difference above the
            tolerance, or int8 loses too much on the validation images.
    """
    check_openvino_installed()
    import openvino

    path = os.path.join(folder, FILE_NAME)
    os.makedirs(os.path.dirname(path))
    graph_file = os.path.join(folder, "graph.pb")
    with open(graph_file, "wb") as file:
        file.write(graph.as_graph_def(model.final).SerializeToString())
    with convertible():
        converted = openvino.Core().read_model(graph_file)
    converted.inputs[0].set_names({"image"})
    converted.outputs[0].set_names({"probabilities"})
    quantization = None
    if kind == "int8":
        converted, quantization = quantize_within(converted, labels, thresholds, model.image_size, validation)
    about = {"labels": json.dumps(labels), "thresholds": json.dumps(thresholds.tolist())}
    describe_model(converted, {**about, "preprocessing": PREPROCESSING, "precision": kind})
    with convertible():
        openvino.save_model(converted, path, compress_to_fp16=False)
        run = open_model(path)
        check = compare_probabilities(run, model, answer, TOLERANCES[kind], f"{WHAT} in {kind}", ADVICE)
    os.unlink(graph_file)
    return {FILE_NAME: {**check, "precision": kind}}, run, quantization


def link_for_model_server(folder, extra):
    """Puts the files of `write_openvino` into a version's own folder as well, where OpenVINO Model Server finds them.

    It looks there for a pair of .xml and .bin before it takes a SavedModel, and TensorFlow Serving passes them over: so
    both servers serve the same folder of versions. The files are linked, which takes no space, or else copied.

    Args:
        folder: of the version.
        extra: what was `folder` in `write_openvino`.
    """
    path = os.path.join(extra, FILE_NAME)
    for file in (path, f"{os.path.splitext(path)[0]}.bin"):
        linked = os.path.join(folder, os.path.basename(file))
        try:
            os.link(file, linked)
        except OSError:  # a file system without links
            shutil.copyfile(file, linked)
