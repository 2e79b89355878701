"""Which weights a stage may move."""

import dataclasses

import keras

from srn_tf.models.variables import variable_of


def planned_stage(stage, plan):
    """A stage of the model's table as a run trains it: the parts that `plan.frozen_parts` names are fixed."""
    trains = tuple(name for name in stage.trains if name not in plan.frozen_parts)
    frozen = tuple(name for name in stage.trains if name in plan.frozen_parts)
    return dataclasses.replace(stage, trains=trains, fixed=(*stage.fixed, *frozen))


def apply_stage(model, stage, frozen_norms=()):
    """Sets `trainable` on every part and on each of its layers as the stage table says.

    A frozen BatchNorm also keeps its statistics: Keras runs it in inference mode. The flag is set on
    each layer because a composite layer's own flag does not stop its inner BatchNorm, and a graph
    traced before this call ignores it: every stage traces its own.

    Args:
        model: MultiLabelModel.
        stage: one of its stages, see `planned_stage`.
        frozen_norms: names of parts whose BatchNorms stay, scale and shift too, while the rest of the part trains.
    Returns:
        dict, address -> tf.Variable that the stage trains, in a fixed order.
    """
    for name, part in model.parts.items():
        _set_trainable(part, name in stage.trains, name in frozen_norms)
    names = {id(variable): address for address, variable in model.weights.items()}
    trained = [variable_of(weight) for name in stage.trains for weight in model.parts[name].trainable_weights]
    return {names[id(variable)]: variable for variable in trained}


def _set_trainable(layer, is_trained, are_norms_frozen):
    is_frozen_norm = are_norms_frozen and isinstance(layer, keras.layers.BatchNormalization)
    layer.trainable = is_trained and not is_frozen_norm
    for inner in getattr(layer, "layers", ()):
        _set_trainable(inner, is_trained, are_norms_frozen)


def moving_weights(model):
    """What a step may move after `apply_stage`, by a gradient or, as BatchNorm statistics, without one.

    Args:
        model: MultiLabelModel.
    Returns:
        dict, address -> tf.Variable of the layers that are not frozen, in the model's order.
    """
    moving = {id(variable_of(weight)) for part in model.parts.values() for weight in _weights_that_move(part)}
    return {address: variable for address, variable in model.weights.items() if id(variable) in moving}


def _weights_that_move(layer):
    inner_layers = getattr(layer, "layers", None)
    if inner_layers is not None:
        return [weight for inner in inner_layers for weight in _weights_that_move(inner)]
    return layer.weights if layer.trainable else []


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
