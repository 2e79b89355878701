"""Which weights a stage may move."""

from srn_tf.models.variables import variable_of


def apply_stage(model, stage):
    """Sets `trainable` on every part and on each of its layers as the stage table says.

    A frozen BatchNorm also keeps its statistics: Keras runs it in inference mode. The flag is set on
    each layer because a composite layer's own flag does not stop its inner BatchNorm, and a graph
    traced before this call ignores it: every stage traces its own.

    Args:
        model: MultiLabelModel.
        stage: one of its stages.
    Returns:
        dict, address -> tf.Variable that the stage trains, in a fixed order.
    """
    for name, part in model.parts.items():
        _set_trainable(part, name in stage.trains)
    names = {id(variable): address for address, variable in model.weights.items()}
    trained = [variable_of(weight) for name in stage.trains for weight in model.parts[name].trainable_weights]
    return {names[id(variable)]: variable for variable in trained}


def _set_trainable(layer, is_trained):
    layer.trainable = is_trained
    for inner in getattr(layer, "layers", ()):
        _set_trainable(inner, is_trained)


def untrained_parts(model, outputs, trained):
    """The parts that outputs come of, and that hold what they were built with.

    Args:
        model: MultiLabelModel.
        outputs: names of outputs.
        trained: names of parts whose weights were learned.
    Returns:
        list of names, in the model's order; parts that no stage trains are as they should be, and not among them.
    """
    can_train = {name for stage in model.stages.values() for name in stage.trains}
    used = {id(weight) for weight in model.network_for(outputs).weights}
    return [
        name
        for name, part in model.parts.items()
        if name in can_train - set(trained) and any(id(weight) in used for weight in part.weights)
    ]
