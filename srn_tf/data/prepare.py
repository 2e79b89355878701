"""Prepares a data set: source files in, finished records out, or one message and nothing left behind."""

import contextlib
import io
import logging
import os
import shutil
import sys
from concurrent.futures.process import BrokenProcessPool

import tensorflow as tf
import tensorflow_datasets as tfds

from srn_tf.beam import find_input_error, pipeline_settings
from srn_tf.data.builder import SourceBuilder
from srn_tf.data.examples import stored_metadata
from srn_tf.data.source_files import changed_files, truth_digest
from srn_tf.errors import InputError
from srn_tf.files import lock

logger = logging.getLogger("srn_tf")


def prepare(builder, beam_runner=None, beam_options=None):
    """Writes a data set's records into the builder's data folder, unless they are there already.

    Records are written into a temporary folder that takes its final name once they are complete. Progress
    shows on a terminal only. Nothing is downloaded, and nothing is written outside the builder's data folder.

    Args:
        builder: tfds.core.DatasetBuilder; one that reads a download knows its folder (`SourceBuilder`).
        beam_runner: str, name of an Apache Beam runner, None for this machine's own processes.
        beam_options: list of str, flags of the Beam pipeline.
    Raises:
        InputError: the source is missing or cannot be used, the data folder cannot be written, another
            process is preparing this data set, it is prepared already by another version, with other options than
            the builder was asked for or from another source, or Beam cannot be used.
    """
    if is_prepared(builder):
        if isinstance(builder, SourceBuilder) and builder.asked_options is not None and builder.source_dir is not None:
            _check_same_source(builder)
        return
    if isinstance(builder, SourceBuilder):
        _check_source_dir(builder)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    with _only_writer(builder):
        if not is_prepared(builder):  # Another process may have finished it just now.
            _write(builder, beam_runner, beam_options)


def is_prepared(builder):
    """Tells whether the records are there; if so, makes sure that the builder knows of them.

    Raises:
        InputError: what is there is of another version, of other options than asked for, or not whole.
    """
    if not builder.data_path.exists():
        _check_no_other_version(builder)
        return False
    if not (builder.data_path / "dataset_info.json").exists():
        raise InputError(
            f"{builder.data_dir} must be a prepared data set. Received: a folder without dataset_info.json. Remove it "
            "and prepare the data set again."
        )
    if not builder.info.splits:  # Prepared after the builder was made.
        builder.info.read_from_directory(builder.data_dir)
    if isinstance(builder, SourceBuilder):
        if "source" not in stored_metadata(builder):
            raise InputError(
                f"{builder.data_dir} must be prepared by this version of srn_tf. Received: data of an earlier version "
                "(no entry 'source' in metadata.json), which also resized test images. Remove the folder and prepare "
                "the data set again."
            )
        if builder.asked_options is not None:
            _check_same_options(builder)
    return True


def _check_no_other_version(builder):
    versions = builder.data_path.parent.glob("[0-9]*.*.*")  # not the incomplete.* of a killed run
    others = [path.name for path in versions if (path / "dataset_info.json").exists()]
    if others:
        raise InputError(
            f"{builder.data_path.parent} must have version {builder.version} of {builder.name}, which this version of "
            f"srn_tf makes. Received: version {', '.join(sorted(others))}. Remove it, or give another data folder."
        )


def _check_same_options(builder):
    # An option that did not exist when the data set was prepared had its default.
    stored = {**builder.COMMON_OPTIONS, **builder.OPTIONS, **stored_metadata(builder)["options"]}
    asked = builder.recorded_options()
    different = [name for name in asked if stored[name] != asked[name]]
    if different:
        raise InputError(
            f"{builder.data_dir} must be prepared with the same options as given now. Received: "
            + "; ".join(f"{name} {stored[name]!r} there, {asked[name]!r} now" for name in different)
            + ". Remove it, or give another data folder."
        )


def _check_same_source(builder):
    """Raises InputError if images or truth are others than those prepared; images that are gone are none of that."""
    stored, source_dir = stored_metadata(builder)["source"], builder.source_dir
    changed, num_gone = changed_files(builder.data_path, source_dir)
    received = ""
    if changed:
        received = f"{len(changed):,} changed image(s), the first {changed[0]}"
    elif num_gone:
        logger.info(
            "%s image(s) are no longer in %s. Labels were not compared with the prepared ones.",
            f"{num_gone:,}",
            source_dir,
        )
    elif truth_digest(builder.source) != stored["truth"]:
        received = "changed labels, boxes or splits, or another list of images"
    if received:
        raise InputError(
            f"{builder.data_dir} must be prepared from the present content of {source_dir}. Received: {received}. "
            "Remove it and prepare it again, or give another data folder."
        )


def _check_source_dir(builder):
    source_dir = builder.source_dir
    if source_dir is None:
        problem = f"must be given, because {builder.data_dir} is not prepared. Received: none"
    elif not os.path.isdir(source_dir):
        problem = f"must exist. Received: {source_dir}"
    elif not os.access(source_dir, os.R_OK | os.X_OK):
        problem = f"must be readable. Received: {source_dir}"
    elif not os.listdir(source_dir):
        problem = f"must not be empty. Received: {source_dir}"
    else:
        return
    instructions = " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
    raise InputError(f"source_dir of {builder.name} {problem}. {instructions}")


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
        is_locked = lock(descriptor)
        if is_locked is False:
            raise InputError(
                f"Only one process can prepare {builder.name} at a time. Received: another process that works in "
                f"{folder}. Wait until it is done, then give the same command again."
            )
        if is_locked:  # Then these are of runs that were killed.
            _remove_unfinished(builder)
        yield
    finally:
        if is_locked:
            with contextlib.suppress(OSError):  # Unless empty.
                os.rmdir(folder)
        os.close(descriptor)


def _write(builder, beam_runner, beam_options):
    download_dir = builder.data_dir_root / "downloads"
    config = tfds.download.DownloadConfig(
        manual_dir=getattr(builder, "source_dir", None),
        try_download_gcs=False,
        **(pipeline_settings(beam_runner, beam_options) if beam_runner else {}),
    )
    try:
        # tfds prints to stdout that it downloads, which it does not.
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_dir=download_dir, download_config=config)
    except Exception as error:
        cause = find_input_error(error)
        if cause is not None:
            # tfds may have put lines of its own, such as the record, before the message.
            raise InputError(str(cause).splitlines()[-1]) from None
        if isinstance(error, BrokenProcessPool):
            raise InputError(
                f"The processes that prepare {builder.name} must not be killed. Received: {error} If memory ran out, "
                "use fewer --processes."
            ) from error
        if beam_runner is not None:  # Its services fail with errors of any type.
            raise InputError(
                f"Beam runner {beam_runner} could not prepare {builder.name}. Received: {_one_line(error)[:1000]}. "
                "Check --beam_runner and --beam_options. All machines must reach the source and the data folder."
            ) from error
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


def _cannot_write(builder, error):
    return InputError(
        f"Data set {builder.name} could not be written to {builder.data_dir}. Received: {_one_line(error)}. Free some "
        "space there, or give another data folder."
    )


def _one_line(error):
    return " ".join(str(error).split()) or type(error).__name__
