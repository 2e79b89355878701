"""Exports the final weights of a trained run again, for TensorFlow Serving.

python tools/export.py --work_dir=RUN [--version=2] [--thresholds=RUN/thresholds.json] [--precision=bfloat16]
    [--weights=constants] [--tflite=float16] [--onnx] [--openvino=float32] [--csra_at_test=0.1]
python tools/export.py --work_dir=RUN --openvino=int8 --data_dir=DATA [--calibration_images=300] [--max_map_drop=0.5]

Training already writes RUN/export/1, in float32, with the threshold 0.5. TFLite, ONNX and OpenVINO files go to the
folder assets.extra of the version; they expect images that are already resized. For --openvino=int8 the validation
images of the run are read: it is calibrated and scored on them. With --csra_at_test thresholds of the run's own answer
are not used.
"""

import dataclasses
import os
import shlex

from absl import flags

from srn_tf.commands import cli, evaluate
from srn_tf.errors import InputError
from srn_tf.flag_groups import Group
from srn_tf.program import tool

FLAGS = flags.FLAGS


def define_flags():
    """Defines the flags of this command line."""
    flags = Group("Model")
    flags.DEFINE_string("work_dir", "", "Work folder of a trained run.")
    flags.DEFINE_integer(
        "version", None, "Version number, a folder below <work_dir>/export. Default: the next number.", lower_bound=1
    )
    flags.DEFINE_string(
        "thresholds",
        "",
        f"File of {tool('tune_thresholds')}. Default: <work_dir>/thresholds.json if it exists, else 0.5 for all.",
    )
    evaluate.define_csra_at_test()
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

    flags = Group("Other engines")
    flags.DEFINE_enum(
        "tflite",
        "none",
        ["none", "float16", "dynamic"],
        "Also write model_<kind>.tflite. float16: weights of 16 bits. dynamic: weights of 8 bits, integer products.",
    )
    flags.DEFINE_bool("onnx", False, "Also write model.onnx; needs the packages in requirements-onnx.txt.")
    flags.DEFINE_enum(
        "openvino",
        "none",
        ["none", "float32", "bfloat16", "int8"],
        "Also write openvino/model.xml; needs the packages in requirements-openvino.txt. bfloat16: products in "
        "bfloat16 on processors that have it, else in float32. int8: products in 8 bits, but for the "
        "last before an answer.",
    )
    flags.DEFINE_string("data_dir", "", "Folder of the run's data set, as in training, for --openvino=int8.")
    flags.DEFINE_string(
        "prepared_dir",
        "",
        "Folder of the prepared data if --data_dir is an official layout. Default: <work_dir>/dataset.",
    )
    flags.DEFINE_integer(
        "calibration_images", 300, "Validation images that decide the ranges of --openvino=int8.", lower_bound=1
    )
    flags.DEFINE_float(
        "max_map_drop",
        0.5,
        "Largest loss of mAP on the validation images, in percent, with which --openvino=int8 is exported.",
        lower_bound=0.0,
    )


def main(_):
    """Exports the run in --work_dir as --version; prints how to serve it."""
    cli.need_flags("This command", "work_dir")
    from srn_tf.evaluation.thresholds import FILE_NAME, load_thresholds
    from srn_tf.models.main_net import with_csra_at_test
    from srn_tf.run import load_model, provenance_of
    from srn_tf.runs.work_dir import WorkDir
    from srn_tf.serving.export import export

    work = WorkDir(FLAGS.work_dir)
    description = work.read_run()
    path = os.path.join(work.export, str(FLAGS.version or max(work.export_versions(), default=0) + 1))
    own = os.path.join(work.path, FILE_NAME)
    is_own_wanted = os.path.lexists(own) and FLAGS.csra_at_test is None
    thresholds = load_thresholds(FLAGS.thresholds or own) if FLAGS.thresholds or is_own_wanted else None
    validation = _validation(work, description) if FLAGS.openvino == "int8" else None
    provenance = provenance_of(work)
    if FLAGS.csra_at_test is not None:
        description = with_csra_at_test(description, FLAGS.csra_at_test)
        provenance = dataclasses.replace(provenance, run=description)
    model = load_model(work, description)
    if thresholds is None:
        better = "" if FLAGS.csra_at_test is not None else f"; {tool('tune_thresholds')} finds better ones"
        print(f"Threshold 0.5 for every label{better}.")
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
        provenance=provenance,
        weights=FLAGS.weights,
        openvino=FLAGS.openvino,
        validation=validation,
    )
    print(path)
    base = shlex.quote(os.path.abspath(work.export))
    print(f"Serve it: tensorflow_model_server --rest_api_port=8501 --model_name=srn --model_base_path={base}")


def _validation(work, description):
    """The srn_tf.serving.quantization.Validation of a run; InputError if it has none."""
    if not FLAGS.data_dir:
        raise InputError(
            "--openvino=int8 needs --data_dir, the folder of the run's data set: it is calibrated and scored on the "
            "validation images."
        )
    from srn_tf.evaluation.protocols import protocol_named
    from srn_tf.runs.run_data import open_run_data
    from srn_tf.serving.quantization import Validation

    dataset, _ = open_run_data(work, FLAGS.data_dir, FLAGS.prepared_dir)
    if dataset.splits["validation"] == dataset.splits["train"] or not dataset.num_images("validation"):
        raise InputError(
            f"--openvino=int8 needs validation images, on which it is calibrated and scored. Received: {work.path}, a "
            "run that held none out of its training images. Export it with --openvino=float32."
        )
    dataset.check_size("validation", description["model"]["image_size"])
    records = dataset.records("validation")
    return Validation(records, protocol_named(dataset.protocol), FLAGS.calibration_images, FLAGS.max_map_drop)
