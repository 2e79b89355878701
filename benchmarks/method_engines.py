"""How fast, and how well, each engine answers for trained runs: a table of methods and engines.

python benchmarks/method_engines.py --runs=RUN,RUN --data_dir=DATA --output_dir=OUT [--rounds=7]

DATA holds the runs' prepared data set. Exports each run to OUT/<run>: in float32 for TensorFlow, OpenVINO and, where
the method can be written so, ONNX Runtime, and in int8 for OpenVINO; where the processor has instructions for bfloat16,
in that too. The exports in int8 and bfloat16 are scored on the test split by tools/evaluate.py; for float32 the run's
own metrics.json counts. Then all engines of a run answer pixels in turns, each in a process of its own. Prints, and
writes to OUT/method_engines.json and .md: millions of weights, the trunk's too; images a second in batches; the median
of the ratio to TensorFlow float32 within the rounds; median and 99th percentile of the seconds of one image; the most
memory that the process held; mAP on test, and what is lost of it against TensorFlow float32. A second run with the same
OUT keeps exports and scores, and measures the times again.
"""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import numpy as np  # noqa: E402
from absl import flags  # noqa: E402
from engines import Engine, EngineError, machine  # noqa: E402
from tabulate import tabulate  # noqa: E402

from srn_tf.commands import cli  # noqa: E402
from srn_tf.errors import InputError  # noqa: E402
from srn_tf.files import write_json  # noqa: E402
from srn_tf.runs.checkpoint import load_arrays  # noqa: E402
from srn_tf.runs.work_dir import WorkDir, code_version  # noqa: E402

FLAGS = flags.FLAGS
# kind -> (engine, flags of tools/export.py). Those of one export stand together.
KINDS = {
    "TensorFlow float32": ("tensorflow", ()),
    "OpenVINO float32": ("openvino", ("--openvino=float32",)),
    "ONNX Runtime float32": ("onnxruntime", ("--onnx",)),
    "OpenVINO int8": ("openvino", ("--openvino=int8",)),
}
BFLOAT16 = {
    "TensorFlow bfloat16": ("tensorflow", ("--precision=bfloat16",)),
    "OpenVINO bfloat16": ("openvino", ("--openvino=bfloat16",)),
}
REFERENCE = "TensorFlow float32"
HEADERS = ("run", "weights, M", "engine", "images/s", "x", "one image, ms", "GB", "test mAP", "lost")


def main(_):
    from srn_tf.serving.openvino_model import has_bfloat16

    cli.make_output_dir("output_dir", FLAGS.output_dir)
    kinds = {**KINDS, **(BFLOAT16 if has_bfloat16() else {})}
    rows = []
    for run in FLAGS.runs:
        rows += _rows_of(os.path.normpath(run), kinds)
        result = {"machine": machine(), "commit": code_version(), "rounds": FLAGS.rounds, "threads": FLAGS.threads}
        write_json(os.path.join(FLAGS.output_dir, "method_engines.json"), {**result, "rows": rows})
        cells = [
            [
                row["run"],
                f"{row['weights_m']:.2f}",
                row["engine"],
                f"{row['images_per_s']:.1f}",
                f"{row['ratio']:.2f}",
                f"{row['one_image_ms']:.0f} ({row['one_image_ms_99']:.0f})",
                f"{row['memory_gb']:.1f}",
                f"{row['test_map']:.2f}",
                f"{row['lost_map']:+.2f}",
            ]
            for row in rows
        ]
        table = tabulate(cells, HEADERS, tablefmt="github", disable_numparse=True)
        with open(os.path.join(FLAGS.output_dir, "method_engines.md"), "w", encoding="utf-8") as file:
            file.write(f"{machine()}; batch {FLAGS.batch_size}; commit {code_version()}.\n\n{table}\n")
    print(table)


def _rows_of(run, kinds):
    """The rows of one run, list of dict."""
    folder = os.path.join(FLAGS.output_dir, os.path.basename(run))
    if not os.path.isdir(folder):
        shutil.copytree(run, f"{folder}.writing", ignore=shutil.ignore_patterns("export", "dataset", "tensorboard"))
        os.replace(f"{folder}.writing", folder)
    exports, maps = {}, {}
    for version, (kind, (engine, options)) in enumerate(kinds.items(), 1):
        export = os.path.join(folder, "export", str(version))
        data = (f"--data_dir={FLAGS.data_dir}",) if kind == "OpenVINO int8" else ()
        if not os.path.isdir(export):
            print(f"{kind} of {run}", flush=True)
            said = _tool("export", f"--work_dir={folder}", f"--version={version}", *options, *data)
        if not os.path.isdir(export):
            print(f"Not written: {said.strip().splitlines()[-1]}", flush=True)
        else:
            exports[kind] = (engine, export)
            maps[kind] = _own_map(run) if kind.endswith("float32") else _test_map(export, engine)
    try:
        times = _times(exports, WorkDir(run).read_run()["model"]["image_size"])
    except EngineError as error:
        raise InputError(str(error)) from None
    arrays, _ = load_arrays(os.path.join(run, "checkpoints", "final.npz"))
    of_run = {"run": os.path.basename(run), "weights_m": sum(array.size for array in arrays.values()) / 1e6}
    return [
        {**of_run, "engine": kind, **times[kind], "test_map": maps[kind], "lost_map": maps[REFERENCE] - maps[kind]}
        for kind in exports
    ]


def _own_map(run):
    """mAP of a run's final output on the test split, in percent."""
    with open(os.path.join(run, "metrics.json"), encoding="utf-8") as file:
        outputs = json.load(file)["outputs"]
    final = WorkDir(run).read_run().get("final", next(iter(outputs)))  # a model's own is the first
    return outputs[final]["all"]["mAP"]


def _test_map(export, engine):
    """mAP of an export on the test split, in percent; scored once."""
    file = f"{export}.test.json"
    if not os.path.isfile(file):
        where = (f"--dataset={FLAGS.dataset}", f"--data_dir={FLAGS.data_dir}")
        said = _tool("evaluate", f"--saved_model={export}", f"--engine={engine}", *where, f"--output={file}")
        if not os.path.isfile(file):
            raise InputError(f"tools/evaluate.py must score {export}. Received: {said.strip().splitlines()[-1]}")
    with open(file, encoding="utf-8") as opened:
        return json.load(opened)["outputs"]["served"]["all"]["mAP"]


def _tool(name, *options):
    """Runs a command line; returns what it wrote."""
    command = [sys.executable, os.path.join(ROOT, "tools", f"{name}.py"), *options]
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.stdout


def _times(exports, side_px):
    """Times engines in turns: kind -> (engine, export) to kind -> dict of the columns."""
    script = os.path.join(ROOT, "benchmarks", "export_network.py")
    many, one, memory = ({kind: [] for kind in exports} for _ in range(3))
    with contextlib.ExitStack() as stack:
        engines = {
            kind: stack.enter_context(
                Engine(kind, [sys.executable, script, export, engine, str(FLAGS.threads)], FLAGS.threads)
            )
            for kind, (engine, export) in exports.items()
        }
        for times, batch_size, batches in ((many, FLAGS.batch_size, 3), (one, 1, 15)):
            for engine in engines.values():
                engine.ask("run", 2, batch_size, side_px)  # prepares for batches of this size
            for _ in range(FLAGS.rounds):
                for kind, engine in engines.items():
                    times[kind].append([wall_s for wall_s, _ in engine.ask("run", batches, batch_size, side_px)])
        memory = {kind: engine.ask("memory") / 1e9 for kind, engine in engines.items()}
    medians = {kind: [statistics.median(batches) for batches in rounds] for kind, rounds in many.items()}
    return {
        kind: {
            "images_per_s": FLAGS.batch_size / statistics.median(medians[kind]),
            "ratio": statistics.median(b / a for a, b in zip(medians[kind], medians[REFERENCE], strict=True)),
            "one_image_ms": 1000 * float(np.median(one[kind])),
            "one_image_ms_99": 1000 * float(np.percentile(one[kind], 99)),
            "memory_gb": memory[kind],
        }
        for kind in exports
    }


if __name__ == "__main__":
    flags.DEFINE_list("runs", None, "Work folders of trained runs.", required=True)
    flags.DEFINE_string("dataset", "voc2007", "The runs' data set.")
    flags.DEFINE_string("data_dir", None, "Folder it is prepared in.", required=True)
    flags.DEFINE_string("output_dir", None, "Folder for exports and the table.", required=True)
    flags.DEFINE_integer("batch_size", 8, "Images a batch.", 1)
    flags.DEFINE_integer("rounds", 7, "How often each engine has its turn.", 1)
    flags.DEFINE_integer("threads", 2, "Threads of an engine.", 1)
    cli.run(main, __doc__)
