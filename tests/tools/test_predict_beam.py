"""tools/predict_beam.py end to end, beside tools/predict.py."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srn_tf.serving.export import export
from tests.models.small import small_model
from tests.prediction.pictures import DAMAGED, damage, read_csv
from tests.tools.running import assert_refused, mostly_slow, run_without_tensorflow

ROOT = Path(__file__).parents[2]
LABELS = ["dog", "cat, small", 'the "blue" one']


def run_tool(name, *arguments):
    return subprocess.run(
        [sys.executable, ROOT / "tools" / f"{name}.py", *arguments], capture_output=True, text=True, check=True
    )


@pytest.mark.slow
def test_rows_are_those_of_predict(tmp_path):
    export(small_model("main_net", 3), LABELS, tmp_path / "1")
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(20):
        pixels = random.integers(0, 256, (5, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((70, 50)).save(folder / f"{index:02d}.jpg")
    for index, kind in enumerate(DAMAGED):
        damage(folder / f"{2 * index:02d}.jpg", kind)
    (tmp_path / "list").write_text("".join(f"{folder}/{index:02d}.jpg\n" for index in range(20)))
    arguments = [f"--saved_model={tmp_path / '1'}", f"--list_file={tmp_path / 'list'}", f"--output={tmp_path}/P.csv"]
    run_tool("predict", *arguments)
    result = run_tool("predict_beam", *arguments, "--beam_options=--direct_num_workers=1")
    failed = f"{len(DAMAGED)} of them without an answer (see its error)"
    assert result.stdout == f"20 images, {failed}: {tmp_path}/P.csv\n"
    assert all("JPEG" in line for line in result.stderr.splitlines())  # what the decoder says of the damaged one
    header, *rows = read_csv(tmp_path / "P.csv")
    shards = [read_csv(path) for path in tmp_path.glob("P-*-of-*.csv")]
    assert shards and all(shard[0] == header for shard in shards)
    there = sorted(row for shard in shards for row in shard[1:])
    assert [[row[0], row[-1]] for row in there] == [[row[0], row[-1]] for row in rows]
    answered = [index for index, row in enumerate(rows) if not row[-1]]
    assert len(answered) == 20 - len(DAMAGED)
    expected, received = (np.array([table[i][1:-1] for i in answered], float) for table in (rows, there))
    np.testing.assert_allclose(received, expected, rtol=0, atol=2e-6)  # batches differ, and so does rounding


@pytest.mark.parametrize(
    "arguments, expected",
    mostly_slow(
        [
            ([], "Images must be given either as arguments"),
            (["a.jpg", "--beam_options='"], "--beam_options must be flags in shell syntax"),
            (["a.jpg", "--output=P.txt"], "must end in .csv"),
            (["a.jpg", "--saved_model="], "Give --saved_model, an export, or --server, or both"),
            (["a.jpg", "--restart"], "restart"),
        ],
        fast=2,
    ),
)
def test_bad_input_is_said_before_the_model_is_loaded(tmp_path, arguments, expected):
    result = run_without_tensorflow("predict_beam", "--saved_model=m", f"--output={tmp_path}/P.csv", *arguments)
    assert_refused(result, expected)
    assert os.listdir(tmp_path) == []
