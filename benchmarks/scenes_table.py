"""The paper's models on scenes: SRN, SRN-att and the three baselines, same epochs, same schedule, several seeds.

python benchmarks/scenes_table.py --data_dir=DATA --output_dir=OUT [--seeds=0,1,2]

Trains configs/scenes*.flags once a seed (a finished run is not trained again) and writes OUT/scenes_table.md and .json,
test mAP over all labels, over those whose shape decides and over those whose position decides; and OUT/compare/, what
tools/compare.py says of the runs: the paper's table, and every model's difference to SRN with its bootstrap interval.
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
from srn_tf.files import write_json  # noqa: E402

FLAGS = flags.FLAGS

GROUPS = {"all 16": LABELS, f"shape ({len(APPEARANCE_LABELS)})": APPEARANCE_LABELS}
GROUPS[f"position ({len(POSITION_LABELS)})"] = POSITION_LABELS
# SRN first: the others are compared with it.
CONFIGS = ("scenes", "scenes_srn_att", "scenes_main_net", "scenes_resnet107", "scenes_semantic")
# Row -> (flagfile, output)
ROWS = {
    "SRN, y_hat": ("scenes", "y_hat"),
    "SRN-att, y_hat": ("scenes_srn_att", "y_hat"),
    "main net alone": ("scenes_main_net", "y_cls"),
    "ResNet-107's two blocks more": ("scenes_resnet107", "y_cls"),
    "semantic, y_hat": ("scenes_semantic", "y_hat"),
    "inside SRN: y_cls": ("scenes", "y_cls"),
    "inside SRN: y_att": ("scenes", "y_att"),
    "inside SRN: y_sr": ("scenes", "y_sr"),
}


def main(_):
    seeds = [int(seed) for seed in FLAGS.seeds]
    runs = {(config, seed): _run(config, seed) for seed in seeds for config in CONFIGS}
    values = {
        row: {
            group: [_mean_ap(runs[config, seed], output, labels) for seed in seeds] for group, labels in GROUPS.items()
        }
        for row, (config, output) in ROWS.items()
    }
    rows = [[row, *(_spread(numbers[group]) for group in GROUPS)] for row, numbers in values.items()]
    table = tabulate(rows, ["test mAP, mean (lowest to highest seed)", *GROUPS], tablefmt="github")
    write_json(os.path.join(FLAGS.output_dir, "scenes_table.json"), {"seeds": seeds, "mAP": values})
    with open(os.path.join(FLAGS.output_dir, "scenes_table.md"), "w", encoding="utf-8") as file:
        file.write(table + "\n")
    print(table)
    folders = [_work_dir(config, seed) for config in CONFIGS for seed in seeds]
    _call("compare", f"--output={os.path.join(FLAGS.output_dir, 'compare')}", *folders)


def _run(config, seed):
    """Trains one run in a process of its own and returns its metrics."""
    work_dir = _work_dir(config, seed)
    flagfile = f"--flagfile={os.path.join(ROOT, 'configs', config)}.flags"
    _call("train", flagfile, f"--data_dir={FLAGS.data_dir}", f"--work_dir={work_dir}", f"--seed={seed}")
    with open(os.path.join(work_dir, "metrics.json"), encoding="utf-8") as file:
        return json.load(file)


def _work_dir(config, seed):
    return os.path.join(FLAGS.output_dir, f"{config}_{seed}")


def _call(tool, *arguments):
    if subprocess.run([sys.executable, os.path.join(ROOT, "tools", f"{tool}.py"), *arguments]).returncode:
        raise InputError(f"tools/{tool}.py failed; its message is above.")


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
