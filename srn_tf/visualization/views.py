"""From a model and images to pictures: drawings of attention, and the page of all answers."""

import numpy as np

from srn_tf.errors import InputError
from srn_tf.labels import label_index
from srn_tf.visualization import attention, explained, scores
from srn_tf.visualization.html_page import PHOTO_PX
from srn_tf.visualization.page import Page, render

ORDERS = ("first", "wrong")
"""Which images are shown if not all: the first ones stored, or those with the highest cross-entropy."""

_ROWS = 6  # images per drawing
_DRAWN_LABELS = 4  # of an image, where none are asked for
_KEPT_LABELS = 3  # most probable labels of an image whose maps are in a page, beside the true and predicted ones
_DRAWN_PX = 480  # longest side of a photograph in a drawing


def label_indices(predictor, names):
    """The places of labels by name.

    Args:
        predictor: serving.predictor.Predictor.
        names: list of str.
    Returns:
        list of int, without repetitions.
    Raises:
        InputError: the model has no such label.
    """
    return list(dict.fromkeys(label_index(name, predictor.labels, "labels") for name in names))


def chosen_maps(predictor, names):
    """A model's maps and regions by name.

    Args:
        predictor: serving.predictor.Predictor.
        names: list of str; empty for all.
    Returns:
        (maps, regions), lists of models.model.Map and Regions, in the model's order.
    Raises:
        InputError: the model has no such map or regions.
    """
    known = [one.name for one in (*predictor.maps, *predictor.regions)]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(
            f"maps must be among those of the model: {', '.join(known) or 'none'}. Received: {unknown[0]!r}."
        )
    maps, regions = (
        [one for one in of_model if one.name in (names or known)] for of_model in (predictor.maps, predictor.regions)
    )
    return maps, regions


def check_can_draw(predictor, model_name):
    """Raises InputError if a model does not say where it looked."""
    if not (predictor.maps or predictor.regions):
        raise InputError(
            f"Only a model with maps or regions can be drawn. Received: {model_name}, a model without. Export one "
            "that has, such as an SRN, or use --page."
        )


def drawings(predictor, source, chosen_labels, num_images, order):
    """Draws attention for some images of a source, a few per drawing, all on one colour scale.

    Args:
        predictor: serving.predictor.Predictor with maps or regions.
        source: sources.ImageFiles or DataSplit.
        chosen_labels: indices of the labels whose maps are drawn; if empty, the most probable of each image.
        num_images: int, the maximum.
        order: one of ORDERS; "wrong" needs a source whose truth is known.
    Yields:
        matplotlib Figures, see `attention.draw_attention`.
    Raises:
        InputError: an image that cannot be read, or "wrong" without truth.
    """
    answers = explained.answer_all(predictor, source) if order == "wrong" else None
    positions, _ = _chosen(source, num_images, order, answers)
    images = explained.explain(
        predictor,
        source,
        positions,
        lambda probabilities, *_: chosen_labels or explained.most_probable(probabilities, _DRAWN_LABELS),
        _DRAWN_PX,
    )
    highest = attention.highest_value(images)
    for start in range(0, len(images), _ROWS):
        rows = images[start : start + _ROWS]
        yield attention.draw_attention(
            rows,
            predictor.labels,
            predictor.thresholds,
            predictor.maps,
            source.protocol,
            highest,
            predictor.regions,
        )


def answers_page(predictor, source, model_name, kept_labels, num_images, order, issues=None):
    """Writes the page of a model's answers to all images of a source.

    Args:
        predictor: serving.predictor.Predictor.
        source: sources.ImageFiles or DataSplit.
        model_name: str, for the title.
        kept_labels: indices of labels whose maps are in the page for every image shown, beside each image's true,
            predicted and most probable ones.
        num_images: int, maximum number shown; all are counted.
        order: one of ORDERS, which are shown if not all.
        issues: list of label_issues.LabelIssues, the likeliest first: their images are shown if not all, whatever the
            order, and the page opens with them; None for a page without.
    Returns:
        str, HTML.
    Raises:
        InputError: an image that cannot be read, "wrong" without truth, or issues of other images or labels.
    """

    def kept(probabilities, predicted, labels):
        is_kept = predicted if labels is None else predicted | (labels == 1)
        return list(
            dict.fromkeys(
                [*explained.most_probable(probabilities, _KEPT_LABELS), *np.flatnonzero(is_kept).tolist(), *kept_labels]
            )
        )

    protocol = source.protocol
    found = None if issues is None else _by_position(issues, source, predictor.labels)
    if len(source) <= num_images:  # each is asked about once
        positions, how = range(len(source)), ""
        images = explained.explain(predictor, source, positions, kept, PHOTO_PX)
        answers = explained.answers_of(images)
    else:
        answers = explained.answer_all(predictor, source)
        if found is not None:
            positions, how = list(found)[:num_images], "those whose labels may be wrong"
        if found is None or not positions:
            positions, how = _chosen(source, num_images, order, answers)
        positions = sorted(positions)
        images = explained.explain(predictor, source, positions, kept, PHOTO_PX)
    page = Page(
        title=f"{source.title}: {model_name}",
        summary=" ".join([_summary(predictor, source, images, how), *_issues_note(found)]),
        labels=predictor.labels,
        thresholds=predictor.thresholds,
        maps=predictor.maps,
        regions=predictor.regions,
        images=images,
        total=len(source),
        protocol=protocol,
        scores=protocol and scores.score_answers(answers, protocol, predictor.labels, predictor.thresholds),
        wrongness=protocol and scores.wrongness(answers.probabilities, answers.labels, protocol)[list(positions)],
        issues=None if found is None else [found.get(position, {}) for position in positions],
    )
    return render(page)


def _by_position(issues, source, labels):
    """Issues by image, the likeliest first: position in the source -> {label index: score}."""
    places = {name: position for position, name in enumerate(source.names)}
    indices = {name: index for index, name in enumerate(labels)}
    found = {}
    for issue in issues:
        if issue.image not in places or issue.label not in indices:
            what = f"image {issue.image!r}" if issue.image not in places else f"label {issue.label!r}"
            raise InputError(
                f"Label issues must be of the images and labels of the page. Received: {what}, which is not in "
                f"{source.title}. Evaluate this split with --label_issues."
            )
        found.setdefault(places[issue.image], {})[indices[issue.label]] = issue.score
    return found


def _issues_note(found):
    """A sentence on label issues, or none."""
    if found is None:
        return []
    return [f"{sum(map(len, found.values()))} labels of {len(found)} images may be wrong."]


def _chosen(source, num_images, order, answers):
    """Positions of the images to show, and words for how they were chosen."""
    if order == "first":
        return list(range(len(source)))[:num_images], "the first ones stored"
    if source.protocol is None:
        raise InputError(
            "--order=wrong needs true labels, which image files do not have. Give a split with --data_dir, or use "
            "--order=first."
        )
    wrongness = scores.wrongness(answers.probabilities, answers.labels, source.protocol)
    return np.argsort(-wrongness, kind="stable")[:num_images].tolist(), "those with the highest cross-entropy"


def _summary(predictor, source, images, how):
    """A few sentences on what is in a page."""
    text = [f"{len(source)} images, {len(predictor.labels)} labels."]
    if len(images) < len(source):
        text.append(f"{len(images)} images are shown: {how}. The numbers count all images.")
    if source.protocol is None:
        text.append("The true labels are not known, so there are answers but no errors.")
    else:
        text.append(f"Metrics as in the protocol {source.protocol.name}.")
    if not (predictor.maps or predictor.regions):
        text.append("The model has no maps.")
    text += attention.evenness_note(images, predictor.maps)
    return " ".join(text)
