"""The table of methods: what each is built of on every backbone, stored descriptions, bad values by message."""

import dataclasses
import functools

import pytest

from srn_tf.errors import InputError
from srn_tf.models.backbones import BACKBONES
from srn_tf.models.registry import METHODS, ModelConfig, build_model
from tests.models.small import SMALL_SETTINGS, small_model

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
# D * C + C of the classifier; f_more as in test_resnet107; (D + C) * D + D, D * D + D and D * C + C of f_sem.
CLASSIFIER = {"small": 645, "others": 10_245}
MORE_BLOCKS = {"small": 592_384, "v2": 8_945_664, "v1": 8_937_472}
SEMANTIC = {"small": 34_309, "others": 8_413_189}
FAST, SLOW = ("small",), functools.partial(pytest.param, marks=pytest.mark.slow)


def number(table, backbone):
    kind = "small" if backbone == "small" else "v2" if backbone.endswith("v2") else "v1"
    return table[kind] if kind in table else table["others"]


@pytest.mark.parametrize("backbone", [name if name in FAST else SLOW(name) for name in MAIN_NET])
def test_the_weights_of_the_baselines(backbone):
    main_net = MAIN_NET[backbone] + number(CLASSIFIER, backbone)
    more = {"resnet107": number(MORE_BLOCKS, backbone), "semantic": number(SEMANTIC, backbone)}
    for name, extra in more.items():
        model = small_model(name, C, 56 if backbone == "small" else 32, backbone)
        assert model.network.count_params() == main_net + extra, name


@functools.cache
def built(name):
    return small_model(name, C, **SMALL_SETTINGS.get(name, {}))


@pytest.mark.slow
def test_the_papers_methods_have_the_same_main_net():
    """Name by name and shape by shape, so that weights go from one to the other."""
    shapes = {}
    for name in ("srn", "srn_att", "main_net", "resnet107", "semantic"):
        weights = built(name).weights
        shapes[name] = {
            key: tuple(weight.shape) for key, weight in weights.items() if key.startswith(("trunk/", "classifier/"))
        }
        assert "classifier/cls_logits/kernel" in shapes[name]
    assert all(shape == shapes["main_net"] for shape in shapes.values())
    assert sum(weight.shape.num_elements() for weight in built("main_net").weights.values()) == 303_600 + 645


@pytest.mark.slow
def test_srn_att_is_srn_but_for_what_f_sr_reads():
    srn, srn_att = built("srn"), built("srn_att")
    assert (srn.stages, srn.logits, srn.maps) == (srn_att.stages, srn_att.logits, srn_att.maps)
    assert list(srn.weights) == list(srn_att.weights)

    def needs_confidence(model):
        return "f_conf" in [layer.name for layer in model.network_for(("y_sr",)).layers]

    assert needs_confidence(srn) and not needs_confidence(srn_att)  # y_sr comes of A alone


@pytest.mark.slow
def test_every_setting_is_passed_on():
    settings = {"srn_head": "paper", "head_channels": 8, "learn_alpha": True}
    model = small_model("srn", 4, 112, **settings)
    assert (model.image_size, model.num_labels) == (112, 4)
    assert set(model.parts) == {"trunk", "classifier", "f_att", "f_conf", "f_sr", "mix"}
    assert model.parts["f_att"].get_layer("att_1_conv").filters == 8
    assert len(model.parts["mix"].weights) == 1


def test_settings_of_one_name_are_the_same_in_all_methods():
    found = {}
    for method in METHODS.values():
        for field in dataclasses.fields(method.settings):
            first = found.setdefault(field.name, field)
            assert (field.default, field.type, field.metadata) == (first.default, first.type, first.metadata)
    assert {"pooling", "srn_head", "x_stride"} <= set(found)


# Descriptions of stored runs.


def test_a_description_comes_back():
    settings = METHODS["srn_att"].settings(srn_head="paper", head_channels=8, learn_alpha=True)
    config = ModelConfig("srn_att", "small", 56, settings)
    record = dataclasses.asdict(config)
    assert record["settings"]["head_channels"] == 8 and ModelConfig.from_record(record) == config


@pytest.mark.parametrize(
    "record", [{"model": "srn"}, {"model": "x", "settings": {}}, {"model": "srn", "settings": {"a": 1}}]
)
def test_a_description_of_another_version(record):
    with pytest.raises(InputError, match="The run's model must be one of this version of srn_tf. Received: "):
        ModelConfig.from_record({"backbone": "small", "image_size": 56, **record})


# Bad values.


def test_bad_values():
    with pytest.raises(InputError, match="model must be one of srn, srn_att, main_net, .*Received: 'resnet'"):
        ModelConfig("resnet", "small", 56)
    for field, value, message in (
        ("backbone", "vgg", f"backbone must be one of {', '.join(BACKBONES)}. Received: 'vgg'."),
        ("image_size", 60, "image_size must be a multiple of .* Received: 60."),
        ("image_size", 0, "image_size must be a multiple of .* Received: 0."),
    ):
        with pytest.raises(InputError, match=message):
            build_model(dataclasses.replace(ModelConfig("srn", "small", 56), **{field: value}), ["a", "b"])
    for settings, message in (
        ({"srn_head": "Paper"}, "srn_head must be one of released, paper. Received: 'Paper'."),
        ({"head_channels": 0}, "head_channels must be at least 1. Received: 0."),
        ({"head_channels": 8.0}, "head_channels must be of type int. Received: 8.0."),
        ({"answer": "sr"}, "answer must be one of cls_sr, cls_att_sr. Received: 'sr'."),
        ({"head_dropout": 0.95}, "head_dropout must be at most 0.9. Received: 0.95."),
        ({"x_stride": 8}, "x_stride must be one of 16, 32. Received: 8."),
        *(
            (
                {"init_confidence": "classifier", **others},
                "init_confidence=classifier needs x_stride=32 and pooling=mean: f_conf must read the map whose mean "
                f"the classifier reads. Received: {received}.",
            )
            for others, received in (
                ({}, "x_stride=16 and pooling=mean"),
                ({"x_stride": 32, "pooling": "max"}, "x_stride=32 and pooling=max"),
            )
        ),
    ):
        with pytest.raises(InputError) as error:
            METHODS["srn"].settings(**settings)
        assert str(error.value) == message
