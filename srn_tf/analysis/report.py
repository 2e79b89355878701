"""Findings about a regularizer: as a table of all correlations, as a record for JSON, and as text."""

import csv
import io

import numpy as np
from tabulate import tabulate

from srn_tf.analysis import correlation
from srn_tf.analysis.excitation import TOP_IMAGES
from srn_tf.analysis.regularizer import Finding, best_of_each, clear_findings, distinct_findings
from srn_tf.analysis.targets import AXES

_HEADERS = ("neuron", "place_of", "offset_from", "axis", "images", "r", "by_chance", "r_blind", "r_place")
_LISTED = 20  # findings in the record
_PRINTED = 6
_COMMON_PRINTED = 4


def correlations_csv(explanation):
    """Every correlation as CSV, a row for each neuron x target x axis; empty cells where r is not defined.

    Args:
        explanation: regularizer.Explanation.
    Returns:
        str; the columns are those of `to_record`'s findings.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADERS)
    for one in explanation.places + explanation.offsets:
        for neuron in range(len(one.r)):
            writer.writerows(_row(Finding(one, neuron, axis)) for axis in range(len(AXES)))
    return text.getvalue()


def to_record(explanation):
    """What was found, ready for JSON, with the definitions of its numbers.

    Args:
        explanation: regularizer.Explanation.
    Returns:
        dict.
    """
    responses, dataset = explanation.responses, explanation.dataset
    names = dataset.image_names(explanation.split)
    num_neurons, num_targets = responses.neurons.shape[1], len(explanation.places + explanation.offsets)
    return {
        "dataset": dataset.name,
        "split": explanation.split,
        "images": len(responses.labels),
        "neurons": num_neurons,
        "silent_neurons": int((responses.neurons.max(axis=0) <= 0).sum()),
        "definitions": {
            "r": "Pearson correlation, over the images that have the place, of the output of conv4 behind its ReLU",
            "place": "mean centre of the label's boxes" if responses.has_boxes else "centre of mass of the attention",
            "axis": "vertical: 0 top, 1 bottom; horizontal: 0 left, 1 right; an offset is positive down and right",
            "by_chance": f"{correlation.LEVEL:.0%} of {correlation.PERMUTATIONS} permutations have no |r| above it "
            f"among all {len(AXES) * num_neurons * num_targets} correlations",
            "r_blind": "the same with the mean over the grid of the conv3 channel that the neuron reads",
            "r_place": "where r is with an offset: the same with the place itself",
            "found_by_the_neuron": "above chance, while r_blind is not",
        },
        "places": _group(explanation.places),
        "offsets": _group(explanation.offsets),
        "exciting_images": [
            {
                "neuron": one.neuron,
                "images": names[one.images].tolist(),
                "responses": [round(float(response), 4) for response in one.responses],
                "common_labels": [
                    {"label": dataset.labels[label.label], "images": label.count, "lift": label.lift, "p": label.p}
                    for label in one.common
                ],
            }
            for one in explanation.excitations
        ],
    }


def summary_text(explanation):
    """The result as text: what was measured, the strongest findings, and the labels that neurons like.

    Args:
        explanation: regularizer.Explanation.
    Returns:
        str, without a trailing newline.
    """
    responses, labels = explanation.responses, explanation.dataset.labels
    num_images, num_neurons = responses.neurons.shape
    source = "boxes" if responses.has_boxes else "the attention maps, as the data set has no boxes"
    blocks = [
        f"{explanation.dataset.name} {explanation.split}: {num_images} images, {num_neurons} neurons of conv4; "
        f"places come from {source}"
    ]
    groups = (explanation.places, explanation.offsets)
    findings = [finding for group in groups for finding in distinct_findings(group, _PRINTED)]
    if findings:
        blocks.append(tabulate([_row(finding) for finding in findings], _HEADERS, floatfmt=".2f", missingval="-"))
        blocks.append(
            "by_chance: the value that |r| must exceed to mean something among so many correlations.\n"
            "r_blind: r of the mean of the channel that the neuron reads, which knows no places; if it is as high as\n"
            "r, an earlier layer already knew the place. r_place: r with the place itself."
        )
        blocks.append("\n".join(_count_line(*group) for group in zip(("places", "offsets"), groups)))
    elif explanation.places:
        blocks.append("No neuron follows a place or an offset more than chance explains.")
    else:
        blocks.append("No label has its place on enough images; lower --min_images.")
    rows = [[one.neuron, _common_labels(one, labels)] for one in explanation.excitations]
    if rows:
        blocks.append(
            tabulate(
                rows,
                ["neuron", f"common labels of its {TOP_IMAGES} most exciting images (x: times the split)"],
            )
        )
    else:
        blocks.append("No neuron's most exciting images have a label in common more than chance explains.")
    return "\n\n".join(blocks)


def _count_line(name, correlations):
    group = _group(correlations)
    return (
        f"With {name}: {group['above_chance']} of {group['correlations']} correlations are above chance, "
        f"{group['found_by_the_neuron']} of them found by the neuron itself (r_blind is not above chance)."
    )


def _common_labels(excitation, labels):
    names = [f"{labels[label.label]} {label.count} ({label.lift:.1f}x)" for label in excitation.common]
    return ", ".join(names[:_COMMON_PRINTED]) or "none"


def _group(correlations):
    """What a record says of the places, or of the offsets."""
    clear = clear_findings(correlations)
    return {
        "correlations": len(AXES) * sum(len(one.r) for one in correlations),
        "above_chance": len(clear),
        "found_by_the_neuron": sum(finding.is_own for finding in clear),
        "strongest": [_as_dict(finding) for finding in clear[:_LISTED]],
        "best_of_each": [_as_dict(finding) for finding in best_of_each(correlations)],
    }


def _as_dict(finding):
    return dict(zip(_HEADERS, _row(finding), strict=True))


def _row(finding):
    """Values of `_HEADERS`, None where there is none."""
    target = finding.target
    names = (finding.neuron, target.name, target.partner_name, AXES[finding.axis], len(target.images))
    numbers = (finding.r, finding.correlations.by_chance, finding.r_blind, finding.r_place)
    return (*names, *(None if np.isnan(number) else round(number, 4) for number in numbers))
