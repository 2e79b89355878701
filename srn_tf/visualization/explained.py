"""Asks a served model about images, and keeps of each what a picture of it needs."""

import dataclasses
import io

import numpy as np
from PIL import Image
from tqdm import tqdm

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
            if the model has none.
    """

    position: int
    name: str
    photo: Image.Image
    probabilities: np.ndarray
    predicted: np.ndarray
    labels: np.ndarray | None
    maps: dict


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
    """Asks about some images of a source, with maps if the model has them.

    Args:
        predictor: serving.predictor.Predictor.
        source: sources.ImageFiles or DataSplit.
        positions: ints, the images; the result is in this order.
        choose: function (probabilities, predicted, labels) -> indices of the labels whose maps are kept.
        photo_px: longest side of the photographs that are kept, pixels; smaller ones are not enlarged.
    Returns:
        list of Explained.
    Raises:
        InputError: an image that cannot be read.
    """
    ask = predictor.explain_batch if predictor.maps else predictor.answer
    explained = {}
    for batch in _batches(source, set(positions), "explain"):
        answer = ask([image for _, image, _ in batch])
        for row, (position, image, labels) in enumerate(batch):
            probabilities, predicted = answer["probabilities"][row], answer["predicted"][row]
            maps = {}
            if predictor.maps:  # copied, so that the maps of all other labels can be forgotten
                names = [a_map.name for a_map in predictor.maps]
                chosen = choose(probabilities, predicted, labels)
                maps = {label: tuple(answer[name][row, ..., label].copy() for name in names) for label in chosen}
            photo = _shrunk(image, photo_px)
            explained[position] = Explained(
                position, source.names[position], photo, probabilities, predicted, labels, maps
            )
    return [explained[position] for position in positions]


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
