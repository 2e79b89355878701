"""Prepares a data set: source files in, finished records out, or one message and nothing left behind."""

import contextlib
import fcntl
import io
import os
import shutil
import sys

import tensorflow as tf
import tensorflow_datasets as tfds

from srn_tf.errors import InputError


def prepare(builder, source_dir=None):
    """Writes a data set's records into the builder's data folder, unless they are there already.

    Records are written into a temporary folder that takes its final name once they are complete. Progress
    shows on a terminal only. Nothing is downloaded, and nothing is written outside the builder's data folder.

    Args:
        builder: tfds.core.DatasetBuilder.
        source_dir: folder of the source files, for a builder that reads one; not needed if the data set is
            already prepared.
    Raises:
        InputError: the source is missing or cannot be used, the data folder cannot be written, or another
            process is preparing this data set.
    """
    if _is_finished(builder):
        return
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        _check_source_dir(builder, source_dir)
    # In a file that stderr is sent to, bars would be noise.
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    with _only_writer(builder):
        if not _is_finished(builder):  # Another process may have finished it just now.
            _write(builder, source_dir)


def _is_finished(builder):
    """Tells whether the records are there; if so, makes sure that the builder knows of them."""
    if not builder.data_path.exists():
        return False
    if not (builder.data_path / "dataset_info.json").exists():
        raise InputError(
            f"{builder.data_dir} must be a prepared data set. Received: no dataset_info.json in it. "
            "Remove it and prepare again."
        )
    if not builder.info.splits:  # Prepared after the builder was made.
        builder.info.read_from_directory(builder.data_dir)
    return True


def _check_source_dir(builder, source_dir):
    if source_dir is None:
        problem = f"is needed, since {builder.data_dir} is not prepared. Received: none"
    elif not os.path.isdir(source_dir):
        problem = f"must exist. Received: {source_dir}"
    elif not os.listdir(source_dir):
        problem = f"must not be empty. Received: {source_dir}"
    else:
        return
    instructions = " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
    raise InputError(f"The source folder of {builder.name} {problem}. {instructions}")


@contextlib.contextmanager
def _only_writer(builder):
    """Locks the data set's folder against other processes while it is written."""
    folder = builder.data_path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise _cannot_write(builder, error) from None
    try:
        is_locked = _lock(descriptor)
        if is_locked is False:
            raise InputError(
                f"Only one process can prepare {builder.name} at a time. Received: another one is at work in "
                f"{folder}. Wait until it is done and run again."
            )
        if is_locked:  # Then these are of runs that were killed.
            _remove_unfinished(builder)
        yield
    finally:
        if is_locked:
            with contextlib.suppress(OSError):  # Unless empty.
                os.rmdir(folder)
        os.close(descriptor)


def _lock(descriptor):
    """Tells whether the lock was taken: True or False, None if the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _write(builder, source_dir):
    download_dir = builder.data_dir_root / "downloads"
    config = tfds.download.DownloadConfig(
        manual_dir=os.path.abspath(source_dir) if source_dir is not None else None,
        try_download_gcs=False,
    )
    try:
        # tfds prints to stdout that it downloads, which it does not.
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_dir=download_dir, download_config=config)
    except Exception as error:
        cause = _find_input_error(error)
        if cause is not None:
            # tfds may have put lines of its own, such as the record, before the message.
            raise InputError(str(cause).splitlines()[-1]) from None
        if isinstance(error, (OSError, tf.errors.OpError)):
            raise _cannot_write(builder, error) from error
        raise
    finally:
        for empty_dir in (download_dir / "extracted", download_dir):
            with contextlib.suppress(OSError):  # Unless empty.
                os.rmdir(empty_dir)


def _remove_unfinished(builder):
    """Removes the temporary folders in which tfds was writing this data set."""
    for folder in builder.data_path.parent.glob(f"incomplete.??????_{builder.data_path.name}"):
        shutil.rmtree(folder, ignore_errors=True)


def _find_input_error(error):
    """Returns the InputError that an exception is or was raised from, or None."""
    seen = []
    while error is not None and error not in seen:
        if isinstance(error, InputError):
            return error
        seen.append(error)
        error = error.__cause__ or error.__context__
    return None


def _cannot_write(builder, error):
    reason = " ".join(str(error).split())
    return InputError(
        f"Data set {builder.name} must be written to {builder.data_dir}. Received: {reason}. "
        "Free some space there or give another data folder."
    )
