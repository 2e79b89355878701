"""Calibration: do labels given with probability p turn out true p of the time?"""

import numpy as np

NUM_BINS = 15


class Reliability:
    """Sorts pairs of image and label into 15 equal bins of probability and compares each bin with the truth.

    Bin i, from 0, holds probabilities above i / 15 up to and with (i + 1) / 15, the first also 0. The expected
    calibration error is the mean over pairs of |confidence - frequency| of their bin.

    Source: Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015, and Guo et al., On
    Calibration of Modern Neural Networks, ICML 2017, Eq. (3). Differs from Guo et al.: not the confidence in the one
    predicted class but the probability of every label, because labels are decided one by one.
    """

    def __init__(self):
        self._sums = np.zeros(NUM_BINS)  # of probability
        self._counts = np.zeros(2 * NUM_BINS, dtype=np.int64)  # pairs that are not true, then those that are

    def update(self, probabilities, positives):
        """Adds pairs.

        Args:
            probabilities: float (K,), in [0, 1].
            positives: bool (K,), whether the label is true.
        """
        bins = np.maximum(np.ceil(probabilities * NUM_BINS) - 1, 0).astype(np.intp)
        self._sums += np.bincount(bins, probabilities, minlength=NUM_BINS)
        self._counts += np.bincount(bins + NUM_BINS * positives, minlength=2 * NUM_BINS)

    def result(self):
        """What was added.

        Returns:
            dict, ready for JSON: "ece": percent, None if nothing was added; "bins": 15 dicts of "count" (pairs),
            "confidence" (mean probability, percent) and "frequency" (share of true pairs, percent), None where empty.
        """
        true_counts = self._counts[NUM_BINS:]
        counts = self._counts[:NUM_BINS] + true_counts
        total = int(counts.sum())
        return {
            "ece": float(100 * np.abs(self._sums - true_counts).sum() / total) if total else None,
            "bins": [
                {
                    "count": int(count),
                    "confidence": float(100 * p_sum / count) if count else None,
                    "frequency": float(100 * true_count / count) if count else None,
                }
                for count, p_sum, true_count in zip(counts, self._sums, true_counts, strict=True)
            ],
        }


def draw_reliability(calibration, title=""):
    """Draws the reliability diagram, and below it how many pairs each bin holds.

    Args:
        calibration: dict as `Reliability.result` returns it.
        title: str above the diagram.
    Returns:
        matplotlib Figure; `pictures.save_png` writes it to a file.
    """
    from matplotlib.figure import Figure  # here: it takes a third of a second to load

    bins = calibration["bins"]
    left = 100 * np.arange(len(bins)) / len(bins)
    width = 100 / len(bins)
    figure = Figure(figsize=(4.2, 5.2), dpi=100, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    frequencies = [bin["frequency"] or 0.0 for bin in bins]
    upper.bar(left, frequencies, width, align="edge", color="#7fb8d8", edgecolor="white", label="true")
    filled = [bin for bin in bins if bin["count"]]
    upper.plot(
        [bin["confidence"] for bin in filled],
        [bin["frequency"] for bin in filled],
        "o",
        color="#e69f00",
        markersize=4,
        label="at the bin's mean probability",
    )
    upper.plot([0, 100], [0, 100], "--", color="#555555", linewidth=1, label="perfect calibration")
    ece = calibration["ece"]
    upper.set_title(f"{title}\nECE {ece:.2f} %".strip() if filled else f"{title}\nno pairs".strip(), fontsize=10)
    upper.set_ylabel("true, percent of the bin", fontsize=8)
    upper.set_ylim(0, 100)
    figure.legend(fontsize=7, loc="outside lower center", ncols=3, frameon=False)
    lower.bar(left, [bin["count"] for bin in bins], width, align="edge", color="#b8b8b8", edgecolor="white")
    lower.set_yscale("log" if filled else "linear")
    lower.set_ylabel("pairs", fontsize=8)
    lower.set_xlabel("probability of a label, percent", fontsize=8)
    lower.set_xlim(0, 100)
    for panel in (upper, lower):
        panel.tick_params(labelsize=8)
    return figure
