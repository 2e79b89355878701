"""Runs a network over every image of a split, once, and scores what comes out."""

import dataclasses

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from srn_tf.data.pipeline import evaluation_batches
from srn_tf.evaluation.pointing import PointingGame
from srn_tf.evaluation.protocols import evaluate, top_k_key
from srn_tf.training.steps import evaluate_step


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a network said of every image of a split, in stored order.

    Attributes:
        logits: output name -> float32 (N, C).
        labels: int8 (N, C), as stored.
        pointing: PointingGame over all images, or None where there is no attention or no box.
    """

    logits: dict
    labels: np.ndarray
    pointing: PointingGame | None


class Evaluator:
    """One compiled inference step on one set of outputs; reusable while the weights change.

    Args:
        model: MultiLabelModel.
        strategy: the tf.distribute strategy the model was built under.
        names: logits to compute; default all.
        with_attention: also play the pointing game, if the model has attention.
    """

    def __init__(self, model, strategy, names=None, with_attention=False):
        self._names = tuple(names or model.logits)
        self._attention = model.attention if with_attention else None
        self._strategy = strategy
        self._image_size = model.image_size
        self._num_labels = model.num_labels
        self._grid = model.outputs[self._attention].shape[1:3] if self._attention else None
        wanted = self._names + ((self._attention,) if self._attention else ())
        network = model.network_for(wanted)

        @tf.function
        def step(image):
            return strategy.run(evaluate_step, args=(network, image, self._attention))

        self._step = step

    def predict(self, records, batch_size, title=None):
        """Runs over all records.

        Args:
            records: see `data.pipeline.read_records`.
            batch_size: images a step over all devices; rounded up to a multiple of the devices.
            title: text of the progress bar; None shows none.
        Returns:
            Predictions; the masked filling of the last batch is not in it.
        """
        replicas = self._strategy.num_replicas_in_sync
        batch_size = -(-batch_size // replicas) * replicas
        batches = evaluation_batches(records, self._image_size, batch_size)
        distributed = self._strategy.experimental_distribute_dataset(batches)
        total = -(-int(records.cardinality()) // batch_size)
        logits = {name: [] for name in self._names}
        labels = []
        game = PointingGame(*self._grid, self._num_labels) if self._attention else None
        has_boxes = False
        for batch in tqdm(distributed, title, total=total, unit="batch", leave=False, disable=None if title else True):
            outputs = self._step(batch["image"])
            is_real = self._join(batch["is_real"])
            for name in self._names:
                logits[name].append(self._join(outputs[name])[is_real])
            labels.append(self._join(batch["labels"])[is_real])
            if game is not None:
                has_boxes |= self._play(game, batch, outputs, is_real)
        logits = {name: np.concatenate(parts) for name, parts in logits.items()}
        return Predictions(logits, np.concatenate(labels), game if has_boxes else None)

    def _join(self, value):
        """The replicas' shares of a batch as one array, in the batch's order."""
        return np.concatenate([share.numpy() for share in self._strategy.experimental_local_results(value)])

    def _play(self, game, batch, outputs, is_real):
        cells, labels = self._join(outputs["attention_cell"]), self._join(batch["labels"])
        boxes, box_labels = self._join(batch["boxes"]), self._join(batch["box_labels"])
        for index in np.flatnonzero(is_real):
            known = box_labels[index] >= 0
            game.update(cells[index], boxes[index][known], box_labels[index][known], labels[index])
        return bool((box_labels >= 0).any())


def score(predictions, protocol, labels, thresholds=None, **options):
    """The metrics of every output, ready for metrics.json.

    Args:
        predictions: Predictions.
        protocol: protocols.Protocol.
        labels: C label names.
        thresholds: output name -> probabilities, float () or (C,); outputs that are not in it are decided by 0.5.
        **options: ranking, top_k and top_k_floor, as of protocols.evaluate.
    Returns:
        dict with "images", "labels", "protocol", "definition", "outputs" and, where it was played, "pointing". The
        table of the k highest labels is named by k and the floor, such as "top5" or "top5_min05", or "top3_forced".
    """
    thresholds = thresholds or {}
    key = top_k_key(options.get("top_k"), options.get("top_k_floor"))
    if key == "top3":
        key = "top3_forced"  # what "top3" is, with or without a floor, is the protocol's
    names = {"top_k": key, "top_k_plain": f"{key}_plain"}
    outputs = {}
    for name, logits in predictions.logits.items():
        evaluated = evaluate(logits, predictions.labels, protocol, labels, thresholds.get(name), **options)
        outputs[name] = {names.get(table, table): values for table, values in evaluated.items()}
    metrics = {
        "images": len(predictions.labels),
        "labels": list(labels),
        "protocol": protocol.name,
        "definition": protocol.definition,
        "outputs": outputs,
    }
    if predictions.pointing is not None:
        metrics["pointing"] = predictions.pointing.result()
    return metrics
