"""Runs a network over every image of a split, once, and scores what comes out."""

import contextlib
import dataclasses

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from srn_tf.choices import TTA
from srn_tf.data.pipeline import Batches, evaluation_batches
from srn_tf.data.views import Views
from srn_tf.distribution import num_local_replicas, worker_share
from srn_tf.evaluation.blocks import Rows
from srn_tf.evaluation.frequency import NOTE, mean_ap_by_frequency
from srn_tf.evaluation.metrics import log_odds
from srn_tf.evaluation.pointing import PointingGame
from srn_tf.evaluation.protocols import evaluate, with_top_k_named
from srn_tf.evaluation.sizes import BoxSizes, LabelSizes, mean_ap_by_size
from srn_tf.models.model import input_of
from srn_tf.models.norm_products import with_norm_products
from srn_tf.tensor_float import tensor_float_32


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a network said of every image of a split, in stored order; large matrices lie in files, see `blocks`.

    Attributes:
        logits: output name -> float32 (N, C).
        labels: int8 (N, C), as stored.
        pointing: map's name -> PointingGame over all images; empty where it was not played, or no image has a box.
        sizes: LabelSizes of the images' boxes; None where they were not read, or no image has one.
    """

    logits: dict
    labels: np.ndarray
    pointing: dict
    sizes: LabelSizes | None = None


def _mean_probabilities(network, names, views, squares):
    """Mean over the views of an image of each output's probabilities: name -> float32 (B, C)."""

    def probabilities(image):
        outputs = network(image, training=False)
        return {name: tf.sigmoid(tf.cast(outputs[name], tf.float32)) for name in names}

    return views.mean(probabilities, views.rounded(squares))


def evaluate_step(network, image):
    """Runs the network in inference mode.

    Args:
        network: keras.Model, image -> dict of outputs.
        image: float32 (B, S, S, 3) RGB, 0 to 255; or what else the network reads, see `model.input_of`.
    Returns:
        dict of the (B, C) outputs, and in the place of a map (B, H, W, C) int64 (B, C), the flat index of each label's
        maximum in H*W.
    """
    results = dict(network(image, training=False))
    for name, maps in results.items():
        if maps.shape.rank == 4:
            grid_first = tf.reshape(maps, [-1, maps.shape[1] * maps.shape[2], maps.shape[3]])
            results[name] = tf.argmax(grid_first, axis=1)
    return results


class Evaluator:
    """One compiled inference step on one set of outputs; reusable while the weights change.

    In a cluster every worker computes its share of each batch, and each of them gets the results of all.

    Args:
        model: MultiLabelModel.
        strategy: the tf.distribute strategy the model was built under.
        names: logits to compute; default all.
        with_boxes: also read the images' boxes: their labels' sizes, and the pointing game with each of the model's
            maps.
        folder: for the temporary files of large predictions, see `blocks.Rows`.
        features: data.features.Features of the records it will run over, read in place of their images; None reads
            images.
        tta: one of `choices.TTA`. With views, the logits are log odds of each output's mean probability over them, and
            no pointing game is played.
    """

    def __init__(self, model, strategy, names=None, with_boxes=False, folder=None, features=None, tta=TTA[0]):
        self._folder = folder
        self._names = tuple(names or model.logits)
        views = self._views = None if tta == TTA[0] else Views(tta, model.image_size)
        maps = [a_map.name for a_map in model.maps] if with_boxes and views is None else []
        self._reads_boxes = with_boxes
        self._grids = {name: model.outputs[name].shape[1:3] for name in maps}
        self._strategy = strategy
        self._image_size = model.image_size if views is None else views.square_px
        self._num_labels = model.num_labels
        network = (model.network_for if features is None else model.heads_for)((*self._names, *maps))
        network = with_norm_products(network, answers_only=True)
        self._features = None if features is None else features.read_by(network)

        def replica_rows(batch, most_boxes):
            if views is None:
                outputs = evaluate_step(network, input_of(network, batch))
            else:
                outputs = _mean_probabilities(network, self._names, views, batch["image"])
            columns = [*(outputs[name] for name in self._names), batch["labels"], batch["is_real"][:, None]]
            if with_boxes:
                missing = most_boxes - tf.shape(batch["boxes"])[1]
                boxes = tf.pad(batch["boxes"], [[0, 0], [0, missing], [0, 0]])
                columns += [outputs[name] for name in maps]
                columns.append(tf.pad(batch["box_labels"], [[0, 0], [0, missing]], constant_values=-1))
                columns.append(tf.reshape(boxes, [tf.shape(boxes)[0], 4 * most_boxes]))
            return tf.concat([tf.cast(column, tf.float32) for column in columns], axis=1)

        @tf.function
        def step(batch):
            most_boxes = 0
            if with_boxes:  # each replica's share of a batch is as wide as its own images need
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
            batch_size: images per step over all devices; rounded up to a multiple of the devices.
            title: text of the progress bar; None shows none.
        Returns:
            Predictions, of all records on every worker; the masked filling of the last batch is not in it.
        Raises:
            InputError: predictions that are too large for memory do not fit into the folder either.
        """
        replicas = self._strategy.num_replicas_in_sync
        batch_size = -(-batch_size // replicas) * replicas
        share = worker_share(self._strategy)
        batches = evaluation_batches(records, self._image_size, batch_size, share, features=self._features)
        if num_local_replicas(self._strategy) > 1:
            batches = batches.rebatch(batch_size // replicas)  # they are given out replica after replica
        if not self._reads_boxes:
            batches = batches.map(lambda batch: {name: batch[name] for name in batch if "box" not in name})
        distributed = self._strategy.distribute_datasets_from_function(lambda _: batches)
        step = self._step.get_concrete_function(distributed.element_spec)  # one for any number of boxes
        num_images = int(records.cardinality())
        total = -(-num_images // batch_size)
        size = num_images, self._num_labels
        logits = {name: Rows(*size, np.float32, self._folder) for name in self._names}
        labels = Rows(*size, np.int8, self._folder)
        games = {name: PointingGame(*grid, self._num_labels) for name, grid in self._grids.items()}
        sizes = BoxSizes()
        bar = {"total": total, "unit": "batch", "leave": False, "disable": None if title else True}
        with contextlib.closing(Batches(distributed)) as held:
            for batch in tqdm(held, title, **bar):
                columns = self._columns(step(batch).numpy())
                is_real = columns["is_real"][:, 0] == 1
                for name in self._names:
                    own = columns[name][is_real]
                    logits[name].append(own if self._views is None else log_odds(own))
                labels.append(columns["labels"][is_real])
                if self._reads_boxes:
                    _look_at_boxes(sizes, games, columns, is_real)
        logits = {name: rows.matrix() for name, rows in logits.items()}
        sizes = sizes.result()
        return Predictions(logits, labels.matrix(), {} if sizes is None else games, sizes)

    def _columns(self, rows):
        """What `step` has put side by side: name -> float32 (B, its width); exact, all but the logits being small."""
        names, widths = [*self._names, "labels", "is_real"], [self._num_labels] * (len(self._names) + 1) + [1]
        if self._reads_boxes:
            names += [*self._grids, "box_labels", "boxes"]
            widths += [self._num_labels] * len(self._grids)
            most_boxes = (rows.shape[1] - sum(widths)) // 5
            widths += [most_boxes, 4 * most_boxes]
        return dict(zip(names, np.split(rows, np.cumsum(widths)[:-1], axis=1), strict=True))


def _look_at_boxes(sizes, games, columns, is_real):
    """Adds a batch to the sizes, and plays it in each map's game."""
    box_labels = columns["box_labels"].astype(np.int64)
    boxes = columns["boxes"].reshape(len(box_labels), -1, 4)
    cells = {name: columns[name].astype(np.int64) for name in games}
    for index in np.flatnonzero(is_real):
        known = box_labels[index] >= 0
        own = boxes[index][known], box_labels[index][known]
        sizes.update(*own)
        for name, game in games.items():
            game.update(cells[name][index], *own, columns["labels"][index])


def score(predictions, protocol, labels, thresholds=None, training_positives=None, **options):
    """The metrics of every output, ready for metrics.json.

    Args:
        predictions: Predictions.
        protocol: protocols.Protocol.
        labels: C label names.
        thresholds: output name -> probabilities, float () or (C,); outputs that are not in it are decided by 0.5.
        training_positives: int (C,), training images with each label; None where they are not known.
        **options: ranking, top_k and top_k_floor, as of protocols.evaluate.
    Returns:
        dict with "images", "labels", "protocol", "definition", "outputs" and, where it was played, "pointing". With
        boxes each output has what `sizes.mean_ap_by_size` returns, and with `training_positives` what
        `frequency.mean_ap_by_frequency` returns. The table of the k highest labels is named by k and
        the floor, such as "top5" or "top5_min05", or "top3_forced".
    """
    thresholds = thresholds or {}
    outputs = {}
    for name, logits in predictions.logits.items():
        evaluated = evaluate(logits, predictions.labels, protocol, labels, thresholds.get(name), **options)
        outputs[name] = with_top_k_named(evaluated, options.get("top_k"), options.get("top_k_floor"))
        if predictions.sizes is not None:
            outputs[name] |= mean_ap_by_size(logits, predictions.labels, protocol, predictions.sizes)
        if training_positives is not None:
            outputs[name] |= mean_ap_by_frequency(evaluated["AP"], training_positives)
    metrics = {
        "images": len(predictions.labels),
        "labels": list(labels),
        "protocol": protocol.name,
        "definition": "\n".join([protocol.definition, *([] if training_positives is None else [NOTE])]),
        "outputs": outputs,
    }
    if predictions.pointing:
        metrics["pointing"] = {name: game.result() for name, game in predictions.pointing.items()}
    return metrics
