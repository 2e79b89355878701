"""Labels of a split that are probably wrong or missing, by what a model that did not learn them says.

Every label is judged by itself with the multi-label functions of the library cleanlab, which is installed apart:
confident learning (Northcutt et al., "Confident learning: estimating uncertainty in dataset labels", JAIR 2021) decides
which pairs of image and label are likely errors, and the probability of what was given ranks them.
"""

import csv
import dataclasses
import io

import numpy as np

from srn_tf.errors import InputError
from srn_tf.evaluation.blocks import columns
from srn_tf.evaluation.metrics import sigmoid
from srn_tf.files import writing, written_whole
from srn_tf.prediction.annotation_forms import FORMS


@dataclasses.dataclass(frozen=True)
class LabelIssue:
    """A label of an image that is probably wrong, a row of the list.

    Attributes:
        image: name of the image.
        label: name of the label.
        given: 1 if the data set says that the image has the label, which is then probably wrong; 0 if not, where it is
            probably missing.
        probability: float in [0, 1], the model's for the label.
        score: float in [0, 1], cleanlab's quality of what is given; the lower, the likelier it is wrong.
    """

    image: str
    label: str
    given: int
    probability: float
    score: float


FORMATS = {".csv": None, **FORMS}
"""Ending of a list -> the form of an annotation tool, None for the table of `write_label_issues`."""

_HEADER = [field.name for field in dataclasses.fields(LabelIssue)]


def check_cleanlab_installed():
    """Raises InputError with the command that installs cleanlab if it is not there."""
    from srn_tf.serving.checking import check_installed  # late: TensorFlow

    check_installed("Label issues", ("cleanlab",), "requirements-cleanlab.txt", "cleanlab")


def find_label_issues(predictions, protocol):
    """Finds pairs of image and label whose truth is probably wrong.

    Args:
        predictions: predictions.SavedPredictions of images that the model was not trained on; the first output counts.
        protocol: evaluation.protocols.Protocol of their truth. Unspecified labels are not judged.
    Returns:
        list of LabelIssues, the likeliest first. Labels that all or none of the images have are not judged.
    Raises:
        InputError: cleanlab is not installed.
    """
    check_cleanlab_installed()
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class
    from cleanlab.multilabel_classification.rank import get_label_quality_scores_per_class

    logits, issues = next(iter(predictions.logits.values())), []
    by_label = zip(predictions.label_names, columns(logits), columns(predictions.labels), strict=True)
    for name, column, truth in by_label:
        rows = np.flatnonzero(truth != 0) if protocol.is_zero_unspecified else np.arange(len(truth))
        given, p = truth[rows] == 1, sigmoid(column[rows])
        if given.all() or not given.any():
            continue
        # One label at a time: which of them are specified differs from image to image.
        as_lists = [[0] if has else [] for has in given.tolist()]
        is_issue = find_multilabel_issues_per_class(as_lists, p[:, None], n_jobs=1)[:, 0]
        scores = get_label_quality_scores_per_class(as_lists, p[:, None])[:, 0]
        for row in np.flatnonzero(is_issue):
            image = str(predictions.names[rows[row]])
            issues.append(LabelIssue(image, name, int(given[row]), float(p[row]), float(scores[row])))
    return sorted(issues, key=lambda issue: issue.score)


def write_label_issues(path, issues):
    """Writes a list as CSV, whole or not at all: a header, then a row per issue.

    Raises:
        InputError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADER)
    for issue in issues:
        writer.writerow([issue.image, issue.label, issue.given, f"{issue.probability:.6f}", f"{issue.score:.6f}"])
    with writing(path), written_whole(path) as file:
        file.write(text.getvalue().encode("utf-8"))


def write_label_issues_for_tool(path, issues, predictions, make_form, image_prefix=""):
    """Writes a list in the form of an annotation tool, whole or not at all: a row per image, the likeliest issue first.

    In COCO JSON and FiftyOne an image has the labels that are probably wrong or missing, with the probability, `given`
    and, as `quality`, the score. In Label Studio the proposed choices are the labels of the data set with all of the
    image's issues corrected.

    Args:
        path: str, of the file.
        issues: list of LabelIssues.
        predictions: predictions.SavedPredictions in which they were found.
        make_form: a class of annotation_forms.FORMS.
        image_prefix: see `annotation_forms.Form`.
    Raises:
        InputError: the file cannot be written, or `image_prefix` does not fit.
    """
    position = {str(name): row for row, name in enumerate(predictions.names)}
    rows = {}
    for issue in issues:
        row = rows.setdefault(issue.image, {"path": issue.image, "labels": {}, "attributes": {}})
        row["labels"][issue.label] = round(issue.probability, 6)
        row["attributes"][issue.label] = {"given": issue.given, "quality": round(issue.score, 6)}
    for row in rows.values():
        truth = zip(predictions.label_names, predictions.labels[position[row["path"]]] == 1, strict=True)
        row["choices"] = [label for label, has in truth if has != (label in row["labels"])]
    form = make_form(list(predictions.label_names), image_prefix)
    with writing(path), written_whole(path) as file:
        form.write(rows.values(), file)


def read_label_issues(path):
    """Reads what `write_label_issues` wrote.

    Returns:
        list of LabelIssues.
    Raises:
        InputError: the file is missing or is no such list.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        if header != _HEADER:
            raise ValueError(f"the header {','.join(header)!r}")
        return [LabelIssue(image, label, int(given), float(p), float(score)) for image, label, given, p, score in rows]
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path} must be a list of label issues, with the columns {','.join(_HEADER)}. Received: {reason}. Give a "
            "CSV file that evaluation wrote with --label_issues."
        ) from None
