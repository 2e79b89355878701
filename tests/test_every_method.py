"""What every method of the table does in a whole run: trained, continued, averaged, evaluated, exported and drawn."""

import dataclasses
import os

import numpy as np
import pytest

from srn_tf import run
from srn_tf.data.scene_drawing import LABELS
from srn_tf.models.registry import METHODS
from srn_tf.models.settings import EmbeddingSettings
from srn_tf.runs import checkpoint
from srn_tf.serving.export import export
from srn_tf.serving.predictor import Predictor
from srn_tf.training import summaries, trainer
from srn_tf.visualization import sources, views
from tests.models.region_toy import REGION_TOY
from tests.models.small import SMALL_SETTINGS
from tests.models.toy import TOY
from tests.test_run import make_options
from tests.training import small, small_runs

pytestmark = pytest.mark.slow

RATES = {"add_gcn": 1e-4}  # its labels' features are sums over places: at 0.01 plain SGD diverges


@pytest.mark.parametrize("name", [*METHODS, "toy", "region_toy"])
def test_a_whole_run(name, tiny_scenes_dir, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "toy", TOY)
    monkeypatch.setitem(METHODS, "region_toy", REGION_TOY)
    monkeypatch.setattr(summaries, "NUM_PICTURES", 1)
    monkeypatch.setattr(trainer, "tqdm", small_runs.InterruptingBar)
    settings, vectors = METHODS[name].settings(**SMALL_SETTINGS.get(name, {})), tmp_path / "vectors.npz"
    if isinstance(settings, EmbeddingSettings):
        settings = dataclasses.replace(settings, label_embeddings=str(vectors))
        values = np.random.default_rng(0).normal(size=(len(LABELS), settings.label_width))
        np.savez(vectors, words=[label.replace(" ", "_") for label in LABELS], vectors=values)
    stages = tuple(settings.stages)
    each = {"epochs": (1,) * len(stages), "learning_rate": (RATES.get(name, 0.01),) * len(stages)}
    changes = {
        "model": name,
        "settings": settings,
        "stages": stages,
        "ema_decay": 0.9,
        "checkpoint_every_s": 0.0,
        **each,
    }

    metrics = run.train_run(make_options(tiny_scenes_dir, tmp_path / "whole", **changes))
    stopped = make_options(tiny_scenes_dir, tmp_path / "stopped", **changes)
    monkeypatch.setattr(small_runs.InterruptingBar, "steps", 0)
    monkeypatch.setattr(small_runs.InterruptingBar, "stop_at", 4 * len(stages) - 1)  # within the last stage
    with pytest.raises(small_runs.Interrupted):
        run.train_run(stopped)
    monkeypatch.setattr(small_runs.InterruptingBar, "stop_at", np.inf)
    assert run.train_run(stopped)["outputs"] == metrics["outputs"]
    expected, received = (
        checkpoint.load_arrays(str(tmp_path / folder / "checkpoints" / "final.npz"))[0]
        for folder in ("whole", "stopped")
    )
    small.assert_bit_equal(received, expected)

    predictor = Predictor(str(tmp_path / "whole" / "export" / "1"))
    maps = [a_map.name for a_map in predictor.maps]
    assert list(metrics.get("pointing", {})) == maps
    assert all(game["pairs"] > 0 for game in metrics.get("pointing", {}).values())
    split = sources.split_of_run(small_runs.WorkDir(str(tmp_path / "whole")), tiny_scenes_dir, "test")
    seen = [*predictor.maps, *predictor.regions]
    if seen:
        (figure,) = views.drawings(predictor, split, [], 2, "first")
        assert len(figure.axes) > 2 * len(seen)
    page = views.answers_page(predictor, split, name, [], 2, "first")
    assert all(f'"{one.title}"' in page for one in seen)
    image = next(split.read())[1]
    for regions in predictor.regions:
        answer = predictor.explain_batch([image])
        boxes, scores = predictor.explain(image, LABELS[3]).regions[regions.name]
        best = answer[regions.scores][0, :, 3].argmax()
        assert scores[0] == answer[regions.scores][0, best, 3]
        np.testing.assert_array_equal(boxes[0], answer[regions.boxes][0, best])
    if vectors.exists():  # a stored model needs no file
        vectors.unlink()
        np.testing.assert_array_equal(expected["words/values"], np.float32(values))
        assert run.evaluate_run(str(tmp_path / "whole"), tiny_scenes_dir, "test")["outputs"] == metrics["outputs"]
        work = small_runs.WorkDir(str(tmp_path / "whole"))
        export(run.load_model(work, work.read_run()), LABELS, tmp_path / "again")
        np.testing.assert_array_equal(Predictor(tmp_path / "again").predict([image]), predictor.predict([image]))
    assert len(os.listdir(tmp_path / "whole" / "tensorboard")) == len(stages)
