"""One HTML page with a model's answers to many images. It opens from a file and loads nothing.

The page is a template (folder template/) that holds the data as JSON; its script draws everything from the data. It
holds images, maps and probabilities of the images shown, and counts at every threshold and curves of all images.
"""

import base64
import dataclasses
import html
import json

import numpy as np

from srn_tf.visualization.attention import colour_map, highest_value, lowest_shown
from srn_tf.visualization.html_page import digest, fill, jpeg_text, template

_SCRIPTS = ("answers.js", "metrics.js", "gallery.js", "controls.js")


@dataclasses.dataclass(frozen=True)
class Page:
    """What a page shows.

    Attributes:
        title: str, the images and the model.
        summary: str, a few sentences on them: how many, which are shown, the protocol.
        labels: C label names.
        thresholds: float (C,), of the export.
        maps: list of models.model.Map, the model's; empty if it has none.
        regions: list of models.model.Regions, likewise.
        images: list of explained.Explained, those shown, at least one.
        total: int, images in all.
        protocol: evaluation.protocols.Protocol, or None where the truth is not known.
        scores: scores.Scores of all images, or None.
        wrongness: float (N,) of the images shown, see `scores.wrongness`, or None.
        issues: for each image shown, label index -> score of a label that may be wrong, see `label_issues.LabelIssue`;
            None if nobody has looked for them.
    """

    title: str
    summary: str
    labels: list
    thresholds: np.ndarray
    maps: list
    images: list
    total: int
    protocol: object = None
    scores: object = None
    wrongness: np.ndarray | None = None
    regions: list = dataclasses.field(default_factory=list)
    issues: list | None = None


def render(page):
    """Writes a page as HTML.

    Args:
        page: Page.
    Returns:
        str. What users named is text in it, whatever it holds; a content security policy forbids everything but the
        page's own style and script.
    """
    style, script = template("page.css"), "\n".join(map(template, _SCRIPTS))
    policy = f"default-src 'none'; img-src data:; style-src {digest(style)}; script-src {digest(script)}"
    # "<" would end the data's element where a label is called "</script>".
    data = json.dumps(_data(page), ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {"title": html.escape(page.title), "policy": policy, "style": style, "script": script, "data": data}
    return fill("page.html", parts)


def _data(page):
    """What the page's script reads, ready for JSON; arrays are base64 of their bytes, little-endian."""
    images = page.images
    grids = [_grid(images, number) for number in range(len(page.maps))]
    data = {
        "summary": page.summary,
        "labels": list(page.labels),
        "thresholds": np.asarray(page.thresholds).tolist(),
        "total": page.total,
        "maps": [
            {"name": a_map.name, "title": a_map.title, "meaning": a_map.meaning, "grid": grid}
            | {"lowest": lowest_shown(a_map, grid or (1, 1))}
            for a_map, grid in zip(page.maps, grids, strict=True)
        ],
        "regions": [{"name": one.name, "title": one.title, "meaning": one.meaning} for one in page.regions],
        "highest": highest_value(images),
        "palette": _base64(np.rint(255 * colour_map(np.linspace(0.0, 1.0, 256) ** 2, 1.0)), np.uint8),
        "probabilities": _base64([image.probabilities for image in images], np.float32),
        "predicted": _base64([image.predicted for image in images], np.uint8),
        "truth": None,
        "unknown_is_false": page.protocol is None or page.protocol.zero_in_rates == "negative",
        "metrics": None if page.scores is None else _metrics(page.scores),
        "has_issues": page.issues is not None,
        "images": [_image(image, len(page.maps), len(page.regions)) for image in images],
    }
    if page.issues is not None:
        for image, of_image in zip(data["images"], page.issues, strict=True):
            image["issues"] = [[label, round(score, 6)] for label, score in of_image.items()]
    if page.protocol is not None:
        labels = np.stack([image.labels for image in images])
        is_unknown = (labels == 0) & page.protocol.is_zero_unspecified
        data["truth"] = _base64(np.where(is_unknown, 2, labels == 1), np.uint8)
        for image, value in zip(data["images"], page.wrongness, strict=True):
            image["wrongness"] = round(float(value), 4)
    return data


def _metrics(scores):
    return {
        "AP": scores.AP,
        "mAP": scores.mAP,
        "definition": f"{scores.definition}\n{_notes(scores)}",
        "positive": scores.positive.tolist(),
        "predicted": _base64(scores.predicted, np.int32),
        "right": _base64(scores.right, np.int32),
        "rates": np.round(scores.rates, 4).tolist(),
        "curves": [np.round(curve, 6).tolist() for curve in scores.curves],
    }


def _notes(scores):
    text = "Right, false and missed are counted over all images. A dash (–) marks a rate with nothing to divide by."
    if scores.without_positives:
        text += f" Labels without positives are left out of mAP: {', '.join(scores.without_positives)}."
    return text


def _grid(images, number):
    """[H, W] of a model's map by its number; None if it is of no image."""
    shapes = [maps[number].shape for image in images for maps in image.maps.values()]
    return list(shapes[0]) if shapes else None


def _image(image, num_maps, num_regions):
    photo = image.photo
    quantized = [[_quantized(values[number]) for values in image.maps.values()] for number in range(num_maps)]
    return {
        "name": image.name,
        "photo": jpeg_text(photo),
        "width": photo.width,
        "height": photo.height,
        "labels": list(image.maps),
        # Of each of the model's maps, one after the other: for each label that is kept.
        "highest": [[highest for highest, _ in of_map] for of_map in quantized],
        "maps": [_base64([values for _, values in of_map], np.uint8) for of_map in quantized],
        # Of each of the model's regions: for each label that is kept, [ymin, xmin, ymax, xmax, score] of the best.
        "regions": [[_rounded(*each[number]) for each in image.regions.values()] for number in range(num_regions)],
    }


def _quantized(values):
    """A map float32 (H, W), from 0, as its highest value and uint8 (H, W), 255 where it is that."""
    highest = float(values.max())
    return highest, np.rint(values * (255 / highest) if highest > 0 else values)


def _rounded(boxes, scores):
    return np.round(np.column_stack([boxes, scores]).astype(np.float64), 4).tolist()


def _base64(values, dtype):
    array = np.ascontiguousarray(values, dtype=np.dtype(dtype).newbyteorder("<"))
    return base64.b64encode(array.tobytes()).decode()
