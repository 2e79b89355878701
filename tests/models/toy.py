"""A method of these tests alone, which has what no method of the table has all of.

Keras' MultiHeadAttention, one map, a term of its own per image that a stage watches, and a term per step on weights.
"""

import dataclasses

import keras
import tensorflow as tf

from srn_tf.labels import LabelSpace
from srn_tf.models import layers
from srn_tf.models.backbones import build_trunk
from srn_tf.models.model import Map, MultiLabelModel, Stage, Term, label_loss
from srn_tf.models.registry import Method
from srn_tf.models.settings import Settings


def spread_of(outputs, batch, seed):
    """Per image: the mean entropy of its attention maps."""
    A = outputs["A"]
    return -tf.reduce_mean(tf.reduce_sum(A * tf.math.log(A + 1e-9), axis=[1, 2]), axis=1)


def size_of(outputs, batch, seed):
    """Per step: the squared length of the queries, whatever images there are."""
    return tf.reduce_sum(outputs["vectors"][0] ** 2)


SPREAD = Term("spread", ("A",), spread_of, weight=0.5)
SIZE = Term("size", ("vectors",), size_of, weight=0.01, is_per_step=True)
STAGES = {
    "head": Stage(
        trains=("queries", "attention", "answers"), fixed=("trunk",), terms=(label_loss("y"), SPREAD), watched="spread"
    ),
    "all": Stage(
        trains=("queries", "attention", "answers"), fixed=("trunk",), terms=(label_loss("y"), SIZE), watched="y"
    ),
}


@dataclasses.dataclass(frozen=True)
class ToySettings(Settings):
    stages = STAGES


def build(trunk, labels, settings):
    height, width, channels = trunk.maps["c5"].shape[1:]
    last_map = trunk.model(trunk.image)["c5"]
    queries = layers.Vectors(len(labels), 8, stddev=0.3, name="queries")
    map_input = keras.Input((height, width, channels), name="map")
    query_input = keras.Input((len(labels), 8), name="queries")
    tokens = keras.layers.Reshape((height * width, channels), name="toy_tokens")(map_input)
    mixed, scores = keras.layers.MultiHeadAttention(2, 4, name="toy_attention")(
        query_input, tokens, return_attention_scores=True
    )
    attention = keras.Model(
        {"map": map_input, "queries": query_input}, {"mixed": mixed, "scores": scores}, name="attention"
    )
    answers = layers.GroupLinear(len(labels), 1, name="answers")
    vectors = queries(last_map)
    outputs = attention({"map": last_map, "queries": vectors})
    A = layers.AttentionMaps((height, width), len(labels), 1, name="toy_maps")(outputs["scores"])
    return MultiLabelModel(
        image=trunk.image,
        outputs={
            "y": answers(outputs["mixed"]),
            "A": A,
            "vectors": vectors,
            "pooled": keras.layers.GlobalAveragePooling2D(name="toy_pool")(last_map),
        },
        parts={"trunk": trunk.model, "queries": queries, "attention": attention, "answers": answers},
        stages=settings.stages,
        logits=("y",),
        maps=(Map("A", "attention", "Attention of the toy."),),
        embedding="pooled",
        label_free=("trunk", "attention"),
    )


TOY = Method("toy", ToySettings, build)


def build_toy(num_labels=3, image_size=56):
    """The toy on the small backbone, outside the table of methods; its query vectors and terms as above."""
    labels = LabelSpace([f"a{i}" for i in range(num_labels)])
    return build(build_trunk("small", image_size), labels, ToySettings())
