"""What can go wrong while TensorFlow runs and is no defect of this package, in words for its user."""

import contextlib
import errno
import os
import re

import tensorflow as tf

from srn_tf.errors import InputError, not_written

_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNWRITABLE = (*_FULL, errno.EROFS, errno.EIO, errno.ESTALE)  # a disk that fails while a program runs gets read-only
_UNREADABLE = tuple(map(os.strerror, (errno.ENOENT, errno.EACCES, errno.EIO, errno.EISDIR, errno.ESTALE)))
# TensorFlow writes "<path>; <reason>", after nothing, "{{node ...}} " or "(0) NOT_FOUND:  ".
_FILE = re.compile(rf"(?:^|\}}\}} |\(\d+\) \w+: +)([^\n;{{}}]+); ({'|'.join(_UNREADABLE)})", re.MULTILINE)
_LOST_WORKER = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError)
_SHOWN = 300  # characters of TensorFlow's own message


@contextlib.contextmanager
def in_plain_words(dataset=None):
    """Turns failures of disk, memory, records and workers into InputErrors; other exceptions pass.

    Args:
        dataset: data.datasets.DataSet that is in use, if known: a damaged file of records is then named.
    """
    try:
        yield
    except Exception as error:
        message = explain(error, dataset)
        if message is None:
            raise
        raise InputError(message) from error


def explain(error, dataset=None):
    """Says what an exception means to the user: one line, or None for what is not known here."""
    if not isinstance(error, (tf.errors.OpError, OSError, MemoryError)):
        return None
    text = str(error)
    if isinstance(error, OSError):
        if error.errno not in _UNWRITABLE:
            return None
        return not_written(f"The file {error.filename}" if error.filename else "A file", error.strerror)
    # Whatever ended the other worker, memory or records, is for that one to say.
    if os.environ.get("TF_CONFIG") and (isinstance(error, _LOST_WORKER) or "Collective ops is aborted" in text):
        return (
            f"All workers must run to the end. Received: another worker stopped ({_brief(text)}). Start all workers "
            "again with the same command. They continue from the last checkpoint."
        )
    if any(os.strerror(number) in text for number in _FULL):  # to TensorFlow a resource as memory is
        return not_written("A file", _brief(text))
    if isinstance(error, (tf.errors.ResourceExhaustedError, MemoryError)):
        return (
            f"Out of memory with this batch size. Received: {_brief(text)}. In training, use a smaller --batch_size, "
            "more --accumulation_steps (which split the batch), or --cache=none."
        )
    if isinstance(error, tf.errors.DataLossError):
        return (
            f"The prepared data set is damaged. Received: {_damaged_file(dataset)}: {_brief(text)}. Copy it there "
            "again, or remove its folder and prepare it again. The same command then continues."
        )
    unreadable = _FILE.search(text)
    if unreadable:
        return (
            f"A file can no longer be read. Received: {unreadable[1].strip()}: {unreadable[2]}. Restore it, or "
            "prepare the data set again. The same command then continues."
        )
    return None


def _damaged_file(dataset):
    """The first file of records that cannot be read to its end; reads them all."""
    for paths in (dataset.record_files if dataset else {}).values():
        for path in paths:
            try:
                tf.data.TFRecordDataset(path).reduce(0, lambda count, _: count + 1)
            except tf.errors.OpError:
                return path
    return "a damaged file of records"


def _brief(text):
    """TensorFlow's message without its nodes and its trace of this program."""
    lines = re.sub(r"\{\{[^}]*\}\} ?|\[\[.*?\]\]|\[Op:\S*\]( name: *)?", "", text).splitlines()
    trace = ("Graph execution error", "Detected at node", "  File ", "Hint:")
    words = " ".join(" ".join(line for line in lines if not line.startswith(trace)).split())
    return words[:_SHOWN].rstrip(". ") or "no reason"
