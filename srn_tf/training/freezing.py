"""Which weights a stage may move."""


def apply_stage(model, stage):
    """Sets `trainable` on every part and on each of its layers as the stage table says.

    A frozen BatchNorm also keeps its statistics: Keras runs it in inference mode. The flag is set on
    each layer because a composite layer's own flag does not stop its inner BatchNorm, and a graph
    traced before this call ignores it: every stage traces its own.

    Args:
        model: MultiLabelModel.
        stage: one of its stages.
    Returns:
        list of the variables that the stage trains, in a fixed order.
    """
    for name, part in model.parts.items():
        is_trained = name in stage.trains
        part.trainable = is_trained
        for layer in getattr(part, "layers", ()):
            layer.trainable = is_trained
    return [variable for name in stage.trains for variable in model.parts[name].trainable_variables]


def untrained_parts(model, outputs, trained):
    """The parts that outputs come of, and that hold what they were built with.

    Args:
        model: MultiLabelModel.
        outputs: names of outputs.
        trained: names of parts whose weights were learned.
    Returns:
        list of names, in the model's order; parts without weights are not among them.
    """
    used = {id(weight) for weight in model.network_for(outputs).weights}
    return [
        name
        for name, part in model.parts.items()
        if name not in trained and any(id(weight) in used for weight in part.weights)
    ]
