"""Shows what the neurons of a trained regularizer respond to: places of labels, and sets of labels.

python tools/explain_regularizer.py --work_dir=RUN --data_dir=DATA --split=test --output_dir=OUT [--neurons=12,40]

For runs of --model=srn and srn_att. Writes OUT/regularizer.csv (correlation of each neuron with the place of each
label), regularizer.json, locations.png (the strongest correlations, as in Figure 5 of the paper) and neurons.png (the
images that excite a neuron most, and the labels they have in common, as in Figure 6).
"""

import os

from absl import flags

from srn_tf.commands import cli
from srn_tf.errors import InputError
from srn_tf.files import writing

FLAGS = flags.FLAGS

LOCATIONS_OF_A_KIND = 2  # findings drawn: this many of places, and this many of offsets


def define_flags():
    """Defines the flags of this command line."""
    flags.DEFINE_string("work_dir", None, "Work folder of a run.", required=True)
    flags.DEFINE_string("data_dir", None, "Folder of the run's data set, as in training.", required=True)
    flags.DEFINE_string(
        "prepared_dir",
        "",
        "Folder of the prepared data if --data_dir is an official layout. Default: <work_dir>/dataset.",
    )
    flags.DEFINE_enum("split", "test", ("train", "validation", "test"), "Split whose images are shown.")
    flags.DEFINE_string("output_dir", None, "Folder for tables and pictures.", required=True)
    flags.DEFINE_list(
        "neurons",
        [],
        "Numbers of the neurons shown with the images that excite them most. Default: chosen automatically.",
    )
    flags.DEFINE_integer(
        "min_images",
        30,
        "Minimum images that show the place of a label; labels with fewer are left out.",
        lower_bound=10,
    )


def main(_):
    """Correlates, writes the findings and prints a summary."""
    neurons = _neurons()
    cli.make_output_dir("output_dir", FLAGS.output_dir)
    from srn_tf.analysis.regularizer import explain_regularizer
    from srn_tf.analysis.report import correlations_csv, summary_text, to_record
    from srn_tf.files import write_json

    explanation = explain_regularizer(
        FLAGS.work_dir, FLAGS.data_dir, FLAGS.split, FLAGS.prepared_dir, FLAGS.min_images, neurons
    )
    paths = {name: os.path.join(FLAGS.output_dir, name) for name in ("regularizer.csv", "regularizer.json")}
    with writing(paths["regularizer.csv"]), open(paths["regularizer.csv"], "w", encoding="utf-8") as file:
        file.write(correlations_csv(explanation))
    write_json(paths["regularizer.json"], to_record(explanation))
    print(summary_text(explanation))
    print("\n".join([*paths.values(), *_draw(explanation)]))


def _neurons():
    try:
        return [int(text) for text in FLAGS.neurons]
    except ValueError:
        raise InputError(
            f"--neurons must be whole numbers separated by commas. Received: {','.join(FLAGS.neurons)!r}."
        ) from None


def _draw(explanation):
    """Draws the findings; returns the paths. Makes no picture that would show no neuron."""
    from srn_tf.analysis.regularizer import distinct_findings
    from srn_tf.pictures import save_pngs
    from srn_tf.visualization import regularizer
    from srn_tf.visualization.regularizer_images import read_shown

    responses, excitations = explanation.responses, explanation.excitations
    findings = [
        finding
        for group in (explanation.places, explanation.offsets)
        for finding in distinct_findings(group, LOCATIONS_OF_A_KIND)
    ]
    positions = regularizer.example_images(findings, responses) + regularizer.exciting_images(excitations)
    shown = read_shown(explanation.dataset.records(explanation.split), positions)
    figures = {}
    if findings:
        figures["locations"] = regularizer.draw_locations(findings, responses, shown)
    if excitations:
        figures["neurons"] = regularizer.draw_excitations(excitations, explanation.dataset.labels, shown)
    return save_pngs(figures, FLAGS.output_dir)
