"""Predicts the labels of very many image files on Apache Beam: the rows of tools/predict.py, in several files.

python tools/predict_beam.py --saved_model=/shared/RUN/export/1 --output=/shared/P.csv --list_file=IMAGES.txt
    --beam_runner=FlinkRunner --beam_options="--flink_master=HOST:8081 --parallelism=64"

Writes /shared/P-00000-of-00010.csv and so on, which must not exist yet. Rows are in no particular order. Every worker
needs srn_tf, and must see model, images and output under the same paths. The other flags are those of tools/predict.py,
without --known and --restart. On one machine, tools/predict.py is faster and continues after an interruption.
"""

import logging

from absl import flags

from srn_tf.commands import cli, predict
from srn_tf.flag_groups import Group

FLAGS = flags.FLAGS
TAKES_ARGUMENTS = True


def define_flags():
    """Defines the flags of this command line."""
    predict.define_shared_flags("Output files: .csv, .jsonl (JSON lines) or .parquet.")
    flags = Group("Beam")
    flags.DEFINE_string(
        "beam_runner", "DirectRunner", "Beam runner: DirectRunner, FlinkRunner, SparkRunner, DataflowRunner, ..."
    )
    flags.DEFINE_string("beam_options", "", 'Flags of the Beam pipeline, e.g. --beam_options="--flink_master=H:P".')


def main(arguments):
    """Answers the images on Beam, and writes the rows to files that begin with --output's name."""
    predict.check_shared_flags()
    beam_options = cli.split_options("beam_options")

    from srn_tf.prediction.inputs import list_inputs
    from srn_tf.prediction.rows import format_of

    format_of(FLAGS.output)
    paths = list_inputs(arguments, FLAGS.list_file)

    # Beam logs much of its own work, and failures at length. The one message has what matters.
    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)

    from srn_tf.beam import pipeline_settings

    settings = pipeline_settings(FLAGS.beam_runner, beam_options)

    from srn_tf.prediction.on_beam import predict_on_beam

    predict.say_what_is_faster()
    done = predict_on_beam(predict.model(), paths, FLAGS.output, settings, FLAGS.write, FLAGS.top_k, FLAGS.batch_size)
    print(predict.summary_line(done))
