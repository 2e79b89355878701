"""Query2Label: its published numbers of weights, its equations against NumPy, positions, and what permutations do."""

import math

import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.models import layers, token_layers
from srn_tf.models.query2label import Query2LabelSettings, build_decoder, build_encoder
from tests.models.small import small_model
from tests.models.transformer_reference import Reference, count
from tests.training import small

C, D = 5, 16
SETTINGS = {"q2l_width": D, "q2l_hidden": 24}


@pytest.fixture(scope="module")
def model():
    model = small_model("query2label", C, **SETTINGS)
    small.randomize(model)
    return model


@pytest.fixture(scope="module")
def last_map():
    return np.random.default_rng(0).uniform(0, 2, (2, 7, 7, 128)).astype(np.float32)


def answers(model, last_map):
    """(queries (B, C, D), attention (B, heads, C, N), logits (B, C)) of a last map, by the model's parts."""
    tokens = model.parts["encoder"](last_map)
    decoded = model.parts["decoder"]({"tokens": tokens, "queries": model.parts["queries"](last_map)})
    queries = decoded["queries"]
    return queries.numpy(), decoded["attention"].numpy(), model.parts["group_fc"](queries).numpy()


# F, C, settings -> weights of the head; the first two are those of the published models.
COUNTS = [
    pytest.param(2048, 80, {}, 151_406_672, marks=pytest.mark.slow),  # 600 megabytes
    pytest.param(2048, 20, {}, 151_160_852, marks=pytest.mark.slow),
    (2048, 80, {"q2l_width": 256, "q2l_hidden": 1024}, 2_935_376),
]


@pytest.mark.parametrize(("channels", "num_labels", "settings", "expected"), COUNTS)
def test_parameter_counts(channels, num_labels, settings, expected):
    """Of the head alone, as `build` puts it together."""
    settings = Query2LabelSettings(**settings)
    width = settings.q2l_width or channels
    queries, group_fc = layers.Vectors(num_labels, width), layers.GroupLinear(num_labels, 1, is_uniform=True)
    queries.build((None, channels))
    group_fc.build((None, num_labels, width))
    parts = (
        *(build_encoder((7, 7, channels), settings), queries),
        *(build_decoder((7, 7), width, num_labels, settings), group_fc),
    )
    assert sum(count(part.trainable_weights) for part in parts) == expected
    values = np.concatenate([weight.ravel() for weight in group_fc.get_weights()])
    assert 0.9 < np.abs(values).max() * math.sqrt(width) <= 1.0


def test_positions_by_hand():
    """Half a turn and a whole one; the second pair of channels goes round a hundred times as slowly."""
    np.testing.assert_allclose(
        token_layers.sine_positions(1, 2, 4), [[0, 1, 0, -1], [0, 1, 0, 1]], atol=1e-5
    )  # row 1 of 1, columns 1 and 2 of 2
    slow = [math.sin(math.pi / 100), math.cos(math.pi / 100)]
    np.testing.assert_allclose(token_layers.sine_positions(2, 2, 8)[0, :4], [0, -1, *slow], atol=1e-5)
    rows = token_layers.sine_positions(3, 2, 8).reshape(3, 2, 8)
    np.testing.assert_array_equal(rows[:, 0, :4], rows[:, 1, :4])
    np.testing.assert_array_equal(rows[0, :, 4:], rows[2, :, 4:])


def positions():
    """Those of a 7 by 7 grid and D channels, one number after the other."""
    table = np.zeros((49, D))
    for token in range(49):
        for axis, place in enumerate(divmod(token, 7)):
            for channel in range(D // 2):
                angle = (place + 1) / 7 * 2 * math.pi / 10_000 ** (channel // 2 * 2 / (D // 2))
                table[token, axis * D // 2 + channel] = math.cos(angle) if channel % 2 else math.sin(angle)
    return table


def test_encoder_and_decoder_equal_numpy(model, last_map):
    """The first layer of the decoder asks with the query alone, since it begins at zeros."""
    places, encoder, decoder = positions(), Reference(model.parts["encoder"], 4), Reference(model.parts["decoder"], 4)
    tokens = encoder.linear(np.float64(last_map).reshape(2, 49, 128), "enc_project")
    tokens, _ = encoder.attend(tokens, tokens + places, tokens + places, tokens, "enc", 1)
    tokens = encoder.feed_forward(tokens, "enc", 2)
    queries = np.float64(model.weights["queries/vectors"].numpy())
    t = np.zeros((2, C, D))
    for name in ("dec1", "dec2"):
        t, attention = decoder.attend(t, t + queries, tokens + places, tokens, name, 1)
        t = decoder.feed_forward(t, name, 2)
    t = decoder.norm(t, "dec_norm")
    kernel, bias = model.parts["group_fc"].get_weights()
    logits = np.einsum("bqd,qd->bq", t, kernel[..., 0]) + bias
    for value, expected in zip(answers(model, last_map), (t, attention, logits), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-4)


def test_outputs_and_map(model):
    image = small.random_batch(2)["image"]
    outputs = {name: value.numpy() for name, value in model.network(image).items()}
    _, attention, logits = answers(model, model.parts["trunk"](image)["c5"].numpy())
    np.testing.assert_allclose(outputs["y_q2l"], logits, rtol=1e-4, atol=1e-5)
    expected = attention.mean(axis=1).transpose(0, 2, 1).reshape(2, 7, 7, C)
    np.testing.assert_allclose(outputs["A"], expected, rtol=1e-4, atol=1e-6)
    assert [a_map.name for a_map in model.maps] == ["A"] and model.explanation == ("A", "y_q2l")
    plain = small_model("query2label", C, q2l_hidden=24)  # of the map's own width
    assert plain.weights["queries/vectors"].shape == (C, 128)
    assert not any("enc_project" in address for address in plain.weights)


def test_places_matter_by_their_positions_alone(model, last_map, monkeypatch):
    order = np.random.default_rng(1).permutation(49)
    shuffled = last_map.reshape(2, 49, 128)[:, order].reshape(2, 7, 7, 128)
    assert np.abs(answers(model, shuffled)[2] - answers(model, last_map)[2]).max() > 1e-2
    monkeypatch.setattr(token_layers, "sine_positions", lambda height, width, channels: np.zeros((49, D), np.float32))
    np.testing.assert_allclose(answers(model, shuffled)[2], answers(model, last_map)[2], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_queries_their_weights_and_biases_go_together(model, last_map):
    other = small_model("query2label", C, **SETTINGS)
    order = np.array([3, 0, 4, 1, 2])
    for address, weight in other.weights.items():
        value = model.weights[address].numpy()
        weight.assign(value[order] if address.startswith(("queries/", "group_fc/")) else value)
    np.testing.assert_allclose(answers(other, last_map)[2], answers(model, last_map)[2][:, order], rtol=1e-4, atol=1e-4)


def test_bad_settings():
    with pytest.raises(InputError, match="q2l_width must be a multiple of 4. Received: 18"):
        small_model("query2label", C, q2l_width=18)
