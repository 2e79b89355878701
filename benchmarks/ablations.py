"""What each ingredient of a recipe adds: flagfiles as they are, and with one ingredient changed at a time.

python benchmarks/ablations.py --data_dir=DATA --output_dir=OUT [--configs=photos_main_net,photos_srn] [--seeds=0,1,2]
    [--ingredients=NAME,...] [FLAG...]

Trains each flagfile of --configs (of configs/, without ending) as it is, then with the flags of each ingredient of
INGREDIENTS, for every seed; a finished run is not trained again. Writes OUT/ablations.md and .json: mAP, F1-C and F1-O
on the test split, and the difference of mAP to the flagfile's runs of the same seeds with its bootstrap interval.
"today" is all that today's recipes share, "paper" SRN's own. Any FLAG goes to every run, such as -- --image_size=224
--backbone_weights=FILE. Ingredients for stored features (--cache=features) are tried by default; those of MIXED need
the images in every epoch, are compared with "fresh crops" and are run where --ingredients names them.
"""

import os

from absl import flags
from method_runs import (  # first: it makes the project importable
    answer_of,
    check_one_of,
    flagfile,
    map_difference,
    spread,
    train_once,
    whole_numbers,
)
from tabulate import tabulate

from srn_tf.commands import cli
from srn_tf.files import write_json
from srn_tf.runs.work_dir import WorkDir

FLAGS = flags.FLAGS


def _augmented(*names):
    """The flags of a list of augmentations, which also say that a crop or mirror of the flagfile is not among them."""
    return (f"--augment={','.join(names)}", *(f"--no{name}" for name in ("crops", "mirror") if name not in names))


BASE = "base"
INGREDIENTS = {  # name -> (what it is, flags)
    BASE: ("the flagfile", ()),
    "plain": ("whole images, never mirrored", (*_augmented("resize"), "--fixed_crops=1")),
    "resized_crop": ("random resized crops", _augmented("random_resized_crop", "mirror")),
    "multi_scale": ("multi-scale crops", _augmented("multi_scale_crop", "mirror")),
    "jitter": ("+ colour jitter", _augmented("crops", "mirror", "colour_jitter")),
    "randaugment": ("+ RandAugment", _augmented("crops", "mirror", "randaugment")),
    "cutout": ("+ Cutout", _augmented("crops", "mirror", "cutout")),
    "smoothing": ("+ label smoothing", _augmented("crops", "mirror", "label_smoothing")),
    "asymmetric": ("asymmetric loss", ("--loss=asymmetric",)),
    "one_cycle": ("one cycle of the rate", ("--schedule=one_cycle",)),
    "average": ("averages of the weights, better kept", ("--ema_decay=0.99",)),
    "matrices": ("decay of matrices alone", ("--decayed_weights=matrices",)),
    "repeat": ("rare labels repeated", ("--repeat_threshold=0.1",)),
    "today": (
        "all of today's: asymmetric loss, RandAugment, Cutout, one cycle, averages, decay of matrices",
        (
            *_augmented("crops", "mirror", "randaugment", "cutout"),
            "--loss=asymmetric",
            "--schedule=one_cycle",
            "--ema_decay=0.99",
            "--decayed_weights=matrices",
        ),
    ),
    "paper": (
        "all of SRN's paper: SGD with momentum, a tenth of the rate where validation stands still, no mirror",
        (flagfile("photos_paper"),),
    ),
}
FRESH = "fresh"
_NOT_STORED = ("--cache=decoded", "--fixed_crops=0")
MIXED = {
    FRESH: ("fresh crops in every epoch", _NOT_STORED),
    "mixup": ("+ Mixup", (*_NOT_STORED, *_augmented("crops", "mirror", "mixup"))),
    "cutmix": ("+ CutMix", (*_NOT_STORED, *_augmented("crops", "mirror", "cutmix"))),
    "splicemix": ("+ SpliceMix", (*_NOT_STORED, *_augmented("crops", "mirror", "splicemix"))),
}
METRICS = ("mAP", "F1-C", "F1-O")


def main(arguments):
    known = {**INGREDIENTS, **MIXED}
    check_one_of("ingredients", FLAGS.ingredients, known)
    seeds = whole_numbers("seeds", FLAGS.seeds)
    names = [name for name in known if name in FLAGS.ingredients]
    names = [*dict.fromkeys((BASE, *((FRESH,) if set(names) & set(MIXED) else ()), *names))]
    rows = []
    for config in FLAGS.configs:
        for name in names:
            for seed in seeds:
                own = (*known[name][1], *arguments)
                train_once(_folder(config, name, seed), config, FLAGS.data_dir, seed, *own)
            rows.append({"config": config, "ingredient": name, **_measured(config, name, seeds)})
            write_json(
                os.path.join(FLAGS.output_dir, "ablations.json"), {"seeds": seeds, "flags": arguments, "rows": rows}
            )
    heads = ["flagfile", "test, mean (lowest to highest seed)", *METRICS, "mAP minus base, 95 %"]
    cells = [
        [row["config"], known[row["ingredient"]][0], *(spread(row[metric]) for metric in METRICS), row["difference"]]
        for row in rows
    ]
    text = tabulate(cells, heads, tablefmt="github", disable_numparse=True)
    with open(os.path.join(FLAGS.output_dir, "ablations.md"), "w", encoding="utf-8") as file:
        file.write(text + "\n")
    print(text)


def _measured(config, name, seeds):
    """Each metric of every seed, and the difference of mAP to the base's runs as text."""
    folders = [_folder(config, name, seed) for seed in seeds]
    answers = [answer_of(folder) for folder in folders]
    bases = [_folder(config, FRESH if name in MIXED else BASE, seed) for seed in seeds]
    difference = ""
    if folders != bases:
        has_it = WorkDir(folders[0]).read_flags() == WorkDir(bases[0]).read_flags()
        difference = "the same flags" if has_it else map_difference(bases, folders, FLAGS.bootstrap)
    return {**{metric: [answer[metric] for answer in answers] for metric in METRICS}, "difference": difference}


def _folder(config, name, seed):
    return os.path.join(FLAGS.output_dir, f"{config}_{name}_{seed}")


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "Folder of the data set: prepared, or in its official layout.", required=True)
    flags.DEFINE_string("output_dir", None, "Folder for the runs and the table.", required=True)
    flags.DEFINE_list("configs", "photos_main_net,photos_srn", "Flagfiles of configs/, without ending.")
    flags.DEFINE_list("seeds", "0,1,2", "Seeds.")
    flags.DEFINE_list("ingredients", ",".join(INGREDIENTS), "What is tried, besides the flagfile as it is.")
    flags.DEFINE_integer("bootstrap", 1000, "Resamples of the test images.", 100)
    cli.run(main, __doc__, takes_arguments=True)
