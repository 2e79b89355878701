"""Work folders of runs made by hand: four images, three labels, and scores whose metrics are known.

PERFECT has every metric at 100. WEAK, worked out by hand:
- disk: ranked b a c d, positive b a: AP 1; predicted b: P 1, R 1/2, F1 2/3.
- ring: ranked a c b d, positive c b: precisions 1/2 and 2/3, interpolated 2/3 and 2/3: AP 2/3; predicted a c b: P 2/3,
  R 1, F1 4/5.
- star: AP 1, F1 1.
So mAP = 8/9, F1-C = (2/3 + 4/5 + 1) / 3 = 37/45; over all pairs 4 right of 5 predicted and 5 true: F1-O = 4/5.
"""

import json

import numpy as np

from srn_tf.evaluation.predictions import SavedPredictions, save_predictions

IMAGES = ("a", "b", "c", "d")
LABELS = ("disk", "ring", "star")
TRUTH = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1]], np.int8)
PERFECT = (2.0 * TRUTH - 1).astype(np.float32)
WEAK = np.array([[-1, 3, -1], [1, 1, -1], [-2, 2, -1], [-3, -1, 1]], np.float32)


def write_run(
    folder,
    flags,
    scores=PERFECT,
    output="y_hat",
    final="y_hat",
    split="test",
    dataset="scenes",
    protocol="scenes",
    **saved,
):
    """Writes one run and returns its path as text.

    Args:
        folder: path, made.
        flags: flag -> value, for flags.txt.
        scores: (N, C), of the output named `output`; another output of zeros comes after it.
        final: name of the final output in run.json; None leaves it out.
        saved: `names`, `labels` or `label_names` in place of IMAGES, TRUTH and LABELS; `sizes`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "flags.txt").write_text("".join(f"--{flag}={value}\n" for flag, value in flags.items()))
    run = {"format": 3, "dataset": dataset, "protocol": protocol}
    run |= {"validation_is_train": False, "training_positives": [3, 2, 1], **({"final": final} if final else {})}
    (folder / "run.json").write_text(json.dumps(run))
    predictions = SavedPredictions(
        names=np.array(saved.get("names", IMAGES)),
        labels=np.asarray(saved.get("labels", TRUTH)),
        label_names=saved.get("label_names", LABELS),
        logits={output: scores, "y_other": np.zeros_like(scores)},
        sizes=saved.get("sizes"),
    )
    save_predictions(str(folder / "predictions" / f"{split}.npz"), predictions)
    return str(folder)
