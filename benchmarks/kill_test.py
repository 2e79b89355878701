"""Kills training runs at random moments and continues them: do they end where an undisturbed run ends?

python benchmarks/kill_test.py --data_dir=DATA --output_dir=OUT [--runs=20] [--jobs=2] [--seed=0]

Trains SRN on the embedded data set scenes through its four stages with configs/scenes.flags, --deterministic and fewer
epochs, once undisturbed and then --runs times. Each of those is killed (SIGKILL) at a random moment of a random stage,
every third a second time, and continued with the same command. Weights of every stage, the log without its timings,
and metrics.json must equal the undisturbed run's, bit by bit. Prints, and writes to OUT/kill_test.md and
OUT/kill_test.json, what was killed where; the status is 1 if anything differs.
"""

import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from absl import flags  # noqa: E402
from tabulate import tabulate  # noqa: E402
from tqdm import tqdm  # noqa: E402

from srn_tf.commands import cli  # noqa: E402
from srn_tf.errors import InputError  # noqa: E402

FLAGS = flags.FLAGS
STAGES = ("cls", "att", "sr", "all")
_STAGE_LINE = re.compile(r"Stage (\w+) \(\d of \d\)")


def main(_):
    from srn_tf.files import write_json

    cli.make_output_dir("output_dir", FLAGS.output_dir)
    reference = os.path.join(FLAGS.output_dir, "undisturbed")
    starts = train(reference)
    if starts["status"] != 0:
        raise InputError(f"The undisturbed run failed with status {starts['status']}: see {reference}.txt.")
    begun = [starts[stage] for stage in STAGES]
    seconds = dict(zip(STAGES, (b - a for a, b in zip(begun, [*begun[1:], starts["end"]]))))
    plans = make_plans(random.Random(FLAGS.seed), seconds)
    with ThreadPoolExecutor(FLAGS.jobs) as pool:
        runs = pool.map(lambda plan: one_run(reference, *plan), enumerate(plans))
        rows = list(tqdm(runs, "runs", total=len(plans), unit="run", disable=None))
    is_good = all(row["differences"] == "none" for row in rows)
    kills = sum(len(row["killed in"]) for row in rows)
    table = tabulate([{**row, "killed in": ", ".join(row["killed in"])} for row in rows], "keys", tablefmt="github")
    verdict = "all equal" if is_good else "NOT all equal"
    summary = f"{len(rows)} runs, killed {kills} times: {verdict} to the undisturbed one."
    write_json(os.path.join(FLAGS.output_dir, "kill_test.json"), {"seconds": seconds, "summary": summary, "rows": rows})
    with open(os.path.join(FLAGS.output_dir, "kill_test.md"), "w", encoding="utf-8") as file:
        file.write(f"{summary}\n\n{table}\n")
    print(f"{table}\n\n{summary}")
    sys.exit(0 if is_good else 1)


def make_plans(rng, seconds):
    """For every run the moments at which it is killed, one after the other: (stage, seconds after the stage began)."""
    plans = []
    for index in range(FLAGS.runs):
        stages = sorted(rng.choices(STAGES, k=2 if index % 3 == 0 else 1), key=STAGES.index)
        plans.append([(stage, rng.uniform(0.0, seconds[stage])) for stage in stages])
    return plans


def one_run(reference, index, plan):
    """Kills and continues one run; a row of the table."""
    folder = os.path.join(FLAGS.output_dir, f"killed_{index:02d}")
    killed = []
    for stage, after_s in plan:
        if train(folder, stage, after_s)["status"] == -9:
            killed.append(f"{stage} + {after_s:.1f} s")
    done = train(folder)
    differences = compare(reference, folder) if done["status"] == 0 else [f"status {done['status']}"]
    return {"run": index, "killed in": killed, "differences": ", ".join(differences) or "none"}


def train(folder, kill_stage=None, after_s=0.0):
    """Starts the training command and lets it end, or kills it.

    Args:
        folder: work folder; what the program prints is appended to <folder>.txt.
        kill_stage: the stage in which, or soon after which, it is killed; None lets it end.
        after_s: seconds after that stage's beginning.
    Returns:
        dict: "status" of the process, -9 if it was killed; each stage's and the "end"'s second since the start.
    """
    command = [sys.executable, os.path.join(ROOT, "tools", "train.py")]
    command += [f"--flagfile={os.path.join(ROOT, 'configs', 'scenes.flags')}", "--deterministic"]
    command += [f"--data_dir={FLAGS.data_dir}", f"--work_dir={folder}", f"--epochs={FLAGS.epochs}"]
    command += [f"--checkpoint_every_s={FLAGS.checkpoint_every_s}", "--keep_checkpoints=2"]
    begun_s = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    times, timer = {}, None
    with open(f"{folder}.txt", "a", encoding="utf-8", buffering=1) as file:
        for line in process.stdout:
            file.write(line)
            found = _STAGE_LINE.match(line)
            if found:
                times[found[1]] = time.monotonic() - begun_s
                is_there = kill_stage and STAGES.index(found[1]) >= STAGES.index(kill_stage)
                if is_there and timer is None:
                    timer = threading.Timer(after_s, process.kill)
                    timer.start()
            elif line.startswith("Stage all ends"):
                times["end"] = time.monotonic() - begun_s
    if timer:
        timer.cancel()
    return {**times, "status": process.wait()}


def compare(reference, folder):
    """Names what differs between two finished runs."""
    import numpy as np

    differences = []
    for name in (*STAGES, "final"):
        one, other = (np.load(os.path.join(run, "checkpoints", f"{name}.npz")) for run in (reference, folder))
        with one, other:
            if one.files != other.files or any(one[key].tobytes() != other[key].tobytes() for key in one.files):
                differences.append(f"weights of {name}")
    if _log(reference) != _log(folder):
        differences.append("log.jsonl")
    texts = []
    for run in (reference, folder):
        with open(os.path.join(run, "metrics.json"), encoding="utf-8") as file:
            texts.append(file.read())
    if texts[0] != texts[1]:
        differences.append("metrics.json")
    return differences


def _log(folder):
    with open(os.path.join(folder, "log.jsonl"), encoding="utf-8") as file:
        return [{key: value for key, value in json.loads(line).items() if key != "speed"} for line in file]


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "Folder with the data set scenes, prepared.", required=True)
    flags.DEFINE_string("output_dir", None, "Folder for the runs and the report.", required=True)
    flags.DEFINE_integer("runs", 20, "Runs that are killed.", 1)
    flags.DEFINE_integer("jobs", 2, "Runs at a time.", 1)
    flags.DEFINE_integer("seed", 0, "Decides when they are killed.")
    flags.DEFINE_string("epochs", "2,1,1,2", "As of tools/train.py.")
    flags.DEFINE_float("checkpoint_every_s", 2.0, "As of tools/train.py.", 0.0)
    cli.run(main, __doc__)
