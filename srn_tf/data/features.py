"""What a frozen trunk makes of the images of a role: computed once, kept on disk, read in batches.

The way of a feature: `open_features` finds its file, or has the chief make it (`_make`); `Features.put_in` reads the
rows of a batch where `pipeline.training_batches` and `pipeline.evaluation_batches` would have decoded images; and
`MultiLabelModel.heads_for` is the network that goes on from there.

A file is an array of NumPy's .npy format, float32 (N * K, H, W, D), row place * K + version, and four more bytes: the
CRC-32 of its numbers. Its name is made of all that decides the numbers, so that whatever fits is found again, by runs
of other methods, too.
"""

import contextlib
import copy
import dataclasses
import hashlib
import json
import logging
import os
import shutil
import time
import zlib

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from srn_tf import distribution, stack
from srn_tf.data.augments import Effects
from srn_tf.data.pipeline import Batches, cached, fixed_versions, num_versions
from srn_tf.errors import InputError
from srn_tf.files import DAMAGE, lock, written_whole
from srn_tf.models.norm_products import with_norm_products
from srn_tf.tensor_float import tensor_float_32

logger = logging.getLogger("srn_tf")

TRUNK = "trunk"
_FORMAT = 1  # another one where preprocessing or augmentation gives other values
_BATCH = 32  # images per device
_CRC_BYTES = 4
_BLOCK_BYTES = 1 << 24


class Features:
    """The features of a role's images.

    Args:
        records: the role's records, without images.
        arrays: name of a feature -> float32 (N * K, H, W, D), memory-mapped.

    Attributes:
        records: as given: what `training_batches` and `evaluation_batches` take in place of records with images.
    """

    def __init__(self, records, arrays):
        self.records = records
        self._arrays = arrays
        self._dtypes = dict.fromkeys(arrays, tf.float32)

    def read_by(self, network):
        """Of the features those that a network of `MultiLabelModel.heads_for` reads, in its types: Features."""
        own = copy.copy(self)
        own._dtypes = {x.name: x.dtype for x in network.inputs if x.name in self._arrays}
        own._arrays = {name: self._arrays[name] for name in own._dtypes}
        return own

    def put_in(self, batch):
        """Reads a batch's features.

        Args:
            batch: dict of tensors with "row", int64 (b,), of the arrays.
        Returns:
            The dict with (b, H, W, D) under each feature's name in place of "row".
        """
        batch = dict(batch)
        rows = batch.pop("row")
        arrays = list(self._arrays.values())
        values = tf.numpy_function(
            lambda rows: [np.take(array, rows, axis=0) for array in arrays], [rows], [tf.float32] * len(arrays)
        )
        for name, value in zip(self._arrays, values, strict=True):
            value = tf.ensure_shape(value, [*rows.shape, *self._arrays[name].shape[1:]])
            batch[name] = tf.cast(value, self._dtypes[name])
        return batch


def check_features(model, plan):
    """Whether a model can be trained on features as planned.

    Args:
        model: MultiLabelModel.
        plan: TrainingPlan with cache "features".
    Raises:
        InputError: a trunk that is not frozen or cannot be cut off, or images that are others in every epoch or mixed.
    """
    if not model.features:
        raise InputError(
            "--cache=features needs a model that declares the features of its trunk. Received: a model that declares "
            f"none, with the parts {', '.join(model.parts)}. Use another --cache."
        )
    if TRUNK not in plan.frozen_parts:
        raise InputError(
            "--cache=features needs a trunk that no stage trains. Received: "
            f"--frozen_parts={','.join(plan.frozen_parts)}. Add {TRUNK} to --frozen_parts, or use another --cache."
        )
    if plan.effects.mix:
        raise InputError(
            "--cache=features needs images that are not mixed, because it keeps what the trunk makes of each one. "
            f"Received: {plan.effects.mix} in --augment. Remove it from the list, or use another --cache."
        )
    if not num_versions(plan.fixed_crops, plan.crops, plan.mirror, plan.effects):
        raise InputError(
            "--cache=features needs a fixed number of versions of every training image. Received: --fixed_crops=0 with "
            "random augmentation. Use --fixed_crops=K, such as 4, or --augment=resize."
        )


@tensor_float_32(False)
def open_features(model, strategy, dataset, role, plan, between=lambda: None):
    """Finds the features of a role's images beside the prepared data, in `<data>/features/`, or makes them.

    Of several workers the chief makes them, and all open them.

    Args:
        model: MultiLabelModel, whose trunk has the weights that it keeps.
        strategy: tf.distribute strategy that it was built under.
        dataset: data.datasets.DataSet.
        role: "train", whose images are augmented as planned, "validation" or "test".
        plan: TrainingPlan, see `check_features`.
        between: called between two batches of images; what it raises ends the making.
    Returns:
        Features.
    Raises:
        InputError: see `check_features`; no room on the disk, or a folder that cannot be written.
    """
    check_features(model, plan)
    how = (plan.crops, plan.mirror, plan.effects) if role == "train" else (None, False, Effects())
    crops, mirror, effects = how
    versions = num_versions(plan.fixed_crops, *how)
    changes = crops or mirror or effects.per_image
    augmentation = (versions, mirror, crops and dataclasses.astuple(crops), *effects.stored()) if changes else None
    folder = os.path.join(str(dataset.builder.data_dir_root), "features")
    num_rows = dataset.num_images(role) * versions
    facts = {
        "format": _FORMAT,
        "trunk": _digest_of_trunk(model),
        "image_size": model.image_size,
        "stack": {name: value for name, value in stack.versions().items() if name != "python"},
        "data": dataset.fingerprint,
        "split": dataset.expression(role),
        "augmentation": augmentation,
    }
    files = {}  # feature -> (path, shape)
    for name, feature in model.features.items():
        key = hashlib.sha256(json.dumps([name, facts], sort_keys=True).encode()).hexdigest()
        path = os.path.join(folder, f"{dataset.name}-{role}-{name}-{key[:24]}.npy")
        files[name] = path, (num_rows, *feature.shape[1:])
    arrays = {}
    if distribution.is_chief(strategy):
        arrays = _open_all(files)
        if len(arrays) < len(files):
            with _only_maker(folder):
                arrays = _open_all(files, says_damage=True)  # Another process may have made them just now.
                missing = {name: file for name, file in files.items() if name not in arrays}
                if missing:
                    images = fixed_versions(dataset.records(role), model.image_size, versions, *how)
                    _make(model, strategy, images, missing, f"{dataset.name} {role}", between)
                    arrays = _open_all(files)
    distribution.wait_for_all(strategy)
    if not arrays:
        arrays = _open_all(files)
    if len(arrays) < len(files):
        raise InputError(
            f"Every worker must be able to read the features in {folder}. Received: missing or damaged files among "
            f"{len(files)}. Use a folder that all workers share, or another --cache."
        )
    records = cached(dataset.records(role), "features", model.image_size, crops)
    return Features(records, {name: arrays[name] for name in files})


def _digest_of_trunk(model):
    """Of the trunk's weights and of how its layers are set up, their types under the run's precision included."""
    digest = hashlib.sha256()
    for address, weight in model.weights.items():
        if address.split("/")[0] == TRUNK:
            digest.update(address.encode())
            digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    for layer in model.parts[TRUNK].layers:
        config = {name: value for name, value in layer.get_config().items() if name != "trainable"}
        digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _open_all(files, says_damage=False):
    """name -> array of the files that are there and whole."""
    arrays = {}
    for name, (path, shape) in files.items():
        if os.path.isfile(path):
            try:
                arrays[name] = _open(path, shape)
            except DAMAGE as error:
                if says_damage:
                    logger.warning("%s is damaged (%s). It is computed again.", path, " ".join(str(error).split()))
    return arrays


def _open(path, shape):
    """A whole file's array, memory-mapped; an exception of `DAMAGE` if it is not whole. Reads all of it once."""
    array = np.load(path, mmap_mode="r")
    expected = array.offset + array.nbytes + _CRC_BYTES
    if (array.shape, array.dtype, os.path.getsize(path)) != (shape, np.float32, expected):
        raise ValueError(f"{os.path.getsize(path):,} bytes of {array.dtype} {array.shape}")
    array = array.view(np.ndarray)
    crc, step = 0, max(1, _BLOCK_BYTES // max(array[:1].nbytes, 1))
    for first in range(0, len(array), step):
        crc = zlib.crc32(array[first : first + step], crc)
    with open(path, "rb") as file:
        file.seek(-_CRC_BYTES, os.SEEK_END)
        if file.read() != crc.to_bytes(_CRC_BYTES, "little"):
            raise ValueError("wrong checksum")
    return array


@contextlib.contextmanager
def _only_maker(folder):
    """Waits until no other process makes features in a folder, and removes what killed ones have left."""
    try:
        os.makedirs(folder, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise _cannot_write(folder, error) from None
    try:
        is_locked, has_waited = lock(descriptor), False
        while is_locked is False:
            if not has_waited:
                logger.info("Waiting for another process that computes features in %s.", folder)
            has_waited = True
            time.sleep(1.0)
            is_locked = lock(descriptor)
        if is_locked:
            for name in os.listdir(folder):
                if name.endswith(".writing"):
                    os.remove(os.path.join(folder, name))
        yield
    finally:
        os.close(descriptor)


def _make(model, strategy, images, files, title, between):
    """Computes features of all images and writes their files, each whole or not at all.

    Args:
        images: tf.data.Dataset of float32 (S, S, 3), one for each row.
        files: feature -> (path, shape).
        title: what the images are.
    """
    folder = os.path.dirname(next(iter(files.values()))[0])
    num_rows = next(iter(files.values()))[1][0]
    num_bytes = sum(4 * int(np.prod(shape)) for _, shape in files.values())
    free = shutil.disk_usage(folder).free
    size = f"The features ({', '.join(files)}) of {num_rows:,} versions of {title} images"
    if num_bytes > free:
        raise InputError(
            f"{size} need {num_bytes / 1e9:.2f} GB. Received: {free / 1e9:.2f} GB free in {folder}. Free some space, "
            "use a smaller --fixed_crops, or another --cache."
        )
    logger.info("%s take %.2f GB in %s. They are computed once.", size, num_bytes / 1e9, folder)
    compute = _computer(model, strategy, list(files))
    batch_size = _BATCH * distribution.num_local_replicas(strategy)
    bar = tqdm(total=num_rows, desc=f"features {title}", unit="image", leave=False, disable=None)
    try:
        with contextlib.ExitStack() as held, bar, contextlib.closing(Batches(images.batch(batch_size))) as batches:
            opened = {name: held.enter_context(written_whole(path)) for name, (path, _) in files.items()}
            crcs = dict.fromkeys(files, 0)
            for name, (_, shape) in files.items():
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(opened[name], header)
            for batch in batches:
                between()
                count = len(batch)
                batch = tf.pad(batch, [[0, batch_size - count], [0, 0], [0, 0], [0, 0]])
                for name, values in compute(batch).items():
                    numbers = np.ascontiguousarray(values[:count], "<f4")
                    opened[name].write(numbers)
                    crcs[name] = zlib.crc32(numbers, crcs[name])
                bar.update(count)
            for name, file in opened.items():
                file.write(crcs[name].to_bytes(_CRC_BYTES, "little"))
    except OSError as error:
        raise _cannot_write(folder, error) from None


def _computer(model, strategy, names):
    """A function, float32 (b, S, S, 3) -> name -> float32 array (b, H, W, D), b a multiple of this worker's devices."""
    network = keras.Model(model.image, {name: model.features[name] for name in names})
    network = with_norm_products(network, answers_only=True)
    num_replicas = distribution.num_local_replicas(strategy)

    def features_of(image):
        return {name: tf.cast(value, tf.float32) for name, value in network(image, training=False).items()}

    @tf.function
    def compute(batch):
        shares = tf.split(batch, num_replicas)
        images = strategy.experimental_distribute_values_from_function(
            lambda context: shares[context.replica_id_in_sync_group % num_replicas]
        )
        return strategy.run(features_of, args=(images,))

    def gathered(batch):
        results = {name: strategy.experimental_local_results(value) for name, value in compute(batch).items()}
        return {name: np.concatenate([value.numpy() for value in values]) for name, values in results.items()}

    return gathered


def _cannot_write(folder, error):
    return InputError(
        f"The features must be written to {folder}, next to the prepared data. Received: {error.strerror or error}. "
        "Free some space or change the permissions there, prepare the data in another folder, or use another --cache."
    )
