"""Evaluation over a split against one image at a time, and the pointing game against one counted by hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from srn_tf.data.datasets import make_builder, open_dataset
from srn_tf.data.prepare import prepare
from srn_tf.evaluation.evaluator import Evaluator, score
from srn_tf.evaluation.protocols import protocol_named
from srn_tf.models.srn import ATTENTION
from tests.evaluation import reference
from tests.models.small import small_model

GRID = 14


@pytest.fixture(scope="module")
def dataset(tiny_scenes_dir):
    return open_dataset("scenes", tiny_scenes_dir, tiny_scenes_dir)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return small_model("srn", 16, head_channels=8)


@pytest.fixture(scope="module")
def records(dataset):
    """The 16 test images as the data set's own reader gives them: decoded, with labels and boxes."""
    return list(dataset.builder.as_dataset(split="test", shuffle_files=False).as_numpy_iterator())


@pytest.fixture(scope="module")
def one_by_one(model, records):
    """Every output of each image alone; scenes have the network's size, so nothing is resized."""
    outputs = [model.network(record["image"][None].astype(np.float32), training=False) for record in records]
    return {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}


@pytest.fixture(scope="module")
def predictions(model, dataset):
    """Batches of 6: the last one holds 4 images and 2 blanks."""
    evaluator = Evaluator(model, tf.distribute.get_strategy(), with_boxes=True)
    return evaluator.predict(dataset.records("test"), 6)


def test_every_image_once_in_stored_order(predictions, records, one_by_one):
    assert list(predictions.logits) == ["y_hat", "y_cls", "y_att", "y_sr"]
    np.testing.assert_array_equal(predictions.labels, [record["labels"] for record in records])
    for name, logits in predictions.logits.items():
        assert logits.shape == (16, 16)
        np.testing.assert_allclose(logits, one_by_one[name], rtol=1e-5, atol=1e-5, err_msg=name)
    # The comparison could fail: no two images have the same answer.
    assert len(np.unique(predictions.logits["y_hat"].round(4), axis=0)) == 16


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 16, 50])
def test_the_batch_size_does_not_matter(predictions, model, dataset, batch_size):
    evaluator = Evaluator(model, tf.distribute.get_strategy(), names=("y_sr",))
    received = evaluator.predict(dataset.records("test"), batch_size)
    assert list(received.logits) == ["y_sr"] and received.pointing == {}
    np.testing.assert_allclose(received.logits["y_sr"], predictions.logits["y_sr"], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(received.labels, predictions.labels)


def test_images_without_boxes_have_no_game(predictions, model, dataset):
    """As in every data set that has none: the answers are the same."""

    def drop_boxes(record):
        return {**record, "objects": {name: value[:0] for name, value in record["objects"].items()}}

    evaluator = Evaluator(model, tf.distribute.get_strategy(), with_boxes=True)
    received = evaluator.predict(dataset.records("test").map(drop_boxes), 6)
    assert received.pointing == {} and received.sizes is None
    np.testing.assert_array_equal(received.labels, predictions.labels)
    for name, logits in predictions.logits.items():
        np.testing.assert_allclose(received.logits[name], logits, rtol=1e-5, atol=1e-5, err_msg=name)


def test_sizes_of_labels(predictions, records):
    """Of every label of every image its largest box, and so in the metrics."""
    expected = {}
    for row, record in enumerate(records):
        for (ymin, xmin, ymax, xmax), label in zip(record["objects"]["bbox"], record["objects"]["label"], strict=True):
            share = float(ymax - ymin) * float(xmax - xmin)
            expected[row, label] = max(share, expected.get((row, label), 0.0))
    received = predictions.sizes
    pairs = zip(received.rows.tolist(), received.labels.tolist(), received.shares, strict=True)
    assert {(row, label): share for row, label, share in pairs} == pytest.approx(expected)
    output = score(predictions, protocol_named("scenes"), list("abcdefghijklmnop"))["outputs"]["y_cls"]
    assert sum(output["sizes"]["pairs"].values()) == len(expected)


@pytest.mark.slow
def test_two_devices_give_what_one_gives(predictions, tiny_scenes_dir, tmp_path):
    """Batches of 6, for the 5 asked for cannot be shared evenly; the images' boxes are of different numbers."""
    command = [sys.executable, "-m", "tests.evaluation.two_devices", tiny_scenes_dir, tmp_path / "two.npz"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    received = np.load(tmp_path / "two.npz")
    np.testing.assert_array_equal(received["labels"], predictions.labels)
    for name, logits in predictions.logits.items():
        np.testing.assert_allclose(received[name], logits, rtol=1e-5, atol=1e-5, err_msg=name)
    assert json.loads(str(received["pointing"])) == {name: game.result() for name, game in predictions.pointing.items()}


@pytest.mark.slow
def test_a_model_of_mixed_precision_gives_float32(model, predictions, dataset):
    """Close to the same weights in float32, and not the same: bfloat16 has three digits."""
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        mixed = small_model("srn", 16, head_channels=8)
    finally:
        keras.mixed_precision.set_global_policy(policy)
    mixed.network.set_weights(model.network.get_weights())
    evaluator = Evaluator(mixed, tf.distribute.get_strategy(), with_boxes=True)
    received = evaluator.predict(dataset.records("test"), 6)
    for name, logits in predictions.logits.items():
        assert received.logits[name].dtype == np.float32
        difference = np.abs(received.logits[name] - logits).max()
        assert 0 < difference < 0.05 * np.abs(logits).max(), name
    assert received.pointing["U"].result()["pairs"] == predictions.pointing["U"].result()["pairs"]


def play_by_hand(records, A):
    """Hits, pairs and shares of cells, from A and the boxes, label by label."""
    hits, pairs, shares = np.zeros(16, int), np.zeros(16, int), np.zeros(16)
    centres = (np.arange(GRID) + 0.5) / GRID
    for record, maps in zip(records, A, strict=True):
        for label in np.flatnonzero(record["labels"] == 1):
            inside = np.zeros((GRID, GRID), bool)
            for box, box_label in zip(record["objects"]["bbox"], record["objects"]["label"], strict=True):
                if box_label == label:
                    ymin, xmin, ymax, xmax = box
                    inside |= np.outer((ymin <= centres) & (centres <= ymax), (xmin <= centres) & (centres <= xmax))
            assert inside.any()  # scenes draw no object smaller than a cell
            row, column = np.unravel_index(maps[:, :, label].argmax(), (GRID, GRID))
            hits[label] += inside[row, column]
            pairs[label] += 1
            shares[label] += inside.mean()
    return hits, pairs, shares


@pytest.mark.parametrize("name", ["A", "U"])
def test_the_pointing_game_equals_one_counted_by_hand(predictions, records, one_by_one, name):
    hits, pairs, shares = play_by_hand(records, one_by_one[name])
    result = predictions.pointing[name].result()
    assert (result["hits"], result["pairs"]) == (hits.sum(), pairs.sum())
    assert result["pairs"] == sum((record["labels"] == 1).sum() for record in records)
    assert result["accuracy"] == pytest.approx(100 * hits.sum() / pairs.sum())
    assert result["chance"] == pytest.approx(100 * shares.sum() / pairs.sum())
    assert [entry["hits"] for entry in result["per_label"]] == hits.tolist()
    assert [entry["pairs"] for entry in result["per_label"]] == pairs.tolist()


def test_perfect_attention_hits_every_pair(dataset, records):
    """The hits above may be few; a network whose A marks each label's own box must hit every pair."""
    game = Evaluator(BoxPainter(records), tf.distribute.get_strategy(), with_boxes=True)
    predictions = game.predict(dataset.records("test"), 6)
    assert predictions.pointing["A"].result()["accuracy"] == 100.0


def test_own_boxes_play_the_game(tmp_path):
    """Of a COCO file of one's own: a network that points at the middle of each box hits, whatever its label."""
    random = np.random.default_rng(0)
    annotations = [([4, 8, 16, 24], 7), ([40, 0, 16, 12], 9), ([0, 40, 20, 16], 7), ([28, 28, 28, 28], 9)]
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 56, "height": 56} for i in range(4)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": category, "bbox": box}
            for i, (box, category) in enumerate(annotations)
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
    }
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "boxes.json").write_text(json.dumps(content))
    for i in range(4):
        Image.fromarray(random.integers(0, 256, (56, 56, 3), np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    options = {"annotations": "boxes.json", "test_fraction": 0.5}
    prepare(make_builder("coco_json", tmp_path / "data", str(tmp_path / "photos"), options))
    dataset = open_dataset("coco_json", tmp_path / "data", tmp_path / "data")
    stored = list(dataset.builder.as_dataset(split="test", shuffle_files=False).as_numpy_iterator())
    evaluator = Evaluator(BoxPainter(stored, num_labels=2), tf.distribute.get_strategy(), with_boxes=True)
    metrics = score(evaluator.predict(dataset.records("test"), 2), protocol_named(dataset.protocol), dataset.labels)
    assert (metrics["pointing"]["A"]["hits"], metrics["pointing"]["A"]["pairs"]) == (2, 2)
    shares = [16 * 24, 16 * 12, 20 * 16, 28 * 28]
    tested = [int(record["name"].decode()[0]) for record in stored]
    assert metrics["pointing"]["A"]["chance"] == pytest.approx(100 * np.mean([shares[i] for i in tested]) / 56**2)


class BoxPainter:
    """Stands for a model and its network: an image's A is 1 at the centre of each label's first box.

    Images are told by their sum.
    """

    logits, maps, image_size = ("y",), (ATTENTION,), 56
    inputs = (keras.Input((56, 56, 3), name="image"),)

    def __init__(self, records, num_labels=16):
        self.num_labels = num_labels
        self.outputs = {"A": tf.zeros((1, GRID, GRID, num_labels))}
        self._sums = tf.constant([record["image"].astype(np.float64).sum() for record in records])
        maps = np.zeros((len(records), GRID, GRID, num_labels), np.float32)
        for index, record in enumerate(records):
            for box, label in zip(record["objects"]["bbox"], record["objects"]["label"], strict=True):
                row, column = int((box[0] + box[2]) / 2 * GRID), int((box[1] + box[3]) / 2 * GRID)
                maps[index, row, column, label] = 1.0
        self._maps = tf.constant(maps)

    def network_for(self, names):
        return self

    def __call__(self, image, training):
        sums = tf.reduce_sum(tf.cast(image, tf.float64), axis=[1, 2, 3])
        index = tf.argmin(tf.abs(sums[:, None] - self._sums[None]), axis=1)
        y = tf.ensure_shape(tf.zeros((tf.shape(image)[0], self.num_labels)), (None, self.num_labels))
        return {"y": y, "A": tf.gather(self._maps, index)}


def test_score_is_ready_for_json_and_equals_plain_loops(predictions, dataset, records):
    metrics = score(predictions, protocol_named(dataset.protocol), dataset.labels)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert (metrics["images"], metrics["labels"], metrics["protocol"]) == (16, list(dataset.labels), "scenes")
    truths = np.array([record["labels"] for record in records])
    for name, output in metrics["outputs"].items():
        columns = zip(predictions.logits[name].T.tolist(), truths.T.tolist(), output["AP"], strict=True)
        for scores, labels, ap in columns:
            if 1 in labels:
                assert ap == pytest.approx(100 * reference.ap_voc(scores, labels))
            else:
                assert ap is None
    assert metrics["pointing"] == {name: game.result() for name, game in predictions.pointing.items()}


def test_without_maps_no_game_is_played(model, dataset):
    predictions = Evaluator(model, tf.distribute.get_strategy(), ("y_cls",)).predict(dataset.records("test"), 16)
    metrics = score(predictions, protocol_named(dataset.protocol), dataset.labels)
    assert "pointing" not in metrics and "sizes" not in metrics["outputs"]["y_cls"]
