"""Partial labels: what each treatment of unspecified labels makes of 10, 50 and 100 % of the training labels.

python benchmarks/partial_labels.py --data_dir=DATA --output_dir=OUT [--shares=10,50,100] [--seeds=0,1,2]
    [--modes=ignore,negative] [--config=photos_main_net] [FLAG...]

Trains configs/<config>.flags once for every row of MODES, share and seed (a finished run is not trained again; features
of a frozen trunk are made once for all). Training labels are dropped at random (--drop_labels=rps:P), the same of all
modes; validation and test keep all. selective takes its prior from the run that ignores, at the same share and seed.
At 100 % nothing is unspecified: modes with the same loss are one run. Writes OUT/partial_labels.md and .json: mAP, F1-C
and F1-O on the test split. And for every share below 100 OUT/compare_<share>/, what tools/compare.py says of its runs:
each mode's difference to the first one with its bootstrap interval. Any FLAG goes to every run, such as
-- --image_size=224 --backbone_weights=FILE.
"""

import os

from absl import flags
from method_runs import answer_of, call, check_one_of, spread, train_once, whole_numbers  # first: finds the project
from tabulate import tabulate

from srn_tf.commands import cli
from srn_tf.errors import InputError
from srn_tf.files import write_json

FLAGS = flags.FLAGS

MODES = {  # mode -> (title, --unspecified, the loss's flags)
    "ignore": ("ignore, sigmoid", "ignore", ()),
    "normalize": ("normalize, sigmoid", "normalize", ()),
    "negative": ("negative, sigmoid", "negative", ()),
    "negative_asl": ("negative, ASL", "negative", ("--loss=asymmetric",)),
    "selective": ("selective, ASL with exponents 1 and 4", "selective", ("--loss=asymmetric", "--asl_gamma_neg=1")),
}
METRICS = ("mAP", "F1-C", "F1-O")
WHOLE = 100  # percent


def main(arguments):
    check_one_of("modes", FLAGS.modes, MODES)
    shares, seeds = whole_numbers("shares", FLAGS.shares, WHOLE, lowest=1), whole_numbers("seeds", FLAGS.seeds)
    if "selective" in FLAGS.modes and "ignore" not in FLAGS.modes:
        raise InputError("Mode selective needs the runs of mode ignore. Received: --modes without it. Add ignore.")
    modes = sorted(FLAGS.modes, key=list(MODES).index)  # ignore comes before selective, which reads its predictions
    runs = {}  # (mode, share, seed) -> folder
    for seed in seeds:
        for share in shares:
            for mode in modes:
                runs[mode, share, seed] = _train(mode, share, seed, arguments)
    metrics = {key: answer_of(folder) for key, folder in runs.items()}
    tables = []
    for metric in METRICS:
        rows = [
            [MODES[mode][0], *(spread([metrics[mode, share, seed][metric] for seed in seeds]) for share in shares)]
            for mode in modes
        ]
        heads = [f"test {metric}, mean (lowest to highest seed)", *(f"{share} % of the labels" for share in shares)]
        tables.append(tabulate(rows, heads, tablefmt="github", disable_numparse=True))
    text = "\n\n".join(tables)
    with open(os.path.join(FLAGS.output_dir, "partial_labels.md"), "w", encoding="utf-8") as file:
        file.write(text + "\n")
    rows = [{"mode": mode, "share": share, "seed": seed, **values} for (mode, share, seed), values in metrics.items()]
    write_json(os.path.join(FLAGS.output_dir, "partial_labels.json"), {"flags": arguments, "runs": rows})
    print(text)
    for share in shares:
        if share < WHOLE and len(modes) > 1:
            folders = [runs[mode, share, seed] for mode in modes for seed in seeds]
            call("compare", f"--output={os.path.join(FLAGS.output_dir, f'compare_{share}')}", *folders)


def _train(mode, share, seed, arguments):
    """Trains one run, unless that is done; returns its folder."""
    _, unspecified, own = MODES[mode]
    if share == WHOLE:  # the first mode with this loss stands for all
        mode = next(name for name, (_, _, of_name) in MODES.items() if of_name == own)
    else:
        own = (*own, f"--unspecified={unspecified}", f"--drop_labels=rps:{1 - share / WHOLE:g}")
    folder = _folder(mode, share, seed)
    if unspecified == "selective" and share < WHOLE:
        own = (*own, f"--selective_prior={_folder('ignore', share, seed)}")
    train_once(folder, FLAGS.config, FLAGS.data_dir, seed, *own, *arguments)
    return folder


def _folder(mode, share, seed):
    return os.path.join(FLAGS.output_dir, f"{mode}_{share}_{seed}")


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "Folder of the data set: prepared, or in its official layout.", required=True)
    flags.DEFINE_string("output_dir", None, "Folder for the runs and the tables.", required=True)
    flags.DEFINE_list("shares", "10,50,100", "Shares of the training labels that are kept, percent.")
    flags.DEFINE_list("seeds", "0,1,2", "Seeds.")
    flags.DEFINE_list("modes", ",".join(MODES), "Treatments; selective needs ignore.")
    flags.DEFINE_string("config", "photos_main_net", "Flagfile of configs/, without ending.")
    cli.run(main, __doc__, takes_arguments=True)
