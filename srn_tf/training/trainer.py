"""The loop over a model's stage table under a distribution strategy."""

import contextlib
import functools
import glob
import json
import logging
import os
import time

import numpy as np
import tensorflow as tf
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from srn_tf import distribution, stack
from srn_tf.data.features import open_features
from srn_tf.data.pipeline import Batches, cached, replica_stacks, training_batches
from srn_tf.data.sampling import images_of_an_epoch, repeat_factors
from srn_tf.errors import InputError
from srn_tf.evaluation.blocks import Derived, row_blocks
from srn_tf.evaluation.evaluator import Evaluator
from srn_tf.evaluation.protocols import is_constant, mean_average_precision, protocol_named
from srn_tf.labels import check_same_labels
from srn_tf.runs import checkpoint
from srn_tf.runs.states import States
from srn_tf.training import unspecified
from srn_tf.training.checks import check_plan, check_same_stack, warn_of_untrained
from srn_tf.training.f1 import f1_and_confusion
from srn_tf.training.freezing import planned_stage
from srn_tf.training.interruption import Interruption, Stopped
from srn_tf.training.losses import balanced_weights, make_loss, mean_loss
from srn_tf.training.mean_term import MeanTerm
from srn_tf.training.preemption import PreemptionNotice
from srn_tf.training.profiling import Profile
from srn_tf.training.schedule import make_schedule
from srn_tf.training.stage_run import StageRun
from srn_tf.training.stage_step import StageStep

logger = logging.getLogger("srn_tf")

_MOST_OVERFLOWS = 20  # steps in a row without a finite float16 gradient: by then the loss scale has fallen to 1


class Trainer:
    """Trains a model stage by stage, and writes each stage's best weights to the work folder.

    Args:
        model: MultiLabelModel, built in the scope of `strategy`.
        strategy: tf.distribute strategy.
        dataset: data.datasets.DataSet.
        plan: plan.TrainingPlan.
        work: WorkDir. All workers read it; only the chief writes.
        summaries: training.summaries.Summaries.
        trained: names of the model's parts that already hold learned weights.
        prior: float64 (C,) of `unspecified.label_prior` for unspecified="selective".

    Raises:
        InputError: see `check_plan`.
    """

    def __init__(self, model, strategy, dataset, plan, work, summaries, trained=(), prior=None):
        self._model, self._strategy, self._dataset = model, strategy, dataset
        self._plan, self._work, self._summaries = plan, work, summaries
        check_plan(plan, model, strategy, dataset)
        self._factors = None  # how often an image comes in an epoch: once
        if plan.repeat_threshold:
            self._factors = repeat_factors(dataset.records("train"), plan.repeat_threshold)
        num_images = dataset.num_images("train") if self._factors is None else images_of_an_epoch(self._factors)
        self._steps_per_epoch = num_images // plan.batch_size
        if plan.cache != "features":  # Made once, so that its cache serves every epoch.
            self._records = cached(dataset.records("train"), plan.cache, model.image_size, plan.crops)
        self._mode = mode = unspecified.mode_of(plan, dataset)
        has_unspecified = dataset.has_unspecified or dataset.dropped is not None
        self._leaves_out = mode != "negative" and has_unspecified  # in training
        self._leaves_out_in_validation = mode != "negative" and dataset.has_unspecified
        self._validation_loss = make_loss(**unspecified.loss_options(plan), positive_weights=self._positive_weights())
        self._loss = unspecified.training_loss(self._validation_loss, mode, plan, dataset.labels, prior)
        self._meta = {"labels": list(dataset.labels), "trained": list(trained)}  # of every file of weights
        self._states = States(work.states, plan.keep_checkpoints)
        self._is_chief = distribution.is_chief(strategy)
        self._profile = Profile(work.tensorboard, plan.profile_steps)
        kinds = {"better": ("plain", "average"), "average": ("average",), "plain": ("plain",)}
        self._kinds = kinds[plan.ema_keep] if plan.ema_decay else ("plain",)
        self._interruption = Interruption()
        self._notice = PreemptionNotice(strategy, work.states, self._save)
        self._saved_s = time.monotonic()

    def _positive_weights(self):
        """float32 (C,), or None if positives and negatives weigh the same."""
        if self._plan.positive_weights == "none":
            return None
        weights = balanced_weights(self._dataset.records("train"), self._leaves_out)
        logger.info("Weights of positives: %.2f (most frequent label) to %.2f.", weights.min(), weights.max())
        return weights

    @functools.cached_property
    def _features(self):
        """Role -> data.features.Features; empty if images are read. Used only after the trunk has its weights."""
        roles = ("train", "validation") if self._plan.cache == "features" else ()
        asked = self._model, self._strategy, self._dataset
        return {role: open_features(*asked, role, self._plan, self._stop_between) for role in roles}

    def _stop_between(self):
        """Stops if a signal asks for it, while there is nothing new to save."""
        asked = self._interruption.signal
        if asked is not None:
            raise Stopped(
                asked, f"Stopped by {asked.name} before all features were computed. The same command computes them."
            )

    def _validation_records(self):
        features = self._features.get("validation")
        return self._dataset.records("validation") if features is None else features.records

    @functools.cached_property
    def _num_boxes(self):
        """K, see `models.model.NEEDS`: the number of boxes of the image that has most."""
        return max(self._dataset.most_boxes(role) for role in ("train", "validation"))

    def _boxes_for(self, stage):
        """K, or None for a stage that needs no boxes."""
        return self._num_boxes if "boxes" in stage.needs else None

    def train(self):
        """Trains all stages of the plan; the model ends with the last stage's best weights.

        An interrupted run continues after the last step that was saved.

        Raises:
            Stopped: SIGTERM or SIGINT arrived; everything is saved.
            InputError: a gradient or the weights are not finite, or a saved state cannot be used.
        """
        first, state = 0, self._states.newest()
        if state is not None:
            check_same_labels(self._dataset.labels, state[1]["labels"], self._work.states)
            check_same_stack(self._work, state[1])
            first = state[1]["stage_index"]
            self._meta["trained"] = state[1]["trained"]
        else:
            warn_of_untrained(self._plan, self._model, self._meta["trained"])
        if self._is_chief and os.path.isfile(self._work.log):  # epochs after the saved state are logged again
            with open(self._work.log, "a+b") as log:
                log.truncate(0 if state is None else state[1]["log_bytes"])
        with self._interruption, self._profile, logging_redirect_tqdm([logger]):
            for index in range(first, len(self._plan.stages)):
                self._train_stage(index, state)
                state = None

    def _train_stage(self, index, state):
        plan, model = self._plan, self._model
        name = plan.stages[index]
        stage = planned_stage(model.stages[name], plan)
        if state is None:  # before the step is made: its averages start at the weights
            copied = model.copy_weights(stage, self._meta["trained"])
            self._meta["trained"] = stage.learned_parts(self._meta["trained"])
            for part, source in copied.items():
                logger.info("Stage %s: %s starts from the weights of %s.", name, part, source)
        step = StageStep(model, self._strategy, stage, index, plan, self._loss)
        run = StageRun(index, name, stage, make_schedule(plan, index, self._steps_per_epoch), step)
        run.begin_epoch()
        if state is not None:
            run.restore(*state, model, self._work.states)
            logger.info("Continuing in stage %s after epoch %d, step %d.", name, run.epoch, run.steps)
        validate = self._validator(stage)
        logger.info(
            "Stage %s (%d of %d) trains %s: %d weights in %d tensors, at most %d epochs of %d steps.",
            name,
            index + 1,
            len(plan.stages),
            ", ".join(f"{part} (norms fixed)" if part in plan.frozen_norms else part for part in stage.trains),
            *step.num_trained,
            plan.epochs[index],
            self._steps_per_epoch,
        )
        total = plan.epochs[index] * self._steps_per_epoch
        with tqdm(total=total, initial=run.total_steps, desc=f"stage {name}", unit="step", disable=None) as bar:
            while not self._is_over(run):
                self._train_epoch(run, bar)
                self._finish_epoch(run, validate)
        best = self._work.best_weights(name, run.best_epoch)
        if self._is_chief:
            checkpoint.copy_file(best, self._work.stage_weights(name))
        checkpoint.load_weights(best, model, self._dataset.labels)
        if stage.watched in model.logits:
            best_text = f"mAP {run.best_score:.2f}"
        else:
            best_text = f"{stage.watched} {-run.best_score:.4f}"
        kept = f" ({kept_weights(best)})" if plan.ema_decay else ""
        logger.info("Stage %s is done. Best weights: epoch %d%s, validation %s.", name, run.best_epoch, kept, best_text)
        self._summaries.write_attention(name, run.total_steps)

    def _is_over(self, run):
        return run.schedule.is_over or run.epoch >= self._plan.epochs[run.index]

    def _train_epoch(self, run, bar):
        """Takes the remaining steps of an epoch."""
        stacks = self._strategy.distribute_datasets_from_function(lambda context: self._stacks(run, context))
        with contextlib.closing(Batches(stacks)) as iterator:
            while run.steps < self._steps_per_epoch:
                self._train_call(run, iterator, bar)
            next(iterator, None)  # reads to the very end; otherwise nothing is cached

    def _train_call(self, run, iterator, bar):
        """Takes the steps of one call."""
        num_steps = min(self._plan.steps_per_call, self._steps_per_epoch - run.steps)
        rates = run.schedule.rates(run.total_steps, num_steps)
        asked_s = time.monotonic()
        stack = next(iterator)
        started_s = time.monotonic()
        outcome = run.step.run(stack, rates, run.schedule.momenta(run.total_steps, num_steps))
        run.data_wait_s += started_s - asked_s
        run.compute_s += time.monotonic() - started_s
        self._count(run, outcome, rates)
        bar.update(num_steps)
        self._profile.update(num_steps)
        if run.steps < self._steps_per_epoch:
            self._save_if_due(run)

    def _stacks(self, run, context):
        """The epoch's batches, from the next step on, for the replicas of one worker."""
        plan, features = self._plan, self._features.get("train")
        batches = training_batches(
            self._records if features is None else features.records,
            self._model.image_size,
            plan.batch_size,
            plan.seed,
            epoch=run.index * 100_000 + run.epoch,
            crops=plan.crops,
            mirror=plan.mirror,
            shuffle_buffer=plan.shuffle_buffer,
            ignore_unspecified=self._leaves_out,
            first_step=run.steps,
            share=(context.input_pipeline_id, context.num_input_pipelines),
            threads=plan.data_threads,
            num_boxes=self._boxes_for(run.stage),
            fixed_crops=plan.fixed_crops,
            features=None if features is None else features.read_by(run.step.network),
            repeat_factors=self._factors,
            effects=plan.effects,
            fast_decode=plan.fast_decode,
        )
        if self._mode == "normalize":
            batches = batches.map(unspecified.with_image_weights)
        replicas = distribution.num_local_replicas(self._strategy)
        return replica_stacks(batches, replicas, plan.steps_per_call)

    def _count(self, run, outcome, rates):
        """Counts the steps of a call; InputError if more steps than allowed were not finite."""
        for i, rate in enumerate(rates):
            run.steps += 1
            run.total_steps += 1
            run.timed_steps += 1
            losses = {name: float(values[i]) for name, values in outcome.losses.items()}
            if outcome.is_finite[i]:
                run.skipped_in_row = 0
                for name, value in losses.items():
                    run.sums[name] += value
                continue
            run.skipped_in_row += 1
            run.skipped_in_epoch += 1
            if self._plan.precision == "mixed_float16" and run.skipped_in_row < _MOST_OVERFLOWS:
                continue  # the loss scale is still being adjusted
            run.skipped += 1
            where = f"stage {run.name}, epoch {run.epoch + 1}, step {run.steps}: {losses}; learning rate {rate:g}"
            if run.skipped > self._plan.max_skipped_steps:
                if run.skipped_in_row == run.total_steps:
                    advice = (
                        "No step of this stage has changed a weight yet, so the learning rate is not the cause. "
                        "Start from other weights (--init_from, --backbone_weights)."
                    )
                else:
                    advice = (
                        "Use a smaller --learning_rate or --clip_norm. If it happens rarely, use --max_skipped_steps."
                    )
                raise InputError(f"Loss and gradients must be finite. Received: NaN or infinity in {where}. {advice}")
            logger.warning("Skipped a step with a gradient that is not finite in %s.", where)

    def _save_if_due(self, run, is_due=False):
        """Saves if `is_due`, if it is time, or if the program must stop; in the last case it stops."""
        is_asked = self._interruption.signal is not None
        is_due = is_due or time.monotonic() - self._saved_s >= self._plan.checkpoint_every_s
        # What one worker does here, all must do.
        if distribution.any_worker(self._strategy, is_asked or is_due):
            self._save(run)
            if distribution.any_worker(self._strategy, is_asked):
                self._stop(run, self._interruption.signal.name if is_asked else "another worker")
        if self._notice.save_if_due(run):
            self._stop(run, "a preemption notice of the platform")

    def _stop(self, run, name):
        where = f"stage {run.name}, epoch {run.epoch + (run.steps > 0)}, step {run.total_steps} of the stage"
        raise Stopped(
            self._interruption.signal, f"Stopped by {name} in {where}. Everything is saved. The same command continues."
        )

    def _finish_epoch(self, run, validate):
        """Validates, keeps the weights if they are the best so far, updates the schedule, logs, and saves the state."""
        run.epoch += 1
        validations, scores = {}, {}
        for kind in self._kinds:
            with run.step.holding(kind):
                validations[kind] = validate(run)
            scores[kind] = validations[kind].get("mAP", -validations[kind]["loss"])
        better = max(scores, key=scores.get)  # the first of equal ones
        if run.best_score is None or scores[better] > run.best_score:
            run.best_score, run.best_epoch = scores[better], run.epoch
            with run.step.holding(better):
                weights = checkpoint.weight_arrays(self._model)  # all workers take part
            if self._is_chief:
                meta = {**self._meta, "stage": run.name, "epoch": run.epoch, "weights": better}
                checkpoint.save_arrays(self._work.best_weights(run.name, run.epoch), weights, meta)
        rate = run.schedule.rates(run.total_steps - 1, 1)[0]
        run.schedule.update(validations[better]["loss"])
        self._log(run, rate, better, validations)
        run.begin_epoch()
        self._save_if_due(run, is_due=True)

    def _log(self, run, rate, better, validations):
        """Logs an epoch: the validation of the better weights, and what the others reached."""
        validation = validations[better]
        others = {kind: values for kind, values in validations.items() if kind != better}
        said = validation_text(validation)
        if self._plan.ema_decay:
            others_said = (f"; {kind} {validation_text(values)}" for kind, values in others.items())
            said += f" ({better}{''.join(others_said)})"
        seconds = max(run.data_wait_s + run.compute_s, 1e-9)
        entry = {
            "stage": run.name,
            "epoch": run.epoch,
            "step": run.total_steps,
            "learning_rate": rate,
            "losses": run.mean_losses(),
            "skipped_steps": run.skipped_in_epoch,
            "validation": validation,
            **({"weights": better} if self._plan.ema_decay else {}),
            **{
                f"validation_{kind}": {name: values[name] for name in ("loss", "mAP") if name in values}
                for kind, values in others.items()
            },
            # Covers the part of the epoch that this process ran. All else is the same however often the run stopped.
            "speed": {
                "images_per_second": run.timed_steps * self._plan.batch_size / seconds,
                "data_wait_s": run.data_wait_s,
                "compute_s": run.compute_s,
            },
        }
        left_s = seconds / max(run.timed_steps, 1) * self._steps_per_epoch * (self._plan.epochs[run.index] - run.epoch)
        logger.info(  # a short line; log.jsonl and TensorBoard have the rest
            "%s %3d/%d  lr %g  loss %.3f  validation %s  %.0f img/s (%.0f %% data wait)  ETA %d:%02d",
            run.name,
            run.epoch,
            self._plan.epochs[run.index],
            rate,
            sum(term.weight * entry["losses"][term.name] for term in run.stage.terms),
            said,
            entry["speed"]["images_per_second"],
            100 * run.data_wait_s / seconds,
            *divmod(round(left_s), 60),
        )
        if self._is_chief:
            with open(self._work.log, "a", encoding="utf-8") as log:
                log.write(json.dumps(entry) + "\n")
        self._summaries.write_epoch(entry, self._dataset.labels)

    def _validator(self, stage):
        """The function StageRun -> dict that validates an epoch of a stage."""
        model, features = self._model, self._features.get("validation")
        if stage.watched in model.logits:
            folder = self._work.path
            evaluator = Evaluator(model, self._strategy, (stage.watched,), folder=folder, features=features)
            return functools.partial(self._validate, evaluator=evaluator)
        (term,) = [term for term in stage.terms if term.name == stage.watched]
        rules = self._validation_loss, self._leaves_out_in_validation
        mean = MeanTerm(model, term, *rules, self._boxes_for(stage), features)
        return functools.partial(self._validate_term, mean=mean)

    def _validate_term(self, run, mean):
        """The mean of the watched term over the validation images."""
        records = self._validation_records()
        loss = mean(records, self._plan.batch_size)
        if not np.isfinite(loss):
            raise InputError(self._not_finite(run))
        return {"output": run.stage.watched, "images": int(records.cardinality()), "loss": loss}

    def _not_finite(self, run):
        return (
            f"Validation values must be finite. Received: NaN or infinity in {run.stage.watched} after stage "
            f"{run.name}, epoch {run.epoch}. Use a smaller --learning_rate."
        )

    def _validate(self, run, evaluator):
        """The watched output on the validation images: the loss, without what training adds for unspecified labels; mAP
        by the data set's protocol; F1 and confusion with unspecified entries as negatives.
        """
        predictions = evaluator.predict(self._validation_records(), self._plan.batch_size)
        logits, labels = predictions.logits[run.stage.watched], predictions.labels
        if not all(np.isfinite(logits[rows]).all() for rows in row_blocks(logits)):
            raise InputError(self._not_finite(run))
        protocol = protocol_named(self._dataset.protocol)
        rules = self._validation_loss, self._leaves_out_in_validation
        values = validation_metrics(logits, labels, protocol, *rules)
        if values["mAP"] is None:
            raise InputError(
                f"Validation images must have labels. Received: no label on {len(labels)} images. Use another "
                "--validation_fraction."
            )
        if is_constant(logits).all():
            logger.warning(
                "Validation: %s is the same for every image after stage %s, epoch %d. Its mAP is meaningless.",
                run.stage.watched,
                run.name,
                run.epoch,
            )
        return {"output": run.stage.watched, "images": len(labels), **values}

    def _save(self, run):
        """Saves the state, and deletes best weights that no saved state refers to."""
        arrays, meta = run.collect(self._model)
        self._saved_s = time.monotonic()
        if not self._is_chief:
            return
        log_bytes = os.path.getsize(self._work.log) if os.path.isfile(self._work.log) else 0
        self._states.save(arrays, {**self._meta, **meta, "log_bytes": log_bytes, "versions": stack.versions()})
        known = {
            self._work.best_weights(self._plan.stages[meta["stage_index"]], meta["best_epoch"])
            for meta in self._states.metas()
            if meta["best_epoch"]
        }
        for name in self._plan.stages:
            for path in glob.glob(f"{glob.escape(self._work.stage_weights(name)[:-4])}-*.npz"):
                if path not in known:
                    os.remove(path)


def kept_weights(path):
    """Which weights a stage's file holds, "plain" or "average".

    Args:
        path: file of `WorkDir.stage_weights` or `best_weights`, of a run with averages.
    """
    return checkpoint.load_meta(path)["weights"]


def validation_text(validation):
    """The loss and, where it is not a term that has only its mean, mAP of a validation."""
    return f"loss {validation['loss']:.3f}" + (f" mAP {validation['mAP']:.2f}" if "mAP" in validation else "")


def validation_metrics(logits, labels, protocol, loss, ignores_unspecified):
    """Metrics of the watched output after an epoch, computed in blocks of memory, see `evaluation.blocks`.

    Args:
        logits: float32 (N, C), finite.
        labels: int8 (N, C), as stored.
        protocol: evaluation.protocols.Protocol.
        loss: see `training.losses`.
        ignores_unspecified: whether the loss leaves out labels that are 0. F1 and confusion never leave them out.
    Returns:
        dict: "loss", "mAP" (None without a positive) and what `f1.f1_and_confusion` returns.
    """
    y = Derived(labels, lambda rows: (rows == 1).astype(np.float32))
    counted = Derived(labels, lambda rows: (rows != 0).astype(np.float32)) if ignores_unspecified else None
    return {
        "loss": mean_loss(loss, y, logits, counted),
        "mAP": mean_average_precision(logits, labels, protocol),
        **f1_and_confusion(Derived(logits, lambda rows: tf.sigmoid(rows).numpy()), y),
    }
