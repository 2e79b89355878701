"""Whether a model can learn at all: how well it knows 64 images after training on them alone."""

import numpy as np
import tensorflow as tf

from srn_tf.data.pipeline import training_batches
from srn_tf.evaluation.metrics import average_precisions
from srn_tf.training.freezing import apply_stage
from srn_tf.training.optimizers import StageOptimizer
from srn_tf.training.plan import TrainingPlan
from srn_tf.training.steps import loss_gradients
from tests.training import small_runs

SIDE_PX = 56


def mean_ap_by_heart(model, stage_name, scenes_dir, epochs, learning_rate=0.001):
    """Trains a stage with Adam on 64 scenes in batches of 32; mean AP on the same scenes, percent.

    Args:
        model: MultiLabelModel of 16 labels for images of SIDE_PX.
        stage_name: one of its stages; every step draws from the same seed.
        scenes_dir: see the fixture tiny_scenes_dir.
    """
    records = small_runs.open_tiny_scenes(scenes_dir).records("train")
    stage = model.stages[stage_name]
    trained = apply_stage(model, stage)
    plan = TrainingPlan((stage_name,), (1,), (learning_rate,), optimizer="adam", weight_decay=0.0)
    optimizer = StageOptimizer(trained, plan)
    network = model.network_for(stage.reads)

    @tf.function
    def step(batch):
        optimizer.apply(loss_gradients(network, stage.terms, trained, batch, 32)[1], learning_rate)

    for epoch in range(epochs):
        for batch in training_batches(records, SIDE_PX, 32, 0, epoch, None, False, 64, False):
            step(batch)
    (batch,) = training_batches(records, SIDE_PX, 64, 0, 0, None, False, 64, False)
    scores = model.network(batch["image"], training=False)[model.final].numpy()
    return 100.0 * np.nanmean(average_precisions(scores, batch["y"].numpy() == 1)["voc_all_points"])
