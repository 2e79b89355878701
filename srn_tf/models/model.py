"""What a model is to the rest of the project: its parts, its stage table and its named outputs."""

import dataclasses

import keras


@dataclasses.dataclass(frozen=True)
class Stage:
    """One line of a stage table.

    Attributes:
        trains: names of the parts whose weights move in this stage.
        fixed: names of all other parts; their BatchNorm statistics stay as well.
        losses: output name -> weight of its cross-entropy in this stage's loss.
        watched: the output whose validation loss drives the learning rate and whose validation mAP
            decides which weights are kept.
    """

    trains: tuple
    fixed: tuple
    losses: dict
    watched: str


@dataclasses.dataclass(frozen=True)
class MultiLabelModel:
    """A network with its stages. Trainer, evaluation and export know no more of a model than this.

    Attributes:
        image: the symbolic input, float32 (B, S, S, 3) RGB, 0 to 255.
        outputs: name -> symbolic output computed from `image`.
        parts: name -> Keras model or layer; together they hold every weight, each exactly once.
        stages: name -> Stage, in training order; every stage names every part.
        logits: names of the (B, C) outputs that are scored, the final answer first.
        maps: names of the (B, H, W, C) outputs that are drawn over an image; empty if there are none.
        attention: the one of `maps` whose maximum says where a label was seen, or None.
        explanation: names of the outputs, labels last, that an export gives beside the answer as what led to it;
            empty if nothing explains it.
        embedding: name of the (B, D') output by which images are compared, or None.

    Raises:
        ValueError: a stage leaves out a part, or a weight belongs to no part or to two.
    """

    image: object
    outputs: dict
    parts: dict
    stages: dict
    logits: tuple
    maps: tuple = ()
    attention: str | None = None
    explanation: tuple = ()
    embedding: str | None = None
    network: keras.Model = dataclasses.field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "network", self.network_for(self.outputs))
        names = sorted(self.parts)
        for stage_name, stage in self.stages.items():
            if sorted(stage.trains + stage.fixed) != names:
                raise ValueError(
                    f"Stage {stage_name} must name every part once. Expected: {names}. "
                    f"Received: {sorted(stage.trains + stage.fixed)}."
                )
        in_parts = sum(len(part.weights) for part in self.parts.values())
        if in_parts != len(self.network.weights):
            raise ValueError(
                f"Every weight must belong to exactly one part. The network has {len(self.network.weights)} "
                f"weights, its parts {in_parts}."
            )

    @property
    def final(self):
        """Name of the output that is served."""
        return self.logits[0]

    @property
    def image_size(self):
        """Side S of the square input, pixels."""
        return self.image.shape[1]

    @property
    def num_labels(self):
        """C."""
        return self.outputs[self.final].shape[-1]

    def network_for(self, names):
        """A network on the same weights that computes the named outputs and nothing they do not need.

        Args:
            names: names of outputs.
        Returns:
            keras.Model: image -> dict of those outputs.
        """
        return keras.Model(self.image, {name: self.outputs[name] for name in names})
