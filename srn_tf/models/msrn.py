"""MSRN: labels and groups of labels look at three maps of the trunk, channel by channel; one perceptron answers.

Che, Chen, et al.: A Novel Multi-layered Semantic Representation Network for multi-label image classification
(arXiv 2106.11596). The paper's equations were not read: this follows its authors' code, chehao2628/MSRN at 469d28f.
"""

import dataclasses

from srn_tf.lazy import LazyModule
from srn_tf.models.model import Map, MultiLabelModel, Stage, Term, label_loss
from srn_tf.models.settings import LabelGraphSettings, setting

keras = LazyModule("keras")
tf = LazyModule("tensorflow")
blocks = LazyModule("srn_tf.models.blocks")
layers = LazyModule("srn_tf.models.layers")
label_graph = LazyModule("srn_tf.models.label_graph")
channel_attention = LazyModule("srn_tf.models.channel_attention")

SCALES = ("c3", "c4", "c5")  # the finest first
BUFFERED = ("c3", "c4")  # with a convolution of their own on the way to the heads
LABEL_WIDTHS = (256, 300)  # in front of and between the two graph layers of the labels

ATTENTION = Map(
    "A",
    "attention at the finest scale",
    "Attention shows where a label's query looks on the finest map, as the mean over channels. This mean is our "
    "reading: the network itself does not mix the channels there.",
)


def group_loss(outputs, batch, seed):
    """How far labels are from the group they mostly belong to: C times the sum over labels of a distance.

    The authors add this sum to a mean over labels, where label losses here are sums over labels: hence the factor C.

    Args:
        outputs: L (C, D) labels, G (K, D) groups, S (C, K) the labels' shares in them.
    Returns:
        float32 scalar, >= 0; 0 where every label is its group.
    """
    L, G, S = (outputs[name] for name in ("L", "G", "S"))
    squares = tf.reduce_sum((L - tf.gather(G, tf.argmax(S, axis=1))) ** 2, axis=1)
    is_apart = squares > 0.0  # the root has no gradient at 0
    distances = tf.where(is_apart, tf.sqrt(tf.where(is_apart, squares, 1.0)), 0.0)
    return L.shape[0] * tf.reduce_sum(distances)


STAGES = {
    "all": Stage(
        trains=("trunk", "buffers", "projection", "label_branch", "group_branch", "perceptron"),
        fixed=("words", "graph"),
        terms=(label_loss("y_msrn"), Term("groups", ("L", "G", "S"), group_loss, weight=1e-4, is_per_step=True)),
        watched="y_msrn",
    ),
}


@dataclasses.dataclass(frozen=True)
class MSRNSettings(LabelGraphSettings):
    """Settings of MSRN. Without a file of word vectors those of the labels are learned."""

    msrn_width: int = setting(512, "Channels D of maps, labels and groups. Authors: 512.", lowest=1)
    msrn_hidden: int = setting(2048, "Width of the perceptron's hidden layer. Authors: 2048.", lowest=1)
    group_ratio: float = setting(
        0.05,
        "Number of label groups divided by the number of labels; at least one group. Authors: 0.05 for COCO and "
        "NUS-WIDE, 0.2 for VOC 2007 and Apparel.",
        None,
        0.0,
        1.0,
    )

    stages = STAGES


def build(trunk, labels, settings):
    """Builds MSRN on a trunk's three maps.

    Args:
        trunk: backbones.Trunk.
        labels: labels.LabelSpace with the settings' `label_fields`.
        settings: MSRNSettings.
    Returns:
        MultiLabelModel with the logits y_msrn, the map A of the labels' attention on c3, the pooled last map, and,
        without a batch axis, the labels L (C, D), the groups G (K, D) and the shares S (C, K).
    """
    num_labels, width = len(labels), settings.msrn_width
    num_groups = max(1, int(settings.group_ratio * num_labels))
    shapes = {name: tuple(trunk.maps[name].shape[1:]) for name in SCALES}
    vectors = label_graph.word_vectors(labels)
    words = layers.Constant(vectors, name="words")
    graph = layers.Constant(label_graph.edges_of(labels.cooccurrence, settings.graph_threshold), name="graph")
    buffers = build_buffers(shapes)
    projection = build_projection({name: tuple(x.shape[1:]) for name, x in buffers.output.items()}, width)
    label_branch = build_label_branch(num_labels, vectors.shape[1], width)
    group_branch = build_group_branch(num_labels, num_groups, width)
    perceptron = build_perceptron(num_labels, num_groups, width, settings.msrn_hidden)

    maps = trunk.model(trunk.image)
    projected = projection(buffers({name: maps[name] for name in SCALES}))
    edges = graph(maps["c3"])
    L = label_branch({"words": words(maps["c3"]), "edges": edges})
    groups = group_branch({"labels": L, "edges": edges})
    queries = keras.layers.Concatenate(axis=0, dtype="float32", name="msrn_queries")([L, groups["G"]])
    found = [
        channel_attention.ChannelAttention(name=f"msrn_attention_{name}")([projected[name], queries]) for name in SCALES
    ]
    return MultiLabelModel(
        image=trunk.image,
        outputs={
            "y_msrn": perceptron(keras.layers.Concatenate(axis=2, dtype="float32", name="msrn_scales")(found)),
            "A": channel_attention.ChannelAttentionMaps(name="msrn_maps")([projected["c3"], L]),
            "pooled": keras.layers.GlobalAveragePooling2D(name="msrn_pool")(maps["c5"]),
            **{"L": L, "G": groups["G"], "S": groups["S"]},
        },
        parts={
            **{"trunk": trunk.model, "buffers": buffers, "projection": projection},
            **{"words": words, "graph": graph, "label_branch": label_branch, "group_branch": group_branch},
            "perceptron": perceptron,
        },
        stages=settings.stages,
        logits=("y_msrn",),
        maps=(ATTENTION,),
        embedding="pooled",
        label_free=("trunk", "buffers", "projection"),
        features={name: maps[name] for name in SCALES},
    )


def build_buffers(shapes):
    """The way from the trunk's maps to the heads: a 1x1 convolution on c3 and c4, and max pooling.

    Args:
        shapes: name of a map -> (H, W, F).
    Returns:
        keras.Model buffers: dict of the maps -> dict of (B, H // 2, W // 2, F), a side of 1 staying 1.
    """
    inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
    outputs = dict(inputs)
    for name in BUFFERED:
        outputs[name] = keras.layers.Conv2D(
            shapes[name][-1],
            1,
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
            name=f"buffer_{name}_conv",
        )(inputs[name])
    for name, (height, width, _) in shapes.items():
        size = (min(2, height), min(2, width))
        outputs[name] = keras.layers.MaxPooling2D(size, size, name=f"buffer_{name}_pool")(outputs[name])
    return keras.Model(inputs, outputs, name="buffers")


def build_projection(shapes, width):
    """A 1x1 convolution for each scale.

    Args:
        shapes: name of a map -> (h, w, F) as `build_buffers` gives it.
        width: D.
    Returns:
        keras.Model projection: dict of (B, h, w, F) -> dict of V (B, h, w, D).
    """
    inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
    outputs = {
        name: keras.layers.Conv2D(width, 1, kernel_initializer=blocks.torch_uniform(), name=f"project_{name}_conv")(x)
        for name, x in inputs.items()
    }
    return keras.Model(inputs, outputs, name="projection")


def build_label_branch(num_labels, word_width, width):
    """What a label is looked for by, from its word vector and those of labels it is joined to.

    Args:
        num_labels: C.
        word_width: E.
        width: D.
    Returns:
        keras.Model label_branch: dict of words (C, E) and edges (C, C) -> L float32 (C, D). Their first axis is that of
        the labels: there is no batch.
    """
    words = keras.Input(batch_shape=(num_labels, word_width), name="words")
    edges = keras.Input(batch_shape=(num_labels, num_labels), name="edges")
    first, second = LABEL_WIDTHS
    x = keras.layers.Dense(first, kernel_initializer=blocks.torch_uniform(), dtype="float32", name="label_fc")(words)
    x = label_graph.GraphAttention(second, name="label_graph1")([x, edges])
    L = label_graph.GraphAttention(width, name="label_graph2")([x, edges])
    return keras.Model({"words": words, "edges": edges}, L, name="label_branch")


def build_group_branch(num_labels, num_groups, width):
    """Groups of labels: each label has shares in them, and each group is a sum of labels.

    The softmax is over what an ELU gives, which is above -1, as in the authors' code.

    Args:
        num_labels, num_groups, width: C, K and D.
    Returns:
        keras.Model group_branch: dict of labels (C, D) and edges (C, C) -> dict of G float32 (K, D) and S float32
        (C, K), whose rows sum to 1. There is no batch.
    """
    labels = keras.Input(batch_shape=(num_labels, width), name="labels")
    edges = keras.Input(batch_shape=(num_labels, num_labels), name="edges")
    x = keras.layers.ReLU(dtype="float32", name="group_relu")(labels)
    Z = label_graph.GraphAttention(width, name="group_graph")([x, edges])
    S = label_graph.GraphAttention(num_groups, name="group_shares")([x, edges])
    S = label_graph.GroupShares(name="group_softmax")(S)
    G = label_graph.GroupSums(name="group_sums")([S, Z])
    return keras.Model({"labels": labels, "edges": edges}, {"G": G, "S": S}, name="group_branch")


def build_perceptron(num_labels, num_groups, width, hidden):
    """tanh, a hidden layer with LeakyReLU and the logits, from all that labels and groups have found.

    Args:
        num_labels, num_groups, width: C, K and D.
        hidden: width of the hidden layer.
    Returns:
        keras.Model perceptron: (B, C + K, 3 D) -> y_msrn, logits float32 (B, C).
    """
    found = keras.Input((num_labels + num_groups, len(SCALES) * width), name="msrn_found")
    x = keras.layers.Activation("tanh", name="msrn_tanh")(found)
    x = keras.layers.Flatten(name="msrn_flatten")(x)
    x = keras.layers.Dense(hidden, kernel_initializer=blocks.torch_uniform(), name="msrn_fc1")(x)
    x = keras.layers.ReLU(negative_slope=0.01, name="msrn_leaky_relu")(x)
    y = keras.layers.Dense(num_labels, kernel_initializer=blocks.torch_uniform(), dtype="float32", name="msrn_logits")(
        x
    )
    return keras.Model(found, y, name="perceptron")
