"""Writes the final answer of a model as a TensorFlow Lite file, for phones and small devices."""

import importlib.util
import os

import tensorflow as tf

from srn_tf.data.preprocessing import preprocess
from srn_tf.serving.checking import check_differences, known_operations, odd_files

KINDS = ("none", "float16", "dynamic")
"""float16: weights of half the size; dynamic: weights of 8 bits, a quarter of the size, products in integers."""

TOLERANCES = {"float16": {"probabilities": 0.01}, "dynamic": {"probabilities": 0.1}}

LABELS_FILE = "labels.txt"


def write_tflite(folder, graph, model, answer, labels, kind):
    """Writes model_<kind>.tflite and labels.txt, and compares the former with the model in memory.

    Input: `image` float32 (N, S, S, 3), RGB, 0 to 255, resized already; N is 1 until the interpreter's input is
    resized, which signature runners do by themselves. Output: `probabilities` float32 (N, C).

    Args:
        folder: to write to.
        graph: InferenceGraph of the model, float32.
        model: MultiLabelModel.
        answer: what `checking.answer_in_memory` gave.
        labels: C label names, a line each.
        kind: one of `KINDS`.
    Returns:
        dict: its file name -> its largest difference and the tolerance.
    Raises:
        InputError: operations that cannot be written or run, or a difference above `TOLERANCES`.
    """
    module = tf.Module()
    network, module.model_weights = graph.as_function()

    # With a batch of a fixed size the interpreter would take any other, and answer it wrongly without a word.
    @tf.function(input_signature=[tf.TensorSpec(model.image.shape, tf.float32, name="image")], autograph=False)
    def probabilities(image):
        return {"probabilities": tf.sigmoid(network(image)[model.final])}

    converter = tf.lite.TFLiteConverter.from_concrete_functions([probabilities.get_concrete_function()], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    with known_operations("A TFLite model", "TensorFlow Lite", "Export it without --tflite."):
        content = converter.convert()
        difference = _largest_difference(content, model, answer, kind)
    name = f"model_{kind}.tflite"
    with open(os.path.join(folder, name), "wb") as file:
        file.write(content)
    with open(os.path.join(folder, LABELS_FILE), "w", encoding="utf-8") as file:
        file.writelines(f"{label}\n" for label in labels)
    return {name: {"largest_difference": difference, "tolerance": TOLERANCES[kind]}}


def interpreter(**arguments):
    """The interpreter of TFLite files: LiteRT's where it is installed, since TensorFlow gives its own up for it.

    Args:
        arguments: its own: model_path or model_content.
    """
    if importlib.util.find_spec("ai_edge_litert") is None:
        return tf.lite.Interpreter(**arguments)
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(**arguments)


def _largest_difference(content, model, answer, kind):
    run = interpreter(model_content=content).get_signature_runner()
    images = tf.stack([preprocess(tf.constant(file), model.image_size) for file in odd_files()])
    expected = answer(images)["probabilities"]
    counts = (len(images), 1)  # a batch, and then a smaller one
    differences = [run(image=images[:count])["probabilities"] - expected[:count] for count in counts]
    remedy = f"{kind} weights change this model too much. Export it without --tflite={kind}."
    return check_differences({"probabilities": differences}, TOLERANCES[kind], f"The {kind} TFLite model", remedy)
