"""Apache Beam, for the tools that can run on it: runner and options as the command line has them, and its failures."""

import contextlib
import io
import logging

from srn_tf.errors import InputError
from srn_tf.program import install

# Beam's own DirectRunner would first try to download another runner, Prism, and falls back to this one.
_IN_THIS_PROCESS = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def pipeline_settings(beam_runner, beam_options=()):
    """Makes what a Beam pipeline runs with of what the command line says.

    Args:
        beam_runner: str, name of an Apache Beam runner.
        beam_options: list of str, flags of the Beam pipeline.
    Returns:
        dict: "beam_runner", a Beam runner; "beam_options", PipelineOptions.
    Raises:
        InputError: Beam is not installed, or has no such runner or options.
    """
    logging.disable(logging.WARNING)  # Beam would tell that clients of Google's services are not installed.
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
        from apache_beam.runners import create_runner
    except ImportError:
        raise InputError(
            f"beam_runner {beam_runner} needs Apache Beam. Received: no package apache-beam. Install it: "
            f"{install('requirements-beam.txt', 'apache-beam')}"
        ) from None
    finally:
        logging.disable(logging.NOTSET)
    try:
        runner = create_runner(_IN_THIS_PROCESS if beam_runner == "DirectRunner" else beam_runner)
    except (ValueError, ImportError, AttributeError, TypeError) as error:
        raise InputError(
            "beam_runner must be a Beam runner, such as DirectRunner, FlinkRunner, SparkRunner or DataflowRunner. "
            f"Received: {beam_runner!r} ({' '.join(str(error).split())})."
        ) from None
    options = PipelineOptions(list(beam_options or ()))
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            options.get_all_options()  # Each is parsed only when it is asked for.
    except SystemExit:
        raise InputError(
            f"beam_options must be flags of a Beam pipeline. Received: {' '.join(beam_options)} "
            f"({said.getvalue().rpartition('error: ')[2].strip()})."
        ) from None
    return {"beam_runner": runner, "beam_options": options}


def find_input_error(error):
    """Returns the InputError that an exception is or was raised from, or None."""
    seen = []
    while error is not None and error not in seen:
        if isinstance(error, InputError):
            return error
        seen.append(error)
        error = error.__cause__ or error.__context__
    return None
