"""Prepared records -> batches, reproducibly.

The order of an epoch is a function of its seed, its number and TensorFlow's global seed (which a run
sets); augmentation is one of seed, epoch and position in that order.
"""

import logging

import tensorflow as tf
import tensorflow_datasets as tfds

from srn_tf.data import augmentation
from srn_tf.data.preprocessing import preprocess

logger = logging.getLogger("srn_tf")

CACHES = ("none", "encoded", "decoded")


def read_records(builder, split, shard=(0, 1)):
    """Reads a split, or one worker's share of it, in its stored order, images still encoded.

    Args:
        builder: a prepared tfds builder with the features of `examples.features`.
        split: tfds split expression, e.g. "train[800:]".
        shard: (i, n): worker i's share of n, 0 <= i < n. Between them the shares hold every record exactly once,
            evenly; with more workers than records some are empty.
    Returns:
        tf.data.Dataset of dicts: image (string), name, labels int8 (C,), objects {bbox (K, 4), label (K,)}.
    """
    index, count = shard
    share = tfds.even_splits(split, count)[index]
    is_empty = builder.info.splits[share].num_examples == 0  # which tfds refuses to read
    records = builder.as_dataset(
        split=split if is_empty else share,
        shuffle_files=False,
        decoders={"image": tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(try_autocache=False),  # what is kept in memory is `cached`'s to decide
    )
    return records.take(0) if is_empty else records


def cached(records, cache, image_size, crops):
    """Keeps records in memory from their first complete reading on, for as long as the result lives.

    "encoded" keeps the records as they are, about their size on disk. "decoded" keeps the image that
    augmentation starts from, float32 (R, R, 3): 786,432 bytes with crops at image_size 224 (R = 256; 65 GB for
    the training images of COCO), 602,112 without (R = 224).

    Args:
        records: see `read_records`.
        cache: one of `CACHES`.
        image_size, crops: as for `training_batches`.
    Returns:
        tf.data.Dataset for `training_batches`, to be made once for all epochs; its batches do not depend on `cache`.
    """
    if cache == "none":
        return records
    if cache == "decoded":
        side_px = _start_px(image_size, crops)
        gigabytes = int(records.cardinality()) * side_px * side_px * 3 * 4 / 1e9
        logger.info("The decoded training images will take %.1f GB of memory.", gigabytes)
        records = records.map(
            lambda record: {**record, "image": preprocess(record["image"], side_px)},
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
    return records.cache()


def training_batches(
    records,
    image_size,
    batch_size,
    seed,
    epoch,
    crops=False,
    mirror=False,
    max_distortion=None,
    shuffle_buffer=20_000,
    ignore_unspecified=False,
):
    """One epoch of training batches: shuffled, augmented, full batches only.

    Args:
        records: see `read_records` and `cached`.
        image_size: side S of the network's input, pixels.
        batch_size: images a (global) batch; a last partial batch is dropped.
        seed: int; with `epoch` it decides the order and every crop.
        epoch: int, counted over the whole run.
        crops: the paper's corner crops; False squashes the whole image.
        mirror: mirror half of the images.
        max_distortion: see `augmentation.random_crop`.
        shuffle_buffer: records among which the next one is drawn; a data set that fits is shuffled whole.
        ignore_unspecified: say which entries to count in the loss.
    Returns:
        tf.data.Dataset of {"image": float32 (B, S, S, 3) RGB 0 to 255, "y": float32 (B, C) in {0, 1}} and, with
        `ignore_unspecified`, "counted": float32 (B, C), 0 where the stored label is 0 (unspecified), else 1.
    """

    def prepare(position, record):
        seeds = tf.random.split(tf.stack([tf.constant(epoch, tf.int64) * 1_000_003 + seed, position]), 2)
        image = record["image"]
        if image.dtype == tf.string:  # not decoded by `cached`
            image = preprocess(image, _start_px(image_size, crops))
        if crops:
            image = augmentation.random_crop(image, image_size, seeds[0], max_distortion)
        if mirror:
            image = augmentation.random_mirror(image, seeds[1])
        batch = {"image": image, "y": tf.cast(record["labels"] == 1, tf.float32)}
        if ignore_unspecified:
            batch["counted"] = tf.cast(record["labels"] != 0, tf.float32)
        return batch

    order_seed = (seed * 1_000_003 + epoch) % (2**31 - 1)
    batches = (
        records.shuffle(shuffle_buffer, seed=order_seed, reshuffle_each_iteration=False)
        .enumerate()
        .map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size, drop_remainder=True)
    )
    return batches.prefetch(tf.data.AUTOTUNE)


def _start_px(image_size, crops):
    """Side of the square that augmentation starts from, pixels: larger than the network's input where it crops."""
    return augmentation.resized_px(image_size) if crops else image_size


def evaluation_batches(records, image_size, batch_size):
    """All images once, in stored order. The last batch is filled up with blank images and masked.

    Args:
        records: see `read_records`.
        image_size: side S of the network's input, pixels.
        batch_size: images a (global) batch.
    Returns:
        tf.data.Dataset of {"image": float32 (B, S, S, 3), "labels": int8 (B, C) as stored, "is_real": bool (B,),
        "boxes": float32 (B, K, 4) as ymin, xmin, ymax, xmax in fractions, "box_labels": int64 (B, K), -1 where
        an image has fewer than K boxes}; B is always batch_size.
    """

    def prepare(record):
        return {
            "image": preprocess(record["image"], image_size),
            "labels": record["labels"],
            "is_real": tf.constant(True),
            "boxes": record["objects"]["bbox"],
            "box_labels": record["objects"]["label"],
        }

    prepared = records.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    num_labels = prepared.element_spec["labels"].shape[0]
    blank = {
        "image": tf.zeros((image_size, image_size, 3)),
        "labels": tf.zeros((num_labels,), tf.int8),
        "is_real": tf.constant(False),
        "boxes": tf.zeros((0, 4)),
        "box_labels": tf.zeros((0,), tf.int64),
    }
    count = int(records.cardinality())
    fill = -count % batch_size
    padding = tf.data.Dataset.from_tensors(blank).repeat(fill)
    padding_values = {
        "image": 0.0,
        "labels": tf.constant(0, tf.int8),
        "is_real": False,
        "boxes": 0.0,
        "box_labels": tf.constant(-1, tf.int64),
    }
    batches = prepared.concatenate(padding).padded_batch(
        batch_size,
        padded_shapes={
            "image": (image_size, image_size, 3),
            "labels": (num_labels,),
            "is_real": (),
            "boxes": (None, 4),
            "box_labels": (None,),
        },
        padding_values=padding_values,
        drop_remainder=True,
    )
    return batches.prefetch(tf.data.AUTOTUNE)
