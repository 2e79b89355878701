"""The loop over a model's stage table under a distribution strategy."""

import contextlib
import dataclasses
import itertools
import json
import logging
import os
import time

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from srn_tf.data.pipeline import cached, training_batches
from srn_tf.errors import InputError
from srn_tf.evaluation.evaluator import Evaluator
from srn_tf.evaluation.protocols import evaluate, protocol_named
from srn_tf.training import checkpoint
from srn_tf.training.addons import f1_and_confusion
from srn_tf.training.averages import WeightAverage
from srn_tf.training.freezing import apply_stage
from srn_tf.training.losses import balanced_weights, make_loss, mean_loss, step_seed
from srn_tf.training.schedule import PlateauSchedule
from srn_tf.training.steps import train_step

logger = logging.getLogger("srn_tf")


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """How to train; units and the paper's values are in `options.define_flags`.

    Attributes:
        stages: names of stages, in order.
        epochs: most epochs of each stage.
        learning_rates: first learning rate of each stage.
        The others are the options of the same names.
    """

    stages: tuple
    epochs: tuple
    learning_rates: tuple
    loss: str
    focal_gamma: float
    asl_gamma_pos: float
    asl_gamma_neg: float
    asl_margin: float
    positive_weights: str
    batch_size: int
    learning_rate_min: float
    momentum: float
    weight_decay: float
    patience: int
    ema_decay: float
    crops: bool
    mirror: bool
    max_distortion: int | None
    shuffle_buffer: int
    cache: str
    seed: int


class Trainer:
    """Trains a model stage by stage and leaves each stage's best weights in the work folder.

    Args:
        model: MultiLabelModel, built in the scope of `strategy`.
        strategy: tf.distribute strategy.
        dataset: data.datasets.DataSet.
        plan: TrainingPlan.
        work: WorkDir.
        summaries: training.summaries.Summaries.

    Raises:
        InputError: a stage the model does not have, fewer images than a batch, or a batch that the
            devices cannot share evenly.
    """

    def __init__(self, model, strategy, dataset, plan, work, summaries):
        self._model, self._strategy, self._dataset = model, strategy, dataset
        self._plan, self._work, self._summaries = plan, work, summaries
        unknown = [name for name in plan.stages if name not in model.stages]
        if unknown:
            raise InputError(f"stages must be among {', '.join(model.stages)}. Received: {unknown[0]!r}.")
        if plan.batch_size % strategy.num_replicas_in_sync:
            raise InputError(
                f"batch_size must be a multiple of the {strategy.num_replicas_in_sync} devices. "
                f"Received: {plan.batch_size}."
            )
        self._steps_per_epoch = dataset.num_images("train") // plan.batch_size
        if self._steps_per_epoch == 0:
            raise InputError(
                f"batch_size must not exceed the {dataset.num_images('train')} training images. "
                f"Received: {plan.batch_size}."
            )
        # Made once, so that what it keeps in memory serves every epoch.
        self._records = cached(dataset.records("train"), plan.cache, model.image_size, plan.crops)
        self._loss = make_loss(
            plan.loss,
            plan.focal_gamma,
            plan.asl_gamma_pos,
            plan.asl_gamma_neg,
            plan.asl_margin,
            self._positive_weights(),
        )
        self._meta = {"labels": list(dataset.labels)}

    def _positive_weights(self):
        """float32 (C,), or None where positives weigh what negatives do."""
        if self._plan.positive_weights == "none":
            return None
        weights = balanced_weights(self._dataset.records("train"), self._dataset.ignores_unspecified)
        logger.info("Positives weigh %.2f (the most frequent label) to %.2f.", weights.min(), weights.max())
        return weights

    def train(self):
        """Trains all stages of the plan; the model ends with the last stage's best weights.

        A run that was interrupted continues after its last finished epoch.
        """
        first, state = 0, None
        if os.path.isfile(self._work.last):
            arrays, meta = checkpoint.load_arrays(self._work.last)
            first, state = meta["stage_index"], (arrays, meta)
            self._forget_log_after(meta["log_bytes"])
        elif os.path.isfile(self._work.log):  # stopped between its first line and the first state
            self._forget_log_after(0)
        for index in range(first, len(self._plan.stages)):
            if state is not None and state[1]["is_over"]:  # this stage had ended
                checkpoint.load_weights(
                    self._work.stage_weights(self._plan.stages[index]), self._model, self._dataset.labels
                )
                state = None
                continue
            self._train_stage(index, state)
            state = None

    def _train_stage(self, index, state):
        plan, model = self._plan, self._model
        name = plan.stages[index]
        stage = model.stages[name]
        with self._strategy.scope():
            variables = apply_stage(model, stage)
            schedule = PlateauSchedule(plan.learning_rates[index], plan.learning_rate_min, plan.patience)
            optimizer = keras.optimizers.SGD(schedule.learning_rate, momentum=plan.momentum)
            optimizer.build(variables)
            weights = list(checkpoint.named_weights(model).values())
            average = WeightAverage(weights, plan.ema_decay) if plan.ema_decay else None
        run = _StageRun(index, name, stage, schedule, optimizer, average)
        if state is not None:
            self._restore(run, *state)
        step = self._compile_step(run, variables)
        watched = tuple(dict.fromkeys((stage.watched, *stage.losses)))
        evaluator = Evaluator(model, self._strategy, watched)
        logger.info(
            "Stage %s (%d of %d): trains %s; %d weights in %d tensors; at most %d epochs of %d steps.",
            name,
            index + 1,
            len(plan.stages),
            ", ".join(stage.trains),
            sum(int(np.prod(v.shape)) for v in variables),
            len(variables),
            plan.epochs[index],
            self._steps_per_epoch,
        )
        total = plan.epochs[index] * self._steps_per_epoch
        with (
            logging_redirect_tqdm([logger]),
            tqdm(
                total=total, initial=run.epoch * self._steps_per_epoch, desc=f"stage {name}", unit="step", disable=None
            ) as bar,
        ):
            while run.epoch < plan.epochs[index] and not schedule.is_over:
                self._train_epoch(run, step, bar)
                self._finish_epoch(run, evaluator)
        checkpoint.load_weights(self._work.stage_weights(name), model, self._dataset.labels)
        logger.info("Stage %s ends with its best weights: validation mAP %.2f.", name, run.best_map)
        self._summaries.write_attention(name, run.total_steps)

    def _compile_step(self, run, variables):
        plan, strategy = self._plan, self._strategy
        network = self._model.network_for(run.stage.losses)

        def replica_step(batch):
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            return train_step(
                network,
                run.stage.losses,
                run.optimizer,
                variables,
                batch,
                plan.batch_size,
                plan.weight_decay,
                strategy.num_replicas_in_sync,
                self._loss,
                step_seed(plan.seed, run.index, run.optimizer.iterations, replica),
            )

        @tf.function
        def step(batch):
            per_replica = strategy.run(replica_step, args=(batch,))
            if run.average is not None:
                run.average.update()
            # Each replica's loss is its images' sum over the global batch: their sum is the batch's mean.
            return {name: strategy.reduce("SUM", value, axis=None) for name, value in per_replica.items()}

        return step

    def _train_epoch(self, run, step, bar):
        plan = self._plan
        batches = training_batches(
            self._records,
            self._model.image_size,
            plan.batch_size,
            plan.seed,
            epoch=run.index * 100_000 + run.epoch,
            crops=plan.crops,
            mirror=plan.mirror,
            max_distortion=plan.max_distortion,
            shuffle_buffer=plan.shuffle_buffer,
            ignore_unspecified=self._dataset.ignores_unspecified,
        )
        run.optimizer.learning_rate = run.schedule.learning_rate
        sums = dict.fromkeys(run.stage.losses, 0.0)
        waited_s, start_s = 0.0, time.monotonic()
        iterator = iter(self._strategy.experimental_distribute_dataset(batches))
        for step_number in itertools.count(1):
            asked_s = time.monotonic()
            batch = next(iterator, None)  # to the very end, without which nothing is cached
            waited_s += time.monotonic() - asked_s
            if batch is None:
                break
            losses = {name: float(value) for name, value in step(batch).items()}
            if not all(np.isfinite(value) for value in losses.values()):
                raise InputError(
                    f"The loss is not finite in stage {run.name}, epoch {run.epoch + 1}, step {step_number}: {losses}; "
                    f"learning rate {run.schedule.learning_rate:g}. Use a smaller --learning_rate."
                )
            for name, value in losses.items():
                sums[name] += value
            bar.update()
        run.epoch += 1
        run.total_steps += self._steps_per_epoch
        run.seconds = time.monotonic() - start_s
        run.data_wait_share = waited_s / run.seconds
        run.losses = {name: value / self._steps_per_epoch for name, value in sums.items()}

    def _finish_epoch(self, run, evaluator):
        """Validates, keeps the weights if they are the best, moves the schedule, logs and saves the state."""
        rate = run.schedule.learning_rate
        self._align_replicas()
        averaged = run.average.swapped_in() if run.average is not None else contextlib.nullcontext()
        with averaged:
            validation = self._validate(run, evaluator)
            if run.best_map is None or validation["mAP"] > run.best_map:
                run.best_map = validation["mAP"]
                path = self._work.stage_weights(run.name)
                checkpoint.save_weights(path, self._model, {**self._meta, "stage": run.name, "epoch": run.epoch})
        run.schedule.update(validation["loss"])
        images = self._steps_per_epoch * self._plan.batch_size
        entry = {
            "stage": run.name,
            "epoch": run.epoch,
            "step": run.total_steps,
            "learning_rate": rate,
            "losses": run.losses,
            "images_per_second": images / run.seconds,
            "data_wait_share": run.data_wait_share,
            "validation": validation,
        }
        with open(self._work.log, "a", encoding="utf-8") as log:
            log.write(json.dumps(entry) + "\n")
        self._summaries.write_epoch(entry, self._dataset.labels)
        left_s = run.seconds * (self._plan.epochs[run.index] - run.epoch)
        logger.info(
            "%s %3d/%d  lr %g  loss %s  "
            "validation: loss %.3f mAP %.2f F1 macro %.1f micro %.1f  "
            "%.0f img/s (%.0f %% waiting for data)  ETA %d:%02d",
            run.name,
            run.epoch,
            self._plan.epochs[run.index],
            rate,
            " ".join(f"{name} {value:.3f}" for name, value in run.losses.items()),
            validation["loss"],
            validation["mAP"],
            validation["F1-macro"],
            validation["F1-micro"],
            entry["images_per_second"],
            100 * entry["data_wait_share"],
            *divmod(round(left_s), 60),
        )
        self._save(run)

    def _align_replicas(self):
        """Gives every replica the mean of the replicas' BatchNorm statistics: what is validated is what is saved."""
        if self._strategy.num_replicas_in_sync > 1:
            for weight in self._model.network.non_trainable_weights:
                weight.assign(weight.numpy())

    def _validate(self, run, evaluator):
        """The watched output on the validation images: loss as in training, mAP by the data set's protocol, F1 and
        confusion with unspecified entries as negatives.
        """
        predictions = evaluator.predict(self._dataset.records("validation"), self._plan.batch_size)
        logits = predictions.logits[run.stage.watched]
        if not np.isfinite(logits).all():
            raise InputError(
                f"The weights give no finite {run.stage.watched} after stage {run.name}, epoch {run.epoch}; "
                f"learning rate {run.schedule.learning_rate:g}. Use a smaller --learning_rate."
            )
        y = (predictions.labels == 1).astype(np.float32)
        counted = (predictions.labels != 0).astype(np.float32) if self._dataset.ignores_unspecified else None
        scored = evaluate(logits, predictions.labels, protocol_named(self._dataset.protocol))
        if scored["all"]["mAP"] is None:
            raise InputError("The validation images carry no label at all: use another --validation_fraction.")
        return {
            "output": run.stage.watched,
            "images": len(y),
            "loss": mean_loss(self._loss, y, logits, counted),
            "mAP": scored["all"]["mAP"],
            **f1_and_confusion(tf.sigmoid(logits).numpy(), y),
        }

    def _save(self, run):
        arrays = {f"model/{name}": weight.numpy() for name, weight in checkpoint.named_weights(self._model).items()}
        arrays |= {f"optimizer/{i}": variable.numpy() for i, variable in enumerate(run.optimizer.variables)}
        if run.average is not None:
            arrays |= {f"average/{i}": variable.numpy() for i, variable in enumerate(run.average.averages)}
            arrays["average_updates"] = run.average.updates.numpy()
        meta = {
            **self._meta,
            "stage_index": run.index,
            "epoch": run.epoch,
            "total_steps": run.total_steps,
            "best_map": run.best_map,
            "schedule": dataclasses.asdict(run.schedule),
            "is_over": run.schedule.is_over or run.epoch >= self._plan.epochs[run.index],
            "log_bytes": os.path.getsize(self._work.log),
        }
        checkpoint.save_arrays(self._work.last, arrays, meta)

    def _restore(self, run, arrays, meta):
        checkpoint.check_same_labels(self._dataset.labels, meta["labels"], self._work.last)
        model_arrays = {name.removeprefix("model/"): a for name, a in arrays.items() if name.startswith("model/")}
        checkpoint.assign_weights(self._model, model_arrays, self._work.last)
        for i, variable in enumerate(run.optimizer.variables):
            variable.assign(arrays[f"optimizer/{i}"])
        if run.average is not None:
            for i, variable in enumerate(run.average.averages):
                variable.assign(arrays[f"average/{i}"])
            run.average.updates.assign(arrays["average_updates"])
        run.epoch, run.total_steps, run.best_map = meta["epoch"], meta["total_steps"], meta["best_map"]
        for field, value in meta["schedule"].items():
            setattr(run.schedule, field, value)
        logger.info("Continuing in stage %s after epoch %d.", run.name, run.epoch)

    def _forget_log_after(self, num_bytes):
        """Cuts the log to what the restored state knows of."""
        with open(self._work.log, "a+b") as log:
            log.truncate(num_bytes)


@dataclasses.dataclass
class _StageRun:
    """What changes while a stage runs."""

    index: int
    name: str
    stage: object
    schedule: PlateauSchedule
    optimizer: object
    average: WeightAverage | None
    epoch: int = 0
    total_steps: int = 0
    best_map: float | None = None
    seconds: float = 0.0
    data_wait_share: float = 0.0
    losses: dict = dataclasses.field(default_factory=dict)
