"""The paper's baselines that are more than the main net: ResNet-107 and ResNet-101-semantic (section 4.1).

Both keep the parts f_cnn and f_cls as they are in every model, and add one of their own.
"""

import keras

from srn_tf.models.backbones import build_backbone, build_more_blocks
from srn_tf.models.model import MultiLabelModel, Stage

RESNET107_STAGES = {
    "cls": Stage(trains=("f_cnn", "f_cls", "f_more"), fixed=(), losses={"y_cls": 1.0}, watched="y_cls"),
}

# The paper does not say how its semantic model was trained. Here as SRN (section 3.4): the main net, what is added to
# it, all; in the last stage the initial confidences keep their loss, as y_att does in SRN's.
SEMANTIC_STAGES = {
    "cls": Stage(trains=("f_cnn", "f_cls"), fixed=("f_sem",), losses={"y_cls": 1.0}, watched="y_cls"),
    "sem": Stage(trains=("f_sem",), fixed=("f_cnn", "f_cls"), losses={"y_hat": 1.0}, watched="y_hat"),
    "all": Stage(trains=("f_cnn", "f_cls", "f_sem"), fixed=(), losses={"y_hat": 1.0, "y_cls": 1.0}, watched="y_hat"),
}


def build_resnet107(backbone, image_size, num_labels, backbone_weights="none"):
    """Builds a main net with two more residual blocks between its last map and its pooling.

    Args and errors: see `build_backbone`.
    Returns:
        MultiLabelModel with the logits y_cls, the pooled features they come of, and no maps.
    """
    f_cnn, f_cls = build_backbone(backbone, image_size, num_labels, backbone_weights)
    f_more = build_more_blocks(backbone, f_cls.output_shape["last_map"][1:])
    pool, logits = f_cls.get_layer("cls_pool"), f_cls.get_layer("cls_logits")
    image = keras.Input((image_size, image_size, 3), name="image")
    pooled = pool(f_more(f_cls(f_cnn(image))["last_map"]))
    return MultiLabelModel(
        image=image,
        outputs={"y_cls": logits(pooled), "pooled": pooled},
        parts={"f_cnn": f_cnn, "f_cls": f_cls, "f_more": f_more},
        stages=RESNET107_STAGES,
        logits=("y_cls",),
        embedding="pooled",
    )


def build_semantic(backbone, image_size, num_labels, backbone_weights="none"):
    """Builds a main net whose confidences and pooled features three fully connected layers turn into final ones.

    Args and errors: see `build_backbone`.
    Returns:
        MultiLabelModel with the logits y_hat (final) and y_cls (initial), the pooled features, and no maps.
    """
    f_cnn, f_cls = build_backbone(backbone, image_size, num_labels, backbone_weights)
    f_sem = build_relations(f_cls.output_shape["pooled"][-1], num_labels)
    image = keras.Input((image_size, image_size, 3), name="image")
    initial = f_cls(f_cnn(image))
    y_hat = f_sem({"y_cls": initial["y_cls"], "pooled": initial["pooled"]})
    return MultiLabelModel(
        image=image,
        outputs={"y_hat": y_hat, "y_cls": initial["y_cls"], "pooled": initial["pooled"]},
        parts={"f_cnn": f_cnn, "f_cls": f_cls, "f_sem": f_sem},
        stages=SEMANTIC_STAGES,
        logits=("y_hat", "y_cls"),
        embedding="pooled",
    )


def build_relations(channels, num_labels):
    """f_sem: the initial confidences beside the features of "pool5", then layers of 2048, 2048 and C neurons.

    The confidences are the logits, which is what the paper calls so. The text leaves open what stands between the
    layers: ReLU. The hidden layers are as wide as the features: 2048, and 128 on "small".

    Args:
        channels: D of the pooled features.
        num_labels: C.
    Returns:
        keras.Model f_sem: dict of y_cls (B, C) and pooled (B, D) -> y_hat, logits (B, C).
    """
    y_cls = keras.Input((num_labels,), name="sem_y_cls")
    pooled = keras.Input((channels,), name="sem_pooled")
    x = keras.layers.Concatenate(name="sem_concat")([y_cls, pooled])
    for name in ("sem_1", "sem_2"):
        x = keras.layers.Dense(channels, "relu", kernel_initializer="he_normal", name=name)(x)
    y_hat = keras.layers.Dense(num_labels, dtype="float32", name="sem_logits")(x)
    return keras.Model({"y_cls": y_cls, "pooled": pooled}, y_hat, name="f_sem")
