"""Which images and labels are shown, and that each image is asked about no more than needed."""

import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.evaluation.label_issues import LabelIssue
from srn_tf.visualization import views
from tests.visualization.embedded import array, data_of
from tests.visualization.stand_ins import REGIONS, StandInPredictor, StandInSource, random_maps, random_regions

N, C = 40, 5
NAMES = ["dog", "cat", "cow", "duck", "hen"]


@pytest.fixture
def source():
    return StandInSource([f"{i}.jpg" for i in range(N)], np.random.default_rng(0).integers(0, 2, (N, C), np.int8))


@pytest.fixture
def predictor():
    probabilities = np.random.default_rng(1).random((N, C), np.float32)
    return StandInPredictor(NAMES, probabilities, np.full(C, 0.9), random_maps(N, C))


def most_wrong(predictor, source, count):
    p = np.where(source.labels == 1, predictor.probabilities, 1 - predictor.probabilities).astype(np.float64)
    return np.argsort(np.log(p).sum(axis=1), kind="stable")[:count]


def names_of(figures):
    return [panel.get_title(loc="left") for figure in figures for panel in figure.axes if panel.get_title(loc="left")]


def titles_of(figure):
    return [panel.get_title() for panel in figure.axes if panel.get_title()]


def test_label_indices(predictor):
    assert views.label_indices(predictor, ["cow", "dog", "cow"]) == [2, 0]
    with pytest.raises(InputError, match="among the model's 5 labels. Received: 'dug'. Some of them: .*dog.*"):
        views.label_indices(predictor, ["cow", "dug"])


def test_maps_are_chosen_by_name(predictor):
    predictor.regions = [REGIONS]
    for names, expected in (([], ["A", "U", "found"]), (["found", "U"], ["U", "found"]), (["A"], ["A"])):
        maps, regions = views.chosen_maps(predictor, names)
        assert [one.name for one in (*maps, *regions)] == expected
    with pytest.raises(InputError, match="maps must be among those of the model: A, U, found. Received: 'S'"):
        views.chosen_maps(predictor, ["U", "S"])


def test_a_model_without_maps_cannot_be_drawn(predictor):
    views.check_can_draw(predictor, "RUN/export/1")
    plain = StandInPredictor(NAMES, predictor.probabilities, predictor.thresholds)
    with pytest.raises(
        InputError, match="Only a model with maps or regions can be drawn. Received: RUN/export/1, a model without"
    ):
        views.check_can_draw(plain, "RUN/export/1")


@pytest.mark.slow
def test_drawings_of_the_first_images(predictor, source):
    figures = list(views.drawings(predictor, source, [], 7, "first"))
    assert [len(names_of([figure])) for figure in figures] == [6, 1]
    assert names_of(figures) == [f"{i}.jpg" for i in range(7)]
    assert predictor.asked.tolist() == [1] * 7 + [0] * (N - 7)
    four = np.argsort(-predictor.probabilities[0])[:4]
    expected = [f"{NAMES[label]} {predictor.probabilities[0, label]:.2f}" for label in four]
    assert titles_of(figures[0])[:4] == expected
    scales = [figure.axes[-1].get_xticklabels() for figure in figures]
    assert [text.get_text() for text in scales[0]] == [text.get_text() for text in scales[1]]  # one for all drawings


def test_drawings_of_chosen_labels_and_wrong_images(predictor, source):
    figures = list(views.drawings(predictor, source, [3, 1], 3, "wrong"))
    assert names_of(figures) == [f"{i}.jpg" for i in most_wrong(predictor, source, 3)]
    drawn = [title.split()[0] for title in titles_of(figures[0])][:-1]
    assert drawn == ["duck", "cat"] * 3


def test_more_images_are_asked_for_than_there_are(predictor):
    few = StandInSource(["a", "b"])
    assert names_of(views.drawings(predictor, few, [0], 1000, "first")) == ["a", "b"]


def test_the_most_wrong_images_are_not_known_without_truth(predictor):
    with pytest.raises(InputError, match="order=wrong needs true labels"):
        list(views.drawings(predictor, StandInSource([f"{i}" for i in range(N)]), [], 3, "wrong"))


def test_page_of_all_images_asks_once(predictor, source):
    data = data_of(views.answers_page(predictor, source, "RUN/export/3", [], N, "wrong"))
    assert (predictor.asked == 1).all()
    assert [image["name"] for image in data["images"]] == source.names
    assert data["total"] == N and data["summary"] == "40 images, 5 labels. Metrics as in the protocol coco."


def test_page_of_some_images_counts_all(predictor, source):
    text = views.answers_page(predictor, source, "RUN/export/3", [4], 7, "wrong")
    assert "<title>shades, test split: RUN/export/3</title>" in text
    data = data_of(text)
    shown = np.sort(most_wrong(predictor, source, 7))
    assert [image["name"] for image in data["images"]] == [f"{i}.jpg" for i in shown]
    assert predictor.asked.sum() == N + 7
    assert data["summary"] == (
        "40 images, 5 labels. 7 images are shown: those with the highest cross-entropy. The numbers count all images. "
        "Metrics as in the protocol coco."
    )
    np.testing.assert_array_equal(data["metrics"]["positive"], source.labels.sum(axis=0))
    predicted = array(data["metrics"]["predicted"], "<i4").reshape(100, C)
    np.testing.assert_array_equal(predicted[30], (predictor.probabilities.astype(float) > 0.3).sum(axis=0))
    p = np.where(source.labels == 1, predictor.probabilities, 1 - predictor.probabilities).astype(np.float64)[shown]
    np.testing.assert_allclose([image["wrongness"] for image in data["images"]], -np.log(p).sum(axis=1), atol=1e-4)
    for image, position in zip(data["images"], shown, strict=True):
        three = set(np.argsort(-predictor.probabilities[position])[:3])
        true, predicted = source.labels[position] == 1, predictor.probabilities[position] > 0.9
        assert set(image["labels"]) == three | {4} | set(np.flatnonzero(true | predicted))


def test_page_of_label_issues_shows_their_images(predictor, source):
    issues = [LabelIssue("9.jpg", "cow", 0, 0.98, 0.02), LabelIssue("3.jpg", "dog", 1, 0.1, 0.1)]
    issues += [LabelIssue("9.jpg", "hen", 0, 0.8, 0.2), LabelIssue("5.jpg", "cat", 0, 0.7, 0.3)]
    data = data_of(views.answers_page(predictor, source, "M", [], 2, "wrong", issues))
    assert [(image["name"], image["issues"]) for image in data["images"]] == [
        ("3.jpg", [[0, 0.1]]),
        ("9.jpg", [[2, 0.02], [4, 0.2]]),
    ]
    assert data["has_issues"] and "2 images are shown: those whose labels may be wrong." in data["summary"]
    assert data["summary"].endswith("4 labels of 3 images may be wrong.")
    data = data_of(views.answers_page(predictor, source, "M", [], N, "first", issues[:1]))
    assert [bool(image["issues"]) for image in data["images"]] == [position == 9 for position in range(N)]
    data = data_of(views.answers_page(predictor, source, "M", [], 2, "first", []))  # nothing is wrong
    assert [image["name"] for image in data["images"]] == ["0.jpg", "1.jpg"]
    unknown = {"image": LabelIssue("z.jpg", "dog", 0, 1.0, 0.0), "label": LabelIssue("1.jpg", "z", 0, 1.0, 0.0)}
    for what, issue in unknown.items():
        with pytest.raises(InputError, match=f"of the images and labels of the page. Received: {what} 'z"):
            views.answers_page(predictor, source, "M", [], 2, "first", [issue])


def test_page_of_the_first_images(predictor, source):
    data = data_of(views.answers_page(predictor, source, "M", [], 2, "first"))
    assert [image["name"] for image in data["images"]] == ["0.jpg", "1.jpg"]
    assert "2 images are shown: the first ones stored." in data["summary"]


def test_a_model_with_regions_and_no_maps_is_drawn_and_in_the_page(predictor, source):
    regions = random_regions(N, C)
    sees = StandInPredictor(NAMES, predictor.probabilities, predictor.thresholds, regions=regions)
    views.check_can_draw(sees, "M")
    (figure,) = views.drawings(sees, source, [3], 2, "first")
    panels = [panel for panel in figure.axes if panel.get_ylabel() == "proposals"]
    assert [panel.get_title() for panel in panels] == [f"duck {p:.2f}" for p in predictor.probabilities[:2, 3]]
    assert "value of one cell" not in str(titles_of(figure))  # the scale of maps
    for image, panel in enumerate(panels):
        best = np.argsort(-regions["found"][image, :, 3])[:3]
        width, height = ((60, 30), (30, 60))[image]
        expected = regions["boxes"][image, best] * [height, width, height, width]
        drawn = [
            (*frame.get_xy()[::-1], frame.get_y() + frame.get_height(), frame.get_x() + frame.get_width())
            for frame in panel.patches
        ]
        np.testing.assert_allclose(drawn[::-1], expected, rtol=1e-5)
        assert [text.get_text() for text in panel.texts][::-1] == [
            f"{score:.2f}" for score in regions["found"][image, best, 3]
        ]
    data = data_of(views.answers_page(sees, source, "M", [], 2, "first"))
    assert data["maps"] == [] and [one["title"] for one in data["regions"]] == ["proposals"]
    assert data["summary"].endswith("Metrics as in the protocol coco.")
    for entry in data["images"]:
        assert entry["maps"] == [] and len(entry["labels"]) == len(entry["regions"][0])
    label = data["images"][1]["labels"][0]
    best = np.argsort(-regions["found"][1, :, label])[:5]
    expected = np.column_stack([regions["boxes"][1, best], regions["found"][1, best, label]])
    np.testing.assert_allclose(data["images"][1]["regions"][0][0], expected, atol=1e-4)


def test_page_of_images_without_truth_and_model_without_maps(predictor):
    plain = StandInPredictor(NAMES, predictor.probabilities, predictor.thresholds)
    data = data_of(views.answers_page(plain, StandInSource([f"{i}" for i in range(N)]), "M", [], N, "first"))
    assert data["metrics"] is None and data["maps"] == []
    assert data["summary"] == (
        "40 images, 5 labels. The true labels are not known, so there are answers but no errors. The model has no maps."
    )
