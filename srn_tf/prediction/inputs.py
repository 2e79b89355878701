"""Lists of images, as a user gives them to the tools."""

import sys

from srn_tf.data.image_files import list_images
from srn_tf.errors import InputError


def list_inputs(arguments, list_file=None):
    """Lists the images to predict.

    Args:
        arguments: paths of images and folders, and patterns, see `data.image_files.list_images`; or "-" alone for a
            list on standard input.
        list_file: path of a list, see `read_list`; "-" is standard input. In place of arguments.
    Returns:
        list of str.
    Raises:
        InputError: neither or both are given, no image is found, or the list cannot be used.
    """
    if arguments == ["-"]:
        arguments, list_file = [], "-"
    if bool(arguments) == bool(list_file):
        raise InputError(
            "Images must be given either as arguments (images, folders, patterns) or in a list (--list_file). "
            f"Received: {'both' if list_file else 'none'}."
        )
    return read_list(list_file) if list_file else list_images(arguments)


def read_list(path):
    """Reads a list of image files, one path per line. Empty lines are ignored; a path may occur twice.

    Nothing is expanded or looked up: a path that is no image file gets a row that says so.

    Args:
        path: of a text file, "-" for standard input.
    Returns:
        list of str, at least one.
    Raises:
        InputError: the file cannot be read, is no text or has no path.
    """
    try:
        # Paths may hold bytes that are not UTF-8, as os.fsdecode has them.
        file = sys.stdin.fileno() if path == "-" else path
        with open(file, encoding="utf-8-sig", errors="surrogateescape", closefd=path != "-") as lines:
            paths = [line.removesuffix("\n") for line in lines if line != "\n"]
    except OSError as error:
        raise InputError(
            f"list_file must be a readable file. Received: {path} ({error.strerror}). Check the path."
        ) from None
    if not paths:
        raise InputError(f"list_file must have at least one path, one per line. Received: {path}, which has none.")
    if any("\0" in path for path in paths):
        raise InputError(f"list_file must be text, one path per line. Received: {path}, which has zero bytes.")
    return paths
