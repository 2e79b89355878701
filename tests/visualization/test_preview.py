"""The page on how a source was read: counts, chosen photographs, boxes, and names that are text whatever they hold."""

import csv
import re

import pytest
from PIL import Image

from srn_tf.data.source import Count, Example, Photo, Source, SparseLabels
from srn_tf.visualization.preview import chosen_photos, render_preview, write_label_counts

NAMES = ("cat", "</td><script>alert(1)</script>", "dog", "Dog")


def photo(path, *positive, objects=()):
    return Photo(path, (Example(path, tuple(int(index in positive) for index in range(len(NAMES))), objects),))


@pytest.fixture
def source(tmp_path):
    """Twelve images, of which the last is missing; one has a box from (0.5, 0) to (1, 0.5)."""
    box = (((0.0, 0.5, 0.5, 1.0), 0),)
    photos = [photo(f"{i}.png", 0, objects=box if i == 0 else ()) for i in range(10)]
    for one in photos:
        Image.new("RGB", (480, 240), (20, 90, 160)).save(tmp_path / one.path)
    test = [photo("<b>.png", 0, 1), photo("none.png")]
    Image.new("RGB", (480, 240)).save(tmp_path / "<b>.png")
    form = (("labels", "column 'labels' & <i>"),)
    return Source(NAMES, {"train": photos, "test": test}, (Count("images", 12, 13),), ("A note.",), ("Look.",), form)


def rows(page):
    table = page.partition('id="per-label"')[2].partition("</table>")[0]
    return [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]


def test_a_page(source, tmp_path):
    page = render_preview("csv", source, str(tmp_path))
    assert rows(page) == [
        ["label", "train", "test"],
        ["cat", "10", "1"],
        ["&lt;/td&gt;&lt;script&gt;alert(1)&lt;/script&gt;", "0", "1"],
        ["dog", "0", "0"],
        ["Dog", "0", "0"],
    ]
    assert "12 images: 10 train, 2 test. 4 labels. Nothing has been written yet." in page
    assert "<td>column &#x27;labels&#x27; &amp; &lt;i&gt;</td>" in page
    for line in ("A note.", "Look.", "images: found 12, published 13.", "Labels that look alike are kept separate"):
        assert f"<li>{line}" in page
    assert "<script" not in page and "default-src 'none'" in page
    assert page.count("<article") == 10
    assert page.count("data:image/jpeg;base64,") + page.count("which does not exist") == 10


def test_counts_of_more_labels_than_are_shown(source, tmp_path):
    write_label_counts(tmp_path / "labels.csv", source)
    with open(tmp_path / "labels.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["label", "train", "test"],
        ["cat", "10", "1"],
        [NAMES[1], "0", "1"],
        ["dog", *"00"],
        ["Dog", *"00"],
    ]
    names = tuple(f"label {number}" for number in range(1200))
    many = SparseLabels(1200, 0, (7,))
    page = render_preview("csv", Source(names, {"train": [Photo("0.png", (Example("0.png", many),))]}), str(tmp_path))
    assert "200 further labels are in labels.csv beside this page." in page and "label 999<" in page


def test_a_box_and_a_missing_image(source, tmp_path):
    few = Source(NAMES, {"train": source.splits["train"][:1], "test": source.splits["test"][1:]})
    page = render_preview("csv", few, str(tmp_path))
    assert '<svg viewBox="0 0 240 120"><rect x="120.0" y="0.0" width="120.0" height="60.0"/>' in page
    assert f"An image file must exist. Received: {tmp_path}/none.png, which does not exist" in page
    assert "<span>no label</span>" in page


def test_photographs_with_other_labels_come_first(source):
    for number in (2, 3, 10):
        chosen = chosen_photos(source, number)
        assert len(chosen) == number and len({example.name for _, _, example in chosen}) == number
        assert ("test", "<b>.png") in [(split, example.name) for split, _, example in chosen]
    assert len(chosen_photos(source, 20)) == 12
