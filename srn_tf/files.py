"""Files that are written whole or not at all, locks between processes, and JSON."""

import contextlib
import fcntl
import json
import os
import zipfile
import zlib

from srn_tf.errors import InputError

DAMAGE = (OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What zipfile and NumPy answer a file of arrays with that is damaged, encrypted or something else."""


@contextlib.contextmanager
def written_whole(path, temporary=None):
    """Opens a file for writing, which gets its name when the block has ended well and its bytes are on the disk.

    After a failure an older file of that name is untouched, and nothing half-written is left.

    Args:
        path: str or path, in a folder that exists.
        temporary: name of the file until then, in the same file system; default beside it, `<path>.<pid>.writing`.
    Yields:
        binary file, open for writing; its `name` is the temporary one.
    Raises:
        OSError: it cannot be written.
    """
    path = os.fspath(path)
    temporary = temporary or f"{path}.{os.getpid()}.writing"  # the process id: no two processes share it
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush_folder(os.path.dirname(path) or ".")
    finally:
        with contextlib.suppress(OSError):
            os.remove(temporary)


def _flush_folder(path):
    """Makes a new name in a folder outlive a loss of power, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    with contextlib.suppress(OSError):
        os.fsync(descriptor)
    os.close(descriptor)


@contextlib.contextmanager
def writing(path):
    """Turns a failure to write a file into an InputError that names it."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{path} must be a writable file. Received: {reason}. Check its folder's permissions and free space."
        ) from None


def write_json(path, value):
    """Writes a value as JSON, whole or not at all.

    Args:
        path: str or path, in a folder that exists.
        value: what json can write; None for a value that is not known.
    Raises:
        InputError: the file cannot be written.
        ValueError: a number is NaN or infinite, which JSON does not have; nothing is written.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with writing(path), written_whole(path) as file:
        file.write(text.encode("utf-8"))


def lock(descriptor):
    """Tries to lock an open file or folder against other processes; the lock ends when it is closed.

    Args:
        descriptor: int, of the open file.
    Returns:
        True if the lock was taken, False if another process has it, None if the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
