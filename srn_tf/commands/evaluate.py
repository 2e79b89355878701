"""Evaluates a trained run or an exported model on a split, or a file of scores.

python tools/evaluate.py --work_dir=RUN --data_dir=DATA --split=test [--output=J.json] [--per_label]
    [--csra_at_test=0.1]
python tools/evaluate.py --saved_model=RUN/export/1 --dataset=NAME --data_dir=DATA --split=test [--engine=openvino]
python tools/evaluate.py --saved_model=RUN/export/1 --dataset=NAME --data_dir=DATA --known_fraction=0.5
python tools/evaluate.py --scores=S.csv --labels=L.csv --protocol=coco --output=J.json [--top_k=5] [--ranking]

Scores are logits (or --scores_are=probabilities), one image per line, one label per column: csv, text, .npy or .npz.
True labels have the same form: 1 positive, 0 and -1 negative (wider_attribute, voc2007, partial: 1 positive,
-1 negative, 0 unspecified or difficult). Either file may be a table with names, as tools/predict.py writes it (.csv,
.jsonl, .parquet): a column `path`, and a column of numbers per label. If both are, images and labels are matched by
name.
A label is predicted above 0.5; --thresholds=RUN/thresholds.json uses the thresholds of tools/tune_thresholds.py.
A run's predictions stay in RUN/predictions for other tools. Those on another data set or with --tta are kept apart;
those with --csra_at_test are not kept. With --work_dir, --label_issues=OUT/label_issues.csv lists labels of the split
that are probably wrong or missing; a file that ends in .coco.json, .fiftyone.json or .label_studio.json is for that
annotation tool.
"""

import os

from absl import flags
from tabulate import tabulate

from srn_tf.choices import DATASETS, TTA
from srn_tf.commands import cli, predict
from srn_tf.errors import InputError
from srn_tf.evaluation.protocols import PROTOCOLS
from srn_tf.evaluation.report import per_label_table, score_table, summary_table
from srn_tf.evaluation.score_files import SCALES, evaluate_score_files
from srn_tf.files import write_json
from srn_tf.flag_groups import Group
from srn_tf.labels import check_same_labels
from srn_tf.program import tool
from srn_tf.runs.work_dir import WorkDir

FLAGS = flags.FLAGS
_SHOWN = 10  # label issues that are printed


def define_flags():
    """Defines the flags of this command line."""
    flags = Group("Model")
    flags.DEFINE_string("work_dir", "", "Work folder of a run.")
    flags.DEFINE_string("saved_model", "", "Folder of an exported model, to evaluate the probabilities that it serves.")
    flags.DEFINE_string("data_dir", "", "Folder of the run's data set, as in training.")
    flags.DEFINE_string(
        "prepared_dir",
        "",
        "Folder of the prepared data if --data_dir is an official layout. Default: <work_dir>/dataset.",
    )
    flags.DEFINE_enum("dataset", None, DATASETS, "Data set in --data_dir, with --saved_model.")
    flags.DEFINE_enum("split", "test", ("train", "validation", "test"), "Split to evaluate.")
    predict.define_engine()
    predict.define_tta()
    flags.DEFINE_string(
        "thresholds", "", f"File of thresholds from {tool('tune_thresholds')}. Default: 0.5 for every label."
    )
    define_csra_at_test()
    flags.DEFINE_float(
        "known_fraction",
        None,
        "Share of the labels, above 0 and below 1, whose truth --saved_model is given with every image, chosen by a "
        "hash of the image's name. Metrics are over the other labels. For a model that was trained with known labels "
        "(c_tran). Default: none.",
    )

    flags = Group("Scores from files")
    flags.DEFINE_string("scores", "", "File of scores, to evaluate these instead of a model.")
    flags.DEFINE_enum(
        "scores_are",
        None,
        SCALES,
        f"Scale of --scores. Default: probabilities if {tool('predict')} wrote the file, else logits.",
    )
    flags.DEFINE_string("labels", "", "File of true labels, with --scores.")
    flags.DEFINE_enum(
        "protocol", "coco", tuple(PROTOCOLS), "Meaning of the values in --labels, and which tables are made."
    )

    flags = Group("Metrics")
    flags.DEFINE_enum(
        "zero_in_ap", None, ("negative", "excluded"), "Treatment of an unspecified 0 in AP. Default: the protocol's."
    )
    flags.DEFINE_enum(
        "zero_in_rates",
        None,
        ("negative", "excluded"),
        "Treatment of an unspecified 0 in precision, recall and F1. Default: the protocol's.",
    )
    flags.DEFINE_integer(
        "top_k",
        None,
        "Number of labels per image for a further table that predicts the K highest. Default: no such table.",
        1,
    )
    flags.DEFINE_float(
        "top_k_floor", None, "Probability below which --top_k predicts no label. Default: none.", 0.0, 1.0
    )
    flags.DEFINE_bool(
        "ranking", False, "Further metrics: LRAP, coverage error, ranking loss, Hamming loss, subset accuracy."
    )

    flags = Group("Output")
    flags.DEFINE_string("output", "", "JSON file for the metrics.")
    flags.DEFINE_bool("per_label", False, "Also print the AP of each label, for a run or an exported model.")
    flags.DEFINE_string("reliability", "", "PNG file for the reliability diagram of the final output.")
    flags.DEFINE_string(
        "label_issues",
        "",
        "File for the labels that are probably wrong or missing, with --work_dir: .csv, or, for annotation tools, "
        ".coco.json, .fiftyone.json or .label_studio.json. Needs the packages in requirements-cleanlab.txt.",
    )
    predict.define_image_prefix("Output")


def define_csra_at_test():
    """Defines the flag --csra_at_test, shared with tools/export.py."""
    Group("Model").DEFINE_float(
        "csra_at_test",
        None,
        "Factor lambda of CSRA's read-out, with --work_dir of a trained main net with --pooling=mean: the answer is "
        "y_cls plus lambda times the label's highest score at any place. Default: the run's own answer.",
        0.0,
    )


def main(_):
    """Evaluates what one of --work_dir, --saved_model and --scores names."""
    cli.need_one_flag("work_dir", "saved_model", "scores")
    if FLAGS["engine"].present and not FLAGS.saved_model:
        raise InputError(
            f"--engine needs --saved_model. Received: --engine={FLAGS.engine} without it. Remove --engine, or give "
            "--saved_model."
        )
    if FLAGS.tta != TTA[0] and FLAGS.scores:
        raise InputError(
            f"--tta needs a model. Received: --tta={FLAGS.tta} with --scores. Remove --tta, or give --work_dir or "
            "--saved_model."
        )
    if FLAGS.scores_are and not FLAGS.scores:
        raise InputError(
            f"--scores_are needs --scores. Received: --scores_are={FLAGS.scores_are} alone. Remove it: the scale of a "
            "model's outputs is known."
        )
    _check_known()
    if FLAGS.csra_at_test is not None and not FLAGS.work_dir:
        raise InputError(
            f"--csra_at_test needs --work_dir. Received: --csra_at_test={FLAGS.csra_at_test:g} without it. Export the "
            f"run with {tool('export')} --csra_at_test to evaluate what is served, or remove it."
        )
    if FLAGS.label_issues and (not FLAGS.work_dir or FLAGS.csra_at_test is not None):
        received = "--csra_at_test, whose predictions are not kept" if FLAGS.work_dir else "no --work_dir"
        raise InputError(
            f"--label_issues needs --work_dir and the run's own answer. Received: {received}. Correct the flags."
        )
    _check_issue_form()
    _check_written("output")
    _check_written("reliability")
    _check_written("label_issues")
    if FLAGS.top_k_floor is not None and FLAGS.top_k is None:
        raise InputError(
            f"--top_k_floor needs --top_k. Received: --top_k_floor={FLAGS.top_k_floor:g} alone. Give --top_k=K as well."
        )
    if FLAGS.scores:
        _evaluate_files()
    elif FLAGS.saved_model:
        _evaluate_saved_model()
    else:
        _evaluate_run()


def _check_known():
    """Raises InputError for a --known_fraction that cannot be used."""
    fraction = FLAGS.known_fraction
    if fraction is None:
        return
    if not 0.0 < fraction < 1.0:
        raise InputError(f"--known_fraction must be above 0 and below 1, such as 0.5. Received: {fraction:g}.")
    if not FLAGS.saved_model:
        raise InputError(
            f"--known_fraction needs --saved_model. Received: --known_fraction={fraction:g} without it. Give an "
            "exported model, such as RUN/export/1."
        )
    predict.check_tta("known_fraction", fraction)
    if FLAGS.ranking or FLAGS.top_k is not None:
        raise InputError(
            f"--known_fraction goes with neither --ranking nor --top_k, which rank all labels of an image. Received: "
            f"--known_fraction={fraction:g} with one of them. Remove one."
        )


def _check_issue_form():
    """Raises InputError for an ending of --label_issues, or an --image_prefix, that cannot be used."""
    if not (FLAGS.label_issues or FLAGS.image_prefix):
        return
    from srn_tf.prediction.annotation_forms import FiftyOne, check_image_prefix

    make_form = _issue_form() if FLAGS.label_issues else None
    check_image_prefix(make_form, FLAGS.image_prefix, "label_issues")
    if make_form is FiftyOne and not FLAGS.image_prefix:
        raise InputError(
            "FiftyOne needs the paths of the images. Received: --label_issues for FiftyOne without --image_prefix. "
            "Give the folder of the images as --image_prefix."
        )


def _issue_form():
    from srn_tf.evaluation.label_issues import FORMATS
    from srn_tf.prediction.rows import format_of

    return format_of(FLAGS.label_issues, FORMATS, "label_issues")


def _check_written(flag):
    """Refuses to overwrite a file that a run wrote about itself."""
    path = FLAGS[flag].value
    run = WorkDir(os.path.dirname(path))
    if path in (run.metrics, run.reliability, run.run, run.log, run.flags) and os.path.isfile(run.run):
        raise InputError(
            f"--{flag} must not overwrite a file that {tool('train')} wrote. Received: {path}. Give another name."
        )


def _evaluate_files():
    from srn_tf.evaluation.protocols import protocol_named

    cli.need_flags("--scores", "labels", "output")
    thresholds = _load_thresholds()
    protocol = protocol_named(FLAGS.protocol, **_policies())
    values = None if thresholds is None else thresholds.values
    files = (FLAGS.scores, FLAGS.labels)
    result = evaluate_score_files(*files, protocol, FLAGS.scores_are, thresholds=values, **_options())
    if thresholds is not None and "label_names" in result:
        check_same_labels(result["label_names"], thresholds.labels, FLAGS.thresholds)
    if thresholds is not None and len(thresholds.labels) != result["labels"]:
        raise InputError(
            f"{FLAGS.thresholds} must have as many labels as {FLAGS.scores} has columns. Received: "
            f"{len(thresholds.labels)} labels, {result['labels']} columns. Use thresholds that were tuned for these "
            "labels."
        )
    write_json(FLAGS.output, result)
    _draw_reliability(result, os.path.basename(FLAGS.scores))
    print(score_table(result, FLAGS.output))
    if thresholds is not None:
        print(
            f"In the table, {thresholds.statement}. These are {thresholds.origin}. Make sure that the scores are from "
            "the same model."
        )


def _evaluate_saved_model():
    cli.need_flags("--saved_model", "dataset", "data_dir")
    if FLAGS.thresholds:
        raise InputError(
            "--thresholds cannot be used with --saved_model, which has its own thresholds. Received: "
            f"--thresholds={FLAGS.thresholds}. Remove it."
        )
    from srn_tf.serving.evaluation import evaluate_saved_model

    model = (FLAGS.saved_model, FLAGS.dataset, FLAGS.data_dir, FLAGS.split)
    predict.say_what_is_faster()
    _report(evaluate_saved_model(*model, _policies(), FLAGS.engine, FLAGS.known_fraction, FLAGS.tta, **_options()))


def _policies():
    return {name: FLAGS[name].value for name in ("zero_in_ap", "zero_in_rates")}


def _options():
    return {name: FLAGS[name].value for name in ("ranking", "top_k", "top_k_floor")}


def _report(metrics):
    if FLAGS.output:
        write_json(FLAGS.output, metrics)
    final, output = next(iter(metrics["outputs"].items()))
    _draw_reliability(output, f"{metrics['dataset']} {FLAGS.split}, {final}")
    print(summary_table(metrics))
    if FLAGS.per_label:
        print(per_label_table(metrics))


def _evaluate_run():
    cli.need_flags("--work_dir", "data_dir")
    if FLAGS.label_issues:
        from srn_tf.evaluation.label_issues import check_cleanlab_installed

        check_cleanlab_installed()  # before the model is asked
    from srn_tf.run import evaluate_run

    thresholds = _load_thresholds()
    run = (FLAGS.work_dir, FLAGS.data_dir, FLAGS.split, FLAGS.prepared_dir)
    metrics = evaluate_run(*run, thresholds, _policies(), FLAGS.csra_at_test, FLAGS.tta, **_options())
    _report(metrics)
    if thresholds is not None:
        print(f"In the tables, {thresholds.statement}. All other outputs use 0.5.")
    if FLAGS.label_issues:
        _list_label_issues(metrics)


def _list_label_issues(metrics):
    from srn_tf.evaluation.label_issues import find_label_issues, write_label_issues, write_label_issues_for_tool
    from srn_tf.evaluation.predictions import load_predictions
    from srn_tf.evaluation.protocols import protocol_named

    work = WorkDir(FLAGS.work_dir)
    path = (
        metrics["other_data"]["predictions"]
        if "other_data" in metrics
        else work.predictions(FLAGS.split, tta=FLAGS.tta)
    )
    predictions = load_predictions(path)
    issues = find_label_issues(predictions, protocol_named(metrics["protocol"]))
    make_form = _issue_form()
    if make_form is None:
        write_label_issues(FLAGS.label_issues, issues)
    else:
        write_label_issues_for_tool(FLAGS.label_issues, issues, predictions, make_form, FLAGS.image_prefix)
    num_missing = sum(not issue.given for issue in issues)
    print(
        f"Labels of {len({issue.image for issue in issues})} images may be wrong: {len(issues) - num_missing} given, "
        f"{num_missing} missing."
    )
    if issues:
        rows = [(one.image, one.label, "given" if one.given else "missing", one.probability) for one in issues[:_SHOWN]]
        print(tabulate(rows, ["image", "label", "truth", "probability"], floatfmt=".2f", disable_numparse=[0, 1, 2]))
    print(FLAGS.label_issues)
    was_learned = FLAGS.split == "train" or (FLAGS.split == "validation" and work.read_run()["validation_is_train"])
    if was_learned and "other_data" not in metrics:
        print(
            "The model was trained on these images and may have learned their errors. Judge images by a model that "
            "was not."
        )


def _load_thresholds():
    if not FLAGS.thresholds:
        return None
    from srn_tf.evaluation.thresholds import load_thresholds

    return load_thresholds(FLAGS.thresholds)


def _draw_reliability(output, title):
    if FLAGS.reliability:
        from srn_tf.evaluation.calibration import draw_reliability
        from srn_tf.pictures import save_png

        save_png(draw_reliability(output["calibration"], title), FLAGS.reliability)
