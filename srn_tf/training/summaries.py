"""TensorBoard: what a run looked like, stage by stage."""

import numpy as np
import tensorflow as tf
from PIL import Image

from srn_tf.data.pipeline import evaluation_batches
from srn_tf.evaluation.protocols import protocol_named
from srn_tf.pictures import to_pixels
from srn_tf.visualization.attention import draw_attention
from srn_tf.visualization.explained import Explained, most_probable, seen_of

NUM_PICTURES = 4  # the fixed handful of validation images whose attention is drawn
_NUM_LABELS = 3  # of each
_THRESHOLD = 0.5


class Summaries:
    """Writes scalars every epoch and attention overlays at the end of every stage.

    Args:
        folder: folder of the event files.
        model: MultiLabelModel.
        dataset: data.datasets.DataSet; the first validation images are the ones drawn.
        is_writer: False on workers that only take part in what is computed for another one's.
    """

    def __init__(self, folder, model, dataset, is_writer=True):
        self._writer = tf.summary.create_file_writer(folder) if is_writer else tf.summary.create_noop_writer()
        self._model, self._labels, self._protocol = model, dataset.labels, protocol_named(dataset.protocol)
        self._batch = None
        if model.explanation:
            records = dataset.records("validation").take(NUM_PICTURES)
            self._batch = next(iter(evaluation_batches(records, model.image_size, NUM_PICTURES)))

    def write_epoch(self, entry, labels):
        """Writes one entry of log.jsonl: loss parts, learning rate, speed, validation metrics, confusion.

        Args:
            entry: dict, as `Trainer` logs it.
            labels: C label names.
        """
        stage, step, validation = entry["stage"], entry["step"], entry["validation"]
        scalars = {f"loss/{name}": value for name, value in entry["losses"].items()}
        scalars |= {name: entry[name] for name in ("learning_rate", "skipped_steps")}
        scalars |= {f"speed/{name}": value for name, value in entry["speed"].items()}
        metrics = [name for name in ("loss", "mAP", "F1-macro", "F1-micro") if name in validation]
        scalars |= {f"validation/{name}": validation[name] for name in metrics}
        with self._writer.as_default(step=step):
            for name, value in scalars.items():
                tf.summary.scalar(f"{stage}/{name}", value)
            if "confusion" in validation:
                tf.summary.text(f"{stage}/validation/confusion", _confusion_table(labels, validation["confusion"]))
        self._writer.flush()

    def write_attention(self, stage, step):
        """Draws the attention of the fixed validation images with the current weights."""
        if self._batch is None:
            return
        image, labels = self._batch["image"], self._batch["labels"].numpy()
        maps, regions = self._model.maps, self._model.regions
        network = self._model.network_for((self._model.final, *self._model.explanation))
        outputs = {name: values.numpy() for name, values in network(image, training=False).items()}
        probabilities = tf.sigmoid(outputs[self._model.final]).numpy()
        pixels = np.clip(image.numpy(), 0, 255).round().astype(np.uint8)
        explained = [
            Explained(
                row,
                "",
                Image.fromarray(pixels[row]),
                probabilities[row],
                probabilities[row] > _THRESHOLD,
                labels[row],
                *seen_of(outputs, row, most_probable(probabilities[row], _NUM_LABELS), maps, regions),
            )
            for row in np.flatnonzero(self._batch["is_real"].numpy())
        ]
        thresholds = np.full(len(self._labels), _THRESHOLD)
        figure = draw_attention(explained, self._labels, thresholds, maps, self._protocol, regions=regions)
        with self._writer.as_default(step=step):
            tf.summary.image(f"{stage}/attention", to_pixels(figure)[None])
        self._writer.flush()

    def close(self):
        """Writes what is pending, and closes the files."""
        self._writer.close()


def _confusion_table(labels, confusion):
    """Markdown, a row per label."""
    table = ["| label | true - | false + | false - | true + |", "|---|---|---|---|---|"]
    table += [f"| {label} | {' | '.join(map(str, row))} |" for label, row in zip(labels, confusion, strict=True)]
    return "\n".join(table)
