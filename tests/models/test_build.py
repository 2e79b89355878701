"""The table of models: what each is built of on every backbone, descriptions old and new, bad values by message."""

import dataclasses
import functools

import keras
import pytest

from srn_tf.errors import InputError
from srn_tf.models.backbones import BACKBONES
from srn_tf.models.build import MODELS, ModelConfig, build_model
from srn_tf.training.checkpoint import named_weights

C = 5
# Weights without and with a gradient, of the main net without its classifier: 72,944 + 230,656 of "small" are
# counted by hand, the others are in Keras' own documentation.
MAIN_NET = {
    "small": 303_600,
    "resnet50v2": 23_564_800,
    "resnet50": 23_587_712,
    "resnet101v2": 42_626_560,
    "resnet101": 42_658_176,
}
# D * C + C of the classifier; f_more as in test_backbones; (D + C) * D + D, D * D + D and D * C + C of f_sem.
CLASSIFIER = {"small": 645, "others": 10_245}
MORE_BLOCKS = {"small": 592_384, "v2": 8_945_664, "v1": 8_937_472}
SEMANTIC = {"small": 34_309, "others": 8_413_189}
FAST, SLOW = ("small",), functools.partial(pytest.param, marks=pytest.mark.slow)


def number(table, backbone):
    kind = "small" if backbone == "small" else "v2" if backbone.endswith("v2") else "v1"
    return table[kind] if kind in table else table["others"]


def test_the_names():
    assert MODELS == ("srn", "srn_att", "main_net", "resnet107", "semantic")


@pytest.mark.parametrize("backbone", [name if name in FAST else SLOW(name) for name in BACKBONES])
def test_the_weights_of_the_baselines(backbone):
    main_net = MAIN_NET[backbone] + number(CLASSIFIER, backbone)
    more = {"resnet107": number(MORE_BLOCKS, backbone), "semantic": number(SEMANTIC, backbone)}
    for name, extra in more.items():
        model = build_model(ModelConfig(name, backbone, 56 if backbone == "small" else 32), C)
        assert model.network.count_params() == main_net + extra, name


@pytest.fixture(scope="module")
def models():
    return {name: build_model(ModelConfig(name, "small", 56, head_channels=8), C) for name in MODELS}


def test_all_models_have_the_same_main_net(models):
    """Name by name and shape by shape, so that weights go from one to the other."""
    shapes = {}
    for name, model in models.items():
        weights = named_weights(model)
        shapes[name] = {
            key: tuple(weight.shape) for key, weight in weights.items() if key.startswith(("f_cnn", "f_cls"))
        }
        assert "f_cls/cls_logits/kernel" in shapes[name]
    assert all(shape == shapes["main_net"] for shape in shapes.values())
    assert sum(weight.shape.num_elements() for weight in named_weights(models["main_net"]).values()) == 303_600 + 645


def test_srn_att_is_srn_but_for_what_f_sr_reads(models):
    srn, srn_att = models["srn"], models["srn_att"]
    assert (srn.stages, srn.logits, srn.maps) == (srn_att.stages, srn_att.logits, srn_att.maps)
    assert list(named_weights(srn)) == list(named_weights(srn_att))

    def needs_confidence(model):
        return any("conf_" in weight.name for weight in model.network_for(("y_sr",)).weights)

    assert needs_confidence(srn) and not needs_confidence(srn_att)  # y_sr comes of A alone


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_is_in_one_part_and_every_stage_watches_an_output(models, name):
    model = models[name]
    in_parts = [id(weight) for part in model.parts.values() for weight in part.weights]
    assert len(set(in_parts)) == len(in_parts)
    assert set(in_parts) == {id(weight) for weight in model.network.weights}
    last = list(model.stages.values())[-1]
    assert not last.fixed and last.watched == model.final
    for stage in model.stages.values():
        assert {stage.watched, *stage.losses} <= set(model.logits)


def test_every_field_is_passed_on():
    config = ModelConfig("srn", "small", 112, "paper", head_channels=8, learn_alpha=True)
    model = build_model(config, 4)
    assert (model.image_size, model.num_labels) == (112, 4)
    assert set(model.parts) == {"f_cnn", "f_cls", "f_att", "f_conf", "f_sr", "mix"}
    assert model.parts["f_att"].get_layer("att_1_conv").filters == 8
    assert len(model.parts["mix"].weights) == 1
    assert "f_neck" in build_model(dataclasses.replace(config, srn_head="released"), 4).parts


# Descriptions of stored runs.


def test_a_description_comes_back():
    config = ModelConfig("srn_att", "small", 56, "paper", head_channels=8, learn_alpha=True)
    assert ModelConfig.from_record(dataclasses.asdict(config)) == config


@pytest.mark.parametrize(
    "model, source, expected",
    [("srn", "weighted", "srn"), ("srn", "attention", "srn_att"), ("main_net", "attention", "main_net")],
)
def test_an_older_description_is_understood(model, source, expected):
    record = {"model": model, "backbone": "small", "image_size": 56, "regularize_from": source, "head_channels": 8}
    assert ModelConfig.from_record(record) == ModelConfig(expected, "small", 56, head_channels=8)
    assert "regularize_from" in record  # the caller's own is untouched


# Bad values.


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("model", "resnet", "model must be one of srn, srn_att, main_net, resnet107, semantic. Received: 'resnet'."),
        (
            "backbone",
            "vgg",
            "backbone must be one of resnet101v2, resnet50v2, resnet101, resnet50, small. Received: 'vgg'.",
        ),
        ("image_size", 60, "image_size must be a multiple of 56 for backbone small. Received: 60."),
        ("image_size", 0, "image_size must be a multiple of 56 for backbone small. Received: 0."),
        ("srn_head", "Paper", "srn_head must be one of released, paper. Received: 'Paper'."),
    ],
)
def test_bad_values(field, value, message):
    config = dataclasses.replace(ModelConfig("srn", "small", 56), **{field: value})
    with pytest.raises(InputError) as error:
        build_model(config, C)
    assert str(error.value) == message


@pytest.mark.parametrize("name", MODELS)
def test_what_scores_labels_is_float32_in_mixed_precision(name):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = build_model(ModelConfig(name, "small", 56, head_channels=8), 3)
    finally:
        keras.mixed_precision.set_global_policy(before)
    assert any(layer.compute_dtype == "bfloat16" for layer in model.parts["f_cnn"].layers)  # else nothing is mixed
    for output in (*model.logits, *model.maps):
        assert model.outputs[output].dtype == "float32", output
    assert all(weight.dtype == "float32" for weight in model.network.weights)
