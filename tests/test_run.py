"""A whole run of the smallest SRN, and what a run does with folders, seeds and weights to start from."""

import contextlib
import dataclasses
import itertools
import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from sklearn.metrics import label_ranking_average_precision_score

from srn_tf import run
from srn_tf.comparison.runs import read_run
from srn_tf.data.augments import Effects
from srn_tf.data.crops import Crops
from srn_tf.data.csv_file import CsvFile
from srn_tf.data.datasets import DataSet
from srn_tf.data.scene_drawing import LABELS
from srn_tf.errors import InputError
from srn_tf.evaluation.predictions import SavedPredictions, load_predictions, save_predictions
from srn_tf.evaluation.protocols import mean_average_precision, protocol_named
from srn_tf.evaluation.report import summary_table
from srn_tf.evaluation.thresholds import tune_run
from srn_tf.models.registry import METHODS
from srn_tf.options import Options
from srn_tf.runs import checkpoint
from srn_tf.runs.work_dir import WorkDir
from srn_tf.serving.evaluation import evaluate_saved_model
from srn_tf.training import summaries, trainer
from tests.data.folder_of_images import prepared, write_source
from tests.models.small import small_model
from tests.training import small, small_runs

STAGES = ("cls", "att", "sr", "all")
TABLE = {"mAP", "F1-C", "P-C", "R-C", "F1-O", "P-O", "R-O"}


def make_options(data_dir, work_dir, **changes):
    values = {
        "data_dir": str(data_dir),
        "work_dir": str(work_dir),
        "prepared_dir": str(work_dir / "dataset"),
        "dataset": "scenes",
        "validation_fraction": 0.1,
        "model": "srn",
        "backbone": "small",
        "backbone_weights": "none",
        "image_size": 56,
        "settings": METHODS["srn"].settings(head_channels=8),
        "stages": STAGES,
        "epochs": (2, 1, 1, 1),
        "init_from": "",
        "serve_output": "",
        "loss": "sigmoid",
        "focal_gamma": 2.0,
        "asl_gamma_pos": 0.0,
        "asl_gamma_neg": 4.0,
        "asl_margin": 0.05,
        "asl_focal_gradient": False,
        "positive_weights": "none",
        "unspecified": "auto",
        "selective_prior": "",
        "selective_threshold": 0.5,
        "selective_top_k": 5,
        "selective_gamma": 4.0,
        "selective_weight": 1.0,
        "drop_labels": "none",
        "batch_size": 16,
        "accumulation_steps": 1,
        "optimizer": "sgd",
        "learning_rate": (0.01,) * 4,
        "schedule": "plateau",
        "cycle_momentum": True,
        "warmup_epochs": 0.0,
        "learning_rate_min": 1e-5,
        "patience": 3,
        "rate_scales": (),
        "frozen_parts": (),
        "frozen_norms": (),
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "decayed_weights": "all",
        "clip_norm": 0.0,
        "max_skipped_steps": 0,
        "ema_decay": 0.0,
        "ema_keep": "better",
        "precision": "float32",
        "crops": True,
        "mirror": False,
        "augment": (),
        "random_crop_min_area": 0.7,
        **{field.name: field.default for field in dataclasses.fields(Effects)[1:]},
        "crop_scales": Crops().scales,
        "crop_places": 5,
        "max_distortion": -1,
        "fixed_crops": 0,
        "fast_decode": False,
        "repeat_threshold": 0.0,
        "shuffle_buffer": 1000,
        "cache": "none",
        "data_threads": 0,
        "steps_per_call": 1,
        "xla": False,
        "tf32": True,
        "logical_cpus": 0,
        "seed": 0,
        "deterministic": False,
        "checkpoint_every_s": 600.0,
        "keep_checkpoints": 3,
        "profile_steps": (),
        "restart": False,
        "train_only": False,
    }
    return Options(**{**values, **changes})


def arrays_of(work_dir, name="final"):
    return checkpoint.load_arrays(os.path.join(work_dir, "checkpoints", f"{name}.npz"))[0]


ONE_STAGE = {"stages": ("all",), "epochs": (1,), "learning_rate": (0.01,)}
FOUR_STAGES = pytest.mark.parametrize("srn_run", [{}], ids=["four"], indirect=True)


@pytest.fixture(scope="module", params=[ONE_STAGE, pytest.param({}, marks=pytest.mark.slow)], ids=["one", "four"])
def srn_run(request, tiny_scenes_dir, tmp_path_factory):
    """Options and returned metrics of a whole run, through the last or all of the stages."""
    options = make_options(tiny_scenes_dir, tmp_path_factory.mktemp("run"), **request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summaries, "NUM_PICTURES", 1)  # drawing takes its time
        assert run.train_run(dataclasses.replace(options, train_only=True)) is None
        assert not {"metrics.json", "predictions", "export"} & set(os.listdir(options.work_dir))
        return options, run.train_run(options)


@pytest.fixture
def two_parts(monkeypatch):
    """Lets runs build the model of two parts (stages begin and end), whatever their options say."""
    monkeypatch.setattr(run, "build_model", lambda config, labels, weights="none": small.build_two_parts(len(labels)))
    return {"image_size": 16, "stages": ("begin", "end"), "epochs": (1, 1), "learning_rate": (0.01, 0.01)}


def test_what_a_run_leaves(srn_run):
    options, metrics = srn_run
    files = sorted(name for name in os.listdir(options.work_dir) if not name.startswith("."))
    folders = ["checkpoints", "export", "predictions", "tensorboard"]
    assert files == sorted(["flags.txt", "run.json", "log.jsonl", "metrics.json", "reliability.png", *folders])
    assert sorted(os.listdir(os.path.join(options.work_dir, "predictions"))) == ["test.npz", "validation.npz"]
    expected = {"state", *(f"{name}.npz" for name in (*options.stages, "final"))}
    assert expected <= set(os.listdir(os.path.join(options.work_dir, "checkpoints")))
    assert os.listdir(os.path.join(options.work_dir, "export")) == ["1"]
    assert os.path.isfile(os.path.join(options.work_dir, "export", "1", "saved_model.pb"))
    with open(os.path.join(options.work_dir, "export", "1", "assets.extra", "export.json"), encoding="utf-8") as file:
        exported = json.load(file)
    assert (exported["run"]["dataset"], exported["flags"]["batch_size"]) == ("scenes", "16")
    assert exported["metrics"] == metrics
    with open(os.path.join(options.work_dir, "flags.txt"), encoding="utf-8") as file:
        assert file.read() == options.as_flagfile()
    small.assert_bit_equal(arrays_of(options.work_dir), arrays_of(options.work_dir, "all"))
    log = small_runs.read_log(options.work_dir)
    expected = [(stage, 1 + i) for stage, epochs in zip(options.stages, options.epochs) for i in range(epochs)]
    assert [(entry["stage"], entry["epoch"]) for entry in log] == expected
    assert list(log[-1]["losses"]) == ["y_att", "y_sr", "y_cls"]


def test_run_json_says_what_the_run_is(srn_run):
    options, _ = srn_run
    description = WorkDir(options.work_dir).read_run()
    assert description["labels"] == list(LABELS)
    assert (description["dataset"], description["protocol"], description["seed"]) == ("scenes", "scenes", 0)
    assert description["stages"] == list(options.stages)
    settings = description["model"]["settings"]
    assert settings["srn_head"] == "released" and settings["head_channels"] == 8
    assert description["versions"]["tensorflow"] == tf.__version__


def test_metrics_json_keeps_its_contract(srn_run):
    options, returned = srn_run
    with open(os.path.join(options.work_dir, "metrics.json"), encoding="utf-8") as file:
        metrics = json.load(file, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert metrics == returned
    assert (metrics["dataset"], metrics["split"], metrics["images"]) == ("scenes", "test", 16)
    assert (metrics["labels"], metrics["protocol"]) == (list(LABELS), "scenes")
    assert set(metrics["outputs"]) == {"y_hat", "y_cls", "y_att", "y_sr"}
    train = tfds.builder("scenes", data_dir=options.data_dir).as_dataset(split="train").as_numpy_iterator()
    positives = sum((record["labels"] == 1).astype(int) for record in train)
    assert WorkDir(options.work_dir).read_run()["training_positives"] == positives.tolist()
    for output in metrics["outputs"].values():
        assert TABLE <= set(output["all"]) and TABLE <= set(output["top3"])
        for value in (*output["all"].values(), *output["top3"].values()):
            assert 0.0 <= value <= 100.0
        assert len(output["AP"]) == len(LABELS)
        known = [value for value in output["AP"] if value is not None]
        assert output["all"]["mAP"] == pytest.approx(np.mean(known))
        # Of 16 labels the six most frequent ones of the training images are the head.
        order = sorted(range(16), key=lambda label: -positives[label])
        for group, labels in (("head", order[:6]), ("middle", order[6:11]), ("tail", order[11:])):
            own = [output["AP"][label] for label in labels if output["AP"][label] is not None]
            assert output["mAP_by_frequency"][group] == pytest.approx(np.mean(own))
            assert output["frequency"]["labels"][group] == len(own)
    assert "head (most images)" in metrics["definition"]
    assert metrics["pointing"]["A"]["pairs"] > 0


def test_tensorboard_shows_every_stage(srn_run):
    options, _ = srn_run
    folder = os.path.join(options.work_dir, "tensorboard")
    losses = {"cls": ("y_cls",), "att": ("y_att",), "sr": ("y_sr",), "all": ("y_att", "y_sr", "y_cls")}
    for number, stage in enumerate(options.stages, 1):
        (file,) = Path(folder, f"{number}_{stage}").iterdir()
        events = [tf.compat.v1.Event.FromString(one.numpy()) for one in tf.data.TFRecordDataset(str(file))]
        tags = [value.tag for event in events for value in event.summary.value]
        # In the order of names, which is TensorBoard's, what one asks for first comes first.
        groups = [group for group, _ in itertools.groupby(sorted(tags), lambda tag: tag.split("/")[0])]
        assert groups == ["1_mAP", "2_loss", "3_F1", "4_attention", "5_steps", "6_speed"]
        names = {f"validation_{name}" for name in ("macro", "micro", "confusion")}
        assert {tag for tag in tags if tag.startswith("3_")} == {f"3_F1/{name}" for name in names}
        assert {tag for tag in tags if tag.startswith("2_")} == {
            f"2_loss/{name}" for name in ("validation", *losses[stage])
        }
        assert {"1_mAP/validation", "5_steps/learning_rate", "6_speed/images_per_second"} <= {*tags}


def test_the_plan_is_that_of_the_options(tiny_scenes_dir, tmp_path, two_parts, monkeypatch):
    plans = []

    def take_plan(model, strategy, dataset, plan, work, summaries, trained, prior):
        plans.append(dataclasses.asdict(plan))
        raise small_runs.Interrupted

    monkeypatch.setattr(run, "Trainer", take_plan)
    changes = {"shuffle_buffer": 7, "cache": "decoded", "ema_decay": 0.5, "optimizer": "adamw", "clip_norm": 3.0}
    changes |= {"rate_scales": ("first=0.5", "last=2"), "profile_steps": (3, 4), "accumulation_steps": 2}
    changes |= {"crop_scales": (1.0, 0.5), "crop_places": 13, "cutout_side": 0.25}
    options = make_options(tiny_scenes_dir, tmp_path, **two_parts, **changes)
    with pytest.raises(small_runs.Interrupted):
        run.train_run(options)
    expected = dataclasses.asdict(options) | {"learning_rates": (0.01, 0.01)}
    expected |= {"rate_scales": {"first": 0.5, "last": 2.0}}
    expected |= {"crops": {"scales": (1.0, 0.5), "places": 13, "max_distortion": None}}
    strengths = ("jitter_strength", "randaugment_ops", "randaugment_magnitude", "cutout_side", "mixup_alpha")
    strengths += ("cutmix_alpha", "splicemix_blanks", "smoothing")
    expected |= {"effects": {"names": (), **{name: expected[name] for name in strengths}}}
    assert plans == [{name: expected[name] for name in plans[0]}]


def assert_alike(received, expected):
    """Compares metrics of two executions, between which the order of sums, and so rounding, may differ."""
    if isinstance(expected, dict):
        assert received.keys() == expected.keys()
        for name, value in expected.items():
            assert_alike(received[name], value)
    elif isinstance(expected, list):
        assert len(received) == len(expected)
        for one, other in zip(received, expected):
            assert_alike(one, other)
    else:
        assert received == (pytest.approx(expected, rel=1e-5, abs=1e-5) if isinstance(expected, float) else expected)


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(srn_run, monkeypatch):
    options, metrics = srn_run

    def refuse(*_, **__):
        raise AssertionError("trained or exported again")

    monkeypatch.setattr(run, "Trainer", refuse)
    monkeypatch.setattr(run, "export", refuse)
    before = arrays_of(options.work_dir)
    assert_alike(run.train_run(options), metrics)
    small.assert_bit_equal(arrays_of(options.work_dir), before)


def test_evaluate_run(srn_run, tmp_path):
    options, metrics = srn_run
    assert metrics["fingerprint"] == WorkDir(options.work_dir).read_run()["fingerprint"]
    more = run.evaluate_run(options.work_dir, options.data_dir, "test", ranking=True, top_k=3)
    predictions = load_predictions(WorkDir(options.work_dir).predictions("test"))
    truths = predictions.labels == 1
    for output, logits in predictions.logits.items():
        evaluated = more["outputs"][output]
        assert_alike({name: evaluated[name] for name in metrics["outputs"][output]}, metrics["outputs"][output])
        highest = np.argsort(-logits, axis=1, kind="stable")[:, :3]
        hits = np.take_along_axis(truths, highest, axis=1).sum()
        assert evaluated["top3_forced"]["R-O"] == pytest.approx(100 * hits / truths.sum())
        assert "top3" in metrics["outputs"][output]  # the protocol's own, with a floor
        assert evaluated["ranking"]["LRAP"] == pytest.approx(
            100 * label_ranking_average_precision_score(truths, logits)
        )
    validation = run.evaluate_run(options.work_dir, options.data_dir, "validation")
    assert (validation["split"], validation["images"]) == ("validation", 16)
    assert validation["outputs"] != metrics["outputs"]
    served = evaluate_saved_model(os.path.join(options.work_dir, "export", "1"), "scenes", options.data_dir, "test")
    received, expected = served["outputs"]["served"], metrics["outputs"]["y_hat"]
    for table in ("all", "top3"):
        assert received[table] == pytest.approx(expected[table], rel=1e-4)
    assert received["mAP_by_frequency"] == pytest.approx(expected["mAP_by_frequency"], rel=1e-4)
    assert "other_data" not in served
    # Its mAP is the one of the epoch that was kept.
    last = small_runs.read_log(options.work_dir)[-1]["validation"]
    assert validation["outputs"][last["output"]]["all"]["mAP"] == pytest.approx(last["mAP"])
    with pytest.raises(InputError, match="split must be one of train, validation, test. Received: 'val'"):
        run.evaluate_run(options.work_dir, options.data_dir, "val")
    with pytest.raises(InputError, match="Received: k = 17 for 16 labels"):
        run.evaluate_run(options.work_dir, options.data_dir, "test", top_k=17)
    with pytest.raises(InputError, match="zero_in_ap must be negative in protocol scenes"):
        run.evaluate_run(options.work_dir, options.data_dir, "test", policies={"zero_in_ap": "excluded"})
    with pytest.raises(InputError, match="work_dir must be a run of tools/train.py"):
        run.evaluate_run(str(tmp_path), options.data_dir, "test")
    shutil.copy(os.path.join(options.work_dir, "run.json"), tmp_path)
    with pytest.raises(InputError, match="which has no final weights"):
        run.evaluate_run(str(tmp_path), options.data_dir, "test")
    description = WorkDir(str(tmp_path)).read_run()
    (tmp_path / "run.json").write_text(json.dumps({**description, "stages": [], "final": "knn"}))
    with pytest.raises(InputError, match="must have a network. Received: .*a result of knn without one"):
        run.evaluate_run(str(tmp_path), options.data_dir, "test")
    description["labels"][2] = "zebra"
    (tmp_path / "run.json").write_text(json.dumps(description))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "final.npz").touch()
    with pytest.raises(InputError, match="Expected at position 2: 'zebra'. Received: 'cross'"):
        run.evaluate_run(str(tmp_path), options.data_dir, "test")


@pytest.mark.slow
def test_a_run_and_its_export_average_over_the_same_views(srn_run):
    options, metrics = srn_run
    work, tta = WorkDir(options.work_dir), "flip,5crop"
    plain = load_predictions(work.predictions("test"))
    of_run = run.evaluate_run(options.work_dir, options.data_dir, "test", tta=tta)
    served = evaluate_saved_model(work.newest_export(), "scenes", options.data_dir, "test", tta=tta)
    assert of_run["tta"] == served["tta"] == tta and "tta" not in metrics
    assert_alike(
        {name: served["outputs"]["served"][name] for name in ("AP", "all", "calibration")},
        {name: of_run["outputs"]["y_hat"][name] for name in ("AP", "all", "calibration")},
    )
    assert of_run["outputs"]["y_hat"]["calibration"] != metrics["outputs"]["y_hat"]["calibration"]
    assert "pointing" not in of_run and "mAP_by_size" in of_run["outputs"]["y_sr"]
    assert f"Test-time augmentation {tta}: scores are log odds" in " ".join(summary_table(of_run).split())
    kept = load_predictions(work.predictions("test", tta=tta))
    assert all((kept.logits[name] != logits).any() for name, logits in plain.logits.items())
    again = load_predictions(work.predictions("test")).logits
    small.assert_bit_equal({**again}, {**plain.logits})
    with pytest.raises(InputError, match="tta must be one of none; flip; 5crop; flip,5crop. Received: '10crop'."):
        run.evaluate_run(options.work_dir, options.data_dir, "test", tta="10crop")


def test_metrics_that_cannot_be_read_are_in_no_export(tmp_path):
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(InputError, match="metrics.json must be readable JSON.*Evaluate the run again"):
        run.provenance_of(WorkDir(str(tmp_path)))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_and_another_does_not(tiny_scenes_dir, tmp_path, two_parts, monkeypatch):
    monkeypatch.setattr(run, "export", lambda *_, **__: None)
    two_parts |= {"stages": ("end",), "epochs": (1,), "learning_rate": (0.01,)}
    metrics = {}
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        metrics[name] = run.train_run(make_options(tiny_scenes_dir, tmp_path / name, seed=seed, **two_parts))
    small.assert_bit_equal(arrays_of(tmp_path / "again"), arrays_of(tmp_path / "first"))
    assert metrics["again"] == metrics["first"] != metrics["other"]
    for name, value in arrays_of(tmp_path / "first").items():
        if name.endswith("kernel"):
            assert (arrays_of(tmp_path / "other")[name] != value).all(), name


class Started(Exception):
    """Raised in place of training."""


@pytest.fixture
def first_weights(monkeypatch):
    """A list to which every run adds the weights it would start training from, and what of them is trained; it then
    raises Started.
    """
    seen = []

    class NoTrainer:
        def __init__(self, model, *_, trained, prior):
            self._model, self._trained = model, trained

        def train(self):
            seen.append((small.weights_of(self._model), self._trained))
            raise Started

    monkeypatch.setattr(run, "Trainer", NoTrainer)
    return seen


@pytest.mark.slow
@FOUR_STAGES
def test_init_from_a_run_or_a_file(srn_run, tmp_path, first_weights):
    source, _ = srn_run
    stage_file = os.path.join(source.work_dir, "checkpoints", "cls.npz")
    for index, path in enumerate((source.work_dir, stage_file)):
        options = make_options(source.data_dir, tmp_path / str(index), init_from=path, seed=9)
        with pytest.raises(Started):
            run.train_run(options)
    (from_folder, trained), (from_file, trained_by_cls) = first_weights
    assert trained == ["classifier", "f_att", "f_conf", "f_neck", "f_sr", "trunk"]
    assert trained_by_cls == ["classifier", "trunk"]  # of all parts in the file
    small.assert_bit_equal(from_folder, arrays_of(source.work_dir))
    small.assert_bit_equal(from_file, arrays_of(source.work_dir, "cls"))
    assert (from_folder["f_sr/sr_logits/kernel"] != from_file["f_sr/sr_logits/kernel"]).all()


@pytest.mark.slow
def test_init_from_a_main_net(tiny_scenes_dir, tmp_path, first_weights):
    with tf.distribute.MirroredStrategy(["/cpu:0"]).scope():
        main_net = small_model("main_net", len(LABELS))
        path = str(tmp_path / "main_net.npz")
        checkpoint.save_weights(path, main_net, {"labels": list(LABELS)})
    with pytest.raises(Started):
        run.train_run(make_options(tiny_scenes_dir, tmp_path / "run", init_from=path, seed=9))
    ((weights, trained),) = first_weights
    assert trained == ["classifier", "trunk"]  # the file does not say
    expected = checkpoint.load_arrays(path)[0]
    small.assert_bit_equal({name: weights[name] for name in expected}, expected)
    assert {name.split("/")[0] for name in set(weights) - set(expected)} == {"f_neck", "f_att", "f_conf", "f_sr"}


def test_init_from_what_does_not_fit(srn_run, tmp_path, first_weights, two_parts):
    source, _ = srn_run
    weights = tmp_path / "w.npz"
    checkpoint.save_weights(str(weights), small.build_two_parts(), {"labels": ["zebra", *LABELS[1:]]})
    for path, message in (
        (weights, "must fit a part of the model. .*Received: first, last .first: other labels"),
        (source.work_dir, "must fit a part of the model. Expected one of: first, last. Received: .*classifier"),
        (tmp_path / "none.npz", "none.npz', which is not a file"),
        (tmp_path, "final.npz', which is not a file"),  # a folder that is no run's
    ):
        with pytest.raises(InputError, match=message):
            run.train_run(make_options(source.data_dir, tmp_path / "run", init_from=str(path), **two_parts))
    assert not first_weights


def test_the_folder_of_another_run_is_refused(srn_run):
    options, _ = srn_run
    for changes, message in (
        ({"seed": 1}, "Expected: --seed=0. Received: --seed=1."),
        (
            {"stages": ("cls",), "epochs": (2,)},
            f"--stages={','.join(options.stages)} .*Received: --stages=cls --epochs=2",
        ),
    ):
        with pytest.raises(InputError, match=message):
            run.train_run(dataclasses.replace(options, **changes))


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["y_first", "best"])
def test_the_served_output_is_the_first_everywhere(tiny_scenes_dir, tmp_path, two_parts, asked, caplog):
    """Stage `end` is not trained, so y_first is the better one; a second start serves what the first one chose."""
    caplog.set_level("INFO")
    two_parts |= {"stages": ("begin",), "epochs": (8,), "learning_rate": (0.01,), "optimizer": "adam"}
    two_parts |= {"mirror": True, "serve_output": asked}
    options = make_options(tiny_scenes_dir, tmp_path, **two_parts)
    metrics = run.train_run(options)
    assert metrics["final"] == next(iter(metrics["outputs"])) == "y_first"
    work = WorkDir(options.work_dir)
    validation = load_predictions(work.predictions("validation"))
    mean_ap = {
        name: mean_average_precision(logits, validation.labels, protocol_named("scenes"))
        for name, logits in validation.logits.items()
    }
    assert list(mean_ap) == ["y_first", "y_last"] and mean_ap["y_first"] > mean_ap["y_last"]
    choice = {"split": "validation", "mAP": mean_ap} if asked == "best" else None
    assert work.read_run()["final"] == "y_first"
    assert work.read_run().get("choice") == metrics.get("choice") == choice
    sentence = "Served output: y_first"
    if choice:
        values = f"y_last {mean_ap['y_last']:.2f}, y_first {mean_ap['y_first']:.2f}"
        sentence += f", chosen on validation by mAP: {values}"
        assert f"{sentence}." in caplog.text
    assert f"{sentence}." in summary_table(metrics).replace("\n", " ")
    with open(os.path.join(work.export, "1", "assets.extra", "model_card.md"), encoding="utf-8") as card:
        assert f"{sentence}." in card.read()
    served = evaluate_saved_model(os.path.join(work.export, "1"), "scenes", options.data_dir, "test")
    received = served["outputs"]["served"]["all"]["mAP"]
    assert received == pytest.approx(metrics["outputs"]["y_first"]["all"]["mAP"], rel=1e-4)
    assert received != pytest.approx(metrics["outputs"]["y_last"]["all"]["mAP"], rel=1e-2)
    assert tune_run(options.work_dir, "validation", "F1-O", False)["output"] == "y_first"
    assert read_run(options.work_dir, "test").output == "y_first"
    if asked == "best":
        work.add_to_run(final="y_last")  # as another machine's rounding may have chosen
        assert run.train_run(options)["final"] == "y_last"


def test_options_refused_before_training_may_be_mended_in_the_same_folder(
    tiny_scenes_dir, tmp_path, two_parts, monkeypatch
):
    for changes, message in (
        ({"stages": ("begin", "foo")}, "stages must be among begin, end. Received: 'foo'"),
        ({"batch_size": 65}, "must be at most the number of training images, 64. Received: 65"),
        ({"serve_output": "y_hat"}, "served output must be one of y_last, y_first. Received: 'y_hat'"),
    ):
        with pytest.raises(InputError, match=message):
            run.train_run(make_options(tiny_scenes_dir, tmp_path, **{**two_parts, **changes}))
    monkeypatch.setattr(trainer.Trainer, "train", lambda self: (_ for _ in ()).throw(Started))
    with pytest.raises(Started):
        run.train_run(make_options(tiny_scenes_dir, tmp_path, **two_parts))


def test_images_stored_too_small_are_refused(tmp_path):
    names = [f"red_{i}.png" for i in range(20)]
    source = write_source(tmp_path / "photos", names, ["red_20.png"])
    rows = [f"train/{name},red,train" for name in names] + ["test/red_20.png,red,test"]
    (source / "labels.csv").write_text("\n".join(["image,labels,split", *rows]))
    prepared(CsvFile, tmp_path / "data", source, {"csv": "labels.csv", "store_size": 32})
    options = make_options(tmp_path / "data", tmp_path / "run", dataset="csv", crops=True)
    # Crops for 56 pixels are cut out of 64, as those for 224 out of 256.
    for changes, needed in (({}, 64), ({"crops": False}, 56)):
        message = f"train images of csv must be stored with at least {needed} x {needed} .*--store_size={needed} --csv="
        with pytest.raises(InputError, match=message):
            run.train_run(dataclasses.replace(options, work_dir=str(tmp_path / f"run{needed}"), **changes))


@pytest.mark.slow
def test_a_restart_that_cannot_begin_loses_nothing(srn_run, tmp_path):
    options, _ = srn_run
    shutil.copytree(options.work_dir, tmp_path / "run")
    files = sorted(path for path in (tmp_path / "run").rglob("*") if path.is_file())
    before = {path: path.read_bytes() for path in files if path.name != ".lock"}
    for changes, message in (
        ({"data_dir": str(tmp_path / "none"), "prepared_dir": str(tmp_path / "none"), "dataset": "csv"}, "csv"),
        ({"stages": ("cls", "foo")}, "stages must be among cls, att, sr, all. Received: 'foo'"),
        ({"batch_size": 65}, "must be at most the number of training images, 64. Received: 65"),
    ):
        with pytest.raises(InputError, match=message):
            run.train_run(dataclasses.replace(options, work_dir=str(tmp_path / "run"), restart=True, **changes))
    assert {path: path.read_bytes() for path in before} == before


def test_validation_without_labels_is_refused_before_the_folder_is_the_runs(
    tiny_scenes_dir, tmp_path, two_parts, monkeypatch
):
    """So that other flags, such as the fraction that is advised, are then taken, and nothing confuses."""
    records = DataSet.records

    def blank(dataset, role):
        found = records(dataset, role)
        empty = found.map(lambda record: {**record, "labels": tf.zeros_like(record["labels"])})
        return empty if role == "validation" else found

    monkeypatch.setattr(DataSet, "records", blank)
    for seed in (0, 1):
        with pytest.raises(InputError, match="Validation images must have labels.* Received: no label on 16"):
            run.train_run(make_options(tiny_scenes_dir, tmp_path / "run", seed=seed, **two_parts))
        assert os.listdir(tmp_path / "run") == [".lock"]


@pytest.mark.slow
def test_restart_begins_again(tiny_scenes_dir, tmp_path, two_parts, monkeypatch):
    """Other flags are then no obstacle, and nothing of the earlier run is left."""
    monkeypatch.setattr(run, "export", lambda *_, **__: None)
    two_parts |= {"stages": ("end",), "epochs": (1,), "learning_rate": (0.01,)}
    run.train_run(make_options(tiny_scenes_dir, tmp_path, **two_parts))
    first = arrays_of(tmp_path)
    run.train_run(make_options(tiny_scenes_dir, tmp_path, **two_parts, seed=1, restart=True))
    assert any((first[name] != value).any() for name, value in arrays_of(tmp_path).items())
    assert len(small_runs.read_log(tmp_path)) == 1
    assert "--seed=1" in (tmp_path / "flags.txt").read_text()


@pytest.mark.slow
@FOUR_STAGES
def test_an_interrupted_run_ends_as_one_that_was_not(srn_run, tmp_path, monkeypatch):
    """Stopped in the middle of the stages cls (second epoch), sr and all; 4 steps an epoch."""
    source, metrics = srn_run
    options = dataclasses.replace(
        source, work_dir=str(tmp_path / "run"), prepared_dir=str(tmp_path / "run" / "dataset")
    )
    monkeypatch.setattr(trainer, "tqdm", small_runs.InterruptingBar)
    for stop_at in (6, 4 + 4 + 2, 4 + 3):
        monkeypatch.setattr(small_runs.InterruptingBar, "steps", 0)
        monkeypatch.setattr(small_runs.InterruptingBar, "stop_at", stop_at)
        with pytest.raises(small_runs.Interrupted):
            run.train_run(options)
    monkeypatch.setattr(small_runs.InterruptingBar, "stop_at", math.inf)
    assert run.train_run(options) == metrics
    for name in (*options.stages, "final"):
        small.assert_bit_equal(arrays_of(options.work_dir, name), arrays_of(source.work_dir, name))
    states = (small_runs.newest_state(folder)[0] for folder in (options.work_dir, source.work_dir))
    small.assert_bit_equal(*states)
    assert small_runs.read_log(options.work_dir) == small_runs.read_log(source.work_dir)


@pytest.mark.slow
def test_a_run_continues_without_the_files_it_began_with(tiny_scenes_dir, tmp_path, two_parts, monkeypatch):
    """Neither the first weights of the backbone nor the source of the prior is read again, and the end is the same."""
    labels, first = np.full((2, len(LABELS)), 1, np.int8), tmp_path / "validation.npz"
    logits = np.linspace(-2, 2, 2 * len(LABELS), dtype=np.float32).reshape(2, -1)
    two_parts |= {"unspecified": "selective", "selective_prior": str(first), "drop_labels": "rps:0.5"}
    two_parts |= {"backbone_weights": "imagenet", "train_only": True}
    built, build = [], run.build_model
    monkeypatch.setattr(run, "build_model", lambda config, *given: built.append(given) or build(config, *given))
    monkeypatch.setattr(trainer, "tqdm", small_runs.InterruptingBar)
    for name, steps in (("whole", (math.inf,)), ("parts", (6, math.inf))):
        save_predictions(str(first), SavedPredictions(np.array(["a", "b"]), labels, LABELS, {"y_hat": logits}))
        for stop_at in steps:
            monkeypatch.setattr(small_runs.InterruptingBar, "steps", 0)
            monkeypatch.setattr(small_runs.InterruptingBar, "stop_at", stop_at)
            with contextlib.suppress(small_runs.Interrupted):
                run.train_run(make_options(tiny_scenes_dir, tmp_path / name, **two_parts))
            first.unlink(missing_ok=True)
    assert [weights for _, weights in built] == ["imagenet", "imagenet", "none"]
    small.assert_bit_equal(arrays_of(tmp_path / "whole"), arrays_of(tmp_path / "parts"))
    prior = WorkDir(str(tmp_path / "parts")).read_run()["label_prior"]
    np.testing.assert_allclose(prior, (1 / (1 + np.exp(-logits))).mean(axis=0), rtol=1e-6)
    with pytest.raises(InputError, match="validation.npz must exist"):  # a new run needs it, before it is one
        run.train_run(make_options(tiny_scenes_dir, tmp_path / "new", **two_parts))
    assert os.listdir(tmp_path / "new") == [".lock"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"settings": METHODS["srn"].settings(srn_head="paper", head_channels=8), "ema_decay": 0.9},
        {"settings": METHODS["srn"].settings(head_channels=8, x_stride=32, init_confidence="classifier")},
        {"model": "main_net", "settings": METHODS["main_net"].settings(), "stages": ("cls",)},
        {"precision": "mixed_bfloat16", "optimizer": "adamw", "schedule": "cosine", "learning_rate": (0.001,) * 4},
    ],
)
def test_the_other_models_run_to_their_end(tiny_scenes_dir, tmp_path, changes):
    count = len(changes.get("stages", STAGES))
    changes = {"epochs": (1,) * count, "learning_rate": (0.01,) * count, "mirror": True, "max_distortion": 1, **changes}
    metrics = run.train_run(make_options(tiny_scenes_dir, tmp_path, **changes))
    assert all(output["all"]["mAP"] > 0 for output in metrics["outputs"].values())
    kept = metrics.get("kept_weights", {})
    assert list(kept) == (list(STAGES) if "ema_decay" in changes else [])
    assert set(kept.values()) <= {"plain", "average"} and kept == WorkDir(str(tmp_path)).read_run().get(
        "kept_weights", {}
    )
    assert ("pointing" in metrics) == (count == 4)
