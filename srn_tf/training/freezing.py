"""Which weights a stage may move."""

import dataclasses

import keras

from srn_tf.models.variables import variable_of


def planned_stage(stage, plan):
    """A stage of the model's table as a run trains it: parts in `plan.frozen_parts` are fixed."""
    trains = tuple(name for name in stage.trains if name not in plan.frozen_parts)
    frozen = tuple(name for name in stage.trains if name in plan.frozen_parts)
    return dataclasses.replace(stage, trains=trains, fixed=(*stage.fixed, *frozen))


def apply_stage(model, stage, frozen_norms=()):
    """Sets `trainable` on every part and on each of its layers as the stage table says.

    A frozen BatchNorm also keeps its statistics, because Keras runs it in inference mode. The flag is set on each
    layer, since the flag of a composite layer does not stop its inner BatchNorm. A graph that was traced before this
    call ignores it, so every stage traces its own.

    Args:
        model: MultiLabelModel.
        stage: one of its stages, see `planned_stage`.
        frozen_norms: names of parts whose BatchNorms stay fixed, scale and shift too, while the rest trains.
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
    """The weights that a step may change after `apply_stage`: by a gradient, or without one as BatchNorm statistics.

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
    """The parts that outputs depend on and that still hold their initial weights.

    Args:
        model: MultiLabelModel.
        outputs: names of outputs.
        trained: names of parts whose weights were learned.
    Returns:
        list of names, in the model's order, without parts that no stage ever trains.
    """
    can_train = {name for stage in model.stages.values() for name in stage.trains}
    used = {id(weight) for weight in model.network_for(outputs).weights}
    return [
        name
        for name, part in model.parts.items()
        if name in can_train - set(trained) and any(id(weight) in used for weight in part.weights)
    ]
