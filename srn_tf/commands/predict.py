"""Predicts the labels of many image files with an exported model: a row an image, in CSV, JSON lines or Parquet.

python tools/predict.py --saved_model=RUN/export/1 --output=P.csv IMAGE_OR_FOLDER_OR_PATTERN...
python tools/predict.py --server=grpc://HOST:8500 --output=P.parquet --list_file=IMAGES.txt
find PHOTOS -name '*.jpg' | python tools/predict.py --saved_model=RUN/export/1 --output=P.jsonl -

Folders are searched with their subfolders. The rows are in the order of the images; a row has the path and either
what the model says (--write) or, in the column error, why there is no answer: such images do not stop the rest. The
status is 0 as long as one image has an answer. A run that was killed continues with the same command. An output that
is there is replaced when the new one is whole. What each format looks like: docs/serve.md.
"""

from absl import flags

from srn_tf.errors import InputError
from srn_tf.program import command

FLAGS = flags.FLAGS
TAKES_ARGUMENTS = True


def define_shared_flags():
    """The flags that tools/predict_beam.py has as well."""
    flags.DEFINE_string("saved_model", "", "Folder of an exported model, e.g. RUN/export/1.")
    flags.DEFINE_string("server", "", "TensorFlow Serving, http://HOST:8501 or grpc://HOST:8500; for --saved_model.")
    flags.DEFINE_string("model_name", "srn", "Name of the model on the server.")
    flags.DEFINE_float("timeout_s", 60.0, "Seconds to wait for one answer of the server.", lower_bound=0.001)
    flags.DEFINE_string("output", "", "File to write: .csv, .jsonl (JSON lines) or .parquet.")
    flags.DEFINE_string("list_file", "", "File of image paths, one a line; - for standard input.")
    flags.DEFINE_enum(
        "write",
        "probabilities",
        ("probabilities", "labels", "top_k"),
        "Every label's probability, the names of the predicted labels (over the thresholds of the export), or the "
        "--top_k highest names and probabilities.",
    )
    flags.DEFINE_integer("top_k", None, "How many, for --write=top_k.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 32, "Images a step.", lower_bound=1)
    FLAGS.set_gnu_getopt()  # flags may also follow the images


def define_flags():
    define_shared_flags()
    flags.DEFINE_bool("restart", False, "Drop what an unfinished run has kept for this output.")


def check_shared_flags():
    """Raises InputError for flags that do not go together."""
    if not FLAGS.output:
        raise InputError(f"--output is needed; see {command('predict')} --help.")
    if bool(FLAGS.saved_model) == bool(FLAGS.server):
        raise InputError(f"Either --saved_model or --server is needed; see {command('predict')} --help.")
    if (FLAGS.write == "top_k") != (FLAGS.top_k is not None):
        raise InputError(f"--write=top_k and --top_k=K go together; see {command('predict')} --help.")


def main(arguments):
    check_shared_flags()

    from srn_tf.prediction.answers import open_predictor
    from srn_tf.prediction.inputs import list_inputs
    from srn_tf.prediction.parts import check_output
    from srn_tf.prediction.predict import predict_files
    from srn_tf.prediction.rows import format_of

    format_of(FLAGS.output)
    check_output(FLAGS.output)
    paths = list_inputs(arguments, FLAGS.list_file)
    predictor = open_predictor(FLAGS.saved_model, FLAGS.server, FLAGS.model_name, FLAGS.timeout_s)
    done = predict_files(
        predictor, paths, FLAGS.output, FLAGS.write, FLAGS.top_k, FLAGS.batch_size, restart=FLAGS.restart
    )
    print(summary_line(done))


def summary_line(done):
    """What was done, a srn_tf.prediction.predict.Summary, in a line."""
    failed = f", {done.failed} of them without an answer (see the column error)" if done.failed else ""
    return f"{done.images} images{failed}: {FLAGS.output}"
