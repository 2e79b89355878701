"""One HTML page on how a source was read, before anything is prepared. It opens from a file and loads nothing."""

import csv
import hashlib
import html
import os

from srn_tf.data.audit import source_warnings
from srn_tf.data.image_files import open_image_file
from srn_tf.data.photo_records import clip_crop
from srn_tf.data.source import positive_labels
from srn_tf.errors import InputError
from srn_tf.visualization.html_page import PHOTO_PX, digest, fill, jpeg_text, template

NUM_PHOTOS = 10
MOST_LABELS = 1000
"""Rows of the table of labels. The file `LABELS` beside the page has those of more."""

LABELS = "labels.csv"


def render_preview(name, source, source_dir):
    """Writes the page.

    Args:
        name: str, the data set.
        source: data.source.Source.
        source_dir: str, its folder.
    Returns:
        str. What users named is text in it, whatever it holds; a content security policy forbids everything but the
        page's own style.
    """
    style = template("page.css") + template("preview.css")
    sizes = {split: sum(len(photo.examples) for photo in photos) for split, photos in source.splits.items()}
    counts = label_counts(source)
    shown = chosen_photos(source, NUM_PHOTOS)
    rows = [
        _row("td", [label, *(f"{counts[split][index]:,}" for split in sizes)])
        for index, label in enumerate(source.labels[:MOST_LABELS])
    ]
    left_out = len(source.labels) - len(rows)
    parts = {
        "title": html.escape(f"{name}: {source_dir}"),
        "policy": f"default-src 'none'; img-src data:; style-src {digest(style)}",
        "style": style,
        "summary": html.escape(
            f"{sum(sizes.values()):,} images: {', '.join(f'{size:,} {split}' for split, size in sizes.items())}. "
            f"{len(source.labels):,} labels. Nothing has been written yet."
        ),
        "warnings": _list(source_warnings(source), "warnings"),
        "form": "".join(
            f"<tr><th>{html.escape(what)}</th><td>{html.escape(how)}</td></tr>"
            for what, how in source.form or (("layout", "that of the published data set"),)
        ),
        "notes": _list(source.notes, "notes"),
        "splits": "".join(f"<th>{html.escape(text)}</th>" for text in ("label", *sizes)),
        "labels": "".join(rows),
        "left_out": f"{left_out:,} further labels are in {LABELS} beside this page." if left_out else "",
        "photos_title": f"{len(shown)} of the images",
        "photos": "".join(_card(source, source_dir, *chosen) for chosen in shown),
    }
    return fill("preview.html", parts)


def write_label_counts(path, source):
    """Writes how many images of each split have each label, as CSV.

    Args:
        path: str.
        source: data.source.Source.
    """
    with open(path, "w", encoding="utf-8", errors="replace", newline="") as file:
        rows = zip(source.labels, *label_counts(source).values(), strict=True)
        csv.writer(file, lineterminator="\n").writerows([("label", *source.splits), *rows])


def label_counts(source):
    """How many images of each split have each label: dict split -> list of C ints.

    Args:
        source: data.source.Source.
    """
    counts = {split: [0] * len(source.labels) for split in source.splits}
    for split, photos in source.splits.items():
        for photo in photos:
            for example in photo.examples:
                for index in positive_labels(example.labels):
                    counts[split][index] += 1
    return counts


def chosen_photos(source, number):
    """Chooses images to show: in a mixed order those that show another label first, then any.

    Args:
        source: data.source.Source.
        number: int.
    Returns:
        list of at most that many (split, Photo, Example); the same for equal sources.
    """
    every = [
        (split, photo, example)
        for split, photos in source.splits.items()
        for photo in photos
        for example in photo.examples
    ]
    every.sort(key=lambda chosen: hashlib.md5(chosen[2].name.encode()).digest())
    first, others, seen = [], [], set()
    for chosen in every:
        new = set(positive_labels(chosen[2].labels)) - seen
        if len(first) == number:
            break
        (first if new else others).append(chosen)
        seen |= new
    return (first + others)[:number]


def _card(source, source_dir, split, photo, example):
    """The HTML of one image with its labels and boxes."""
    try:
        _, image = open_image_file(os.path.join(source_dir, photo.path))
        if example.crop is not None:
            image = image.crop(clip_crop(example.crop, *image.size))
    except InputError as error:
        picture = f'<p class="missed">{html.escape(str(error))}</p>'
    else:
        image.thumbnail((PHOTO_PX, PHOTO_PX))
        boxes = "".join(_box(box, source.labels[label], *image.size) for box, label in example.objects)
        picture = (
            f'<div class="photo"><img alt="" src="data:image/jpeg;base64,{jpeg_text(image)}">'
            f'<svg viewBox="0 0 {image.width} {image.height}">{boxes}</svg></div>'
        )
    names = [source.labels[index] for index in positive_labels(example.labels)]
    chips = "".join(f'<span class="right">{html.escape(name)}</span>' for name in names) or "<span>no label</span>"
    title = html.escape(f"{example.name} ({split})")
    return f'<article class="card">{picture}<h3>{title}</h3><div class="chips">{chips}</div></article>'


def _box(box, name, width, height):
    ymin, xmin, ymax, xmax = box
    x, y = xmin * width, ymin * height
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{(xmax - xmin) * width:.1f}" height="{(ymax - ymin) * height:.1f}"/>'
        f'<text x="{x + 3:.1f}" y="{y + 13:.1f}">{html.escape(name)}</text>'
    )


def _row(cell, texts):
    return f"<tr>{''.join(f'<{cell}>{html.escape(text)}</{cell}>' for text in texts)}</tr>"


def _list(lines, name):
    if not lines:
        return ""
    return f'<ul class="{name}">{"".join(f"<li>{html.escape(line)}</li>" for line in lines)}</ul>'
