"""Prepared records -> batches, reproducibly.

The order of an epoch is a function of its seed, its number and TensorFlow's global seed (which a run
sets); augmentation is one of seed, epoch and position in that order.
"""

import tensorflow as tf
import tensorflow_datasets as tfds

from srn_tf.data import augmentation
from srn_tf.data.preprocessing import decode_image, preprocess, squash

SHUFFLE_BUFFER = 20_000  # records, still encoded; a data set that fits is shuffled whole


def read_records(builder, split):
    """Reads a split in its stored order, images still encoded.

    Args:
        builder: a prepared tfds builder with the features of `examples.features`.
        split: tfds split expression, e.g. "train[800:]".
    Returns:
        tf.data.Dataset of dicts: image (string), name, labels int8 (C,), objects {bbox (K, 4), label (K,)}.
    """
    return builder.as_dataset(split=split, shuffle_files=False, decoders={"image": tfds.decode.SkipDecoding()})


def training_batches(records, image_size, batch_size, seed, epoch, crops=False, mirror=False, max_distortion=None):
    """One epoch of training batches: shuffled, augmented, full batches only.

    Args:
        records: see `read_records`.
        image_size: side S of the network's input, pixels.
        batch_size: images a (global) batch; a last partial batch is dropped.
        seed: int; with `epoch` it decides the order and every crop.
        epoch: int, counted over the whole run.
        crops: the paper's corner crops; False squashes the whole image.
        mirror: mirror half of the images.
        max_distortion: see `augmentation.random_crop`.
    Returns:
        tf.data.Dataset of {"image": float32 (B, S, S, 3) RGB 0 to 255, "y": float32 (B, C) in {0, 1}}.
    """

    def prepare(position, record):
        seeds = tf.random.split(tf.stack([tf.constant(epoch, tf.int64) * 1_000_003 + seed, position]), 2)
        if crops:
            image = squash(decode_image(record["image"]), augmentation.resized_px(image_size))
            image = augmentation.random_crop(image, image_size, seeds[0], max_distortion)
        else:
            image = preprocess(record["image"], image_size)
        if mirror:
            image = augmentation.random_mirror(image, seeds[1])
        return {"image": image, "y": tf.cast(record["labels"] == 1, tf.float32)}

    order_seed = (seed * 1_000_003 + epoch) % (2**31 - 1)
    batches = (
        records.shuffle(SHUFFLE_BUFFER, seed=order_seed, reshuffle_each_iteration=False)
        .enumerate()
        .map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size, drop_remainder=True)
    )
    return batches.prefetch(tf.data.AUTOTUNE)


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
