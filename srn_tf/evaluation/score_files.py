"""Evaluation of score and label files: csv, whitespace-separated text, .npy or .npz, or tables with names."""

from pathlib import Path

import numpy as np

from srn_tf.errors import InputError
from srn_tf.evaluation import protocols
from srn_tf.evaluation.blocks import read_array
from srn_tf.evaluation.metrics import log_odds
from srn_tf.evaluation.score_tables import IMAGE_COLUMNS, match, read_named_table
from srn_tf.files import DAMAGE

SCALES = ("logits", "probabilities")
"""What scores can be."""


def evaluate_score_files(scores_path, labels_path, protocol, scores_are=None, **options):
    """Evaluates a file of scores against a file of labels, a row per image and a column per label in both.

    Where both files name their images and labels, these are matched by name; otherwise by place.

    Args:
        scores_path: path read by score_tables.read_named_table or read_matrix.
        labels_path: likewise, each value -1, 0 or 1.
        protocol: protocols.Protocol.
        scores_are: one of SCALES, or None: probabilities in a table of tools/predict.py, else logits.
        **options: thresholds, ranking, top_k and top_k_floor, as of protocols.evaluate.
    Returns:
        dict, ready for JSON: "protocol" (name), "definition", "images" (N), "labels" (C), "scores_are" (of SCALES),
        "matched_by" ("name" or "place"), where the scores' labels have names "label_names", and what protocols.evaluate
        returns, with its tables under the protocol's own names: "all" and "top3" for nus_wide, "all" and "top3_min05"
        for coco and scenes, "wider" for wider_attribute, "all" for voc2007, each also with "_plain"; "top_k" is named
        by k and the floor, such as "top5" or "top5_min05".
    Raises:
        InputError: a file cannot be read, the two cannot be evaluated together, scores are the same for every image, or
            are not known to be logits: none is below 0.
    """
    table, scores = _read(scores_path)
    truth_table, labels = _read(labels_path)
    is_by_name = table is not None and truth_table is not None
    scale = scores_are or ("probabilities" if table is not None and table.is_of_predict else None)
    try:
        if is_by_name:
            labels = match(table, truth_table)
        logits = as_logits(scores, scale)
        evaluated = protocols.evaluate(logits, labels, protocol, table and table.labels, **options)
        if len(evaluated["ties"]["constant_labels"]) == logits.shape[1]:
            raise InputError(
                "scores must differ between images. Received: the same scores for every image. Check how they were "
                "written."
            )
    except InputError as error:
        raise InputError(f"{scores_path} with {labels_path}: {error}") from None
    names = {
        "all": protocol.all_key,
        "top3": protocols.top_k_key(3, protocol.top3_min_probability),
        "top_k": protocols.top_k_key(options.get("top_k"), options.get("top_k_floor")),
    }
    names |= {f"{group}_plain": f"{name}_plain" for group, name in names.items()}
    return {
        "protocol": protocol.name,
        "definition": protocol.definition,
        "images": scores.shape[0],
        "labels": scores.shape[1],
        "scores_are": scale or "logits",
        "matched_by": "name" if is_by_name else "place",
        **({"label_names": table.labels} if table else {}),
        **{names.get(key, key): value for key, value in evaluated.items()},
    }


def _read(path):
    """The table of a file whose images and labels have names, else None, and its numbers."""
    table = read_named_table(path) if Path(path).is_file() else None
    return table, read_matrix(path) if table is None else table.values


def as_logits(scores, scale):
    """Scores as logits.

    Args:
        scores: real (N, C); NaN and infinity are left to protocols.evaluate.
        scale: one of SCALES, or None where it is not known.
    Returns:
        (N, C).
    Raises:
        InputError: the scores are not what `scale` says, or may not be logits where it is None.
    """
    lowest, highest = np.min(scores), np.max(scores)
    if scale == "probabilities":
        if lowest < 0 or highest > 1:
            raise InputError(
                f"probabilities must be from 0 to 1. Received: {lowest:g} to {highest:g}. If they are logits, set "
                "scores_are=logits. If they are in percent, divide them by 100."
            )
        return log_odds(scores)
    if scale is None and lowest >= 0:
        raise InputError(
            "The scale of scores is unclear without a value below 0: as logits they would predict every label of "
            f"every image. Received: {lowest:g} to {highest:g}. Set scores_are=probabilities, or scores_are=logits if "
            "they are."
        )
    return scores


def read_matrix(path):
    """Reads a matrix of numbers: .npy, .npz (one array), and any other file as text.

    Text has a row per line, with commas if the first row has one and whitespace otherwise between the values;
    blank lines are skipped. There is no header line.

    Args:
        path: str or path.
    Returns:
        float64 (N, C) of a text file, N and C >= 1; of .npy and .npz the real dtype stored.
    Raises:
        InputError: the file is missing, unreadable or empty; an entry is not a number or the rows differ in
            length (with the line); an array file has not exactly one matrix of real numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} must be a file of numbers. Received: no such file. Check the path.")
    try:
        if path.suffix.lower() in (".npy", ".npz"):
            matrix = _read_array_file(path)
        else:
            matrix = _read_text_file(path)
    except UnicodeDecodeError:
        raise InputError(
            f"{path} must be .npy, .npz or text (CSV, or separated by spaces). Received: a file that is not UTF-8 "
            "text. Convert it."
        ) from None
    except OSError as error:
        raise InputError(
            f"{path} must be readable. Received: {error.strerror or error}. Check its permissions."
        ) from None
    if matrix.size == 0:
        raise InputError(f"{path} must have at least one row of numbers. Received: an empty file. Write it again.")
    return matrix


def _read_text_file(path):
    rows = []
    first_line = None  # number of the line of the first row
    with path.open(encoding="utf-8-sig") as lines:
        for line_number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            if first_line is None:
                first_line = line_number
                separator = "," if "," in line else None
            row = _parse_row(path, line_number, line.split(separator))
            if rows and row.size != rows[0].size:
                raise InputError(
                    f"{path}: every row must have as many values as the first. Received: {row.size} on line "
                    f"{line_number}, {rows[0].size} on line {first_line}. Correct the row."
                )
            rows.append(row)
    return np.stack(rows) if rows else np.empty((0, 0))


def _parse_row(path, line_number, fields):
    """The fields of one line of text as float64 (C,)."""
    try:
        return np.fromiter(map(float, fields), dtype=np.float64, count=len(fields))
    except ValueError:
        entry = next(index for index, field in enumerate(fields) if not _is_number(field))
        raise InputError(
            f"{path}: every entry must be a number. A header must begin with {' or '.join(IMAGE_COLUMNS)}. Received: "
            f"{fields[entry].strip()[:40]!r} on line {line_number}, entry {entry + 1}."
        ) from None


def _is_number(field):
    try:
        float(field)
    except ValueError:
        return False
    return True


def _read_array_file(path):
    try:
        content = read_array(path)
        if isinstance(content, np.lib.npyio.NpzFile):
            with content:
                if len(content.files) != 1:
                    names = ", ".join(content.files) or "none"
                    raise InputError(f"{path} must have exactly one array. Received: {names}. Save one array alone.")
                content = content[content.files[0]]
    except InputError:
        raise
    except (*DAMAGE, MemoryError) as error:
        # NumPy's own messages may span lines; a user's error is one line.
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"{path} must be a NumPy file without pickled objects. Received: {reason}. Save it again with numpy.save."
        ) from None
    if not isinstance(content, np.ndarray) or content.dtype.kind not in "fiub" or content.ndim != 2:
        received = f"shape {content.shape}, type {content.dtype}" if isinstance(content, np.ndarray) else "raw bytes"
        raise InputError(f"{path} must be a matrix of real numbers, images x labels. Received: {received}.")
    return content
