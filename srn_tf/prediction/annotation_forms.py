"""Labels of images in the forms of annotation tools, written from rows: COCO JSON, FiftyOne and Label Studio.

Each is one JSON document. What the tools read, and where it stands:

  - COCO: https://cocodataset.org/#format-data. A label of a whole image is an annotation without box, as Datumaro's
    task "labels" has it (https://openvinotoolkit.github.io/datumaro/stable/docs/data-formats/formats/coco.html), with a
    score as COCO's results have it.
  - FiftyOne: FiftyOneImageClassificationDataset (https://docs.voxel51.com/user_guide/import_datasets.html), with
    several targets per image, by absolute paths.
  - Label Studio: tasks with predictions (https://labelstud.io/guide/predictions.html) for the tags
    `<Image name="image" value="$image"/>` and `<Choices name="choice" toName="image" choice="multiple">`.

A row here is a dict, ready for JSON:

  - path: str, the image as given;
  - labels: dict, label -> probability;
  - error: str, the reason why there are none, in place of `labels`;
  - of label issues also attributes: dict, label -> dict of `given` and `quality`, see `label_issues.LabelIssue`; and
    choices: list of the labels that Label Studio proposes, where `labels` are those that are probably wrong.
"""

import itertools
import json
import os
from urllib.parse import quote

import numpy as np

from srn_tf.errors import InputError
from srn_tf.prediction.rows import FORMATS, format_of, utf8


class PredictedLabels:
    """What `rows.Columns` is for other forms: a row has the predicted labels with their probabilities, 6 decimals.

    Args:
        labels: C str.
        write: see `check_write`.
    """

    def __init__(self, labels, write=None):
        check_write(Form, write)
        self.labels = list(labels)
        self.write = "labels"

    def row(self, answer):
        """Makes the row of an answers.Answer, see above."""
        if answer.error is not None:
            return {"path": answer.path, "error": answer.error}
        found = np.flatnonzero(answer.predicted)
        labels = {self.labels[index]: round(float(answer.probabilities[index]), 6) for index in found}
        return {"path": answer.path, "labels": labels}


class Form:
    """A document, and its rows until it is joined: one in JSON per line.

    Args:
        labels: C str, in the model's order.
        image_prefix: what stands before the path of every image, see `address`.

    A subclass has `lists`: it yields pairs of the text before a list, and a function (number of a row from 1, row) ->
    the texts of its items; at the end the last text and None.
    """

    prefix = ""  # without `image_prefix`

    def __init__(self, labels, image_prefix=""):
        self.labels = list(labels)
        self._prefix = image_prefix or self.prefix

    def address(self, path):
        """The image in the document: its path as given, without a first "/" after a prefix, which is a folder or an
        address.

        Raises:
            InputError: the path leaves the folder that the prefix stands for.
        """
        path = utf8(os.path.normpath(path))
        if not self._prefix:
            return path
        if path.split("/")[0] == "..":
            raise InputError(
                f"An image must be in the folder that image_prefix ({self._prefix}) stands for. Received: {path}. "
                "Start the command in that folder, or give absolute paths."
            )
        return f"{self._prefix}{'' if self._prefix.endswith(('/', '=')) else '/'}{self._escaped(path.lstrip('/'))}"

    def _escaped(self, path):
        return path

    def write_part(self, rows, file):
        """Writes rows to a binary file that `join` can read."""
        file.writelines(f"{json.dumps(row)}\n".encode() for row in rows)

    def join(self, paths, file):
        """Writes the document of all parts, in the order of their paths, to a binary file."""
        self.write(_Parts(paths), file)

    def write(self, rows, file):
        """Writes the document of rows, an iterable that is read once per list, to a binary file."""
        for text, items in self.lists():
            file.write(text.encode())
            separator = "\n"
            for number, row in enumerate(rows if items else (), 1):
                for item in items(number, row):
                    file.write(f"{separator}{item}".encode())
                    separator = ",\n"


class Coco(Form):
    """COCO JSON: category ids are positions of labels and image ids those of rows, both counted from 1.

    An annotation has the probability as `score`. An image without an answer has the reason as `error`.
    """

    def lists(self):
        """See `Form`."""
        category_ids = {label: number for number, label in enumerate(self.labels, 1)}
        annotation_ids = itertools.count(1)

        def image(number, row):
            error = {"error": utf8(row["error"])} if "error" in row else {}
            yield _text({"id": number, "file_name": self.address(row["path"]), **error})

        def annotations(number, row):
            for label, probability in row.get("labels", {}).items():
                ids = {"id": next(annotation_ids), "image_id": number, "category_id": category_ids[label]}
                yield _text({**ids, "score": probability, **_attributes(row, label)})

        categories = [{"id": number, "name": label} for label, number in category_ids.items()]
        yield f'{{"info": {{"description": "Labels of whole images"}},\n"categories": {_text(categories)},\n', None
        yield '"images": [', image
        yield '\n],\n"annotations": [', annotations
        yield "\n]}\n", None


class FiftyOne(Form):
    """labels.json of a FiftyOneImageClassificationDataset: targets are dicts with the probability as `confidence`.

    An image without an answer has null, and its reason stands in a further object, `errors`.
    """

    def address(self, path):
        """The absolute path of an image; see `Form`."""
        return os.path.abspath(super().address(path))

    def lists(self):
        """See `Form`."""

        def targets(_, row):
            found = row.get("labels", {}).items()
            values = [{"label": label, "confidence": p, **_attributes(row, label)} for label, p in found]
            yield f"{_text(self.address(row['path']))}: {_text(None if 'error' in row else values)}"

        def error(_, row):
            if "error" in row:
                yield f"{_text(self.address(row['path']))}: {_text(utf8(row['error']))}"

        yield f'{{"classes": {_text(self.labels)},\n"labels": {{', targets
        yield '\n},\n"errors": {', error
        yield "\n}}\n", None


class LabelStudio(Form):
    """Tasks of Label Studio, each with one prediction, its score the lowest probability of a proposed label.

    The probabilities stand in the data of a task too. A task without an answer has the reason in `meta`.
    """

    prefix = "/data/local-files/?d="  # https://labelstud.io/guide/storage.html#Local-storage

    def _escaped(self, path):
        return quote(path) if self._prefix.startswith(("/", "http:", "https:")) else path  # a bucket's names are plain

    def lists(self):
        """See `Form`."""
        yield "[", self._task
        yield "\n]\n", None

    def _task(self, number, row):
        image = {"image": self.address(row["path"])}
        if "error" in row:
            yield _text({"data": image, "meta": {"error": utf8(row["error"])}})
            return
        labels = row["labels"]
        choices = row.get("choices", list(labels))
        tags = {"id": str(number), "from_name": "choice", "to_name": "image", "type": "choices"}
        prediction = {"model_version": "srn_tf", "result": [{**tags, "value": {"choices": choices}}] if choices else []}
        scores = [labels[label] for label in choices if label in labels]
        if scores:
            prediction["score"] = min(scores)
        data = {**image, "probabilities": labels}
        if "attributes" in row:
            given = {label: "given" if row["attributes"][label]["given"] else "missing" for label in labels}
            data["issues"] = "; ".join(f"{label} is {given[label]}, probability {p:.2f}" for label, p in labels.items())
        yield _text({"data": data, "predictions": [prediction]})


FORMS = {".coco.json": Coco, ".fiftyone.json": FiftyOne, ".label_studio.json": LabelStudio}
"""Ending of a file -> how it is written."""


def check_image_prefix(make_format, image_prefix, name="output"):
    """Raises InputError for an `image_prefix` that the form of a file, a class of FORMATS or FORMS, cannot use."""
    if image_prefix and not (make_format and issubclass(make_format, Form)):
        raise InputError(
            f"image_prefix needs a file for {name} that ends in {', '.join(FORMS)}. Received: "
            f"image_prefix={image_prefix} without one. Remove it, or give such a file."
        )
    if make_format is FiftyOne and "://" in image_prefix:
        raise InputError(
            f"FiftyOne reads files, so image_prefix must be a folder. Received: {image_prefix}. Give the folder of the "
            "images."
        )


def check_write(make_format, write):
    """Raises InputError for a `write` other than "labels" and None, with which the forms here write the same."""
    if issubclass(make_format, Form) and write not in (None, "labels"):
        raise InputError(
            f"An output that ends in {', '.join(FORMS)} has the labels above the thresholds. Received: write={write}. "
            "Remove it, or give another output."
        )


def form_of_output(output):
    """Returns the class of `rows.FORMATS` or `FORMS` for an output file; InputError for another ending."""
    return format_of(output, {**FORMATS, **FORMS})


class _Parts:
    """The rows of parts, read anew in every loop."""

    def __init__(self, paths):
        self._paths = list(paths)

    def __iter__(self):
        for path in self._paths:
            with open(path, encoding="utf-8") as part:
                yield from map(json.loads, part)


def _attributes(row, label):
    return {"attributes": row["attributes"][label]} if "attributes" in row else {}


def _text(value):
    return json.dumps(value, ensure_ascii=False)
