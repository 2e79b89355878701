"""What lies beside an exported model: export.json for programs, model_card.md for people."""

import dataclasses
import os
import platform

import keras
import tensorflow as tf
from tabulate import tabulate

import srn_tf
from srn_tf.evaluation.report import COLUMNS, kept_note, served_note
from srn_tf.files import write_json
from srn_tf.serving.quantization import int8_note
from srn_tf.serving.speed import speed_note

DESCRIPTION = "export.json"
MODEL_CARD = "model_card.md"


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a model comes from, as far as that is known; all values as JSON has them.

    Attributes:
        run: what the run was: "dataset", "protocol", "model", "stages", "seed", "code", "versions", as in run.json.
        flags: its flags, name -> value.
        metrics: its evaluation on the test split, as in metrics.json.
    """

    run: dict = dataclasses.field(default_factory=dict)
    flags: dict = dataclasses.field(default_factory=dict)
    metrics: dict = dataclasses.field(default_factory=dict)


def write_description(folder, description):
    """Writes export.json and model_card.md.

    Args:
        folder: of the SavedModel's assets.extra.
        description: dict of `describe`.
    """
    write_json(os.path.join(folder, DESCRIPTION), description)
    with open(os.path.join(folder, MODEL_CARD), "w", encoding="utf-8") as file:
        file.write(model_card(description))


def describe(model, labels, thresholds, made, signatures, checks, provenance):
    """Gathers what is to be known of an export.

    Args:
        model: MultiLabelModel.
        labels: C label names.
        thresholds: float64 (C,).
        made: how the export was made: "precision" and "weights", see `export.export`; "batch_norms", how many were
            "folded" into convolutions and how many were "kept"; where there are other engines, "speed", see
            `speed.measure_speed`; where one of them is in int8, "quantization", see `quantization.int8_note`.
        signatures: dict of `signatures.contract`.
        checks: file name ("" is the SavedModel) -> dict of its largest differences from the model in memory and their
            tolerances.
        provenance: Provenance.
    Returns:
        dict, ready for JSON.
    """
    run = {name: value for name, value in provenance.run.items() if name != "labels"}
    return {
        "labels": list(labels),
        "thresholds": thresholds.tolist(),
        "image_size": model.image_size,
        **made,
        "output": model.final,
        "maps": [dataclasses.asdict(a_map) for a_map in model.maps],
        "regions": [dataclasses.asdict(regions) for regions in model.regions],
        "signatures": signatures,
        "check": checks[""],
        "files": {name: check for name, check in checks.items() if name},
        "run": run,
        "flags": provenance.flags,
        "metrics": provenance.metrics,
        "versions": {
            "srn_tf": srn_tf.__version__,
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
    }


def model_card(description):
    """Renders a description as Markdown.

    Args:
        description: dict of `describe`.
    Returns:
        str, ends with a newline.
    """
    run, metrics = description["run"], description["metrics"]
    architecture = run.get("model", {})
    name = architecture.get("model", "Multi-label classifier")
    sections = [
        f"# {name}" + (f" on {run['dataset']}" if "dataset" in run else ""),
        f"Says of each of {len(description['labels'])} labels how probable it is in a photograph; any number of them "
        f"may be there at once. The answer is the sigmoid of `{description['output']}`, in {description['precision']}. "
        f"Images are resized to {description['image_size']}x{description['image_size']} pixels without keeping their "
        "aspect.",
        "## Trained and evaluated on",
        _origin(run, architecture, description["flags"]),
        "## Numbers",
        _numbers(metrics, description["output"]),
        "## Labels",
        _labels(description),
        *_engines(description),
        "## Limits",
        _limits(run, metrics),
        "## How to call it",
        _calls(description),
        "## How it was checked",
        _check(description),
    ]
    return "\n\n".join(sections) + "\n"


def _origin(run, architecture, flags):
    if not run:
        return "Not recorded: it was exported without its run."
    weights = flags.get("backbone_weights", "not recorded")
    rows = [
        ("data set", run.get("dataset", "not recorded")),
        ("architecture", ", ".join(f"{key}: {value}" for key, value in architecture.items())),
        ("main net's first weights", {"none": "random"}.get(weights, weights)),
        ("stages", ", ".join(run.get("stages", []))),
        ("seed", run.get("seed", "not recorded")),
        ("commit of the code", run.get("code", {}).get("commit", "not recorded")),
        ("trained with", ", ".join(f"{key} {value}" for key, value in run.get("versions", {}).items())),
    ]
    notes = [served_note(run)] if "final" in run else []
    notes += [kept_note(run["kept_weights"])] if "kept_weights" in run else []
    return _table(rows, ["", ""]) + f"\n\n{' '.join([*notes, 'All flags of the run are in export.json.'])}"


def _numbers(metrics, output):
    tables = metrics.get("outputs", {}).get(output)
    if tables is None:
        return "Not recorded: it was exported without an evaluation."
    rows = [
        (group, *(_percent(tables[group].get(column)) for column in COLUMNS))
        for group in ("all", "top3")
        if group in tables
    ]
    threshold = tables.get("threshold", 0.5)
    decided = "thresholds of their own" if isinstance(threshold, list) else f"{threshold:g}"
    return (
        f"{metrics['images']} images of the split {metrics['split']}, protocol {metrics['protocol']}, percent; "
        f"measured with the model in memory before the export, labels decided by {decided}.\n\n"
        f"{_table(rows, ['', *COLUMNS])}\n\n{_list(metrics['definition'])}"
    )


def _labels(description):
    labels, thresholds = description["labels"], description["thresholds"]
    precisions = description["metrics"].get("outputs", {}).get(description["output"], {}).get("AP")
    precisions = precisions or [None] * len(labels)
    rows = [
        (label.replace("|", "\\|"), _percent(precision), f"{threshold:.4g}")
        for label, precision, threshold in zip(labels, precisions, thresholds, strict=True)
    ]
    return (
        "Average precision on the images above, percent (- where there is none), and the probability above which a "
        f"label is predicted.\n\n{_table(rows, ['label', 'AP', 'threshold'])}"
    )


def _engines(description):
    """The section on engines beside TensorFlow, as a list of blocks; empty where there are none."""
    if "speed" not in description:
        return []
    blocks = ["## Engines", f"Measured when this was exported. {speed_note(description['speed'])}"]
    return blocks + [int8_note(description["quantization"])] if "quantization" in description else blocks


def _limits(run, metrics):
    tested = f"the split {metrics['split']} of {metrics['dataset']}" if metrics else "nothing that is recorded here"
    return "\n".join(
        [
            f"- It was evaluated on {tested} only. Photographs from elsewhere, drawings, other cameras, and images "
            "that were altered to mislead it have not been tested; nor has any group of people or places by itself.",
            "- It knows no label but those above, and says nothing about labels it does not know.",
            "- Image files are seen as a person sees them, EXIF orientation included. BMPs with a palette or "
            "compressed, GIFs with a transparent colour, and all kinds but JPEG, PNG, BMP and GIF are refused; "
            "`srn_tf.Predictor` reads them if it is given a path.",
            "- Probabilities are as the training left them; whether they are calibrated is told by the expected "
            "calibration error in export.json, if it is there.",
            "- Objects that are small in a photograph are smaller after resizing, and may be gone.",
        ]
    )


def _calls(description):
    rows = [
        (f"`{name}`", _values(signature["inputs"]), _values(signature["outputs"]))
        for name, signature in description["signatures"].items()
    ]
    return f"""{_table(rows, ["signature", "input", "outputs"])}

In a shape, `-` is any number. In Python, with this folder as FOLDER:

```python
import srn_tf

predictor = srn_tf.Predictor("FOLDER")
predictor.predict_labels(["photo.jpg"])
```

With TensorFlow Serving, with the folder of all versions as BASE:

```
docker run -p 8501:8501 -v "BASE:/models/srn" -e MODEL_NAME=srn tensorflow/serving
printf '{{"instances": [{{"b64": "%s"}}]}}' "$(base64 -w0 photo.jpg)" | curl -d @- http://localhost:8501/v1/models/srn:predict
```"""


def _check(description):
    made = description["batch_norms"]
    rows = [("SavedModel", description["check"]), *description["files"].items()]
    rows = [
        (name, key, f"{check['largest_difference'][key]:.1e}", f"{check['tolerance'][key]:g}")
        for name, check in rows
        for key in check["largest_difference"]
    ]
    return (
        "After it was written it was loaded again and compared with the model in memory, in float32, on images of odd "
        "kinds and sizes. Probabilities: the largest difference; other outputs: as a share of the largest value. What "
        "is allowed grows with the logits, as rounding does. "
        f"{made['folded']} BatchNorms are folded into convolutions, {made['kept']} are not.\n\n"
        f"{_table(rows, ['file', 'of', 'largest difference', 'allowed'])}"
    )


def _values(specs):
    """{"probabilities": {"dtype": "float32", "shape": [None, 80]}} -> `probabilities` float32 [-, 80]."""
    return ", ".join(
        f"`{name}` {spec['dtype']} [{', '.join('-' if size is None else str(size) for size in spec['shape'])}]"
        for name, spec in specs.items()
    )


def _percent(value):
    return "-" if value is None else f"{value:.2f}"


def _list(text):
    return "\n".join(f"- {line}" for line in text.splitlines())


def _table(rows, headers):
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
