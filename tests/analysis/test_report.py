"""The table, the record and the text say what was found."""

import csv
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest

from srn_tf.analysis import report
from srn_tf.analysis.regularizer import explain_responses
from srn_tf.analysis.responses import Responses
from tests.analysis.test_regularizer import by_hand


@pytest.fixture(scope="module")
def explanation():
    responses = by_hand()
    responses.neurons[:, 5] = 0.0
    names = np.array([f"{i}.png" for i in range(300)])
    dataset = SimpleNamespace(name="any", labels=("dog", "ball"), image_names=lambda split: names)
    return explain_responses(dataset, "test", responses, 30, neurons=[1])


def test_csv_has_every_correlation(explanation):
    rows = list(csv.DictReader(io.StringIO(report.correlations_csv(explanation))))
    assert len(rows) == 6 * 3 * 2  # neurons x (dog, ball, dog from ball) x axes
    keys = {(row["neuron"], row["place_of"], row["offset_from"], row["axis"]): row for row in rows}
    assert len(keys) == 36
    responses = explanation.responses
    row = keys["1", "ball", "", "horizontal"]
    expected = np.corrcoef(responses.neurons[:, 1], responses.places[:, 1, 1])[0, 1]
    assert float(row["r"]) == pytest.approx(expected, abs=1e-4) and row["r_place"] == "" and row["images"] == "300"
    assert keys["5", "dog", "", "vertical"]["r"] == ""  # never fires
    assert keys["0", "dog", "ball", "vertical"]["r_place"] != ""


def test_record(explanation):
    record = json.loads(json.dumps(report.to_record(explanation), allow_nan=False))
    assert (record["images"], record["neurons"], record["silent_neurons"]) == (300, 6, 1)
    assert "all 36 correlations" in record["definitions"]["by_chance"]
    best = record["offsets"]["strongest"][0]
    assert (best["neuron"], best["place_of"], best["offset_from"], best["axis"]) == (0, "dog", "ball", "vertical")
    assert best["r"] > best["by_chance"] > 0
    # Neuron 1 with the dog's place; neuron 0, which is told, with the dog's and the ball's, and with the offset, as is
    # neuron 1.
    counts = ("above_chance", "found_by_the_neuron", "correlations")
    assert [record["places"][name] for name in counts] == [3, 1, 24]
    assert [record["offsets"][name] for name in counts] == [2, 1, 12]
    (exciting,) = record["exciting_images"]
    top = np.argsort(-explanation.responses.neurons[:, 1])[:20]
    assert exciting["images"] == [f"{i}.png" for i in top] and exciting["common_labels"] == []


def test_text(explanation):
    text = report.summary_text(explanation)
    assert text.startswith("any test: 300 images, 6 neurons of conv4; places come from boxes")
    row = next(line.split() for line in text.splitlines() if " dog " in line and " ball " in line)
    assert row[:5] == ["0", "dog", "ball", "vertical", "300"]
    counts = "With places: 3 of 24 correlations are above chance, 1 of them found by the neuron itself"
    assert counts in text
    assert text.splitlines()[-1].split() == ["1", "none"]


def test_text_of_nothing_found():
    rng = np.random.default_rng(5)
    places = rng.random((50, 2, 2))
    responses = Responses(rng.random((50, 4)), rng.random((50, 4)), np.ones((50, 2), np.int8), places, False)
    dataset = SimpleNamespace(name="any", labels=("dog", "ball"))
    text = report.summary_text(explain_responses(dataset, "test", responses, 30))
    assert "the attention maps, as the data set has no boxes" in text
    assert "No neuron follows a place or an offset more than chance explains." in text
    assert text.endswith("No neuron's most exciting images have a label in common more than chance explains.")
    assert "lower --min_images" in report.summary_text(explain_responses(dataset, "test", responses, 51))
