"""What a training step costs, beside PyTorch on the same network with the same weights, and against the machine.

python -m venv PEERS && PEERS/bin/pip install -r benchmarks/peers/requirements.txt
python benchmarks/training.py --output_dir=OUT --peer_python=PEERS/bin/python [--threads=2] [--rounds=5]
    [--precisions=float32]

ResNet-101 (v2) with the released SRN heads, 224 pixels, 80 labels, random weights, SGD with momentum and L2, in float32
and mixed bfloat16. Every engine runs in a process of its own, and they take their turns, so that what else the machine
does falls on all. Prints, and writes to OUT/training.md and OUT/training.json, with charts beside them:
- for each stage the median time of a step, the ratio to PyTorch float32 within the rounds, the most memory of the
  process, the ratio to the forward pass of the trunk up to X alone where the trunk is frozen, and the multiply-adds a
  second against those of a large matrix product, by the faster library; how far the losses are from PyTorch float32's
  (where the whole net is trained, random weights let rounding grow: PyTorch's own float32 and float64 are 1e-3 apart);
- what the step of the last stage costs with other numbers of labels, image sizes, batches and logical devices;
- which operations a float32 step of the first stage spends its time in, one operation at a time.
"""

import contextlib
import os
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import numpy as np  # noqa: E402
from absl import flags  # noqa: E402
from engines import Engine, EngineError, machine  # noqa: E402
from tabulate import tabulate  # noqa: E402
from training_charts import draw_costs, draw_stages  # noqa: E402

from srn_tf.commands import cli  # noqa: E402
from srn_tf.errors import InputError  # noqa: E402
from srn_tf.files import write_json  # noqa: E402
from srn_tf.pictures import save_png  # noqa: E402
from srn_tf.runs.work_dir import code_version  # noqa: E402

FLAGS = flags.FLAGS
PARTS = ("stages", "costs", "profile")
STAGES = ("cls", "att", "sr", "all")
FROZEN_TRUNK = ("att", "sr")
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
OURS, PEER = "TensorFlow", "PyTorch"
REFERENCE = f"{PEER} float32"
BASE = {"labels": 80, "side_px": 224, "batch": 8, "devices": 1}
# What the costs are measured at: the base, and other values of one of its entries.
OTHERS = {"labels": (14, 500, 5000), "side_px": (128, 320), "batch": (2, 16), "devices": (2,)}
AT_ONCE = 3  # processes of the costs that hold memory at a time
COMPARED_STEPS = 2
PROFILED_STAGE = "cls"
# What operations of either library do -> what their names hold, in lower case; the first that fits counts.
KINDS = {
    "gradients of convolutions": ("backprop", "convolution_backward"),
    "convolutions": ("conv2d", "mkldnn_convolution"),
    "gradients of BatchNorms": ("batchnormgrad", "batch_norm_backward"),
    "BatchNorms (TensorFlow: with ReLU)": ("batchnorm", "batch_norm"),
}


def main(_):
    cli.make_output_dir("output_dir", FLAGS.output_dir)
    unknown = sorted(set(FLAGS.parts) - set(PARTS))
    if unknown:
        raise InputError(f"--parts must be among {', '.join(PARTS)}. Received: {unknown[0]}.")
    result = {"machine": machine(), "commit": code_version()}
    result |= {name: FLAGS[name].value for name in ("threads", "rounds", "steps")}
    texts = [f"{result['machine']}; {FLAGS.threads} threads; commit {result['commit']}."]
    try:
        if "stages" in FLAGS.parts:
            result["stages"] = measure_stages()
            texts.append(stages_table(result["stages"]))
            save_png(draw_stages(result["stages"], REFERENCE), os.path.join(FLAGS.output_dir, "stages.png"))
        if "costs" in FLAGS.parts:
            result["costs"] = measure_costs()
            texts.append(costs_table(result["costs"]))
            save_png(draw_costs(result["costs"], BASE), os.path.join(FLAGS.output_dir, "costs.png"))
        if "profile" in FLAGS.parts:
            result["profile"] = measure_profile()
            texts.append(profile_table(result["profile"]))
    except EngineError as error:
        raise InputError(str(error)) from error
    text = "\n\n".join(texts)
    write_json(os.path.join(FLAGS.output_dir, "training.json"), result)
    with open(os.path.join(FLAGS.output_dir, "training.md"), "w", encoding="utf-8") as file:
        file.write(text + "\n")
    print(text)


def measure_stages():
    """Rows of the first table: a dict for each stage and engine."""
    folder = write_batch_and_weights()
    return [row for stage in STAGES for row in measure_stage(folder, stage)]


def write_batch_and_weights():
    """Writes the batch and the weights that all engines share; returns their folder."""
    folder = write_batch(BASE)
    weights = os.path.join(folder, "weights.npz")
    if not os.path.isfile(weights):
        with start(OURS, folder, "all", "float32") as engine:
            engine.ask("save_weights", weights)
    return folder


def measure_stage(folder, stage):
    with contextlib.ExitStack() as stack:
        engines = {
            f"{engine} {short}": stack.enter_context(start(engine, folder, stage, precision))
            for short, precision in PRECISIONS.items()
            if short in FLAGS.precisions
            for engine in (OURS, PEER)
        }
        losses = warm_up(engines)
        counts = engines[f"{OURS} float32"].ask("multiply_adds")
        # engine -> what was timed -> a list for each round of [wall, processor] seconds
        timed = {name: {"step": [], "product": [], "trunk": []} for name in engines}
        for _ in range(FLAGS.rounds):
            for name, engine in engines.items():
                timed[name]["step"].append(engine.ask("step", FLAGS.steps))
                timed[name]["product"].append(engine.ask("product", 1))
                if name.startswith(OURS) and stage in FROZEN_TRUNK:
                    timed[name]["trunk"].append(engine.ask("trunk", FLAGS.steps))
        memory = {name: engine.ask("memory") for name, engine in engines.items()}
        versions = {name: engine.ask("version") for name, engine in engines.items()}
    rows = []
    for name, times in timed.items():
        step_s = median_s(times["step"])
        # What the machine can do in this precision is what the faster of the two libraries does.
        short = name.split()[-1]
        product_s = min(median_s(timed[f"{engine} {short}"]["product"]) for engine in (OURS, PEER))
        rate = 2 * counts["step"] * BASE["batch"] / step_s
        rows.append(
            {
                "stage": stage,
                "engine": name,
                "version": versions[name],
                "step_s": step_s,
                "step_cpu_s": median_s(times["step"], place=1),
                "times_reference": ratio(timed[REFERENCE]["step"], times["step"]),
                "times_trunk": ratio(times["step"], times["trunk"]) if times["trunk"] else None,
                "flop_per_s": rate,
                "of_product": rate / (2 * counts["product"] / product_s),
                "memory_bytes": memory[name],
                "losses": losses[name],
                "losses_apart": [abs(a / b - 1) for a, b in zip(losses[name], losses[REFERENCE], strict=True)],
                "multiply_adds": counts,
                "seconds": times,
            }
        )
    return rows


def measure_costs():
    """Rows of the second table: a dict for each place."""
    places = [BASE, *({**BASE, name: value} for name, values in OTHERS.items() for value in values)]
    rows = []
    for first in range(0, len(places), AT_ONCE):
        with contextlib.ExitStack() as stack:
            engines = {}
            for place in places[first : first + AT_ONCE]:
                engine = start(OURS, write_batch(place), "all", "float32", place["devices"])
                engines[tuple(place.values())] = stack.enter_context(engine)
            warm_up(engines)
            times = {place: [] for place in engines}
            for _ in range(FLAGS.rounds):
                for place, engine in engines.items():
                    times[place].append(engine.ask("step", FLAGS.steps))
            for place, engine in engines.items():
                place_row = dict(zip(BASE, place, strict=True))
                cost = {"step_s": median_s(times[place]), "memory_bytes": engine.ask("memory"), "seconds": times[place]}
                rows.append({**place_row, **cost})
    return rows


def measure_profile():
    """Engine -> what operations do -> median milliseconds of a step; "all" is the whole step, "else" what is left."""
    folder = write_batch_and_weights()
    with contextlib.ExitStack() as stack:
        with_one = {"TF_NUM_INTEROP_THREADS": "1"}  # TensorFlow's operations take turns, as PyTorch's do
        engines = {
            name: stack.enter_context(start(name, folder, PROFILED_STAGE, "float32", environment=with_one))
            for name in (OURS, PEER)
        }
        warm_up(engines)
        profiles = {name: [] for name in engines}
        for _ in range(FLAGS.rounds):
            for name, engine in engines.items():
                profiles[name].append(_by_kind(engine.ask("profile", FLAGS.steps)))
    return {
        name: {kind: statistics.median(one[kind] for one in found) for kind in found[0]}
        for name, found in profiles.items()
    }


def _by_kind(operations):
    """Milliseconds of `KINDS`, of operation -> milliseconds, where "all" is the whole."""
    sums = dict.fromkeys(KINDS, 0.0)
    for name, ms in operations.items():
        kind = next((kind for kind, parts in KINDS.items() if any(part in name.lower() for part in parts)), None)
        if kind:
            sums[kind] += ms
    return {**sums, "else": operations["all"] - sum(sums.values()), "all": operations["all"]}


def write_batch(place):
    """Writes a batch of random images and labels for a place; returns its folder."""
    labels, side_px, batch = place["labels"], place["side_px"], place["batch"]
    folder = os.path.join(os.path.abspath(FLAGS.output_dir), f"{labels}_labels_{side_px}_px_batch_{batch}")
    os.makedirs(folder, exist_ok=True)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (batch, side_px, side_px, 3)).astype(np.float32)
    y = (rng.random((batch, labels)) < 3 / labels).astype(np.float32)  # three labels an image, as in COCO
    np.savez(os.path.join(folder, "batch.npz"), image=image, y=y)
    return folder


def start(engine, folder, stage, precision, devices=1, environment=()):
    """Starts an engine; it can be asked at once."""
    here = os.path.join(ROOT, "benchmarks")
    if engine == OURS:
        command = [sys.executable, os.path.join(here, "training_tensorflow.py")]
    else:
        command = [FLAGS.peer_python, os.path.join(here, "peers", "training_torch.py")]
    settings = [folder, stage, precision, str(FLAGS.threads), str(devices)]
    return Engine(f"{engine} {stage} {precision}", [*command, *settings], FLAGS.threads, environment)


def warm_up(engines):
    """Lets engines trace, compile and allocate, all at once; returns the losses of the first steps of each."""
    with ThreadPoolExecutor() as threads:
        losses = threads.map(lambda engine: engine.ask("losses", COMPARED_STEPS), engines.values())
    return dict(zip(engines, losses, strict=True))


def median_s(rounds, place=0):
    """Median of all times; place 0 is the wall's, 1 the processor's."""
    return statistics.median(times[place] for turn in rounds for times in turn)


def ratio(rounds, others):
    """Median over rounds of the median time of the one divided by that of the other."""
    return statistics.median(median_s([a]) / median_s([b]) for a, b in zip(rounds, others, strict=True))


def stages_table(rows):
    cells = [
        [
            row["stage"],
            row["version"],
            f"{1000 * row['step_s']:.0f}",
            f"{BASE['batch'] / row['step_s']:.1f}",
            f"{row['times_reference']:.2f}",
            f"{row['times_trunk']:.2f}" if row["times_trunk"] else "",
            f"{row['flop_per_s'] / 1e9:.0f}",
            f"{100 * row['of_product']:.0f} %",
            f"{row['memory_bytes'] / 1e9:.1f}",
            f"{row['losses_apart'][0]:.0e}, {row['losses_apart'][-1]:.0e}",
        ]
        for row in rows
    ]
    headers = ["stage", "engine", "ms a step", "images/s", f"x {REFERENCE}", "step / trunk's forward", "GFLOP/s"]
    headers += ["of a matrix product", "memory, GB", f"losses apart, step 1, {COMPARED_STEPS}"]
    return tabulate(cells, headers, tablefmt="github", disable_numparse=True)


def costs_table(rows):
    cells = [
        [
            *(str(row[name]) for name in BASE),
            f"{1000 * row['step_s']:.0f}",
            f"{row['batch'] / row['step_s']:.1f}",
            f"{row['memory_bytes'] / 1e9:.1f}",
        ]
        for row in rows
    ]
    headers = ["labels", "image, pixels", "batch", "logical devices", "ms a step", "images/s", "memory, GB"]
    return tabulate(cells, headers, tablefmt="github", disable_numparse=True)


def profile_table(profiles):
    """Milliseconds of each kind of operation, the engines beside each other."""
    kinds = next(iter(profiles.values()))
    cells = [[kind, *(f"{profile[kind]:.0f}" for profile in profiles.values())] for kind in kinds]
    return tabulate(cells, [f"ms of a step of {PROFILED_STAGE}", *profiles], tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    flags.DEFINE_string("output_dir", None, "Folder for the tables and charts.", required=True)
    flags.DEFINE_string("peer_python", None, "Python in which PyTorch is installed.", required=True)
    flags.DEFINE_list("parts", list(PARTS), f"What to measure, of {', '.join(PARTS)}.")
    flags.DEFINE_multi_enum(
        "precisions",
        list(PRECISIONS),
        list(PRECISIONS),
        "Precisions of the stages. Leave bfloat16 out where the processor lacks it: it is slow there.",
    )
    flags.DEFINE_integer("threads", 2, "Threads of every engine.", 1)
    flags.DEFINE_integer("rounds", 5, "How often each engine has its turn.", 1)
    flags.DEFINE_integer("steps", 1, "Steps a turn.", 1)
    cli.run(main, __doc__)
