"""Charts of benchmarks/training.py; `srn_tf.pictures.save_png` writes a figure to a file."""

import numpy as np
from matplotlib.figure import Figure

_DPI = 100
_COLOURS = ("#0072b2", "#e69f00", "#56b4e9", "#f0e442")  # Okabe and Ito: distinct to colour-blind people too
_GRID = {"color": "#dddddd", "linewidth": 0.6}
_AXES = {
    "labels": "labels",
    "side_px": "side of the image, pixels",
    "batch": "images a batch",
    "devices": "logical devices",
}


def draw_stages(rows, reference):
    """Draws the time of each stage's step: a group of bars a stage, a bar an engine; the trunk's forward is a line.

    Args:
        rows: list of dicts, "stages" of training.json.
        reference: name of the engine that the numbers at the bars are ratios to.
    Returns:
        matplotlib Figure.
    """
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    figure = Figure(figsize=(9, 4.6), dpi=_DPI, layout="constrained")
    panel = figure.subplots()
    width = 0.84 / len(engines)
    for place, (engine, colour) in enumerate(zip(engines, _COLOURS, strict=False)):
        own = [row for row in rows if row["engine"] == engine]
        x = np.arange(len(stages)) + (place - (len(engines) - 1) / 2) * width
        versions = dict.fromkeys(row["version"] for row in own)
        panel.bar(x, [row["step_s"] for row in own], 0.94 * width, color=colour, label=", ".join(versions))
        for left, row in zip(x, own, strict=True):
            panel.text(left, row["step_s"], f"{row['times_reference']:.2f}", ha="center", va="bottom", fontsize=8)
            if row["times_trunk"]:
                trunk_s = row["step_s"] / row["times_trunk"]
                label = "the trunk's forward pass alone" if (row["stage"], place) == ("att", 0) else None
                panel.hlines(trunk_s, left - 0.47 * width, left + 0.47 * width, color="black", linewidth=2, label=label)
    panel.set_xticks(np.arange(len(stages)), [f"stage {stage}" for stage in stages])
    panel.set_ylabel("seconds a step")
    panel.set_title(f"Numbers: how many times as fast as {reference}", fontsize=10)
    panel.legend(fontsize=9, frameon=False)
    _plain(panel)
    return figure


def draw_costs(rows, base):
    """Draws time and memory of a step against each of the settings, the others as in the base.

    Args:
        rows: list of dicts, "costs" of training.json.
        base: setting -> value.
    Returns:
        matplotlib Figure.
    """
    figure = Figure(figsize=(12, 5.6), dpi=_DPI, layout="constrained")
    panels = figure.subplots(2, len(base), sharex="col", sharey="row")
    for (of_time, of_memory), (name, value) in zip(panels.T, base.items(), strict=True):
        others = {other: base[other] for other in base if other != name}
        own = sorted(
            (row for row in rows if all(row[other] == kept for other, kept in others.items())),
            key=lambda row: row[name],
        )
        places = [row[name] for row in own]
        for panel, heights in (
            (of_time, [row["step_s"] for row in own]),
            (of_memory, [row["memory_bytes"] / 1e9 for row in own]),
        ):
            panel.plot(places, heights, marker="o", color=_COLOURS[0])
            panel.plot(value, heights[places.index(value)], marker="o", markersize=9, color=_COLOURS[1])
            if name == "labels":
                panel.set_xscale("log")
            panel.set_xticks(places, [f"{place:,}" for place in places])
            panel.minorticks_off()
            panel.margins(x=0.12)
            _plain(panel)
        of_memory.set_xlabel(_AXES[name])
    panels[0, 0].set_ylim(0, 1.08 * max(row["step_s"] for row in rows))  # of all, which share it
    panels[1, 0].set_ylim(0, 1.08 * max(row["memory_bytes"] for row in rows) / 1e9)
    panels[0, 0].set_ylabel("seconds a step")
    panels[1, 0].set_ylabel("most memory of the process, GB")
    figure.suptitle("A step of the last stage; orange is the same in all: what the other settings are", fontsize=10)
    return figure


def _plain(panel):
    """No frame but the axes, and the grid behind what is drawn."""
    panel.grid(axis="y", **_GRID)
    panel.spines[["top", "right"]].set_visible(False)
    panel.set_axisbelow(True)
