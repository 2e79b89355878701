"""Writes the final answer of a model as an ONNX file, for ONNX Runtime and what else reads that format."""

import os

import numpy as np
import tensorflow as tf

from srn_tf.serving.checking import check_installed, compare_probabilities, known_operations

FILE_NAME = "model.onnx"
OPSET = 17
TOLERANCE = 1e-4  # of probabilities, see `checking.probability_tolerance`

_ALMOST_ZERO = np.finfo(np.float32).tiny


def check_onnx_installed():
    """Raises InputError if the packages that write and check ONNX files are not there."""
    _check_installed("tf2onnx", "onnxruntime")


def write_onnx(folder, graph, model, answer):
    """Writes model.onnx, and compares it with the model in memory.

    Input: `image` float32 (N, S, S, 3), RGB, 0 to 255, resized already. Output: `probabilities` float32 (N, C).

    Args:
        folder: to write to.
        graph: InferenceGraph of the model, float32.
        model: MultiLabelModel.
        answer: what `checking.answer_in_memory` gave.
    Returns:
        (checks, run): its file name -> its largest difference, the tolerance and the opset; what `open_onnx` gives.
    Raises:
        InputError: packages are missing, the model has operations that cannot be written or run, or a difference
            above the tolerance.
    """
    check_onnx_installed()
    import tf2onnx

    path = os.path.join(folder, FILE_NAME)
    advice = "Export it without --onnx."
    with known_operations("An ONNX model", "tf2onnx and ONNX Runtime", advice):
        tf2onnx.convert.from_graph_def(
            _graph_def(graph, model),
            input_names=["image:0"],
            output_names=["probabilities:0"],
            tensors_to_rename={"image:0": "image", "probabilities:0": "probabilities"},
            opset=OPSET,
            output_path=path,
        )
        run = open_onnx(path)
        check = compare_probabilities(run, model, answer, TOLERANCE, "An ONNX model", advice)
    return {FILE_NAME: {**check, "opset": OPSET}}, run


def open_onnx(path):
    """Opens an ONNX file of `write_onnx`.

    Args:
        path: of the file.
    Returns:
        function, float32 (N, S, S, 3) -> probabilities float32 (N, C); any thread may call it.
    Raises:
        InputError: ONNX Runtime is missing. What the file causes is of any type.
    """
    _check_installed("onnxruntime")
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda image: session.run(["probabilities"], {"image": image})[0]


def _check_installed(*modules):
    check_installed("ONNX files", modules, "requirements-onnx.txt", "tf2onnx onnx onnxruntime")


def _graph_def(graph, model):
    """The graph for tf2onnx.

    ONNX Runtime (1.23 and 1.31) takes zeros laid around a map before max pooling for no padding, which counts as
    minus infinity there. It leaves alone what is not quite zero, so zeros become the smallest float32. Loops stay one
    operation each: tf2onnx (1.17) does not know the type of what a loop in pieces fills.
    """
    graph_def = graph.as_graph_def(model.final)
    almost_zero = graph_def.node.add(name="almost_zero", op="Const")
    almost_zero.attr["dtype"].type = tf.float32.as_datatype_enum
    almost_zero.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(_ALMOST_ZERO))
    pooled = {name for node in graph.nodes if node.op == "MaxPool" for name in node.input}
    for node in graph_def.node:
        node.attr.pop("_lower_using_switch_merge", None)
        if node.op == "Pad" and node.name in pooled:
            node.op = "PadV2"
            node.input.append(almost_zero.name)
    return graph_def
