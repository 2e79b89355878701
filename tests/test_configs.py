"""The flagfiles: what their headings promise, and that the model each describes can be built and trained as it says."""

import dataclasses
import importlib
from pathlib import Path

import pytest

from tests.test_options import PLACES, parse

CONFIGS = Path(__file__).parents[1] / "configs"
BENCHMARKS = ("coco2014", "nus_wide", "voc2007", "wider_attribute")
PATHS = sorted(CONFIGS.glob("*.flags"))


def read(path):
    """Its options, without weights to download."""
    return parse(*PLACES, f"--flagfile={path}", "--backbone_weights=none")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_a_heading_says_what_how_and_what_came_of_it(path):
    heading = "".join(line for line in path.read_text().splitlines(True) if line.startswith("#"))
    for part in ("# Purpose: ", "# Command: python tools/train.py ", "# Hardware: ", "# Time and score: "):
        assert heading.count(part) == 1, part
    assert f" --flagfile=configs/{path.name} " in heading


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_differs_from_coco_in_its_data_alone(name):
    path = CONFIGS / f"{name}_resnet101.flags"
    assert f"# Prepare: python tools/prepare_data.py --dataset={name} " in path.read_text()
    coco = dataclasses.asdict(read(CONFIGS / "coco2014_resnet101.flags"))
    own = dataclasses.asdict(read(path))
    assert own["dataset"] == name and 0.0 < own["validation_fraction"] <= 0.1
    for field in ("dataset", "validation_fraction"):
        del own[field], coco[field]
    assert own == coco


@pytest.mark.parametrize("name", ["main_net", "resnet107", "semantic", "srn_att"])
def test_the_models_of_the_papers_tables_meet_on_equal_terms(name):
    """On scenes: all but the model, its stages and their shares of the same total of epochs."""
    srn = dataclasses.asdict(read(CONFIGS / "scenes.flags"))
    own = dataclasses.asdict(read(CONFIGS / f"scenes_{name}.flags"))
    assert own["model"] == name and sum(own["epochs"]) == sum(srn["epochs"]) == 17
    assert set(own["learning_rate"]) <= set(srn["learning_rate"])
    if name == "srn_att":
        assert (own["stages"], own["epochs"]) == (srn["stages"], srn["epochs"])
    for field in ("model", "stages", "epochs", "learning_rate", "settings"):
        del own[field], srn[field]
    assert own == srn


@pytest.mark.parametrize("config", ["photos_main_net", "photos_srn"])
def test_every_ingredient_of_the_ablations_changes_a_flagfile(config, monkeypatch):
    monkeypatch.syspath_prepend(CONFIGS.parent / "benchmarks")
    ablations = importlib.import_module("ablations")
    base = read(CONFIGS / f"{config}.flags")
    own = [f"--flagfile={CONFIGS / config}.flags", "--backbone_weights=none"]
    for name, (_, flags) in {**ablations.INGREDIENTS, **ablations.MIXED}.items():
        assert (parse(*PLACES, *own, *flags) == base) == (name == ablations.BASE), name


def test_photos_tuned_trains_what_a_method_has_left_as_it_was(monkeypatch):
    monkeypatch.syspath_prepend(CONFIGS.parent / "benchmarks")
    photographs = importlib.import_module("photographs")
    for config in (f"photos_{method}" for method in photographs.METHODS):
        if config in photographs.NOT_TUNED:
            continue
        before = read(CONFIGS / f"{config}.flags")
        own = (f"--flagfile={CONFIGS / config}.flags", *photographs.tuned_flags(config), "--init_from=RUN")
        after = parse(*PLACES, *own)
        assert (before.frozen_parts, after.frozen_parts, after.frozen_norms) == (("trunk",), (), ("trunk",)), config
        assert (after.stages, after.epochs) == (before.stages[-1:], (3,)), config
        assert after.rate_scales == ("trunk=0.3", *before.rate_scales), config
        assert (after.model, after.settings, after.loss) == (before.model, before.settings, before.loss), config


@pytest.mark.slow
def test_every_flagfiles_model_has_the_stages_to_train():
    from srn_tf.models.registry import ModelConfig, build_model

    models = {}  # flagfiles that agree on the model share one
    for path in PATHS:
        options = read(path)
        config = ModelConfig(options.model, options.backbone, options.image_size, options.settings)
        if config not in models:
            models[config] = build_model(config, [f"a{i}" for i in range(14)])
        assert set(options.stages) <= set(models[config].stages), path.name
