"""The work folder of a run that was never trained: a small network with random weights."""

import dataclasses

import keras

from srn_tf.data.scene_drawing import LABELS
from srn_tf.models.registry import METHODS, ModelConfig, build_model
from srn_tf.runs.checkpoint import save_weights
from srn_tf.runs.work_dir import WorkDir


def write_run(path, model="main_net", **changes):
    """Writes flags.txt, run.json and the final weights, always the same; returns the model."""
    keras.utils.set_random_seed(1)
    settings = {"head_channels": 8} if model.startswith("srn") else {}
    config = ModelConfig(model, "small", 56, METHODS[model].settings(**settings))
    network = build_model(config, LABELS)
    work = WorkDir(str(path))
    description = {
        "dataset": "scenes",
        "protocol": "scenes",
        "validation_fraction": 0.1,
        "validation_is_train": False,
        "labels": list(LABELS),
        "fingerprint": "12ab",
        "training_positives": [1] * len(LABELS),
        "model": dataclasses.asdict(config),
        "stages": ["cls"],
        "seed": 3,
        "code": {"commit": "12ab"},
        **changes,
    }
    work.write_run(description, f"--model={model}\n--dataset=scenes\n--seed=3\n")
    save_weights(work.final, network, {"labels": list(LABELS)})
    return network
