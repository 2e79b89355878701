"""A model made by hand that sees spots: its attention is where the image is bright, and its regularizer is known.

Neurons 0 to 3 read the map of label 0: the first responds the more, the lower the spot, the second the farther right;
the third the same wherever it is, the fourth never. All others never fire.
"""

import keras
import numpy as np
import tensorflow as tf

from srn_tf.models.layers import SoftmaxOverGrid
from srn_tf.models.model import MultiLabelModel, Stage, label_loss
from srn_tf.models.srn import ATTENTION, WEIGHTED, build_regularizer

LABELS = ("spot", "other", "rare")
SIDE_PX, GRID = 56, 14


def build_model():
    f_sr = build_regularizer((GRID, GRID), len(LABELS), head_channels=2, head="paper")
    f_sr.get_layer("sr_conv2_conv").set_weights(first_channel(1, 1, 3, 2))
    f_sr.get_layer("sr_conv3_conv").set_weights(first_channel(1, 1, 2, 2))
    kernel = np.zeros((GRID, GRID, 2, 4), np.float32)
    kernel[..., 0, 0] = np.arange(GRID)[:, None] / (GRID * GRID)
    kernel[..., 0, 1] = np.arange(GRID) / (GRID * GRID)
    kernel[..., 0, 2] = 1.0 / (GRID * GRID)
    bias = np.array([0.0, 0.0, 0.0, -1.0, *[-1.0] * 4], np.float32)
    f_sr.get_layer("sr_conv4").set_weights([kernel, bias])
    image = keras.Input((SIDE_PX, SIDE_PX, 3), name="image")
    cells = keras.layers.AveragePooling2D(SIDE_PX // GRID)(image)
    A = SoftmaxOverGrid(name="attention")(cells)
    outputs = {"y_sr": f_sr(A), "A": A, "U": A}
    stages = {"sr": Stage(trains=("f_sr",), fixed=(), terms=(label_loss("y_sr"),), watched="y_sr")}
    return MultiLabelModel(image, outputs, {"f_sr": f_sr}, stages, ("y_sr",), (ATTENTION, WEIGHTED))


def first_channel(*shape):
    """Weights of a convolution that hands on the first channel alone."""
    kernel = np.zeros(shape, np.float32)
    kernel[0, 0, 0, 0] = 1.0
    return [kernel, np.zeros(shape[-1], np.float32)]


def draw(cells):
    """Images black but for one white cell each, uint8 (N, 56, 56, 3); cells is int (N, 2), row and column."""
    images = np.zeros((len(cells), SIDE_PX, SIDE_PX, 3), np.uint8)
    for image, (row, column) in zip(images, cells * (SIDE_PX // GRID)):
        image[row : row + 4, column : column + 4] = 255
    return images


def records(images, labels, boxes, box_labels):
    """Records of these images; boxes (N, K, 4), of which those with label -1 are left out."""

    def generate():
        for index, image in enumerate(images):
            is_known = box_labels[index] >= 0
            yield {
                "image": tf.io.encode_png(image).numpy(),
                "name": f"{index}.png".encode(),
                "labels": labels[index],
                "objects": {"bbox": boxes[index][is_known], "label": box_labels[index][is_known]},
            }

    spec = {
        "image": tf.TensorSpec((), tf.string),
        "name": tf.TensorSpec((), tf.string),
        "labels": tf.TensorSpec((len(LABELS),), tf.int8),
        "objects": {"bbox": tf.TensorSpec((None, 4), tf.float32), "label": tf.TensorSpec((None,), tf.int64)},
    }
    dataset = tf.data.Dataset.from_generator(generate, output_signature=spec)
    return dataset.apply(tf.data.experimental.assert_cardinality(len(images)))


def spot_records(num_images, with_boxes, seed=0):
    """Spots at random cells, and which: (records, cells (N, 2), labels (N, 3)). All images have the label "spot"."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, GRID, (num_images, 2))
    labels = np.ones((num_images, 3), np.int8)
    labels[:, 1] = rng.integers(0, 2, num_images)
    labels[:, 2] = 0
    labels[:3, 2] = 1
    boxes = np.concatenate([cells, cells + 1], axis=1)[:, None].astype(np.float32) / GRID
    box_labels = np.full((num_images, 1), 0 if with_boxes else -1)
    return records(draw(cells), labels, boxes, box_labels), cells, labels
