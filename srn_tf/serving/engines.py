"""What computes the answers of an exported model: TensorFlow, or another runtime whose file lies beside its graph.

Whatever the engine, TensorFlow decodes the image files, by the export's own graph. So all engines see the same pixels
and refuse the same files.
"""

import abc
import json
import logging
import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from srn_tf.choices import ENGINES
from srn_tf.errors import InputError
from srn_tf.program import tool
from srn_tf.serving import onnx_file, openvino_model
from srn_tf.serving.signatures import IMAGE_BYTES, KNOWN, PIXELS, file_reader

EXTRA = "assets.extra"
"""Folder of an export for all that is not its SavedModel."""

EXPECTED = "An exported model must be a SavedModel folder, such as RUN/export/1."

_READER = os.path.join(EXTRA, "reader")
_SMALLEST_GAIN = 1.1  # times as fast, to be worth a line

logger = logging.getLogger("srn_tf")


class Engine(abc.ABC):
    """Answers image files with an exported model.

    Attributes:
        signatures: names of what it can be asked, see `signatures.build_signatures`.
        files: paths of what decides the answers, in order.
        served: str, what decides them elsewhere: the model of a server.
    """

    signatures = ("serving_default",)
    files = ()
    served = ""

    @abc.abstractmethod
    def ask(self, signature, files, known=None):
        """Answers one of its signatures.

        Args:
            signature: name of one that takes image files.
            files: list of N bytes.
            known: int32 (N, C), what serve_known takes besides; None for the others.
        Returns:
            dict: name -> array, N being its first axis, without the names of the labels; "predicted" only if the engine
            itself decides.
        Raises:
            tf.errors.InvalidArgumentError: a file that cannot be decoded.
        """

    @abc.abstractmethod
    def ask_pixels(self, pixels):
        """The probabilities of images that are already as large as the network's input.

        Args:
            pixels: uint8 (N, S, S, 3), RGB, N >= 1.
        Returns:
            float32 (N, C).
        """

    def lacking(self, signature, remedy):
        """Says, as the end of a sentence, why there is no such signature, and what to do."""
        return f"which has no signature {signature}. {remedy}."


class TensorFlowEngine(Engine):
    """The SavedModel itself, which has all signatures, and decides which labels are predicted.

    Args:
        path: folder of the export.
    Raises:
        InputError: it is a SavedModel of another project.
        Exception: what a damaged file causes is of nearly any type.
    """

    def __init__(self, path):
        self.files = [Path(path, "saved_model.pb"), *sorted(Path(path, "variables").glob("*"))]
        self._loaded = tf.saved_model.load(path)  # kept: the signatures do not keep the variables alive
        self.signatures = self._loaded.signatures
        signature = self.signatures.get("serving_default")
        inputs = signature.structured_input_signature[1] if signature else {}
        outputs = signature.structured_outputs if signature else {}
        if set(inputs) != {IMAGE_BYTES} or not {"probabilities", "labels"} <= set(outputs):
            raise InputError(
                f"{EXPECTED} Received: {path}, a SavedModel of another kind (its serving_default must take image_bytes "
                f"and give probabilities and labels). Make one with {tool('export')}."
            )

    def ask(self, signature, files, known=None):
        """See `Engine`."""
        asked = self.signatures[signature]
        if files:
            others = {} if known is None else {KNOWN: tf.constant(known)}
            outputs = asked(**{IMAGE_BYTES: tf.constant(files)}, **others)
        else:  # some of TensorFlow's convolutions refuse a batch of none
            specs = asked.structured_outputs
            outputs = {name: tf.zeros([0, *spec.shape[1:]], spec.dtype) for name, spec in specs.items()}
        return {name: values.numpy() for name, values in outputs.items() if name != "labels"}

    def ask_pixels(self, pixels):
        """See `Engine`."""
        return self.signatures["serve_pixels"](**{PIXELS: tf.constant(pixels)})["probabilities"].numpy()


class PixelEngine(Engine):
    """A network of pixels behind the export's own reader of image files.

    Args:
        path: folder of the export.
        name: of the engine, for messages.
        flag: what makes `tools/export.py` write what the engine needs.
    Raises:
        InputError: the export has no reader.
    """

    def __init__(self, path, name, flag):
        self._name = name
        if not os.path.isdir(os.path.join(path, _READER)):
            raise InputError(_lacking_file(name, _READER, path, flag))
        self._loaded = tf.saved_model.load(os.path.join(path, _READER))
        self._read = self._loaded.signatures["serving_default"]
        self.files = [Path(path, "saved_model.pb")]  # the thresholds are in its graph

    @abc.abstractmethod
    def run(self, image):
        """Gives the probabilities, float32 (N, C), of images float32 (N, S, S, 3), 0 to 255, N > 0."""

    def ask(self, signature, files, known=None):
        """See `Engine`."""
        if files:
            image = self._read(**{IMAGE_BYTES: tf.constant(files)})["image"].numpy()
        else:  # not every runtime takes a batch of none
            image = np.zeros([1, *self._read.structured_outputs["image"].shape[1:]], np.float32)
        return {"probabilities": self.run(image)[: len(files)]}

    def ask_pixels(self, pixels):
        """See `Engine`."""
        return self.run(pixels.astype(np.float32))

    def lacking(self, signature, remedy):
        """See `Engine`."""
        return f"asked by the engine {self._name}, which gives probabilities alone. Use the engine tensorflow."


class _FileEngine(PixelEngine):
    """A file of probabilities beside the SavedModel.

    A subclass has `name`, as the user gives it; `file`, its main file in `EXTRA`; `flag`, see `PixelEngine`; `open`,
    function from the file's path to one from pixels to probabilities.
    """

    def __init__(self, path):
        file = os.path.join(path, EXTRA, self.file)
        if not os.path.isfile(file):
            raise InputError(_lacking_file(self.name, os.path.join(EXTRA, self.file), path, self.flag))
        self._run = self.open(file)
        super().__init__(path, self.name, self.flag)
        self.files += [Path(file), *sorted(Path(file).parent.glob("*.bin"))]

    def run(self, image):
        """See `PixelEngine`."""
        return self._run(image)


def _lacking_file(name, file, path, flag):
    return (
        f"The engine {name} needs an export with {file}. Received: {path}, which has none. Export it again with "
        f"{tool('export')} {flag}, or use the engine tensorflow."
    )


class OpenVinoEngine(_FileEngine):
    """The OpenVINO model of `openvino_file.write_openvino`."""

    name, file, flag = "openvino", openvino_model.FILE_NAME, "--openvino=float32"
    open = staticmethod(openvino_model.open_model)


class OnnxRuntimeEngine(_FileEngine):
    """ONNX Runtime on the file of `onnx_file.write_onnx`."""

    name, file, flag = "onnxruntime", onnx_file.FILE_NAME, "--onnx"
    open = staticmethod(onnx_file.open_onnx)


_ENGINES = dict(zip(ENGINES, (TensorFlowEngine, OpenVinoEngine, OnnxRuntimeEngine), strict=True))


def open_engine(name, path):
    """Opens an export for one of the engines.

    Args:
        name: one of `choices.ENGINES`.
        path: folder of the export, which holds a SavedModel.
    Returns:
        Engine.
    Raises:
        InputError: no such engine, the export has no file for it, its packages are missing, or a file is damaged or of
            another project.
    """
    if name not in _ENGINES:
        raise InputError(f"engine must be one of {', '.join(ENGINES)}. Received: {name!r}.")
    try:
        return _ENGINES[name](path)
    except InputError:
        raise
    except Exception as error:  # damaged files surface as nearly any type
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{EXPECTED} Received: {path}, which cannot be loaded ({reason}). Export it again.") from error


def write_reader(folder, image_size):
    """Writes the graph that reads image files for engines that cannot, as a SavedModel of its own.

    Args:
        folder: of the export.
        image_size: side S of the network's input, pixels.
    """
    read_files = file_reader(image_size)

    @tf.function(input_signature=read_files.input_signature, autograph=False)
    def read(image_bytes):
        return {"image": read_files(image_bytes)}

    tf.saved_model.save(tf.Module(), os.path.join(folder, _READER), signatures=read)


def say_what_is_faster(path):
    """Says which engine of an export was faster than TensorFlow when it was exported, if one was.

    Args:
        path: folder of an export that is asked with TensorFlow.
    """
    try:
        with open(os.path.join(path, EXTRA, "export.json"), encoding="utf-8") as file:
            description = json.load(file)
        speed = description["speed"]
        rates = speed["images_per_s"]
        name = max(rates, key=rates.get)
        gain = rates[name] / rates["tensorflow"]
    except (OSError, ValueError, LookupError, TypeError):  # Not measured. Opening the export says what else is wrong.
        return
    if gain < _SMALLEST_GAIN:
        return
    quantized = description.get("quantization") if name == "openvino" else None
    lost = quantized["float32"]["mAP"] - quantized["int8"]["mAP"] if quantized else 0.0
    logger.info(
        "--engine=%s answers faster: when this was exported, its network alone took %.2f times as many images per "
        "second as TensorFlow's (batches of %d, %s)%s.",
        name,
        gain,
        speed["batch_size"],
        speed["processor"],
        f"; in int8, at a loss of {lost:.2f} mAP on the validation images" if quantized else "",
    )
