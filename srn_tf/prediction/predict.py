"""Predicts image files into one output file, and continues where an earlier run of the same was killed."""

import contextlib
import hashlib
import logging
import os
from typing import NamedTuple

from tqdm import tqdm

import srn_tf
from srn_tf.errors import InputError
from srn_tf.prediction.annotation_forms import Form, PredictedLabels, check_image_prefix, form_of_output
from srn_tf.prediction.answers import Informed, answer_files
from srn_tf.prediction.parts import check_output, open_parts
from srn_tf.prediction.rows import Columns

logger = logging.getLogger("srn_tf")

_PART_ROWS = 256  # about: a whole number of batches


class Summary(NamedTuple):
    """How many rows an output has, and how many of them say an error in place of an answer."""

    images: int
    failed: int


def predict_files(
    predictor, paths, output, write=None, top_k=None, batch_size=32, restart=False, known=None, image_prefix=""
):
    """Writes a row for each image file, in the order given. One that cannot be used has its reason in the row.

    Answers are kept beside the output in a folder `.<output>.parts` as they come. A run that was killed, or that lost
    its server, goes on with the same arguments, and its output is the same as an undisturbed run's. In the end the
    output appears at once, in place of an older one, and the folder goes.

    Memory holds a few batches of images, whatever the number of paths.

    Args:
        predictor: serving.predictor.Predictor, or what answers like it (`labels`, `identity`, `answer`).
        paths: sequence of N str, at least one.
        output: path of the file to write; its ending decides how, see `rows.FORMATS` and `annotation_forms.FORMS`.
        write: what of the answers, see `rows.Columns` and `annotation_forms.PredictedLabels`.
        top_k: int, for write="top_k".
        batch_size: images per call of the predictor.
        restart: drop what an earlier run has kept.
        known: dict, what is known of every image, see `serving.predictor.Predictor.answer`; None: nothing.
        image_prefix: what stands before the paths, see `annotation_forms.Form`.
    Returns:
        Summary.
    Raises:
        InputError: the output cannot be written, or is another run's in part; `top_k`, a label's name, what is known or
            `image_prefix` does not fit; the predictor answers nothing any more; or not one image can be used, and then
            nothing is written.
    """
    check_output(output)
    if known is not None:
        predictor = Informed(predictor, known)
    make_format = form_of_output(output)
    check_image_prefix(make_format, image_prefix)
    if issubclass(make_format, Form):
        columns = PredictedLabels(predictor.labels, write)
        row_format = make_format(columns.labels, image_prefix)
        for path in paths:
            row_format.address(path)  # so that one that has none is said before any work
    else:
        columns = Columns(predictor.labels, write, top_k, known)
        row_format = make_format(columns)
    plan = {
        "model": predictor.identity,
        "images": _digest(paths),
        "write": columns.write,
        "top_k": top_k,
        "batch_size": batch_size,
        "known": known,
        "srn_tf_version": srn_tf.__version__,
    }
    with open_parts(output, plan, restart) as parts:
        try:
            first_error = _fill(parts, predictor, paths, batch_size, columns, row_format)
        except BaseException:
            if parts.done:
                logger.info("The answers so far are kept. The same command continues.")
            raise
        if parts.failed == len(paths):
            parts.remove()
            raise InputError(
                f"At least one image must be readable. Received: {len(paths)} unreadable images. Nothing was written."
                + (f" The first: {first_error}" if first_error else "")
            )
        parts.join(row_format)
        return Summary(len(paths), parts.failed)


def _fill(parts, predictor, paths, batch_size, columns, row_format):
    """Answers what is not answered yet; returns the first error of an image, None if there is none."""
    part_rows = max(1, _PART_ROWS // batch_size) * batch_size
    start = min(parts.done * part_rows, len(paths))
    if start:
        logger.info("Continuing: %d of %d images already have an answer.", start, len(paths))
    answers, first_error = [], None
    with (
        tqdm(total=len(paths), initial=start, desc="predict", unit="image", leave=False, disable=None) as bar,
        contextlib.closing(answer_files(predictor, paths, batch_size, start)) as batches,
    ):
        for batch in batches:
            answers += batch
            start += len(batch)
            bar.update(len(batch))
            if len(answers) == part_rows or start == len(paths):
                errors = [answer.error for answer in answers if answer.error is not None]
                parts.add([columns.row(answer) for answer in answers], len(errors), row_format)
                first_error = first_error or next(iter(errors), None)
                answers = []
    return first_error


def _digest(paths):
    """Hash of paths and, where they are relative, of the folder they start from."""
    here = os.getcwd()
    digest = hashlib.sha256()
    for path in paths:
        digest.update(os.fsencode(f"{'' if os.path.isabs(path) else here}\0{path}\0"))
    return digest.hexdigest()
