"""ML-Decoder: parameter counts of the published models, its equations against NumPy, and what permutations do."""

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.errors import InputError
from srn_tf.models import layers
from srn_tf.models.ml_decoder import MLDecoderSettings, build_decoder
from tests.models.small import small_model
from tests.models.transformer_reference import Reference, count
from tests.training import small

C, D = 5, 16
SETTINGS = {"decoder_width": D, "decoder_hidden": 24}


@pytest.fixture(scope="module")
def model():
    model = small_model("ml_decoder", C, **SETTINGS)
    small.randomize(model)
    return model


@pytest.fixture(scope="module")
def last_map():
    return np.random.default_rng(0).uniform(0, 2, (2, 7, 7, 128)).astype(np.float32)


def decoded(model, last_map):
    """(queries (B, Q, D), attention (B, heads, Q, N), logits (B, C)) of a last map, by the model's parts."""
    last_map = tf.constant(last_map)
    outputs = model.parts["decoder"]({"last_map": last_map, "queries": model.parts["queries"](last_map)})
    queries = outputs["queries"].numpy()
    return queries, outputs["attention"].numpy(), model.parts["group_fc"](queries).numpy()


# F, C, groups -> trainable weights, frozen ones of the queries.
PUBLISHED = [
    *(
        pytest.param(*values, marks=pytest.mark.slow)
        for values in (
            (2048, 80, 0, 7_150_672, 61_440),
            (2048, 20, 0, 7_104_532, 15_360),
            (2048, 81, 0, 7_151_441, 62_208),
            (2048, 14, 0, 7_099_918, 10_752),
            (2048, 1000, 0, 7_858_152, 76_800),
        )
    ),
    (2048, 9605, 200, 14_625_157, 153_600),
]


@pytest.mark.parametrize(("channels", "num_labels", "groups", "trainable", "frozen"), PUBLISHED)
def test_parameter_counts_of_the_published_models(channels, num_labels, groups, trainable, frozen):
    """Of the head alone, as `build` puts it together."""
    num_queries = min(groups or 100, num_labels)
    group = int(num_labels / num_queries + 0.999)
    queries = layers.Vectors(num_queries, 768, is_learned=False)
    queries.build((None, channels))
    decoder = build_decoder((7, 7, channels), num_queries, MLDecoderSettings())
    group_fc = layers.GroupLinear(num_labels, group)
    group_fc.build((None, num_queries, 768))

    assert count(decoder.trainable_weights + group_fc.trainable_weights + queries.trainable_weights) == trainable
    assert count(queries.non_trainable_weights) == frozen
    assert group_fc(tf.zeros([1, num_queries, 768])).shape == (1, num_labels)


def test_the_decoder_equals_numpy(model, last_map):
    decoder = Reference(model.parts["decoder"], 8)
    tokens = np.maximum(decoder.linear(np.float64(last_map).reshape(2, 49, 128), "dec_embed"), 0.0)
    queries = np.float64(model.weights["queries/vectors"].numpy())
    t = decoder.norm(2.0 * np.stack([queries] * 2), "dec_norm1")
    t, attention = decoder.attend(t, t, tokens, tokens, "dec", 2)
    t = decoder.feed_forward(t, "dec", 3)
    kernel, bias = (weight.numpy() for weight in model.parts["group_fc"].weights)
    logits = np.einsum("bqd,qd->bq", t, kernel[..., 0]) + bias
    received = decoded(model, last_map)
    for value, expected in zip(received, (t, attention, logits), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-4)


def test_outputs_and_map(model):
    image = small.random_batch(2)["image"]
    outputs = {name: value.numpy() for name, value in model.network(image).items()}
    _, attention, logits = decoded(model, model.parts["trunk"](image)["c5"].numpy())
    np.testing.assert_allclose(outputs["y_dec"], logits, rtol=1e-4, atol=1e-5)
    expected = attention.mean(axis=1).transpose(0, 2, 1).reshape(2, 7, 7, C)
    np.testing.assert_allclose(outputs["A"], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(outputs["A"].sum(axis=(1, 2)), 1.0, rtol=1e-5)
    assert [a_map.name for a_map in model.maps] == ["A"] and model.explanation == ("A", "y_dec")


def test_places_do_not_matter(model, last_map):
    """No positions: tokens may change places, or all stand there twice; and equal tokens give what one gives."""
    logits = decoded(model, last_map)[2]
    order = np.random.default_rng(1).permutation(49)
    shuffled = last_map.reshape(2, 49, 128)[:, order].reshape(2, 7, 7, 128)
    np.testing.assert_allclose(decoded(model, shuffled)[2], logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        decoded(model, np.broadcast_to(last_map[:, :1, :1], last_map.shape))[1], 1 / 49, rtol=1e-4
    )
    wide = build_decoder((14, 7, 128), C, MLDecoderSettings(**SETTINGS))
    wide.set_weights(model.parts["decoder"].get_weights())
    twice = wide({"last_map": tf.concat([last_map, last_map], axis=1), "queries": model.parts["queries"](last_map)})
    np.testing.assert_allclose(model.parts["group_fc"](twice["queries"]), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_queries_their_weights_and_biases_go_together(model, last_map):
    other = small_model("ml_decoder", C, **SETTINGS)
    order = np.array([3, 0, 4, 1, 2])
    for address, weight in other.weights.items():
        value = model.weights[address].numpy()
        weight.assign(value[order] if address.startswith(("queries/", "group_fc/")) else value)
    np.testing.assert_allclose(decoded(other, last_map)[2], decoded(model, last_map)[2][:, order], rtol=1e-4, atol=1e-4)


def test_fewer_queries_than_labels(last_map):
    """7 labels on 3 queries: label c is answered by query c // 3, slot c % 3; the last two slots are cut off."""
    model = small_model("ml_decoder", 7, decoder_groups=3, **SETTINGS)
    small.randomize(model)
    queries, attention, logits = decoded(model, last_map)
    kernel, bias = (weight.numpy() for weight in model.parts["group_fc"].weights)
    assert (queries.shape, kernel.shape, logits.shape) == ((2, 3, D), (3, D, 3), (2, 7))
    for label in range(7):
        expected = queries[:, label // 3] @ kernel[label // 3, :, label % 3] + bias[label]
        np.testing.assert_allclose(logits[:, label], expected, rtol=1e-4, atol=1e-4)
    maps = model.network_for(("A",))(small.random_batch(2)["image"])["A"].numpy()
    np.testing.assert_array_equal(maps[..., 0], maps[..., 2])
    assert np.abs(maps[..., 2] - maps[..., 3]).max() > 0


def test_queries_stay(model):
    (stage,) = model.stages.values()
    before = model.parts["queries"].weights[0].numpy().copy()
    small.descend(model, stage, small.random_batch(num_labels=C))
    np.testing.assert_array_equal(model.parts["queries"].weights[0], before)
    assert "queries/vectors" in model.weights and "queries" in stage.fixed


def test_dropout_drops_in_training_alone(model):
    image = small.random_batch(2)["image"]
    answers = [model.network(image, training=training)["y_dec"].numpy() for training in (False, False, True, True)]
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-5, atol=1e-6)  # of two executions
    assert np.abs(answers[2] - answers[3]).max() > 1e-3  # other masks


def test_bad_settings():
    with pytest.raises(InputError, match="decoder_width must be a multiple of 8. Received: 20"):
        small_model("ml_decoder", C, decoder_width=20)
    with pytest.raises(InputError, match="decoder_dropout must be at most 0.9. Received: 1.0"):
        small_model("ml_decoder", C, decoder_dropout=1.0)
