"""OpenVINO models as they run here: in which precision, on which processor, and what they say of themselves."""

import logging
import os
import threading

from srn_tf.serving.checking import check_installed, known_operations

FILE_NAME = os.path.join("openvino", "model.xml")
PRECISIONS = ("float32", "bfloat16", "int8")
WHAT, ADVICE = "An OpenVINO model", "Export it without --openvino."
"""Beginning and end of the messages about a model that cannot be written."""

_ABOUT = "srn_tf"  # section of a model's own information

logger = logging.getLogger("srn_tf")


def check_openvino_installed(*modules):
    """Raises InputError if OpenVINO, or one of the modules named, such as "nncf", is not there."""
    os.environ.setdefault("NNCF_CI", "1")  # else NNCF tells its makers about every use
    packages = "openvino nncf"
    check_installed("OpenVINO models", ("openvino", *modules), "requirements-openvino.txt", packages)


def convertible():
    """Context in which a model is converted: what fails is one InputError, see `checking.known_operations`."""
    return known_operations(WHAT, "OpenVINO", ADVICE)


def describe_model(model, facts):
    """Writes facts into an OpenVINO model, which stay in its file.

    Args:
        model: openvino.Model.
        facts: name -> str.
    """
    for name, value in facts.items():
        model.set_rt_info(value, [_ABOUT, name])


def open_model(path):
    """Opens a file of `openvino_file.write_openvino`.

    Args:
        path: of the .xml.
    Returns:
        function, see `compile_model`.
    Raises:
        InputError: OpenVINO is missing. What the file causes is of any type.
    """
    check_openvino_installed()
    import openvino

    model = openvino.Core().read_model(path)
    return compile_model(model, model.get_rt_info([_ABOUT, "precision"]).value)


def compile_model(model, precision):
    """Prepares an OpenVINO model for this processor.

    Args:
        model: openvino.Model.
        precision: one of `PRECISIONS`. bfloat16 is a wish, which a processor without it does not fulfil; that is said.
            The layers of an int8 model that are not quantized answer in float32.
    Returns:
        function, float32 (N, S, S, 3) -> probabilities float32 (N, C); any thread may call it.
    """
    import openvino

    core = openvino.Core()
    is_bfloat16 = precision == "bfloat16" and has_bfloat16()
    if precision == "bfloat16" and not is_bfloat16:
        logger.warning("This processor has no instructions for bfloat16: the OpenVINO model answers in float32 here.")
    # Without the first, OpenVINO takes bfloat16 wherever there is any. LATENCY: all processors work on one batch.
    settings = {"INFERENCE_PRECISION_HINT": "bf16" if is_bfloat16 else "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    lock = threading.Lock()

    def run(image):
        with lock:
            return request.infer([image])[0]

    return run


def has_bfloat16():
    """Whether this processor has instructions for products in bfloat16."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
