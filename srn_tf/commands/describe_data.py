"""Describes a prepared data set: label frequencies, labels per image, co-occurrence, image sizes.

python tools/describe_data.py --data_dir=DIR --dataset=NAME --output_dir=OUT [--split=train]

Writes OUT/statistics.json, labels.png, labels_per_image.png, cooccurrence.png and image_sizes.png. The splits are
those stored with the data set, before a run holds out images for validation. With more than 100 labels, the charts and
the co-occurrence show the 100 most frequent. --pipeline_batches=N also measures how fast training batches are made.
--augmented=N also writes OUT/augmented.png: N training images and their labels as a run with the flagfile --config, or
with the same flags of augmentation, sees them first.
"""

import contextlib
import functools
import itertools
import operator
import os
import re

from absl import flags
from tqdm import tqdm

from srn_tf.choices import DATASETS
from srn_tf.commands import cli
from srn_tf.errors import InputError
from srn_tf.options import define_augmentation_flags, read_options
from srn_tf.options import define_flags as define_training_flags
from srn_tf.program import find_flagfile

FLAGS = flags.FLAGS


def define_flags():
    """Defines the flags of this command line."""
    flags.DEFINE_string("data_dir", None, "Folder of the prepared data set.", required=True)
    flags.DEFINE_enum("dataset", None, DATASETS, "Data set.", required=True)
    flags.DEFINE_string("output_dir", None, "Folder for statistics and charts.", required=True)
    flags.DEFINE_enum("split", "all", ("all", "train", "validation", "test"), "Split to describe.")
    flags.DEFINE_integer(
        "pipeline_batches", 0, "Number of training batches whose speed is measured; 0 measures nothing.", lower_bound=0
    )
    flags.DEFINE_integer(
        "augmented", 0, "Number of training images that are drawn as training sees them; 0 draws none.", lower_bound=0
    )
    flags.DEFINE_string("config", "", "Flagfile of a training run, whose augmentation is drawn and measured.")
    flags.DEFINE_integer(
        "image_size", 224, "Side in pixels of the drawn and measured images. Default: that of --config, or 224.", 32
    )
    flags.DEFINE_integer("batch_size", 96, "Images per measured batch.", lower_bound=1)
    define_augmentation_flags()


def main(_):
    """Counts the splits, writes statistics and charts, and prints a summary."""
    from srn_tf.data.datasets import open_prepared, protocol_of
    from srn_tf.data.examples import label_names
    from srn_tf.data.statistics import summarize, summary_table
    from srn_tf.evaluation.protocols import protocol_named
    from srn_tf.files import write_json

    builder = open_prepared(FLAGS.dataset, FLAGS.data_dir)
    labels, protocol = label_names(builder), protocol_named(protocol_of(FLAGS.dataset, builder))
    splits = _splits(builder)
    cli.make_output_dir("output_dir", FLAGS.output_dir)
    with _one_message(builder):
        pipeline = _measure_pipeline(builder) if FLAGS.pipeline_batches else None
        sheet = _draw_augmented(builder, labels) if FLAGS.augmented else []
        counts = {split: _count(builder, split, len(labels)) for split in splits}
    whole = functools.reduce(operator.add, counts.values())

    groups = {**counts, "all": whole} if len(counts) > 1 else counts
    summaries = {name: summarize(group, labels, protocol.is_zero_unspecified) for name, group in groups.items()}
    statistics = {"dataset": FLAGS.dataset, "protocol": protocol.name, "splits": summaries}
    if pipeline:
        statistics["pipeline"] = pipeline
    json_path = os.path.join(FLAGS.output_dir, "statistics.json")
    write_json(json_path, statistics)
    chart_paths = _draw(labels, counts, whole)

    print(f"{FLAGS.dataset}, protocol {protocol.name}")
    print(summary_table(summaries))
    if pipeline:
        print(
            f"Training batches of {pipeline['batch_size']} at {pipeline['image_size']} pixels: "
            f"{pipeline['images_per_s']:.0f} images per second"
        )
    print("\n".join([json_path, *chart_paths, *sheet]))


def _splits(builder):
    """Names of the splits to read, in the usual order."""
    stored = [split for split in ("train", "validation", "test") if split in builder.info.splits]
    if FLAGS.split == "all":
        return stored
    if FLAGS.split not in stored:
        raise InputError(
            f"--split must be one of {', '.join(stored)}, all for data set {FLAGS.dataset}. Received: {FLAGS.split}."
        )
    return [FLAGS.split]


@contextlib.contextmanager
def _one_message(builder):
    """Turns any failure to read records into one line."""
    import tensorflow as tf

    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        reason = re.sub(r"\{\{.*?\}\} ?| ?\[Op:.*", "", str(error)).rstrip(
            "."
        )  # without TensorFlow's names for its own parts
        raise InputError(
            f"The prepared data in {builder.data_dir} must be readable. Received: {type(error).__name__}, {reason}. "
            "Remove that folder and prepare the data set again."
        ) from None


def _count(builder, split, num_labels):
    """Counts of one split, see `statistics.count_records`."""
    from srn_tf.data.pipeline import read_records
    from srn_tf.data.statistics import count_records

    records = read_records(builder, split)
    total = int(records.cardinality())
    progress = tqdm(records.as_numpy_iterator(), split, total, unit="image", leave=False, disable=None)
    return count_records(progress, num_labels)


def _training_options():
    """The options of a run with the flagfile --config and the flags of augmentation that are given here."""
    values = flags.FlagValues()
    define_training_flags(values)
    given = [
        name for name in values if name in FLAGS and FLAGS[name].present and name not in ("data_dir", "batch_size")
    ]
    config = [f"--flagfile={find_flagfile(FLAGS.config)}"] if FLAGS.config else []
    places = ["--data_dir=DATA", "--work_dir=RUN"]  # required, and not used
    rest = values(["train", *places, *config, *(FLAGS[name].serialize() for name in given)])[1:]
    if rest:
        raise InputError(f"--config must hold --name=value in each line. Received: {rest[0]!r} in {FLAGS.config}.")
    return read_options(values)


def _batches(builder, batch_size, options):
    """The training batches of a run, epoch after epoch; InputError if there are too few images for one."""
    from srn_tf.data.augments import effects_of, frame_of
    from srn_tf.data.pipeline import read_records, training_batches

    records = read_records(builder, "train")
    how = {"crops": frame_of(options), "mirror": options.mirror, "effects": effects_of(options)}
    how["fast_decode"] = options.fast_decode
    for epoch in itertools.count():
        yield from training_batches(records, options.image_size, batch_size, options.seed, epoch, **how)


def _check_enough(builder, flag, number):
    num_images = builder.info.splits["train"].num_examples
    if num_images < number:
        raise InputError(f"--{flag} must be at most the number of training images, {num_images}. Received: {number}.")


def _measure_pipeline(builder):
    """Speed of training batches over as many epochs as needed, for statistics.json."""
    from srn_tf.data.statistics import WARM_UP_BATCHES, images_per_second

    _check_enough(builder, "batch_size", FLAGS.batch_size)
    options = _training_options()
    total = WARM_UP_BATCHES + FLAGS.pipeline_batches
    batches = itertools.islice(_batches(builder, FLAGS.batch_size, options), total)
    progress = tqdm(batches, "pipeline", total, unit="batch", leave=False, disable=None)
    shape = {"image_size": options.image_size, "batch_size": FLAGS.batch_size}
    return {"images_per_s": images_per_second(progress), "batches": FLAGS.pipeline_batches, **shape}


def _draw_augmented(builder, labels):
    """Draws the first images of a run's first epoch; returns the path in a list."""
    from srn_tf.data.augmented_sheet import draw_images, label_texts
    from srn_tf.pictures import save_pngs

    _check_enough(builder, "augmented", FLAGS.augmented)
    options = _training_options()
    batch = next(_batches(builder, FLAGS.augmented, options))
    texts = label_texts(batch["y"].numpy(), labels)
    what = ", ".join(options.augment) or "as --crops and --mirror say"
    figure = draw_images(batch["image"].numpy(), texts, f"Augmentation: {what}. Seed {options.seed}.")
    return save_pngs({"augmented": figure}, FLAGS.output_dir)


def _draw(labels, counts, whole):
    """Draws all charts; returns their paths.

    Args:
        labels: C label names.
        counts: split name -> statistics.Counts.
        whole: Counts of all of them.
    """
    from srn_tf.data import charts
    from srn_tf.data.statistics import conditional_probabilities, cooccurrence
    from srn_tf.pictures import save_pngs

    shown, together = cooccurrence(whole)  # the most frequent if there are many
    names, note = [labels[index] for index in shown], ""
    if len(names) < len(labels):
        note = f"the {len(names)} most frequent of {len(labels):,} labels"
    positives = {split: group.positives[shown] for split, group in counts.items()}
    images = {split: group.images for split, group in counts.items()}
    figures = {
        "labels": charts.draw_labels(names, positives, images, note),
        "labels_per_image": charts.draw_labels_per_image(
            {split: group.labels_per_image for split, group in counts.items()}
        ),
        "cooccurrence": charts.draw_cooccurrence(names, conditional_probabilities(together), note),
        "image_sizes": charts.draw_image_sizes(whole.sizes),
    }
    return save_pngs(figures, FLAGS.output_dir)
