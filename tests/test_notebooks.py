"""The notebooks: kept without outputs, shown as pages, and what they say when they run."""

import base64
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from docs import notebook

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(ROOT.glob("docs/notebooks/*.ipynb"))
PNG = b"\x89PNG"

RAN = {
    "cells": [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# Title\n", "\n", "Text."]},
        {
            "cell_type": "code",
            "id": "b",
            "metadata": {"collapsed": False},
            "source": "print(x)",
            "execution_count": 7,
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": ["1 < 2\n", "\n", "3\n"]},
                {"output_type": "stream", "name": "stderr", "text": "a progress bar"},
                {"output_type": "display_data", "data": {"image/png": base64.b64encode(PNG).decode() + "\n"}},
                {"output_type": "execute_result", "data": {"text/plain": ["[4,\n", " 5]"]}},
            ],
        },
    ],
    "metadata": {"kernelspec": {"name": "mine"}},
}


def test_what_is_stripped():
    text = notebook.stripped(RAN)
    kept = json.loads(text)
    assert [cell["source"] for cell in kept["cells"]] == [["# Title\n", "\n", "Text."], ["print(x)"]]
    assert kept["cells"][1]["outputs"] == [] and kept["cells"][1]["execution_count"] is None
    assert not {"mine", "collapsed"} & set(re.findall(r"\w+", text))
    assert notebook.stripped(kept) == text


def test_a_notebook_as_markdown():
    text, pictures = notebook.to_markdown(RAN, "name")
    code, printed = "```python\nprint(x)\n```", '<pre class="output">1 &lt; 2\n\n3</pre>'
    picture, value = "![What the code above draws](name_1.png)", '<pre class="output">[4,\n 5]</pre>'
    assert text == "\n\n".join(["# Title\n\nText.", code, printed, picture, value]) + "\n"
    assert pictures == {"name_1.png": PNG}


def test_a_page_shows_outputs_of_the_same_code_only(tmp_path, monkeypatch):
    monkeypatch.setattr(notebook, "RUN_FOLDER", tmp_path / "ran")
    (tmp_path / "ran").mkdir()
    (tmp_path / "ran" / "one.ipynb").write_text(json.dumps(RAN))
    kept = tmp_path / "one.ipynb"
    kept.write_text(notebook.stripped(RAN))
    text, pictures = notebook.page(kept)
    assert text.startswith('# Title\n\n<a href="one.ipynb" download>') and "make docs" not in text
    assert list(pictures) == ["one_1.png"]
    kept.write_text(kept.read_text().replace("print(x)", "print(y)"))
    text, pictures = notebook.page(kept)
    assert "make docs" in text and "<pre" not in text and not pictures


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_stripped(path):
    text = path.read_text()
    assert text == notebook.stripped(json.loads(text)), f"type: python docs/notebook.py strip {path}"
    assert not re.search(r"(?<![\w.])(~|/home|/root|/tmp|/work|/Users|/usr|/opt)/|\b[A-Z]:\\", text)
    for cell in json.loads(text)["cells"]:
        assert len(cell["source"]) <= 30, "".join(cell["source"])


def test_what_is_refused(tmp_path):
    command = [sys.executable, ROOT / "docs/notebook.py", "run", NOTEBOOKS[0]]  # without a target
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr


# What they say when they run.

needs_kernel = pytest.mark.skipif(
    not (find_spec("nbclient") and find_spec("ipykernel")),
    reason="nbclient and ipykernel are needed: pip install -r requirements-notebooks.txt",
)


def run(source, target):
    command = [sys.executable, ROOT / "docs/notebook.py", "run", source, target]
    return subprocess.run(command, capture_output=True, text=True)


def what_it_prints(source, folder):
    """Runs a notebook: what its cells printed, as one text, and how many pictures it drew."""
    done = run(source, folder / "ran.ipynb")
    assert done.returncode == 0, done.stderr
    outputs = [out for cell in notebook.read(folder / "ran.ipynb")["cells"] for out in cell.get("outputs", ())]
    printed = ["".join(out["text"]) for out in outputs if out.get("name") == "stdout"]
    return "".join(printed), sum("image/png" in out.get("data", {}) for out in outputs)


@pytest.mark.slow
@needs_kernel
def test_a_cell_that_fails_is_said(tmp_path):
    broken = json.loads(notebook.stripped(RAN))
    (tmp_path / "broken.ipynb").write_text(json.dumps(broken))
    done = run(tmp_path / "broken.ipynb", tmp_path / "ran.ipynb")
    assert done.returncode == 1 and not (tmp_path / "ran.ipynb").exists()
    assert re.match(r"error: Every cell of \S+ must run. Received: NameError: name 'x' is not defined", done.stderr)


@pytest.mark.slow
@needs_kernel
def test_own_photographs(tmp_path):
    printed, num_pictures = what_it_prints(ROOT / "docs/notebooks/own_photographs.ipynb", tmp_path)
    assert num_pictures == 4
    assert "Labels: boat meadow sea sun tent tree" in printed
    assert float(re.search(r"mAP ([\d.]+) on 60 test images", printed)[1]) > 95
    said_and_true = re.findall(r"^said: (.*?) +true: (.*)$", printed, re.MULTILINE)
    # First weights differ between the stacks: of the eight new pictures all were right on one, seven on the other.
    assert len(said_and_true) == 8 and sum(said == true for said, true in said_and_true) >= 6


@pytest.mark.slow
@needs_kernel
def test_srn_step_by_step(tmp_path):
    printed, num_pictures = what_it_prints(ROOT / "docs/notebooks/srn_step_by_step.ipynb", tmp_path)
    assert num_pictures == 12
    shapes = dict(re.findall(r"^(\w+) +(\([\d, ]+\))", printed.replace("  y_att", "\ny_att"), re.MULTILINE))
    grid, heads = "(200, 14, 14, 6)", "(200, 14, 14, 64)"
    assert shapes["X"] == heads and shapes["A"] == shapes["S"] == shapes["U"] == grid
    assert shapes["sr_conv2_relu"] == shapes["sr_conv3_relu"] == heads
    assert shapes["sr_conv4_relu"] == "(200, 1, 1, 256)"
    assert shapes["y_cls"] == shapes["y_att"] == shapes["sr_logits"] == "(200, 6)"
    sums = re.search(r"sums over the grid: \[([\d. ]+)\]", printed)[1].split()
    assert [float(value) for value in sums] == pytest.approx([1.0] * 6, abs=1e-3)
    assert float(re.search(r"Largest difference: (\S+)", printed)[1]) < 1e-4
    reached = dict(re.findall(r"^(y_\w+): mAP ([\d.]+) on 200 new pictures", printed, re.MULTILINE))
    assert set(reached) == {"y_hat", "y_cls", "y_att", "y_sr"} and float(reached["y_hat"]) > 95
    side = {"boat": "sea", "sea": "sea", "meadow": "land", "tent": "land", "tree": "land"}
    (supporter, supported), (opponent, opposed) = (
        re.search(rf"^Strongest: (\w+) {what} (\w+) ", printed, re.MULTILINE).groups()
        for what in ("supports", "speaks against")
    )
    assert side[supporter] == side[supported] and side[opponent] != side[opposed]
