"""From paths to answers: files are read ahead of the model, which is asked in batches; the order is kept."""

import collections
import concurrent.futures
import contextlib
import warnings
from typing import NamedTuple

import numpy as np

from srn_tf.choices import ENGINES, TTA
from srn_tf.data.image_files import read_image_file
from srn_tf.errors import ImageError, InputError

_READERS = 8  # threads: they mostly wait for a disk or a network
_ASKED = 2  # batches the model has at a time: one is decoded while the other is in the network
_AHEAD = 4  # batches in memory: those asked, and those read for later


class Picture(NamedTuple):
    """An image file that has been read.

    Attributes:
        path: str as given.
        image: bytes for a predictor, None if the file cannot be used.
        error: None, or a line that says why it cannot.
    """

    path: str
    image: bytes | None
    error: str | None


class Answer(NamedTuple):
    """What a model says of one image file.

    Attributes:
        path: str as given.
        probabilities: float32 (C,) in [0, 1], None if there is no answer.
        predicted: bool (C,), None if there is no answer.
        error: None, or a line that says why there is no answer.
    """

    path: str
    probabilities: np.ndarray | None
    predicted: np.ndarray | None
    error: str | None


def open_predictor(saved_model="", server="", model_name="srn", timeout_s=60.0, engine=ENGINES[0], tta=TTA[0]):
    """Opens what answers: an exported model on this machine, or one behind a server.

    Args:
        saved_model: folder of one version, e.g. RUN/export/1; or "".
        server: "http://HOST:8501" or "grpc://HOST:8500", or "". Without `saved_model`, of TensorFlow Serving; with it,
            of OpenVINO Model Server, see `serving.model_server`.
        model_name: the name under which the server has it.
        timeout_s: seconds to wait for one answer of the server.
        engine: one of `choices.ENGINES`, what computes the answers of a model on this machine.
        tta: one of `choices.TTA`, the views of an image that a model on this machine answers.
    Returns:
        serving.predictor.Predictor or serving.client.ServerPredictor.
    Raises:
        InputError: there is no such model, engine or server.
    """
    if saved_model:
        from srn_tf.serving.predictor import Predictor  # late: a server is asked without TensorFlow

        asked = {"server": server, "model_name": model_name, "timeout_s": timeout_s} if server else None
        return Predictor(saved_model, engine, tta, asked)
    from srn_tf.serving.client import ServerPredictor

    return ServerPredictor(server, model_name, timeout_s)


class Informed:
    """A predictor that is told of every image what is known of it.

    Args:
        predictor: serving.predictor.Predictor.
        known: dict, see its `answer`.

    Raises:
        InputError: the model does not have such labels, or cannot use them.
    """

    def __init__(self, predictor, known):
        self._predictor, self._known = predictor, known
        self.labels, self.identity = predictor.labels, predictor.identity
        self.answer([])  # so that all is checked before any work

    def answer(self, images):
        """As that of `serving.predictor.Predictor`."""
        return self._predictor.answer(images, self._known)


def answer_files(predictor, paths, batch_size, start=0):
    """Asks about many files, with reading, decoding and the network of neighbouring batches side by side.

    Args:
        predictor: see `open_predictor`; it is called from two threads.
        paths: sequence of str.
        batch_size: images per call. What is asked together depends on it and on `paths` alone, not on `start`.
        start: position of the first path to ask about, a multiple of batch_size.
    Yields:
        list of Answer: a batch, in the order of `paths`.
    Raises:
        InputError: the predictor answers nothing any more.
    """
    failures = []

    def ask(reading):
        if failures:  # No use in waiting for an answer to another batch.
            raise failures[0]
        try:
            return answer_pictures(predictor, [picture.result() for picture in reading])
        except BaseException as error:
            failures.append(error)
            raise

    with _silent(), _pool(_ASKED) as askers, _pool(_READERS) as readers:
        waiting = collections.deque()
        for first in range(start, len(paths), batch_size):
            reading = [readers.submit(read_picture, path) for path in paths[first : first + batch_size]]
            waiting.append(askers.submit(ask, reading))
            if len(waiting) == _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def read_picture(path, check_jpeg=False):
    """Reads an image file as a person sees the picture, see `data.image_files.read_image_file`.

    Args:
        path: str.
        check_jpeg: whether to decode ordinary JPEGs as well. There is no need to: the model's decoder, which comes
            next, refuses all that Pillow's does.
    Returns:
        Picture.
    """
    try:
        return Picture(path, read_image_file(path, check_jpeg), None)
    except InputError as error:
        return Picture(path, None, str(error))


def answer_pictures(predictor, pictures):
    """Asks about a batch; a picture that the model cannot decode has an error in place of an answer.

    Args:
        predictor: see `open_predictor`.
        pictures: Pictures.
    Returns:
        list of Answer, in the same order.
    Raises:
        InputError: the predictor answers nothing any more.
    """
    readable = [picture for picture in pictures if picture.error is None]
    answers = iter(_ask(predictor, readable))
    return [next(answers) if picture.error is None else _failed(picture, picture.error) for picture in pictures]


def _ask(predictor, pictures):
    """Answers to pictures that could be read; without those that are damaged, or one by one, if that fails."""
    if not pictures:
        return []
    try:
        answer = predictor.answer([picture.image for picture in pictures])
    except ImageError as error:
        checked = [read_picture(picture.path, check_jpeg=True) for picture in pictures]
        if any(picture.error is not None for picture in checked):
            return answer_pictures(predictor, checked)
        if len(pictures) == 1:  # Pillow is the more lenient one.
            path = pictures[0].path
            message = f"{path} must be an image that the model's graph reads. {error.reason}."
            return [_failed(pictures[0], message)]
        return [answer for picture in pictures for answer in _ask(predictor, [picture])]
    rows = zip(pictures, answer["probabilities"], answer["predicted"], strict=True)
    return [Answer(picture.path, probabilities, predicted, None) for picture, probabilities, predicted in rows]


def _failed(picture, error):
    return Answer(picture.path, None, None, error)


@contextlib.contextmanager
def _pool(threads):
    """A pool of threads that drops what has not begun when it is left."""
    pool = concurrent.futures.ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _silent():
    """No warnings from any thread: those of Pillow are silenced one by one, which threads undo for each other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
