"""A whole run: data, model, stages, evaluation and export; and how a finished run is opened again."""

import contextlib
import dataclasses
import logging
import os
import platform

import keras
import numpy as np
import tensorflow as tf

import srn_tf
from srn_tf import distribution, stack
from srn_tf.choices import TTA
from srn_tf.data.augments import effects_of, frame_of
from srn_tf.data.datasets import open_dataset
from srn_tf.data.dropping import DroppedLabels, read_dropping
from srn_tf.data.features import open_features
from srn_tf.data.label_facts import count_labels, label_space
from srn_tf.data.pipeline import start_px
from srn_tf.data.views import Views
from srn_tf.errors import InputError
from srn_tf.evaluation.calibration import draw_reliability
from srn_tf.evaluation.evaluator import Evaluator, score
from srn_tf.evaluation.metrics import check_k
from srn_tf.evaluation.predictions import SavedPredictions, save_predictions
from srn_tf.evaluation.protocols import mean_average_precision, protocol_named
from srn_tf.evaluation.report import kept_note, served_note
from srn_tf.failures import in_plain_words
from srn_tf.files import write_json
from srn_tf.models.main_net import with_csra_at_test
from srn_tf.models.registry import ModelConfig, build_model
from srn_tf.pictures import save_png
from srn_tf.program import tool
from srn_tf.runs import checkpoint
from srn_tf.runs.run_data import open_run_data
from srn_tf.runs.states import States
from srn_tf.runs.work_dir import WorkDir, code_version
from srn_tf.serving.description import Provenance
from srn_tf.serving.export import export
from srn_tf.tensor_float import tensor_float_32
from srn_tf.training.checks import check_plan
from srn_tf.training.plan import TrainingPlan
from srn_tf.training.summaries import Summaries
from srn_tf.training.trainer import Trainer, kept_weights
from srn_tf.training.unspecified import label_prior, mode_of

logger = logging.getLogger("srn_tf")

EVALUATION_BATCH = 64  # images per step if the training batch does not matter


def train_run(options):
    """Trains, evaluates on the test split and exports, as `options` says; continues a run that was interrupted.

    Args:
        options: options.Options.
    Returns:
        dict: the metrics, as in metrics.json; None with options.train_only.
    Raises:
        InputError: something in the options, the data or the folders cannot be used.
        training.interruption.Stopped: SIGTERM or SIGINT arrived during training; everything is saved.
    """
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = distribution.make_strategy(options.logical_cpus)
    is_chief = distribution.is_chief(strategy)
    work = WorkDir(options.work_dir)
    if is_chief and not (options.restart and work.check_restart()):
        work.claim(options.as_flagfile())
    distribution.wait_for_all(strategy)
    keras.utils.set_random_seed(options.seed)
    dataset = _with_dropped_labels(_open_dataset(options, strategy), options)
    dataset.check_size("train", start_px(options.image_size, frame_of(options)))
    dataset.check_size("validation", options.image_size)
    logger.info(
        "Data set %s: %s images, %d labels. Validation images: %s.",
        dataset.name,
        ", ".join(f"{dataset.num_images(role)} {role}" for role in dataset.splits),
        len(dataset.labels),
        dataset.note,
    )
    config = ModelConfig(options.model, options.backbone, options.image_size, options.settings)
    description = _describe(options, config, dataset)
    with in_plain_words(dataset):
        if os.path.isfile(work.final) and not options.restart:
            work.write_run(description, options.as_flagfile())
            logger.info("This run is already trained; its weights are in %s. --restart trains it again.", work.final)
        else:
            _train(options, config, dataset, strategy, work, description)
        if options.train_only:
            return None
        return _finish(options, dataset, strategy, work)


def _finish(options, dataset, strategy, work):
    """Evaluates the final weights and exports them, unless that is done; returns the metrics on test."""
    is_chief = distribution.is_chief(strategy)
    distribution.wait_for_all(strategy)
    description = work.read_run()
    with strategy.scope():  # in float32, whatever the precision in training
        model = load_model(work, description)
    protocol = protocol_named(dataset.protocol)
    whole = None if options.cache == "features" else _evaluator(model, strategy, work)  # traced once for both splits

    def predict(split):
        if whole is not None:
            return _predict(whole, dataset.records(split), split)
        features = open_features(model, strategy, dataset, split, _plan(options))
        return _predict(_evaluator(model, strategy, work, features), features.records, split)

    predictions = predict("validation")
    if options.serve_output == "best" and "final" not in description:
        choice = _choose_output(predictions, protocol)
        if is_chief:
            work.add_to_run(**choice)
        distribution.wait_for_all(strategy)
        description |= choice
        model = model.serving(choice["final"])
        logger.info("%s", served_note(choice))
    if is_chief:
        _save(_served_first(predictions, model), dataset, "validation", work.predictions("validation"))
    path = work.predictions("test")
    metrics = _scored(predict("test"), model, strategy, dataset, "test", description, path, protocol)
    if is_chief:
        write_json(work.metrics, metrics)
        calibration = metrics["outputs"][model.final]["calibration"]
        save_png(draw_reliability(calibration, f"{dataset.name} test, {model.final}"), work.reliability)
        if not os.path.isdir(os.path.join(work.export, "1")):
            if distribution.worker_share(strategy)[1] > 1:
                model = load_model(work, description)  # TensorFlow exports no variables of a cluster
            export(model, dataset.labels, os.path.join(work.export, "1"), provenance=provenance_of(work))
    return metrics


def _choose_output(predictions, protocol):
    """The "final" and "choice" of run.json for the output with the highest mAP (the first of equal ones)."""
    mean_ap = {
        name: mean_average_precision(logits, predictions.labels, protocol)
        for name, logits in predictions.logits.items()
    }
    return {"final": max(mean_ap, key=mean_ap.get), "choice": {"split": "validation", "mAP": mean_ap}}


def _train(options, config, dataset, strategy, work, description):
    """Trains all stages, and writes the final weights to the work folder."""
    plan = _plan(options)
    # A run that continues has all it began with in its folder, and reads no other file again.
    is_continued = not options.restart and States(work.states, plan.keep_checkpoints).metas()
    labels = dataset.labels if is_continued else label_space(dataset, options.settings)
    backbone_weights = "none" if is_continued else options.backbone_weights
    with _policy(options.precision), strategy.scope():
        model = build_model(config, labels, backbone_weights)
        if "final" in description:
            model = model.serving(description["final"])
        trained = set() if backbone_weights == "none" else {"trunk"}
        if options.init_from and not is_continued:
            shared, untrained = _start_from(options.init_from, model, dataset.labels)
            trained = (trained - shared) | (shared - untrained)
    logger.info(
        "Model %s on %s: %.2f M weights, %s, %d device(s).",
        config.model,
        config.backbone,
        model.network.count_params() / 1e6,
        options.precision,
        strategy.num_replicas_in_sync,
    )
    is_chief = distribution.is_chief(strategy)
    check_plan(plan, model, strategy, dataset)
    is_new = options.restart or not os.path.isfile(work.run)
    prior = None
    if mode_of(plan, dataset) == "selective":
        read = label_prior(plan.selective_prior, dataset) if is_new else work.read_run()["label_prior"]
        prior = np.asarray(read)
    if is_chief:  # the options are valid: from here on the folder is this run's
        if options.restart:
            work.restart()
        if is_new:  # said once: by them every later evaluation tells frequent labels from rare ones
            description = description | {"training_positives": count_labels(dataset.records("train")).tolist()}
            description |= {} if prior is None else {"label_prior": prior.tolist()}
        work.write_run(description, options.as_flagfile())
    distribution.wait_for_all(strategy)
    summaries = Summaries(work.tensorboard, model, dataset, plan.stages, is_chief)
    with tensor_float_32(options.tf32):
        Trainer(model, strategy, dataset, plan, work, summaries, trained=sorted(trained), prior=prior).train()
    summaries.close()
    if is_chief:
        if plan.ema_decay:
            kept = {name: kept_weights(work.stage_weights(name)) for name in plan.stages}
            work.add_to_run(kept_weights=kept)
            logger.info("%s", kept_note(kept))
        checkpoint.copy_file(work.stage_weights(plan.stages[-1]), work.final)


def _plan(options):
    shared = {field.name for field in dataclasses.fields(TrainingPlan)} & {
        field.name for field in dataclasses.fields(options)
    }
    scales = (text.split("=") for text in options.rate_scales)
    return TrainingPlan(
        **{
            **{name: getattr(options, name) for name in shared},
            "learning_rates": options.learning_rate,
            "rate_scales": {part: float(scale) for part, scale in scales},
            "crops": frame_of(options),
            "effects": effects_of(options),
            "profile_steps": options.profile_steps or None,
        }
    )


@contextlib.contextmanager
def _policy(precision):
    """The Keras dtype policy of the layers that are built inside."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(precision)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def _open_dataset(options, strategy):
    """Opens the data set. With several workers, the chief prepares it if necessary."""

    def open_it():
        return open_dataset(options.dataset, options.data_dir, options.prepared_dir, options.validation_fraction)

    dataset = open_it() if distribution.is_chief(strategy) else None
    distribution.wait_for_all(strategy)
    return dataset or open_it()


def _with_dropped_labels(dataset, options):
    """The data set whose training images have lost the labels that --drop_labels says."""
    dropping = read_dropping(options.drop_labels)
    if dropping is None:
        return dataset
    dropped = DroppedLabels(dropping, dataset.records("train"), options.seed, dataset.has_unspecified)
    return dataclasses.replace(dataset, dropped=dropped)


def evaluate_run(
    work_dir,
    data_dir,
    split,
    prepared_dir="",
    thresholds=None,
    policies=None,
    csra_at_test=None,
    tta=TTA[0],
    **options,
):
    """Evaluates the final weights of a run on a split of its data set, or of another data set with the same labels.

    The predictions stay in the run's folder. Those on another data set or over views are kept apart, see `WorkDir`.
    With `csra_at_test` they are not kept: other tools read there what the run itself answers.

    Args:
        work_dir: a run's work folder.
        data_dir: folder of the data set, as in training.
        split: "train", "validation" or "test"; the run decides which images each holds.
        prepared_dir: as in training; default <work_dir>/dataset.
        thresholds: evaluation.thresholds.Thresholds for one of the outputs, or None. All other outputs use 0.5.
        policies: dict of zero_in_ap and zero_in_rates for `protocols.protocol_named`; None: the protocol's own.
        csra_at_test: lambda of the read-out that replaces the answer of a main net, see `classifier.build_classifier`;
            None: the run's own answer.
        tta: one of `choices.TTA`, see `evaluation.evaluator.Evaluator`.
        **options: ranking, top_k and top_k_floor, as for protocols.evaluate.
    Returns:
        dict: the metrics, in the form of metrics.json; with "other_data" if it is another data set, with "csra_at_test"
        if that is given, and with "tta" if there are views.
    Raises:
        InputError: not a work folder, an untrained run, other labels, an unknown split, thresholds of another model,
            an impossible policy, k or tta, csra_at_test for a model that cannot have it.
    """
    work = WorkDir(work_dir)
    description = work.read_run()
    protocol = protocol_named(description["protocol"], **(policies or {}))
    _check_trained(work, description)
    if csra_at_test is not None:
        description = with_csra_at_test(description, csra_at_test)
    strategy = distribution.make_strategy()
    dataset, is_own = open_run_data(work, data_dir, prepared_dir)
    # Reports an unknown split before the model is built.
    dataset.check_size(split, Views(tta, description["model"]["image_size"]).square_px)
    if options.get("top_k") is not None:
        check_k(options["top_k"], len(dataset.labels))
    with strategy.scope():
        model = load_model(work, description)
    if thresholds is not None:
        thresholds.check_fit(description["labels"], model.logits, work.final)
        options["thresholds"] = {thresholds.output: thresholds.values}
    other = "" if is_own else dataset.fingerprint
    predictions = _predict(_evaluator(model, strategy, work, tta=tta), dataset.records(split), split)
    path = work.predictions(split, other, tta) if csra_at_test is None else None
    metrics = _scored(predictions, model, strategy, dataset, split, description, path, protocol, **options)
    if other:
        metrics["other_data"] = {"data_dir": data_dir, **({} if path is None else {"predictions": path})}
    if csra_at_test is not None:
        metrics["csra_at_test"] = csra_at_test
    return metrics if tta == TTA[0] else metrics | {"tta": tta}


def load_model(work, description):
    """Rebuilds a run's model with its final weights.

    Args:
        work: WorkDir.
        description: its run.json.
    Returns:
        MultiLabelModel; the run's served output is the first of its logits.
    Raises:
        InputError: the run is not fully trained.
    """
    _check_trained(work, description)
    model = build_model(ModelConfig.from_record(description["model"]), description["labels"])
    checkpoint.load_weights(work.final, model, description["labels"])
    return model.serving(description["final"]) if "final" in description else model


def _check_trained(work, description):
    """Raises InputError for a folder without final weights, and says why it has none."""
    if not description["stages"]:
        raise InputError(
            f"The run must have a network. Received: {work.path!r}, a result of {description['final']} without one. "
            f"Give another run. Its metrics are in {work.metrics}, and {tool('compare')} can compare it."
        )
    if not os.path.isfile(work.final):
        raise InputError(
            f"The run must be trained to its end. Received: {work.path!r}, which has no final weights. Continue it "
            "with the command that began it."
        )


def provenance_of(work):
    """What a run's folder says about the model that is exported from it.

    Args:
        work: WorkDir.
    Returns:
        serving.description.Provenance; empty where the folder has nothing.
    Raises:
        InputError: not a work folder, or a file in it that cannot be read.
    """
    metrics = work.read_metrics() or {}
    flags = work.read_flags() if os.path.isfile(work.flags) else {}
    return Provenance(run=work.read_run(), flags=flags, metrics=metrics)


def _start_from(path, model, labels):
    """Loads weights from a file or run; returns the set of parts read, and the set of those never trained."""
    source = WorkDir(path).final if os.path.isdir(path) else path
    taken, left, untrained = checkpoint.load_fitting_parts(source, model, labels)
    logger.info(
        "Starting from the weights in %s. Taken: %s. Not there: %s. Taken but never trained: %s.",
        source,
        ", ".join(taken),
        ", ".join(part for part in model.parts if part not in taken) or "none",
        ", ".join(untrained) or "none",
    )
    for part, why in left.items():
        logger.info("%s: part %s is not taken: %s.", source, part, why)
    return set(taken), set(untrained)


def _describe(options, config, dataset):
    return {
        "dataset": dataset.name,
        "protocol": dataset.protocol,
        "validation_fraction": options.validation_fraction,
        "validation_is_train": dataset.splits["validation"] == dataset.splits["train"],
        "labels": list(dataset.labels),
        "fingerprint": dataset.fingerprint,
        "model": dataclasses.asdict(config),
        "stages": list(options.stages),
        **({"final": options.serve_output} if options.serve_output not in ("", "best") else {}),
        "seed": options.seed,
        "code": {"srn_tf": srn_tf.__version__, "commit": code_version()},
        "versions": stack.versions(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {len(tf.config.list_physical_devices('GPU'))} GPUs",
    }


def _scored(predictions, model, strategy, dataset, split, description, path, protocol, **options):
    """The metrics of a split, the served output first. Saves its predictions in `path`, unless that is None."""
    predictions = _served_first(predictions, model)
    if path is not None and distribution.is_chief(strategy):
        _save(predictions, dataset, split, path)
    return {
        "dataset": dataset.name,
        "split": split,
        "fingerprint": dataset.fingerprint,
        "stages": list(description["stages"]),
        **{name: description[name] for name in ("final", "choice", "kept_weights") if name in description},
        **score(predictions, protocol, dataset.labels, training_positives=description["training_positives"], **options),
    }


def _evaluator(model, strategy, work, features=None, tta=TTA[0]):
    return Evaluator(model, strategy, with_boxes=True, folder=work.path, features=features, tta=tta)


def _predict(evaluator, records, split):
    return evaluator.predict(records, EVALUATION_BATCH, title=f"evaluate {split}")


def _served_first(predictions, model):
    return dataclasses.replace(predictions, logits={name: predictions.logits[name] for name in model.logits})


def _save(predictions, dataset, split, path):
    names = dataset.image_names(split)
    saved = SavedPredictions(names, predictions.labels, dataset.labels, predictions.logits, predictions.sizes)
    save_predictions(path, saved)
