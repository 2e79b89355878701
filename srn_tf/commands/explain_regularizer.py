"""Shows what the neurons of a trained regularizer respond to: the places of labels, and sets of labels.

python tools/explain_regularizer.py --work_dir=RUN --data_dir=DATA --split=test --output_dir=OUT [--neurons=12,40]

Writes OUT/regularizer.csv (the correlation of every neuron with the place of every label), regularizer.json,
locations.png (the strongest of them, as Figure 5 of the paper) and neurons.png (the images that excite a neuron most,
and the labels these have in common, as Figure 6). For runs of --model=srn and srn_att.
"""

import os

from absl import flags

from srn_tf.commands import cli
from srn_tf.errors import InputError
from srn_tf.files import writing

FLAGS = flags.FLAGS

LOCATIONS_OF_A_KIND = 2  # findings drawn: of places, and as many of offsets


def define_flags():
    flags.DEFINE_string("work_dir", None, "Work folder of a run.", required=True)
    flags.DEFINE_string("data_dir", None, "Folder of the run's data set, as in training.", required=True)
    flags.DEFINE_string("prepared_dir", "", "Where an official layout was prepared to. Default: <work_dir>/dataset.")
    flags.DEFINE_enum("split", "test", ("train", "validation", "test"), "Split whose images are shown.")
    flags.DEFINE_string("output_dir", None, "Folder for what is written.", required=True)
    flags.DEFINE_list("neurons", [], "Neurons to show with the images that excite them most. Default: chosen.")
    flags.DEFINE_integer("min_images", 30, "Labels whose place fewer images tell are left out.", lower_bound=10)


def main(_):
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
    """Draws what was found; returns the paths. A picture without a neuron to show is not made."""
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
