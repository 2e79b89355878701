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
            "file that evaluation wrote with --label_issues."
        ) from None
