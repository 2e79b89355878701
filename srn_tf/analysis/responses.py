"""One pass over a split: what every conv4 neuron of f_sr responds, and where every label of an image stands.

Axes: N images, M neurons, C labels. A neuron is a channel of conv4, which covers the whole grid; neurons 4c to 4c + 3
read channel c of conv3.
"""

import contextlib
import dataclasses

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from srn_tf.data.pipeline import Batches, evaluation_batches
from srn_tf.errors import InputError
from srn_tf.models.srn import CONV4_KERNELS_PER_CHANNEL
from srn_tf.tensor_float import tensor_float_32

_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Responses:
    """A split as the regularizer answers it, images in stored order.

    Attributes:
        neurons: float32 (N, M), conv4's output behind its ReLU: what the last layer reads, 0 where a neuron is silent.
        channels: float32 (N, M), the mean over the grid of the channel that each neuron reads: what a neuron could
            tell that sees no places.
        labels: int8 (N, C), as stored; 1 is positive.
        places: float32 (N, C, 2), vertical (0 top, 1 bottom) and horizontal (0 left, 1 right) place of each positive
            label, NaN where the label is not there or its place is not known.
        has_boxes: whether places are the centres of the label's boxes (their mean if it has several); else they are
            the centre of mass of its attention map, as the data set has no boxes.
    """

    neurons: np.ndarray
    channels: np.ndarray
    labels: np.ndarray
    places: np.ndarray
    has_boxes: bool


@tensor_float_32(False)
def read_responses(model, reads, records, title=None):
    """Runs a model over records.

    Args:
        model: MultiLabelModel with f_sr and attention.
        reads: name of the output that f_sr reads: "U", or "A" in srn_att.
        records: see `data.pipeline.read_records`.
        title: text of the progress bar; None shows none.
    Returns:
        Responses.
    Raises:
        InputError: there is no image.
    """
    num_images = int(records.cardinality())
    if num_images == 0:
        raise InputError(
            "The split must have images, because the neurons are explained by them. Received: no image. Choose "
            "another split."
        )
    network = neuron_network(model, reads)

    @tf.function
    def step(image):
        return network(image, training=False)

    parts = []
    batches = evaluation_batches(records, model.image_size, _BATCH)
    total = -(-num_images // _BATCH)
    with contextlib.closing(Batches(batches)) as held:
        for batch in tqdm(held, title, total=total, unit="batch", leave=False, disable=None if title else True):
            outputs = {name: value.numpy() for name, value in step(batch["image"]).items()}
            labels = batch["labels"].numpy()
            of_boxes = places_of_boxes(batch["boxes"].numpy(), batch["box_labels"].numpy(), labels.shape[1])
            values = (outputs["neurons"], outputs["channels"], labels, of_boxes, places_of_maps(outputs["A"]))
            is_real = batch["is_real"].numpy()
            parts.append([value[is_real] for value in values])
    neurons, channels, labels, of_boxes, of_maps = (np.concatenate(part) for part in zip(*parts))
    has_boxes = bool(np.isfinite(of_boxes).any())
    places = of_boxes if has_boxes else of_maps
    places[labels != 1] = np.nan
    channels = np.repeat(channels, CONV4_KERNELS_PER_CHANNEL, axis=1)
    return Responses(neurons, channels, labels, places, has_boxes)


def neuron_network(model, reads):
    """The part of a model that ends in conv4's neurons, on the same weights.

    Args:
        model, reads: as `read_responses`.
    Returns:
        keras.Model: image -> dict of neurons (B, M), channels (B, M / 4) and the attention A (B, H, W, C).
    """
    f_sr = model.parts["f_sr"]
    inside = keras.Model(f_sr.input, [f_sr.get_layer("sr_conv4").input, f_sr.get_layer("sr_conv4_relu").output])
    read, neurons = inside(model.outputs[reads])
    channels = keras.layers.GlobalAveragePooling2D(name="channel_means")(read)
    neurons = keras.layers.Flatten(name="neurons")(neurons)  # (B, 1, 1, M) -> (B, M)
    return keras.Model(model.image, {"neurons": neurons, "channels": channels, "A": model.outputs["A"]})


def places_of_boxes(boxes, box_labels, num_labels):
    """Where labels stand by their boxes: the mean of the boxes' centres.

    Args:
        boxes: float (B, K, 4), ymin xmin ymax xmax in fractions of the image.
        box_labels: int (B, K), -1 where an image has fewer than K boxes.
        num_labels: C.
    Returns:
        float32 (B, C, 2), y and x; NaN for a label without a box.
    """
    image, box = np.nonzero(box_labels >= 0)
    label, centre = box_labels[image, box], (boxes[image, box, :2] + boxes[image, box, 2:]) / 2
    sums, counts = np.zeros((len(boxes), num_labels, 2)), np.zeros((len(boxes), num_labels, 1))
    np.add.at(sums, (image, label), centre)
    np.add.at(counts, (image, label), 1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)


def places_of_maps(A):
    """Centres of mass of attention maps.

    Args:
        A: float32 (B, H, W, C), each label sums to 1 over (H, W).
    Returns:
        float32 (B, C, 2), y and x in fractions of the image.
    """
    height, width = A.shape[1:3]
    y, x = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    return np.stack([np.einsum("bhwc,h->bc", A, y), np.einsum("bhwc,w->bc", A, x)], axis=-1).astype(np.float32)
