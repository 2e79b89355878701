"""Compares runs on one split: the paper's table, differences with bootstrap intervals, and charts label by label.

python tools/compare.py RUN... --output=DIR [--split=test] [--bootstrap=1000] [--seed=0]

RUN is a work folder with predictions on the split; tools/evaluate.py makes them. Runs that differ only in their seed
share one row. Differences are relative to the first RUN: give the baseline first. Writes DIR/table.md, table.html and
table.csv. With two or more rows it also writes differences.csv, and two charts for each row after the first.
"""

import os

from absl import flags

from srn_tf.commands import cli
from srn_tf.files import writing

FLAGS = flags.FLAGS
TAKES_ARGUMENTS = True


def define_flags():
    """Defines the flags of this command line."""
    flags.DEFINE_string("output", None, "Folder for tables and charts.", required=True)
    flags.DEFINE_enum("split", "test", ("train", "validation", "test"), "Split on which runs are compared.")
    flags.DEFINE_integer(
        "bootstrap", 1000, "Number of bootstrap resamples of the images, for the intervals.", lower_bound=100
    )
    flags.DEFINE_integer("seed", 0, "Seed of the bootstrap resamples.", lower_bound=0)


def main(paths):
    """Compares the runs in the folders `paths`; writes the tables and charts."""
    from srn_tf.comparison import render, report
    from srn_tf.comparison.differences import differences_to_first, mean_cooccurring
    from srn_tf.comparison.rows import compare_runs

    comparison = compare_runs(paths, FLAGS.split)
    cli.make_output_dir("output", FLAGS.output)
    differences = differences_to_first(comparison, FLAGS.bootstrap, FLAGS.seed, "bootstrap")
    cooccurring = mean_cooccurring(comparison.labels)
    pictures = [
        _draw(number, comparison.label_names, difference, cooccurring)
        for number, difference in enumerate(differences, 2)
    ]
    page = report.blocks(comparison, differences, pictures)
    files = [picture.file for drawn in pictures for picture in drawn]
    written = [
        _write("table.md", render.as_markdown(page)),
        _write("table.html", render.as_html(page, {file: _read(file) for file in files})),
        _write("table.csv", report.table_csv(comparison)),
    ]
    if differences:
        text = report.differences_csv(comparison, differences, cooccurring)
        written.append(_write("differences.csv", text))
    print(render.as_text(page))
    print("\n".join(["", *written]))


def _draw(number, labels, difference, cooccurring):
    """Draws the charts of one row; returns them as Pictures."""
    from srn_tf.comparison import charts
    from srn_tf.comparison.differences import correlation
    from srn_tf.comparison.report import Picture
    from srn_tf.pictures import save_png

    correlated = correlation(cooccurring, difference.ap)
    figures = {
        "ap_difference": charts.draw_ap_differences(labels, difference, cooccurring),
        "cooccurrence": charts.draw_against_cooccurrence(labels, difference, cooccurring, correlated),
    }
    value = "not defined" if correlated is None else f"{correlated:+.2f}"
    texts = {
        "ap_difference": "Difference of each label's AP, and the mean number of other labels on its images.",
        "cooccurrence": "Difference of AP against the number of other labels (after Figure 7 of the SRN paper): "
        f"Pearson correlation {value}.",
    }
    for name, figure in figures.items():
        path = _path(f"{name}_{number}.png")
        save_png(figure, path)
    return [Picture(f"{name}_{number}.png", texts[name]) for name in figures]


def _path(name):
    return os.path.join(FLAGS.output, name)


def _read(name):
    with open(_path(name), "rb") as file:
        return file.read()


def _write(name, text):
    path = _path(name)
    with writing(path), open(path, "w", encoding="utf-8", newline="") as file:
        file.write(text)
    return path
