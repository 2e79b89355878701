"""The settings of a method, as plain values. Its flags, --help, run.json and the model card are made from them.

Nothing here loads TensorFlow.
"""

import dataclasses
import math

from srn_tf.errors import InputError


def setting(default, help, choices=None, lowest=None, highest=None):
    """A field of a `Settings`: bool, int, float or str.

    Args:
        default: the value if none is given.
        help: noun phrase for --help, with unit and the paper's value.
        choices: the values it may have; None allows all of the default's type.
        lowest, highest: bounds of a number, both allowed; None is no bound.
    """
    return dataclasses.field(
        default=default, metadata={"help": help, "choices": choices, "lowest": lowest, "highest": highest}
    )


@dataclasses.dataclass(frozen=True)
class Settings:
    """Base class of every method's settings. A method adds its own as fields, made by `setting`.

    A setting that several methods share has the same default, choices and meaning in all of them.

    Attributes:
        stages: the method's stage table, name -> model.Stage, in training order; every stage names every part. Not a
            setting: each method states its own.
        label_fields: fields of labels.LabelSpace, besides the names, that the method's build reads and keeps in weights
            that are not trained (`layers.Constant`). Not a setting either.

    Raises:
        InputError: a value outside its choices or bounds.
    """

    stages = None
    label_fields = ()

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            choices, lowest, highest = (field.metadata[name] for name in ("choices", "lowest", "highest"))
            if type(value) is not type(field.default):
                raise InputError(f"{field.name} must be of type {type(field.default).__name__}. Received: {value!r}.")
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"{field.name} must be a finite number. Received: {value}.")
            if choices is not None and value not in choices:
                allowed = ", ".join(map(str, choices))
                raise InputError(f"{field.name} must be one of {allowed}. Received: {value!r}.")
            if lowest is not None and value < lowest:
                raise InputError(f"{field.name} must be at least {lowest}. Received: {value!r}.")
            if highest is not None and value > highest:
                raise InputError(f"{field.name} must be at most {highest}. Received: {value!r}.")


@dataclasses.dataclass(frozen=True)
class EmbeddingSettings(Settings):
    """Base class of the settings of methods that start from word vectors of their labels."""

    label_embeddings: str = setting(
        "",
        "File of word vectors: text with one word and its numbers per line, as for GloVe and word2vec, or .npz with "
        "the arrays words and vectors. A label gets the vector of its name, or the mean of its words' vectors. Without "
        "a file, msrn and ml_gcn learn the vectors.",
    )
    label_width: int = setting(300, "Length of each vector in --label_embeddings.", lowest=1)

    label_fields = ("embeddings",)


@dataclasses.dataclass(frozen=True)
class LabelGraphSettings(EmbeddingSettings):
    """Base class of the settings of methods with a graph of their labels; without a file they learn the vectors."""

    graph_threshold: float = setting(
        0.4,
        "Minimum share of label j's training images that also have label i, for label i to learn from label j. "
        "Authors: 0.4.",
        None,
        0.0,
        1.0,
    )

    @property
    def label_fields(self):
        """Word vectors if there is a file of them, and co-occurrence."""
        return ("embeddings", "cooccurrence") if self.label_embeddings else ("cooccurrence",)
