"""The labels of a model: their names in order, and whether two lists of them are the same."""

import dataclasses
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
        shapes = {"counts": (len(self),), "cooccurrence": (len(self), len(self))}
        zeros = {
            name: np.zeros(shapes[name], np.int64)
            if name in shapes
            else np.zeros((len(self), settings.label_width), np.float32)
            for name in settings.label_fields
            if getattr(self, name) is None
        }
        return dataclasses.replace(self, **zeros)


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
                f"{source} has other labels, first at position {index}. Expected: {one!r}. "
                f"Received: {other!r}{lengths}."
            )
