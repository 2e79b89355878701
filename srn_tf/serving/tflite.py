"""Writes the final answer of a model as a TensorFlow Lite file, for phones and small devices."""

import os

import numpy as np
import tensorflow as tf

from srn_tf.data.preprocessing import preprocess
from srn_tf.serving.checking import answer_in_memory, check_differences, odd_files

KINDS = ("none", "float16", "dynamic")
"""float16: weights of half the size; dynamic: weights of 8 bits, a quarter of the size, products in integers."""

TOLERANCES = {"float16": {"probabilities": 0.01}, "dynamic": {"probabilities": 0.1}}

LABELS_FILE = "labels.txt"


def write_tflite(folder, graph, model, labels, kind):
    """Writes model_<kind>.tflite and labels.txt, and compares the former with the model in memory.

    Input: `image` float32 (1, S, S, 3), RGB, 0 to 255, resized already. Output: `probabilities` float32 (1, C).

    Args:
        folder: to write to.
        graph: InferenceGraph of the model, float32.
        model: MultiLabelModel.
        labels: C label names, a line each.
        kind: one of `KINDS`.
    Returns:
        dict: its file name -> its largest difference and the tolerance.
    Raises:
        InputError: a difference above `TOLERANCES`.
    """
    module = tf.Module()
    network, module.model_weights = graph.as_function()
    size_px = model.image_size

    @tf.function(input_signature=[tf.TensorSpec([1, size_px, size_px, 3], tf.float32, name="image")], autograph=False)
    def answer(image):
        return {"probabilities": tf.sigmoid(network(image)[model.final])}

    converter = tf.lite.TFLiteConverter.from_concrete_functions([answer.get_concrete_function()], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    content = converter.convert()
    name = f"model_{kind}.tflite"
    with open(os.path.join(folder, name), "wb") as file:
        file.write(content)
    with open(os.path.join(folder, LABELS_FILE), "w", encoding="utf-8") as file:
        file.writelines(f"{label}\n" for label in labels)
    difference = _largest_difference(content, model, kind)
    return {name: {"largest_difference": difference, "tolerance": TOLERANCES[kind]}}


def _largest_difference(content, model, kind):
    run = tf.lite.Interpreter(model_content=content).get_signature_runner()
    answer = answer_in_memory(model)
    images = [preprocess(tf.constant(file), model.image_size)[tf.newaxis] for file in odd_files()]
    differences = [run(image=image)["probabilities"] - answer(image)["probabilities"] for image in images]
    return check_differences({"probabilities": np.array(differences)}, TOLERANCES[kind], f"A {kind} TFLite model")
