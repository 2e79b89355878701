"""srn_tf's training step of one stage, in a process of its own; `training.py` asks it.

python training_tensorflow.py FOLDER STAGE PRECISION THREADS DEVICES

FOLDER holds batch.npz (image float32 (B, S, S, 3), y float32 (B, C)) and perhaps weights.npz; without it the weights
are random.
"""

import collections
import glob
import os
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [ROOT, os.path.join(ROOT, "benchmarks")]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from engines import seconds_of, serve  # noqa: E402

from srn_tf.distribution import make_strategy  # noqa: E402
from srn_tf.models.norm_products import with_norm_products  # noqa: E402
from srn_tf.models.registry import ModelConfig, build_model  # noqa: E402
from srn_tf.runs.checkpoint import assign_weights  # noqa: E402
from srn_tf.training.losses import make_loss  # noqa: E402
from srn_tf.training.plan import TrainingPlan  # noqa: E402
from srn_tf.training.stage_step import StageStep  # noqa: E402

PRODUCT_SIDE = 4096


def multiply_adds(model, stage):
    """Multiply-adds of one image in convolutions and linear layers, counted from the layers' shapes.

    A kernel is used once a cell of its output. A trained layer does that again for its kernel's gradient, and once
    more for the gradient of what it reads if anything before it is trained.

    Args:
        model: MultiLabelModel.
        stage: one of its stages.
    Returns:
        dict: "trunk" (image -> X), "forward" and "step" of this stage; "product", those of the large matrix product.
    """
    counts = {"trunk": 0, "forward": 0, "step": 0, "product": PRODUCT_SIDE**3}
    is_trained_before = False
    for part in model.network_for(stage.reads).layers:  # sorted, each after those it reads
        is_trained = part.name.split("_until_")[0].split("_after_")[0] in stage.trains  # the trunk is cut at X
        for layer in leaves(part):
            if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):  # DepthwiseConv2D is a Conv2D
                cells = int(np.prod(layer.output.shape[1:-1]))
                once = cells * int(np.prod(layer.weights[0].shape))
                counts["trunk"] += once if part.name == "trunk_until_c4" else 0
                counts["forward"] += once
                counts["step"] += once * (1 + is_trained + (is_trained and is_trained_before))
            is_trained_before |= is_trained and bool(layer.weights)
    return counts


def leaves(part):
    """The layers of a model and of the models in it; of a layer itself."""
    if not hasattr(part, "layers"):
        return [part]
    return [leaf for layer in part.layers for leaf in leaves(layer)]


def operations_of(function, times):
    """Profiles calls of a function.

    Args:
        function: without arguments.
        times: of how many calls.
    Returns:
        dict: name of an operation -> its milliseconds of a call; "all" -> those of the call. Operations that run beside
        each other are counted in full.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            seconds = seconds_of(function, times)
        (file,) = glob.glob(os.path.join(folder, "**", "*.xplane.pb"), recursive=True)
        space = xplane_pb2.XSpace()
        with open(file, "rb") as stream:
            space.ParseFromString(stream.read())
    found = collections.Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                _, is_operation, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")  # name:kind
                if is_operation:
                    found[kind] += event.duration_ps / 1e9 / times
    return {**found, "all": 1000 * sum(wall for wall, _ in seconds) / times}


def main(folder, stage_name, precision, threads, devices):
    tf.config.threading.set_intra_op_parallelism_threads(int(threads))
    strategy = make_strategy(int(devices) if int(devices) > 1 else 0)
    keras.mixed_precision.set_global_policy(precision)
    with np.load(os.path.join(folder, "batch.npz")) as file:
        image, y = file["image"], file["y"]
    with strategy.scope():
        model = build_model(
            ModelConfig("srn", "resnet101v2", image.shape[1]), [f"label{index}" for index in range(y.shape[1])]
        )
    weights = os.path.join(folder, "weights.npz")
    if os.path.isfile(weights):
        with np.load(weights) as file:
            assign_weights(model, dict(file), weights)
    names = tuple(model.stages)
    plan = TrainingPlan(
        stages=names,
        epochs=(1,) * len(names),
        learning_rates=(1e-3,) * len(names),
        batch_size=len(image),
        precision=precision,
    )
    stage = model.stages[stage_name]
    step = StageStep(model, strategy, stage, names.index(stage_name), plan, make_loss(plan.loss))
    share = len(image) // strategy.num_replicas_in_sync

    def stack_of(context):
        part = slice(context.replica_id_in_sync_group * share, (context.replica_id_in_sync_group + 1) * share)
        return {"image": tf.constant(image[None, part]), "y": tf.constant(y[None, part])}

    stack = strategy.experimental_distribute_values_from_function(stack_of)
    rates = np.array(plan.learning_rates[:1], np.float32)
    images = tf.constant(image)
    until_X = with_norm_products(model.network.get_layer("trunk_until_c4"), answers_only=True)  # as stages compute it
    trunk = tf.function(lambda images: until_X(images, training=False)["c4"])
    factor = tf.random.normal((PRODUCT_SIDE, PRODUCT_SIDE))
    factor = tf.cast(factor, tf.float32 if precision == "float32" else tf.bfloat16)

    def take_step():
        losses = step.run(stack, rates).losses
        return float(sum(term.weight * losses[term.name][0] for term in stage.terms))

    def save_weights(path):
        np.savez(path, **{name: weight.numpy() for name, weight in model.weights.items()})

    serve(
        losses=lambda times: [take_step() for _ in range(times)],
        step=lambda times: seconds_of(take_step, times),
        trunk=lambda times: seconds_of(lambda: trunk(images).numpy(), times),
        profile=lambda times: operations_of(take_step, times),
        product=lambda times: seconds_of(lambda: tf.linalg.matmul(factor, factor).numpy(), times),
        multiply_adds=lambda: multiply_adds(model, stage),
        save_weights=save_weights,
        version=lambda: f"TensorFlow {tf.__version__} {precision}",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
