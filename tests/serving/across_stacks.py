"""Whether exports of one TensorFlow answer the same in another: writes them with one Python, reads them with the other.

python -m tests.serving.across_stacks write FOLDER
python -m tests.serving.across_stacks read FOLDER    (with the other Python; fails if an answer differs)
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from srn_tf.serving.checking import TOLERANCES, odd_files, odd_pixels
from srn_tf.serving.export import export
from tests.data.test_preprocessing import FILES
from tests.models.small import SMALL_SETTINGS, small_model

VARIANTS = [
    ("srn", "float32", "variables"),
    ("srn", "float32", "constants"),
    ("srn", "bfloat16", "variables"),
    ("srn", "bfloat16", "constants"),
    ("ml_decoder", "float32", "variables"),
]


def write(folder):
    for name, precision, weights in VARIANTS:
        tf.keras.utils.set_random_seed(1)
        model = small_model(name, 3, **SMALL_SETTINGS[name])
        for weight in model.network.weights:  # values that are not those of new layers
            if "moving_variance" in weight.name:
                weight.assign(tf.random.uniform(weight.shape, 0.5, 1.5))
            elif any(part in weight.name for part in ("bias", "beta", "moving_mean")):
                weight.assign(tf.random.uniform(weight.shape, -0.2, 0.2))
        path = folder / f"{name} {precision} {weights}"
        export(model, ["a", "b", "c"], path / "1", precision=precision, weights=weights)
        np.savez(path / "answers.npz", **answers(path / "1"))


def read(folder):
    """Returns the number of exports whose answers differ by more than an export may from its model."""
    faults = 0
    for name, precision, weights in VARIANTS:
        path = folder / f"{name} {precision} {weights}"
        received = answers(path / "1")
        largest = {"probabilities": 0.0, "other outputs": 0.0}
        with np.load(path / "answers.npz") as expected:
            assert set(expected) == set(received)
            for key, values in expected.items():
                is_probability = key.endswith("probabilities")
                scale = 1.0 if is_probability else np.abs(values).max()
                kind = "probabilities" if is_probability else "other outputs"
                largest[kind] = max(largest[kind], float(np.abs(received[key] - values).max() / scale))
        is_right = all(value <= TOLERANCES[precision][kind] for kind, value in largest.items())
        faults += not is_right
        print(f"TensorFlow {tf.__version__}, {path.name}: {largest}{'' if is_right else ', which is too much'}")
    return faults


def answers(path):
    """What every signature of an export answers: signature/output -> float32 array."""
    loaded = tf.saved_model.load(str(path))
    questions = {"pixels": odd_pixels(3), "image_bytes": [*odd_files(), *FILES.values()]}
    found = {}
    for name, signature in loaded.signatures.items():
        ((argument, _),) = signature.structured_input_signature[1].items()
        outputs = signature(**{argument: tf.constant(questions[argument])})
        found |= {f"{name}/{key}": values.numpy() for key, values in outputs.items() if values.dtype == tf.float32}
    return found


if __name__ == "__main__":
    step, where = sys.argv[1:]
    sys.exit({"write": write, "read": read}[step](Path(where)))
