"""Runs a network over every image of a split, once, and scores what comes out."""

import contextlib
import dataclasses

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from srn_tf.data.pipeline import Batches, evaluation_batches
from srn_tf.distribution import num_local_replicas, worker_share
from srn_tf.evaluation.blocks import Rows
from srn_tf.evaluation.pointing import PointingGame
from srn_tf.evaluation.protocols import evaluate, top_k_key
from srn_tf.tensor_float import tensor_float_32
from srn_tf.training.steps import evaluate_step


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a network said of every image of a split, in stored order; large matrices lie in files, see `blocks`.

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

    In a cluster every worker computes its share of each batch, and each of them gets the results of all.

    Args:
        model: MultiLabelModel.
        strategy: the tf.distribute strategy the model was built under.
        names: logits to compute; default all.
        with_attention: also play the pointing game, if the model has attention.
        folder: for the temporary files of large predictions, see `blocks.Rows`.
    """

    def __init__(self, model, strategy, names=None, with_attention=False, folder=None):
        self._folder = folder
        self._names = tuple(names or model.logits)
        self._attention = model.attention if with_attention else None
        self._strategy = strategy
        self._image_size = model.image_size
        self._num_labels = model.num_labels
        self._grid = model.outputs[self._attention].shape[1:3] if self._attention else None
        wanted = self._names + ((self._attention,) if self._attention else ())
        network = model.network_for(wanted)

        def replica_rows(batch, most_boxes):
            outputs = evaluate_step(network, batch["image"], self._attention)
            columns = [*(outputs[name] for name in self._names), batch["labels"], batch["is_real"][:, None]]
            if self._attention:
                missing = most_boxes - tf.shape(batch["boxes"])[1]
                boxes = tf.pad(batch["boxes"], [[0, 0], [0, missing], [0, 0]])
                columns.append(outputs["attention_cell"])
                columns.append(tf.pad(batch["box_labels"], [[0, 0], [0, missing]], constant_values=-1))
                columns.append(tf.reshape(boxes, [tf.shape(boxes)[0], 4 * most_boxes]))
            return tf.concat([tf.cast(column, tf.float32) for column in columns], axis=1)

        @tf.function
        def step(batch):
            most_boxes = 0
            if self._attention:  # each replica's share of a batch is as wide as its own images need
                counts = strategy.run(lambda boxes: tf.shape(boxes)[1:2], args=(batch["boxes"],))
                most_boxes = tf.reduce_max(strategy.gather(counts, axis=0))
            # All a batch has to say goes from worker to worker in one message: each takes its time.
            return strategy.gather(strategy.run(replica_rows, args=(batch, most_boxes)), axis=0)

        self._step = step

    @tensor_float_32(False)
    def predict(self, records, batch_size, title=None):
        """Runs over all records.

        Args:
            records: see `data.pipeline.read_records`; the same on every worker.
            batch_size: images a step over all devices; rounded up to a multiple of the devices.
            title: text of the progress bar; None shows none.
        Returns:
            Predictions, of all records on every worker; the masked filling of the last batch is not in it.
        Raises:
            InputError: predictions that are too large for memory do not fit into the folder either.
        """
        replicas = self._strategy.num_replicas_in_sync
        batch_size = -(-batch_size // replicas) * replicas
        batches = evaluation_batches(records, self._image_size, batch_size, worker_share(self._strategy))
        if num_local_replicas(self._strategy) > 1:
            batches = batches.rebatch(batch_size // replicas)  # they are given out replica after replica
        if not self._attention:  # whose game alone reads boxes
            batches = batches.map(lambda batch: {name: batch[name] for name in ("image", "labels", "is_real")})
        distributed = self._strategy.distribute_datasets_from_function(lambda _: batches)
        step = self._step.get_concrete_function(distributed.element_spec)  # one for any number of boxes
        num_images = int(records.cardinality())
        total = -(-num_images // batch_size)
        size = num_images, self._num_labels
        logits = {name: Rows(*size, np.float32, self._folder) for name in self._names}
        labels = Rows(*size, np.int8, self._folder)
        game = PointingGame(*self._grid, self._num_labels) if self._attention else None
        has_boxes = False
        bar = {"total": total, "unit": "batch", "leave": False, "disable": None if title else True}
        with contextlib.closing(Batches(distributed)) as held:
            for batch in tqdm(held, title, **bar):
                columns = self._columns(step(batch).numpy())
                is_real = columns["is_real"][:, 0] == 1
                for name in self._names:
                    logits[name].append(columns[name][is_real])
                labels.append(columns["labels"][is_real])
                if game is not None:
                    has_boxes |= _play(game, columns, is_real)
        logits = {name: rows.matrix() for name, rows in logits.items()}
        return Predictions(logits, labels.matrix(), game if has_boxes else None)

    def _columns(self, rows):
        """What `step` has put side by side: name -> float32 (B, its width); exact, all but the logits being small."""
        names, widths = [*self._names, "labels", "is_real"], [self._num_labels] * (len(self._names) + 1) + [1]
        if self._attention:
            most_boxes = (rows.shape[1] - sum(widths) - self._num_labels) // 5
            names += ["attention_cell", "box_labels", "boxes"]
            widths += [self._num_labels, most_boxes, 4 * most_boxes]
        return dict(zip(names, np.split(rows, np.cumsum(widths)[:-1], axis=1), strict=True))


def _play(game, columns, is_real):
    """Plays a batch of the game; whether any of its images has a box."""
    cells, box_labels = columns["attention_cell"].astype(np.int64), columns["box_labels"].astype(np.int64)
    boxes = columns["boxes"].reshape(len(cells), -1, 4)
    for index in np.flatnonzero(is_real):
        known = box_labels[index] >= 0
        game.update(cells[index], boxes[index][known], box_labels[index][known], columns["labels"][index])
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
