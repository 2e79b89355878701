"""The paper's models on scenes: SRN, SRN-att and the three baselines, same epochs, same schedule, several seeds.

python benchmarks/scenes_table.py --data_dir=DATA --output_dir=OUT [--seeds=0,1,2]

Trains configs/scenes*.flags once a seed (a finished run is not trained again) and writes OUT/scenes_table.md and .json,
test mAP over all labels, over those whose shape decides and over those whose position decides; and OUT/compare/, what
tools/compare.py says of the runs: the paper's table, and every model's difference to SRN with its bootstrap interval.
"""

import os

from absl import flags
from method_runs import MethodRuns, mean_ap, spread  # first: it makes the project importable
from tabulate import tabulate

from srn_tf.commands import cli
from srn_tf.data.scene_drawing import APPEARANCE_LABELS, LABELS, POSITION_LABELS
from srn_tf.files import write_json

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
    runs = MethodRuns(FLAGS.output_dir, FLAGS.data_dir, CONFIGS, seeds)
    metrics = runs.train()
    values = {
        row: {
            group: [mean_ap(metrics[config, seed], output, labels) for seed in seeds]
            for group, labels in GROUPS.items()
        }
        for row, (config, output) in ROWS.items()
    }
    rows = [[row, *(spread(numbers[group]) for group in GROUPS)] for row, numbers in values.items()]
    table = tabulate(rows, ["test mAP, mean (lowest to highest seed)", *GROUPS], tablefmt="github")
    write_json(os.path.join(FLAGS.output_dir, "scenes_table.json"), {"seeds": seeds, "mAP": values})
    with open(os.path.join(FLAGS.output_dir, "scenes_table.md"), "w", encoding="utf-8") as file:
        file.write(table + "\n")
    print(table)
    runs.compare()


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "Folder of the data set; drawn there on first use.", required=True)
    flags.DEFINE_string("output_dir", None, "Folder for the runs and the table.", required=True)
    flags.DEFINE_list("seeds", "0,1,2", "Seeds.")
    cli.run(main, __doc__)
