"""KNN on the images of a data set: k chosen on validation, evaluated on test, kept in a folder like a run's."""

import logging
import os
import platform
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

import srn_tf
from srn_tf.baselines.knn import check_k, find_neighbours, label_shares, shares_as_logits
from srn_tf.errors import InputError
from srn_tf.evaluation.frequency import NOTE, mean_ap_by_frequency
from srn_tf.evaluation.predictions import SavedPredictions, save_predictions
from srn_tf.evaluation.protocols import evaluate, protocol_named
from srn_tf.files import write_json
from srn_tf.runs.work_dir import WorkDir, code_version

logger = logging.getLogger("srn_tf")

OUTPUT = "knn"  # name of the one output


@dataclass(frozen=True)
class Images:
    """The images of one role.

    Attributes:
        names: str (N,).
        features: float32 (N, D).
        labels: int8 (N, C), as stored; what 0 means is the protocol's.
    """

    names: np.ndarray
    features: np.ndarray
    labels: np.ndarray


def evaluate_knn(source, candidates, sigma, output_dir):
    """Evaluates KNN on the test images and leaves what a run leaves.

    Neighbours are training images only. Roles share no image, so none is its own neighbour. k is the candidate with
    the highest mAP on the validation images, of equal ones the smallest; nothing is learned from test.

    Args:
        source: `pooled_features.PooledFeatures` or `low_level_features.LowLevelFeatures`.
        candidates: the k to try, ints.
        sigma: see `knn.label_shares`; in units of the distance.
        output_dir: folder for flags.txt, run.json, metrics.json and predictions/{validation,test}.npz, as of a run of
            tools/train.py.
    Returns:
        dict: the metrics, as in metrics.json: those of a run with one output "knn", and "k", "sigma", "distance" and
        "validation_mAP" (k as text -> percent).
    Raises:
        InputError: candidates that cannot be, a folder that holds something else, no positive label in validation, or
            anything that the source cannot read.
    """
    candidates = sorted(candidates)
    check_k(candidates, source.num_train)
    work, flags = WorkDir(output_dir), _flagfile(source, candidates, sigma)
    try:
        work.claim(flags)
    except InputError as error:
        raise InputError(f"output_dir becomes the work folder of a run: {error}") from None
    protocol = protocol_named(source.protocol)
    images = source.read()
    train, validation, test = images["train"], images["validation"], images["test"]

    def predict(neighbours, k):
        return shares_as_logits(label_shares(*neighbours, train.labels, k, sigma), train.labels)

    def neighbours_of(role, count):
        title = f"neighbours {role}"
        return find_neighbours(train.features, images[role].features, count, source.distance, title)

    neighbours = neighbours_of("validation", candidates[-1])
    mean_ap = {k: evaluate(predict(neighbours, k), validation.labels, protocol)["all"]["mAP"] for k in candidates}
    if None in mean_ap.values():
        raise InputError(
            "Validation images must have labels, because k is chosen by validation mAP. Received: no label on "
            f"{len(validation.labels)} images. Use a larger validation split."
        )
    best = max(candidates, key=mean_ap.get)  # the first of equal ones
    logger.info(
        f"Validation mAP by k: {', '.join(f'{k}: {value:.2f}' for k, value in mean_ap.items())}. Chosen: k = {best}. "
        f"Median distance of neighbour 1: {np.median(neighbours[1][:, 0]):.3g}, of neighbour {candidates[-1]}: "
        f"{np.median(neighbours[1][:, -1]):.3g}."
    )
    logits = {"validation": predict(neighbours, best), "test": predict(neighbours_of("test", best), best)}

    positives = (train.labels == 1).sum(axis=0)
    work.write_run(_describe(source, candidates, sigma) | {"training_positives": positives.tolist()}, flags)
    for role, of_role in logits.items():
        save_predictions(
            work.predictions(role),
            SavedPredictions(images[role].names, images[role].labels, source.labels, {OUTPUT: of_role}),
        )
    evaluated = evaluate(logits["test"], test.labels, protocol, source.labels)
    metrics = {
        "dataset": source.dataset,
        "split": "test",
        "stages": [],
        "images": len(test.labels),
        "labels": list(source.labels),
        "protocol": protocol.name,
        "definition": f"{protocol.definition}\n{NOTE}",
        "outputs": {OUTPUT: evaluated | mean_ap_by_frequency(evaluated["AP"], positives)},
        "k": best,
        "sigma": sigma,
        "distance": source.distance,
        "validation_mAP": {str(k): value for k, value in mean_ap.items()},
    }
    write_json(work.metrics, metrics)
    return metrics


def _flagfile(source, candidates, sigma):
    """flags.txt: what decides the result, so that a comparison names and merges runs as it does others."""
    flags = {"model": OUTPUT, "k": ",".join(map(str, candidates)), "sigma": sigma, **source.flags}
    return "".join(f"--{name}={value}\n" for name, value in flags.items())


def _describe(source, candidates, sigma):
    """run.json."""
    return {
        "dataset": source.dataset,
        "protocol": source.protocol,
        "validation_fraction": source.validation_fraction,
        "validation_is_train": False,
        "labels": list(source.labels),
        "fingerprint": source.fingerprint,
        "model": {"model": OUTPUT, "k": candidates, "sigma": sigma, "distance": source.distance},
        "stages": [],
        "final": OUTPUT,
        "features": source.describe(),
        "code": {"srn_tf": srn_tf.__version__, "commit": code_version()},
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "sklearn": version("scikit-learn")},
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }
