"""Writes the final answer of a model as an ONNX file, for ONNX Runtime and what else reads that format."""

import os

import numpy as np
import tensorflow as tf

from srn_tf.data.preprocessing import preprocess
from srn_tf.errors import InputError
from srn_tf.program import install
from srn_tf.serving.checking import check_differences, known_operations, odd_files, probability_tolerance

FILE_NAME = "model.onnx"
OPSET = 17
TOLERANCE = 1e-4  # of probabilities, see `checking.probability_tolerance`

_ALMOST_ZERO = np.finfo(np.float32).tiny


def check_onnx_installed():
    """Raises InputError if the packages that write and check ONNX files are not there."""
    try:
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"Export to ONNX needs further packages. Received: no package {error.name}. Install them: "
            f"{install('requirements-onnx.txt', 'tf2onnx onnx onnxruntime')}"
        ) from None


def write_onnx(folder, graph, model, answer):
    """Writes model.onnx, and compares it with the model in memory.

    Input: `image` float32 (N, S, S, 3), RGB, 0 to 255, resized already. Output: `probabilities` float32 (N, C).

    Args:
        folder: to write to.
        graph: InferenceGraph of the model, float32.
        model: MultiLabelModel.
        answer: what `checking.answer_in_memory` gave.
    Returns:
        dict: its file name -> its largest difference, the tolerance and the opset.
    Raises:
        InputError: packages are missing, the model has operations that cannot be written or run, or a difference
            above the tolerance.
    """
    check_onnx_installed()
    import onnxruntime
    import tf2onnx

    path = os.path.join(folder, FILE_NAME)
    graph_def = _graph_def(graph, model)
    image = np.stack([preprocess(tf.constant(file), model.image_size) for file in odd_files()])
    with known_operations("An ONNX model", "tf2onnx and ONNX Runtime", "Export it without --onnx."):
        tf2onnx.convert.from_graph_def(
            graph_def,
            input_names=["image:0"],
            output_names=["probabilities:0"],
            tensors_to_rename={"image:0": "image", "probabilities:0": "probabilities"},
            opset=OPSET,
            output_path=path,
        )
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (received,) = session.run(["probabilities"], {"image": image})
    expected = answer(image)
    tolerances = {"probabilities": probability_tolerance(TOLERANCE, np.abs(expected[model.final]).max())}
    differences = {"probabilities": [received - expected["probabilities"]]}
    difference = check_differences(differences, tolerances, "An ONNX model", "Export it without --onnx.")
    return {FILE_NAME: {"largest_difference": difference, "tolerance": tolerances, "opset": OPSET}}


def _graph_def(graph, model):
    """The graph with an input and the probabilities, as TensorFlow 1 had it.

    ONNX Runtime (1.23 and 1.31) takes zeros laid around a map before max pooling for no padding, which counts as
    minus infinity there. It leaves alone what is not quite zero, so zeros become the smallest float32. Loops stay one
    operation each: tf2onnx (1.17) does not know the type of what a loop in pieces fills.
    """
    image = tf.compat.v1.NodeDef(name="image", op="Placeholder")
    image.attr["dtype"].type = tf.float32.as_datatype_enum
    image.attr["shape"].shape.CopyFrom(tf.TensorShape(model.image.shape).as_proto())
    almost_zero = tf.compat.v1.NodeDef(name="almost_zero", op="Const")
    almost_zero.attr["dtype"].type = tf.float32.as_datatype_enum
    almost_zero.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(_ALMOST_ZERO))
    answer = tf.compat.v1.NodeDef(name="probabilities", op="Sigmoid", input=[graph.outputs[model.final]])
    answer.attr["T"].type = tf.float32.as_datatype_enum
    graph_def = tf.compat.v1.GraphDef(node=[image, almost_zero, *graph.nodes, answer], library=graph.library)
    graph_def.versions.producer = tf.version.GRAPH_DEF_VERSION
    pooled = {name for node in graph.nodes if node.op == "MaxPool" for name in node.input}
    for node in graph_def.node:
        node.attr.pop("_lower_using_switch_merge", None)
        if node.op == "Pad" and node.name in pooled:
            node.op = "PadV2"
            node.input.append(almost_zero.name)
    return graph_def
