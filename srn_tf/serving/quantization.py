"""Quantizes an OpenVINO model to int8 after training, and says what that costs on the validation images."""

import contextlib
import dataclasses
import logging
import sys

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from srn_tf.data.pipeline import evaluation_batches
from srn_tf.errors import InputError
from srn_tf.evaluation.blocks import Rows
from srn_tf.evaluation.metrics import log_odds
from srn_tf.evaluation.protocols import Protocol, evaluate
from srn_tf.serving.inference_graph import followed_products
from srn_tf.serving.openvino_model import compile_model, convertible

logger = logging.getLogger("srn_tf")

METRICS = ("mAP", "F1-C", "F1-O")

_BATCH = 16  # images
_PRODUCTS = ("Convolution", "GroupConvolution", "MatMul")
# What may stand between two products in int8, as `inference_graph` has it for bfloat16.
_BETWEEN_PRODUCTS = ("Add", "Clamp", "Concat", "MaxPool", "Pad", "Relu", "Reshape", "Transpose", "scale")
_SCALES = ("Divide", "Multiply", "Subtract")  # by constants, as in a BatchNorm


@dataclasses.dataclass(frozen=True)
class Validation:
    """The images that a model is quantized for and judged on, which it was not trained on.

    Attributes:
        records: see `data.pipeline.read_records`.
        protocol: protocols.Protocol of their labels.
        calibration_images: how many of them decide the ranges of the activations: the first of every k, k whole.
        max_map_drop: the largest loss of mAP that is allowed, in percent.
    """

    records: tf.data.Dataset
    protocol: Protocol
    calibration_images: int = 300
    max_map_drop: float = 0.5


def quantize_within(model, labels, thresholds, image_size, validation):
    """Quantizes a model, and scores it and the float32 model on every validation image.

    At first sums are in 8 bits, too, which is fastest. If that loses more mAP than is allowed, they keep float32.

    Args:
        model: openvino.Model, float32; it stays as it is.
        labels: C label names.
        thresholds: float64 (C,).
        image_size: side S of the input, pixels.
        validation: Validation.
    Returns:
        (openvino.Model, dict): "validation_images", "calibration_images", "max_map_drop"; "float32" and "int8", the
        `METRICS` of each in percent; "layers_in_float32", names of products; "sums_in_float32", bool.
    Raises:
        InputError: mAP falls by more than is allowed either way, or no label has a positive.
    """
    images = calibration_images(image_size, validation)

    def score(name, scored):
        with convertible():
            run = compile_model(scored, name)
        return score_on_validation(name, run, labels, thresholds, image_size, validation)

    float32 = score("float32", model)
    drops = []
    for sums_in_float32 in (False, True):
        with convertible():
            quantized, in_float32 = quantize(model, images, sums_in_float32)
        int8 = score("int8", quantized)
        drops.append(float32["mAP"] - int8["mAP"])
        if drops[-1] <= validation.max_map_drop:
            return quantized, {
                "validation_images": int(validation.records.cardinality()),
                "calibration_images": len(images),
                "max_map_drop": validation.max_map_drop,
                "float32": float32,
                "int8": int8,
                "layers_in_float32": in_float32,
                "sums_in_float32": sums_in_float32,
            }
        if not sums_in_float32:
            logger.info("int8 with its sums costs %.2f mAP on the validation images. Trying sums in float32.", drops[0])
    raise InputError(
        f"int8 may cost at most {validation.max_map_drop:g} mAP on the validation images. Received: {drops[1]:.2f} of "
        f"{float32['mAP']:.2f} with sums in float32, {drops[0]:.2f} without. Nothing was exported. Calibrate it with "
        "more --calibration_images, export it with --openvino=float32, or allow a larger --max_map_drop."
    )


def calibration_images(image_size, validation):
    """Gives the images that decide the ranges of the activations.

    Args:
        image_size: side S of the input, pixels.
        validation: Validation.
    Returns:
        Iterable of known length, as NNCF reads it, as often as it likes: "image" -> float32 (1, S, S, 3).
    """
    num_images = int(validation.records.cardinality())
    count = min(validation.calibration_images, num_images)
    records = validation.records.shard(num_images // count, 0).take(count)
    return _Images(evaluation_batches(records, image_size, 1), count)


def quantize(model, images, sums_in_float32=False):
    """Quantizes the products of a model, and the activations that they read, to 8 bits.

    A product that no other follows before a softmax, a mean, an output or the like keeps float32: the answer is read
    from what it gives (scores, attention, logits), and it is a small part of the work. So does a product of two
    results, as in attention: of a softmax over many places, 8 bits leave few levels. So do all in loops.

    Weights take 7 of the 8 bits: on processors without VNNI, sums of two products of whole bytes overflow. So the
    answers do not depend on the processor.

    Args:
        model: openvino.Model, float32; it stays as it is.
        images: what `calibration_images` gives.
        sums_in_float32: sums (those of residual blocks, too), means and norms keep float32, and what linear layers read
            is scaled channel by channel before it is rounded (SmoothQuant, https://arxiv.org/abs/2211.10438, Eq. 3):
            NNCF's settings for transformers.
    Returns:
        (openvino.Model, names of the products that keep float32).
    """
    import nncf

    in_float32 = _kept_products(model)
    nncf.set_log_level(40)  # logging.ERROR
    with contextlib.redirect_stdout(sys.stderr):  # its progress
        quantized = nncf.quantize(
            model,
            nncf.Dataset(images),
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            subset_size=len(images),
            model_type=nncf.ModelType.TRANSFORMER if sums_in_float32 else None,
            ignored_scope=nncf.IgnoredScope(names=in_float32),
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
        )
    return quantized, in_float32


def score_on_validation(name, run, labels, thresholds, image_size, validation):
    """Scores a model on every validation image.

    Args:
        name: of the model, for the progress bar.
        run: function, float32 (N, S, S, 3) -> probabilities float32 (N, C).
        labels: C label names.
        thresholds: float64 (C,).
        image_size: side S of the input, pixels.
        validation: Validation.
    Returns:
        dict: the `METRICS`, percent.
    Raises:
        InputError: no label has a positive.
    """
    num_images = int(validation.records.cardinality())
    scores = Rows(num_images, len(labels), np.float64)
    truth = Rows(num_images, len(labels), np.int8)
    batches = evaluation_batches(validation.records, image_size, _BATCH)
    for batch in tqdm(batches, f"{name} on validation", unit="batch", leave=False, disable=None):
        is_real = batch["is_real"].numpy()
        truth.append(batch["labels"].numpy()[is_real])
        scores.append(log_odds(run(batch["image"].numpy())[is_real]))
    table = evaluate(scores.matrix(), truth.matrix(), validation.protocol, labels, thresholds)["all"]
    if table["mAP"] is None:
        raise InputError(
            f"int8 needs validation images with positive labels, to measure what it costs. Received: {num_images} "
            "without any. Export it with --openvino=float32."
        )
    return {metric: table[metric] for metric in METRICS}


def int8_note(quantization):
    """One line on what int8 costs.

    Args:
        quantization: dict of `quantize_within`.
    """
    before, after = quantization["float32"], quantization["int8"]
    parts = [f"{metric} {after[metric]:.2f} ({after[metric] - before[metric]:+.2f})" for metric in METRICS]
    return (
        f"OpenVINO in int8, on {quantization['validation_images']} validation images, against float32: "
        f"{', '.join(parts)}. Calibrated on {quantization['calibration_images']} of them; "
        f"{len(quantization['layers_in_float32'])} layers {'and all sums ' * quantization['sums_in_float32']}stay in "
        "float32."
    )


class _Images:
    """Batches of images alone, see `calibration_images`."""

    def __init__(self, batches, count):
        self._batches, self._count = batches, count

    def __iter__(self):
        return ({"image": batch["image"].numpy()} for batch in self._batches)

    def __len__(self):
        return self._count


def _kept_products(model):
    """Names of the products in an openvino.Model that keep float32, in order; those in loops are not among them."""
    operations = []
    weighted = set()  # operations of which a constant is read
    for operation in model.get_ordered_ops():
        read = [value.get_source_output().get_node() for value in operation.inputs()]
        kind = operation.get_type_name()
        if any(one.get_type_name() == "Constant" for one in read):
            weighted.add(operation.get_friendly_name())
            kind = "scale" if kind in _SCALES else kind
        operations.append((operation.get_friendly_name(), kind, [one.get_friendly_name() for one in read]))
    quantized = weighted & followed_products(operations, _PRODUCTS, _BETWEEN_PRODUCTS)
    return [name for name, kind, _ in operations if kind in _PRODUCTS and name not in quantized]
