"""Exports the final weights of a trained run again, for TensorFlow Serving.

python tools/export.py --work_dir=RUN [--version=2] [--thresholds=RUN/thresholds.json] [--precision=bfloat16]
    [--weights=constants] [--tflite=float16] [--onnx]

Training already writes RUN/export/1, in float32, with the threshold 0.5. TFLite and ONNX files go to the folder
assets.extra of the version; they expect images that are already resized.
"""

import os
import shlex

from absl import flags

from srn_tf.commands import cli
from srn_tf.program import tool

FLAGS = flags.FLAGS


def define_flags():
    """Defines the flags of this command line."""
    flags.DEFINE_string("work_dir", "", "Work folder of a trained run.")
    flags.DEFINE_integer(
        "version", None, "Version number, a folder below <work_dir>/export. Default: the next number.", lower_bound=1
    )
    flags.DEFINE_string(
        "thresholds",
        "",
        f"File of {tool('tune_thresholds')}. Default: <work_dir>/thresholds.json if it exists, else 0.5 for all.",
    )
    flags.DEFINE_enum(
        "precision",
        "float32",
        ["float32", "bfloat16"],
        "Precision of activations and products. bfloat16 halves the file; measure whether it is faster on your CPU.",
    )
    flags.DEFINE_enum(
        "weights",
        "variables",
        ["variables", "constants"],
        "Form of the weights. constants: faster on CPUs, above all for single images, but gigabytes of memory for "
        "ResNet-101.",
    )
    flags.DEFINE_enum(
        "tflite",
        "none",
        ["none", "float16", "dynamic"],
        "Also write model_<kind>.tflite. float16: weights of 16 bits. dynamic: weights of 8 bits, integer products.",
    )
    flags.DEFINE_bool("onnx", False, "Also write model.onnx; needs the packages in requirements-onnx.txt.")


def main(_):
    """Exports the run in --work_dir as --version; prints how to serve it."""
    cli.need_flags("This command", "work_dir")
    from srn_tf.evaluation.thresholds import FILE_NAME, load_thresholds
    from srn_tf.run import load_model, provenance_of
    from srn_tf.runs.work_dir import WorkDir
    from srn_tf.serving.export import export

    work = WorkDir(FLAGS.work_dir)
    description = work.read_run()
    path = os.path.join(work.export, str(FLAGS.version or max(work.export_versions(), default=0) + 1))
    tuned = FLAGS.thresholds or os.path.join(work.path, FILE_NAME)
    thresholds = load_thresholds(tuned) if FLAGS.thresholds or os.path.lexists(tuned) else None
    model = load_model(work, description)
    if thresholds is None:
        print(f"Threshold 0.5 for every label; {tool('tune_thresholds')} finds better ones.")
    else:
        thresholds.check_fit(description["labels"], [model.final], work.final)
        print(f"In the export, {thresholds.statement}.")
    export(
        model,
        description["labels"],
        path,
        None if thresholds is None else thresholds.values,
        precision=FLAGS.precision,
        tflite=FLAGS.tflite,
        is_onnx_wanted=FLAGS.onnx,
        provenance=provenance_of(work),
        weights=FLAGS.weights,
    )
    print(path)
    base = shlex.quote(os.path.abspath(work.export))
    print(f"Serve it: tensorflow_model_server --rest_api_port=8501 --model_name=srn --model_base_path={base}")
