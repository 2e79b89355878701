"""The program `srn-tf`: its commands are the files of tools/, and what they say names them as they were called."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import srn_tf
from srn_tf import program
from srn_tf.errors import InputError
from tests.tools.running import ROOT, mostly_slow


def run_program(*arguments, cwd=ROOT):
    """`python -m srn_tf`, which is what pip installs as `srn-tf`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "srn_tf", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def test_every_file_in_tools_is_a_command_and_every_command_is_listed_with_a_line():
    files = {path.stem for path in (ROOT / "tools").glob("*.py")} - {"checkout"}
    assert sorted(program.COMMANDS.values()) == sorted(files)
    result = run_program("--help")
    assert (result.returncode, result.stderr) == (0, "")
    listed = [line for line in result.stdout.splitlines() if line.startswith("  ")]
    assert [line.split()[0] for line in listed] == list(program.COMMANDS)
    assert all(len(line.split()) > 4 for line in listed) and "tools/" not in result.stdout


@pytest.mark.parametrize("name", list(program.COMMANDS.values()))
def test_a_file_in_tools_is_a_front_door(name):
    text = (ROOT / "tools" / f"{name}.py").read_text()
    assert f'start("{name}")' in text and len(text.splitlines()) == 6
    assert (ROOT / "srn_tf" / "commands" / f"{name}.py").is_file()


def test_no_command_an_unknown_one_and_the_version():
    nothing, unknown, version = (run_program(*words) for words in ([], ["trian"], ["--version"]))
    assert (nothing.returncode, unknown.returncode, version.returncode) == (1, 1, 0)
    assert "  train " in nothing.stdout
    message, *overview = unknown.stderr.splitlines()
    assert message == "error: The first word must be a command of srn-tf. Received: 'trian'."
    assert "\n".join(overview) == nothing.stdout.rstrip("\n")
    assert version.stdout == f"{srn_tf.__version__}\n"


def test_a_command_is_the_tool_but_for_its_name(tmp_path):
    help_text = run_program("tune-thresholds", "--help").stdout
    of_tool = subprocess.run(
        [sys.executable, "tools/tune_thresholds.py", "--help"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    assert "python tools/" in of_tool and "tools/" not in help_text
    assert help_text == program_names(of_tool)
    result = run_program("tune-thresholds", f"--work_dir={tmp_path}")
    assert result.returncode == 1
    assert result.stderr.startswith("error: work_dir must be a run of srn-tf train. Received: ")


def program_names(text):
    """A text with `srn-tf` in the place of the tools."""
    for command, name in program.COMMANDS.items():
        text = text.replace(f"python tools/{name}.py", f"srn-tf {command}").replace(
            f"tools/{name}.py", f"srn-tf {command}"
        )
    return text


def test_commands_are_named_as_they_were_called(monkeypatch):
    assert program.command("prepare_data") == "python tools/prepare_data.py"
    assert program.as_called("python tools/train.py; tools/knn.py") == "python tools/train.py; tools/knn.py"
    monkeypatch.setattr(sys, "argv", ["srn-tf train"])
    assert (program.tool("predict_beam"), program.command("predict_beam")) == ("srn-tf predict-beam",) * 2
    assert program.as_called("python tools/train.py; tools/knn.py") == "srn-tf train; srn-tf knn"


def test_without_a_checkout_commands_are_those_of_the_program(monkeypatch):
    monkeypatch.setattr(program, "_HERE", "/usr/lib/srn_tf")
    assert program.command("explain_regularizer") == "srn-tf explain"
    assert program.install("requirements-beam.txt", "apache-beam") == "pip install apache-beam"


def test_a_flagfile_of_the_packages_own_stands_in_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = program.find_flagfile("configs/own_photos.flags")
    assert os.path.samefile(own, ROOT / "configs" / "own_photos.flags")
    Path("configs").mkdir()
    Path("configs/own_photos.flags").write_text("")
    assert program.find_flagfile("configs/own_photos.flags") == "configs/own_photos.flags"
    with pytest.raises(
        InputError, match="flagfile must be an existing file. Received: 'configs/mine.flags'. .*configs/scenes"
    ):
        program.find_flagfile("configs/mine.flags")


@pytest.mark.parametrize(
    "words", mostly_slow([(["--flagfile=configs/scenes.flags"],), (["--flagfile", "configs/scenes.flags"],)], fast=1)
)
def test_the_flagfile_that_is_taken_is_named(words, tmp_path):
    result = run_program("train", *words, "--work_dir=RUN", "--epochs=none", "--data_dir=DATA", cwd=tmp_path)
    assert result.stdout.startswith("Flagfile configs/scenes.flags: using srn_tf's own, /")
    assert result.stderr == "error: epochs must be positive numbers separated by commas. Received: 'none'.\n"
