"""The flags of a run: their sets, per-stage lists, and their way through a flagfile and back."""

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from srn_tf import options
from srn_tf.data import augments
from srn_tf.data.augments import Effects
from srn_tf.data.crops import Crops, RandomResizedCrop
from srn_tf.errors import InputError
from srn_tf.models.registry import METHODS
from tests.models.region_toy import REGION_TOY

ROOT = Path(__file__).parents[1]
PLACES = ("--data_dir=/data/set", "--work_dir=/runs/one")


def parse(*arguments):
    """Options from a command line, parsed by flags that exist for this call only."""
    known = set(flags.FLAGS)
    options.define_flags()
    values = flags.FlagValues()
    for name in set(flags.FLAGS) - known:
        values[name] = flags.FLAGS[name]
        delattr(flags.FLAGS, name)
    leftover = values(["program", *arguments])[1:]
    assert leftover == []
    return options.read_options(values)


def test_every_field_has_a_flag_with_help_and_no_other_flag_exists():
    known = set(flags.FLAGS)
    options.define_flags()
    defined = {name: flags.FLAGS[name].help for name in set(flags.FLAGS) - known}
    for name in defined:
        delattr(flags.FLAGS, name)
    settings = {field.name for method in METHODS.values() for field in dataclasses.fields(method.settings)}
    assert set(defined) == {field.name for field in dataclasses.fields(options.Options)} - {"settings"} | settings
    assert all(len(text) > 5 for text in defined.values())


# Defaults.


def test_defaults_are_the_papers():
    parsed = parse(*PLACES)
    assert (parsed.data_dir, parsed.work_dir, parsed.prepared_dir) == ("/data/set", "/runs/one", "/runs/one/dataset")
    assert (parsed.model, parsed.dataset, parsed.backbone, parsed.image_size) == ("srn", "coco2014", "resnet101v2", 224)
    assert (parsed.settings.head_channels, parsed.settings.learn_alpha, parsed.batch_size) == (512, False, 96)
    assert (parsed.momentum, parsed.weight_decay, parsed.learning_rate_min) == (0.9, 5e-4, 1e-5)
    assert parsed.stages == ("cls", "att", "sr", "all")
    assert parsed.learning_rate == (0.001,) * 4
    assert (parsed.crops, parsed.mirror, parsed.max_distortion) == (True, False, -1)
    assert [round(256 * scale) for scale in parsed.crop_scales] == [256, 224, 192, 168, 128]
    assert parsed.crop_places == 5
    assert (parsed.shuffle_buffer, parsed.cache) == (20_000, "none")
    # The published numbers come from the released nets.
    assert parsed.settings.srn_head == "released"
    assert (parsed.loss, parsed.positive_weights) == ("sigmoid", "none")


def test_names_are_those_of_the_packages():
    from srn_tf import choices
    from srn_tf.models.backbones import BACKBONES

    expected = {
        "dataset": choices.DATASETS,
        "model": tuple(METHODS),
        "backbone": BACKBONES,
        "cache": choices.CACHES,
        "loss": choices.LOSSES,
        "positive_weights": choices.POSITIVE_WEIGHTS,
        "unspecified": choices.UNSPECIFIED,
        "optimizer": choices.OPTIMIZERS,
        "ema_keep": choices.KEPT_WEIGHTS,
        "decayed_weights": choices.DECAYED_WEIGHTS,
        "schedule": choices.SCHEDULES,
    }
    for name, values in expected.items():
        for value in values:
            assert getattr(parse(*PLACES, f"--{name}={value}"), name) == value
        with pytest.raises(flags.IllegalFlagValueError) as error:
            parse(*PLACES, f"--{name}=other")
        assert f"should be one of <{'|'.join(values)}>" in str(error.value)


def test_stages_are_those_of_the_models():
    stages = {"srn": "cls att sr all", "srn_att": "cls att sr all", "main_net": "cls", "semantic": "cls sem all"}
    stages |= {"rlsd": "heads joint", "rlsd_ft_rpn": "rpn heads joint"}  # the former's rpn is trained on other data
    for model, expected in stages.items():
        assert parse(*PLACES, f"--model={model}").stages == tuple(expected.split()), model


def test_settings_are_the_methods_own():
    parsed = parse(*PLACES, "--srn_head=paper", "--head_channels=8", "--learn_alpha", "--x_stride=32")
    assert dataclasses.asdict(parsed.settings) == {
        **{"pooling": "mean", "srn_head": "paper", "neck_blocks": 2, "head_channels": 8},
        **{"head_dropout": 0.0, "answer": "cls_sr", "learn_alpha": True},
        **{"x_stride": 32, "init_confidence": "random"},
    }
    assert dataclasses.asdict(parse(*PLACES, "--model=main_net", "--pooling=max").settings) == {
        "pooling": "max",
        "csra_at_test": 0.0,
    }
    lines = parsed.as_flagfile().splitlines()
    assert {"--srn_head=paper", "--x_stride=32", "--learn_alpha=true"} <= set(lines)
    assert not any("head_channels" in line for line in parse(*PLACES, "--model=main_net").as_flagfile().splitlines())


def test_a_flag_of_another_method_is_refused():
    with pytest.raises(InputError) as error:
        parse(*PLACES, "--model=main_net", "--srn_head=paper")
    assert str(error.value) == (
        "--srn_head belongs to --model=srn or srn_att. Received: --srn_head=paper with --model=main_net. Remove it."
    )


def test_a_setting_outside_its_set():
    with pytest.raises(flags.IllegalFlagValueError, match="x_stride=20: must be one of 16, 32"):
        parse(*PLACES, "--x_stride=20")
    with pytest.raises(flags.IllegalFlagValueError, match="should be one of <mean|max>"):
        parse(*PLACES, "--pooling=sum")


def test_options_load_without_tensorflow():
    code = "import sys, srn_tf.options; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# Lists.


def test_one_number_serves_all_stages():
    parsed = parse(*PLACES, "--epochs=7", "--learning_rate=0.01")
    assert parsed.epochs == (7, 7, 7, 7) and parsed.learning_rate == (0.01,) * 4


def test_one_number_per_stage():
    parsed = parse(*PLACES, "--stages=cls,all", "--epochs=7,3", "--learning_rate=0.01,1e-3")
    assert (parsed.stages, parsed.epochs, parsed.learning_rate) == (("cls", "all"), (7, 3), (0.01, 0.001))


def test_a_model_trains_its_own_stages_unless_stages_are_given():
    parsed = parse(*PLACES, "--model=semantic", "--epochs=5,6,7")
    assert (parsed.stages, parsed.epochs) == (("cls", "sem", "all"), (5, 6, 7))
    parsed = parse(*PLACES, "--model=main_net", "--epochs=5")
    assert (parsed.stages, parsed.epochs, parsed.learning_rate) == (("cls",), (5,), (0.001,))
    assert parse(*PLACES, "--model=main_net", "--stages=cls,att").stages == ("cls", "att")  # for the trainer to refuse


@pytest.mark.parametrize(
    "argument, message",
    [
        ("--epochs=1,2", "epochs must be one number or one per stage (4: cls,att,sr,all). Received: 1,2."),
        ("--stages=", "stages must name at least one stage. Received: ''."),
        ("--epochs=1.5", "epochs must be positive numbers separated by commas. Received: '1.5'."),
        ("--epochs=0", "epochs must be positive numbers separated by commas. Received: '0'."),
        ("--epochs=", "epochs must be positive numbers separated by commas. Received: ''."),
        ("--epochs=3,,3,3", "epochs must be positive numbers separated by commas. Received: '3,,3,3'."),
        (
            "--learning_rate=0.1,0.1,0.1",
            "learning_rate must be one number or one per stage (4: cls,att,sr,all). Received: 0.1,0.1,0.1.",
        ),
        ("--learning_rate=fast", "learning_rate must be positive numbers separated by commas. Received: 'fast'."),
        ("--learning_rate=-0.1", "learning_rate must be positive numbers separated by commas. Received: '-0.1'."),
        ("--learning_rate=nan", "learning_rate must be positive numbers separated by commas. Received: 'nan'."),
        ("--learning_rate=inf", "learning_rate must be positive numbers separated by commas. Received: 'inf'."),
    ],
)
def test_bad_lists(argument, message):
    with pytest.raises(InputError) as error:
        parse(*PLACES, argument)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "argument, message",
    [
        ("--rate_scales=trunk", "rate_scales must be PART=FACTOR,..., such as trunk=0.1. Received: 'trunk'."),
        ("--rate_scales=trunk=0.1,=2", "rate_scales must be PART=FACTOR,..., such as trunk=0.1. Received: '=2'."),
        ("--rate_scales=trunk=0", "rate_scales must be PART=FACTOR,..., such as trunk=0.1. Received: 'trunk=0'."),
        ("--profile_steps=7", "profile_steps must be FIRST:LAST, step numbers from 1, such as 10:20. Received: '7'."),
        (
            "--profile_steps=0:7",
            "profile_steps must be FIRST:LAST, step numbers from 1, such as 10:20. Received: '0:7'.",
        ),
        (
            "--profile_steps=8:7",
            "profile_steps must be FIRST:LAST, step numbers from 1, such as 10:20. Received: '8:7'.",
        ),
        (
            "--warmup_epochs=100",
            "warmup_epochs must be fewer than the epochs of every stage. Received: 100, "
            "and 100 epochs. Use a smaller --warmup_epochs or more --epochs.",
        ),
    ],
)
def test_bad_settings_of_the_steps(argument, message):
    with pytest.raises(InputError) as error:
        parse(*PLACES, argument)
    assert str(error.value) == message


def test_settings_of_the_steps():
    parsed = parse(*PLACES, "--rate_scales=trunk=0.1,classifier=2", "--profile_steps=3:12", "--warmup_epochs=0.5")
    assert (parsed.rate_scales, parsed.profile_steps) == (("trunk=0.1", "classifier=2"), (3, 12))
    assert (parse(*PLACES).rate_scales, parse(*PLACES).profile_steps) == ((), ())


def test_the_defaults_are_those_of_a_plan():
    from srn_tf.training.plan import TrainingPlan

    parsed = parse(*PLACES)
    for field in dataclasses.fields(TrainingPlan):
        own = field.name not in (
            "stages",
            "epochs",
            "learning_rates",
            "rate_scales",
            "crops",
            "effects",
            "profile_steps",
        )
        if own:
            assert getattr(parsed, field.name) == field.default, field.name


def test_augmentations_are_listed_in_the_order_in_which_they_are_applied():
    parsed = parse(*PLACES, "--augment=cutout,randaugment,mirror,random_resized_crop", "--random_crop_min_area=0.5")
    assert parsed.augment == ("random_resized_crop", "mirror", "randaugment", "cutout")
    assert (parsed.crops, parsed.mirror) == (False, True)
    assert augments.frame_of(parsed) == RandomResizedCrop(0.5)
    assert augments.effects_of(parsed) == Effects(("randaugment", "cutout"))
    parsed = parse(*PLACES, "--mirror")
    assert (parsed.augment, parsed.crops, parsed.mirror) == ((), True, True)
    assert (augments.frame_of(parsed), augments.effects_of(parsed)) == (Crops(), Effects())
    assert augments.frame_of(parse(*PLACES, "--augment=resize")) is None
    parsed = parse(*PLACES, "--augment=crops,mixup", "--max_distortion=1", "--mixup_alpha=0.8")
    assert augments.frame_of(parsed) == Crops(max_distortion=1)
    assert augments.effects_of(parsed) == Effects(("mixup",), mixup_alpha=0.8)
    assert augments.frame_of(parse(*PLACES, "--augment=multi_scale_crop")).places == 13


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--augment=flip"], "--augment must list some of resize, crops, random_resized_crop"),
        (["--augment=mirror,mirror"], "must name each augmentation once. Received: 'mirror,mirror'"),
        (["--augment=crops,mirror,resize"], "which all choose what of an image is seen. Received: crops and resize."),
        (["--augment=mixup,cutmix"], "which all mix the images of a batch. Received: mixup and cutmix. Keep one"),
        (["--mirror", "--augment=crops"], "Received: --mirror with --augment=crops. Use --nomirror, or add it to"),
        (["--nocrops", "--augment=crops"], "Received: --nocrops with --augment=crops. Use --crops, or remove it from"),
    ],
)
def test_augmentations_that_exclude_each_other(arguments, message):
    with pytest.raises(InputError) as error:
        parse(*PLACES, *arguments)
    assert message in str(error.value)


@pytest.mark.parametrize("cache", ["decoded", "features"])
def test_what_is_decoded_once_is_decoded_exactly(cache):
    assert parse(*PLACES, "--fast_decode", "--cache=encoded").fast_decode
    with pytest.raises(InputError) as error:
        parse(*PLACES, "--fast_decode", f"--cache={cache}")
    assert str(error.value) == (
        "fast_decode is for images that are decoded in every epoch. Received: --fast_decode with "
        f"--cache={cache}, which decodes them once. Remove --fast_decode, or use --cache=encoded."
    )


def test_weights_of_positives_need_a_loss_that_has_them():
    assert parse(*PLACES, "--positive_weights=balanced").positive_weights == "balanced"
    with pytest.raises(InputError) as error:
        parse(*PLACES, "--positive_weights=balanced", "--loss=focal")
    assert str(error.value) == (
        "positive_weights must be none unless loss is sigmoid. Received: --positive_weights=balanced and --loss=focal. "
        "Use --positive_weights=none."
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ("--selective_top_k=3", "--unspecified=negative"),
            "selective_top_k belongs to --unspecified=selective. Received: --selective_top_k=3 with "
            "--unspecified=negative. Remove it.",
        ),
        (
            ("--drop_labels=half",),
            "drop_labels must be none, rps:P (drop each label with probability P, 0 <= P < 1) or fpc:N (keep N "
            "positive and N negative images of each label). Received: 'half'.",
        ),
    ],
)
def test_bad_settings_of_unspecified_labels(arguments, message):
    with pytest.raises(InputError) as error:
        parse(*PLACES, *arguments)
    assert str(error.value) == message


def test_the_defaults_of_the_losses_are_those_of_the_functions():
    from srn_tf.training.losses import make_loss

    parsed = parse(*PLACES)
    for name in ("focal_gamma", "asl_gamma_pos", "asl_gamma_neg", "asl_margin", "asl_focal_gradient"):
        assert getattr(parsed, name) == inspect.signature(make_loss).parameters[name].default


@pytest.mark.parametrize(
    "argument",
    [
        *("--validation_fraction=-0.1", "--validation_fraction=1", "--batch_size=0", "--image_size=0"),
        *("--momentum=1.5", "--ema_decay=1", "--patience=0", "--seed=-1", "--max_distortion=-2", "--head_channels=0"),
        *(
            "--accumulation_steps=0",
            "--clip_norm=-1",
            "--steps_per_call=0",
            "--keep_checkpoints=0",
            "--data_threads=-1",
        ),
        *("--checkpoint_every_s=-1", "--max_skipped_steps=-1", "--warmup_epochs=-1"),
        *(
            "--shuffle_buffer=0",
            "--repeat_threshold=1.5",
            "--fixed_crops=-1",
            "--focal_gamma=-1",
            "--asl_gamma_pos=-1",
            "--asl_gamma_neg=-1",
            "--asl_margin=1",
        ),
        *("--random_crop_min_area=0", "--jitter_strength=1.1", "--randaugment_ops=0", "--randaugment_magnitude=31"),
        *("--cutout_side=-1", "--mixup_alpha=0", "--cutmix_alpha=0", "--splicemix_blanks=2", "--smoothing=-1"),
    ],
)
def test_values_out_of_range(argument):
    with pytest.raises(flags.IllegalFlagValueError, match=argument.split("=")[0][2:]):
        parse(*PLACES, argument)


@pytest.mark.parametrize("missing", ["data_dir", "work_dir"])
def test_places_must_be_given(missing):
    with pytest.raises(flags.IllegalFlagValueError, match=f"--{missing}"):
        parse(*(place for place in PLACES if missing not in place))


# Flagfiles.


EVERY_FLAG = (
    *("--dataset=scenes", "--validation_fraction=0.25", "--model=srn_att", "--backbone=small"),
    *("--backbone_weights=/weights/a b.h5", "--image_size=112", "--srn_head=paper"),
    *("--head_channels=8", "--learn_alpha", "--stages=cls,all", "--epochs=3,4", "--init_from=/runs/zero"),
    *("--batch_size=5", "--learning_rate=0.02,0.003", "--learning_rate_min=1e-7", "--momentum=0.5"),
    *("--weight_decay=0.0001", "--patience=9", "--ema_decay=0.999", "--nocrops", "--mirror", "--max_distortion=1"),
    *("--crop_scales=1,0.65625,0.3", "--crop_places=13"),
    *("--shuffle_buffer=50", "--logical_cpus=2", "--seed=11", "--positive_weights=balanced"),
    *("--focal_gamma=1.5", "--asl_gamma_pos=0.5", "--asl_gamma_neg=3", "--asl_margin=0.1", "--asl_focal_gradient"),
    *("--accumulation_steps=5", "--optimizer=adamw", "--schedule=cosine", "--warmup_epochs=0.5"),
    *("--rate_scales=trunk=0.1,classifier=2", "--clip_norm=1.5", "--max_skipped_steps=4", "--precision=mixed_bfloat16"),
    *("--xla", "--notf32", "--deterministic", "--frozen_parts=trunk,classifier", "--frozen_norms=f_neck"),
    *("--nocycle_momentum", "--decayed_weights=matrices", "--ema_keep=plain", "--repeat_threshold=0.01"),
    *("--augment=mirror,multi_scale_crop,cutout,label_smoothing", "--random_crop_min_area=0.08"),
    *("--jitter_strength=0.2", "--randaugment_ops=3", "--randaugment_magnitude=5", "--cutout_side=0.3"),
    *("--mixup_alpha=0.8", "--cutmix_alpha=0.5", "--splicemix_blanks=0", "--smoothing=0.2"),
    *("--unspecified=selective", "--selective_prior=/runs/zero", "--selective_threshold=0.3", "--selective_top_k=2"),
    *("--selective_gamma=3", "--selective_weight=0.5", "--drop_labels=rps:0.9"),
    *("--fixed_crops=4", "--fast_decode"),
    "--serve_output=y_att",
)


@pytest.mark.parametrize("arguments", [(), EVERY_FLAG, ("--model=main_net",), ("--loss=warp",)])
def test_flagfile_round_trip(tmp_path, arguments):
    written = parse(*PLACES, "--prepared_dir=/prepared", *arguments)
    flagfile = tmp_path / "flags.txt"
    flagfile.write_text(written.as_flagfile())
    assert parse(*PLACES, "--prepared_dir=/prepared", f"--flagfile={flagfile}") == written


# What says where, and how fast, but not what.
UNRECORDED = {
    *("data_dir", "work_dir", "prepared_dir", "cache", "data_threads", "steps_per_call"),
    *("checkpoint_every_s", "keep_checkpoints", "profile_steps", "restart", "train_only"),
}


def test_every_flag_of_the_round_trip_differs_from_its_default():
    default, changed = parse(*PLACES), parse(*PLACES, *EVERY_FLAG)
    for field in dataclasses.fields(options.Options):
        if field.name not in {*UNRECORDED, "loss"}:
            assert getattr(changed, field.name) != getattr(default, field.name), field.name


def test_a_flagfile_says_what_and_not_where_or_how_fast():
    """So that a run that ran out of memory may continue with another --cache."""
    text = parse(*PLACES, "--cache=decoded", "--restart", "--data_threads=3").as_flagfile()
    lines = text.splitlines()
    assert all(line.startswith("--") and "=" in line for line in lines)
    names = {line[2:].split("=")[0] for line in lines}
    own = {field.name for field in dataclasses.fields(METHODS["srn"].settings)}
    assert names == {field.name for field in dataclasses.fields(options.Options)} - {"settings"} - UNRECORDED | own


def test_word_vectors_are_a_flag_of_the_methods_that_read_them(monkeypatch):
    monkeypatch.setitem(METHODS, "region_toy", REGION_TOY)
    parsed = parse(*PLACES, "--model=region_toy", "--label_embeddings=glove.txt", "--label_width=50")
    assert (parsed.settings.label_embeddings, parsed.settings.label_width) == ("glove.txt", 50)
    assert "--label_embeddings=glove.txt\n--label_width=50\n" in parsed.as_flagfile()
    with pytest.raises(
        InputError, match="--label_embeddings belongs to --model=ml_gcn or msrn or region_toy. Received"
    ):
        parse(*PLACES, "--label_embeddings=glove.txt")


def test_flags_after_a_flagfile_win(tmp_path):
    flagfile = tmp_path / "flags.txt"
    flagfile.write_text("# a comment\n--seed=1\n--epochs=2\n")
    parsed = parse(*PLACES, f"--flagfile={flagfile}", "--seed=5")
    assert (parsed.seed, parsed.epochs) == (5, (2,) * 4)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.flags")), ids=lambda path: path.name)
def test_every_flagfile_of_the_project_parses(path):
    lines = [line.strip() for line in path.read_text().splitlines()]
    assert lines[0].startswith("#")  # a heading
    settings = [line for line in lines if line and not line.startswith("#")]
    # What follows a value on its line would be part of it, and a line without dashes a stray argument.
    assert all(line.startswith("--") and "#" not in line and " " not in line for line in settings)
    names = [line.split("=")[0] for line in settings]
    assert len(set(names)) == len(names)
    assert not {"--data_dir", "--work_dir", "--prepared_dir"} & set(names)
    parsed = parse(*PLACES, f"--flagfile={path}")
    assert len(parsed.epochs) == len(parsed.learning_rate) == len(parsed.stages)
