"""The labels of a model: their names in order, and whether two lists of them are the same."""

import dataclasses
import difflib
import itertools

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
