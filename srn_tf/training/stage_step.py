"""The training steps of one stage as one graph, over all replicas."""

import contextlib
import dataclasses

import numpy as np
import tensorflow as tf

from srn_tf.models.norm_products import with_norm_products
from srn_tf.training.averages import WeightAverage
from srn_tf.training.freezing import apply_stage, moving_weights
from srn_tf.training.loss_scale import LossScale
from srn_tf.training.losses import step_seed
from srn_tf.training.optimizers import StageOptimizer
from srn_tf.training.steps import accumulated_gradients

STATISTICS = ("moving_mean", "moving_variance")  # of BatchNorm


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of n steps.

    Attributes:
        losses: term's name -> float32 (n,), its unweighted value, mean over the step's images.
        is_finite: bool (n,); False: a loss or the gradient was not finite, and the step changed nothing.
        gradient_norm: float32 (n,), Euclidean norm of the whole gradient before it is clipped, without weight decay.
    """

    losses: dict
    is_finite: np.ndarray
    gradient_norm: np.ndarray


class StageStep:
    """Everything that a stage does in the graph, from a batch to updated weights; traced once.

    In a step, every replica computes the losses and gradients of its share (`steps.accumulated_gradients`). They are
    summed over the replicas, clipped together, and update the weights (`optimizers.StageOptimizer`) and their averages.
    A BatchNorm normalizes each share by itself; after every step, its statistics are the mean over the replicas.
    A loss or gradient that is not finite changes nothing at all: weights, BatchNorm statistics, the optimizer's state
    and the averages stay bit for bit.

    Clipping applies to the gradient of the loss; weight decay is added after it, as in Caffe.

    Args:
        model: MultiLabelModel, built in the scope of `strategy`.
        strategy: tf.distribute strategy.
        stage: one of the model's stages, see `freezing.planned_stage`. This sets its trainable flags.
        stage_index: index of the stage in the plan; with the plan's seed it decides the random draws of losses.
        plan: TrainingPlan. A replica's share of batch_size must be a multiple of accumulation_steps.
        loss: see `training.losses`.

    Attributes:
        network: keras.Model that computes what the stage's terms read.
        average: WeightAverage of the weights of the layers that are trained, BatchNorm statistics included, or None.
        traces: how often the graph was traced.

    Raises:
        InputError: see `StageOptimizer`.
    """

    def __init__(self, model, strategy, stage, stage_index, plan, loss):
        self._strategy, self._stage, self._stage_index = strategy, stage, stage_index
        self._plan, self._loss = plan, loss
        self._names = [term.name for term in stage.terms]
        self.traces = 0
        with strategy.scope():
            trained = apply_stage(model, stage, plan.frozen_norms)
            network = (model.heads_for if plan.cache == "features" else model.network_for)(stage.reads)
            self.network = network if plan.xla else with_norm_products(network)
            self._optimizer = StageOptimizer(trained, plan)
            self._weights = moving_weights(model)
            self.average = WeightAverage(self._weights.values(), plan.ema_decay) if plan.ema_decay else None
            self._loss_scale = LossScale() if plan.precision == "mixed_float16" else None
            self._steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="steps")
            self._skipped = tf.Variable(0, dtype=tf.int64, trainable=False, name="skipped_steps")
        # Weights that the forward pass changes before it is known whether the step counts; and those of them that each
        # replica changes by its own images.
        moving = {name: weight for name, weight in self._weights.items() if name not in trained}
        self._moving = list(moving.values())
        self._statistics = [weight for name, weight in moving.items() if name.endswith(STATISTICS)]
        self._compute = tf.function(self._share, jit_compile=True) if plan.xla else self._share
        self._graph = None

    @property
    def num_trained(self):
        """(weights, tensors) that the stage trains."""
        variables = self._optimizer.variables.values()
        return sum(int(np.prod(variable.shape)) for variable in variables), len(variables)

    @property
    def variables(self):
        """dict: stable name -> tf.Variable of all state besides the model's weights."""
        named = {"steps": self._steps, "skipped_steps": self._skipped, **self._optimizer.state}
        if self.average is not None:
            named["average_updates"] = self.average.updates
            named |= {f"average/{name}": value for name, value in zip(self._weights, self.average.averages)}
        if self._loss_scale is not None:
            named |= self._loss_scale.state
        return named

    def holding(self, kind):
        """A context in which the model holds its "plain" weights or their "average"."""
        return contextlib.nullcontext() if kind == "plain" else self.average.swapped_in()

    def run(self, stack, rates, momenta=None):
        """Takes n steps, one after the other.

        Args:
            stack: {"image": float32 (n, b, S, S, 3) or features, "y": float32 (n, b, C)}, perhaps "counted" (n, b, C),
                and what the stage needs, of every replica its share: n steps of b images.
            rates: n learning rates.
            momenta: n momenta; None: the plan's momentum, in every call.
        Returns:
            Outcome.
        """
        by_name = {name: self._strategy.experimental_local_results(value) for name, value in stack.items()}
        shares = [dict(zip(by_name, values)) for values in zip(*by_name.values())]
        settings = {"rate": tf.constant(rates, tf.float32)}  # of `StageOptimizer.apply`, step by step
        if momenta is not None:
            settings["momentum"] = tf.constant(momenta, tf.float32)
        if self._graph is None:  # the number of steps per call may change; all else stays the same
            specs = tf.nest.map_structure(lambda value: tf.TensorSpec([None, *value.shape[1:]], value.dtype), shares)
            of_steps = dict.fromkeys(settings, tf.TensorSpec([None], tf.float32))
            self._graph = tf.function(self._take_steps, [specs, of_steps], autograph=False)
        *losses, norm = self._graph(shares, settings).numpy().T
        return Outcome(dict(zip(self._names, losses)), np.isfinite([*losses, norm]).all(axis=0), norm)

    def _take_steps(self, shares, settings):
        """float32 (n, number of terms + 1): the terms and the gradient's norm of n steps."""
        self.traces += 1
        stack = self._strategy.experimental_distribute_values_from_function(
            lambda context: shares[context.replica_id_in_sync_group % len(shares)]
        )
        num_steps = tf.size(settings["rate"])
        rows = tf.TensorArray(tf.float32, num_steps, element_shape=[len(self._names) + 1])
        _, rows = tf.while_loop(
            lambda i, _: i < num_steps,
            lambda i, rows: (
                i + 1,
                rows.write(i, self._take_step(stack, i, {name: values[i] for name, values in settings.items()})),
            ),
            (0, rows),
            parallel_iterations=1,  # otherwise the next step's forward pass would take memory during this step
        )
        return rows.stack()

    def _take_step(self, stack, i, settings):
        strategy, scale = self._strategy, self._loss_scale
        arguments = (stack, i, self._steps.read_value(), None if scale is None else scale.value.read_value())
        gradients, kept, row = strategy.run(self._summed_gradients, args=arguments)
        row = strategy.experimental_local_results(row)[0]  # the same in every replica

        def move():
            strategy.run(self._optimizer.apply, args=(gradients,), kwargs=settings)
            if self.average is not None:
                self.average.update()
            if scale is not None:
                scale.count_finite()

        def stay():
            strategy.run(self._restore, args=(kept,))
            self._skipped.assign_add(1)
            if scale is not None:
                scale.reduce()

        tf.cond(tf.reduce_all(tf.math.is_finite(row)), move, stay)
        self._steps.assign_add(1)
        return row

    def _summed_gradients(self, stack, i, step, loss_scale):
        """In one replica: gradients over all replicas, earlier values of what changed; losses and norm as a vector."""
        context = tf.distribute.get_replica_context()
        batch = {name: value[i] for name, value in stack.items()}
        seed = step_seed(self._plan.seed, self._stage_index, step, context.replica_id_in_sync_group)
        kept = [weight.read_value() for weight in self._moving]
        with tf.control_dependencies(kept):
            parts, gradients = self._compute(batch, seed, loss_scale)
        num_replicas = context.num_replicas_in_sync
        statistics = [weight / num_replicas for weight in self._statistics] if num_replicas > 1 else []
        # The only place where replicas meet. Each has divided by the images of all, so that sums are means.
        parts, gradients, statistics = context.all_reduce("SUM", [parts, gradients, statistics])
        for weight, mean in zip(self._statistics, statistics):
            weight.assign(mean)
        norm = tf.linalg.global_norm(gradients)
        if self._plan.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self._plan.clip_norm, norm)
        return gradients, kept, tf.stack([*(parts[name] for name in self._names), norm])

    def _share(self, batch, seed, loss_scale):
        plan = self._plan
        return accumulated_gradients(
            self.network,
            self._stage.terms,
            self._optimizer.variables,
            batch,
            plan.images_per_step,
            plan.accumulation_steps,
            self._loss,
            seed,
            loss_scale,
        )

    def _restore(self, kept):
        for weight, value in zip(self._moving, kept):
            weight.assign(value)
