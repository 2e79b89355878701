"""A regularizer made by hand is understood, and what cannot be explained is refused."""

import functools
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from srn_tf.analysis import regularizer
from srn_tf.analysis.responses import Responses, read_responses
from srn_tf.errors import InputError
from tests.analysis import spots
from tests.baselines.run_folder import write_run


@functools.cache
def responses_of(with_boxes):
    """(Responses, cells of the spots); read once."""
    records, cells, _ = spots.spot_records(120, with_boxes)
    return read_responses(spots.build_model(), "A", records), cells


def explain(with_boxes, **changes):
    dataset = SimpleNamespace(name="any", labels=spots.LABELS)
    responses, cells = responses_of(with_boxes)
    return regularizer.explain_responses(dataset, "test", responses, **{"min_images": 30, **changes}), cells


@pytest.mark.parametrize("with_boxes", [True, False])
def test_the_neuron_that_reads_the_vertical_place_is_named(with_boxes):
    explanation, _ = explain(with_boxes)
    found = [
        (finding.target.name, finding.neuron, finding.axis)
        for finding in regularizer.clear_findings(explanation.places)
        if finding.target.name == "spot"
    ]
    assert sorted(found) == [("spot", 0, 0), ("spot", 1, 1)]  # and neither neuron 2, nor the other axis
    vertical = next(one for one in regularizer.clear_findings(explanation.places) if one.neuron == 0)
    assert vertical.r == pytest.approx(1.0, abs=1e-4)
    assert np.isnan(vertical.r_place)
    # "rare" stands on three images only.
    assert {one.target.name for one in explanation.places} == ({"spot"} if with_boxes else {"spot", "other"})


def by_hand(num_images=300):
    """Two labels; neuron 0 follows the first's offset from the second and is told, neuron 1 the first's own place."""
    rng = np.random.default_rng(0)
    places = rng.random((num_images, 2, 2))
    neurons = rng.random((num_images, 6))
    neurons[:, 0] += places[:, 0, 0] - places[:, 1, 0]
    neurons[:, 1] += places[:, 0, 0]
    channels = rng.random((num_images, 6))
    channels[:, 0] = neurons[:, 0]
    return Responses(neurons, channels, np.ones((num_images, 2), np.int8), places, True)


def test_an_offset_is_told_from_a_place():
    responses = by_hand()
    dataset = SimpleNamespace(name="any", labels=("dog", "ball"))
    explanation = regularizer.explain_responses(dataset, "test", responses, 30)
    (offset,) = explanation.offsets
    vertical, _ = regularizer.best_of_each(explanation.offsets)
    assert (vertical.neuron, vertical.axis, vertical.target.partner_name) == (0, 0, "ball")
    y_dog, y_ball = responses.places[..., 0].T
    for neuron in range(6):
        expected = np.corrcoef([responses.neurons[:, neuron], y_dog - y_ball, y_dog, responses.channels[:, neuron]])
        np.testing.assert_allclose(offset.r[neuron, 0], expected[0, 1], atol=1e-6)
        np.testing.assert_allclose(offset.r_place[neuron, 0], expected[0, 2], atol=1e-6)
        np.testing.assert_allclose(offset.r_blind[neuron, 0], expected[3, 1], atol=1e-6)
    assert vertical.r_blind == pytest.approx(vertical.r) and vertical.r > vertical.r_place > 0
    chosen = regularizer.distinct_findings(explanation.places, 5)
    assert [(finding.neuron, finding.target.name, finding.axis) for finding in chosen] == [
        (1, "dog", 0),
        (0, "ball", 0),
    ]
    assert chosen[1].r < 0


def test_neurons_that_are_asked_for():
    explanation, cells = explain(True, neurons=[1, 0])
    assert [one.neuron for one in explanation.excitations] == [1, 0]
    assert (cells[explanation.excitations[1].images, 0] >= 11).all()  # the lowest spots
    with pytest.raises(InputError, match=r"--neurons must name neurons that fire on .* test split. Received: 3, which"):
        explain(True, neurons=[0, 3])


@pytest.mark.parametrize(
    ("neurons", "split", "message"),
    [
        ([0, 32], "test", "--neurons must be numbers from 0 to 31, channels of conv4. Received: 32."),
        ([-1], "test", "Received: -1."),
        ([], "val", "split must be one of train, validation, test. Received: 'val'."),
    ],
)
def test_what_a_run_does_not_have(run, tiny_scenes_dir, neurons, split, message):
    with pytest.raises(InputError) as error:
        regularizer.explain_regularizer(str(run), tiny_scenes_dir, split, neurons=neurons)
    assert message in str(error.value)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, "srn")
    return folder


@pytest.mark.parametrize(
    ("changes", "reads"),
    [({}, "U"), ({"model": "srn_att"}, "A")],
)
def test_what_the_regularizer_of_a_run_reads(run, tiny_scenes_dir, tmp_path, monkeypatch, changes, reads):
    description = json.loads((run / "run.json").read_text())
    description["model"].update(changes)
    (tmp_path / "run.json").write_text(json.dumps(description))
    calls = []
    monkeypatch.setattr(regularizer, "load_model", lambda work, run: "the model")
    monkeypatch.setattr(regularizer, "read_responses", lambda *arguments, **_: calls.append(arguments[:2]) or by_hand())
    monkeypatch.setattr(regularizer, "explain_responses", lambda *arguments: arguments[1])
    assert regularizer.explain_regularizer(str(tmp_path), tiny_scenes_dir, "train") == "train"
    assert calls == [("the model", reads)]


def test_a_model_without_a_regularizer(run, tiny_scenes_dir, tmp_path):
    text = (run / "run.json").read_text().replace('"model": "srn"', '"model": "main_net"')
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(
        InputError, match=r"work_dir must be a run of --model=srn or srn_att, .* Received: .*, a run of main_net\."
    ):
        regularizer.explain_regularizer(str(tmp_path), tiny_scenes_dir, "test")


def test_an_untrained_run(run, tiny_scenes_dir, tmp_path):
    shutil.copyfile(run / "run.json", tmp_path / "run.json")
    with pytest.raises(InputError, match="which has no final weights"):
        regularizer.explain_regularizer(str(tmp_path), tiny_scenes_dir, "test")
