"""Evaluates what is served: an exported SavedModel on a split of a prepared data set."""

import hashlib

import numpy as np
from tqdm import tqdm

from srn_tf.choices import ENGINES, TTA
from srn_tf.data.datasets import open_stored
from srn_tf.errors import InputError
from srn_tf.evaluation.blocks import Rows
from srn_tf.evaluation.evaluator import Predictions, score
from srn_tf.evaluation.metrics import check_k, log_odds
from srn_tf.evaluation.protocols import protocol_named
from srn_tf.evaluation.sizes import BoxSizes
from srn_tf.labels import check_same_labels
from srn_tf.serving.predictor import Predictor
from srn_tf.tensor_float import tensor_float_32

_BATCH = 64  # images a request


@tensor_float_32(False)
def evaluate_saved_model(
    saved_model_dir,
    dataset_name,
    data_dir,
    split,
    policies=None,
    engine=ENGINES[0],
    known_fraction=None,
    tta=TTA[0],
    **options,
):
    """Asks an exported model about every image of a split, and scores the answers as a run's are.

    Args:
        saved_model_dir: folder of one version, e.g. RUN/export/1.
        dataset_name: one of `data.datasets.DATASETS`.
        data_dir: folder it is prepared in.
        split: "train", "validation" or "test" as stored: a run's own held-out images are known to its work folder only.
        policies: dict of zero_in_ap and zero_in_rates for `protocols.protocol_named`; None is the protocol's own.
        engine: one of `choices.ENGINES`, what computes the answers.
        known_fraction: share of the labels, in (0, 1), whose truth the model is given with every image, see
            `given_labels`; the metrics are over the others. None: it is given none.
        tta: one of `choices.TTA`, see `predictor.Predictor`.
        **options: ranking, top_k and top_k_floor, as of protocols.evaluate.
    Returns:
        dict in the form of metrics.json, its one output "served"; with "other_data" where the data set is not the one
        that the model was trained on, with "tta" where there are views, and with "known_fraction" where it is given.
        Scores are log odds of the served probabilities; labels are predicted above the thresholds of the export.
    Raises:
        InputError: no such model, engine, data set or split, other labels, a policy or k that cannot be, or a model
            that cannot use known labels.
    """
    predictor = Predictor(saved_model_dir, engine, tta)
    thresholds = predictor.thresholds
    if (thresholds == thresholds[0]).all():  # said as the one number it is
        thresholds = thresholds[0]
    dataset = open_stored(dataset_name, data_dir, split)
    check_same_labels(predictor.labels, dataset.labels, f"The data set in {data_dir}")
    dataset.check_size(split, predictor.square_px)
    protocol = protocol_named(dataset.protocol, **(policies or {}))
    if options.get("top_k") is not None:
        check_k(options["top_k"], len(dataset.labels))
    if known_fraction is not None:
        predictor.answer([], {})  # refuses a model that cannot use them
        if known_fraction * len(dataset.labels) < 1:
            raise InputError(
                f"known_fraction must give at least one of {len(dataset.labels)} labels. Received: {known_fraction:g}."
            )
    records = dataset.records(split)
    num_images = int(records.cardinality())
    total = -(-num_images // _BATCH)
    sizes = BoxSizes()
    scores, labels = (Rows(num_images, len(dataset.labels), dtype) for dtype in (np.float64, np.int8))
    for batch in tqdm(_batches(records), f"evaluate {split}", total=total, unit="batch", leave=False, disable=None):
        images, truth = [record["image"] for record in batch], np.stack([record["labels"] for record in batch])
        known = None
        if known_fraction is not None:
            truth = truth if protocol.is_zero_unspecified else np.where(truth == 1, 1, -1)
            names = [record["name"].decode() for record in batch]
            is_given = given_labels(names, predictor.labels, known_fraction) & (truth != 0)
            known = _known(truth, is_given, predictor.labels)
            truth = np.where(is_given, 0, truth)
        scores.append(log_odds(predictor.predict(images, known)))
        labels.append(truth)
        for record in batch if known_fraction is None else ():  # a given label has no size in the metrics
            sizes.update(record["objects"]["bbox"], record["objects"]["label"])
    if known_fraction is not None:
        protocol = protocol.with_given()
    predictions = Predictions({"served": scores.matrix()}, labels.matrix(), {}, sizes.result())
    is_other = predictor.trained_on is not None and predictor.trained_on != dataset.fingerprint
    return {
        "dataset": dataset_name,
        "split": split,
        "fingerprint": dataset.fingerprint,
        **({"other_data": {"data_dir": str(data_dir)}} if is_other else {}),
        "saved_model": str(saved_model_dir),
        "engine": engine,
        **({} if known_fraction is None else {"known_fraction": known_fraction}),
        **({"tta": tta} if tta != TTA[0] else {}),
        **score(predictions, protocol, dataset.labels, {"served": thresholds}, predictor.training_positives, **options),
    }


def given_labels(names, labels, fraction):
    """Which labels of an image the model is given: always the same ones, by a hash of the image's and labels' names.

    Args:
        names: list of N names of images.
        labels: list of C label names.
        fraction: in (0, 1).
    Returns:
        bool (N, C), floor(fraction * C) in every row.
    """
    is_given = np.zeros((len(names), len(labels)), bool)
    for row, name in zip(is_given, names, strict=True):
        digests = [hashlib.sha256(f"{name}\0{label}".encode()).digest() for label in labels]
        row[sorted(range(len(labels)), key=digests.__getitem__)[: int(fraction * len(labels))]] = True
    return is_given


def _known(truth, is_given, labels):
    """What is given of each image, as `Predictor.answer` takes it: list of N dicts, from (N, C) twice."""
    rows = zip(truth, is_given, strict=True)
    return [{labels[label]: int(row[label] == 1) for label in np.flatnonzero(given)} for row, given in rows]


def _batches(records):
    batch = []
    for record in records.as_numpy_iterator():
        batch.append(record)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
