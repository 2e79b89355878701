"""How a stage's weights move by their gradients."""

import tensorflow as tf

from srn_tf.choices import OPTIMIZERS
from srn_tf.errors import InputError

BETA_2, EPSILON = 0.999, 1e-7
RHO = 0.9  # of rmsprop


class StageOptimizer:
    """The optimizer of a stage, with a learning rate for each part.

    sgd: Caffe's rule, v = momentum * v + rate * g, w = w - v, with weight_decay * w in the gradient g of every
    variable, biases and BatchNorm included (decayed_weights "all"), or of those of two and more axes that are no bias
    (decayed_weights "matrices"). adam: Kingma and Ba, ICLR 2015, in the form before its section 2.1
    (beta 1 is `momentum`, beta 2 0.999, epsilon 1e-7), with weight_decay * w in the gradient as well. adamw: the same,
    but the decay is not in the gradient: every weight loses rate * weight_decay of itself before its step (Loshchilov
    and Hutter, ICLR 2019). rmsprop: Tieleman and Hinton, 2012, s = 0.9 * s + 0.1 * g^2,
    v = momentum * v + rate * g / sqrt(s + epsilon), w = w - v, with weight_decay * w in the gradient (PyTorch adds
    epsilon behind the root, and multiplies by the rate last). A part's factor is one of its rate: of all that moves it.

    Each is Keras' optimizer of that name in every operation. Make it in the strategy's scope.

    Args:
        variables: address -> tf.Variable that the stage trains, see `freezing.apply_stage`.
        plan: TrainingPlan; optimizer, momentum, weight_decay, decayed_weights and rate_scales are read.

    Attributes:
        variables: as given; gradients come in this order.
        state: stable name -> tf.Variable of everything that lasts from step to step.

    Raises:
        InputError: an unknown optimizer.
    """

    def __init__(self, variables, plan):
        if plan.optimizer not in OPTIMIZERS:
            raise InputError(f"optimizer must be one of {', '.join(OPTIMIZERS)}. Received: {plan.optimizer!r}.")
        self.variables = variables
        self._kind, self._momentum = plan.optimizer, plan.momentum
        only_matrices = plan.decayed_weights == "matrices"
        self._decays = [
            0.0 if only_matrices and not _is_matrix(address, variable) else plan.weight_decay
            for address, variable in variables.items()
        ]
        self._scales = [plan.rate_scales.get(address.split("/")[0], 1.0) for address in variables]
        self._momenta, self._velocities = self._slots("momentum"), {}
        self.state = dict(self._momenta)
        if self._kind != "sgd":
            self._velocities = self._slots("velocity")
            self.state |= self._velocities
        if self._kind in ("adam", "adamw"):
            self._updates = tf.Variable(0, dtype=tf.int64, trainable=False, name="optimizer_updates")
            self.state["optimizer/updates"] = self._updates

    def _slots(self, name):
        """A variable beside each of those that are trained, zeros at first, by its name in `state`."""
        return {
            f"optimizer/{address}/{name}": tf.Variable(tf.zeros(variable.shape), trainable=False, name=name)
            for address, variable in self.variables.items()
        }

    def apply(self, gradients, rate, momentum=None):
        """Moves every variable once; in every replica, with gradients that are already summed over the replicas.

        All replicas have the same gradients, and each moves its own copies: nothing is summed here.

        Args:
            gradients: list of float32 tensors.
            rate: float32 scalar, the schedule's learning rate.
            momentum: float32 scalar, the schedule's momentum; None: the plan's.
        """
        momentum = self._momentum if momentum is None else momentum
        if self._kind != "adamw":
            decayed = zip(gradients, self.variables.values(), self._decays, strict=True)
            gradients = [g + decay * w if decay else g for g, w, decay in decayed]
        rows = zip(self.variables.values(), gradients, self._scales, self._momenta.values(), strict=True)
        if self._kind == "sgd":
            for w, g, scale, v in rows:
                _step_with_momentum(w, g, rate * scale, v, momentum)
            return
        if self._kind == "rmsprop":
            for (w, g, scale, v), s in zip(rows, self._velocities.values(), strict=True):
                _step_of_rmsprop(w, g, rate * scale, v, s, momentum)
            return
        number = tf.cast(self._updates + 1, tf.float32)
        for (w, g, scale, m), v, decay in zip(rows, self._velocities.values(), self._decays, strict=True):
            if decay and self._kind == "adamw":
                w.assign_sub(w * decay * (rate * scale))
            _step_of_adam(w, g, rate * scale, m, v, momentum, number)
        self._updates.assign_add(1)


def _is_matrix(address, variable):
    """Whether a weight has two axes or more and is no bias: scale and shift of a normalization have one, biases of
    Keras' attention two.
    """
    return variable.shape.rank > 1 and not address.endswith("bias")


def _step_with_momentum(w, g, rate, v, momentum):
    """v = momentum * v - rate * g, w = w + v, as one pass over a variable."""
    tf.raw_ops.ResourceApplyKerasMomentum(var=w.handle, accum=v.handle, lr=rate, grad=g, momentum=momentum)


def _step_of_rmsprop(w, g, rate, v, s, momentum):
    s.assign(RHO * s + (1 - RHO) * tf.square(g))
    v.assign(momentum * v + (rate * g) / tf.sqrt(s + EPSILON))
    w.assign_sub(v)


def _step_of_adam(w, g, rate, m, v, beta_1, number):
    """One update; `number`, float32 scalar, counts them from 1."""
    m.assign_add((g - m) * (1 - beta_1))
    v.assign_add((tf.square(g) - v) * (1 - BETA_2))
    alpha = rate * tf.sqrt(1 - tf.pow(BETA_2, number)) / (1 - tf.pow(beta_1, number))
    w.assign_sub((m * alpha) / (tf.sqrt(v) + EPSILON))
