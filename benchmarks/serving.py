"""How fast an export answers, beside PyTorch, ONNX Runtime and OpenVINO on the same network with the same weights.

python -m venv PEERS && PEERS/bin/pip install -r benchmarks/peers/requirements.txt
python benchmarks/serving.py --output_dir=OUT --peer_python=PEERS/bin/python [--threads=2] [--rounds=7]
    [--precisions=float32 --precisions=int8]

ResNet-101 (v2) with the released SRN heads, 224 pixels, 80 labels, random weights. Every engine runs in a process of
its own; in each round each of them answers the same batch, one after the other, so that what else the machine does
falls on all. Prints, and writes to OUT/serving.md and OUT/serving.json, the median images a second, the ratio to
PyTorch and ONNX Runtime float32 within the rounds, the latency of one image, the memory of the process, and how far the
probabilities are from PyTorch's float32. With the packages of requirements-openvino.txt, also the OpenVINO files that
the export writes; its int8 is calibrated on noise, so only its speed means anything.
"""

import contextlib
import importlib.util
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from absl import flags  # noqa: E402
from engines import Engine, EngineError  # noqa: E402
from tabulate import tabulate  # noqa: E402

from srn_tf.commands import cli  # noqa: E402
from srn_tf.errors import InputError  # noqa: E402

FLAGS = flags.FLAGS
OURS = ("tensorflow_float32", "tensorflow_float32_constants", "tensorflow_bfloat16", "tensorflow_bfloat16_constants")
PEERS = (
    "torch_float32",
    "torch_bfloat16",
    "torch_compiled_float32",
    "torch_compiled_bfloat16",
    "onnxruntime_float32",
    "openvino_float32",
    "openvino_bfloat16",
)
# Our OpenVINO files, where the packages that write them are installed.
EXPORTED = ("exported_openvino_float32", "exported_openvino_bfloat16", "exported_openvino_int8")
REFERENCES = ("torch_float32", "onnxruntime_float32")
PRECISIONS = ("float32", "bfloat16", "int8")
WORKER = os.path.join(ROOT, "benchmarks", "peers", "worker.py")
NUM_LABELS, SIDE_PX = 80, 224


def main(_):
    import numpy as np

    cli.make_output_dir("output_dir", FLAGS.output_dir)
    folder = os.path.abspath(os.path.join(FLAGS.output_dir, "model"))
    if not os.path.isfile(os.path.join(folder, "weights.npz")):
        # In a process of its own: what exporting takes of memory is not to be missing below.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            pool.submit(make_model, folder).result()
    # batch size -> engine -> seconds a batch, round by round; engine -> probabilities; engine -> bytes
    seconds, answers, memory = {}, {}, {}
    for batch_size in (FLAGS.batch_size, 1):
        images = np.random.default_rng(1).integers(0, 256, (batch_size, SIDE_PX, SIDE_PX, 3))
        np.save(os.path.join(folder, "images.npy"), images.astype(np.float32))
        batches = FLAGS.batches if batch_size > 1 else 4 * FLAGS.batches  # for the 99th percentile
        with contextlib.ExitStack() as stack:
            engines = {}
            try:
                for name in wanted():  # one after the other: some read what another one wrote
                    engines[name] = stack.enter_context(start(name, folder))
                    file = os.path.join(folder, f"{name}.npy")
                    engines[name].ask("answer", file)
                    answers.setdefault(name, np.load(file))
                seconds[batch_size] = {name: [] for name in engines}
                for _ in range(FLAGS.rounds):
                    for name, engine in engines.items():
                        seconds[batch_size][name].append([wall_s for wall_s, _ in engine.ask("run", batches)])
                for name, engine in engines.items():
                    memory.setdefault(name, engine.ask("memory"))
            except EngineError as error:
                raise InputError(str(error)) from error
    report(seconds, answers, memory)


def make_model(folder):
    """Writes the exports and, last, weights.npz, of a model with random weights and BatchNorm that is not trivial."""
    import keras
    import numpy as np

    from srn_tf.models.registry import ModelConfig, build_model
    from srn_tf.serving.export import export

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    labels = [f"label{index}" for index in range(NUM_LABELS)]
    model = build_model(ModelConfig("srn", "resnet101v2", SIDE_PX), labels)
    for name, weight in model.weights.items():
        if name.endswith("moving_mean"):
            weight.assign(rng.normal(0, 0.05, weight.shape))
        elif name.endswith(("moving_variance", "gamma")):
            weight.assign(rng.uniform(0.8, 1.25, weight.shape))
    for name in OURS:
        _, precision, *constants = name.split("_")
        weights = "constants" if constants else "variables"
        export(model, labels, os.path.join(folder, name, "1"), precision=precision, weights=weights)
    for name in exported():
        kind = name.split("_")[-1]
        validation = noise(32) if kind == "int8" else None
        export(model, labels, os.path.join(folder, name, "1"), openvino=kind, validation=validation)
    weights = {name: weight.numpy() for name, weight in model.weights.items()}
    np.savez(os.path.join(folder, "weights.npz"), **weights)


def noise(count):
    """Images and labels by chance, for int8, which needs some; they allow any loss of mAP."""
    import numpy as np
    import tensorflow as tf

    from srn_tf.evaluation.protocols import SCENES
    from srn_tf.serving.quantization import Validation

    rng = np.random.default_rng(2)
    pixels = rng.integers(0, 256, (count, SIDE_PX, SIDE_PX, 3), np.uint8)
    files = [tf.io.encode_jpeg(image).numpy() for image in pixels]
    labels = rng.choice(np.array([-1, 1], np.int8), (count, NUM_LABELS))
    objects = {"bbox": np.zeros((count, 0, 4), np.float32), "label": np.zeros((count, 0), np.int64)}
    records = tf.data.Dataset.from_tensor_slices({"image": files, "labels": labels, "objects": objects})
    return Validation(records, SCENES, count, 100.0)


def exported():
    """Names of the engines that read our OpenVINO files."""
    return EXPORTED if importlib.util.find_spec("openvino") else ()


def wanted():
    """Names of the engines that are measured, the references among them."""
    names = (*OURS, *PEERS, *exported())
    return [name for name in names if name in REFERENCES or any(kind in name for kind in FLAGS.precisions)]


def start(name, folder):
    """Starts an engine."""
    python = sys.executable if name in OURS else FLAGS.peer_python
    return Engine(name, [python, WORKER, name, folder, str(FLAGS.threads)], FLAGS.threads)


def report(seconds, answers, memory):
    import numpy as np

    from srn_tf.files import write_json

    many, one = seconds[FLAGS.batch_size], seconds[1]
    medians = {name: [statistics.median(batches) for batches in rounds] for name, rounds in many.items()}
    rows = []
    for name in many:
        rows.append(
            {
                "engine": name,
                "images/s": FLAGS.batch_size / statistics.median(medians[name]),
                **{
                    f"x {peer}": statistics.median(b / a for a, b in zip(medians[name], medians[peer], strict=True))
                    for peer in REFERENCES
                },
                "one image, ms, median": 1000 * float(np.median(one[name])),
                "one image, ms, 99th percentile": 1000 * float(np.percentile(one[name], 99)),
                "memory, GB": memory[name] / 1e9,
                "largest difference of p": float(np.abs(answers[name] - answers[REFERENCES[0]]).max()),
            }
        )
    cells = [
        [name, f"{a:.1f}", f"{b:.2f}", f"{c:.2f}", f"{d:.0f}", f"{e:.0f}", f"{m:.1f}", f"{f:.1g}"]
        for name, a, b, c, d, e, m, f in (row.values() for row in rows)
    ]
    table = tabulate(cells, list(rows[0]), tablefmt="github", disable_numparse=True)
    settings = {name: FLAGS[name].value for name in ("batch_size", "threads", "rounds", "batches")}
    write_json(os.path.join(FLAGS.output_dir, "serving.json"), {**settings, "rows": rows, "seconds": seconds})
    with open(os.path.join(FLAGS.output_dir, "serving.md"), "w", encoding="utf-8") as file:
        file.write(table + "\n")
    print(table)


if __name__ == "__main__":
    flags.DEFINE_string("output_dir", None, "Folder for the exports and the table.", required=True)
    flags.DEFINE_string("peer_python", None, "Python in which the peers are installed.", required=True)
    flags.DEFINE_integer("batch_size", 8, "Images a batch.", 1)
    flags.DEFINE_integer("threads", 2, "Threads of every engine.", 1)
    flags.DEFINE_integer("rounds", 7, "How often each engine has its turn.", 1)
    flags.DEFINE_multi_enum(
        "precisions",
        list(PRECISIONS),
        list(PRECISIONS),
        "Precisions beside the two engines that all are compared with. Leave bfloat16 out where a processor lacks it.",
    )
    flags.DEFINE_integer("batches", 5, "Batches a turn.", 1)
    cli.run(main, __doc__)
