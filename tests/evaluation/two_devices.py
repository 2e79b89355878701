"""Evaluates on two devices, in a process of its own: devices come before TensorFlow's first use.

python -m tests.evaluation.two_devices DATA_DIR OUTPUT.npz
"""

import json
import sys

import keras
import numpy as np

from srn_tf.data.datasets import open_dataset
from srn_tf.distribution import make_strategy
from srn_tf.evaluation.evaluator import Evaluator
from tests.models.small import small_model


def main(data_dir, output):
    strategy = make_strategy(logical_cpus=2)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = small_model("srn", 16, head_channels=8)
    evaluator = Evaluator(model, strategy, with_boxes=True)
    predictions = evaluator.predict(open_dataset("scenes", data_dir, data_dir).records("test"), 5)
    game = json.dumps({name: game.result() for name, game in predictions.pointing.items()})
    np.savez(output, labels=predictions.labels, pointing=game, **predictions.logits)


if __name__ == "__main__":
    main(*sys.argv[1:])
