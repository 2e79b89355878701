"""The labels of a model: their names in order, and whether two lists of them are the same."""

import dataclasses
import itertools

from srn_tf.errors import InputError


@dataclasses.dataclass(frozen=True)
class LabelSpace:
    """The C labels of a model, in order. What else belongs to them, such as word vectors, is a field here.

    Attributes:
        names: tuple of C str.
    """

    names: tuple

    def __post_init__(self):
        object.__setattr__(self, "names", tuple(self.names))

    def __len__(self):
        return len(self.names)


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
