"""BUILD.md's way from one's own photographs to predictions, command by command as it is written there."""

import csv
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srn_tf.errors import InputError
from srn_tf.models.efficientnet_lite import imagenet_file

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT.parent / "shared" / "weights" / "efficientnet_lite0.npz"
COLOURS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 200)}


def commands():
    block = re.search(r"```own_photos\n(.*?)```", (ROOT / "BUILD.md").read_text(), re.DOTALL).group(1)
    return [shlex.split(line) for line in block.splitlines()]


def write_photos(folder):
    """Fifty pictures, each with one or two patches of colour; their labels are the colours."""
    (folder / "PHOTOS").mkdir()
    rng = np.random.default_rng(0)
    with open(folder / "labels.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "labels"])
        for index in range(50):
            pixels = rng.integers(90, 160, (96, 128, 3), np.uint8)
            present = rng.choice(list(COLOURS), rng.integers(1, 3), replace=False)
            for place, colour in enumerate(present):
                pixels[30:70, 10 + 60 * place : 50 + 60 * place] = COLOURS[colour]
            Image.fromarray(pixels).save(folder / "PHOTOS" / f"{index:02d}.jpg")
            rows.writerow([f"{index:02d}.jpg", ";".join(present)])


def weights():
    """No flag where the weights' package is installed; else their file, if it is there."""
    try:
        imagenet_file("efficientnet_lite0")
    except InputError:
        if not WEIGHTS.is_file():
            pytest.skip("the published weights are not there")
        return [f"--backbone_weights={WEIGHTS}"]
    return []


@pytest.mark.slow
@pytest.mark.parametrize("flagfile", ["own_photos", "own_photos_from_scratch"])
def test_the_commands_as_written(tmp_path, flagfile):
    more = weights() if flagfile == "own_photos" else []
    write_photos(tmp_path)
    assert [command[1] for command in commands()] == [
        f"tools/{name}.py" for name in ("prepare_data", "describe_data", "train", "predict")
    ]
    for command in commands():
        # From a folder of the user's own, so the program's paths are made absolute.
        words = [re.sub(r"(^|=)(tools|configs)/", rf"\1{ROOT}/\2/", word) for word in command[1:]]
        if command[1] == "tools/train.py":
            words = [word.replace("own_photos.flags", f"{flagfile}.flags") for word in words] + more
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "LOOK" / "cooccurrence.png").stat().st_size > 0
    with open(tmp_path / "predictions.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["path", "blue", "green", "red", "error"]
    assert [Path(row[0]).name for row in rows[1:]] == [f"{index:02d}.jpg" for index in range(50)]
    probabilities = np.array([row[1:-1] for row in rows[1:]], float)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
