"""Matrices in files against the same ones in memory, and that they take no memory and leave no file."""

import os
import tracemalloc

import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.evaluation import blocks, predictions
from srn_tf.evaluation.blocks import BLOCK_ROWS, Derived, Rows, columns, read_array, row_blocks
from srn_tf.evaluation.protocols import COCO, VOC2007, evaluate, mean_average_precision
from srn_tf.training.f1 import f1_and_confusion
from srn_tf.training.losses import mean_loss, sigmoid_loss

N, C = 2 * BLOCK_ROWS + 77, 37


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch):
    monkeypatch.setattr(blocks, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(blocks, "_MAPPED_BYTES", 20 * 4 * N)  # two blocks of labels
    monkeypatch.setattr(predictions, "IN_MEMORY_BYTES", 0)


def in_file(matrix, folder, step=100):
    """The same matrix in a file, filled `step` rows at a time."""
    rows = Rows(*matrix.shape, matrix.dtype, folder)
    for start in range(0, len(matrix), step):
        rows.append(matrix[start : start + step])
    return rows.matrix()


@pytest.fixture
def scores():
    return np.random.default_rng(0).normal(-1, 2, (N, C)).round(2).astype(np.float32)  # with ties


@pytest.fixture
def labels():
    return np.random.default_rng(1).choice([-1, 0, 1], (N, C), p=[0.7, 0.1, 0.2]).astype(np.int8)


@pytest.mark.parametrize("step", [1, BLOCK_ROWS, 700, 2 * N])
def test_what_is_filled_in_is_what_is_read(scores, tmp_path, step):
    matrix = in_file(scores, tmp_path, step)
    assert isinstance(matrix, np.memmap) and matrix.dtype == np.float32
    assert os.listdir(tmp_path) == []  # it has no name that could be left behind
    np.testing.assert_array_equal(matrix, scores)
    np.testing.assert_array_equal(list(columns(matrix)), scores.T)
    np.testing.assert_array_equal(np.concatenate([matrix[rows] for rows in row_blocks(matrix)]), scores)


def test_what_is_small_stays_in_memory(scores, monkeypatch):
    monkeypatch.setattr(blocks, "IN_MEMORY_BYTES", scores.nbytes)
    matrix = in_file(scores, "no such folder")
    assert type(matrix) is np.ndarray
    np.testing.assert_array_equal(matrix, scores)


def test_a_file_that_cannot_be_written(scores, tmp_path):
    with pytest.raises(InputError, match=r"0.0 GB must fit into .*gone. Received: No such file.*Free some space there"):
        in_file(scores, tmp_path / "gone")


def test_a_full_disk_is_one_message(scores):
    """/dev/full takes no byte."""
    rows = Rows(N, C, np.float32)
    rows._file = open("/dev/full", "r+b", buffering=0)
    with pytest.raises(InputError, match="Received: No space left on device"):
        rows.append(scores)


@pytest.mark.parametrize("protocol", [pytest.param(COCO, marks=pytest.mark.slow), VOC2007])
@pytest.mark.parametrize("by_label", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_evaluation_does_not_depend_on_where_the_scores_lie(scores, labels, tmp_path, protocol, by_label):
    options = {"ranking": True, "top_k": 5, "top_k_floor": 0.3}
    expected = evaluate(scores, labels, protocol, **options)
    if by_label:
        lying = in_file(scores, tmp_path), in_file(labels, tmp_path)
    else:  # as a user's file has it
        np.save(tmp_path / "scores.npy", scores)
        np.save(tmp_path / "labels.npy", labels)
        lying = read_array(tmp_path / "scores.npy"), read_array(tmp_path / "labels.npy")
        assert isinstance(lying[0], np.memmap)
    assert evaluate(*lying, protocol, **options) == expected
    assert mean_average_precision(*lying, protocol) == expected["all"]["mAP"]


def test_changes_of_a_private_mapping_are_kept(scores, tmp_path):
    np.save(tmp_path / "scores.npy", scores)
    private = np.load(tmp_path / "scores.npy", mmap_mode="c")
    private += 1
    list(columns(private)), list(row_blocks(private))
    np.testing.assert_array_equal(private, scores + 1)


def test_losses_and_f1_of_derived_matrices(scores, labels, tmp_path):
    y, p = (labels == 1).astype(np.float32), 1 / (1 + np.exp(-scores))
    lying = in_file(scores, tmp_path), in_file(labels, tmp_path)
    derived_y = Derived(lying[1], lambda rows: (rows == 1).astype(np.float32))
    derived_p = Derived(lying[0], lambda rows: 1 / (1 + np.exp(-rows)))
    assert mean_loss(sigmoid_loss, derived_y, lying[0]) == mean_loss(sigmoid_loss, y, scores)
    assert f1_and_confusion(derived_p, derived_y) == f1_and_confusion(p, y)


def test_saved_predictions_are_mapped(scores, labels, tmp_path):
    path = str(tmp_path / "test.npz")
    names, label_names = np.array([f"{i}.jpg" for i in range(N)]), tuple(map(str, range(C)))
    logits = {"y_hat": in_file(scores, tmp_path), "y_cls": 2 * scores}
    saved = predictions.SavedPredictions(names, in_file(labels, tmp_path), label_names, logits)
    predictions.save_predictions(path, saved)
    read = predictions.load_predictions(path)
    assert os.listdir(tmp_path) == ["test.npz"]
    assert list(read.logits) == ["y_hat", "y_cls"] and isinstance(read.logits["y_hat"], np.memmap)
    np.testing.assert_array_equal(read.logits["y_cls"], 2 * scores)
    np.testing.assert_array_equal(read.labels, labels)
    with np.load(path) as arrays:  # NumPy reads it too
        np.testing.assert_array_equal(arrays["logits/y_hat"], scores)
    assert evaluate(read.logits["y_hat"], read.labels, COCO) == evaluate(scores, labels, COCO)


@pytest.mark.slow
def test_evaluation_takes_less_memory_than_a_byte_a_pair(tmp_path):
    """Of 3 million pairs: blocks of 512 x 100 of them, and a label's column."""
    rng = np.random.default_rng(0)
    scores = in_file(rng.normal(size=(30_000, 100)).astype(np.float32), tmp_path, 512)
    labels = in_file((rng.random((30_000, 100)) < 0.05).astype(np.int8), tmp_path, 512)
    tracemalloc.start()
    evaluate(scores, labels, COCO)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < scores.size
