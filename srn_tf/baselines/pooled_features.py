"""The pooled features of a trained run's main net, what its classifier reads, as a source of KNN."""

import contextlib

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from srn_tf.baselines.knn_run import OUTPUT, Images
from srn_tf.data.pipeline import Batches, evaluation_batches
from srn_tf.errors import InputError
from srn_tf.models.norm_products import with_norm_products
from srn_tf.run import EVALUATION_BATCH, load_model
from srn_tf.runs.run_data import open_run_data
from srn_tf.runs.work_dir import WorkDir
from srn_tf.tensor_float import tensor_float_32


class PooledFeatures:
    """A source of images for `knn_run.evaluate_knn`: those of a run's data set, described by the run's main net.

    Args:
        work_dir: a run's work folder.
        data_dir, prepared_dir: as in training.
    Raises:
        InputError: not a network's work folder, an untrained run, other labels, a model without an embedding, or no
            validation images of their own.
    """

    distance = "euclidean"

    def __init__(self, work_dir, data_dir, prepared_dir=""):
        work = WorkDir(work_dir)
        self._run = work.read_run()
        if self._run["model"]["model"] == OUTPUT:
            raise InputError(
                f"work_dir must be the run of a network. Received: {work_dir}, a result of KNN. Give another run."
            )
        self._dataset, _ = open_run_data(work, data_dir, prepared_dir)
        if self._dataset.splits["validation"] == self._dataset.splits["train"]:
            raise InputError(
                f"KNN chooses k on validation images that are not training images. Received: {work_dir}, a run that "
                "held out no image. Train it with --validation_fraction above 0."
            )
        self._model = load_model(work, self._run)
        if self._model.embedding is None:
            raise InputError(
                f"KNN needs a model with an embedding. Received: {work_dir}, a run of {self._run['model']['model']}. "
                "Give another run."
            )
        self._network = with_norm_products(self._model.network_for((self._model.embedding,)), answers_only=True)
        self.dataset, self.protocol, self.labels = self._dataset.name, self._dataset.protocol, self._dataset.labels
        self.validation_fraction = self._run["validation_fraction"]
        self.fingerprint = self._dataset.fingerprint
        self.num_train = self._dataset.num_images("train")
        flags = work.read_flags()
        self.flags = {"features": flags.pop("model", "main_net"), **flags}

    def describe(self):
        """What run.json says of the features."""
        names = ("model", "stages", "seed", "code", "fingerprint")
        return {name: self._run[name] for name in names}

    def read(self):
        """Runs the network over all images: role -> Images."""
        return {role: self._read(role) for role in self._dataset.splits}

    @tensor_float_32(False)
    def _read(self, role):
        records = self._dataset.records(role)
        num_images = int(records.cardinality())
        features = np.empty((num_images, self._model.outputs[self._model.embedding].shape[-1]), np.float32)
        labels = np.empty((num_images, len(self.labels)), np.int8)

        @tf.function
        def pool(image):
            return self._network(image, training=False)[self._model.embedding]

        batches = evaluation_batches(records, self._model.image_size, EVALUATION_BATCH)
        total = -(-num_images // EVALUATION_BATCH)
        start = 0
        with contextlib.closing(Batches(batches)) as held:
            for batch in tqdm(held, f"features {role}", total, unit="batch", leave=False, disable=None):
                is_real = batch["is_real"].numpy()
                rows = slice(start, start + int(is_real.sum()))
                features[rows] = pool(batch["image"]).numpy()[is_real]
                labels[rows] = batch["labels"].numpy()[is_real]
                start = rows.stop
        return Images(self._dataset.image_names(role), features, labels)
