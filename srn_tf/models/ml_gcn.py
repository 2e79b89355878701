"""ML-GCN: a graph of the labels makes, of their word vectors, the linear layer that reads the pooled features.

Chen, Wei, Wang, Guo: Multi-Label Image Recognition with Graph Convolutional Networks, CVPR 2019 (arXiv 1904.03582).
What the text leaves open is as in the authors' repository megvii-research/ML-GCN, 5517d6f.
"""

import dataclasses

from srn_tf.lazy import LazyModule
from srn_tf.models.model import MultiLabelModel, Stage, label_loss
from srn_tf.models.settings import LabelGraphSettings, setting

keras = LazyModule("keras")
layers = LazyModule("srn_tf.models.layers")
label_graph = LazyModule("srn_tf.models.label_graph")

STAGES = {
    "all": Stage(
        trains=("trunk", "gcn"),
        fixed=("words", "graph"),
        terms=(label_loss("y_gcn"),),
        watched="y_gcn",
    ),
}


@dataclasses.dataclass(frozen=True)
class MLGCNSettings(LabelGraphSettings):
    """Settings of ML-GCN."""

    gcn_hidden: int = setting(1024, "Channels between the two graph convolutions. Paper: 1024.", lowest=1)

    stages = STAGES


def build(trunk, labels, settings):
    """Builds ML-GCN on a trunk's last map.

    Args:
        trunk: backbones.Trunk.
        labels: labels.LabelSpace with the settings' `label_fields`.
        settings: MLGCNSettings.
    Returns:
        MultiLabelModel with the logits y_gcn, the features they come of, pooled by their maximum, and, without a batch
        axis, the vectors Z (C, D) by which labels read them. Z depends on no image: an export has it as a constant.
    """
    vectors = label_graph.word_vectors(labels)
    words = layers.Constant(vectors, name="words")
    graph = layers.Constant(label_graph.adjacency_of(labels.cooccurrence, settings.graph_threshold), name="graph")
    gcn = build_gcn(*vectors.shape, trunk.maps["c5"].shape[-1], settings.gcn_hidden)

    last_map = trunk.model(trunk.image)["c5"]
    pooled = keras.layers.GlobalMaxPooling2D(name="gcn_pool")(last_map)
    Z = gcn({"words": words(last_map), "graph": graph(last_map)})
    return MultiLabelModel(
        image=trunk.image,
        outputs={"y_gcn": label_graph.LabelProducts(name="gcn_logits")([pooled, Z]), "pooled": pooled, "Z": Z},
        parts={"trunk": trunk.model, "words": words, "graph": graph, "gcn": gcn},
        stages=settings.stages,
        logits=("y_gcn",),
        embedding="pooled",
        features={"c5": last_map},
    )


def build_gcn(num_labels, word_width, channels, hidden):
    """Z = A LeakyReLU(A X W1) W2, the classifiers of the labels.

    Paper: Eq. (2) to (5).

    Args:
        num_labels: C.
        word_width: E.
        channels: D of the features that Z reads.
        hidden: width of the result of the first convolution.
    Returns:
        keras.Model gcn: dict of words X (C, E) and graph A (C, C) -> Z float32 (C, D). There is no batch.
    """
    words = keras.Input(batch_shape=(num_labels, word_width), name="words")
    graph = keras.Input(batch_shape=(num_labels, num_labels), name="graph")
    x = label_graph.GraphConvolution(hidden, name="gcn_1")([words, graph])
    x = keras.layers.ReLU(negative_slope=0.2, dtype="float32", name="gcn_leaky_relu")(x)
    Z = label_graph.GraphConvolution(channels, name="gcn_2")([x, graph])
    return keras.Model({"words": words, "graph": graph}, Z, name="gcn")
