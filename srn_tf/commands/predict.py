"""Predicts the labels of many image files with an exported model: one row per image, as CSV, JSON lines or Parquet.

Or as one JSON document for an annotation tool: COCO, FiftyOne, Label Studio.

python tools/predict.py --saved_model=RUN/export/1 --output=P.csv IMAGE_OR_FOLDER_OR_PATTERN...
python tools/predict.py --saved_model=RUN/export/1 --known=dog:1,cat:0 --output=P.csv IMAGE_OR_FOLDER
python tools/predict.py --server=grpc://HOST:8500 [--saved_model=RUN/export/1] --output=P.parquet --list_file=IMAGES.txt
find PHOTOS -name '*.jpg' | python tools/predict.py --saved_model=RUN/export/1 --output=P.jsonl -
python tools/predict.py --saved_model=RUN/export/1 --output=P.label_studio.json IMAGE_OR_FOLDER

Folders are searched with their subfolders. Rows are in the order of the images. A row has the path, and either the
answer (--write) or, in the column error, the reason why there is none; such an image does not stop the others. The exit
status is 0 if at least one image has an answer. With --known the column known says what was given. After an
interruption, the same command continues. An existing output is replaced once the new one is complete. The formats:
docs/serve.md.
"""

from absl import flags

from srn_tf.choices import ENGINES, TTA
from srn_tf.commands import cli
from srn_tf.errors import InputError
from srn_tf.flag_groups import Group
from srn_tf.labels import parse_known

FLAGS = flags.FLAGS
TAKES_ARGUMENTS = True


def define_shared_flags(output_help):
    """Defines the flags shared with tools/predict_beam.py."""
    flags = Group("Model")
    flags.DEFINE_string("saved_model", "", "Folder of an exported model, e.g. RUN/export/1.")
    flags.DEFINE_string(
        "server",
        "",
        "Address of a server, http://HOST:8501 or grpc://HOST:8500: TensorFlow Serving, without --saved_model; or "
        "OpenVINO Model Server, with --saved_model, the export that it serves.",
    )
    define_engine()
    define_tta()
    flags.DEFINE_string("model_name", "srn", "Name of the model on the server.")
    flags.DEFINE_float("timeout_s", 60.0, "Maximum seconds to wait for an answer of the server.", lower_bound=0.001)

    flags = Group("Images and answers")
    flags.DEFINE_string("output", "", output_help)
    flags.DEFINE_string("list_file", "", "File of image paths, one per line; - reads standard input.")
    flags.DEFINE_enum(
        "write",
        None,
        ("probabilities", "labels", "top_k"),
        "What is written per image. probabilities: that of every label. labels: names of the labels above the "
        "thresholds of the export. top_k: names and probabilities of the --top_k highest labels. Default: "
        "probabilities, or labels for an annotation tool.",
    )
    flags.DEFINE_integer("top_k", None, "Number of labels per image, with --write=top_k.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 32, "Images per call of the model.", lower_bound=1)
    FLAGS.set_gnu_getopt()  # flags may also follow the images


def define_engine():
    """Defines the flag --engine, shared with tools/evaluate.py."""
    Group("Model").DEFINE_enum(
        "engine",
        ENGINES[0],
        ENGINES,
        "What computes the answers of --saved_model. All but tensorflow need an export with a file for it and packages "
        "of their own. openvino: an export with --openvino. onnxruntime: an export with --onnx.",
    )


def define_tta():
    """Defines the flag --tta, shared with tools/evaluate.py."""
    Group("Model").DEFINE_enum(
        "tta",
        TTA[0],
        TTA,
        "Test-time augmentation: views of an image whose probabilities are averaged. flip: plain and mirrored. 5crop: "
        "corners and centre. flip,5crop: ten. An image takes as many times longer as it has views.",
    )


def check_tta(flag, value):
    """Raises InputError for --tta beside a flag that tells the model labels; None and "" are none."""
    if value and FLAGS.tta != TTA[0]:
        raise InputError(
            f"--tta cannot be used with --{flag}, because a model that is told labels answers the whole image. "
            f"Received: --tta={FLAGS.tta} and --{flag}={value}. Remove one of them."
        )


def define_image_prefix(heading):
    """Defines the flag --image_prefix, shared with tools/evaluate.py, in the group of that heading."""
    Group(heading).DEFINE_string(
        "image_prefix",
        "",
        "Folder or address before the paths of images in a file for an annotation tool, e.g. http://HOST:8000/. "
        "Default: none; for Label Studio /data/local-files/?d=, its own address of local files.",
    )


def define_flags():
    """Defines the flags of this command line."""
    define_shared_flags(
        "Output file: .csv, .jsonl (JSON lines) or .parquet; or .coco.json, .fiftyone.json or .label_studio.json, for "
        "annotation tools, with the labels above the thresholds and their probabilities."
    )
    define_image_prefix("Images and answers")
    flags = Group("Images and answers")
    flags.DEFINE_string(
        "known",
        "",
        "Labels known of all images, LABEL:1 (in them) or LABEL:0 (not in them), separated by commas, e.g. "
        "dog:1,cat:0. For a model that was trained with known labels (c_tran). Default: none.",
    )
    flags.DEFINE_bool("restart", False, "Start again, without the answers that an interrupted command kept.")


def check_shared_flags():
    """Raises InputError for flags that do not go together."""
    cli.need_flags("This command", "output")
    if not FLAGS.saved_model and not FLAGS.server:
        raise InputError("Give --saved_model, an export, or --server, or both. Received: neither.")
    if FLAGS.server and FLAGS["engine"].present:
        raise InputError(
            f"--engine says what computes the answers here. Received: --engine={FLAGS.engine} with --server, which has "
            "its own engine. Remove one of them."
        )
    if FLAGS.server and not FLAGS.saved_model and FLAGS.tta != TTA[0]:
        raise InputError(
            f"--tta needs --saved_model. Received: --tta={FLAGS.tta} with --server alone, which is asked about "
            "whole images. Remove --tta."
        )
    if (FLAGS.write == "top_k") != (FLAGS.top_k is not None):
        raise InputError(
            "--write=top_k and --top_k=K must be given together. Received: "
            f"{'--write=top_k' if FLAGS.top_k is None else f'--top_k={FLAGS.top_k}'} without the other."
        )


def main(arguments):
    """Answers the images that `arguments` and --list_file name, and writes the rows to --output."""
    check_shared_flags()
    known = parse_known(FLAGS.known) if FLAGS.known else None
    if known and FLAGS.server:
        raise InputError(
            f"--known cannot be used with --server. Received: --known={FLAGS.known} with --server={FLAGS.server}. "
            "Remove one of them, or ask the server's signature serve_known yourself."
        )
    check_tta("known", FLAGS.known)

    from srn_tf.prediction.annotation_forms import check_image_prefix, check_write, form_of_output
    from srn_tf.prediction.answers import open_predictor
    from srn_tf.prediction.inputs import list_inputs
    from srn_tf.prediction.parts import check_output
    from srn_tf.prediction.predict import predict_files

    make_format = form_of_output(FLAGS.output)
    check_image_prefix(make_format, FLAGS.image_prefix)
    check_write(make_format, FLAGS.write)
    check_output(FLAGS.output)
    paths = list_inputs(arguments, FLAGS.list_file)
    predictor = open_predictor(**model())
    say_what_is_faster()
    options = (FLAGS.write, FLAGS.top_k, FLAGS.batch_size, FLAGS.restart, known, FLAGS.image_prefix)
    done = predict_files(predictor, paths, FLAGS.output, *options)
    print(summary_line(done))


def model():
    """The arguments of srn_tf.prediction.answers.open_predictor, as the flags have them."""
    return {name: FLAGS[name].value for name in ("saved_model", "server", "model_name", "timeout_s", "engine", "tta")}


def say_what_is_faster():
    """Says once which other engine of --saved_model is faster, where TensorFlow, the default, is used."""
    if FLAGS.saved_model and not ("server" in FLAGS and FLAGS.server) and FLAGS.engine == ENGINES[0]:
        from srn_tf.serving.engines import say_what_is_faster

        say_what_is_faster(FLAGS.saved_model)


def summary_line(done):
    """A srn_tf.prediction.predict.Summary as one line."""
    failed = f", {done.failed} of them without an answer (see its error)" if done.failed else ""
    return f"{done.images} images{failed}: {FLAGS.output}"
