"""Asks a served model about images, and keeps of each what a picture of it needs."""

import dataclasses
import io

import numpy as np
from PIL import Image
from tqdm import tqdm

MOST_REGIONS = 5  # of a label, those with the highest scores

_BATCH = 32  # images a request


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a model says of every image of a source.

    Attributes:
        probabilities: float32 (N, C).
        predicted: bool (N, C), whether they exceed the thresholds of the export.
        labels: int8 (N, C) as stored, or None where the truth is not known.
    """

    probabilities: np.ndarray
    predicted: np.ndarray
    labels: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Explained:
    """One image, what a model says of it and where it looked.

    Attributes:
        position: int, its place in the source.
        name: str.
        photo: PIL image, RGB, in its own aspect ratio.
        probabilities: float32 (C,).
        predicted: bool (C,).
        labels: int8 (C,) as stored, or None.
        maps: label index -> tuple of float32 (H, W), one for each of the model's maps, of the labels asked for; empty
            if the model has neither maps nor regions.
        regions: label index -> tuple of (boxes float32 (R, 4), scores float32 (R,)), one for each of the model's
            regions, of the same labels: the best few, the highest score first.
    """

    position: int
    name: str
    photo: Image.Image
    probabilities: np.ndarray
    predicted: np.ndarray
    labels: np.ndarray | None
    maps: dict
    regions: dict = dataclasses.field(default_factory=dict)


def answer_all(predictor, source):
    """Asks about every image of a source, without maps.

    Args:
        predictor: serving.predictor.Predictor.
        source: sources.ImageFiles or DataSplit.
    Returns:
        Answers.
    Raises:
        InputError: an image that cannot be read.
    """
    probabilities, predicted, labels = [], [], []
    for batch in _batches(source, None, "predict"):
        answer = predictor.answer([image for _, image, _ in batch])
        probabilities.append(answer["probabilities"])
        predicted.append(answer["predicted"])
        labels += [truth for _, _, truth in batch]
    known = None if source.protocol is None else np.stack(labels)
    return Answers(np.concatenate(probabilities), np.concatenate(predicted), known)


def answers_of(images):
    """What was said of images that have been explained.

    Args:
        images: list of Explained.
    Returns:
        Answers.
    """
    known = None if images[0].labels is None else np.stack([image.labels for image in images])
    return Answers(
        np.stack([image.probabilities for image in images]), np.stack([image.predicted for image in images]), known
    )


def explain(predictor, source, positions, choose, photo_px):
    """Asks about some images of a source, with maps and regions if the model has them.

    Args:
        predictor: serving.predictor.Predictor.
        source: sources.ImageFiles or DataSplit.
        positions: ints, the images; the result is in this order.
        choose: function (probabilities, predicted, labels) -> indices of the labels whose maps and regions
            are kept.
        photo_px: longest side of the photographs that are kept, pixels; smaller ones are not enlarged.
    Returns:
        list of Explained.
    Raises:
        InputError: an image that cannot be read.
    """
    is_explained = bool(predictor.maps or predictor.regions)
    ask = predictor.explain_batch if is_explained else predictor.answer
    explained = {}
    for batch in _batches(source, set(positions), "explain"):
        answer = ask([image for _, image, _ in batch])
        for row, (position, image, labels) in enumerate(batch):
            probabilities, predicted = answer["probabilities"][row], answer["predicted"][row]
            chosen = choose(probabilities, predicted, labels) if is_explained else ()
            explained[position] = Explained(
                position,
                source.names[position],
                _shrunk(image, photo_px),
                probabilities,
                predicted,
                labels,
                *seen_of(answer, row, chosen, predictor.maps, predictor.regions),
            )
    return [explained[position] for position in positions]


def seen_of(answer, row, labels, maps, regions):
    """Where a model looked in one image for some labels.

    Args:
        answer: name -> array, outputs of several images.
        row: int, which of them.
        labels: indices.
        maps, regions: lists of models.model.Map and Regions.
    Returns:
        (maps, regions), see `Explained`; copies, so that those of all other labels can be forgotten.
    """
    of_maps = {label: tuple(answer[a_map.name][row, ..., label].copy() for a_map in maps) for label in labels}
    of_regions = {
        label: tuple(
            tuple(values[:MOST_REGIONS].copy() for values in one.of_label(answer, row, label)) for one in regions
        )
        for label in labels
    }
    return of_maps, of_regions


def most_probable(probabilities, count):
    """Indices of the highest probabilities (C,), from the highest down, of equal ones the first: list of ints."""
    return np.argsort(-probabilities, kind="stable")[:count].tolist()


def _batches(source, wanted, title):
    """Yields lists of what `source.read` yields, under a progress bar."""
    total, batch = len(source) if wanted is None else len(wanted), []
    with tqdm(total=total, desc=title, unit="image", leave=False, disable=None) as progress:
        for item in source.read(wanted):
            batch.append(item)
            if len(batch) == _BATCH:
                yield batch
                progress.update(len(batch))
                batch = []
        if batch:
            yield batch


def _shrunk(data, longest_px):
    """An image file's bytes as a PIL image, RGB, no longer than `longest_px` on a side."""
    with Image.open(io.BytesIO(data)) as image:
        image.thumbnail((longest_px, longest_px))
        return image.convert("RGB")
