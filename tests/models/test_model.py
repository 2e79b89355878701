"""What a model may declare of itself, and what its declarations give."""

import dataclasses

import keras
import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.models.model import Map, MultiLabelModel, Regions, Stage, label_loss

REGIONS = Regions("boxes", "scores", "regions", "Regions.")


def make_model(scores=(4, 4), boxes=(4, 4), stages=None, **declared):
    """A model whose outputs are the 16 numbers of a 2 x 2 map of 4 labels, in several shapes."""
    image = keras.Input((2, 2, 3), name="image")
    part = keras.layers.Dense(4, name="part")
    A = part(image)
    outputs = {
        "y": keras.layers.GlobalAveragePooling2D(name="y")(A),
        "A": A,
        "boxes": keras.layers.Reshape(boxes, name="boxes")(A),
        "scores": keras.layers.Reshape(scores, name="scores")(A),
    }
    return MultiLabelModel(image, outputs, {"part": part}, stages or {}, ("y",), **declared)


def test_another_output_is_served():
    model = dataclasses.replace(make_model(), logits=("y", "other"))
    assert (model.serving("other").logits, model.serving("other").final) == (("other", "y"), "other")
    assert model.serving("y").logits == model.logits
    with pytest.raises(InputError, match="served output must be one of y, other. Received: 'z'"):
        model.serving("z")


def test_the_explanation_is_of_maps_and_regions():
    a_map = Map("A", "A", "A.")
    assert make_model().explanation == ()
    assert make_model(maps=(a_map,)).explanation == ("A", "y")
    assert make_model(regions=(REGIONS,)).explanation == ("boxes", "scores", "y")
    both = make_model(maps=(a_map,), regions=(REGIONS, Regions("boxes", "y", "r", "r")), boxes=(4, 4))
    assert both.explanation == ("A", "boxes", "scores", "y")


@pytest.mark.parametrize(
    ("shapes", "declared", "message"),
    [
        ({}, {"maps": (Map("U", "", ""),)}, r"one of the outputs \['y', 'A', .* Received: 'U'"),
        ({}, {"maps": (Map("y", "", ""),)}, r"y must have the shape \(None, None, None, 4\). Received: \(None, 4\)"),
        ({}, {"regions": (Regions("boxes", "found", "", ""),)}, "one of the outputs .* Received: 'found'"),
        ({}, {"regions": (Regions("A", "scores", "", ""),)}, r"A must have the shape \(None, None, 4\). Received"),
        ({"boxes": (8, 2)}, {"regions": (REGIONS,)}, r"boxes must have .* Received: \(None, 8, 2\)"),
        (
            {"scores": (8, 2)},
            {"regions": (REGIONS,)},
            r"scores must have the shape \(None, 4, 4\) or \(None, 4\). Received: \(None, 8, 2\)",
        ),
    ],
)
def test_maps_and_regions_are_outputs_of_their_shape(shapes, declared, message):
    with pytest.raises(ValueError, match=message):
        make_model(**shapes, **declared)


def test_a_stage_needs_what_there_is():
    stage = Stage(trains=("part",), fixed=(), terms=(label_loss("y"),), watched="y", needs=("boxes", "depth"))
    with pytest.raises(ValueError, match=r"Stage one may need \['boxes'\]. Received: \['boxes', 'depth'\]"):
        make_model(stages={"one": stage})


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        ({"part/kernel": "part/bias"}, "Received: part/kernel of 12 elements from part/bias of 4."),
        ({"part/kernel": "other/kernel"}, "part/kernel of 12 elements from other/kernel of no."),
        ({"other/kernel": "part/bias"}, "other/kernel of no elements from part/bias of 4."),
    ],
)
def test_a_stage_starts_weights_from_those_of_their_size(starts, message):
    stage = Stage(trains=("part",), fixed=(), terms=(label_loss("y"),), watched="y", starts_from=starts)
    with pytest.raises(ValueError, match=f"Stage one must start a weight from one of the same size. .*{message}"):
        make_model(stages={"one": stage})


@pytest.mark.parametrize(
    ("learned", "copied", "afterwards"),
    [
        ((), {"b": "a"}, ["c"]),  # a copy of random weights has learned nothing
        (("a",), {"b": "a"}, ["a", "b", "c"]),
        (("a", "b"), {}, ["a", "b", "c"]),
        (("b",), {}, ["b", "c"]),
    ],
)
def test_what_has_learned_is_not_copied_over(learned, copied, afterwards):
    stage = Stage(trains=("c",), fixed=("a", "b"), terms=(), watched="y", starts_from={"b/kernel": "a/layer/kernel"})
    assert stage.copied_parts(learned) == copied
    assert stage.learned_parts(learned) == afterwards


def test_of_label_gives_the_best_boxes_first_and_no_padding():
    boxes = np.arange(2 * 4 * 4, dtype=np.float32).reshape(2, 4, 4)
    scores = np.float32([[[0, 0.5], [0.2, 0], [0, 0.5], [0.9, 0.7]]] * 2)
    of_label, found = REGIONS.of_label({"boxes": boxes, "scores": scores}, 1, 1)
    np.testing.assert_array_equal(of_label, boxes[1, [3, 0, 2]])
    np.testing.assert_array_equal(found, np.float32([0.7, 0.5, 0.5]))
    of_image, found = REGIONS.of_label({"boxes": boxes, "scores": scores[..., 0]}, 0, 1)  # of no label
    np.testing.assert_array_equal(of_image, boxes[0, [3, 1]])
    np.testing.assert_array_equal(found, np.float32([0.9, 0.2]))
