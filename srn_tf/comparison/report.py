"""What a comparison says, as blocks: the table in the layout of the paper's, its notes, differences, charts.

`render` turns the blocks into text, Markdown and HTML; the CSV files are made here.
"""

import csv
import io
from dataclasses import dataclass

import numpy as np

from srn_tf.comparison.bootstrap import LEVEL
from srn_tf.comparison.differences import METRICS
from srn_tf.comparison.papers import PUBLISHED
from srn_tf.comparison.rows import differing_flags
from srn_tf.evaluation.frequency import NOTE
from srn_tf.evaluation.report import frequency_note, sizes_note, tie_notes

_ABSENT = "-"
_GROUPS = {"all": "All", "top3": "top-3", "mAP_by_size": "mAP by size", "mAP_by_frequency": "mAP by frequency"}


@dataclass(frozen=True)
class Heading:
    """A heading; the first block is the title."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """A line of text."""

    text: str


@dataclass(frozen=True)
class Picture:
    """A chart: file name in the output folder, and what it shows."""

    file: str
    text: str


@dataclass(frozen=True)
class Cell:
    """What stands in a table; bold where it is to be seen first."""

    text: str
    is_bold: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under columns in groups.

    Attributes:
        groups: pairs (title, column names); the first group, with the title "", names the rows.
        rows: tuples of Cell, one a column.
        printed: pair (source, rows) of what others print of the same, or None.
    """

    groups: tuple
    rows: tuple
    printed: tuple | None = None


def blocks(comparison, differences, pictures):
    """The whole report.

    Args:
        comparison: comparison.Comparison.
        differences: list of Difference to its first row.
        pictures: for each difference a list of Picture.
    Returns:
        list of Heading, Paragraph, Table and Picture.
    """
    num_images, num_labels = comparison.labels.shape
    report = [
        Heading(f"{comparison.dataset}, {comparison.split} split: {num_images:,} images, {num_labels} labels, percent"),
        main_table(comparison),
        *(Paragraph(note) for note in _notes(comparison)),
    ]
    if differences:
        report += [
            Heading("What differs in the flags"),
            _flag_table(comparison),
            Heading(f"Differences to {differences[0].reference}, percentage points"),
            _difference_table(differences),
            Paragraph(
                f"In parentheses: the {LEVEL} % percentile interval of a paired bootstrap over the images. A "
                "difference is marked (bold or *) if its interval excludes 0. On each resample, a metric is first "
                "averaged over the seeds: the interval shows the effect of other images, not of other seeds. "
                "Resamples hold some images more than once, which raises a low AP; so the interval may lie to one side "
                "of a difference between low APs. Intervals are not corrected for their number: among many, some "
                "exclude 0 by chance."
            ),
        ]
    for difference, drawn in zip(differences, pictures, strict=True):
        report += [Heading(f"{difference.row} minus {difference.reference}, label by label"), *drawn]
    return report


def main_table(comparison):
    """One row per configuration, mean ± standard deviation, then the paper's rows of the data set.

    Returns:
        Table, values with one decimal as in the paper; the highest of each column in bold among our rows if there
        are several.
    """
    own = [[_summary(row, *column) for column in comparison.columns] for row in comparison.rows]
    highest = [_highest(column) for column in zip(*own, strict=True)]
    rows = []
    for row, summaries in zip(comparison.rows, own, strict=True):
        cells = (
            Cell(_shown(*summary), len(own) > 1 and _rounded(summary[0]) == best)
            for summary, best in zip(summaries, highest, strict=True)
        )
        rows.append((Cell(row.name), Cell(str(len(row.runs))), *cells))
    groups = [("", ("Method", "Seeds"))]
    for group, title in _GROUPS.items():
        columns = tuple(column for kind, column in comparison.columns if kind == group)
        if columns:
            groups.append((title, columns))
    return Table(tuple(groups), tuple(rows), _printed(comparison))


def table_csv(comparison):
    """The main table with all digits as CSV: a row per configuration, then the paper's rows.

    Returns:
        str; columns method, source, seeds, then for each metric its mean and its standard deviation (empty for one
        seed and in the paper's rows).
    """
    header = ["method", "source", "seeds"]
    for group, column in comparison.columns:
        header += [f"{_GROUPS[group]} {column}", f"{_GROUPS[group]} {column} sd"]
    lines = [header]
    for row in comparison.rows:
        summaries = (_summary(row, *column) for column in comparison.columns)
        lines.append([row.name, "ours", len(row.runs), *(_digits(value) for summary in summaries for value in summary)])
    published = _published(comparison)
    for row in published.rows if published else ():
        values = (row.value(*column) for column in comparison.columns)
        lines.append([row.name, published.source, "", *(entry for value in values for entry in (_digits(value), ""))])
    return _csv(lines)


def differences_csv(comparison, differences, cooccurring):
    """The differences with their intervals as CSV: the metrics, then every label's AP.

    Args:
        comparison: comparison.Comparison.
        differences: list of Difference.
        cooccurring: float (C,), see differences.mean_cooccurring.
    Returns:
        str; `images` and `cooccurring` are of the label, over the truth, and empty for the metrics.
    """
    lines = [["row", "reference", "metric", "label", "difference", "low", "high", "images", "cooccurring"]]
    images = (comparison.labels == 1).sum(axis=0)
    for difference in differences:
        pair = [difference.row, difference.reference]
        for metric in METRICS:
            lines.append([*pair, metric, "", *map(_digits, difference.metrics[metric]), "", ""])
        for index, label in enumerate(comparison.label_names):
            values = (difference.ap[index], difference.ap_low[index], difference.ap_high[index])
            lines.append([*pair, "AP", label, *map(_digits, values), images[index], _digits(cooccurring[index])])
    return _csv(lines)


def _notes(comparison):
    rows = comparison.rows
    outputs = ", ".join(f"{row.runs[0].output} of {row.name}" for row in rows)
    notes = [f"Scores are those of each model's final output: {outputs}."]
    published = _published(comparison)
    if len(rows) > 1:
        rest = "; the paper's rows do not count" if published else ""
        notes.append(f"The highest value of our rows in each column is marked (bold or *){rest}.")
    if any(len(row.runs) > 1 for row in rows):
        notes.append("± is the standard deviation over seeds (n - 1).")
    if published:
        notes.append(f"The rows under {published.source} are quoted from there, not measured here. {published.note}")
        if published.images != len(comparison.labels):
            notes.append(
                f"Not directly comparable: the paper's rows are for {published.images:,} test images, ours for "
                f"{len(comparison.labels):,}."
            )
    without = rows[0].results[0]["labels_without_positives"]
    if without:
        notes.append(f"Labels without positives are left out of mAP: {', '.join(without)}.")
    if ("mAP_by_size", "small") in comparison.columns:
        notes.append(sizes_note(rows[0].results[0]["sizes"]))
    if ("mAP_by_frequency", "head") in comparison.columns:
        notes += [NOTE, frequency_note(rows[0].results[0]["frequency"])]
    said = (f"{row.name}: {note}" for row in rows for result in row.results for note in tie_notes(result["ties"]))
    notes += dict.fromkeys(said)
    notes.append(f"Protocol: {comparison.protocol.name}.")
    notes += comparison.protocol.definition.splitlines()
    return notes


def _published(comparison):
    """The paper's table of the data set; None if there is none, or on another split than its."""
    return PUBLISHED.get(comparison.dataset) if comparison.split == "test" else None


def _printed(comparison):
    """The paper's rows as `Table.printed`."""
    published = _published(comparison)
    if not published:
        return None
    rows = (
        (Cell(row.name), Cell(""), *(Cell(_shown(row.value(*column))) for column in comparison.columns))
        for row in published.rows
    )
    return published.source, tuple(rows)


def _flag_table(comparison):
    runs = [row.runs[0] for row in comparison.rows]
    rows = tuple(
        (Cell(flag), *(Cell(run.flags.get(flag, "(not recorded)")) for run in runs)) for flag in differing_flags(runs)
    )
    return Table((("", ("flag",)), ("", tuple(row.name for row in comparison.rows))), rows)


def _difference_table(differences):
    rows = tuple(
        (Cell(difference.row), *(_difference_cell(*difference.metrics[metric]) for metric in METRICS))
        for difference in differences
    )
    return Table((("", ("Method",)), ("All", METRICS)), rows)


def _difference_cell(value, low, high):
    if np.isnan(value):
        return Cell(_ABSENT)
    return Cell(f"{value:+.2f} ({low:+.2f} to {high:+.2f})", low > 0 or high < 0)


def _summary(row, group, column):
    """(mean, standard deviation) over the runs; NaN where the metric is not known or there is one run."""
    values = row.values(group, column)
    if values is None:
        return np.nan, np.nan
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else np.nan


def _highest(summaries):
    """The highest mean as it is printed; None if none is known."""
    means = [_rounded(mean) for mean, _ in summaries if not np.isnan(mean)]
    return max(means, default=None)


def _rounded(mean):
    return round(mean, 1)


def _shown(mean, deviation=np.nan):
    if np.isnan(mean):
        return _ABSENT
    return f"{mean:.1f}" if np.isnan(deviation) else f"{mean:.1f} ± {deviation:.1f}"


def _digits(value):
    return "" if np.isnan(value) else f"{value:.6f}"


def _csv(lines):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
