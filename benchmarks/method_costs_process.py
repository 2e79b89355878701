"""One method's training step of a stage, or its answers, in a process of its own; `method_costs.py` asks it.

python method_costs_process.py FLAGFILE STAGE BACKBONE SIZE LABELS BATCH THREADS

STAGE "" answers images in place of a step. The weights are random, the images are noise, and each has two of the labels
and, for a stage that needs them, a box of each.
"""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [ROOT, os.path.join(ROOT, "benchmarks")]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the tools

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from absl import flags  # noqa: E402
from engines import seconds_of, serve  # noqa: E402

from srn_tf import options as run_options  # noqa: E402
from srn_tf.distribution import make_strategy  # noqa: E402
from srn_tf.labels import LabelSpace  # noqa: E402
from srn_tf.models.registry import ModelConfig, build_model  # noqa: E402
from srn_tf.training.losses import make_loss  # noqa: E402
from srn_tf.training.plan import TrainingPlan  # noqa: E402
from srn_tf.training.stage_step import StageStep  # noqa: E402

LABELS_PER_IMAGE = 2


def main(flagfile, stage_name, backbone, size, labels, batch, threads):
    size, labels, batch = int(size), int(labels), int(batch)
    tf.config.threading.set_intra_op_parallelism_threads(int(threads))
    keras.utils.set_random_seed(0)
    options = _options(flagfile, backbone)
    model = build_model(ModelConfig(options.model, backbone, size, options.settings), _labels(labels))
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (batch, size, size, 3)).astype(np.float32)
    if not stage_name:
        answer = tf.function(lambda image: model.network(image, training=False)[model.final])
        image = tf.constant(image)
        serve(
            seconds=lambda times: seconds_of(lambda: answer(image).numpy(), times),
            weights=lambda: {name: int(part.count_params()) for name, part in model.parts.items()},
            stages=lambda: list(model.stages),
        )
        return
    places = np.argsort(rng.random((batch, labels)), axis=1)[:, :LABELS_PER_IMAGE]
    y = np.zeros((batch, labels), np.float32)
    np.put_along_axis(y, places, 1.0, axis=1)
    stack = {"image": tf.constant(image[None]), "y": tf.constant(y[None])}
    stage = model.stages[stage_name]
    if "boxes" in stage.needs:
        corners = np.tile(np.float32([0.25, 0.25, 0.75, 0.75]), (1, batch, LABELS_PER_IMAGE, 1))
        stack |= {"boxes": tf.constant(corners), "box_labels": tf.constant(places[None].astype(np.int64))}
    names = tuple(model.stages)
    plan = TrainingPlan(names, (1,) * len(names), (1e-4,) * len(names), batch_size=batch)
    step = StageStep(model, make_strategy(), stage, names.index(stage_name), plan, make_loss(plan.loss))
    rates = np.array([1e-4], np.float32)

    def take_step():
        if not step.run(stack, rates).is_finite.all():
            raise ValueError(f"Stage {stage_name} of {flagfile}: a loss is not finite.")

    serve(seconds=lambda times: seconds_of(take_step, times))


def _options(flagfile, backbone):
    """The options of a flagfile on another backbone, with random weights."""
    run_options.define_flags()
    own = f"--backbone={backbone}", "--backbone_weights=none", "--data_dir=none", "--work_dir=none"
    flags.FLAGS(["", f"--flagfile={flagfile}", *own])
    return run_options.read_options()


def _labels(number):
    """So many labels, with what methods ask to know of them."""
    together = 1 + 9 * np.eye(number, dtype=np.int64)
    return LabelSpace([f"label{i}" for i in range(number)], None, np.full(number, 10), together)


if __name__ == "__main__":
    main(*sys.argv[1:])
