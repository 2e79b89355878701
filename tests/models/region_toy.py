"""A method of these tests alone that has what region proposals and label graphs need, and no maps.

Regions, a term over the boxes of an image that a stage watches, and constants of the labels kept in weights.
"""

import dataclasses

import keras
import tensorflow as tf

from srn_tf.labels import LabelSpace
from srn_tf.models import layers
from srn_tf.models.backbones import build_trunk
from srn_tf.models.model import MultiLabelModel, Regions, Stage, Term, label_loss
from srn_tf.models.registry import Method
from srn_tf.models.settings import EmbeddingSettings


def misplaced(outputs, batch, seed):
    """Per image: how far the cells in which a box has its centre are from finding it, and other cells from silence."""
    boxes, is_box = batch["boxes"], tf.cast(batch["box_labels"] >= 0, tf.float32)
    side = int(outputs["boxes"].shape[1] ** 0.5)
    rows, columns = (
        tf.cast(tf.minimum((boxes[..., i] + boxes[..., i + 2]) / 2, 0.999) * side, tf.int32) for i in (0, 1)
    )
    cells = rows * side + columns  # (b, K)
    off = tf.reduce_mean(tf.abs(tf.gather(outputs["boxes"], cells, batch_dims=1) - boxes), axis=2)
    off = tf.reduce_sum(off * is_box, axis=1) / tf.maximum(tf.reduce_sum(is_box, axis=1), 1.0)
    target = tf.reduce_max(tf.one_hot(cells, side**2) * is_box[..., None], axis=1)
    logits = outputs["objectness"]
    return 10.0 * off + tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(target, logits), axis=1)


MISPLACED = Term("misplaced", ("boxes", "objectness"), misplaced)
STAGES = {
    "rpn": Stage(
        trains=("proposals",),
        fixed=("trunk", "words", "graph", "classifier"),
        terms=(MISPLACED,),
        watched="misplaced",
        needs=("boxes",),
    ),
    "all": Stage(
        trains=("trunk", "proposals", "classifier"),
        fixed=("words", "graph"),
        terms=(label_loss("y"), MISPLACED),
        watched="y",
        needs=("boxes",),
    ),
}


@dataclasses.dataclass(frozen=True)
class RegionToySettings(EmbeddingSettings):
    stages = STAGES
    label_fields = ("embeddings", "counts", "cooccurrence")


@keras.saving.register_keras_serializable(package="tests")
class CellBoxes(keras.layers.Layer):
    """Offsets (B, H, W, 4) -> boxes float32 (B, H * W, 4), each around a point in its cell, within the image."""

    def call(self, offsets):
        side = offsets.shape[1]
        values = tf.sigmoid(tf.reshape(tf.cast(offsets, tf.float32), [-1, side * side, 4]))
        rows, columns = (tf.reshape(axis, [-1]) for axis in tf.meshgrid(*[tf.range(float(side))] * 2, indexing="ij"))
        centre = (tf.stack([rows, columns], axis=1) + values[..., :2]) / side
        return tf.clip_by_value(tf.concat([centre - values[..., 2:] / 2, centre + values[..., 2:] / 2], 2), 0.0, 1.0)


@keras.saving.register_keras_serializable(package="tests")
class WordClassifier(keras.layers.Layer):
    """Cells (B, H, W, D), vectors (C, E) and a graph (C, C) -> logits float32 (B, H * W, C)."""

    def build(self, shapes):
        (*_, channels), (_, width), _ = shapes
        self.kernel = self.add_weight(name="kernel", shape=(channels, width), initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=(), initializer="zeros")
        super().build(shapes)

    def call(self, inputs):
        cells, words, graph = inputs
        mixed = words + tf.matmul(graph, words)
        x = tf.reshape(cells, [-1, cells.shape[1] * cells.shape[2], cells.shape[3]])
        return x @ (tf.convert_to_tensor(self.kernel) @ tf.transpose(mixed)) + tf.convert_to_tensor(self.bias)


@keras.saving.register_keras_serializable(package="tests")
class Scores(keras.layers.Layer):
    """Objectness (B, R) and label logits (B, R, C) -> float32 (B, R, C) in [0, 1]."""

    def call(self, inputs):
        objectness, logits = inputs
        return tf.sigmoid(objectness)[..., None] * tf.sigmoid(logits)


def build(trunk, labels, settings):
    last_map = trunk.model(trunk.image)["c5"]
    x = map_input = keras.Input(trunk.maps["c5"].shape[1:], name="toy_proposal_map")
    x = keras.layers.Conv2D(16, 3, padding="same", activation="tanh", name="toy_hidden")(x)
    found = {name: keras.layers.Conv2D(n, 1, name=f"toy_{name}")(x) for name, n in (("offsets", 4), ("objectness", 1))}
    proposals = keras.Model(map_input, found, name="proposals")
    words = layers.Constant(labels.embeddings, name="words")
    graph = layers.Constant(labels.cooccurrence / (labels.counts + 1.0), name="graph")  # column j: P(i | j)
    classifier = WordClassifier(dtype="float32", name="classifier")

    found = proposals(last_map)
    objectness = keras.layers.Flatten(dtype="float32", name="toy_flat")(found["objectness"])
    logits = classifier([last_map, words(last_map), graph(last_map)])
    return MultiLabelModel(
        image=trunk.image,
        outputs={
            "y": keras.layers.GlobalMaxPooling1D(dtype="float32", name="toy_best")(logits),
            "boxes": CellBoxes(dtype="float32", name="toy_boxes")(found["offsets"]),
            "objectness": objectness,
            "scores": Scores(dtype="float32", name="toy_scores")([objectness, logits]),
            "pooled": keras.layers.GlobalAveragePooling2D(name="toy_pool")(last_map),
        },
        parts={
            **{"trunk": trunk.model, "proposals": proposals},
            **{"words": words, "graph": graph, "classifier": classifier},
        },
        stages=settings.stages,
        logits=("y",),
        regions=(Regions("boxes", "scores", "proposals", "Proposals are the boxes in which a label was found."),),
        embedding="pooled",
        label_free=("trunk", "proposals"),
    )


REGION_TOY = Method("region toy", RegionToySettings, build)


def build_region_toy(num_labels=3, image_size=56):
    """The region toy on the small backbone, outside the table of methods; its constants are zeros."""
    settings = RegionToySettings(label_width=4)
    labels = LabelSpace([f"a{i}" for i in range(num_labels)]).with_zeros(settings)
    return build(build_trunk("small", image_size), labels, settings)
