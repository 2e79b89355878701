"""CNN-RNN: the labels of an image as a path, the most frequent label first, that an LSTM beside the image predicts.

Wang, Yang, Mao, Huang, Huang, Xu: CNN-RNN: A Unified Framework for Multi-label Image Classification, CVPR 2016
(arXiv 1604.04573). What is the paper's and what is ours: docs/methods.md.
"""

import dataclasses

from srn_tf.errors import InputError
from srn_tf.lazy import LazyModule
from srn_tf.models.model import MultiLabelModel, Stage, Term
from srn_tf.models.settings import Settings, setting

keras = LazyModule("keras")
layers = LazyModule("srn_tf.models.layers")
label_path = LazyModule("srn_tf.models.label_path")

MOST_LABELS = 20  # of a path, where no number of them is asked for


def path_loss(outputs, batch, seed):
    """Per image: minus the log-probability of its true path."""
    return outputs["path_loss"]


STAGES = {
    "rnn": Stage(
        trains=("image_code", "decoder"),
        fixed=("trunk", "counts"),
        terms=(Term("path_loss", ("path_loss",), path_loss),),
        watched="path_loss",
    ),
}


@dataclasses.dataclass(frozen=True)
class CNNRNNSettings(Settings):
    """Settings of CNN-RNN."""

    rnn_width: int = setting(512, "Width H of the LSTM.", lowest=1)
    rnn_embedding: int = setting(64, "Width E of the label embedding and of the joint space.", lowest=1)
    rnn_gates: str = setting(
        "sigmoid",
        "Kind of LSTM. sigmoid: a standard one. relu: as in the paper's text, with ReLU instead of every sigmoid and "
        "tanh, gates that read the cell's state, and no biases.",
        ("sigmoid", "relu"),
    )
    rnn_dropout: float = setting(0.5, "Dropout rate of the image's features in training.", None, 0.0, 0.9)
    rnn_beam: int = setting(2, "Width of the beam search, in paths. 1: greedy search.", lowest=1)
    rnn_steps: int = setting(
        0,
        f"Maximum labels per path; an image with more keeps the most frequent. 0: {MOST_LABELS}, or all if fewer.",
        lowest=0,
    )
    rnn_min_labels: int = setting(
        0, "Minimum labels per predicted path, or all if fewer. Paper: 3 on NUS-WIDE, else 0.", lowest=0
    )

    stages = STAGES
    label_fields = ("counts",)


def build(trunk, labels, settings):
    """Builds CNN-RNN on a trunk's last map, pooled.

    Args:
        trunk: backbones.Trunk; no stage trains it.
        labels: labels.LabelSpace with counts.
        settings: CNNRNNSettings.
    Returns:
        MultiLabelModel with the logits y_rnn, the pooled last map and, taught by the images' labels, path_loss.
    Raises:
        InputError: a path must have more labels than it can have.
    """
    num_labels = len(labels)
    most_labels = min(settings.rnn_steps or MOST_LABELS, num_labels)
    if settings.rnn_steps and settings.rnn_min_labels > settings.rnn_steps:
        raise InputError(
            f"rnn_min_labels must be at most rnn_steps, {settings.rnn_steps}. Received: {settings.rnn_min_labels}."
        )
    counts = layers.Constant(labels.counts, name="counts")
    image_code = build_image_code(trunk.maps["c5"].shape[-1], settings)
    decoder = label_path.PathDecoder(
        num_labels,
        settings.rnn_width,
        settings.rnn_embedding,
        settings.rnn_gates,
        settings.rnn_beam,
        most_labels,
        min(settings.rnn_min_labels, most_labels),
        name="decoder",
    )

    last_map = trunk.model(trunk.image)["c5"]
    pooled = keras.layers.GlobalAveragePooling2D(name="rnn_pool")(last_map)
    code = image_code(pooled)
    truth = keras.Input((num_labels,), name="truth")
    path = label_path.TruePath(most_labels, name="true_path")([truth, counts(truth)])
    return MultiLabelModel(
        image=trunk.image,
        outputs={"y_rnn": decoder(code), "pooled": pooled},
        parts={"trunk": trunk.model, "counts": counts, "image_code": image_code, "decoder": decoder},
        stages=settings.stages,
        logits=("y_rnn",),
        embedding="pooled",
        features={"c5": last_map},
        truth=truth,
        taught={"path_loss": decoder(code, truth=truth, path=path)},
    )


def build_image_code(channels, settings):
    """What the image adds to the joint space: U_I I, the paper's section 3.1.

    Args:
        channels: D.
        settings: CNNRNNSettings, E its rnn_embedding.
    Returns:
        keras.Model image_code: (B, D) -> float32 (B, E).
    """
    features = keras.Input((channels,), name="rnn_features")
    x = layers.SeededDropout(settings.rnn_dropout, dtype="float32", name="rnn_dropout")(features)
    x = keras.layers.Dense(settings.rnn_embedding, use_bias=False, dtype="float32", name="rnn_image")(x)
    return keras.Model(features, x, name="image_code")
