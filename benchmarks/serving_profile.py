"""Where the time of an answer goes: milliseconds of a batch by kind of operation, in TensorFlow and in OpenVINO.

python benchmarks/serving_profile.py --saved_model=EXPORT --output_dir=OUT [--batch_size=8] [--rounds=7]

EXPORT is a version with an OpenVINO model in float32 or int8. Both runtimes answer the same pixels in turns and say
what each operation took, after their own fusions. Prints, and writes to OUT/serving_profile.md and .json, the medians.
Profiling itself takes time, so the sums are above those of benchmarks/serving.py.
"""

import collections
import json
import os
import statistics
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import numpy as np  # noqa: E402
from absl import flags  # noqa: E402
from engines import machine  # noqa: E402
from tabulate import tabulate  # noqa: E402

from srn_tf.commands import cli  # noqa: E402
from srn_tf.files import write_json  # noqa: E402
from srn_tf.runs.work_dir import code_version  # noqa: E402

FLAGS = flags.FLAGS
LISTED = 12  # kinds of operations of each runtime


def main(_):
    cli.make_output_dir("output_dir", FLAGS.output_dir)
    rounds = {"TensorFlow": [], "OpenVINO": []}
    runs = {"TensorFlow": tensorflow_profile(), "OpenVINO": openvino_profile()}
    for run in runs.values():
        run()
    for _ in range(FLAGS.rounds):
        for name, run in runs.items():
            rounds[name].append(run())
    found = {
        name: {kind: statistics.median(one.get(kind, 0.0) for one in profiles) for kind in set().union(*profiles)}
        for name, profiles in rounds.items()
    }
    text = f"{machine()}; batch {FLAGS.batch_size}; commit {code_version()}.\n"
    for name, times in found.items():
        rows = sorted(times.items(), key=lambda row: -row[1])
        rows = [*rows[:LISTED], ("all", sum(times.values()))]
        text += f"\n{tabulate(rows, [name, 'ms'], tablefmt='github', floatfmt='.1f')}\n"
    write_json(os.path.join(FLAGS.output_dir, "serving_profile.json"), {"machine": machine(), "ms": found})
    with open(os.path.join(FLAGS.output_dir, "serving_profile.md"), "w", encoding="utf-8") as file:
        file.write(text)
    print(text)


def tensorflow_profile():
    """A function: one batch through the SavedModel; kind of operation -> milliseconds."""
    import tensorflow as tf

    from srn_tf.serving.predictor import DESCRIPTION

    graph = tf.Graph()
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=FLAGS.threads, inter_op_parallelism_threads=1)
    session = tf.compat.v1.Session(graph=graph, config=config)
    with graph.as_default():
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], FLAGS.saved_model)
    signature = loaded.signature_def["serve_pixels"]
    taken = signature.inputs["pixels"]
    with open(os.path.join(FLAGS.saved_model, DESCRIPTION), encoding="utf-8") as file:
        side_px = json.load(file)["image_size"]
    pixels = np.random.default_rng(0).integers(0, 256, (FLAGS.batch_size, side_px, side_px, 3), np.uint8)
    options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)

    def run():
        said = tf.compat.v1.RunMetadata()
        session.run(signature.outputs["probabilities"].name, {taken.name: pixels}, options, said)
        times = collections.Counter()
        for device in said.step_stats.dev_stats:
            for node in device.node_stats:
                kind = node.timeline_label.split(" = ")[-1].split("(")[0] or node.node_name
                times[kind] += (node.op_end_rel_micros - node.op_start_rel_micros) / 1000
        return times

    return run


def openvino_profile():
    """As `tensorflow_profile`, of the export's OpenVINO model."""
    import openvino

    from srn_tf.serving.openvino_model import FILE_NAME

    settings = {"PERF_COUNT": True, "INFERENCE_NUM_THREADS": FLAGS.threads, "INFERENCE_PRECISION_HINT": "f32"}
    file = os.path.join(FLAGS.saved_model, "assets.extra", FILE_NAME)
    compiled = openvino.Core().compile_model(file, "CPU", {**settings, "PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()
    side_px = compiled.inputs[0].partial_shape[1].get_length()
    shape = (FLAGS.batch_size, side_px, side_px, 3)
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)

    def run():
        request.infer([image])
        times = collections.Counter()
        for node in request.get_profiling_info():
            times[node.node_type] += node.real_time.total_seconds() * 1000
        return times

    return run


if __name__ == "__main__":
    flags.DEFINE_string("saved_model", None, "Folder of one version of an export.", required=True)
    flags.DEFINE_string("output_dir", None, "Folder for the tables.", required=True)
    flags.DEFINE_integer("batch_size", 8, "Images a batch.", 1)
    flags.DEFINE_integer("rounds", 7, "How often each runtime has its turn.", 1)
    flags.DEFINE_integer("threads", 2, "Threads of a runtime.", 1)
    cli.run(main, __doc__)
