"""JSON annotation files: read, and their entries checked one by one, with messages that name the place."""

import contextlib
import json
import math

from srn_tf.data.source import read_text
from srn_tf.errors import InputError


def read_json(path, layout, object_hook=None, advice="Unpack the official annotations again."):
    """Reads a JSON file.

    Args:
        path: str or path.
        layout: str, the files expected, for the message.
        object_hook: as in `json.loads`, to drop at once what is not needed of a large file.
        advice: str, what to do about a file that is not JSON.
    Returns:
        the content: dict, list, str, int, float, bool or None.
    Raises:
        InputError: the file is missing, cannot be read, or is not JSON in UTF-8.
    """
    try:
        return json.loads(read_text(path, layout), object_hook=object_hook)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} must be JSON. Received: {error.msg} at line {error.lineno}, column {error.colno}. {advice}"
        ) from None


def entries(where, content, key, wanted, optional=(), advice="Use the official file."):
    """Yields the entries of a list inside a JSON object, each an object with all wanted keys.

    Args:
        where: str or path, the file and the place in it, for the message.
        content: what should be the object.
        key: str, of the list in it.
        wanted: key -> (test of the value, what the test demands in words), such as `ID`.
        optional: those of its keys that an entry may lack, or have as null or [].
        advice: str, what to do about something that is no such list.
    Yields:
        pairs (where, entry); `where` with the place of the entry, entry a dict.
    Raises:
        InputError: there is no such list, an entry is not an object, or a value is missing or fails its test.
    """
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        received = f"the keys {', '.join(map(str, content))}" if isinstance(content, dict) else type(content).__name__
        raise InputError(f"{where} must hold a list under the key {key!r}. Received: {received}. {advice}")
    for index, entry in enumerate(content[key]):
        place = f"{where}: {key}[{index}]"
        if not isinstance(entry, dict):
            raise InputError(f"{place} must be an object. Received: {shortened(entry)}. {advice}")
        for name, (is_valid, rule) in wanted.items():
            if name in optional and entry.get(name) in (None, []):
                continue
            if name not in entry:
                raise InputError(f"{place} must have the key {name!r}. Received: {shortened(entry)}. Add the key.")
            if not is_valid(entry[name]):
                raise InputError(
                    f"{place}: {name!r} must be {rule}. Received: {shortened(entry[name])}. Correct the file."
                )
        yield place, entry


@contextlib.contextmanager
def as_documented(path, form, advice):
    """Turns what goes wrong where a value is not what a form's documentation says into one message.

    Args:
        path: str or path of the file.
        form: str, the form that is read.
        advice: str, what to do about it.
    Raises:
        InputError: in place of Python's own errors about the type or the lack of a value.
    """
    try:
        yield
    except InputError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} must be {form}. Received: another structure ({type(error).__name__}: {error}). {advice}"
        ) from error


def shortened(value):
    """Returns a value as text of at most 103 characters, for messages."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _is_id(value):
    return isinstance(value, int)


def _is_key(value):
    return isinstance(value, (int, str)) and str(value).strip() != ""


def _is_name(value):
    return isinstance(value, str) and value.strip() != ""


def _is_size(value):
    return isinstance(value, (int, float)) and 0 < value < math.inf


def _is_flag(value):
    return value in (0, 1)


def _is_bbox(value):
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(isinstance(number, (int, float)) and math.isfinite(number) for number in value)
    )


ID = (_is_id, "a whole number")
KEY = (_is_key, "a whole number or a text")
NAME = (_is_name, "a text that is not empty")
SIZE = (_is_size, "a number of pixels above 0")
FLAG = (_is_flag, "0 or 1")
BBOX = (_is_bbox, "four finite numbers, [x, y, width, height] in pixels")
