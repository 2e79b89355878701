"""tools/train.py as a user runs it: bad input is one line on stderr and a status."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from srn_tf.models.registry import METHODS
from srn_tf.options import Options
from srn_tf.runs.work_dir import WorkDir
from tests.tools.running import mostly_slow

ROOT = Path(__file__).parents[2]
SMALL = ["--dataset=scenes", "--backbone=small", "--backbone_weights=none", "--image_size=56", "--head_channels=8"]


def start_tool(*arguments):
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.Popen(
        [sys.executable, ROOT / "tools" / "train.py", *arguments],
        env={**environment, "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_refused(process, *parts):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    assert len(errors.splitlines()) == 1 and errors.startswith("error: "), errors
    for part in parts:
        assert part in errors


@pytest.mark.parametrize(
    ("arguments", "parts"),
    mostly_slow(
        [
            (["--learning_rte=1"], ["Unknown command line flag 'learning_rte'", "train.py --helpfull."]),
            (["--backbone=vgg16"], ["backbone", "vgg16", "resnet101v2", "small"]),
            (["--batch_size=0"], ["batch_size", "0"]),
            (["--batch_size=many"], ["batch_size", "many"]),
            (["--epochs=3,4"], ["epochs must be one number or one per stage (4: cls,att,sr,all). Received: 3,4"]),
            (["scenes"], ["Options must be written as --name=value. Received: 'scenes'"]),
            (["--flagfile=none.flags"], ["none.flags"]),
        ],
        fast=2,
    ),
    ids=lambda value: " ".join(value)[:40],
)
def test_bad_flags(arguments, parts, tmp_path):
    """Found before TensorFlow is loaded."""
    work_dir = tmp_path / "run"
    assert_refused(start_tool("--data_dir=D", f"--work_dir={work_dir}", *arguments), *parts)
    assert not work_dir.exists()


def test_the_places_are_required():
    assert_refused(start_tool("--work_dir=W"), "data_dir")
    assert_refused(start_tool("--data_dir=D"), "work_dir")


@pytest.mark.slow
def test_bad_stages(tiny_scenes_dir, tmp_path):
    """Found when TensorFlow is loaded and the model built."""
    process = start_tool(*SMALL, f"--data_dir={tiny_scenes_dir}", f"--work_dir={tmp_path}/b", "--stages=cls,foo")
    assert_refused(process, "stages must be among cls, att, sr, all. Received: 'foo'")


@pytest.mark.slow
def test_bad_data_and_folders(tiny_scenes_dir, tmp_path):
    """These load TensorFlow, so they run beside one another."""
    empty, other = tmp_path / "empty", WorkDir(str(tmp_path / "other"))
    empty.mkdir()
    Path(other.path).mkdir()
    other.write_run({"labels": []}, "--model=main_net\n")
    scenes = f"--data_dir={tiny_scenes_dir}"
    cases = [
        (
            ["--dataset=coco2014", f"--data_dir={empty}", f"--work_dir={tmp_path}/a"],
            [f"data_dir must be a folder with the data set coco2014. Received: '{empty}', which is empty"],
        ),
        (
            [*SMALL, scenes, f"--work_dir={other.path}"],
            [other.path, "must be used with the flags of its run", "--model=main_net", "--model=srn"],
        ),
    ]
    processes = [(start_tool(*command), parts) for command, parts in cases]
    for process, parts in processes:
        assert_refused(process, *parts)


def help_in_groups(*arguments):
    """Heading -> names of the flags below it, and the whole text."""
    process = start_tool(*arguments)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    parts = re.split(r"^([A-Z].*):$", output, flags=re.MULTILINE)[1:]
    return {
        heading: re.findall(r"^  --(?:\[no\])?(\w+):", text, re.MULTILINE)
        for heading, text in zip(parts[::2], parts[1::2], strict=True)
    }, output


def test_help_shows_the_main_flags_by_topic_and_helpfull_all():
    main, text = help_in_groups("-h")
    assert next(iter(main.items())) == ("Data and folders", ["data_dir", "dataset", "validation_fraction", "work_dir"])
    assert {"model", "backbone"} < set(main["Model"]) and "epochs" in main["Training"]
    assert len(text.splitlines()) < 150 and "--helpfull shows more flags: Data and folders; Settings of the m" in text
    full, _ = help_in_groups("--helpfull")
    assert main.items() < full.items() and "weight_decay" in full["Training, in detail"]
    names = [name for group in full.values() for name in group]
    fields = ["print_next"] + [
        field.name for method in METHODS.values() for field in dataclasses.fields(method.settings)
    ]
    fields += [field.name for field in dataclasses.fields(Options) if field.name != "settings"]
    assert sorted(names) == sorted(set(fields))
