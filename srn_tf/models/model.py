"""What a model is to the rest of the project: its parts, its stage table, its named outputs and its maps."""

import collections
import dataclasses
import functools

from srn_tf.lazy import LazyModule

keras = LazyModule("keras")
variables = LazyModule("srn_tf.models.variables")


@dataclasses.dataclass(frozen=True)
class Term:
    """One summand of a stage's loss.

    Attributes:
        name: in the log; no two terms of a stage share one.
        reads: names of the outputs it is computed from.
        function: (outputs, batch, seed) -> float32. outputs: name -> float32 tensor, those of `reads`. batch: "image"
            (b, S, S, 3), "y" (b, C) and perhaps "counted" (b, C), see `training.losses`. seed: two integers, others in
            every step, replica and piece. None: the loss that --loss names, of the one output read.
        weight: its factor in the sum.
        is_per_step: False: the function gives (b,), a value per image; the term is their mean over all images of the
            step. True: it gives a scalar that belongs to the step, however few of its images it sees, such as a loss of
            weights; the term is its mean over the shares of replicas and pieces, weighted by their images.
    """

    name: str
    reads: tuple
    function: object = None
    weight: float = 1.0
    is_per_step: bool = False


def label_loss(output, weight=1.0):
    """The Term of an output (B, C) of logits under the run's --loss."""
    return Term(output, (output,), weight=weight)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One line of a stage table.

    Attributes:
        trains: names of the parts whose weights move in this stage.
        fixed: names of all other parts; their BatchNorm statistics stay as well.
        terms: tuple of Term, whose weighted sum is this stage's loss.
        watched: what drives the learning rate and decides which weights are kept. An output (B, C) of logits: its
            validation loss, and its validation mAP, higher being better. Or one of `terms` that is per image: its mean
            over the validation images, lower being better.
    """

    trains: tuple
    fixed: tuple
    terms: tuple
    watched: str

    @property
    def reads(self):
        """Names of the outputs that its terms are computed from, each once."""
        return tuple(dict.fromkeys(name for term in self.terms for name in term.reads))


@dataclasses.dataclass(frozen=True)
class Map:
    """An output (B, H, W, C), >= 0, that says for each label where in an image a model looked.

    Attributes:
        name: of the output, and in the export.
        title: in pictures, such as "attention A".
        meaning: one sentence for people.
        range: (lowest, highest) value that a cell can have.
    """

    name: str
    title: str
    meaning: str
    range: tuple = (0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class MultiLabelModel:
    """A network with its stages. Trainer, evaluation and export know no more of a model than this.

    Attributes:
        image: the symbolic input, float32 (B, S, S, 3) RGB, 0 to 255.
        outputs: name -> symbolic output computed from `image`.
        parts: name -> Keras model or layer; together they hold every weight, each exactly once.
        stages: name -> Stage, in training order; every stage names every part.
        logits: names of the (B, C) outputs that are scored, the final answer first.
        maps: tuple of Map, those that are drawn over an image, play the pointing game and are in the export; the one
            that says most directly where a label was seen first; empty if there are none.
        explained: names of further outputs, labels last, that an export gives beside maps and logits.
        embedding: name of the (B, D') output by which images are compared, or None.
        label_free: names of the parts that know nothing of the labels, and may start a model of others.

    Raises:
        ValueError: a stage leaves out a part or watches what it does not have, or a weight belongs to no part or to
            two, or two weights have the same address.
    """

    image: object
    outputs: dict
    parts: dict
    stages: dict
    logits: tuple
    maps: tuple = ()
    explained: tuple = ()
    embedding: str | None = None
    label_free: tuple = ("trunk",)
    network: object = dataclasses.field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "network", self.network_for(self.outputs))
        names = sorted(self.parts)
        for stage_name, stage in self.stages.items():
            if sorted(stage.trains + stage.fixed) != names:
                raise ValueError(
                    f"Stage {stage_name} must name every part once. Expected: {names}. "
                    f"Received: {sorted(stage.trains + stage.fixed)}."
                )
            watchable = {*self.logits, *(term.name for term in stage.terms if not term.is_per_step)}
            if stage.watched not in watchable:
                raise ValueError(
                    f"Stage {stage_name} must watch one of {sorted(watchable)}. Received: {stage.watched!r}."
                )
        owners = collections.Counter(id(weight) for part in self.parts.values() for weight in part.weights)
        if set(owners) != {id(weight) for weight in self.network.weights} or set(owners.values()) - {1}:
            raise ValueError(
                f"Every weight must belong to exactly one part. The network has {len(self.network.weights)} "
                f"weights, its parts {owners.total()}, {len(owners)} of them different."
            )
        if len(self.weights) != len(owners):
            raise ValueError("Every weight must have an address of its own.")

    @property
    def final(self):
        """Name of the output that is served."""
        return self.logits[0]

    @property
    def explanation(self):
        """Names of the outputs, labels last, that an export gives beside the answer; empty if the model has no map."""
        return (*(a_map.name for a_map in self.maps), *self.explained, *self.logits) if self.maps else ()

    @property
    def image_size(self):
        """Side S of the square input, pixels."""
        return self.image.shape[1]

    @property
    def num_labels(self):
        """C."""
        return self.outputs[self.final].shape[-1]

    @functools.cached_property
    def weights(self):
        """Every weight's tf.Variable by its address, `<part>/<layer>/.../<weight>`: dict, in order.

        An address, such as "f_sr/sr_conv4/kernel", is the full path of layers and does not depend on Keras' version.

        Raises:
            ValueError: two weights have the same address.
        """
        named = {}
        for name, part in self.parts.items():
            for address, weight in variables.addresses(part, name):
                if address in named:
                    raise ValueError(f"Every weight must have an address of its own. Received: {address} twice.")
                named[address] = weight
        return named

    def network_for(self, names):
        """A network on the same weights that computes the named outputs and nothing they do not need.

        Args:
            names: names of outputs.
        Returns:
            keras.Model: image -> dict of those outputs.
        """
        return keras.Model(self.image, {name: self.outputs[name] for name in names})
