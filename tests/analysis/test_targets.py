"""Places and offsets by hand, and on scenes against the layout they were drawn from."""

import math

import numpy as np

from srn_tf.analysis.targets import label_targets, offset_targets
from srn_tf.data.scene_drawing import ANCHORS, LABELS, NEAR_PX, SATELLITES, SCENE_PX, draw_scene, label_scene

NAN = np.nan
NAMES = ("dog", "ball", "cat")
# Three images: dog and ball, ball alone, dog and ball.
PLACES = np.array(
    [
        [[0.2, 0.1], [0.5, 0.5], [NAN, NAN]],
        [[NAN, NAN], [0.9, 0.1], [NAN, NAN]],
        [[0.8, 0.3], [0.6, 0.7], [NAN, NAN]],
    ],
    np.float32,
)


def test_places_of_labels():
    dog, ball = label_targets(PLACES, NAMES, 2)
    assert (dog.name, dog.partner_name, dog.partners) == ("dog", "", None)
    assert dog.images.tolist() == [0, 2] and dog.subjects.tolist() == [0, 0]
    np.testing.assert_allclose(dog.values, [[0.2, 0.1], [0.8, 0.3]])
    assert ball.images.tolist() == [0, 1, 2]
    assert [target.name for target in label_targets(PLACES, NAMES, 3)] == ["ball"]


def test_offsets_of_common_pairs():
    (target,) = offset_targets("any", PLACES, NAMES, 2)
    assert (target.name, target.partner_name) == ("dog", "ball")
    assert target.images.tolist() == [0, 2] and target.partners.tolist() == [1, 1]
    np.testing.assert_allclose(target.values, [[-0.3, -0.4], [0.2, -0.4]], atol=1e-7)
    np.testing.assert_allclose(target.subject_places, [[0.2, 0.1], [0.8, 0.3]])
    assert offset_targets("any", PLACES, NAMES, 3) == []


def test_only_the_twenty_most_common_pairs():
    rng = np.random.default_rng(0)
    places = rng.random((40, 8, 2))
    places[rng.random((40, 8)) < 0.4] = NAN
    targets = offset_targets("any", places, [f"label {i}" for i in range(8)], 1)
    counts = [len(target.images) for target in targets]
    is_known = np.isfinite(places[..., 0])
    together = [(is_known[:, i] & is_known[:, j]).sum() for i in range(8) for j in range(i)]
    assert counts == sorted(together, reverse=True)[:20]


def test_scenes_are_measured_from_the_anchor_that_decides():
    """The rule of scene_drawing, on the layouts themselves: at which anchor a labelled satellite stands."""
    scenes = [draw_scene(np.random.default_rng(seed))[1] for seed in range(150)]
    places = np.full((len(scenes), len(LABELS), 2), NAN)
    for image, objects in enumerate(scenes):
        for label, item in label_scene(objects).items():
            places[image, LABELS.index(label)] = item.y / SCENE_PX, item.x / SCENE_PX
    targets = offset_targets("scenes", places, LABELS, 10)
    assert [target.name for target in targets] == [satellite.shape for satellite in SATELLITES]
    for target, satellite in zip(targets, SATELLITES):
        for image, offset, partner, subject in zip(target.images, target.values, target.partners, target.subjects):
            shapes = {item.shape: item for item in scenes[image]}
            own, anchor = shapes[satellite.shape], shapes[LABELS[partner]]
            distance = math.hypot(own.y - anchor.y, own.x - anchor.x)
            assert LABELS[partner] in ANCHORS and distance - own.radius - anchor.radius <= NEAR_PX + 1e-9
            np.testing.assert_allclose(offset * SCENE_PX, (own.y - anchor.y, own.x - anchor.x))
            assert LABELS[subject] == (satellite.before if offset[satellite.axis] < 0 else satellite.after)
