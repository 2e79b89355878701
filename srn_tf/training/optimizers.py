"""How a stage's weights move by their gradients."""

import dataclasses

import keras
import tensorflow as tf

from srn_tf.choices import OPTIMIZERS
from srn_tf.errors import InputError


class StageOptimizer:
    """The optimizer of a stage: one of Keras for all parts whose learning rates have the same factor.

    sgd: Caffe's rule, v = momentum * v + rate * g, w = w - v, with weight_decay * w in the gradient g of every
    variable, biases and BatchNorm included. adam: Keras's Adam (beta 1 is `momentum`, beta 2 0.999, epsilon 1e-7) with
    weight_decay * w in the gradient as well. adamw: Keras's AdamW; the decay is not in the gradient, every weight
    loses rate * weight_decay of itself before its step. A part's factor is one of its rate: of all that moves it.

    Make it in the strategy's scope.

    Args:
        model: MultiLabelModel, after `freezing.apply_stage`.
        stage: one of its stages.
        plan: TrainingPlan; optimizer, momentum, weight_decay and rate_scales are read.

    Attributes:
        variables: all that the stage trains, in `apply_stage`'s order; gradients come in this order.

    Raises:
        InputError: an unknown optimizer.
    """

    def __init__(self, model, stage, plan):
        self.variables = []
        indices = {}  # factor of the rate -> of the variables that have it
        for name in stage.trains:
            of_part = model.parts[name].trainable_variables
            start = len(self.variables)
            indices.setdefault(plan.rate_scales.get(name, 1.0), []).extend(range(start, start + len(of_part)))
            self.variables.extend(of_part)
        self._weight_decay = 0.0 if plan.optimizer == "adamw" else plan.weight_decay
        self._groups = [_Group(_make_optimizer(plan), scale, own) for scale, own in indices.items() if own]
        for group in self._groups:
            group.optimizer.build([self.variables[i] for i in group.indices])

    @property
    def state(self):
        """dict: stable name -> tf.Variable of everything that lasts from step to step."""
        return {
            f"optimizer/{number}/{i}": variable
            for number, group in enumerate(self._groups)
            for i, variable in enumerate(group.optimizer.variables)
        }

    def set_rate(self, rate):
        """Sets the schedule's learning rate, float32 scalar; outside the replicas."""
        for group in self._groups:
            group.optimizer.learning_rate.assign(rate * group.scale)

    def apply(self, gradients):
        """Moves every variable once; in every replica, with gradients that are already summed over the replicas."""
        if self._weight_decay:
            gradients = [g + self._weight_decay * v for g, v in zip(gradients, self.variables)]
        for group in self._groups:
            pairs = [(gradients[i], self.variables[i]) for i in group.indices]
            group.optimizer.apply_gradients(pairs, skip_gradients_aggregation=True)  # Keras 3 never aggregates


@dataclasses.dataclass(frozen=True)
class _Group:
    optimizer: object
    scale: float
    indices: list


class _Momentum(keras.optimizers.SGD):
    """Keras's SGD with momentum, bit for bit, as one pass over a variable instead of six.

    Keras 2.15 names what is overridden so; Keras 3 hands the learning rate over.
    """

    def update_step(self, gradient, variable):
        momentum = self.momentums[self._index_dict[self._var_key(variable)]]
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=momentum.handle,
            lr=self.learning_rate,
            grad=gradient,
            momentum=self.momentum,
        )


def _make_optimizer(plan):
    if plan.optimizer == "sgd":
        optimizer = _Momentum(momentum=plan.momentum)
    elif plan.optimizer == "adam":
        optimizer = keras.optimizers.Adam(beta_1=plan.momentum)
    elif plan.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(beta_1=plan.momentum, weight_decay=plan.weight_decay)
    else:
        raise InputError(f"optimizer must be one of {', '.join(OPTIMIZERS)}. Received: {plan.optimizer!r}.")
    # Where there is a GPU, Keras 2.15 compiles every update with XLA. Keras 3 does not, and has no such argument.
    optimizer.jit_compile = False
    return optimizer
