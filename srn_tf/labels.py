"""The labels of a model: their names in order, whether two lists of them are the same, and what is known of them."""

import dataclasses
import difflib
import itertools
import re
from collections.abc import Mapping

import numpy as np

from srn_tf.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class LabelSpace:
    """The C labels of a model, in order, and what a method asked to know of them, see `Settings.label_fields`.

    Attributes:
        names: tuple of C str.
        embeddings: float32 (C, E), their word vectors, or None.
        counts: int64 (C,), training images with each label, or None.
        cooccurrence: int64 (C, C), training images with both labels; its diagonal is `counts`; or None.
    """

    names: tuple
    embeddings: np.ndarray | None = None
    counts: np.ndarray | None = None
    cooccurrence: np.ndarray | None = None

    def __post_init__(self):
        object.__setattr__(self, "names", tuple(self.names))

    def __len__(self):
        return len(self.names)

    def with_zeros(self, settings):
        """The same labels, zeros standing in every field that a method asks for and that is not known.

        A method keeps these fields in weights, so that a stored model, which is built without files and data, gets
        their values with its weights.

        Args:
            settings: models.settings.Settings of the method.
        Returns:
            LabelSpace.
        """
        zeros = {
            "embeddings": lambda: np.zeros((len(self), settings.label_width), np.float32),
            "counts": lambda: np.zeros(len(self), np.int64),
            "cooccurrence": lambda: np.zeros((len(self), len(self)), np.int64),
        }
        unknown = [name for name in settings.label_fields if getattr(self, name) is None]
        return dataclasses.replace(self, **{name: zeros[name]() for name in unknown})


def label_index(name, labels, argument="label"):
    """The place of a label in a model's list: int.

    Args:
        name: of the label.
        labels: list of the model's label names.
        argument: what the name was given as, for the message.
    Raises:
        InputError: the model has no such label; it names similar ones.
    """
    if name in labels:
        return labels.index(name)
    near = difflib.get_close_matches(str(name), labels) or labels[:3]
    raise InputError(
        f"{argument} must be among the model's {len(labels)} labels. Received: {name!r}. Some of them: "
        f"{', '.join(near)}."
    )


_KNOWN = re.compile(r"(.+?):([01])(?:,|$)")  # a label's name may have commas and colons of its own


def parse_known(text):
    """Reads what is known of labels: "dog:1,cat:0" -> {"dog": 1, "cat": 0}.

    Args:
        text: as given on a command line, not empty.
    Returns:
        dict, label -> 1 (in the image) or 0 (not in it).
    Raises:
        InputError: another form, or a label that comes twice.
    """
    found = _KNOWN.findall(text)
    if text.endswith(",") or "".join(f"{name}:{value}," for name, value in found)[:-1] != text:
        raise InputError(
            "known must be LABEL:1 for a label in the images or LABEL:0 for one that is not, separated by commas, such "
            f"as dog:1,cat:0. Received: {text!r}."
        )
    values = {}
    for name, value in found:
        if name in values:
            raise InputError(f"known must name each label once. Received: {name!r} twice, in {text!r}. Remove one.")
        values[name] = int(value)
    return values


def known_states(known, labels):
    """What is known of an image's labels, as models read it.

    Args:
        known: dict, label -> 1 (in the image) or 0 (not in it).
        labels: list of the model's C label names.
    Returns:
        int32 (C,): 1, 0, or -1 for a label of which nothing is known.
    Raises:
        InputError: not such a dict, a label that the model does not have, or another value.
    """
    if not isinstance(known, Mapping):
        raise InputError(f'known must be a dict such as {{"dog": 1, "cat": 0}}. Received: {known!r}.')
    states = np.full(len(labels), -1, np.int32)
    for name, value in known.items():
        index = label_index(name, labels, "known")
        if value not in (0, 1):
            raise InputError(
                f"known must be 1 (in the image) or 0 (not in it) for each label. Received: {name}: {value!r}."
            )
        states[index] = value
    return states


def check_same_labels(expected, received, source):
    """Raises InputError with the first difference of two label lists.

    Args:
        expected, received: label names in order.
        source: where the received ones are from, for the message.
    """
    expected, received = list(expected), list(received)
    for index, (one, other) in enumerate(itertools.zip_longest(expected, received, fillvalue="(no more)")):
        if one != other:
            lengths = "" if len(expected) == len(received) else f" ({len(expected)} labels against {len(received)})"
            raise InputError(
                f"{source} must have the same labels in the same order. Expected at position {index}: {one!r}. "
                f"Received: {other!r}{lengths}."
            )
