"""The classifier behind a trunk: the last map pooled over its grid, then a linear layer."""

import dataclasses

from srn_tf.lazy import LazyModule
from srn_tf.models.settings import Settings, setting

keras = LazyModule("keras")
residual_attention = LazyModule("srn_tf.models.residual_attention")

POOLINGS = ("mean", "max")


@dataclasses.dataclass(frozen=True)
class ClassifierSettings(Settings):
    """Settings of every method with such a classifier."""

    pooling: str = setting(
        "mean",
        "Pooling of the last map before the classifier. Paper: mean. max: a strong baseline in the literature.",
        POOLINGS,
    )


def build_classifier(last_map, num_labels, pooling="mean", csra_at_test=0.0):
    """Builds the classifier of a main net.

    Paper: Zhu et al., CVPR 2017, Eq. (2). With pooling "max": Chen et al. (ML-GCN), CVPR 2019.

    Args:
        last_map: symbolic (B, H, W, D), for its shape.
        num_labels: C.
        pooling: one of `POOLINGS`, over the grid.
        csra_at_test: lambda of CSRA's read-out of a linear layer behind a mean; 0: none. Zhu, Wu: Residual Attention,
            ICCV 2021, Figure 1: one head of infinite temperature. Its scores are the layer's at each place, with its
            bias and not normed, so y_cls stays what lambda = 0 gives.
    Returns:
        keras.Model "classifier": (B, H, W, D) -> dict of "pooled" (B, D), the paper's pool5, and "y_cls" (B, C),
        logits, float32 under any Keras policy; with csra_at_test also "y_csra" (B, C), likewise.
    """
    x = keras.Input(last_map.shape[1:], name="cls_input")
    layers = keras.layers
    pool = {"mean": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}[pooling]
    pooled = pool(name="cls_pool")(x)
    linear = layers.Dense(num_labels, dtype="float32", name="cls_logits")
    outputs = {"pooled": pooled, "y_cls": linear(pooled)}
    if csra_at_test:
        height, width, _ = x.shape[1:]
        scores = layers.Reshape((height * width, 1, num_labels), dtype="float32", name="csra_places")(linear(x))
        outputs["y_csra"] = residual_attention.ResidualAttention((None,), csra_at_test, name="csra_logits")(scores)
    return keras.Model(x, outputs, name="classifier")
