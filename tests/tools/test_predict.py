"""tools/predict.py end to end, as a user runs it."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from srn_tf.data.image_files import read_image_file
from srn_tf.models.srn import build_srn
from srn_tf.serving.export import export
from srn_tf.serving.predictor import Predictor

ROOT = Path(__file__).parents[2]
LABELS = ["dog", "cat, small", 'the "blue" one']


def run_tool(*arguments, cwd=None):
    command = [sys.executable, ROOT / "tools" / "predict.py", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "export" / "1"
    tf.keras.utils.set_random_seed(0)
    export(build_srn("small", 56, 3, head_channels=8), LABELS, path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)

    def picture(height, width, channels):
        pixels = random.integers(0, 256, (height // 8 + 1, width // 8 + 1, channels), dtype=np.uint8)
        return Image.fromarray(pixels).resize((width, height))

    (folder / "sub").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(60, 90, 3).save(folder / "b.jpg", exif=exif)
    picture(70, 31, 4).save(folder / "a.png")
    picture(40, 44, 3).save(folder / "sub" / "c, d.webp")
    picture(50, 51, 3).save(folder / "z.bmp")
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_rows_equal_the_predictors_answers_in_order(saved_model, images, tmp_path):
    output = tmp_path / "P.csv"
    output.write_text("an older result")
    result = run_tool(
        f"--saved_model={saved_model}", "--output=P.csv", "--batch_size=3", images / "z.bmp", images, cwd=tmp_path
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "4 images: P.csv\n"
    paths = [str(images / name) for name in ("z.bmp", "a.png", "b.jpg", "sub/c, d.webp")]
    with open(output, encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["path", *LABELS]
    assert [row[0] for row in rows] == paths
    expected = Predictor(saved_model).predict([read_image_file(path) for path in paths])
    np.testing.assert_allclose(np.array([row[1:] for row in rows], float), expected, rtol=0, atol=1e-6)
    assert all(len(value) == len("0.123456") for row in rows for value in row[1:])
    assert os.listdir(tmp_path) == ["P.csv"]


def test_labels_only(saved_model, images, tmp_path):
    result = run_tool(f"--saved_model={saved_model}", "--output=P.csv", "--labels_only", images, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    paths = [str(images / name) for name in ("a.png", "b.jpg", "sub/c, d.webp", "z.bmp")]
    expected = Predictor(saved_model).predict_labels([read_image_file(path) for path in paths])
    with open(tmp_path / "P.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["path", "labels"], *([path, ";".join(names)] for path, names in zip(paths, expected, strict=True))]
    assert any(len(names) > 1 for names in expected) and any(len(names) < len(LABELS) for names in expected)


def test_labels_only_needs_names_without_the_separator(images, tmp_path):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def answer(image_bytes):
        num_images = [tf.shape(image_bytes)[0], 1]
        return {
            "probabilities": tf.tile([[0.4, 0.6]], num_images),
            "labels": tf.tile([["cat", "dog; brown"]], num_images),
        }

    tf.saved_model.save(tf.Module(), str(tmp_path / "1"), signatures={"serving_default": answer})
    result = run_tool(f"--saved_model={tmp_path / '1'}", f"--output={tmp_path / 'P.csv'}", "--labels_only", images)
    assert result.returncode == 1
    assert result.stderr.startswith("error: --labels_only separates names") and "'dog; brown'" in result.stderr
    assert os.listdir(tmp_path) == ["1"]


BAD = {
    "missing path": (["{images}/none.jpg"], "{images}/none.jpg"),
    "unreadable image": (["{images}", "{images}/notes.txt"], "{images}/notes.txt"),
    "folder without images": (["{empty}"], "{empty}"),
    "no arguments": ([], "At least one image or folder is needed"),
    "no saved model": (["{images}", "--saved_model={empty}"], "{empty}, which has no saved_model.pb"),
    "no output": (["{images}", "--output="], "--output is needed"),
    "output in no folder": (["{images}", "--output={empty}/none/P.csv"], "{empty}/none/P.csv"),
    "output is a folder": (["{images}", "--output={empty}"], "{empty}"),
    "output is a device": (["{images}", "--output=/dev/null"], "/dev/null"),
    "batch size": (["{images}", "--batch_size=0"], "batch_size"),
    "unknown flag": (["{images}", "--top=3"], "top"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(saved_model, images, tmp_path, name):
    arguments, expected = BAD[name]
    (tmp_path / "empty").mkdir()
    places = {"images": images, "empty": tmp_path / "empty"}
    arguments = [argument.format(**places) for argument in arguments]
    result = run_tool(f"--saved_model={saved_model}", f"--output={tmp_path / 'P.csv'}", *arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert expected.format(**places) in result.stderr
    assert os.listdir(tmp_path) == ["empty"] and not os.listdir(tmp_path / "empty")


def test_output_that_cannot_be_written_is_noticed_before_the_model_is_loaded(images, tmp_path):
    result = run_tool("--saved_model=missing", f"--output={tmp_path}/none/P.csv", images)
    assert result.returncode == 1 and "--output must be a file that can be written" in result.stderr


def test_older_result_survives_a_failure(saved_model, images, tmp_path):
    output = tmp_path / "P.csv"
    output.write_text("an older result")
    result = run_tool(f"--saved_model={saved_model}", f"--output={output}", images, images / "notes.txt")
    assert result.returncode == 1
    assert output.read_text() == "an older result" and os.listdir(tmp_path) == ["P.csv"]
