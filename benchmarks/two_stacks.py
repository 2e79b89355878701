"""Whether both stacks, TensorFlow with Keras 2 and with Keras 3, compute the same, and what a step costs on each.

PYTHON_OF_ONE benchmarks/two_stacks.py --weights=W.npz --output=ONE.npz
PYTHON_OF_THE_OTHER benchmarks/two_stacks.py --weights=W.npz --output=OTHER.npz
python benchmarks/two_stacks.py --compare=ONE.npz,OTHER.npz

W.npz is a file of weights of the model, made if it is not there. From it a run computes all outputs of the same images,
and then in each stage the same ten steps of SGD. The comparison prints the largest differences and the median times of
a step, and fails where the outputs are more than 1e-5 apart, or the losses of a step 1e-4: of their size, where that is
more than 1. TF_ENABLE_ONEDNN_OPTS=0 leaves out oneDNN's kernels, whose two versions round differently.
With --saved_model=EXPORT it also prints how many images a second each serves of the same export.

Rounding decides on which side of a ReLU's kink a value falls, and there the gradient jumps: with random weights one
last digit changes that of a whole SRN by a thousandth of its length. So steps are short: gradients of length 1, at a
small --rate.
"""

import os
import statistics
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
from absl import flags  # noqa: E402
from tabulate import tabulate  # noqa: E402

from srn_tf.commands import cli  # noqa: E402
from srn_tf.errors import InputError  # noqa: E402

FLAGS = flags.FLAGS
STEPS = 10
REQUEST = 16  # images
OUTPUTS_APART, LOSSES_APART = 1e-5, 1e-4


def main(_):
    if bool(FLAGS.output) == bool(FLAGS.compare):
        raise InputError(f"Give either --output or --compare. Received: {FLAGS.output!r} and {FLAGS.compare}.")
    if FLAGS.compare:
        compare(*FLAGS.compare)
    else:
        measure()


def measure():
    """Writes --output: of this stack the outputs, each stage's losses and the seconds of its steps."""
    import keras
    import tensorflow as tf

    from srn_tf import stack
    from srn_tf.models.registry import ModelConfig, build_model
    from srn_tf.runs import checkpoint

    labels = [f"label{index}" for index in range(FLAGS.num_labels)]
    keras.utils.set_random_seed(0)
    model = build_model(ModelConfig(FLAGS.model, FLAGS.backbone, FLAGS.image_size), labels)
    if not os.path.isfile(FLAGS.weights):
        checkpoint.save_weights(os.path.abspath(FLAGS.weights), model, {"labels": labels})
    found = {"stack": stack.in_words(stack.versions())}
    image = batches(FLAGS.batch_size)[0]["image"]
    checkpoint.load_weights(FLAGS.weights, model, labels)
    for name, value in tf.function(lambda image: model.network(image, training=False))(image).items():
        found[f"outputs/{name}"] = value.numpy()
    for name in model.stages:
        checkpoint.load_weights(FLAGS.weights, model, labels)
        found[f"losses/{name}"], found[f"seconds/{name}"] = take_steps(model, name)
        print(f"{name}: {found[f'losses/{name}'][:, 0].round(4).tolist()}", flush=True)
    if FLAGS.saved_model:
        found["seconds/serving"] = ask(FLAGS.saved_model)
    np.savez(FLAGS.output, **found)


def ask(saved_model):
    """Seconds of each of STEPS requests of REQUEST arrays, after one that is not timed: float (STEPS,)."""
    import srn_tf

    predictor = srn_tf.Predictor(saved_model)
    size = predictor.image_size
    images = list(np.random.default_rng(0).integers(0, 256, (REQUEST, size, size, 3), np.uint8))
    seconds = []
    for _ in range(STEPS + 1):
        start_s = time.perf_counter()
        predictor.predict(images)
        seconds.append(time.perf_counter() - start_s)
    return np.array(seconds[1:])


def batches(size):
    """The images, of a few squares of one colour each, and labels of each step."""
    rng = np.random.default_rng(1)
    square_px = -(-FLAGS.image_size // 7)

    def images():
        colours = rng.uniform(0, 255, (size, 7, 7, 3)).astype(np.float32)
        return colours.repeat(square_px, 1).repeat(square_px, 2)[:, : FLAGS.image_size, : FLAGS.image_size]

    return [
        {
            "image": images(),
            "y": (rng.random((size, FLAGS.num_labels)) < 0.3).astype(np.float32),
        }
        for _ in range(STEPS)
    ]


def take_steps(model, name):
    """(losses (STEPS, terms), seconds (STEPS,)) of a stage from the model's weights on."""
    import tensorflow as tf

    from srn_tf.training.losses import make_loss
    from srn_tf.training.plan import TrainingPlan
    from srn_tf.training.stage_step import StageStep

    stages = tuple(model.stages)
    plan = TrainingPlan(
        stages, (1,) * len(stages), (FLAGS.rate,) * len(stages), batch_size=FLAGS.batch_size, clip_norm=1.0
    )
    step = StageStep(
        model, tf.distribute.get_strategy(), model.stages[name], stages.index(name), plan, make_loss(plan.loss)
    )
    losses, seconds = [], []
    for batch in batches(FLAGS.batch_size):
        stack = {key: tf.constant(value[None]) for key, value in batch.items()}
        start_s = time.perf_counter()
        outcome = step.run(stack, [FLAGS.rate])
        seconds.append(time.perf_counter() - start_s)
        losses.append([*(values[0] for values in outcome.losses.values()), outcome.gradient_norm[0]])
    return np.array(losses), np.array(seconds)


def compare(one, other):
    """Prints how far two results are apart; fails where that is too far."""
    one, other = (np.load(path) for path in (one, other))
    if set(one.files) != set(other.files):
        raise InputError(f"Both files must be of the same model. Received: {one.files} and {other.files}.")
    rows, failed = [], []
    for key in one.files:
        kind, _, name = key.partition("/")
        if kind not in ("outputs", "losses"):
            continue
        a, b = one[key].astype(np.float64), other[key].astype(np.float64)
        if kind == "losses":  # the last column is the gradient's norm
            a, b = a[:, :-1], b[:, :-1]
        apart = (np.abs(a - b) / np.maximum(1.0, np.abs(a))).max()
        if not apart <= (OUTPUTS_APART if kind == "outputs" else LOSSES_APART):
            failed.append(key)
        times = [statistics.median(1000 * each[f"seconds/{name}"][1:]) for each in (one, other) if kind == "losses"]
        rows.append([key, f"{np.abs(a).max():.4g}", f"{apart:.1e}", *(f"{ms:.1f}" for ms in times)])
    if "seconds/serving" in one:
        speeds = [REQUEST / statistics.median(each["seconds/serving"]) for each in (one, other)]
        rows.append(["serving", "", "", *(f"{speed:.1f} images/s" for speed in speeds)])
    headers = ["", "largest", "apart", *(f"ms a step, {each['stack']}" for each in (one, other))]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))
    if failed:
        raise InputError(f"Both stacks must compute the same. Received: {', '.join(failed)} too far apart.")


if __name__ == "__main__":
    flags.DEFINE_string("weights", None, "File of the weights to start from; made if it is not there.")
    flags.DEFINE_string("output", None, "File .npz of what this stack computes.")
    flags.DEFINE_list("compare", None, "Two such files.")
    flags.DEFINE_string("saved_model", None, "Export to ask as well.")
    flags.DEFINE_string("model", "srn", "Method.")
    flags.DEFINE_string("backbone", "small", "Backbone.")
    flags.DEFINE_integer("image_size", 112, "Side of the square images, pixels.", 1)
    flags.DEFINE_integer("num_labels", 16, "Number of labels.", 1)
    flags.DEFINE_integer("batch_size", 8, "Images a step.", 1)
    flags.DEFINE_float("rate", 2e-5, "Learning rate.", 0.0)
    cli.run(main, __doc__)
