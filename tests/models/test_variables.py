"""Weights have the same addresses and shapes in Keras 2 and 3, so that files of them go from one to the other."""

import hashlib

import keras
import pytest
import tensorflow as tf

from srn_tf.models.registry import METHODS
from srn_tf.models.variables import addresses
from tests.models.small import SMALL_SETTINGS, small_model
from tests.models.toy import build_toy

# (weights, digest of their addresses and shapes in alphabetical order), as Keras 2.15 and 3.15 both have them. A digest
# that changes makes the weights of earlier runs useless.
OF_METHODS = {
    "srn": (114, "a4ccbc191a03a177"),
    "srn_att": (114, "a4ccbc191a03a177"),
    "main_net": (44, "aaa28c9a0de6f823"),
    "resnet107": (68, "897187ff67a33006"),
    "semantic": (50, "cd3a714c938ab5af"),
    "ml_decoder": (70, "a0b4505a82aab827"),
}
OF_BACKBONES = {
    "resnet101v2": (544, "83dab7364f9133e6"),
    "resnet50v2": (272, "c31da89a30616104"),
    "resnet101": (626, "c8f2651b06baaca6"),
    "resnet50": (320, "1843f9b5072aed34"),
    "efficientnetv2_b0": (376, "a6511dd3ce33423f"),
    "convnext_tiny": (182, "03fc5c785201c176"),
    "mobilenetv3_large": (264, "73a8a3e7cead5436"),
}


def digest_of(model):
    lines = sorted(f"{address} {tuple(weight.shape)}" for address, weight in model.weights.items())
    return len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", METHODS)
def test_addresses_of_the_methods(name):
    assert digest_of(small_model(name, 3, **SMALL_SETTINGS.get(name, {}))) == OF_METHODS[name]


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
