"""Renders evaluation results as text tables.

The metrics dict (metrics.json) is {"dataset", "split", "images", "labels": [names], "protocol", "definition",
"outputs": {"y_hat": {"all": {...}, "top3": {...}, "AP": [...], ...}, ...}} with each output as protocols.evaluate
returns it, and optionally "pointing", for each of the model's maps as PointingGame.result returns it. All rates are
percent. Where images have boxes, each output has "mAP_by_size" and "sizes" as sizes.mean_ap_by_size returns them. Where
the training images are known, it has "mAP_by_frequency" and "frequency" as frequency.mean_ap_by_frequency returns them.
"other_data" is there if the images are from another data set than the model was trained on, see
`other_data_note`; "tta" if scores are means over views, see `tta_note`.
"""

import textwrap

from tabulate import tabulate

from srn_tf.evaluation.frequency import GROUPS
from srn_tf.evaluation.metrics import AP_DEFINITIONS
from srn_tf.evaluation.sizes import SIZES
from srn_tf.program import tool

# The columns of the paper's tables, in its order.
COLUMNS = ("mAP", "F1-C", "P-C", "R-C", "F1-O", "P-O", "R-O")
# Key of "ranking" -> title of its column.
_RANKING = {
    "LRAP": "LRAP",
    "coverage_error": "coverage\nerror, labels",
    "ranking_loss": "ranking\nloss",
    "hamming_loss": "Hamming\nloss",
    "subset_accuracy": "subset\naccuracy",
}
# How score_files.evaluate_score_files put scores and truth together -> in words.
_MATCHED = {"name": "the names of images and labels", "place": "place, row by row and column by column"}
_ABSENT = "-"
_FEW_IMAGES = 100
_WIDTH = 100  # of lines of text; tables stay below it, too
_MOST_NAMED = 100  # labels of a note; the JSON has them all


def served_note(record):
    """A sentence on the output that a run serves, and how it was chosen.

    Args:
        record: run.json or metrics.json, with "final" and, where it was chosen, "choice".
    """
    choice = record.get("choice")
    if choice is None:
        return f"Served output: {record['final']}."
    values = ", ".join(f"{name} {_percent(value)}" for name, value in choice["mAP"].items())
    return f"Served output: {record['final']}, chosen on {choice['split']} by mAP: {values}."


def kept_note(kept):
    """A sentence on the weights that each stage kept, of a run with averages of the weights.

    Args:
        kept: dict, stage -> "plain" or "average", as "kept_weights" of run.json or metrics.json.
    """
    return f"Weights kept of each stage: {', '.join(f'{stage} {kind}' for stage, kind in kept.items())}."


def summary_table(metrics):
    """The result as text: a heading, tables with a row per output, the definition and, if played, the pointing game.

    Args:
        metrics: dict, see the module.
    Returns:
        str, lines without a trailing newline; percent with two decimals, "-" for a value that is None.
    """
    outputs = metrics["outputs"]
    blocks = [
        f"{metrics['dataset']} {metrics['split']}: {metrics['images']} images, {len(metrics['labels'])} labels, "
        f"protocol {metrics['protocol']}, percent"
    ]
    tables = []
    for group in _tables(next(iter(outputs.values()))):
        headers = ["output", *(f"{group}\n{column}" for column in COLUMNS)]
        tables.append(_table([[name, *_cells(output[group])] for name, output in outputs.items()], headers))
    blocks += _spaced([*tables, *_further_tables("output", outputs)])
    if "final" in metrics:
        blocks.append(_filled(served_note(metrics)))
    if "kept_weights" in metrics:
        blocks.append(_filled(kept_note(metrics["kept_weights"])))
    for name, pointing in metrics.get("pointing", {}).items():
        blocks.append(
            f"Pointing game, map {name}: accuracy {_percent(pointing['accuracy'])}, chance "
            f"{_percent(pointing['chance'])} ({pointing['hits']} of {pointing['pairs']} pairs)."
        )
    if "tta" in metrics:
        blocks.append(_filled(tta_note(metrics["tta"])))
    if "other_data" in metrics:
        blocks.insert(1, _filled(other_data_note(metrics["other_data"])))
    # The truth is the same for every output, and tuned thresholds are the first one's.
    blocks += _notes(metrics["definition"], next(iter(outputs.values())))
    blocks += [_filled(f"{name}: {note}") for name, output in outputs.items() for note in tie_notes(output["ties"])]
    return "\n".join(blocks)


def short_summary(metrics):
    """What a model reached, for those who have not read about the metrics: sentences, and a row per output.

    Args:
        metrics: dict, see the module.
    Returns:
        str, lines without a trailing newline. `summary_table` has all the rest.
    """
    outputs, images = metrics["outputs"], metrics["images"]
    final, output = next(iter(outputs.items()))
    table, plain = output["all"], output["all_plain"]
    sentences = [
        f"{images:,} {metrics['split']} images, {len(metrics['labels'])} labels: mAP {_percent(table['mAP'])} percent.",
        f"Of the labels that {final} predicts, {_percent(table['P-O'])} percent are right; of the labels that are "
        f"there, it finds {_percent(table['R-O'])} percent.",
    ]
    if images < _FEW_IMAGES:
        sentences.append("These are few images: others may give quite other numbers.")
    rows = [[name, *_cells(each["all"])] for name, each in outputs.items()]
    blocks = [_filled(" ".join(sentences)), *_spaced([_table(rows, ["output", *COLUMNS])])]
    if len(outputs) > 1:
        blocks.append(f"{final} is the answer of the model, the other rows are scores inside it.")
    notes = []
    silent = round(len(metrics["labels"]) * (table["P-C"] - plain["P-C"]) / 100)  # P is 1 for them there, and 0 here
    if silent:
        notes.append(
            f"{silent} of the labels are never predicted at this threshold; {tool('tune_thresholds')} finds others. In "
            f"P-C they count 100 each, as in the papers; where they count 0, {final} has {_percent(plain['P-C'])}."
        )
    left_out = output["labels_without_positives"]
    if left_out:
        notes.append(f"mAP leaves out {len(left_out)} of the labels, which none of these images has.")
    notes.append(f"What the columns mean: docs/evaluate.md. More numbers: {tool('evaluate')}.")
    blocks.append(_filled(" ".join(notes)))
    return "\n".join(blocks)


def score_table(result, path):
    """The result for a file of scores as text: a row per table, the definition, and the file that holds the numbers.

    Args:
        result: dict as `score_files.evaluate_score_files` returns it.
        path: str, the JSON file that holds it.
    Returns:
        str, lines without a trailing newline; percent with two decimals, "-" for a value that is None.
    """
    names = [name for plain in _tables(result) for name in (plain, f"{plain}_plain")]
    blocks = [
        f"{result['images']} images, {result['labels']} labels, protocol {result['protocol']}, percent",
        f"Scores are {result['scores_are']}. Scores and truth are matched by {_MATCHED[result['matched_by']]}.",
        *_spaced(
            [
                _table([[name, *_cells(result[name])] for name in names], ["", *COLUMNS]),
                *_further_tables("", {"scores": result}),
            ]
        ),
        *_notes(result["definition"], result),
        *map(_filled, tie_notes(result["ties"])),
        path,
    ]
    return "\n".join(blocks)


def per_label_table(metrics):
    """The average precision of every label as text: a row per label, a column per output.

    Args:
        metrics: dict, see the module. With "pointing", accuracy and pairs of each map are more columns.
    Returns:
        str, lines without a trailing newline; percent with two decimals, "-" for a label without positives.
    """
    names = list(metrics["outputs"])
    headers = ["label", *(f"{name}\nAP" for name in names)]
    columns = [[_percent(value) for value in metrics["outputs"][name]["AP"]] for name in names]
    for name, pointing in metrics.get("pointing", {}).items():
        headers += [f"pointing\n{name}", f"pointing\n{name}, pairs"]
        per_label = pointing["per_label"]
        columns.append([_percent(label["accuracy"]) for label in per_label])
        columns.append([str(label["pairs"]) for label in per_label])
    return _table(list(zip(metrics["labels"], *columns, strict=True)), headers)


def _further_tables(title, outputs):
    """A row per output: mAP by definition and size, and calibration; in tables of their own mAP by frequency, where it
    is known, and ranking, if asked for.
    """
    headers = [title, *(f"mAP\n{definition}" for definition in AP_DEFINITIONS), "ECE"]
    has_sizes = any("mAP_by_size" in output for output in outputs.values())
    if has_sizes:
        headers += (f"mAP\n{size}" for size in SIZES)
    rows = []
    for name, output in outputs.items():
        row = [name, *(_percent(output["mAP_by_definition"][definition]) for definition in AP_DEFINITIONS)]
        row.append(_percent(output["calibration"]["ece"]))
        if has_sizes:
            row += [_percent(output["mAP_by_size"][size]) for size in SIZES]
        rows.append(row)
    tables = [_table(rows, headers)]
    if any("mAP_by_frequency" in output for output in outputs.values()):
        rows = [
            [name, *(_percent(output["mAP_by_frequency"][group]) for group in GROUPS)]
            for name, output in outputs.items()
        ]
        tables.append(_table(rows, [title, *(f"mAP\n{group}" for group in GROUPS)]))
    if any("ranking" in output for output in outputs.values()):
        rows = [[name, *(_percent(output["ranking"][key]) for key in _RANKING)] for name, output in outputs.items()]
        tables.append(_table(rows, [title, *_RANKING.values()]))
    return tables


def _notes(definition, output):
    """Lines of text on what the numbers mean, the threshold and the labels left out of mAP."""
    threshold = output["threshold"]
    shown = "one per label" if isinstance(threshold, list) else f"{threshold:g}"
    notes = [*definition.splitlines(), f"Threshold: {shown}."]
    if "ranking" in output:
        notes.append(f"Ranking: {output['ranking']['note']}")
    if "sizes" in output:
        notes.append(sizes_note(output["sizes"]))
    if "frequency" in output:
        notes.append(frequency_note(output["frequency"]))
    left_out = output["labels_without_positives"]
    if left_out:
        notes.append(
            f"mAP covers {output['num_labels_in_mAP']} labels. Labels without positives are left out: "
            f"{_listed(left_out)}."
        )
    if output["labels_without_negatives"]:
        notes.append(
            f"Labels without negatives have AP 100 whatever the scores: {_listed(output['labels_without_negatives'])}."
        )
    return list(map(_filled, notes))


def tie_notes(ties):
    """Sentences on what equal scores leave to the order of the images.

    Args:
        ties: dict, of protocols.evaluate.
    Returns:
        list of str, empty where that order decides nothing that can be seen.
    """
    notes = []
    if ties["constant_labels"]:
        notes.append(
            "AP says nothing about these labels, because their score is the same for every image: "
            f"{_listed(ties['constant_labels'])}."
        )
    lowest, highest = _percent(ties["mAP_lowest"]), _percent(ties["mAP_highest"])
    if lowest != highest:
        notes.append(
            "Images with equal scores are ranked in their stored order, as in the authors' code. In another order, mAP "
            f"would be between {lowest} and {highest}."
        )
    return notes


def sizes_note(sizes):
    """What the columns of mAP by size mean, and how many labels and pairs each covers: str.

    Args:
        sizes: dict, of sizes.mean_ap_by_size.
    """
    counts = (f"{size} {sizes['labels'][size]} labels, {sizes['pairs'][size]} pairs" for size in SIZES)
    return f"mAP by size: {sizes['note']} Over: {'; '.join(counts)}."


def frequency_note(frequency):
    """How many labels each column of mAP by frequency covers, and how frequent they are in training: str.

    Args:
        frequency: dict, of frequency.mean_ap_by_frequency.
    """
    groups = []
    for group in GROUPS:
        images = frequency["training_images"][group]
        between = f", {images[0]:,} to {images[1]:,} training images each" if images else ""
        groups.append(f"{group} {frequency['labels'][group]} labels{between}")
    return f"mAP by frequency covers: {'; '.join(groups)}."


def tta_note(tta):
    """A sentence on the views that were averaged over: str. Argument: one of `choices.TTA`."""
    return f"Test-time augmentation {tta}: scores are log odds of the mean probability over the views of an image."


def other_data_note(other_data):
    """A sentence on an evaluation on another data set than the model's own: str.

    Args:
        other_data: dict, "data_dir" and, where they are kept, the path of the "predictions".
    """
    kept = f" Its predictions are kept apart: {other_data['predictions']}." if "predictions" in other_data else ""
    return f"The data set in {other_data['data_dir']} is not the one the model was trained on.{kept}"


def _listed(names):
    shown = ", ".join(map(str, names[:_MOST_NAMED]))
    return f"{shown} and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else shown


def _spaced(tables):
    """The tables as blocks with an empty line before each and after the last."""
    return [*(f"\n{table}" for table in tables), ""]


def _filled(note):
    return textwrap.fill(note, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _tables(result):
    """Names of the tables in what protocols.evaluate returned, without their plain twins."""
    return [name for name in result if f"{name}_plain" in result]


def _cells(table):
    return [_percent(table.get(column)) for column in COLUMNS]


def _percent(value):
    return _ABSENT if value is None else f"{value:.2f}"


def _table(rows, headers):
    # Text columns as given (a label may look like a number), the rest aligned on the right.
    alignment = ("left", *["right"] * (len(headers) - 1))
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=alignment if rows else None)
