"""ADD-GCN: what an image shows of each label is exchanged in a graph that the image itself decides.

Ye, He, Peng, Wu, Qiao: Attention-Driven Dynamic Graph Convolutional Network for Multi-Label Image Recognition,
ECCV 2020 (arXiv 2012.02994). What the text leaves open is as in the authors' repository Yejin0111/ADD-GCN, b7653fe.
"""

import dataclasses

from srn_tf.lazy import LazyModule
from srn_tf.models.model import Map, MultiLabelModel, Stage, label_loss
from srn_tf.models.settings import Settings, setting

keras = LazyModule("keras")
blocks = LazyModule("srn_tf.models.blocks")
layers = LazyModule("srn_tf.models.layers")
label_graph = LazyModule("srn_tf.models.label_graph")

CLASS_MAPS = Map(
    "M",
    "class maps M",
    "The class maps show how probable the label is at each place, seen by itself.",
    sums_to_one=False,
)

STAGES = {
    "all": Stage(
        trains=("trunk", "class_maps", "transform", "graph"),
        fixed=(),
        terms=(label_loss("y_add"),),
        watched="y_add",
    ),
}


@dataclasses.dataclass(frozen=True)
class ADDGCNSettings(Settings):
    """Settings of ADD-GCN."""

    graph_width: int = setting(1024, "Channels of a label's features in the graphs. Paper: 1024.", lowest=1)

    stages = STAGES


def build(trunk, labels, settings):
    """Builds ADD-GCN on a trunk's last map.

    Args:
        trunk: backbones.Trunk.
        labels: labels.LabelSpace.
        settings: ADDGCNSettings.
    Returns:
        MultiLabelModel with the logits y_add, the mean of y_map (highest place of a label's class map) and y_graph (of
        the graphs); the class maps as probabilities M; and the pooled last map.
    """
    num_labels = len(labels)
    height, width, channels = trunk.maps["c5"].shape[1:]
    class_maps = keras.layers.Conv2D(
        num_labels, 1, use_bias=False, kernel_initializer=blocks.torch_uniform(), dtype="float32", name="class_maps"
    )
    transform = keras.layers.Conv2D(
        settings.graph_width, 1, kernel_initializer=blocks.torch_uniform(), name="transform"
    )
    graph = build_graph(num_labels, settings.graph_width)

    last_map = trunk.model(trunk.image)["c5"]
    scores = class_maps(last_map)
    M = keras.layers.Activation("sigmoid", dtype="float32", name="add_probabilities")(scores)
    # What stands where a label is: a sum over places, not a mean.
    places = keras.layers.Reshape((height * width, num_labels), dtype="float32", name="add_places")(M)
    seen = keras.layers.Reshape((height * width, settings.graph_width), name="add_seen")(transform(last_map))
    v = label_graph.GroupSums(name="add_nodes")([places, seen])  # (B, C, width)
    y_map = keras.layers.GlobalMaxPooling2D(dtype="float32", name="add_max")(scores)
    y_graph = graph(v)
    return MultiLabelModel(
        image=trunk.image,
        outputs={
            "y_add": layers.WeightedMean(dtype="float32", name="add_mean")([y_map, y_graph]),
            **{"y_map": y_map, "y_graph": y_graph, "M": M},
            "pooled": keras.layers.GlobalAveragePooling2D(name="add_pool")(last_map),
        },
        parts={"trunk": trunk.model, "class_maps": class_maps, "transform": transform, "graph": graph},
        stages=settings.stages,
        logits=("y_add", "y_map", "y_graph"),
        maps=(CLASS_MAPS,),
        embedding="pooled",
        label_free=("trunk", "transform"),
        features={"c5": last_map},
    )


def build_graph(num_labels, width):
    """A graph of labels that is the same for every image, then one that the image decides, then a logit per label.

    r_i = v_i + LReLU(Ws LReLU(sum_j As_ij v_j));   g = LReLU(BN(Wg mean_i r_i));
    a_j = sigmoid(Wc [g; r_j]), how much label j takes from each;   z_j = LReLU(Wd LReLU(sum_i a_ji r_i)).
    y_j reads v_j + z_j by weights of its own.

    Args:
        num_labels: C.
        width: channels of v, r, g and z.
    Returns:
        keras.Model graph: v (B, C, width) -> y_graph, logits float32 (B, C).
    """
    v = keras.Input((num_labels, width), name="nodes")
    x = keras.layers.Permute((2, 1), dtype="float32", name="graph_channels")(v)  # labels last, which As mixes
    x = _leaky_relu(_linear(x, num_labels, "graph_static", use_bias=False), "graph_static_relu")
    x = keras.layers.Permute((2, 1), dtype="float32", name="graph_labels")(x)
    x = _leaky_relu(_linear(x, width, "graph_static_weight"), "graph_static_weight_relu")
    r = keras.layers.Add(dtype="float32", name="graph_static_sum")([v, x])

    g = keras.layers.GlobalAveragePooling1D(dtype="float32", name="graph_mean")(r)
    g = _linear(g, width, "graph_global")
    g = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype="float32", name="graph_global_bn")(g)
    g = keras.layers.RepeatVector(num_labels, dtype="float32", name="graph_repeat")(_leaky_relu(g, "graph_global_relu"))
    x = keras.layers.Concatenate(dtype="float32", name="graph_concat")([g, r])
    x = _linear(x, num_labels, "graph_dynamic", activation="sigmoid")  # (B, j, i)
    x = keras.layers.Permute((2, 1), dtype="float32", name="graph_senders")(x)  # (B, i, j), see GroupSums
    x = _leaky_relu(label_graph.GroupSums(name="graph_received")([x, r]), "graph_received_relu")
    z = _leaky_relu(_linear(x, width, "graph_dynamic_weight"), "graph_dynamic_weight_relu")

    x = keras.layers.Add(dtype="float32", name="graph_dynamic_sum")([v, z])
    return keras.Model(v, layers.GroupLinear(num_labels, 1, is_uniform=True, name="graph_logits")(x), name="graph")


def _linear(x, channels, name, use_bias=True, activation=None):
    initializer = blocks.torch_uniform()
    return keras.layers.Dense(
        channels, activation, use_bias, kernel_initializer=initializer, dtype="float32", name=name
    )(x)


def _leaky_relu(x, name):
    return keras.layers.ReLU(negative_slope=0.2, dtype="float32", name=name)(x)
