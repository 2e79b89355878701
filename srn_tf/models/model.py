"""A model as the rest of the project sees it: parts, stage table, named outputs, maps and regions."""

import collections
import dataclasses
import functools

import numpy as np

from srn_tf.errors import InputError
from srn_tf.lazy import LazyModule

keras = LazyModule("keras")
tf = LazyModule("tensorflow")
variables = LazyModule("srn_tf.models.variables")


@dataclasses.dataclass(frozen=True)
class Term:
    """One summand of a stage's loss.

    Attributes:
        name: in the log; unique within its stage.
        reads: names of the outputs it is computed from.
        function: (outputs, batch, seed) -> float32. outputs: name -> float32 tensor, those of `reads`. batch: "image"
            (b, S, S, 3) (not with --cache=features), "y" (b, C), perhaps "counted" (b, C), see `training.losses`, and
            what the stage needs. seed: two integers that differ in every step, replica and piece. None: the loss that
            --loss names, on the first output of `reads`, logits (b, C); a second one (b, C) is 1 for the labels that it
            counts, else 0.
        weight: its factor in the sum.
        is_per_step: False: the function gives (b,), one value per image; the term is their mean over all images of the
            step. True: it gives one scalar for the step, however few of its images it sees, such as a loss on weights;
            the term is its mean over the shares of replicas and pieces, weighted by their images.
    """

    name: str
    reads: tuple
    function: object = None
    weight: float = 1.0
    is_per_step: bool = False


def label_loss(output, weight=1.0, counts=None):
    """The Term for an output (B, C) of logits under the run's --loss; `counts` names an output, see `Term.function`."""
    return Term(output, (output,) if counts is None else (output, counts), weight=weight)


NEEDS = ("boxes",)
"""What a stage may need from the data besides images and labels. With "boxes", a batch has "boxes" float32 (b, K, 4):
ymin, xmin, ymax, xmax in fractions of the augmented image; and "box_labels" int64 (b, K), -1 where an image has fewer
than K boxes. K is the same in all batches of a run."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One line of a stage table.

    Attributes:
        trains: names of the parts whose weights change in this stage.
        fixed: names of all other parts; their BatchNorm statistics do not change either.
        terms: tuple of Term, whose weighted sum is this stage's loss.
        watched: what drives the learning rate and decides which weights are kept. Either an output (B, C) of logits:
            its validation loss drives the rate, and the highest validation mAP decides. Or one of `terms` that is per
            image: its mean over the validation images does both, lower being better.
        needs: what its terms read from the batch besides images and labels; among `NEEDS`.
        starts_from: address of a weight -> address of another weight, whose value it gets, in its own shape, when the
            stage begins. A part that has already learned keeps its weights, see `copied_parts`; so does a stage that
            continues from a saved state.
        is_default: False for a stage that a run trains only if --stages names it.
    """

    trains: tuple
    fixed: tuple
    terms: tuple
    watched: str
    needs: tuple = ()
    starts_from: dict = dataclasses.field(default_factory=dict)
    is_default: bool = True

    @property
    def reads(self):
        """Names of the outputs that its terms are computed from, without repetition."""
        return tuple(dict.fromkeys(name for term in self.terms for name in term.reads))

    def copied_parts(self, learned):
        """The parts that start with the weights of another part: dict, name of the part -> name of that other part.

        Args:
            learned: names of parts that hold learned weights when the stage begins; they keep them.
        """
        parts = {target.split("/")[0]: source.split("/")[0] for target, source in self.starts_from.items()}
        return {target: source for target, source in parts.items() if target not in learned}

    def learned_parts(self, learned):
        """Names of the parts that hold learned weights after the stage: list, those of `learned` first."""
        copied = [target for target, source in self.copied_parts(learned).items() if source in learned]
        return list(dict.fromkeys((*learned, *copied, *self.trains)))


@dataclasses.dataclass(frozen=True)
class Map:
    """An output (B, H, W, C), >= 0, that shows for each label where in an image the model looked.

    Attributes:
        name: of the output, also in the export.
        title: in pictures, such as "attention A".
        meaning: an explanation for people, one sentence.
        range: (lowest, highest) possible value of a cell.
        sums_to_one: bool, over the H * W cells, so that 1 / (H * W) in each of them says nothing.
    """

    name: str
    title: str
    meaning: str
    range: tuple = (0.0, 1.0)
    sums_to_one: bool = True


@dataclasses.dataclass(frozen=True)
class Regions:
    """Two outputs: R boxes of an image, and how confidently the model found its labels in each.

    Attributes:
        boxes: name of the output float32 (B, R, 4): ymin, xmin, ymax, xmax in fractions of the image.
        scores: name of the output float32 (B, R, C), or (B, R) if boxes belong to no particular label; in [0, 1],
            0 where there is no box.
        title: in pictures, such as "proposals".
        meaning: an explanation for people, one sentence.
    """

    boxes: str
    scores: str
    title: str
    meaning: str

    @property
    def name(self):
        """Its name, among those of the maps."""
        return self.scores

    @property
    def outputs(self):
        """Names of its two outputs."""
        return (self.boxes, self.scores)

    def of_label(self, answer, row, label):
        """The boxes of a label in an image, highest score first, without boxes of score 0.

        Args:
            answer: name -> array, the outputs for several images.
            row: index of the image.
            label: index of the label.
        Returns:
            (boxes float32 (R', 4), scores float32 (R',)).
        """
        boxes, scores = answer[self.boxes][row], answer[self.scores][row]
        scores = scores if scores.ndim == 1 else scores[:, label]
        order = np.argsort(-scores, kind="stable")[: np.count_nonzero(scores)]
        return boxes[order], scores[order]


@dataclasses.dataclass(frozen=True)
class MultiLabelModel:
    """A network with its stages. This is all that trainer, evaluation and export know of a model.

    Attributes:
        image: the symbolic input, float32 (B, S, S, 3) RGB, 0 to 255.
        outputs: name -> symbolic output computed from `image`.
        parts: name -> Keras model or layer; together they hold every weight, each exactly once.
        stages: name -> Stage, in training order; every stage names every part.
        logits: names of the (B, C) outputs that are scored, the final answer first.
        maps: tuple of Map, which are drawn over images, play the pointing game and are exported. The one that shows
            most directly where a label was seen comes first. Empty if there are none.
        regions: tuple of Regions, which are drawn over images and exported; empty if there are none.
        explained: names of further outputs, labels last, that an export gives besides maps, regions and logits.
        embedding: name of the (B, D') output by which images are compared, or None.
        label_free: names of the parts that do not depend on the labels; a model of other labels may start from them.
        features: map's name -> symbolic (B, H, W, D): all maps of the trunk that the other parts read, where
            `heads_for` begins; empty if a method does not say.
        truth: the symbolic input "truth" of the taught outputs, see `truth_of`; None if there are none.
        taught: name -> symbolic output computed from `image` and `truth`, such as a recurrent net's scores for true
            labels that follow true labels. Only terms read them, like other outputs; but for `informed`.
        informed: name of the taught logits (B, C) of a model that also answers where some labels are known: `truth`
            then holds 1 for those in the image, 0 for those not in it, -1 for all others. None if it cannot.

    Raises:
        ValueError: a stage leaves out a part, watches what it does not have, needs what is not in `NEEDS`, or starts
            from a weight that does not exist or has another size; a weight belongs to no part or to two; two weights
            have the same address; a map or regions name an output that does not exist or has another shape; or
            `informed` names none of the taught.
    """

    image: object
    outputs: dict
    parts: dict
    stages: dict
    logits: tuple
    maps: tuple = ()
    regions: tuple = ()
    explained: tuple = ()
    embedding: str | None = None
    label_free: tuple = ("trunk",)
    features: dict = dataclasses.field(default_factory=dict)
    truth: object = None
    taught: dict = dataclasses.field(default_factory=dict)
    informed: str | None = None
    network: object = dataclasses.field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "network", self.network_for(self.outputs))
        for a_map in self.maps:
            self._check_output(a_map.name, [(None, None, None, self.num_labels)])
        for regions in self.regions:
            self._check_output(regions.boxes, [(None, None, 4)])
            count = self.outputs[regions.boxes].shape[1]
            self._check_output(regions.scores, [(None, count, self.num_labels), (None, count)])
        if self.informed is not None and self.informed not in self.taught:
            raise ValueError(
                f"informed must be one of the taught outputs {list(self.taught)}. Received: {self.informed!r}."
            )
        names = sorted(self.parts)
        for stage_name, stage in self.stages.items():
            if sorted(stage.trains + stage.fixed) != names:
                raise ValueError(
                    f"Stage {stage_name} must name every part once. Expected: {names}. "
                    f"Received: {sorted(stage.trains + stage.fixed)}."
                )
            if not set(stage.needs) <= set(NEEDS):
                raise ValueError(f"Stage {stage_name} may need {list(NEEDS)}. Received: {list(stage.needs)}.")
            watchable = {*self.logits, *(term.name for term in stage.terms if not term.is_per_step)}
            if stage.watched not in watchable:
                raise ValueError(
                    f"Stage {stage_name} must watch one of {sorted(watchable)}. Received: {stage.watched!r}."
                )
        owners = collections.Counter(id(weight) for part in self.parts.values() for weight in part.weights)
        used = (self.network_for((*self.outputs, *self.taught)) if self.taught else self.network).weights
        if set(owners) != {id(weight) for weight in used} or set(owners.values()) - {1}:
            raise ValueError(
                f"Every weight must belong to exactly one part. The network has {len(used)} "
                f"weights, its parts {owners.total()}, {len(owners)} of them different."
            )
        if len(self.weights) != len(owners):
            raise ValueError("Every weight must have an address of its own.")
        sizes = {name: weight.shape.num_elements() for name, weight in self.weights.items()}
        for stage_name, stage in self.stages.items():
            for target, source in stage.starts_from.items():
                if sizes.get(target) is None or sizes[target] != sizes.get(source):
                    raise ValueError(
                        f"Stage {stage_name} must start a weight from one of the same size. Received: {target} of "
                        f"{sizes.get(target, 'no')} elements from {source} of {sizes.get(source, 'no')}."
                    )

    @property
    def final(self):
        """Name of the output that is served."""
        return self.logits[0]

    def serving(self, name):
        """The same model with another of its logits as the final answer.

        Args:
            name: one of `logits`.
        Raises:
            InputError: it is none of them.
        """
        if name not in self.logits:
            raise InputError(f"The served output must be one of {', '.join(self.logits)}. Received: {name!r}.")
        others = (other for other in self.logits if other != name)
        return dataclasses.replace(self, logits=(name, *others))

    @property
    def explanation(self):
        """Names of the outputs that an export gives besides the answer; empty if none shows where the model looked."""
        seen = [*(a_map.name for a_map in self.maps), *(name for regions in self.regions for name in regions.outputs)]
        return tuple(dict.fromkeys((*seen, *self.explained, *self.logits))) if seen else ()

    @property
    def served_network(self):
        """The network that an export computes: all outputs, and the answer where labels are known, if there is one."""
        return self.network if self.informed is None else self.network_for((*self.outputs, self.informed))

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
        """dict, in order: address of each weight, `<part>/<layer>/.../<weight>` -> its tf.Variable.

        An address, such as "f_sr/sr_conv4/kernel", is the full path of layers. It is the same in all versions of Keras.

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

    def copy_weights(self, stage, learned):
        """Copies the weights that a stage starts from, when it begins; see `Stage.starts_from`.

        Args:
            stage: one of the model's stages.
            learned: names of the parts that hold learned weights.
        Returns:
            dict, as from `Stage.copied_parts`.
        """
        copied = stage.copied_parts(learned)
        for target, source in stage.starts_from.items():
            if target.split("/")[0] in copied:
                weight = self.weights[target]
                weight.assign(self.weights[source].numpy().reshape(weight.shape))
        return copied

    def network_for(self, names):
        """A network with the same weights that computes the named outputs, and only what they need.

        Args:
            names: names of outputs, some of them perhaps taught.
        Returns:
            keras.Model: image -> dict of those outputs. If one of them is taught, the input is a dict of image and
            truth.
        """
        outputs = {**self.outputs, **self.taught}
        inputs = {"image": self.image, "truth": self.truth} if self._are_taught(names) else self.image
        return keras.Model(inputs, {name: outputs[name] for name in names})

    def heads_for(self, names):
        """A network with the same weights that computes the named outputs from the trunk's maps of the images.

        Args:
            names: names of outputs, some of them perhaps taught.
        Returns:
            keras.Model: dict of the `features` that the outputs depend on, and of truth if one is taught -> dict of
            those outputs. Its inputs have the names of the features.
        """
        outputs, read, truth = self.outputs, self.features, {}
        if self._are_taught(names):
            outputs, truth = {**self.outputs, **self.taught}, {"truth": self.truth}
        if len(read) > 1:
            is_read = _are_read(keras.Model([*read.values(), *truth.values()], outputs), names)[: len(read)]
            read = {name: x for (name, x), is_it in zip(read.items(), is_read, strict=True) if is_it}
        read = {**read, **truth}
        rest = keras.Model(list(read.values()), {name: outputs[name] for name in names})
        # Keras names the inputs of a model that begins inside a graph; Keras 3 needs a dict's inputs named by its keys.
        inputs = {name: keras.Input(x.shape[1:], dtype=x.dtype, name=name) for name, x in read.items()}
        return keras.Model(inputs, rest(list(inputs.values())))

    def _are_taught(self, names):
        return not self.taught.keys().isdisjoint(names)

    def _check_output(self, name, shapes):
        """Raises ValueError unless the output exists and has one of the shapes; None matches any number."""
        if name not in self.outputs:
            raise ValueError(f"A map or region must be one of the outputs {list(self.outputs)}. Received: {name!r}.")
        received = tuple(self.outputs[name].shape)
        if not any(
            len(shape) == len(received) and all(size in (None, other) for size, other in zip(shape, received))
            for shape in shapes
        ):
            raise ValueError(f"{name} must have the shape {' or '.join(map(str, shapes))}. Received: {received}.")


def _are_read(network, names):
    """Whether the named outputs of a network depend on each of its inputs: list of bool."""
    operations, behind = [], set()

    def trace(inputs):
        answers = network(inputs, training=False)
        operations.extend(answers[name].op for name in names)

    specs = [tf.TensorSpec([None, *x.shape[1:]], x.dtype) for x in network.inputs]
    graph = tf.function(trace, autograph=False).get_concrete_function(specs).graph
    while operations:
        operation = operations.pop()
        if operation not in behind:
            behind.add(operation)
            operations.extend(x.op for x in operation.inputs)
    return [x.op in behind for x in graph.inputs[: len(specs)]]


def input_of(network, batch):
    """The part of a batch that a network reads.

    Args:
        network: keras.Model, as `MultiLabelModel.network_for` or `heads_for` gives it.
        batch: see `Term`; "y" may be missing if no output is taught.
    Returns:
        The images, a dict of features, or a dict of either with the truth.
    """
    names = [x.name for x in network.inputs]
    if names == ["image"]:
        return batch["image"]
    return {name: truth_of(batch) if name == "truth" else batch[name] for name in names}


def truth_of(batch):
    """The labels of a batch as networks read them: float32 (b, C), 1 true, 0 not true, -1 not counted."""
    return batch["y"] - (1.0 - batch["counted"]) if "counted" in batch else batch["y"]
