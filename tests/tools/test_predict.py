"""tools/predict.py end to end, as a user runs it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from srn_tf.data.photo_records import read_photo
from srn_tf.data.source import Example, Photo
from srn_tf.serving.export import export
from srn_tf.serving.predictor import Predictor
from tests.models.small import small_model
from tests.prediction.pictures import DAMAGED, damage, encode, read_csv
from tests.serving.model_server import ServedModel
from tests.serving.model_server_rest import RestServer
from tests.tools.running import assert_refused, mostly_slow, run_without_tensorflow

ROOT = Path(__file__).parents[2]
LABELS = ["dog", "cat, small", 'the "blue" one']
NAMES = ["a.png", "b.jpg", "f.jpg", "sub/c, d.webp", "z.bmp"]


def run_tool(*arguments, **options):
    command = [sys.executable, ROOT / "tools" / "predict.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "export" / "1"
    tf.keras.utils.set_random_seed(0)
    export(small_model("main_net", 3), LABELS, path)
    return path


def picture(random, height, width, channels=3):
    pixels = random.integers(0, 256, (height // 8 + 1, width // 8 + 1, channels), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with the pictures of NAMES: rotated, transparent, CMYK, of other formats."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    (folder / "sub").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(random, 60, 90).save(folder / "b.jpg", exif=exif)
    picture(random, 70, 31, 4).save(folder / "a.png")
    picture(random, 40, 44).save(folder / "sub" / "c, d.webp")
    picture(random, 50, 51).save(folder / "z.bmp")
    picture(random, 50, 80).convert("CMYK").save(folder / "f.jpg")
    (folder / "notes.txt").write_text("not an image")
    return folder


def probabilities_in(rows):
    return np.array([row[1:-1] for row in rows], float)


@pytest.mark.slow
def test_answers_are_those_of_evaluation(saved_model, images, tmp_path):
    """A picture's bytes in prepared data are those of its file here, whatever kind of file it is."""
    (tmp_path / "P.csv").write_text("an older result")
    result = run_tool(f"--saved_model={saved_model}", "--output=P.csv", "--batch_size=3", images, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    left_out, said = result.stdout.splitlines()
    assert left_out.startswith(f"Skipped in {images}: 1 files with other endings") and said == "5 images: P.csv"
    header, *rows = read_csv(tmp_path / "P.csv")
    assert header == ["path", *LABELS, "error"]
    assert [row[0] for row in rows] == [str(images / name) for name in NAMES]
    prepared = [read_photo(str(images), Photo(name, (Example(name, (1, 0, 0)),)), 0)[1][0][1] for name in NAMES]
    expected = Predictor(saved_model).predict([record["image"] for record in prepared])
    np.testing.assert_allclose(probabilities_in(rows), expected, rtol=0, atol=1e-6)
    assert all(len(value) == len("0.123456") for row in rows for value in row[1:-1])
    assert os.listdir(tmp_path) == ["P.csv"]


@pytest.mark.slow
def test_predicted_labels_of_a_list_on_standard_input(saved_model, images, tmp_path):
    paths = [str(images / name) for name in ("z.bmp", "a.png", "none.jpg", "z.bmp")]
    arguments = [f"--saved_model={saved_model}", f"--output={tmp_path / 'P.csv'}", "--write=labels", "-"]
    result = run_tool(*arguments, input="\n".join(paths))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"4 images, 1 of them without an answer (see its error): {tmp_path / 'P.csv'}\n"
    header, *rows = read_csv(tmp_path / "P.csv")
    bmp, png = (";".join(names) for names in Predictor(saved_model).predict_labels([paths[0], paths[1]]))
    assert header == ["path", "labels", "error"] and [row[0] for row in rows] == paths
    assert [row[1] for row in rows] == [bmp, png, "", bmp]
    missing = f"An image file must exist. Received: {paths[2]}, which does not exist. Check the path."
    assert [row[2] for row in rows] == ["", "", missing, ""]


@pytest.mark.slow
def test_server_answers_as_the_folder_does(saved_model, images, tmp_path):
    server = RestServer(ServedModel(saved_model), name="birds")
    try:
        arguments = [f"--server={server.address}", "--model_name=birds", f"--output={tmp_path / 'P.csv'}"]
        paths = [str(images / name) for name in ("z.bmp", "b.jpg", "f.jpg", "none.jpg")]
        result = run_without_tensorflow("predict", *arguments, "--batch_size=2", "-", given="\n".join(paths))
    finally:
        server.stop()
    assert (result.returncode, result.stderr) == (0, "")
    _, *rows = read_csv(tmp_path / "P.csv")
    assert [row[0] for row in rows] == paths and rows[3][-1].startswith("An image file must exist")
    expected = Predictor(saved_model).predict(paths[:3])
    np.testing.assert_allclose(probabilities_in(rows[:3]), expected, rtol=0, atol=1e-6)


# Some need no model: the folder named is none.
BAD = {
    "no arguments": ([], "Images must be given either as arguments"),
    "arguments and a list": (["{images}", "--list_file=-"], "Received: both"),
    "folder without images": (
        ["{images}", "{empty}"],
        "must have at least one image. Received: {empty}, which has no file",
    ),
    "pattern without images": (["{images}/*.gif"], "must have at least one image. Received: {images}/*.gif"),
    "no list": (
        ["--list_file={empty}/list"],
        "list_file must be a readable file. Received: {empty}/list",
    ),
    "no output": (["{images}", "--output="], "This command needs --output"),
    "ending": (["{images}", "--output={empty}/P.txt"], "must end in .csv, .jsonl, .parquet, .coco.json"),
    "form without choice": (
        ["{images}", "--output={empty}/P.coco.json", "--write=probabilities"],
        "has the labels above the thresholds. Received: write=probabilities.",
    ),
    "prefix of rows": (
        ["{images}", "--image_prefix=a/"],
        "image_prefix needs a file for output that ends in .coco.json",
    ),
    "output in no folder": (["{images}", "--output={empty}/none/P.csv"], "{empty}/none/P.csv (No such file"),
    "output is a folder": (["{images}", "--output={empty}/d.csv"], "{empty}/d.csv, which is something else"),
    "output is a device": (["{images}", "--output={empty}/null.csv"], "/dev/null, which is something else"),
    "no model": (
        ["{images}", "--saved_model="],
        "Give --saved_model, an export, or --server, or both. Received: neither",
    ),
    "views of a server": (
        ["{images}", "--saved_model=", "--server=grpc://h:1", "--tta=flip"],
        "--tta needs --saved_model. Received: --tta=flip with --server",
    ),
    "engine of a server": (
        ["{images}", "--saved_model=", "--server=grpc://h:1", "--engine=openvino"],
        "--engine says what computes the answers here. Received: --engine=openvino with --server",
    ),
    "known labels of a server": (
        ["{images}", "--saved_model=", "--server=grpc://h:1", "--known=dog:1"],
        "--known cannot be used with --server. Received: --known=dog:1 with --server=grpc://h:1.",
    ),
    "views with known labels": (
        ["{images}", "--known=dog:1", "--tta=flip"],
        "--tta cannot be used with --known, because",
    ),
    "known labels in another form": (["{images}", "--known=dog"], "LABEL:0 for one that is not, separated by commas"),
    "contradictory": (["{images}", "--known=dog:1,dog:0"], "known must name each label once. Received: 'dog' twice"),
    "top_k alone": (["{images}", "--top_k=2"], "--write=top_k and --top_k=K must be given together"),
    "no k": (["{images}", "--write=top_k"], "--write=top_k and --top_k=K must be given together"),
    "batch size": (["{images}", "--batch_size=0"], "batch_size"),
    "unknown flag": (["{images}", "--top=3"], "top"),
}


@pytest.mark.parametrize("name", mostly_slow([(name,) for name in BAD], fast=3))
def test_bad_input_is_said_before_the_model_is_loaded(images, tmp_path, name):
    arguments, expected = BAD[name]
    (tmp_path / "empty" / "d.csv").mkdir(parents=True)
    (tmp_path / "empty" / "null.csv").symlink_to("/dev/null")
    places = {"images": images, "empty": tmp_path / "empty"}
    arguments = [argument.format(**places) for argument in arguments]
    result = run_without_tensorflow("predict", "--saved_model=m", f"--output={tmp_path / 'P.csv'}", *arguments)
    assert_refused(result, expected.format(**places), stdout=None)
    assert os.listdir(tmp_path) == ["empty"] and sorted(os.listdir(tmp_path / "empty")) == ["d.csv", "null.csv"]


@pytest.mark.slow
def test_no_usable_image_is_an_error(saved_model, images, tmp_path):
    """So that make and cron see it: no output, and a status that is not 0."""
    arguments = [f"--saved_model={saved_model}", f"--output={tmp_path / 'P.csv'}"]
    result = run_tool(*arguments, images / "notes.txt", "none.jpg")
    assert_refused(
        result, "Received: 2 unreadable images. Nothing was written. The first: ", "notes.txt must be an image"
    )
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_ten_thousand_images_and_two_kills(saved_model, tmp_path):
    """50 damaged images in 10,000 are 50 reasons, and two kills leave no trace in the result."""
    folder, output = tmp_path / "images", tmp_path / "P.csv"
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(10_000):
        (folder / f"{index:05d}.jpg").write_bytes(encode(picture(random, 40, 60), "JPEG"))
    # A folder's list has no missing file; one that goes after it was listed is a dangling link here.
    damaged = sorted(random.choice(10_000, 50, replace=False))
    for position, index in enumerate(damaged):
        damage(folder / f"{index:05d}.jpg", list(DAMAGED)[position % len(DAMAGED)])
        if not (folder / f"{index:05d}.jpg").exists():
            (folder / f"{index:05d}.jpg").symlink_to("gone")
    command = [f"--saved_model={saved_model}", folder]
    assert run_tool(*command, f"--output={tmp_path / 'whole.csv'}").returncode == 0
    for parts in (5, 20):
        kill_after(parts, output, [*command, f"--output={output}"])
        assert not output.exists()
    result = run_tool(*command, f"--output={output}")
    assert result.returncode == 0, result.stderr
    assert "of 10000 images already have an answer" in result.stdout
    assert result.stdout.endswith(f"10000 images, 50 of them without an answer (see its error): {output}\n")
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    _, *rows = read_csv(output)
    assert [row[0] for row in rows] == [str(folder / f"{index:05d}.jpg") for index in range(10_000)]
    assert [index for index, row in enumerate(rows) if row[-1]] == damaged
    for position, index in enumerate(damaged):
        assert list(DAMAGED.values())[position % len(DAMAGED)][1] in rows[index][-1]
    assert not (tmp_path / ".P.csv.parts").exists()


def kill_after(parts, output, arguments):
    """Runs the tool and kills it when so many parts are there."""
    process = subprocess.Popen([sys.executable, ROOT / "tools" / "predict.py", *arguments], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while len(list((output.parent / f".{output.name}.parts").glob("*-*"))) < parts:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
