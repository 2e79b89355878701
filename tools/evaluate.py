"""Evaluates a trained run on a split, or a file of scores against a file of truths.

python tools/evaluate.py --work_dir=RUN --data_dir=DATA --split=test [--output=metrics.json] [--per_label]
python tools/evaluate.py --scores=S.csv --labels=L.csv --protocol=coco --output=J.json

Scores are logits, one image a line, one label a column (csv, text, .npy or .npz); truths likewise: 1 positive,
0 and -1 negative (wider_attribute: 1 positive, -1 negative, 0 unspecified).
"""

import cli
from absl import flags

from srn_tf.errors import InputError
from srn_tf.evaluation.protocols import PROTOCOLS
from srn_tf.evaluation.report import per_label_table, summary_table, write_json

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_string("work_dir", "", "Work folder of a run.")
    flags.DEFINE_string("data_dir", "", "Folder of the run's data set, as in training.")
    flags.DEFINE_string("prepared_dir", "", "Where an official layout was prepared to. Default: <work_dir>/dataset.")
    flags.DEFINE_enum("split", "test", ("train", "validation", "test"), "Split to evaluate.")
    flags.DEFINE_string("scores", "", "File of logits, instead of a run.")
    flags.DEFINE_string("labels", "", "File of truths for --scores.")
    flags.DEFINE_enum("protocol", "coco", tuple(PROTOCOLS), "What the labels mean and which tables are made.")
    flags.DEFINE_string("output", "", "JSON file to write.")
    flags.DEFINE_bool("per_label", False, "Also print every label's AP.")


def main(_):
    if bool(FLAGS.work_dir) == bool(FLAGS.scores):
        raise InputError("Give either --work_dir (with --data_dir) or --scores (with --labels).")
    if FLAGS.scores:
        _evaluate_files()
    else:
        _evaluate_run()


def _evaluate_files():
    from srn_tf.evaluation.protocols import protocol_named
    from srn_tf.evaluation.score_files import evaluate_score_files

    if not FLAGS.labels or not FLAGS.output:
        raise InputError("--scores needs --labels and --output.")
    result = evaluate_score_files(FLAGS.scores, FLAGS.labels, protocol_named(FLAGS.protocol))
    write_json(FLAGS.output, result)
    print(f"{result['images']} images, protocol {result['protocol']}: {FLAGS.output}")


def _evaluate_run():
    if not FLAGS.data_dir:
        raise InputError("--work_dir needs --data_dir.")
    from srn_tf.run import evaluate_run

    metrics = evaluate_run(FLAGS.work_dir, FLAGS.data_dir, FLAGS.split, FLAGS.prepared_dir)
    if FLAGS.output:
        write_json(FLAGS.output, metrics)
    print(summary_table(metrics))
    if FLAGS.per_label:
        print(per_label_table(metrics))


if __name__ == "__main__":
    define_flags()
    cli.run(main, __doc__)
