"""The main net alone: the paper's baseline "ResNet-101", and the first stage of every SRN."""

import keras

from srn_tf.models.backbones import build_backbone
from srn_tf.models.model import MultiLabelModel, Stage

STAGES = {
    "cls": Stage(trains=("f_cnn", "f_cls"), fixed=(), losses={"y_cls": 1.0}, watched="y_cls"),
}


def build_main_net(backbone, image_size, num_labels, backbone_weights="none"):
    """Builds the main net as a model of its own.

    Args and errors: see `build_backbone`.
    Returns:
        MultiLabelModel with the logits y_cls, the pooled features they come of, and no maps.
    """
    f_cnn, f_cls = build_backbone(backbone, image_size, num_labels, backbone_weights)
    image = keras.Input((image_size, image_size, 3), name="image")
    main_net = f_cls(f_cnn(image))
    return MultiLabelModel(
        image=image,
        outputs={"y_cls": main_net["y_cls"], "pooled": main_net["pooled"]},
        parts={"f_cnn": f_cnn, "f_cls": f_cls},
        stages=STAGES,
        logits=("y_cls",),
        embedding="pooled",
    )
