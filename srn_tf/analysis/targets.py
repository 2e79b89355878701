"""What may move a neuron: the place of a label in the image, or its offset from another label's place.

Places are (vertical, horizontal) in fractions of the image; down and right are positive.
"""

import dataclasses

import numpy as np

from srn_tf.data.scene_drawing import ANCHORS, SATELLITES

AXES = ("vertical", "horizontal")
_MOST_PAIRS = 20  # of labels, whose offsets are looked at where a data set has no relations of its own


@dataclasses.dataclass(frozen=True)
class Target:
    """A place or an offset, on the images that have it.

    Attributes:
        name: str, what it is the place of.
        partner_name: str, what its offset is measured from; "" for a place.
        images: int (n,), indices of the images.
        values: float32 (n, 2), the place or offset.
        subjects: int (n,), label whose place it is in each image.
        subject_places: float32 (n, 2), the place also where `values` is an offset.
        partners: int (n,), label from whose place the offset is measured in each image; None for a place.
    """

    name: str
    partner_name: str
    images: np.ndarray
    values: np.ndarray
    subjects: np.ndarray
    subject_places: np.ndarray
    partners: np.ndarray | None = None


def label_targets(places, labels, min_images):
    """The place of every label that enough images have.

    Args:
        places: float32 (N, C, 2), see `responses.Responses`.
        labels: C label names.
        min_images: int.
    Returns:
        list of Target.
    """
    targets = []
    for label, name in enumerate(labels):
        images = np.flatnonzero(np.isfinite(places[:, label, 0]))
        values = places[images, label]
        targets.append(Target(name, "", images, values, np.full(len(images), label), values))
    return _frequent(targets, min_images)


def offset_targets(dataset, places, labels, min_images):
    """The offsets between labels that enough images have.

    On "scenes" those that its position labels name: from each satellite that carries one to the nearest anchor.
    Elsewhere those of the 20 pairs of labels that most images have both of.

    Args:
        dataset: its name.
        places, labels, min_images: as `label_targets`.
    Returns:
        list of Target.
    """
    if dataset == "scenes":
        index = {name: position for position, name in enumerate(labels)}
        anchors = tuple(index[name] for name in ANCHORS)
        relations = [(s.shape, "its anchor", (index[s.before], index[s.after]), anchors) for s in SATELLITES]
    else:
        pairs = _most_common_pairs(places)
        relations = [(labels[one], labels[other], (one,), (other,)) for one, other in pairs]
    return _frequent([_offset(places, *relation) for relation in relations], min_images)


def _frequent(targets, min_images):
    return [target for target in targets if len(target.images) >= min_images]


def _offset(places, name, partner_name, subjects, partners):
    """Offset of the first subject that an image has from the nearest partner."""
    is_known = np.isfinite(places[..., 0])  # (N, C)
    images = np.flatnonzero(is_known[:, subjects].any(axis=1) & is_known[:, partners].any(axis=1))
    first = np.asarray(subjects)[is_known[images][:, subjects].argmax(axis=1)]  # (n,)
    place = places[images, first]  # (n, 2)
    offsets = place[:, None] - places[images][:, partners]  # (n, P, 2)
    nearest = np.nanargmin(np.linalg.norm(offsets, axis=-1), axis=1)  # (n,)
    values = offsets[np.arange(len(images)), nearest]
    return Target(name, partner_name, images, values, first, place, np.asarray(partners)[nearest])


def _most_common_pairs(places):
    """The pairs of labels (one, other), one < other, that most images have both of."""
    is_known = np.isfinite(places[..., 0]).astype(np.float32)
    together = np.triu(is_known.T @ is_known, 1)  # (C, C), sum over images
    order = np.argsort(-together, axis=None, kind="stable")[:_MOST_PAIRS]
    pairs = zip(*np.unravel_index(order, together.shape), strict=True)
    return [(int(one), int(other)) for one, other in pairs if together[one, other] > 0]
