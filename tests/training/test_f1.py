"""F1 and confusion against their definitions; tensorflow-addons stays behind one module."""

import re
from pathlib import Path

import numpy as np
import pytest

import srn_tf
from srn_tf.training.f1 import f1_and_confusion


def counts(probabilities, y):
    """tn, fp, fn, tp of each label, (C, 4)."""
    rows = []
    for p, t in zip((probabilities > 0.5).T, (y == 1).T, strict=True):
        rows.append([(~p & ~t).sum(), (p & ~t).sum(), (~p & t).sum(), (p & t).sum()])
    return np.array(rows)


def f1(false_positives, false_negatives, true_positives):
    selected = 2 * true_positives + false_positives + false_negatives
    return 100.0 * 2 * true_positives / selected if selected else 0.0


@pytest.mark.parametrize("seed", range(5))
def test_equal_numpy(seed):
    rng = np.random.default_rng(seed)
    y = (rng.random((37, 6)) < 0.3).astype(np.float32)
    probabilities = rng.random((37, 6)).astype(np.float32)
    y[:, 4] = 0.0  # a label without positives
    probabilities[:, 4:] *= 0.5  # and two that are never predicted
    expected = counts(probabilities, y)
    result = f1_and_confusion(probabilities, y)
    assert result["confusion"] == expected.tolist()
    assert result["F1-macro"] == pytest.approx(np.mean([f1(*row[1:]) for row in expected]), rel=1e-5)
    assert result["F1-micro"] == pytest.approx(f1(*expected.sum(axis=0)[1:]), rel=1e-5)
    assert all(isinstance(value, int) for row in result["confusion"] for value in row)  # ready for JSON


def test_by_hand():
    y = np.array([[1, 0], [1, 1], [0, 1]], np.float32)
    probabilities = np.array([[0.9, 0.6], [0.5, 0.7], [0.2, 0.51]], np.float32)  # 0.5 itself is not predicted
    result = f1_and_confusion(probabilities, y)
    assert result["confusion"] == [[1, 0, 1, 1], [0, 1, 0, 2]]
    assert result["F1-macro"] == pytest.approx(100 * (2 / 3 + 4 / 5) / 2, rel=1e-5)
    assert result["F1-micro"] == pytest.approx(100 * 6 / 8, rel=1e-5)


def test_one_module_imports_tensorflow_addons():
    package = Path(srn_tf.__file__).parent
    pattern = re.compile(r"^\s*(import|from)\s+tensorflow_addons\b|import_module\(.tensorflow_addons", re.MULTILINE)
    users = [path.relative_to(package).as_posix() for path in package.rglob("*.py") if pattern.search(path.read_text())]
    assert users == ["training/f1.py"]
