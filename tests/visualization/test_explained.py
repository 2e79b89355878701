"""Every image is explained with its own answer, maps and photograph."""

import numpy as np
import pytest

from srn_tf.visualization import explained
from tests.visualization.stand_ins import StandInPredictor, StandInSource, random_maps, random_regions

N, C = 70, 3  # more than two requests


@pytest.fixture
def source():
    return StandInSource([f"image {i}" for i in range(N)], np.random.default_rng(0).integers(0, 2, (N, C), np.int8))


@pytest.fixture
def predictor():
    random = np.random.default_rng(1)
    return StandInPredictor(list("abc"), random.random((N, C), np.float32), np.full(C, 0.5), random_maps(N, C))


def test_answer_all(predictor, source):
    answers = explained.answer_all(predictor, source)
    np.testing.assert_array_equal(answers.probabilities, predictor.probabilities)
    np.testing.assert_array_equal(answers.predicted, predictor.probabilities > 0.5)
    np.testing.assert_array_equal(answers.labels, source.labels)
    assert (predictor.asked == 1).all()
    assert explained.answer_all(predictor, StandInSource(source.names)).labels is None


def test_explain_keeps_the_order_and_the_maps_asked_for(predictor, source):
    positions = [64, 2, 33, 0]
    images = explained.explain(predictor, source, positions, lambda p, *_: [int(p.argmin()), 1], photo_px=30)
    maps = random_maps(N, C)
    assert [image.position for image in images] == positions
    for image in images:
        i = image.position
        assert image.name == f"image {i}"
        np.testing.assert_array_equal(image.probabilities, predictor.probabilities[i])
        np.testing.assert_array_equal(image.predicted, predictor.probabilities[i] > 0.5)
        np.testing.assert_array_equal(image.labels, source.labels[i])
        assert list(image.maps) == list(dict.fromkeys([int(predictor.probabilities[i].argmin()), 1]))
        for label, pair in image.maps.items():
            for name, values in zip("AU", pair, strict=True):
                np.testing.assert_array_equal(values, maps[name][i, ..., label])
    # 64 and 33 are images of 30 x 60 and 60 x 30 pixels, 2 one of 40 x 40.
    assert [image.photo.size for image in images] == [(15, 30), (30, 30), (30, 15), (30, 15)]
    assert all(image.photo.mode == "RGB" for image in images)
    assert predictor.asked.sum() == 4


def test_what_chooses_the_labels_sees_the_answer_and_the_truth(predictor, source):
    seen = []
    explained.explain(predictor, source, [5], lambda *arguments: seen.append(arguments) or [0], 30)
    probabilities, predicted, labels = seen[0]
    np.testing.assert_array_equal(probabilities, predictor.probabilities[5])
    np.testing.assert_array_equal(predicted, probabilities > 0.5)
    np.testing.assert_array_equal(labels, source.labels[5])


def test_a_small_photograph_is_not_enlarged(predictor, source):
    assert explained.explain(predictor, source, [2], lambda *_: [0], 500)[0].photo.size == (40, 40)


def test_a_model_without_maps(predictor, source):
    plain = StandInPredictor(predictor.labels, predictor.probabilities, predictor.thresholds)
    (image,) = explained.explain(plain, source, [3], lambda *_: [0], 30)
    assert image.maps == {}
    np.testing.assert_array_equal(image.probabilities, predictor.probabilities[3])


def test_the_best_regions_of_the_labels_asked_for(predictor, source):
    regions = random_regions(N, C)
    sees = StandInPredictor(predictor.labels, predictor.probabilities, predictor.thresholds, regions=regions)
    (image,) = explained.explain(sees, source, [33], lambda *_: [2, 0], 30)
    assert image.maps == {2: (), 0: ()} and list(image.regions) == [2, 0]
    for label, ((boxes, scores),) in image.regions.items():
        of_label = sorted(zip(regions["found"][33, :6, label], regions["boxes"][33].tolist()), reverse=True)
        assert list(zip(scores, boxes.tolist())) == of_label[: explained.MOST_REGIONS]


def test_answers_of_explained_images(predictor, source):
    images = explained.explain(predictor, source, [4, 1], lambda *_: [0], 30)
    answers = explained.answers_of(images)
    np.testing.assert_array_equal(answers.probabilities, predictor.probabilities[[4, 1]])
    np.testing.assert_array_equal(answers.predicted, predictor.probabilities[[4, 1]] > 0.5)
    np.testing.assert_array_equal(answers.labels, source.labels[[4, 1]])
    unknown = explained.explain(predictor, StandInSource(source.names), [4], lambda *_: [0], 30)
    assert explained.answers_of(unknown).labels is None


def test_most_probable():
    assert explained.most_probable(np.array([0.2, 0.9, 0.2, 0.5]), 3) == [1, 3, 0]
    assert explained.most_probable(np.array([0.2, 0.9]), 5) == [1, 0]
