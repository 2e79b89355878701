"""Finds the probability thresholds that maximise a run's F1 on its validation images.

python tools/tune_thresholds.py --work_dir=RUN [--metric=F1-C] [--per_label] [--output=RUN/thresholds.json]

It reads RUN/predictions/validation.npz, which training leaves. tools/evaluate.py --thresholds=FILE measures what the
thresholds are worth on test; tools/export.py puts them into the served model.
"""

import os

from absl import flags

from srn_tf.errors import InputError
from srn_tf.evaluation.thresholds import FILE_NAME, METRICS, tune_run
from srn_tf.files import write_json
from srn_tf.program import command

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_string("work_dir", "", "Work folder of a run.")
    flags.DEFINE_enum("split", "validation", ("train", "validation", "test"), "Split to tune on; test is refused.")
    flags.DEFINE_enum("metric", "F1-C", METRICS, "What is maximised: mean F1 over labels, or F1 over all pairs.")
    flags.DEFINE_bool("per_label", False, "A threshold for each label instead of one for all.")
    flags.DEFINE_string("output", "", f"JSON file to write. Default: <work_dir>/{FILE_NAME}.")


def main(_):
    if not FLAGS.work_dir:
        raise InputError(f"--work_dir is needed; see {command('tune_thresholds')} --help.")
    result = tune_run(FLAGS.work_dir, FLAGS.split, FLAGS.metric, FLAGS.per_label)
    path = FLAGS.output or os.path.join(FLAGS.work_dir, FILE_NAME)
    write_json(path, result)
    print(f"{result['output']} on {result['images']} {result['split']} images, protocol {result['protocol']}, percent")
    for name in METRICS:
        print(f"{name}: {result['before'][name]:.2f} at 0.5, {result['after'][name]:.2f} tuned")
    if result["is_training_data"]:
        print(
            "WARNING: the model was trained on these images. It is surer of them than of others: the thresholds are "
            "likely wrong for those, and the F1 above says nothing. Train with a --validation_fraction above 0."
        )
    _report_values(result)
    print(path)


def _report_values(result):
    values = result["values"]
    if result["kind"] == "global":
        print(f"Threshold of all labels: {values:.4f}.")
        return
    print(f"Thresholds from {min(values):.4f} to {max(values):.4f}; {values.count(0.5)} of {len(values)} stay at 0.5.")
    if result["labels_without_positives"]:
        print(f"Without positives here, so kept at 0.5: {', '.join(result['labels_without_positives'])}.")
