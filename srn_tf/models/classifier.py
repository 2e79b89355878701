"""The classifier behind a trunk: the last map pooled over its grid, then a linear layer."""

import dataclasses

from srn_tf.lazy import LazyModule
from srn_tf.models.settings import Settings, setting

keras = LazyModule("keras")

POOLINGS = ("mean", "max")


@dataclasses.dataclass(frozen=True)
class ClassifierSettings(Settings):
    """Settings of every method with such a classifier."""

    pooling: str = setting(
        "mean",
        "Pooling of the last map before the classifier. Paper: mean. max: a strong baseline in the literature.",
        POOLINGS,
    )


def build_classifier(last_map, num_labels, pooling="mean"):
    """Builds the classifier of a main net.

    Paper: Zhu et al., CVPR 2017, Eq. (2). With pooling "max": Chen et al. (ML-GCN), CVPR 2019.

    Args:
        last_map: symbolic (B, H, W, D), for its shape.
        num_labels: C.
        pooling: one of `POOLINGS`, over the grid.
    Returns:
        keras.Model "classifier": (B, H, W, D) -> dict of "pooled" (B, D), the paper's pool5, and "y_cls" (B, C),
        logits, float32 under any Keras policy.
    """
    x = keras.Input(last_map.shape[1:], name="cls_input")
    layers = keras.layers
    pool = {"mean": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}[pooling]
    pooled = pool(name="cls_pool")(x)
    y_cls = layers.Dense(num_labels, dtype="float32", name="cls_logits")(pooled)
    return keras.Model(x, {"pooled": pooled, "y_cls": y_cls}, name="classifier")
