"""How fast the evaluator is beside scikit-learn, and how much memory it takes.

python benchmarks/evaluator.py --output_dir=OUT [--repeats=7]
python benchmarks/evaluator.py --output_dir=OUT --validation=85000x9600

Draws logits and truths of the sizes of COCO's and NUS-WIDE's test sets (labels as frequent as in such sets, positives
scored higher), and prints, and writes to OUT/evaluator.md and OUT/evaluator.json:
- COCO's size: the median time of protocols.evaluate, which computes all tables, four AP definitions and calibration,
  beside that of sklearn.metrics.average_precision_score(average=None), on the same arrays in turn;
- the whole command tools/evaluate.py on files, from start to end (median of three), with its peak of resident memory.
With --validation it does instead what a training run does after an epoch with logits and truths of that size, which
come in batches of 256, and writes to OUT/validation.json the seconds and the peak of resident memory.
"""

import multiprocessing
import os
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import numpy as np  # noqa: E402
from absl import flags  # noqa: E402
from tabulate import tabulate  # noqa: E402

from srn_tf.commands import cli  # noqa: E402
from srn_tf.errors import InputError  # noqa: E402
from srn_tf.evaluation.protocols import COCO, evaluate  # noqa: E402
from srn_tf.files import write_json  # noqa: E402

COCO_SIZE, NUS_WIDE_SIZE = (40_504, 80), (107_859, 81)
# Images, labels, form of the files, protocol.
COMMANDS = (
    (1_000, 80, "csv", "coco"),
    (1_000, 80, "npy", "coco"),
    (*COCO_SIZE, "npy", "coco"),
    (*NUS_WIDE_SIZE, "npy", "nus_wide"),
    (*NUS_WIDE_SIZE, "csv", "nus_wide"),
)
FLAGS = flags.FLAGS


def draw(num_images, num_labels):
    """Returns logits float32 and truths int8, both (N, C); every label has positives."""
    rng = np.random.default_rng(0)
    frequencies = rng.beta(0.5, 15, num_labels)  # mean 0.03
    truths = (rng.random((num_images, num_labels)) < frequencies).astype(np.int8)
    truths[0] = 1
    logits = rng.normal(-4, 2, (num_images, num_labels)).astype(np.float32)
    logits += 3 * truths
    return logits, truths


def write_files(num_images, num_labels, form, paths):
    for path, matrix in zip(paths, draw(num_images, num_labels), strict=True):
        if form == "npy":
            np.save(path, matrix)
        else:
            np.savetxt(path, matrix, fmt="%.6f" if matrix.dtype == np.float32 else "%d", delimiter=",")


def compare_times(repeats):
    """Median seconds of the evaluator and of scikit-learn, taken in turn."""
    from sklearn.metrics import average_precision_score

    logits, truths = draw(*COCO_SIZE)
    seconds = {"evaluate": [], "scikit-learn": []}
    for _ in range(repeats):
        for name, function in (
            ("evaluate", lambda: evaluate(logits, truths, COCO)),
            ("scikit-learn", lambda: average_precision_score(truths, logits, average=None)),
        ):
            start_s = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start_s)
    return {name: statistics.median(times) for name, times in seconds.items()}


def run_command(num_images, num_labels, form, protocol):
    """Runs tools/evaluate.py three times; returns the median of seconds and the highest peak of resident MiB."""
    paths = [os.path.join(FLAGS.output_dir, f"{num_images}_{name}.{form}") for name in ("logits", "truths")]
    # In a process of its own: the peak that wait4 reports is at least what this process held when it started the tool.
    writer = multiprocessing.Process(target=write_files, args=(num_images, num_labels, form, paths))
    writer.start()
    writer.join()
    command = [sys.executable, os.path.join(ROOT, "tools", "evaluate.py"), f"--protocol={protocol}"]
    command += [f"--scores={paths[0]}", f"--labels={paths[1]}", f"--output={os.path.join(FLAGS.output_dir, 'J.json')}"]
    seconds, peaks_mib = [], []
    for _ in range(3):
        start_s = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds.append(time.perf_counter() - start_s)
        peaks_mib.append(usage.ru_maxrss / 1024)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise InputError(f"{' '.join(command)} failed; its message is above.")
    for path in paths:
        os.remove(path)
    return statistics.median(seconds), max(peaks_mib)


def validate(num_images, num_labels):
    """Collects random batches as the evaluator does and scores them as the trainer does; prints and writes both."""
    import resource

    from srn_tf.evaluation.blocks import Rows
    from srn_tf.training.losses import sigmoid_loss
    from srn_tf.training.trainer import validation_metrics

    rng = np.random.default_rng(0)
    logits, labels = (Rows(num_images, num_labels, dtype, FLAGS.output_dir) for dtype in (np.float32, np.int8))
    seconds = {"drawing": 0.0, "collecting": 0.0}
    for start in range(0, num_images, 256):
        start_s = time.perf_counter()
        shape = min(256, num_images - start), num_labels
        truths = (rng.random(shape, dtype=np.float32) < 0.001).astype(np.int8)
        scores = rng.standard_normal(shape, dtype=np.float32) * 2 - 6 + 5 * truths
        drawn_s = time.perf_counter()
        logits.append(scores)
        labels.append(truths)
        seconds["drawing"] += drawn_s - start_s
        seconds["collecting"] += time.perf_counter() - drawn_s
    start_s = time.perf_counter()
    values = validation_metrics(logits.matrix(), labels.matrix(), COCO, sigmoid_loss, False)
    seconds["scoring"] = time.perf_counter() - start_s
    del values["confusion"]
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result = {"images": num_images, "labels": num_labels, "s": seconds, "peak MiB": peak_mib, **values}
    write_json(os.path.join(FLAGS.output_dir, "validation.json"), result)
    print(result)


def main(_):
    os.makedirs(FLAGS.output_dir, exist_ok=True)
    if FLAGS.validation:
        return validate(*map(int, FLAGS.validation.split("x")))
    commands = []
    for num_images, num_labels, form, protocol in COMMANDS:
        seconds, peak_mib = run_command(num_images, num_labels, form, protocol)
        commands.append({"size": f"{num_images:,} x {num_labels}", "files": form, "s": seconds, "peak MiB": peak_mib})
    times = compare_times(FLAGS.repeats)
    ratio = times["evaluate"] / times["scikit-learn"]
    size = "{:,} x {}".format(*COCO_SIZE)
    text = "\n\n".join(
        [
            tabulate(
                [
                    [f"evaluate, everything, {size} float32", f"{times['evaluate']:.3f}"],
                    ["scikit-learn, average_precision_score alone", f"{times['scikit-learn']:.3f}"],
                    ["ratio", f"{ratio:.3f}"],
                ],
                [f"median of {FLAGS.repeats}", "s"],
                tablefmt="github",
                disable_numparse=True,
            ),
            tabulate(
                [[row["size"], row["files"], f"{row['s']:.2f}", f"{row['peak MiB']:.0f}"] for row in commands],
                ["tools/evaluate.py, start to end", "files", "s", "peak MiB"],
                tablefmt="github",
                disable_numparse=True,
            ),
        ]
    )
    result = {"cpus": os.cpu_count(), "repeats": FLAGS.repeats, "median_s": times, "ratio": ratio, "commands": commands}
    write_json(os.path.join(FLAGS.output_dir, "evaluator.json"), result)
    with open(os.path.join(FLAGS.output_dir, "evaluator.md"), "w", encoding="utf-8") as file:
        file.write(text + "\n")
    print(text)


if __name__ == "__main__":
    flags.DEFINE_string("output_dir", None, "Folder for the files and the tables.", required=True)
    flags.DEFINE_string("validation", "", "IMAGESxLABELS: measure the validation of a training run of that size.")
    flags.DEFINE_integer("repeats", 7, "Times each is measured.", 1)
    cli.run(main, __doc__)
