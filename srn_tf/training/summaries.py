"""TensorBoard: what a run looked like, a line per stage in each chart.

TensorBoard orders groups by name, so their names start with a number: what matters most is on the first screen.
"""

import contextlib
import os

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
MAP, LOSS, F1, ATTENTION, STEPS, SPEED = "1_mAP", "2_loss", "3_F1", "4_attention", "5_steps", "6_speed"
_TAGS = {
    **{"mAP": f"{MAP}/validation", "loss": f"{LOSS}/validation"},
    **{"F1-macro": f"{F1}/validation_macro", "F1-micro": f"{F1}/validation_micro"},
}


class Summaries:
    """Writes scalars every epoch and attention overlays at the end of every stage.

    Each stage is a run of TensorBoard's own, <number>_<stage>, whose steps count from its start.

    Args:
        folder: folder of the event files.
        model: MultiLabelModel.
        dataset: data.datasets.DataSet; the first validation images are the ones drawn.
        stages: names of the stages, in their order.
        is_writer: False on workers that only take part in what is computed for another one's.
    """

    def __init__(self, folder, model, dataset, stages, is_writer=True):
        self._folders = {name: os.path.join(folder, f"{i}_{name}") for i, name in enumerate(stages, 1)}
        self._writers, self._is_writer = {}, is_writer
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
        validation = entry["validation"]
        scalars = {tag: validation[name] for name, tag in _TAGS.items() if name in validation}
        scalars |= {f"{LOSS}/{name}": value for name, value in entry["losses"].items()}
        scalars |= {f"{STEPS}/{name}": entry[name] for name in ("learning_rate", "skipped_steps")}
        scalars |= {f"{SPEED}/{name}": value for name, value in entry["speed"].items()}
        with self._writing(entry["stage"], entry["step"]):
            for name, value in scalars.items():
                tf.summary.scalar(name, value)
            if "confusion" in validation:
                tf.summary.text(f"{F1}/validation_confusion", _confusion_table(labels, validation["confusion"]))

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
        with self._writing(stage, step):
            tf.summary.image(f"{ATTENTION}/validation_images", to_pixels(figure)[None])

    def close(self):
        """Writes what is pending, and closes the files."""
        for writer in self._writers.values():
            writer.close()

    @contextlib.contextmanager
    def _writing(self, stage, step):
        """Summaries within it are those of a stage's step, and are in its file afterwards."""
        if stage not in self._writers:
            new = tf.summary.create_file_writer if self._is_writer else lambda _: tf.summary.create_noop_writer()
            self._writers[stage] = new(self._folders[stage])
        with self._writers[stage].as_default(step=step):
            yield
        self._writers[stage].flush()


def _confusion_table(labels, confusion):
    """Markdown, a row per label."""
    table = ["| label | true - | false + | false - | true + |", "|---|---|---|---|---|"]
    table += [f"| {label} | {' | '.join(map(str, row))} |" for label, row in zip(labels, confusion, strict=True)]
    return "\n".join(table)
