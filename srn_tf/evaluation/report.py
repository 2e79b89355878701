"""Renders evaluation results as text tables and writes them as JSON.

The metrics dict (metrics.json) is {"dataset", "split", "images", "labels": [names], "protocol", "definition",
"outputs": {"y_hat": {"all": {...}, "top3": {...}, "AP": [...]}, ...}} with each output as protocols.evaluate
returns it, and optionally "pointing", as PointingGame.result returns it. All rates are percent.
"""

import contextlib
import json
import os
from pathlib import Path

from tabulate import tabulate

from srn_tf.errors import InputError

# The order of the rows; an output that is absent has no row.
OUTPUTS = ("y_hat", "y_cls", "y_att", "y_sr")
# The columns of the paper's tables, in its order.
COLUMNS = ("mAP", "F1-C", "P-C", "R-C", "F1-O", "P-O", "R-O")
_ABSENT = "-"


def summary_table(metrics):
    """The result as text: a heading, a row per output, the definition and, if played, the pointing game.

    Args:
        metrics: dict, see the module.
    Returns:
        str, lines without a trailing newline; percent with two decimals, "-" for a value that is None.
    """
    has_top3 = any("top3" in output for output in metrics["outputs"].values())
    headers = ["output", *(f"all\n{column}" for column in COLUMNS)]
    if has_top3:
        headers += [f"top3\n{column}" for column in COLUMNS]
    rows = []
    for name in _present_outputs(metrics):
        output = metrics["outputs"][name]
        row = [name, *_cells(output["all"])]
        if has_top3:
            row += _cells(output.get("top3", {}))
        rows.append(row)
    lines = [
        f"{metrics['dataset']} {metrics['split']}: {metrics['images']} images, {len(metrics['labels'])} labels, "
        f"protocol {metrics['protocol']}, percent",
        _table(rows, headers),
        metrics["definition"],
    ]
    left_out = _labels_without_positives(metrics)
    if left_out:
        lines.append(f"Labels without positives, left out of mAP: {', '.join(left_out)}.")
    if "pointing" in metrics:
        pointing = metrics["pointing"]
        lines.append(
            f"Pointing game: accuracy {_percent(pointing['accuracy'])}, chance {_percent(pointing['chance'])} "
            f"({pointing['hits']} of {pointing['pairs']} pairs)."
        )
    return "\n".join(lines)


def per_label_table(metrics):
    """The average precision of every label as text: a row per label, a column per output.

    Args:
        metrics: dict, see the module. With "pointing", its accuracy and pairs are two more columns.
    Returns:
        str, lines without a trailing newline; percent with two decimals, "-" for a label without positives.
    """
    names = _present_outputs(metrics)
    headers = ["label", *(f"{name}\nAP" for name in names)]
    columns = [[_percent(value) for value in metrics["outputs"][name]["AP"]] for name in names]
    if "pointing" in metrics:
        headers += ["pointing\naccuracy", "pointing\npairs"]
        per_label = metrics["pointing"]["per_label"]
        columns.append([_percent(label["accuracy"]) for label in per_label])
        columns.append([str(label["pairs"]) for label in per_label])
    return _table(list(zip(metrics["labels"], *columns, strict=True)), headers)


def write_json(path, value):
    """Writes a value as JSON, whole or not at all: into a file beside `path` that then takes its place.

    Args:
        path: str or path, in a folder that exists.
        value: what json can write; None for a value that is not known.
    Raises:
        InputError: the file cannot be written.
        ValueError: a number is NaN or infinite, which JSON does not have; nothing is written.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    path = Path(path)
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"  # the process id: no two processes share it
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        reason = error.strerror or error
        raise InputError(f"{path} must be a file that can be written: {reason}; check its folder.") from None


def _present_outputs(metrics):
    return [name for name in OUTPUTS if name in metrics["outputs"]]


def _labels_without_positives(metrics):
    """Their names. The truth is the same for every output, so the first one tells."""
    first = next(iter(metrics["outputs"].values()))
    return [name for name, ap in zip(metrics["labels"], first["AP"], strict=True) if ap is None]


def _cells(table):
    return [_percent(table.get(column)) for column in COLUMNS]


def _percent(value):
    return _ABSENT if value is None else f"{value:.2f}"


def _table(rows, headers):
    # Text columns as given (a label may look like a number), the rest aligned on the right.
    alignment = ("left", *["right"] * (len(headers) - 1))
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=alignment if rows else None)
