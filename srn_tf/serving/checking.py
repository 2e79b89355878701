"""Compares what was written with the model in memory, on odd images, before anyone is served by it."""

import contextlib
import importlib
import re

import numpy as np
import tensorflow as tf

from srn_tf.data.preprocessing import preprocess, preprocess_upright, squash
from srn_tf.errors import InputError
from srn_tf.program import install
from srn_tf.serving.inference_graph import round_weights
from srn_tf.serving.signatures import IMAGE_BYTES, KNOWN, PIXELS
from srn_tf.tensor_float import tensor_float_32

TOLERANCES = {
    "float32": {"probabilities": 1e-5, "other outputs": 1e-4},
    "bfloat16": {"probabilities": 0.1, "other outputs": 0.3},
}
"""Largest differences allowed: of probabilities (see `probability_tolerance`), and of any other output as a share of
its largest magnitude."""

BATCH_SIZES = (1, 3)

_ROUNDED_BITS = 18  # of float32's 24: what that changes is far above what the order of sums does, and far below a fault
_ROUNDING_MARGIN = 4.0


class DifferenceError(InputError):
    """What was written answers otherwise than the model in memory, by more than is allowed."""


_UNKNOWN_OPERATIONS = re.compile(r"No conversion rule found for operations: *([^\n]+)")  # OpenVINO, after many lines


def check_installed(what, modules, requirements, packages):
    """Makes sure that what an optional kind of file needs can be imported.

    Args:
        what: needs it, begins the message.
        modules: names of modules.
        requirements, packages: as of `program.install`.
    Raises:
        InputError: one of them cannot; says how to install them.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise InputError(
                f"{what} need further packages. Received: no package {error.name}. Install them: "
                f"{install(requirements, packages)}"
            ) from None


@contextlib.contextmanager
def known_operations(what, who, advice):
    """Turns what fails within, of whatever kind, into one InputError.

    Args:
        what: is written, begins the sentence.
        who: must know its operations; the exceptions of converters and runtimes have no common class.
        advice: the last sentence.
    """
    try:
        yield
    except (InputError, OSError, MemoryError):  # which say another thing
        raise
    except Exception as error:
        unknown = _UNKNOWN_OPERATIONS.search(str(error))
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if unknown:
            reason = f"{unknown[1].strip()}, unknown to it."
        raise InputError(f"{what} must use only operations that {who} support. Received: {reason} {advice}") from error


def compare(model, answer, labels, thresholds, signatures, precision, rounding=None):
    """Compares every output of every signature with the model in memory.

    Args:
        model: MultiLabelModel.
        answer: what `answer_in_memory` gave.
        labels: C label names.
        thresholds: float64 (C,).
        signatures: name -> loaded signature of the SavedModel.
        precision: key of `TOLERANCES`.
        rounding: None, or what `effect_of_rounding` gave, which is then allowed as well.
    Returns:
        dict: "largest_difference" and "tolerance", each with "probabilities" and "other outputs", see `TOLERANCES`.
    Raises:
        DifferenceError: another decision than a difference explains, or a difference that is too large.
        InputError: other labels, or a model whose own answers are not finite.
    """
    differences = _Differences(model, thresholds)
    # On the CPU: a GPU's convolutions may use another algorithm each time.
    with tensor_float_32(False), tf.device("/cpu:0"):
        for name, signature in signatures.items():
            specs = signature.structured_input_signature[1]
            for batch_size in BATCH_SIZES:
                images = odd_pixels(batch_size) if PIXELS in specs else odd_files()[:batch_size]
                inputs = {PIXELS if PIXELS in specs else IMAGE_BYTES: images}
                if KNOWN in specs:
                    inputs[KNOWN] = odd_states(batch_size, model.num_labels)
                received = signature(**{key: tf.constant(value) for key, value in inputs.items()})
                received = {key: value.numpy() for key, value in received.items()}
                expected = answer(_as_seen(images, model.image_size), inputs.get(KNOWN))
                if "labels" in received:
                    _check_labels(received.pop("labels"), labels, name)
                differences.add(received, expected)
    tolerances = dict(TOLERANCES[precision])
    tolerances["probabilities"] = probability_tolerance(tolerances["probabilities"], differences.largest_logit)
    if rounding is not None:
        tolerances = {key: max(value, _ROUNDING_MARGIN * rounding[key]) for key, value in tolerances.items()}
    remedy = (
        "Rounding does not explain this. It is a defect: please report it."
        if precision == "float32"
        else f"{precision} changes this model too much. Export it in float32."
    )
    largest = check_differences(differences.parts, tolerances, "The exported model", remedy)
    return {"largest_difference": largest, "tolerance": tolerances}


def effect_of_rounding(model, graph):
    """How far answers move when every weight is rounded to 18 of its 24 bits.

    Two right computations of the same network differ by rounding alone, in the order of their sums. How much of that
    reaches an answer depends on the weights: a softmax of scores in the thousands magnifies it. What rounded weights
    change measures that magnification.

    Args:
        model: MultiLabelModel.
        graph: InferenceGraph of it, in float32.
    Returns:
        dict: "probabilities" and "other outputs" -> the largest change, measured as in `compare`.
    """
    differences = _Differences(model)
    with tensor_float_32(False), tf.device("/cpu:0"):
        exact, rounded = (
            version.as_function(smallest=1)[0] for version in (graph, round_weights(graph, _ROUNDED_BITS))
        )
        for images in (odd_pixels(max(BATCH_SIZES)), odd_files()):
            seen = _as_seen(images, model.image_size)
            differences.add(*(_with_probabilities(model, function(seen)) for function in (rounded, exact)))
    return {key: _largest(parts) for key, parts in differences.parts.items()}


def probability_tolerance(smallest, largest_logit):
    """The largest difference of probabilities that is allowed: `smallest`, or more where logits are large.

    Rounding changes a logit by a share of its size, or of the size of what it is the sum of: 1e-5 for each unit of
    the largest logit is allowed.
    """
    return float(max(smallest, TOLERANCES["float32"]["probabilities"] * largest_logit))


def compare_probabilities(run, model, answer, smallest, what, remedy):
    """Compares a written file that gives probabilities alone with the model in memory.

    Args:
        run: function, float32 (N, S, S, 3) -> float32 (N, C), what the file answers.
        model: MultiLabelModel.
        answer: what `answer_in_memory` gave.
        smallest: as of `probability_tolerance`.
        what, remedy: as of `check_differences`.
    Returns:
        dict: "largest_difference" and "tolerance", each with "probabilities".
    Raises:
        DifferenceError: see `check_differences`.
    """
    images = np.stack([preprocess(tf.constant(file), model.image_size) for file in odd_files()])
    expected = answer(images)
    counts = (len(images), 1)  # a batch, and then a smaller one
    differences = [run(images[:count]) - expected["probabilities"][:count] for count in counts]
    tolerances = {"probabilities": probability_tolerance(smallest, np.abs(expected[model.final]).max())}
    largest = check_differences({"probabilities": differences}, tolerances, what, remedy)
    return {"largest_difference": largest, "tolerance": tolerances}


def check_differences(differences, tolerances, what, remedy):
    """Finds the largest differences and refuses those above their tolerance.

    Args:
        differences: key -> list of arrays.
        tolerances: key -> largest one allowed.
        what: what was compared with the model in memory, for the message.
        remedy: what to do about it, for the message.
    Returns:
        dict: key -> largest magnitude.
    Raises:
        DifferenceError: one is too large or not a number.
    """
    largest = {key: _largest(parts) for key, parts in differences.items()}
    for key, value in largest.items():
        if not value <= tolerances[key]:  # so written that NaN is refused
            raise DifferenceError(
                f"{what} must agree with the model in memory: {key} within {tolerances[key]:g}. Received: a difference "
                f"of {value:g}. Nothing was exported. {remedy}"
            )
    return largest


def check_finite(model, answers):
    """Makes sure that what a written model is compared with is a number.

    Args:
        model: MultiLabelModel.
        answers: name -> array, what it answers in memory.
    Raises:
        InputError: an answer is not finite; names a weight that is not, if there is one.
    """
    bad = next((name for name, values in answers.items() if values is not None and not np.isfinite(values).all()), None)
    if bad is None:
        return
    weights = (name for name, weight in model.weights.items() if not np.isfinite(weight.numpy()).all())
    culprit = next(weights, None)
    reason = (
        f"the weight {culprit} has NaN or infinity" if culprit else "the weights are so large that products overflow"
    )
    raise InputError(
        f"A model must give finite outputs to be exported. Received: {bad} is not finite, because {reason}. Nothing "
        "was exported. Train the model again with a lower --learning_rate, or start from other weights."
    )


class _Differences:
    """Collects differences of answers, as `TOLERANCES` measures them.

    Attributes:
        parts: "probabilities" and "other outputs" -> list of arrays or numbers.
        largest_logit: float, the largest magnitude of a final logit of the expected answers.
    """

    def __init__(self, model, thresholds=0.5):
        self._final, self._thresholds = model.final, thresholds
        self.parts = {"probabilities": [0.0], "other outputs": [0.0]}
        self.largest_logit = 0.0

    def add(self, received, expected):
        """Adds what was received, name -> array, against what was expected, which may hold more names."""
        self.largest_logit = max(self.largest_logit, float(np.abs(expected[self._final]).max()))
        for key, values in received.items():
            if key == "predicted":
                p = expected["probabilities"]
                above = p > self._thresholds
                self.parts["probabilities"].append(np.where(values == above, 0.0, p - self._thresholds))
            elif key == "probabilities":
                self.parts[key].append(values - expected[key])
            else:
                scale = np.abs(expected[key]).max()
                self.parts["other outputs"].append((values - expected[key]) / (scale or 1.0))


def _largest(parts):
    """float, the largest magnitude in a list of arrays; NaN if one is there."""
    return float(np.max([np.abs(part).max() for part in parts]))


def answer_in_memory(model, network):
    """A function from what the network sees to all outputs and probabilities, by the model itself.

    It runs as a graph, as evaluation does: single operations round differently from TensorFlow's fused ones.

    Args:
        model: MultiLabelModel.
        network: its network as a graph, `InferenceGraph.source`.
    Returns:
        function: float32 (N, S, S, 3), perhaps known labels int32 (N, C) -> dict of arrays: the model's outputs,
        "probabilities", those where labels are known if they are given, and "embedding". It raises the InputError of
        `check_finite`.
    """

    def answer(image, known=None):
        others = () if known is None else (tf.constant(known, tf.float32),)
        outputs = _with_probabilities(model, network(tf.convert_to_tensor(image), *others))
        check_finite(model, outputs)
        if known is not None:
            informed = tf.sigmoid(outputs[model.informed]).numpy()
            outputs["probabilities"] = np.where(known < 0, informed, known)
        return {**outputs, "embedding": outputs.get(model.embedding)}

    return answer


def _with_probabilities(model, outputs):
    """A network's outputs as arrays, and "probabilities"."""
    arrays = {name: values.numpy() for name, values in outputs.items()}
    return {**arrays, "probabilities": tf.sigmoid(arrays[model.final]).numpy()}


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


def odd_states(count, num_labels):
    """int32 (count, num_labels): of each image's labels some known to be there or not, and others unknown."""
    return np.random.default_rng(2).integers(-1, 2, (count, num_labels), dtype=np.int32)


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
