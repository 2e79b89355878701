"""Cleaning of label names, and which of them are said to be a possible mistake."""

import unicodedata

import pytest

from srn_tf.data import coco_annotations, nus_wide_lists, voc2007, wider_attribute
from srn_tf.data.examples import metadata
from srn_tf.data.label_names import clean_name, in_short, look_alike, made_of_others
from srn_tf.errors import InputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  hot \t dog\u00a0\u3000", "hot dog"),
        (unicodedata.normalize("NFD", "Käse é が 각"), "Käse é が 각"),
        ("\ufeffc\u200ba\u00adt\u2060\u200e\x07", "cat"),
        ("e\u200b\u0301", "\u00e9"),  # the accent joins its letter
        ("cat\u200d \u200c", "cat"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # seen there
        ("👩\u200d🚀", "👩\u200d🚀"),
        ("\u200b \ufeff", ""),
    ],
)
def test_clean_name(text, expected):
    assert clean_name(text) == expected == clean_name(expected)


def test_every_data_set_gets_clean_names():
    assert metadata(["cafe\u0301", " dog\u200b"]) == {"labels": ["caf\u00e9", "dog"]}
    with pytest.raises(InputError, match="Label names must differ. Received: caf\u00e9 twice"):
        metadata(["cafe\u0301", "caf\u00e9"])
    with pytest.raises(InputError, match="must be one line of text"):
        metadata(["\u200b"])


def test_the_readers_clean_the_names_they_compare(tmp_path):
    coco_annotations._check_categories("a.json", {"categories": [{"id": 13, "name": "stop\u00a0sign\u200b"}]})
    names = {str(i): f"{name}\ufeff" for i, name in enumerate(wider_attribute.LABEL_NAMES)}
    wider_attribute._check_attribute_names("a.json", {"attribute_id_map": names})
    assert sum(nus_wide_lists._parse_labels("['sky\u200b']", "a.csv")) == 1
    box = "<xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax>"
    (tmp_path / "a.xml").write_text(
        "<annotation><size><width>2</width><height>2</height></size><object><name> dog\u200b</name>"
        f"<difficult>0</difficult><bndbox>{box}</bndbox></object></annotation>"
    )
    assert voc2007.read_objects(tmp_path / "a.xml") == (((0, 0, 1, 1), voc2007.LABEL_NAMES.index("dog"), False),)


def test_look_alike():
    groups = [
        ["Cat", "cat", "\u0441at", "\uff43at"],  # Cyrillic, full width
        ["cafe", "café"],
        ["traffic light", "traffic-light", "Traffic_Light"],
        ["می\u200cخواهم", "میخواهم"],
    ]
    others = ["dog", "dogs", "が", "か", "C", "C#", "C++", "-", "+", "1.5", "15", "कि", "की"]
    assert look_alike([name for group in groups for name in group] + others) == groups


def test_made_of_others():
    assert made_of_others(["cat", "dog", "hot dog", "dog hot dog", "Cat/dog", "cat cow"]) == ["dog hot dog", "Cat/dog"]
    pairs = ["cat dog", "dog cow", "cow cat"]  # none of which stands alone
    assert made_of_others([*pairs, "hen house"]) == pairs
    for fine in (["baseball bat", "baseball glove", "bat"], ["star_above", "star_below", "moon_above", "moon_below"]):
        assert made_of_others(fine) == []


def test_in_short():
    assert in_short(["a", "b"]) == "'a', 'b'"
    assert in_short(list("abcd"), 2) == "'a', 'b' and 2 others"
