"""Weights have the same addresses and shapes in Keras 2 and 3, so that files of them go from one to the other."""

import keras
import pytest
import tensorflow as tf

from srn_tf.models.variables import addresses
from tests.models.small import digest_of, small_model
from tests.models.toy import build_toy

# As `test_methods.OF_METHODS`.
OF_BACKBONES = {
    "resnet101v2": (544, "83dab7364f9133e6"),
    "resnet50v2": (272, "c31da89a30616104"),
    "resnet101": (626, "c8f2651b06baaca6"),
    "resnet50": (320, "1843f9b5072aed34"),
    "resnet101_torch": (522, "94e84e410650d392"),
    "efficientnetv2_b0": (376, "a6511dd3ce33423f"),
    "convnext_tiny": (182, "03fc5c785201c176"),
    "mobilenetv3_large": (264, "73a8a3e7cead5436"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_BACKBONES)
def test_addresses_of_the_backbones(name):
    assert digest_of(small_model("main_net", 3, 64, name)) == OF_BACKBONES[name]


def test_addresses_go_through_layers_within_a_layer():
    part = build_toy().parts["attention"]
    projections = [f"toy_attention/{name}/{kind}" for name in ("query", "key", "value") for kind in ("kernel", "bias")]
    expected = [*projections, "toy_attention/attention_output/kernel", "toy_attention/attention_output/bias"]
    assert [address for address, _ in addresses(part, "head")] == [f"head/{name}" for name in expected]


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_weights_are_the_layers_own_variables(precision):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(precision)
    try:
        model = small_model("main_net", 3)
    finally:
        keras.mixed_precision.set_global_policy(before)
    weights = model.weights
    assert all(isinstance(weight, tf.Variable) and weight.dtype == tf.float32 for weight in weights.values())
    weights["classifier/cls_logits/bias"].assign([1.0, 2.0, 3.0])
    assert model.parts["classifier"].get_layer("cls_logits").get_weights()[1].tolist() == [1.0, 2.0, 3.0]
