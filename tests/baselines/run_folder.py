"""The work folder of a run that was never trained: a small network with random weights."""

import dataclasses

import keras

from srn_tf.data.scene_drawing import LABELS
from srn_tf.evaluation.report import write_json
from srn_tf.models.build import ModelConfig, build_model
from srn_tf.training.checkpoint import save_weights
from srn_tf.training.work_dir import WorkDir


def write_run(path, model="main_net", **changes):
    """Writes flags.txt, run.json and the final weights, always the same; returns the model."""
    keras.utils.set_random_seed(1)
    config = ModelConfig(model, "small", 56, head_channels=8)
    network = build_model(config, len(LABELS))
    work = WorkDir(str(path))
    work.claim(f"--model={model}\n--dataset=scenes\n--seed=3\n")
    description = {
        "dataset": "scenes",
        "protocol": "scenes",
        "validation_fraction": 0.1,
        "labels": list(LABELS),
        "model": dataclasses.asdict(config),
        "stages": ["cls"],
        "seed": 3,
        **changes,
    }
    write_json(work.run, description)
    save_weights(work.final, network, {"labels": list(LABELS)})
    return network
