"""Exports the final weights of a trained run once more, as a SavedModel for TensorFlow Serving.

python tools/export.py --work_dir=RUN [--version=2] [--thresholds=RUN/thresholds.json] [--precision=bfloat16]
    [--weights=constants] [--tflite=float16] [--onnx]

Training itself already writes RUN/export/1, in float32, which predicts labels above 0.5. TFLite and ONNX files, if
wanted, go to assets.extra in the folder of the version; what they are given is resized already.
"""

import os
import shlex

from absl import flags

from srn_tf.errors import InputError
from srn_tf.program import command, tool

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_string("work_dir", "", "Work folder of a trained run.")
    flags.DEFINE_integer("version", None, "Folder below <work_dir>/export. Default: the next number.", lower_bound=1)
    flags.DEFINE_string(
        "thresholds",
        "",
        f"File of {tool('tune_thresholds')}. Default: <work_dir>/thresholds.json if it is there, else 0.5 for all.",
    )
    flags.DEFINE_enum(
        "precision",
        "float32",
        ["float32", "bfloat16"],
        "Of activations and products. bfloat16 halves the file; whether it is faster depends on the CPU: measure.",
    )
    flags.DEFINE_enum(
        "weights",
        "variables",
        ["variables", "constants"],
        "constants are faster on CPUs, above all for one image, and take gigabytes of memory for ResNet-101.",
    )
    flags.DEFINE_enum(
        "tflite",
        "none",
        ["none", "float16", "dynamic"],
        "Also write model_<kind>.tflite, with weights of 16 bits, or of 8 bits with integer products.",
    )
    flags.DEFINE_bool("onnx", False, "Also write model.onnx; needs requirements-onnx.txt.")


def main(_):
    if not FLAGS.work_dir:
        raise InputError(f"--work_dir is needed; see {command('export')} --help.")
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
        print(f"Labels are predicted above 0.5; {tool('tune_thresholds')} finds better thresholds.")
    else:
        thresholds.check_fit(description["labels"], [model.final], work.final)
        print(f"In the export {thresholds.statement}.")
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
    print(f"Serve: tensorflow_model_server --rest_api_port=8501 --model_name=srn --model_base_path={base}")
