import numpy as np

from srn_tf.evaluation import protocols, report

LABELS = ["dog", "cat", "007", "umbrella"]


def _metrics(protocol, outputs=("y_hat", "y_cls", "y_att", "y_sr")):
    """Metrics of four random outputs; the label "007" has no positives."""
    rng = np.random.default_rng(0)
    labels = 2 * rng.integers(0, 2, (20, 4)) - 1
    labels[:, 2] = -1
    return {
        "dataset": "scenes",
        "split": "test",
        "images": 20,
        "labels": LABELS,
        "protocol": protocol.name,
        "definition": protocol.definition,
        "outputs": {
            name: protocols.evaluate(rng.normal(size=labels.shape), labels, protocol, LABELS) for name in outputs
        },
    }


def _rows(text, name):
    """The cells of each line that starts with `name`."""
    return [line.split()[1:] for line in text.splitlines() if line.split()[:1] == [name]]


def _row(text, name):
    """The cells of the first such line."""
    return _rows(text, name)[0]


def test_summary_table_contains_the_numbers():
    metrics = _metrics(protocols.COCO)
    text = report.summary_table(metrics)
    for name, output in metrics["outputs"].items():
        tables = [[f"{output[table][column]:.2f}" for column in report.COLUMNS] for table in ("all", "top3")]
        assert _rows(text, name)[:2] == tables
    assert text.splitlines()[0] == "scenes test: 20 images, 4 labels, protocol coco, percent"
    in_one_line = " ".join(text.split())
    assert f"{' '.join(metrics['definition'].split())} Threshold: 0.5." in in_one_line
    assert "mAP covers 3 labels. Labels without positives are left out: 007." in in_one_line
    assert max(map(len, text.splitlines())) <= 100
    rows = [line.split()[0] for line in text.splitlines() if line.startswith("y_")]
    assert rows == ["y_hat", "y_cls", "y_att", "y_sr"] * 3
    for name, output in metrics["outputs"].items():
        further = [*output["mAP_by_definition"].values(), output["calibration"]["ece"]]
        assert _rows(text, name)[2] == [f"{value:.2f}" for value in further]


def test_short_summary_says_it_in_words():
    labels = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    scores = np.where(np.array([[1, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]), 2.0, -2.0)
    output = protocols.evaluate(scores, labels, protocols.COCO, LABELS)
    metrics = {"split": "test", "images": 4, "labels": LABELS, "outputs": {"y_hat": output}}
    text = " ".join(report.short_summary(metrics).split())
    # Predicted: three, of which two are right. There: five. Of the labels two are never predicted.
    assert f"4 test images, 4 labels: mAP {output['all']['mAP']:.2f} percent." in text
    assert (
        "Of the labels that y_hat predicts, 66.67 percent are right; of the labels that are there, it finds 40.00"
        in text
    )
    assert "few images" in text and "2 of the labels are never predicted" in text
    assert "where they count 0, y_hat has 25.00." in text and "mAP leaves out" not in text
    assert "few images" not in report.short_summary(metrics | {"images": 100})
    assert "scores inside it" not in text
    two = report.short_summary(metrics | {"outputs": {"y_hat": output, "y_cls": output}})
    assert "y_hat is the answer of the model, the other rows are scores inside it." in two
    output["all_plain"] = output["all"]
    output["labels_without_positives"] = ["007"]
    text = report.short_summary(metrics)
    assert "never predicted" not in text and "mAP leaves out 1 of the labels" in text


def test_summary_table_without_top3_and_with_one_output():
    metrics = _metrics(protocols.WIDER_ATTRIBUTE, outputs=["y_cls"])
    text = report.summary_table(metrics)
    assert "y_hat" not in text
    assert _row(text, "y_cls") == [f"{metrics['outputs']['y_cls']['all'][column]:.2f}" for column in report.COLUMNS]


def test_outputs_by_other_names_have_rows_too():
    text = report.summary_table(_metrics(protocols.COCO, outputs=["a_last", "y_cls"]))
    assert len(_rows(text, "a_last")) == len(_rows(text, "y_cls")) == 3


def test_ranking_and_thresholds_are_reported():
    metrics = _metrics(protocols.COCO, outputs=["y_hat"])
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, (20, 4))
    output = protocols.evaluate(
        rng.normal(size=(20, 4)), labels, protocols.COCO, ranking=True, thresholds=[0.5, 0.4, 0.5, 0.6]
    )
    metrics["outputs"]["y_hat"] = output
    text = report.summary_table(metrics)
    values = [value for value in output["ranking"].values() if isinstance(value, float)]
    assert _rows(text, "y_hat")[-1] == [f"{value:.2f}" for value in values]
    assert "LRAP" in text and "LRAP" not in report.summary_table(_metrics(protocols.COCO))
    assert "Threshold: one per label." in " ".join(text.split())
    assert "Ranking: Unspecified entries count as negative" in text


def test_what_mars_the_numbers_is_said():
    metrics = _metrics(protocols.COCO, outputs=["y_hat", "y_cls"])
    assert "Images with equal scores" not in report.summary_table(metrics)
    labels = np.array([[1, 1], [0, 1], [0, 1]])
    for name, scores in (("y_hat", [[1, 1], [2, 2], [3, 3]]), ("y_cls", [[1, 1], [1, 2], [1, 3]])):
        metrics["outputs"][name] = protocols.evaluate(np.array(scores), labels, protocols.COCO, ["dog", "cat"])
    metrics["other_data"] = {"data_dir": "OTHER", "predictions": "RUN/p.npz"}
    metrics["kept_weights"] = {"cls": "average", "sr": "plain"}
    text = " ".join(report.summary_table(metrics).split())
    assert "in OTHER is not the one the model was trained on. Its predictions are kept apart: RUN/p.npz." in text
    assert "Weights kept of each stage: cls average, sr plain." in text
    assert "Labels without negatives have AP 100 whatever the scores: cat." in text
    assert "y_cls: AP says nothing about these labels, because their score is the same for every image: dog." in text
    assert "y_cls: Images with equal scores are ranked in their stored order" in text
    assert "mAP would be between 66.67 and 100.00." in text and "y_hat: " not in text


def test_sizes_are_reported():
    metrics = _metrics(protocols.COCO, outputs=["y_hat"])
    counts = {"small": 2, "medium": 0, "large": 3}
    metrics["outputs"]["y_hat"] |= {
        "mAP_by_size": {"small": 12.345, "medium": None, "large": 50.0},
        "sizes": {"labels": counts, "pairs": counts, "note": "NOTE."},
    }
    text = report.summary_table(metrics)
    assert _rows(text, "y_hat")[-1][-3:] == ["12.35", "-", "50.00"]
    assert "mAP by size: NOTE. Over: small 2 labels, 2 pairs; medium 0" in " ".join(text.split())


def test_frequencies_are_reported():
    metrics = _metrics(protocols.COCO, outputs=["y_hat"])
    images = {"head": [5, 1200], "middle": [2, 4], "tail": None}
    metrics["outputs"]["y_hat"] |= {
        "mAP_by_frequency": {"head": 12.345, "middle": 50.0, "tail": None},
        "frequency": {"labels": {"head": 2, "middle": 1, "tail": 0}, "training_images": images},
    }
    text = report.summary_table(metrics)
    assert _rows(text, "y_hat")[-1] == ["12.35", "50.00", "-"]
    assert "covers: head 2 labels, 5 to 1,200 training images each; middle 1" in " ".join(text.split())


def test_summary_table_without_map():
    metrics = _metrics(protocols.NUS_WIDE, outputs=["y_hat"])
    metrics["outputs"]["y_hat"] = protocols.evaluate(np.zeros((20, 4)), np.zeros((20, 4)), protocols.NUS_WIDE)
    assert _row(report.summary_table(metrics), "y_hat")[0] == "-"


def test_score_table():
    """A score file's result has its tables under their own names, a row each."""
    rng = np.random.default_rng(0)
    labels = 2 * rng.integers(0, 2, (20, 4)) - 1
    labels[:, 2] = -1
    evaluated = protocols.evaluate(rng.normal(size=labels.shape), labels, protocols.WIDER_ATTRIBUTE, top_k=2)
    result = {"protocol": "p", "definition": "All of it.", "images": 20, "labels": 4, **evaluated}
    result |= {"scores_are": "probabilities", "matched_by": "name"}
    result["wider"], result["wider_plain"] = result.pop("all"), result.pop("all_plain")
    text = report.score_table(result, "J.json")
    assert text.splitlines()[:2] == [
        "20 images, 4 labels, protocol p, percent",
        "Scores are probabilities. Scores and truth are matched by the names of images and labels.",
    ]
    for name in ("wider", "wider_plain", "top_k", "top_k_plain"):
        assert _rows(text, name) == [[f"{result[name][column]:.2f}" for column in report.COLUMNS]]
    assert text.splitlines()[-4:] == [
        "All of it.",
        "Threshold: 0.5.",
        "mAP covers 3 labels. Labels without positives are left out: 2.",
        "J.json",
    ]


def test_per_label_table_contains_the_numbers():
    metrics = _metrics(protocols.COCO)
    text = report.per_label_table(metrics)
    assert _row(text, "007") == ["-", "-", "-", "-"]
    for label in (0, 1, 3):
        expected = [f"{output['AP'][label]:.2f}" for output in metrics["outputs"].values()]
        assert _row(text, LABELS[label]) == expected


def test_pointing_game_is_reported():
    metrics = _metrics(protocols.COCO, outputs=["y_hat"])
    none = {"hits": 0, "pairs": 0, "accuracy": None, "chance": None}
    one = {"hits": 3, "pairs": 4, "accuracy": 75.0, "chance": 12.5}
    metrics["pointing"] = {"A": {**one, "per_label": [one, none, none, none]}}
    assert "Pointing game, map A: accuracy 75.00, chance 12.50 (3 of 4 pairs)." in report.summary_table(metrics)
    text = report.per_label_table(metrics)
    assert _row(text, "dog")[1:] == ["75.00", "4"]
    assert _row(text, "cat")[1:] == ["-", "0"]
