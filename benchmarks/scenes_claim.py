"""The paper's claim on scenes: SRN against its main net alone, same epochs, same schedule, several seeds.

python benchmarks/scenes_claim.py --data_dir=DATA --output_dir=OUT [--seeds=0,1,2]

Trains configs/scenes.flags and configs/scenes_main_net.flags once a seed (a finished run is not trained again) and
writes OUT/scenes_claim.json and OUT/scenes_claim.md: test mAP over all labels, over those whose shape decides and over
those whose position decides.
"""

import json
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [ROOT, os.path.join(ROOT, "tools")]

import cli  # noqa: E402
from absl import flags  # noqa: E402
from tabulate import tabulate  # noqa: E402

from srn_tf.data.scene_drawing import APPEARANCE_LABELS, LABELS, POSITION_LABELS  # noqa: E402
from srn_tf.errors import InputError  # noqa: E402
from srn_tf.evaluation.report import write_json  # noqa: E402

FLAGS = flags.FLAGS

GROUPS = {"all 16": LABELS, f"shape ({len(APPEARANCE_LABELS)})": APPEARANCE_LABELS}
GROUPS[f"position ({len(POSITION_LABELS)})"] = POSITION_LABELS
# Row -> (flagfile, output)
ROWS = {
    "main net alone, y_cls": ("scenes_main_net", "y_cls"),
    "SRN, y_hat": ("scenes", "y_hat"),
    "SRN, y_cls": ("scenes", "y_cls"),
    "SRN, y_att": ("scenes", "y_att"),
    "SRN, y_sr": ("scenes", "y_sr"),
}


def main(_):
    seeds = [int(seed) for seed in FLAGS.seeds]
    runs = {(config, seed): _run(config, seed) for seed in seeds for config in ("scenes", "scenes_main_net")}
    values = {
        row: {
            group: [_mean_ap(runs[config, seed], output, labels) for seed in seeds] for group, labels in GROUPS.items()
        }
        for row, (config, output) in ROWS.items()
    }
    best, baseline = values["SRN, y_hat"], values["main net alone, y_cls"]
    gains = {group: [a - b for a, b in zip(best[group], baseline[group])] for group in GROUPS}
    rows = [[row, *(_spread(numbers[group]) for group in GROUPS)] for row, numbers in values.items()]
    rows.append(["gain of y_hat over the main net alone", *(_spread(gains[group]) for group in GROUPS)])
    table = tabulate(rows, ["test mAP, mean (lowest to highest seed)", *GROUPS], tablefmt="github")
    write_json(os.path.join(FLAGS.output_dir, "scenes_claim.json"), {"seeds": seeds, "mAP": values, "gain": gains})
    with open(os.path.join(FLAGS.output_dir, "scenes_claim.md"), "w", encoding="utf-8") as file:
        file.write(table + "\n")
    print(table)


def _run(config, seed):
    """Trains one run in a process of its own and returns its metrics."""
    work_dir = os.path.join(FLAGS.output_dir, f"{config}_{seed}")
    command = [
        sys.executable,
        os.path.join(ROOT, "tools", "train.py"),
        f"--flagfile={os.path.join(ROOT, 'configs', config)}.flags",
        f"--data_dir={FLAGS.data_dir}",
        f"--work_dir={work_dir}",
        f"--seed={seed}",
    ]
    if subprocess.run(command).returncode:
        raise InputError(f"The run in {work_dir} failed; its message is above.")
    with open(os.path.join(work_dir, "metrics.json"), encoding="utf-8") as file:
        return json.load(file)


def _mean_ap(metrics, output, labels):
    ap = dict(zip(metrics["labels"], metrics["outputs"][output]["AP"]))
    return statistics.mean(ap[label] for label in labels)


def _spread(numbers):
    return f"{statistics.mean(numbers):.1f} ({min(numbers):.1f} to {max(numbers):.1f})"


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "Folder of the data set; drawn there on first use.", required=True)
    flags.DEFINE_string("output_dir", None, "Folder for the runs and the table.", required=True)
    flags.DEFINE_list("seeds", "0,1,2", "Seeds.")
    cli.run(main, __doc__)
