"""A page holds what it is to show, and nothing that it loads or that a name could do harm by."""

import base64
import hashlib
import io
import re

import numpy as np
import pytest
from PIL import Image

from srn_tf.evaluation.protocols import COCO, WIDER_ATTRIBUTE
from srn_tf.visualization import explained, scores
from srn_tf.visualization.page import Page, render
from tests.visualization.embedded import array, data_of
from tests.visualization.stand_ins import GRID, MAPS, StandInPredictor, StandInSource, random_maps

N, C = 9, 3
NAMES = ["dog", "</script><script>alert(1)</script>", "{{data}} & \"Straße\" '本'"]


def explained_images(labels=None, protocol="coco", maps=True):
    random = np.random.default_rng(0)
    predictor = StandInPredictor(
        NAMES, random.random((N, C), np.float32), np.array([0.2, 0.5, 0.7]), random_maps(N, C) if maps else None
    )
    source = StandInSource([f"<b>{i}</b>.jpg" for i in range(N)], labels, protocol)
    return explained.explain(predictor, source, range(N), lambda p, *_: [2, 0], 50)


def rendered(images, protocol=None, **changes):
    maps = MAPS if images[0].maps else []
    page = Page("The <title>", "A & B.", NAMES, np.array([0.2, 0.5, 0.7]), maps, images, 1000, protocol)
    if protocol:
        answers = explained.answers_of(images)
        changes = {
            "scores": scores.score_answers(answers, protocol, NAMES, page.thresholds),
            "wrongness": scores.wrongness(answers.probabilities, answers.labels, protocol),
            **changes,
        }
    return render(Page(**{**vars(page), **changes}))


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(1).choice(np.array([-1, 0, 1], np.int8), (N, C))


def test_data_of_images(labels):
    images = explained_images(labels)
    data = data_of(rendered(images, COCO))
    assert data["labels"] == NAMES and data["thresholds"] == [0.2, 0.5, 0.7]
    assert (data["summary"], data["total"]) == ("A & B.", 1000)
    assert [(a_map["name"], a_map["title"], a_map["grid"]) for a_map in data["maps"]] == [
        ("A", "attention A", list(GRID)),
        ("U", "weighted U", list(GRID)),
    ]
    probabilities = np.stack([image.probabilities for image in images])
    np.testing.assert_array_equal(array(data["probabilities"], "<f4").reshape(N, C), probabilities)
    np.testing.assert_array_equal(array(data["predicted"], "u1").reshape(N, C), probabilities > [0.2, 0.5, 0.7])
    np.testing.assert_array_equal(array(data["truth"], "u1").reshape(N, C), labels == 1)
    assert data["highest"] == max(image.maps[label][0].max() for image in images for label in (0, 2))
    for entry, image in zip(data["images"], images, strict=True):
        assert entry["name"] == image.name and entry["labels"] == [2, 0]
        for number in range(2):
            maps = array(entry["maps"][number], "u1").reshape(2, *GRID)
            highest = np.reshape(entry["highest"][number], (2, 1, 1))
            expected = np.stack([image.maps[2][number], image.maps[0][number]])
            assert (np.abs(maps * highest / 255 - expected) <= highest / 510 * 1.001).all()
        with Image.open(io.BytesIO(base64.b64decode(entry["photo"]))) as photo:
            assert photo.format == "JPEG" and photo.size == image.photo.size == (entry["width"], entry["height"])
            assert np.abs(np.asarray(photo, int) - np.asarray(image.photo, int)).mean() < 4


def test_data_of_metrics(labels):
    images = explained_images(labels)
    data = data_of(rendered(images, COCO))
    found = scores.score_answers(explained.answers_of(images), COCO, NAMES, np.array([0.2, 0.5, 0.7]))
    metrics = data["metrics"]
    assert metrics["AP"] == found.AP and metrics["mAP"] == found.mAP
    assert metrics["definition"].startswith(f"{COCO.definition}\nRight, false and missed are counted over all")
    assert "left out of mAP" not in metrics["definition"]
    np.testing.assert_array_equal(metrics["positive"], (labels == 1).sum(axis=0))
    for name in ("predicted", "right"):
        counts = array(metrics[name], "<i4").reshape(100, C)
        np.testing.assert_array_equal(counts, getattr(found, name))
    np.testing.assert_allclose(metrics["rates"], found.rates, atol=1e-4)
    for curve, expected in zip(metrics["curves"], found.curves, strict=True):
        np.testing.assert_allclose(np.reshape(curve, (-1, 2)), expected, atol=1e-6)


def test_labels_without_positives_are_named():
    labels = np.zeros((N, C), np.int8)
    labels[0, 1] = 1
    definition = data_of(rendered(explained_images(labels), COCO))["metrics"]["definition"]
    assert definition.endswith(f"Labels without positives are left out of mAP: {NAMES[0]}, {NAMES[2]}.")


def test_palette_goes_from_no_opacity_to_the_highest_by_the_square_root():
    palette = array(data_of(rendered(explained_images()))["palette"], "u1").reshape(256, 4)
    assert (np.diff(palette[:, 3].astype(int)) >= 0).all() and palette[0, 3] == 0 and palette[255, 3] > 192
    red, _, blue = palette[255, :3]
    assert red > 100 > blue and palette[0, 2] > 100 > palette[0, 0]  # jet: from blue to red


def test_unspecified_labels_are_told_apart(labels):
    data = data_of(rendered(explained_images(labels, "wider_attribute"), WIDER_ATTRIBUTE))
    np.testing.assert_array_equal(array(data["truth"], "u1").reshape(N, C), np.where(labels == 0, 2, labels == 1))
    assert data["unknown_is_false"]


def test_page_without_truth_or_maps():
    data = data_of(rendered(explained_images(maps=False)))
    assert data["truth"] is data["metrics"] is None and data["maps"] == []
    assert [entry["labels"] for entry in data["images"]] == [[]] * N


def test_names_are_text(labels):
    text = rendered(explained_images(labels), COCO)
    assert "<title>The &lt;title&gt;</title>" in text and "<h1>The &lt;title&gt;</h1>" in text
    assert text.count("<script") == text.count("</script>") == 2
    assert "<b>" not in text.split('id="data">')[1].split("</script>")[0]


def test_page_allows_and_loads_nothing_else(labels):
    text = rendered(explained_images(labels), COCO)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    digests = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (style, script)]
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'"
    )
    assert set(re.findall(r"https?://[^\"' ]*", text)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert not re.search(
        r"(src|href)=|url\(|@import|\.innerHTML|insertAdjacentHTML|document\.write|eval\(",
        style + script + text.split("<style>")[0],
    )
