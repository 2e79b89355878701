"""The mean of a stage's term over a split: what a stage watches that is no output."""

import contextlib

import numpy as np
import tensorflow as tf

from srn_tf.data.pipeline import Batches, evaluation_batches
from srn_tf.models.model import input_of
from srn_tf.models.norm_products import with_norm_products
from srn_tf.tensor_float import tensor_float_32
from srn_tf.training.losses import step_seed
from srn_tf.training.steps import term_values


class MeanTerm:
    """Computes one term, in inference mode, over every image of a split; reusable while the weights change.

    On one device; every worker of a cluster computes all of it.

    Args:
        model: MultiLabelModel.
        term: models.model.Term that is per image.
        label_loss: of specified labels, see `training.losses`.
        ignores_unspecified: whether it leaves out labels that are 0.
        num_boxes: K, for a term of a stage that needs boxes, see `pipeline.evaluation_batches`; None is without.
        features: data.features.Features of the split, which are read in place of its images; None reads images.
    """

    def __init__(self, model, term, label_loss, ignores_unspecified, num_boxes=None, features=None):
        self._image_size, self._num_boxes = model.image_size, num_boxes
        self._unread = ("is_real",) if num_boxes is not None else ("is_real", "boxes", "box_labels")
        network = (model.network_for if features is None else model.heads_for)(term.reads)
        network = with_norm_products(network, answers_only=True)
        self._features = None if features is None else features.read_by(network)

        @tf.function
        def values(batch, seed):
            labels = batch["labels"]
            batch = {name: value for name, value in batch.items() if name != "labels"}
            batch["y"] = tf.cast(labels == 1, tf.float32)
            if ignores_unspecified:
                batch["counted"] = tf.cast(labels != 0, tf.float32)
            return term_values(term, network(input_of(network, batch), training=False), batch, label_loss, seed)

        self._values = values

    @tensor_float_32(False)
    def __call__(self, records, batch_size):
        """The mean over all records, float; what the term draws is the same at every call."""
        total, count = 0.0, 0
        batches = evaluation_batches(
            records, self._image_size, batch_size, num_boxes=self._num_boxes, features=self._features
        )
        with contextlib.closing(Batches(batches)) as batches:
            for number, batch in enumerate(batches):
                is_real = batch["is_real"].numpy()
                batch = {name: value for name, value in batch.items() if name not in self._unread}
                total += float(np.sum(self._values(batch, step_seed(number)).numpy()[is_real], dtype=np.float64))
                count += int(is_real.sum())
        return total / count
