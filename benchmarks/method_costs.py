"""What a training step and an answer of every method cost: time and memory.

python benchmarks/method_costs.py --output_dir=OUT [--methods=srn,msrn] [--image_size=448] [--FLAG=...]

The settings are those of configs/photos_<method>.flags, the weights random, and every stage trains what its table says,
the trunk too. Each stage, and the answers, run in a process of their own. Prints, and writes to OUT/method_costs.md and
.json: weights in millions outside the trunk; images a second of the network's answers, and of a training step of each
stage; seconds of all threads on a processor for an image, which other programs at work change less; medians; and the
most memory that the process held, TensorFlow's own included.
"""

import os
import statistics
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from absl import flags  # noqa: E402
from engines import Engine, EngineError, machine  # noqa: E402
from photographs import METHODS, check_methods  # noqa: E402
from tabulate import tabulate  # noqa: E402

from srn_tf.commands import cli  # noqa: E402
from srn_tf.errors import InputError  # noqa: E402
from srn_tf.files import write_json  # noqa: E402
from srn_tf.runs.work_dir import code_version  # noqa: E402

FLAGS = flags.FLAGS
ANSWERS = ""  # in place of a stage
HEADERS = ("method", "what", "weights outside the trunk, M", "images/s", "processor s/image", "GB")


def main(_):
    check_methods(FLAGS.methods)
    cli.make_output_dir("output_dir", FLAGS.output_dir)
    rows = []
    try:
        for method in FLAGS.methods:
            rows += _costs_of(method)
    except EngineError as error:
        raise InputError(str(error)) from None
    settings = {name: FLAGS[name].value for name in ("backbone", "image_size", "labels", "batch", "threads", "steps")}
    write_json(
        os.path.join(FLAGS.output_dir, "method_costs.json"),
        {"machine": machine(), "commit": code_version(), **settings, "rows": [dict(zip(HEADERS, row)) for row in rows]},
    )
    caption = (
        f"{machine()}; commit {code_version()}; {FLAGS.backbone}, {FLAGS.image_size} pixels, {FLAGS.labels} labels, "
        f"{FLAGS.batch} images at a time, {FLAGS.threads} threads, median of {FLAGS.steps}."
    )
    text = f"{caption}\n\n{tabulate(rows, HEADERS, 'github', floatfmt='.2f')}\n"
    with open(os.path.join(FLAGS.output_dir, "method_costs.md"), "w", encoding="utf-8") as file:
        file.write(text)
    print(text)


def _costs_of(method):
    """Rows of the table: the answers, then each stage."""
    with _engine(method, ANSWERS) as engine:
        stages = engine.ask("stages")
        weights = engine.ask("weights")
        millions = sum(count for part, count in weights.items() if part != "trunk") / 1e6
        rows = [[METHODS[method], "answers", millions, *_measured(engine)]]
    for stage in stages:
        with _engine(method, stage) as engine:
            rows.append([METHODS[method], f"step of {stage}", millions, *_measured(engine)])
    return rows


def _engine(method, stage):
    flagfile = os.path.join(ROOT, "configs", f"photos_{method}.flags")
    script = os.path.join(ROOT, "benchmarks", "method_costs_process.py")
    numbers = map(str, (FLAGS.image_size, FLAGS.labels, FLAGS.batch, FLAGS.threads))
    command = [sys.executable, script, flagfile, stage, FLAGS.backbone, *numbers]
    return Engine(f"{method} {stage or 'answers'}", command, FLAGS.threads)


def _measured(engine):
    """(images a second, processor seconds an image, gigabytes)."""
    engine.ask("seconds", 2)  # the graph is made, and memory found
    wall_s, processor_s = map(statistics.median, zip(*engine.ask("seconds", FLAGS.steps)))
    gigabytes = engine.ask("memory") / 1e9
    print(f"{engine.name}: {FLAGS.batch / wall_s:.2f} images/s, {gigabytes:.2f} GB", flush=True)
    return FLAGS.batch / wall_s, processor_s / FLAGS.batch, gigabytes


if __name__ == "__main__":
    flags.DEFINE_string("output_dir", None, "Folder to write.", required=True)
    flags.DEFINE_list("methods", list(METHODS), f"Methods, of {', '.join(METHODS)}.")
    flags.DEFINE_string("backbone", "efficientnet_lite0", "Their trunk.")
    flags.DEFINE_integer("image_size", 448, "Side of the images, pixels.", 32)
    flags.DEFINE_integer("labels", 80, "Labels; 80 as in MS-COCO.", 3)
    flags.DEFINE_integer("batch", 8, "Images at a time.", 1)
    flags.DEFINE_integer("threads", 2, "Threads of a process.", 1)
    flags.DEFINE_integer("steps", 5, "Steps that are timed.", 1)
    cli.run(main, __doc__)
