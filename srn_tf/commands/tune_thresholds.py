"""Finds the thresholds that maximise a run's F1 on its validation images.

python tools/tune_thresholds.py --work_dir=RUN [--metric=F1-C] [--per_label] [--output=RUN/thresholds.json]

Reads RUN/predictions/validation.npz, which training writes. tools/evaluate.py --thresholds=FILE measures the effect of
the thresholds on test; tools/export.py puts them into the served model.
"""

import os

from absl import flags

from srn_tf.commands import cli
from srn_tf.evaluation.thresholds import FILE_NAME, METRICS, tune_run
from srn_tf.files import write_json

FLAGS = flags.FLAGS


def define_flags():
    """Defines the flags of this command line."""
    flags.DEFINE_string("work_dir", "", "Work folder of a run.")
    flags.DEFINE_enum(
        "split", "validation", ("train", "validation", "test"), "Split on which thresholds are tuned; test is refused."
    )
    flags.DEFINE_enum(
        "metric",
        "F1-C",
        METRICS,
        "Metric to maximise. F1-C: mean of the labels' F1. F1-O: F1 over all images and labels together.",
    )
    flags.DEFINE_bool("per_label", False, "One threshold per label instead of one for all labels.")
    flags.DEFINE_string("output", "", f"JSON file for the thresholds. Default: <work_dir>/{FILE_NAME}.")


def main(_):
    """Tunes the thresholds of --work_dir, writes them and prints F1 before and after."""
    cli.need_flags("This command", "work_dir")
    result = tune_run(FLAGS.work_dir, FLAGS.split, FLAGS.metric, FLAGS.per_label)
    path = FLAGS.output or os.path.join(FLAGS.work_dir, FILE_NAME)
    write_json(path, result)
    print(f"{result['output']} on {result['images']} {result['split']} images, protocol {result['protocol']}, percent")
    for name in METRICS:
        print(f"{name}: {result['before'][name]:.2f} at 0.5, {result['after'][name]:.2f} tuned")
    if result["is_training_data"]:
        print(
            "WARNING: the model was trained on these images and is more confident on them than on others. The "
            "thresholds are probably wrong for other images, and the F1 above says nothing. Train with a "
            "--validation_fraction above 0."
        )
    _report_values(result)
    print(path)


def _report_values(result):
    values = result["values"]
    if result["kind"] == "global":
        print(f"Threshold for all labels: {values:.4f}.")
        return
    print(f"Thresholds from {min(values):.4f} to {max(values):.4f}; {values.count(0.5)} of {len(values)} stay at 0.5.")
    if result["labels_without_positives"]:
        print(f"Kept at 0.5, because no image here has the label: {', '.join(result['labels_without_positives'])}.")
