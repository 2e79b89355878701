"""Prepares a data set for training: verifies and shards a download in its official layout, or your own photographs.

python tools/prepare_data.py --dataset=coco2014 --source_dir=DOWNLOADED --data_dir=DATA [--store_size=256]
python tools/prepare_data.py --dataset=csv --source_dir=PHOTOS --csv=labels.csv --data_dir=DATA [--preview=LOOK]

docs/data.md says what each data set expects in DOWNLOADED; with an empty folder, the error message does. A finished
data set is left as it is. An interrupted preparation starts again. --preview writes a page on what was understood of
labels and splits, with ten images, and prepares nothing.
"""

import os

from absl import flags

from srn_tf.choices import DATASETS, OWN_PHOTOS
from srn_tf.commands import cli
from srn_tf.errors import InputError
from srn_tf.files import writing
from srn_tf.flag_groups import Group
from srn_tf.program import command

FLAGS = flags.FLAGS

# Flags that are options of some data sets. Each data set's class knows its own.
_OPTIONS = (
    *("store_size", "keep_unlabelled", "label_order", "variant", "list_file", "csv_file", "official_val"),
    *("difficult_train", "difficult_test", "csv", "test_csv", "validation_csv", "labels_file", "separator", "columns"),
    *("annotations", "test_annotations", "validation_annotations", "skip_missing", "group_column", "group_similar"),
    *("test_fraction", "validation_fraction", "split_seed", "unspecified_marks"),
)

_FILES = (  # of them
    *("list_file", "csv_file", "csv", "test_csv", "validation_csv", "labels_file"),
    *("annotations", "test_annotations", "validation_annotations"),
)

# Data set -> flagfile in configs/ that one trains on it first.
_FLAGFILES = {
    **dict.fromkeys(OWN_PHOTOS, "own_photos"),
    **{"scenes": "scenes", "coco2014": "coco2014_resnet101", "voc2007": "voc2007_resnet101"},
    **{"nus_wide": "nus_wide_resnet101", "wider_attribute": "wider_attribute_resnet101"},
}

_LABELS_SHOWN = 40


def define_flags():
    """Defines the flags of this command line."""
    flags = Group("Data and folders")
    flags.DEFINE_enum("dataset", None, DATASETS, "Data set.", required=True)
    flags.DEFINE_string("source_dir", None, "Folder of the download, which is only read. scenes needs none.")
    flags.DEFINE_string(
        "data_dir", None, "Folder for prepared data sets: <data_dir>/<dataset>/<version>.", required=True
    )
    flags.DEFINE_string(
        "preview", None, "Folder for a page on labels, splits and ten images as they were read; prepares nothing."
    )
    flags.DEFINE_integer(
        "store_size",
        0,
        "Side in pixels to which training images are resized; validation and test images are not. 0: no resizing. "
        "Paper: 256, for --image_size=224; use 512 for 448.",
        0,
    )

    flags = Group("Own photographs")
    flags.DEFINE_string("csv", "", "csv: table of image paths and labels, see docs/data.md for its forms.")
    flags.DEFINE_string("test_csv", "", "csv: table of the test images; --csv then holds the training images only.")
    flags.DEFINE_string("validation_csv", "", "csv: table of the validation images.")
    flags.DEFINE_string("separator", ";", "csv: separator of the names in a cell of the column labels.")
    flags.DEFINE_string(
        "columns", "", "csv: names of all columns, such as image,labels, for a table without header; - is not used."
    )
    flags.DEFINE_string(
        "unspecified_marks",
        "",
        "csv: cells in a label's column that mean that the label is not known, separated by commas; empty for an empty "
        "cell, such as -1,empty. Default: none, every cell is 0 or 1.",
    )
    flags.DEFINE_string("annotations", "", "coco_json, label_studio, cvat: file of the annotations.")
    flags.DEFINE_string(
        "test_annotations", "", "Likewise, of the test images; --annotations then holds the training images only."
    )
    flags.DEFINE_string("validation_annotations", "", "Likewise, of the validation images.")
    flags.DEFINE_string(
        "labels_file",
        "",
        "Own photographs: file of label names, one per line, which sets their order. Default: all labels found.",
    )
    flags.DEFINE_string(
        "group_column",
        "",
        "csv: column of groups, such as a person's number; a split keeps the images of one together.",
    )
    flags.DEFINE_bool(
        "group_similar",
        False,
        "Own photographs: keep equal and nearly equal images together when splitting; opens all.",
    )
    flags.DEFINE_bool("skip_missing", False, "Own photographs: leave out images whose file is missing.")
    flags.DEFINE_float(
        "test_fraction",
        0.2,
        "Share of test images. Own photographs: where they come without splits, default 0.2. apparel: default 0.5.",
        0.0,
        1.0,
    )
    flags.DEFINE_float(
        "validation_fraction",
        0.0,
        "Own photographs: share of validation images where they come without splits.",
        0.0,
        1.0,
    )
    flags.DEFINE_integer("split_seed", 0, "Own photographs, apparel: seed of the split.", 0)

    flags = Group("Published data sets", is_detail=True)
    flags.DEFINE_bool("keep_unlabelled", True, "coco2014, nus_wide: keep images without labels.")
    flags.DEFINE_enum("label_order", "category_id", ("category_id", "alphabetical"), "coco2014: order of the labels.")
    flags.DEFINE_enum(
        "variant",
        "official",
        ("official", "labelled", "available", "list", "csv"),
        "nus_wide: which images are used, see docs/data.md.",
    )
    flags.DEFINE_string("list_file", "", "nus_wide, variant list: file of image paths, one per line.")
    flags.DEFINE_string("csv_file", "", "nus_wide, variant csv: file of images and labels. Default: nus_wid_data.csv.")
    flags.DEFINE_enum(
        "official_val",
        "train",
        ("train", "validation"),
        "voc2007, wider_attribute: split that the official val images go to.",
    )
    policies = ("positive", "negative", "ignored")
    flags.DEFINE_enum(
        "difficult_train", "positive", policies, "voc2007: value in train of a label with difficult objects only."
    )
    flags.DEFINE_enum(
        "difficult_test", "ignored", policies, "voc2007: value in test of a label with difficult objects only."
    )

    flags = Group("Checks and speed")
    flags.DEFINE_float("max_rejected", 0.001, "Maximum share of damaged images.", 0.0, 1.0)
    flags.DEFINE_bool("allow_overlap", False, "Accept data with identical images in train and test.")
    flags.DEFINE_bool("fail_on_mismatch", False, "Treat every warning as an error.")
    flags.DEFINE_integer("processes", 0, "Number of processes that read images; 0: one per CPU.", 0)
    flags.DEFINE_string(
        "beam_runner",
        None,
        "Beam runner, to prepare on Apache Beam: DirectRunner, FlinkRunner, SparkRunner, ... Default: without Beam.",
    )
    flags.DEFINE_string("beam_options", None, 'Flags of the Beam pipeline, e.g. --beam_options="--flink_master=H:P".')


def main(_):
    """Prepares --dataset, and prints its labels and what to type next."""
    options = {name: FLAGS[name].value for name in _OPTIONS if FLAGS[name].present}
    if FLAGS.beam_options:
        cli.need_flags("--beam_options", "beam_runner")
    beam_options = cli.split_options("beam_options")
    # Of a download the builder says more. A file may also be named from the source folder.
    cli.need_paths(*(["source_dir"] if FLAGS.dataset in OWN_PHOTOS else []))
    for name in _FILES:
        if not os.path.exists(os.path.join(FLAGS.source_dir or "", FLAGS[name].value or "")):
            cli.need_paths(name)
    if FLAGS.preview:
        if FLAGS.dataset == "scenes":
            raise InputError("--preview is for data sets with a source. Received: scenes, which is drawn. Remove it.")
        cli.need_flags("--preview", "source_dir")
        cli.make_output_dir("preview", FLAGS.preview)

    from srn_tf.data.builder import Settings
    from srn_tf.data.datasets import make_builder
    from srn_tf.data.examples import stored_metadata
    from srn_tf.data.prepare import is_prepared, prepare

    settings = Settings(FLAGS.processes, FLAGS.max_rejected, FLAGS.allow_overlap, FLAGS.fail_on_mismatch)
    builder = make_builder(FLAGS.dataset, FLAGS.data_dir, FLAGS.source_dir, options, settings)
    if FLAGS.preview:
        return _write_preview(builder)
    was_prepared = is_prepared(builder)
    prepare(builder, FLAGS.beam_runner, beam_options)
    if was_prepared:
        print("Already prepared; nothing to do.")
    _print_labels(stored_metadata(builder), builder.data_path / "metadata.json")
    sizes = ", ".join(f"{info.num_examples:,} {split}" for split, info in builder.info.splits.items())
    labels = builder.info.features["labels"].shape[0]
    print(f"{FLAGS.dataset}: {sizes} images, {labels:,} labels, in {builder.data_dir}")
    where = f"--dataset={FLAGS.dataset} --data_dir={FLAGS.data_dir}"
    print(f"Look at it:  {command('describe_data')} {where} --output_dir=OUT")
    if FLAGS.dataset in _FLAGFILES:
        is_other = FLAGS.dataset in OWN_PHOTOS and FLAGS.dataset != "csv"  # as the flagfile says
        dataset = f" --dataset={FLAGS.dataset}" if is_other else ""
        where = f"--flagfile=configs/{_FLAGFILES[FLAGS.dataset]}.flags{dataset} --data_dir={FLAGS.data_dir}"
    print(f"Train on it: {command('train')} {where} --work_dir=RUN")


def _write_preview(builder):
    from srn_tf.data.audit import source_warnings
    from srn_tf.visualization import preview

    source = builder.source
    path = os.path.join(FLAGS.preview, "preview.html")
    with writing(path), open(path, "w", encoding="utf-8", errors="replace") as file:
        file.write(preview.render_preview(FLAGS.dataset, source, builder.source_dir))
    beside = ""
    if len(source.labels) > preview.MOST_LABELS:
        counts_path = os.path.join(FLAGS.preview, preview.LABELS)
        with writing(counts_path):
            preview.write_label_counts(counts_path, source)
        beside = f" All labels: {counts_path}"
    for line in (*source.notes, *(f"Warning: {warning}" for warning in source_warnings(source))):
        print(line)
    sizes = ", ".join(f"{len(photos):,} {split}" for split, photos in source.splits.items())
    print(f"{FLAGS.dataset}: {sizes} images, {len(source.labels):,} labels. Nothing was prepared. Page: {path}{beside}")


def _print_labels(stored, path):
    """Prints every label's name with its number of images; only the beginning and the end of a long list."""
    counts, lines = stored.get("label_counts", {}), []
    for name in stored["labels"]:
        of_splits = ", ".join(f"{number:,} {split}" for split, number in counts.get(name, {}).items())
        lines.append(f"  {name}: {of_splits or 'not counted'}")
    if len(lines) > _LABELS_SHOWN:
        left_out = len(lines) - _LABELS_SHOWN
        lines[_LABELS_SHOWN // 2 : -_LABELS_SHOWN // 2] = [f"  ... {left_out:,} others: label_counts in {path}"]
    print("Images with each label:", *lines, sep="\n")
