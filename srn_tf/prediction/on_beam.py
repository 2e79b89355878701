"""Prediction on Apache Beam: the same rows as on one machine, made by many, in any order, in several files."""

import contextlib
import json
import os

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.ml.inference.base import ModelHandler, RunInference

from srn_tf.beam import find_input_error
from srn_tf.errors import InputError
from srn_tf.prediction.answers import answer_files, open_predictor
from srn_tf.prediction.predict import Summary
from srn_tf.prediction.rows import Columns, Parquet, format_of

_NAMESPACE = "srn_tf"  # of the counters


class PredictorHandler(ModelHandler):
    """Runs a predictor in Beam's RunInference: paths in JSON in, rows as `row_format.encode` makes them out.

    Paths and rows cross from worker to worker in these forms alone, since Beam's str has to be UTF-8.

    Args:
        model: dict, the arguments of answers.open_predictor; every worker opens it for itself.
        columns: rows.Columns.
        row_format: an instance of a class of rows.FORMATS.
        batch_size: images of a call, but for what is left at the end.
    """

    def __init__(self, model, columns, row_format, batch_size):
        super().__init__(min_batch_size=batch_size, max_batch_size=batch_size)
        self._model = model
        self._columns = columns
        self._row_format = row_format

    def load_model(self):
        """The predictor of this worker."""
        return open_predictor(**self._model)

    def run_inference(self, batch, model, inference_args=None):
        """The encoded rows of a batch of paths (JSON), answered by `model`."""
        (answers,) = answer_files(model, [json.loads(path) for path in batch], len(batch))
        Metrics.counter(_NAMESPACE, "images").inc(len(answers))
        Metrics.counter(_NAMESPACE, "failed").inc(sum(answer.error is not None for answer in answers))
        return [self._row_format.encode(self._columns.row(answer)) for answer in answers]


def predict_on_beam(model, paths, output, settings, write=None, top_k=None, batch_size=32):
    """Writes a row for each image file, as `predict.predict_files` does, to several files in no particular order.

    The files of P.csv are P-00000-of-00010.csv and so on, each with a header. While Beam works, the paths stand in a
    file beside them.

    Args:
        model: dict, the arguments of answers.open_predictor; folder or server must be the same to every worker.
        paths: list of N str, at least one; every worker must see the images under them.
        output: path whose ending decides how rows are written, in a folder or bucket that every worker sees.
        settings: dict: "beam_runner", a Beam runner, and "beam_options", PipelineOptions.
        write, top_k, batch_size: as of `predict.predict_files`.
    Returns:
        predict.Summary.
    Raises:
        InputError: the output is there already or cannot be written; the model cannot be used; Beam fails; or not one
            image can be used.
    """
    prefix, suffix = os.path.splitext(output)
    make_format = format_of(output)
    with _listed(paths, prefix, suffix) as list_path:
        columns = Columns(open_predictor(**model).labels, write, top_k)
        row_format = make_format(columns)
        pipeline = beam.Pipeline(settings["beam_runner"], settings["beam_options"])
        rows = (
            pipeline
            | beam.io.ReadFromText(list_path)
            | beam.Reshuffle()  # from one file to all workers
            | RunInference(PredictorHandler(model, columns, row_format, batch_size))
        )
        if isinstance(row_format, Parquet):
            rows | beam.io.WriteToParquet(prefix, row_format.schema, file_name_suffix=suffix)
        else:
            rows | beam.io.WriteToText(prefix, suffix, append_trailing_newlines=False, header=row_format.header)
        summary = _run(pipeline, type(settings["beam_runner"]).__name__)
    if summary.failed == summary.images:
        raise InputError(
            f"At least one image must be readable. Received: {summary.images} unreadable images. The reasons are in "
            f"{prefix}-*-of-*{suffix}."
        )
    return summary


@contextlib.contextmanager
def _listed(paths, prefix, suffix):
    """Gives the path of a file with a path in JSON a line, beside the output, while it is needed."""
    list_path = f"{prefix}-images.list"
    try:
        if FileSystems.match([f"{prefix}-*-of-*{suffix}"])[0].metadata_list:
            raise InputError(
                f"output must not exist yet. Received: {prefix}{suffix}, whose files {prefix}-*-of-*{suffix} exist. "
                "Remove them, or give another output."
            )
        with FileSystems.create(list_path) as file:
            for path in paths:
                file.write(f"{json.dumps(path)}\n".encode())
    except OSError as error:
        raise InputError(
            f"output must be writable. Received: {prefix}{suffix} ({_one_line(error)}). Check its folder's "
            "permissions and free space."
        ) from None
    try:
        yield list_path
    finally:
        with contextlib.suppress(OSError):
            FileSystems.delete([list_path])


def _run(pipeline, runner):
    """Runs a pipeline to its end and returns its Summary; any failure of it is an InputError."""
    try:
        result = pipeline.run()
        result.wait_until_finish()
        counters = result.metrics().query(MetricsFilter().with_namespace(_NAMESPACE))["counters"]
    except Exception as error:  # runners and their services fail with errors of any type
        reason = _one_line(find_input_error(error) or error)[:1000]
        raise InputError(
            f"Beam runner {runner} could not predict. Received: {reason}. Check --beam_runner and --beam_options. All "
            "machines must reach the images, the model and the output."
        ) from error
    counts = {counter.key.metric.name: counter.result for counter in counters}
    return Summary(counts["images"], counts["failed"])


def _one_line(error):
    return " ".join(str(error).split()) or type(error).__name__
