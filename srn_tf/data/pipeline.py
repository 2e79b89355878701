"""From prepared records to batches, reproducibly.

The order of an epoch depends only on the seed, the epoch's number and TensorFlow's global seed (which a run sets). The
augmentation of an image depends only on the seed, the epoch and its position in that order; with fixed versions, only
on its place in the stored order and the version. So each worker finds its own images of a batch by counting, and a run
that continues finds its place again. What mixes images depends on the seed, the epoch, the step and the worker.
"""

import functools
import logging
import threading

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from srn_tf.data import augmentation
from srn_tf.data.augments import SPLICED, Effects
from srn_tf.data.effects import with_effects
from srn_tf.data.mixing import mixed
from srn_tf.data.preprocessing import crop_image, preprocess, preprocess_crop, squash
from srn_tf.data.sampling import repeats_of_an_epoch
from srn_tf.errors import InputError

logger = logging.getLogger("srn_tf")

_MIXING = 1_000  # apart from what is folded into the seeds of images


def read_records(builder, split, shard=(0, 1)):
    """Reads a split, or one worker's share of it, in stored order. Images stay encoded.

    Args:
        builder: a prepared tfds builder with the features of `examples.features`.
        split: tfds split expression, e.g. "train[800:]".
        shard: (i, n): the share of worker i of n, 0 <= i < n. Together the shares hold every record exactly once. Their
            sizes differ by at most one; with more workers than records some are empty.
    Returns:
        tf.data.Dataset of dicts: image (string), name, labels int8 (C,), objects {bbox (K, 4), label (K,)}.
    """
    index, count = shard
    share = tfds.even_splits(split, count)[index]
    is_empty = builder.info.splits[share].num_examples == 0  # tfds refuses to read an empty split
    records = builder.as_dataset(
        split=split if is_empty else share,
        shuffle_files=False,
        decoders={"image": tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(try_autocache=False),  # `cached` decides what is kept in memory
    )
    return records.take(0) if is_empty else records


def cached(records, cache, image_size, crops):
    """Keeps records in memory after they were read completely once, as long as the result exists.

    "encoded" keeps the records as they are; they take about their size on disk. "decoded" keeps the image that
    augmentation starts from, float32 (R, R, 3): 786,432 bytes with crops at image_size 224 (R = 256; 65 GB for
    the training images of COCO), 602,112 without (R = 224). "features" keeps everything except the image, for
    `data.features`.

    Args:
        records: see `read_records`.
        cache: one of `CACHES`.
        image_size, crops: as for `training_batches`.
    Returns:
        tf.data.Dataset for `training_batches`; make it once for all epochs. Its batches do not depend on `cache`,
        except for rounding (0.005 of 255) if JPEGs are cropped.
    """
    if cache == "none":
        return records
    if cache == "decoded":
        side_px = start_px(image_size, crops)
        gigabytes = int(records.cardinality()) * side_px * side_px * 3 * 4 / 1e9
        logger.info("The decoded training images will take %.1f GB of memory.", gigabytes)
        records = records.map(
            lambda record: {**record, "image": _preprocess(record["image"], side_px)},
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
    if cache == "features":
        records = records.map(lambda record: {name: value for name, value in record.items() if name != "image"})
    return records.cache()


def training_batches(
    records,
    image_size,
    batch_size,
    seed,
    epoch,
    crops=None,
    mirror=False,
    shuffle_buffer=20_000,
    ignore_unspecified=False,
    first_step=0,
    share=(0, 1),
    threads=0,
    num_boxes=None,
    fixed_crops=0,
    features=None,
    repeat_factors=None,
    effects=Effects(),
    fast_decode=False,
):
    """One epoch of training batches, or one worker's share of each: shuffled, augmented, full batches only.

    The shares of all workers together are the batches that a single worker gets. `threads` changes no value.

    Args:
        records: see `read_records` and `cached`.
        image_size: side S of the network's input, pixels.
        batch_size: images per (global) batch; a last partial batch is dropped.
        seed: int; with `epoch` it decides the order and every crop.
        epoch: int, counted over the whole run.
        crops: crops.Crops or crops.RandomResizedCrop; None resizes the whole image to a square.
        mirror: mirror half of the images.
        shuffle_buffer: records among which the next one is drawn; a data set that fits is shuffled completely.
        ignore_unspecified: whether batches say which entries count in the loss.
        first_step: number of batches left out at the beginning; their images are read but not decoded.
        share: (i, n): the images [i * B / n, (i + 1) * B / n) of every batch of B; the others are not decoded.
        threads: size of a thread pool for this pipeline alone; 0 uses TensorFlow's.
        num_boxes: K, at least the number of boxes of any image: adds the boxes, augmented like the images. None: no
            boxes.
        fixed_crops: K, see `num_versions`; the K versions of an image are the same for all seeds. Seed, epoch and the
            image's place in `records` decide which version an epoch uses.
        features: data.features.Features of the images. They replace the images, by name, and need no decoding.
        repeat_factors: float64 (N,), how often each image comes, see `sampling.repeats_of_an_epoch`; None: once. Each
            copy is augmented by itself; with fixed versions, they are the versions from the one that is drawn on.
        effects: augments.Effects. Images are mixed within a worker's share of a batch.
        fast_decode: whether large JPEGs are decoded at a part of their size, see `preprocessing.halvings`. Nothing else
            of an image changes: not its crop, nor what else is drawn. Only training may do so. Images that are decoded
            once and kept, by `cached` or as features, are decoded exactly, as those of evaluation are.
    Returns:
        tf.data.Dataset of {"image": float32 (B / n, S, S, 3) RGB 0 to 255, "y": float32 (B / n, C) in {0, 1}} and,
        with `ignore_unspecified`, "counted": float32 (B / n, C), 0 where the stored label is 0 (unspecified), else 1;
        with `num_boxes`, "boxes" float32 (B / n, K, 4) and "box_labels" int64 (B / n, K), see `models.model.NEEDS`.
        SpliceMix makes batches larger by a quarter; for what effects make of "y" and "counted" see `data.mixing`.
    Raises:
        InputError: B is no multiple of n, or with SpliceMix B / n is none of 4.
    """
    rows = _rows(batch_size, share)
    if effects.mix == "splicemix" and len(rows) % SPLICED:
        raise InputError(
            f"batch_size must be a multiple of {SPLICED} x workers for splicemix. Received: {len(rows)} images per "
            "worker. Change --batch_size, or remove splicemix from --augment."
        )
    augmented = _augmented(image_size, crops, mirror, effects, fast_decode)
    boxes_of = functools.partial(_augmented_boxes, num_boxes, image_size, crops, mirror)
    epoch_seed = epoch * 1_000_003 + seed
    versions = num_versions(fixed_crops, crops, mirror, effects)
    if versions:
        drawn = np.random.default_rng((seed, epoch)).integers(versions, size=int(records.cardinality()))

    def prepare(position, placed):
        place, record, *copy = placed
        if versions:
            version = (tf.constant(drawn)[place] + sum(copy)) % versions
            image_seed = _version_seed(place, version)
        else:
            image_seed = tf.stack([tf.constant(epoch_seed, tf.int64), position])
        batch = {"y": tf.cast(record["labels"] == 1, tf.float32)}
        if features is None:
            batch["image"] = augmented(record["image"], image_seed)
        else:
            batch["row"] = place * versions + version
        if ignore_unspecified:
            batch["counted"] = tf.cast(record["labels"] != 0, tf.float32)
        if num_boxes is not None:
            batch |= boxes_of(record["objects"], image_seed)
        return batch

    order_seed = (seed * 1_000_003 + epoch) % (2**31 - 1)
    places, num_images = records.enumerate(), int(records.cardinality())
    if repeat_factors is not None:
        repeats = repeats_of_an_epoch(repeat_factors, seed, epoch)
        places, num_images = places.flat_map(functools.partial(_copies, tf.constant(repeats))), int(repeats.sum())
    order = places.shuffle(shuffle_buffer, seed=order_seed, reshuffle_each_iteration=False).enumerate()
    num_full = num_images // batch_size * batch_size
    # Not `skip` and `take`: the records must be read to the very end; otherwise nothing is cached.
    order = order.filter(lambda position, _: _is_in(rows, position, batch_size, first_step * batch_size, num_full))
    batches = order.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    batches = batches.batch(len(rows), drop_remainder=True)
    if features is not None:
        batches = batches.map(features.put_in, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if effects.relabels:

        def mix(step, batch):
            seed = tf.stack([tf.constant(epoch_seed, tf.int64), step])
            for number in (_MIXING, share[0]):
                seed = tf.random.experimental.stateless_fold_in(seed, number)
            return _mixed(effects)(batch, seed)

        batches = batches.enumerate(first_step).map(mix, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if threads:
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        batches = batches.with_options(options)
    return batches.prefetch(tf.data.AUTOTUNE)


def _copies(repeats, place, record):
    """An image as often as it comes in an epoch: tf.data.Dataset of (place, record, number of the copy from 0)."""
    return tf.data.Dataset.range(repeats[place]).map(lambda copy: (place, record, copy))


def num_versions(fixed_crops, crops, mirror, effects=Effects()):
    """How many versions of an image training sees: K of --fixed_crops, or 0 for a new one in every epoch.

    Args:
        fixed_crops: K. The versions of an image are the first K of one sequence.
        crops, mirror, effects: as for `training_batches`; if none of them changes an image there is one version,
            whatever K is.
    """
    return fixed_crops if crops or mirror or effects.per_image else 1


def fixed_versions(records, image_size, versions, crops, mirror, effects=Effects()):
    """All K versions of every image, as `training_batches` makes them with `fixed_crops`, in stored order.

    Args:
        records: see `read_records`.
        versions: K, see `num_versions`.
        Others: as for `training_batches`.
    Returns:
        tf.data.Dataset of float32 (S, S, 3): element place * K + version.
    """
    augmented = _augmented(image_size, crops, mirror, effects)

    def each(place, record):
        numbers = tf.data.Dataset.range(versions)
        return numbers.map(lambda version: (record["image"], _version_seed(place, version)))

    images = records.enumerate().flat_map(each)
    return images.map(augmented, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _version_seed(place, version):
    """The seed of a version's augmentation, int64 (2,). It is the same in all runs, so that they can share features."""
    return tf.random.experimental.stateless_fold_in(tf.stack([tf.constant(0, tf.int64), place]), version)


def replica_stacks(batches, num_replicas, steps_per_call):
    """Groups a worker's batches for its replicas, n steps at a time. Each batch is cut into equal shares.

    Args:
        batches: see `training_batches`, b * num_replicas images each.
        num_replicas: R, replicas of this worker.
        steps_per_call: n, batches per group; the last group has the rest.
    Returns:
        tf.data.Dataset of the same names, (n, b, ...). Element k * R + r is replica r's share of group k: the order in
        which `strategy.distribute_datasets_from_function` hands out elements.
    """

    def shares(batch):  # cut along the first axis, which copies nothing: the parts are views of the batch
        parts = {name: tf.split(value, num_replicas) for name, value in batch.items()}
        each = ({name: part[r] for name, part in parts.items()} for r in range(num_replicas))
        return functools.reduce(tf.data.Dataset.concatenate, map(tf.data.Dataset.from_tensors, each))

    def group(window):  # n * R shares in the order of steps -> one stack per replica
        steps = tf.data.Dataset.zip(window)
        replicas = tf.data.Dataset.range(num_replicas)
        return replicas.flat_map(lambda r: steps.shard(num_replicas, r).batch(steps_per_call))

    if num_replicas > 1:
        batches = batches.flat_map(shares)
    if steps_per_call == 1:  # nothing is copied
        return batches.map(lambda batch: {name: value[tf.newaxis] for name, value in batch.items()})
    if num_replicas == 1:
        stacks = batches.batch(steps_per_call)
    else:
        stacks = batches.window(steps_per_call * num_replicas).flat_map(group)
    return stacks.prefetch(tf.data.AUTOTUNE)


class Batches:
    """An iterator over a dataset, distributed or not, that does not keep the program waiting at its end.

    When TensorFlow 2.15 releases a tf.data iterator, it often waits for the thread that tunes the pipeline: as long as
    the iterator has run, up to a minute. `close`, for contextlib.closing, leaves this wait to another thread.

    Args:
        dataset: tf.data.Dataset or tf.distribute.DistributedDataset.
    """

    def __init__(self, dataset):
        self._held = [iter(dataset)]

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._held[0])

    def close(self):
        """Releases the iterator without waiting for it."""
        threading.Thread(target=self._held.clear).start()


def _rows(batch_size, share):
    """The rows of a batch that belong to a worker: range."""
    index, count = share
    if batch_size % count:
        raise InputError(f"batch_size must be a multiple of the number of workers, {count}. Received: {batch_size}.")
    return range(index * batch_size // count, (index + 1) * batch_size // count)


def _is_in(rows, position, batch_size, first, end):
    """Whether the image at a position of the epoch is in [first, end) and in these rows of its batch: bool ()."""
    row = position % batch_size
    return (first <= position) & (position < end) & (rows.start <= row) & (row < rows.stop)


@functools.cache
def _augmented(image_size, crops, mirror, effects=Effects(), fast_decode=False):
    """The function that prepares one image for training, built once for all epochs.

    Returns:
        tf.function (image, seed int64 (2,)) -> float32 (S, S, 3); the image is encoded, or already decoded by `cached`.
    """

    @tf.function
    def augmented(image, seed):
        seeds = tf.random.split(seed, 2)
        is_encoded = image.dtype == tf.string
        if crops:
            crop = augmentation.random_crop(image_size, seeds[0], crops)
            if is_encoded:
                image = preprocess_crop(image, start_px(image_size, crops), crop, fast_decode)
            else:
                image = crop_image(image, crop)
            image = squash(image, image_size)
        elif is_encoded:
            image = _preprocess(image, image_size, fast_decode)
        if mirror:
            image = augmentation.random_mirror(image, seeds[1])
        if effects.per_image:
            image = with_effects(tf.ensure_shape(image, (image_size, image_size, 3)), seed, effects)
        return image

    return augmented


@functools.cache
def _mixed(effects):
    """`mixing.mixed` with these effects, built once for all epochs: tf.function (batch, seed) -> batch."""
    return tf.function(functools.partial(mixed, effects=effects))


def _augmented_boxes(num_boxes, image_size, crops, mirror, objects, seed):
    """The boxes of one image after the augmentation that `_augmented` makes with the same seed.

    Args:
        objects: {bbox float32 (N, 4), label int64 (N,)}, N at most `num_boxes`.
    Returns:
        dict: "boxes" float32 (K, 4) and "box_labels" int64 (K,); boxes that are still visible come first.
    """
    seeds = tf.random.split(seed, 2)
    boxes, labels = objects["bbox"], objects["label"]
    if crops:
        crop = augmentation.random_crop(image_size, seeds[0], crops)
        boxes, is_seen = augmentation.crop_boxes(boxes, crop, start_px(image_size, crops))
        boxes, labels = tf.boolean_mask(boxes, is_seen), tf.boolean_mask(labels, is_seen)
    if mirror:
        boxes = augmentation.random_mirror_boxes(boxes, seeds[1])
    missing = num_boxes - tf.shape(labels)[0]
    return {
        "boxes": tf.ensure_shape(tf.pad(boxes, [[0, missing], [0, 0]]), (num_boxes, 4)),
        "box_labels": tf.ensure_shape(tf.pad(labels, [[0, missing]], constant_values=-1), (num_boxes,)),
    }


_preprocess = tf.function(preprocess)  # built once per size, exact and fast


def start_px(image_size, crops):
    """Side in pixels of the square that augmentation starts from; larger than the network's input if it crops."""
    return augmentation.resized_px(image_size) if crops else image_size


def evaluation_batches(records, image_size, batch_size, share=(0, 1), num_boxes=None, features=None):
    """All images once, in stored order. The last batch is filled up with blank images, which a mask marks.

    Every worker has equally many batches. The shares of all workers together are the batches that a single worker gets,
    except for K if it is not given.

    Args:
        records: see `read_records`.
        image_size: side S of the network's input, pixels.
        batch_size: images per (global) batch.
        share: (i, n): the rows [i * batch_size / n, (i + 1) * batch_size / n) of every batch; the others are not
            decoded.
        num_boxes: K, at least the number of boxes of any image; None: the largest number in the batch.
        features: see `training_batches`.
    Returns:
        tf.data.Dataset of {"image": float32 (B, S, S, 3), "labels": int8 (B, C) as stored, "is_real": bool (B,),
        "boxes": float32 (B, K, 4) as ymin, xmin, ymax, xmax in fractions, "box_labels": int64 (B, K), -1 where
        an image has fewer than K boxes}; B is always batch_size / n.
    Raises:
        InputError: batch_size is no multiple of n.
    """

    # What is read of each image, and what replaces it in blank images.
    if features is None:
        read, blank_value = "image", tf.zeros((image_size, image_size, 3))
    else:
        read, blank_value = "row", tf.constant(0, tf.int64)

    def prepare(position, record):
        return {
            read: _preprocess(record["image"], image_size) if features is None else position,
            "labels": record["labels"],
            "is_real": tf.constant(True),
            "boxes": record["objects"]["bbox"],
            "box_labels": record["objects"]["label"],
        }

    rows = _rows(batch_size, share)
    count = int(records.cardinality())
    own = records.enumerate().filter(lambda position, _: _is_in(rows, position, batch_size, 0, count))
    prepared = own.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    num_labels = prepared.element_spec["labels"].shape[0]
    blank = {
        read: blank_value,
        "labels": tf.zeros((num_labels,), tf.int8),
        "is_real": tf.constant(False),
        "boxes": tf.zeros((0, 4)),
        "box_labels": tf.zeros((0,), tf.int64),
    }
    fill = sum(position % batch_size in rows for position in range(count, count + -count % batch_size))
    padding = tf.data.Dataset.from_tensors(blank).repeat(fill)
    padding_values = {
        read: tf.constant(0, blank_value.dtype),
        "labels": tf.constant(0, tf.int8),
        "is_real": False,
        "boxes": 0.0,
        "box_labels": tf.constant(-1, tf.int64),
    }
    batches = prepared.concatenate(padding).padded_batch(
        len(rows),
        padded_shapes={
            read: blank_value.shape,
            "labels": (num_labels,),
            "is_real": (),
            "boxes": (num_boxes, 4),
            "box_labels": (num_boxes,),
        },
        padding_values=padding_values,
        drop_remainder=True,
    )
    if features is not None:
        batches = batches.map(features.put_in, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return batches.prefetch(tf.data.AUTOTUNE)
