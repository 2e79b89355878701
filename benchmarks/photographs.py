"""The claim on photographs: SRN, SRN-att and the systems beside them on one pre-trained trunk, several seeds.

python benchmarks/photographs.py --data_dir=DATA --output_dir=OUT [--seeds=0,1,2] [--methods=main_net,srn] [--search]
    [--tuned] [FLAG...]

Trains configs/photos_<method>.flags once a seed (a finished run is not trained again; features of the frozen trunk are
made once for all). With --search every method has the same four trials with the first seed (SEARCH below), of which
validation mAP chooses. Writes OUT/photographs.md, .json and .png: mAP, F1-C, F1-O and pointing game on the test split
of every method's answer, and of SRN's others; training time; weights; images a second of what is served, the exports
asked in turn. And OUT/compare/, what tools/compare.py says of the runs: each method's difference to the main net with
its bootstrap interval. With --tuned, each run's network is then fine-tuned together with the method on it, by
configs/photos_tuned.flags: OUT/photographs_tuned.md has weights, images a second, the metrics, and the differences to
the first method's fine-tuned runs and to the method's own runs before. Any FLAG goes to every run, such as
-- --image_size=224 --backbone_weights=FILE.
"""

import json
import os
import statistics
import time

import numpy as np
from absl import flags
from matplotlib.figure import Figure
from method_runs import (  # first: it makes the project importable
    MethodRuns,
    answer_of,
    flagfile,
    flags_of,
    map_difference,
    spread,
    train_once,
)
from tabulate import tabulate

from srn_tf.commands import cli
from srn_tf.errors import InputError
from srn_tf.evaluation.predictions import load_predictions
from srn_tf.evaluation.protocols import evaluate, protocol_named
from srn_tf.files import write_json
from srn_tf.pictures import save_png
from srn_tf.runs.checkpoint import load_arrays

FLAGS = flags.FLAGS

METHODS = {
    "main_net": "main net",
    "resnet107": "ResNet-107's two blocks more",
    "semantic": "semantic",
    "srn_att": "SRN-att",
    "srn": "SRN",
    "cnn_rnn": "CNN-RNN",
    "ml_decoder": "ML-Decoder",
    "query2label": "Query2Label",
    "c_tran": "C-Tran",
    "csra": "CSRA",
    "ml_gcn": "ML-GCN",
    "add_gcn": "ADD-GCN",
    "msrn": "MSRN",
    "rlsd": "RLSD",
    "rlsd_ft_rpn": "RLSD+ft-RPN",
}
SEARCH = {
    "": (),
    "slow": ("rate*0.3",),
    "fast": ("rate*3",),
    "plain": ("--nocrops", "--nomirror", "--fixed_crops=1"),
}
TUNED = "photos_tuned"  # flagfile, after a method's own
NOT_TUNED = ("photos_cnn_rnn", "photos_rlsd")  # the stages of their flagfiles leave the network as it is
INSIDE = ("y_cls", "y_att", "y_sr")  # of SRN, beside its answer
METRICS = ("mAP", "F1-C", "F1-O")
COSTS = ("weights, M", "images/s")
NOTHING = [""] * (2 + len(COSTS))  # behind the metrics of what is inside a method
ROUNDS = 5  # in which every export is asked once
IMAGES = 64  # of a round


def check_methods(names):
    """Raises InputError for a name that is none of METHODS."""
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise InputError(f"--methods must be among {', '.join(METHODS)}. Received: {unknown[0]}.")


def main(arguments):
    check_methods(FLAGS.methods)
    seeds = [int(seed) for seed in FLAGS.seeds]
    configs = {f"photos_{method}": METHODS[method] for method in FLAGS.methods}
    if "rlsd" in FLAGS.methods and not FLAGS.rpn_run:
        raise InputError("Method rlsd needs --rpn_run=RUN, a run of configs/photos_rlsd_rpn.flags. Received: none.")
    own = {"photos_rlsd": (f"--init_from={FLAGS.rpn_run}",)}
    runs = MethodRuns(
        FLAGS.output_dir, FLAGS.data_dir, tuple(configs), seeds, arguments, SEARCH if FLAGS.search else None, own
    )
    metrics = runs.train()
    folders = {config: runs.folder(config, seeds[0]) for config in configs}
    speeds = _speeds(folders)
    rows, charted = [], {}
    for config, title in configs.items():
        of_seeds = [metrics[config, seed] for seed in seeds]
        final = next(iter(of_seeds[0]["outputs"]))
        minutes = statistics.mean(_training_minutes(runs.folder(config, seed)) for seed in seeds)
        costs = [f"{minutes:.1f}", *_costs(folders[config], speeds[config])]
        rows.append([f"{title}, {final}", *_values(of_seeds, final), _pointing(of_seeds), *costs])
        charted[title] = [values["outputs"][final]["all"]["mAP"] for values in of_seeds]
        if config == "photos_srn":
            rows += [[f"inside SRN: {name}", *_values(of_seeds, name), *NOTHING] for name in INSIDE]
            means = [_mean_of_three(runs.folder(config, seed), values) for seed, values in zip(seeds, of_seeds)]
            rows.append(["SRN with --answer=cls_att_sr, y_hat", *_values(means, "mean"), *NOTHING])
    heads = [*METRICS, "pointing game", "training, minutes", *COSTS]
    table = tabulate(rows, ["test, mean (lowest to highest seed)", *heads], tablefmt="github")
    record = {
        "seeds": seeds,
        "flags": arguments,
        "tried": runs.tried,
        "chosen": runs.chosen,
        "mAP": charted,
        "images_per_second": speeds,
        "rows": rows,
    }
    write_json(os.path.join(FLAGS.output_dir, "photographs.json"), record)
    tables = "\n\n".join([table, *([_search_table(runs, configs)] if FLAGS.search else [])])
    with open(os.path.join(FLAGS.output_dir, "photographs.md"), "w", encoding="utf-8") as file:
        file.write(tables + "\n")
    save_png(_draw(charted), os.path.join(FLAGS.output_dir, "photographs.png"))
    print(tables)
    runs.compare()
    if FLAGS.tuned:
        _tune(runs, configs, seeds, arguments)


def _tune(runs, configs, seeds, arguments):
    """Fine-tunes every run, seed after seed, and writes photographs_tuned.md."""
    configs = {config: title for config, title in configs.items() if config not in NOT_TUNED}
    before = {config: [runs.folder(config, seed) for seed in seeds] for config in configs}
    folders = {config: [f"{folder}_tuned" for folder in of_config] for config, of_config in before.items()}
    for place, seed in enumerate(seeds):
        for config in configs:
            own = (*arguments, *tuned_flags(config), f"--init_from={before[config][place]}")
            train_once(folders[config][place], config, FLAGS.data_dir, seed, *own)
    speeds = _speeds({config: of_config[0] for config, of_config in folders.items()})
    first, *others = configs
    rows = []
    for config, title in configs.items():
        answers = [answer_of(folder) for folder in folders[config]]
        differences = [map_difference(before[config], folders[config])]
        differences += [map_difference(folders[first], folders[config]) if config in others else ""]
        values = [spread([answer[metric] for answer in answers]) for metric in METRICS]
        rows.append([title, *_costs(folders[config][0], speeds[config]), *values, *differences])
    heads = [*COSTS, *METRICS, "mAP minus itself before", f"mAP minus {configs[first]}"]
    table = tabulate(rows, ["test, fine-tuned", *heads], tablefmt="github", disable_numparse=True)
    with open(os.path.join(FLAGS.output_dir, "photographs_tuned.md"), "w", encoding="utf-8") as file:
        file.write(table + "\n")
    print(table)


def tuned_flags(config):
    """What fine-tunes a flagfile's runs: TUNED, of the flagfile its last stage and own --rate_scales."""
    own = flags_of(config)
    scales = [flags_of(TUNED)["rate_scales"], *filter(None, [own.get("rate_scales")])]
    stage = own["stages"].split(",")[-1]
    return flagfile(TUNED), f"--stages={stage}", f"--rate_scales={','.join(scales)}"


def _search_table(runs, configs):
    """Validation mAP of all trials, the chosen one marked."""
    rows = [
        [title, *(f"{value:.1f}{' *' if name == runs.chosen[config] else ''}" for name, value in tried.items())]
        for (config, title), tried in zip(configs.items(), runs.tried.values(), strict=True)
    ]
    heads = [" ".join(settings) or "flagfile" for settings in SEARCH.values()]
    return tabulate(rows, ["validation mAP, first seed", *heads], tablefmt="github")


def _values(of_seeds, output):
    return [spread([values["outputs"][output]["all"][metric] for values in of_seeds]) for metric in METRICS]


def _mean_of_three(folder, metrics):
    """What the same weights answer with --answer=cls_att_sr, in the form of metrics.json."""
    stored = load_predictions(os.path.join(folder, "predictions", "test.npz"))
    mean = np.mean([stored.logits[name] for name in INSIDE], axis=0)
    return {"outputs": {"mean": evaluate(mean, stored.labels, protocol_named(metrics["protocol"]), metrics["labels"])}}


def _pointing(of_seeds):
    """Of the map that comes first, percent; with another map in brackets where there is one."""
    games = [values.get("pointing", {}) for values in of_seeds]
    shown = [f"{name} {spread([game[name]['accuracy'] for game in games])}" for name in games[0]]
    return "; ".join(shown)


def _training_minutes(folder):
    """Of all epochs, validation left out, from the log."""
    with open(os.path.join(folder, "log.jsonl"), encoding="utf-8") as file:
        speeds = [json.loads(line)["speed"] for line in file]
    return sum(speed["compute_s"] + speed["data_wait_s"] for speed in speeds) / 60


def _costs(folder, speeds):
    """A run's weights in millions, those of the trunk and of its BatchNorms' statistics too, and the median speed."""
    arrays, _ = load_arrays(os.path.join(folder, "checkpoints", "final.npz"))
    return f"{sum(array.size for array in arrays.values()) / 1e6:.2f}", f"{statistics.median(speeds):.0f}"


def _speeds(folders):
    """Images a second of what is served, arrays in, all exports in turn: config -> list, one a round."""
    import srn_tf

    predictors = {config: srn_tf.Predictor(os.path.join(folder, "export", "1")) for config, folder in folders.items()}
    size = next(iter(predictors.values())).image_size
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (size, size, 3), np.uint8) for _ in range(IMAGES)]
    for predictor in predictors.values():
        predictor.predict(images)
    speeds = {config: [] for config in predictors}
    for _ in range(ROUNDS):
        for config, predictor in predictors.items():
            started_s = time.monotonic()
            predictor.predict(images)
            speeds[config].append(IMAGES / (time.monotonic() - started_s))
    return speeds


def _draw(charted):
    """A line of points a method, one point a seed."""
    figure = Figure(figsize=(7, 0.5 * len(charted) + 1.2), layout="constrained")
    panel = figure.add_subplot()
    for row, values in enumerate(charted.values()):
        panel.plot([min(values), max(values)], [row, row], color="#bbbbbb", linewidth=3, zorder=1)
        panel.scatter(values, [row] * len(values), s=30, color="#0072b2", zorder=2)
        panel.annotate(
            f"{statistics.mean(values):.1f}", (max(values), row), (8, 0), textcoords="offset points", va="center"
        )
    panel.set_yticks(range(len(charted)), charted)
    panel.invert_yaxis()
    panel.set_xlabel("test mAP, percent: a point for each seed, and their mean")
    panel.margins(x=0.12, y=0.12)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x", color="#eeeeee")
    panel.set_axisbelow(True)
    return figure


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "Folder of the data set: prepared, or in its official layout.", required=True)
    flags.DEFINE_string("output_dir", None, "Folder for the runs and the table.", required=True)
    flags.DEFINE_list("seeds", "0,1,2", "Seeds.")
    flags.DEFINE_string("rpn_run", "", "Run of configs/photos_rlsd_rpn.flags, from which method rlsd starts.")
    flags.DEFINE_list(
        "methods",
        ",".join(method for method in METHODS if method != "rlsd"),
        "Methods; the first is what others are compared with.",
    )
    flags.DEFINE_bool("search", False, "Four trials of every method with the first seed; validation mAP chooses.")
    flags.DEFINE_bool("tuned", False, "Also fine-tune the network of every run.")
    cli.run(main, __doc__, takes_arguments=True)
