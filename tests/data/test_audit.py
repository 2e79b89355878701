"""What the audit makes of reports: warnings, errors, and the counts that are stored."""

import logging

import pytest
from etils import epath

from srn_tf.data.audit import Audit, AuditStop
from srn_tf.data.source import Count, Example, Photo, Source
from srn_tf.errors import InputError


def make_audit(
    counts=(),
    notes=(),
    warnings=(),
    labels=("any",),
    max_rejected=0.0,
    allow_overlap=False,
    fail_on_mismatch=False,
    **num_photos,
):
    """An Audit of splits of so many photographs, with one example each."""
    splits = {
        split: [Photo(f"{split}/{i}", (Example(f"{split}/{i}", (1,)),)) for i in range(number)]
        for split, number in (num_photos or {"train": 3, "test": 2}).items()
    }
    source = Source(tuple(labels), splits, tuple(counts), tuple(notes), tuple(warnings))
    return Audit("some_data", source, max_rejected, allow_overlap, fail_on_mismatch)


def report(path, digest=None, unlabelled=0, rejected=()):
    """The report on a photograph of one image, whose digest is its path unless it is given."""
    return {
        "path": path,
        "digest": None if rejected else digest or path,
        "images": 0 if rejected else 1,
        "unlabelled": unlabelled,
        "resized": 0,
        "positives": [] if rejected or unlabelled else [0],
        "stamp": [1, 2, digest or path],
        "rejected": [list(row) for row in rejected],
    }


def damaged(path):
    return report(path, rejected=[(path, f"{path} must be an image.")])


@pytest.fixture
def messages(caplog):
    """A function: level name -> messages logged at that level."""
    caplog.set_level(logging.INFO, logger="srn_tf")
    return lambda level: [record.getMessage() for record in caplog.records if record.levelname == level]


# Counts.


COUNTS = (Count("train images", 1200, 82783), Count("test images", 40504, 40504))


def test_a_count_that_differs_is_a_warning(messages):
    make_audit(counts=COUNTS, notes=["a line"]).check_counts()
    assert messages("WARNING") == ["Warning: some_data: train images: found 1,200, published 82,783."]
    assert messages("INFO") == ["some_data: a line"]


def test_a_count_that_differs_is_an_error_if_asked_for():
    with pytest.raises(InputError) as error:
        make_audit(counts=COUNTS, fail_on_mismatch=True).check_counts()
    assert str(error.value) == (
        "some_data: train images: found 1,200, published 82,783. (--fail_on_mismatch makes this an error.)"
    )
    make_audit(counts=COUNTS[1:], fail_on_mismatch=True).check_counts()


def test_labels_that_look_alike_and_what_a_source_warns_of(messages):
    made = {"labels": ("Cat", "dog", "cat"), "warnings": ["a doubt"]}
    make_audit(**made).check_counts()
    assert messages("WARNING") == [
        "Warning: some_data: a doubt",
        "Warning: some_data: Labels that look alike are kept separate: 'Cat', 'cat'. If two mean the same, give them "
        "the same name.",
    ]
    with pytest.raises(InputError, match="a doubt .*--fail_on_mismatch makes this an error"):
        make_audit(**made, fail_on_mismatch=True).check_counts()


def test_what_is_stored(messages):
    audit = make_audit(counts=COUNTS, notes=["a line"], max_rejected=0.2)
    audit.add("train", report("train/0"))
    audit.add("train", report("train/1", unlabelled=1))
    audit.add("train", damaged("train/2"))
    audit.add("test", report("test/0"))
    audit.add("test", report("test/1"))
    assert audit.finish() == {
        "splits": {
            "train": {"photos": 3, "images": 2, "unlabelled": 1, "resized": 0, "rejected": 1},
            "test": {"photos": 2, "images": 2, "unlabelled": 0, "resized": 0, "rejected": 0},
        },
        "counts": [
            {"what": "train images", "found": 1200, "published": 82783},
            {"what": "test images", "found": 40504, "published": 40504},
        ],
        "duplicates": 0,
        "overlap": 0,
        "notes": ["a line"],
    }
    assert audit.label_counts() == {"any": {"train": 1, "test": 2}}
    assert sorted(audit.stamps) == ["test/0", "test/1", "train/0", "train/1", "train/2"]
    assert messages("INFO") == [
        "some_data train: 2 images kept, 1 without label, 1 rejected.",
        "some_data test: 2 images kept, 0 without label, 0 rejected.",
    ]
    assert messages("WARNING") == []


# Equal images.


def equal_images(audit, folder):
    """The rows of equal_images.csv, without its header."""
    (path,) = audit.write_lists(epath.Path(folder))
    assert path.name == "equal_images.csv"
    lines = path.read_text().splitlines()
    assert lines[0] == "first_split,first_path,split,path"
    return lines[1:]


def test_three_copies_in_a_split_are_two_duplicates(messages, tmp_path):
    audit = make_audit()
    for path in ("train/0", "train/1", "train/2"):
        audit.add("train", report(path, digest="same"))
    audit.add("test", report("test/0"))
    summary = audit.finish()
    assert (summary["duplicates"], summary["overlap"]) == (2, 0)
    assert equal_images(audit, tmp_path) == ["train,train/0,train,train/1", "train,train/0,train,train/2"]
    assert messages("WARNING") == [
        "Warning: some_data: 2 images occur again in their split (equal pixels), the first: "
        "train/0 (train) and train/1 (train)."
    ]


def with_overlap(**options):
    """One image twice in train and once in test."""
    audit = make_audit(**options)
    audit.add("train", report("train/0", digest="same"))
    audit.add("train", report("train/1", digest="same"))
    audit.add("test", report("test/0"))
    audit.add("test", report("test/1", digest="same"))
    return audit


def test_overlap_is_an_error():
    with pytest.raises(InputError) as error:
        with_overlap().finish()
    assert str(error.value) == (
        "some_data: 1 images are in two splits (equal pixels), the first: train/0 (train) and test/1 (test). Training "
        "on test images makes results worthless. Remove one of each pair, or keep them with --allow_overlap."
    )


def test_overlap_can_be_allowed(messages, tmp_path):
    audit = with_overlap(allow_overlap=True)
    summary = audit.finish()
    assert (summary["duplicates"], summary["overlap"]) == (1, 1)
    assert equal_images(audit, tmp_path) == ["train,train/0,train,train/1", "train,train/0,test,test/1"]
    overlap, duplicates = messages("WARNING")
    assert "1 images are in two splits" in overlap and "1 images occur again" in duplicates


def test_equal_images_are_errors_if_asked_for():
    with pytest.raises(InputError, match="in two splits .*--fail_on_mismatch makes this an error"):
        with_overlap(allow_overlap=True, fail_on_mismatch=True).finish()
    audit = make_audit(train=2, fail_on_mismatch=True)
    audit.add("train", report("train/0", digest="same"))
    audit.add("train", report("train/1", digest="same"))
    with pytest.raises(InputError, match="1 images occur again .*--fail_on_mismatch makes this an error"):
        audit.finish()


def test_damaged_files_are_not_equal_to_each_other():
    audit = make_audit(max_rejected=1.0)
    audit.add("train", damaged("train/0"))
    audit.add("train", damaged("train/1"))
    audit.add("train", report("train/2"))
    audit.add("test", report("test/0"))
    assert audit.finish()["duplicates"] == 0


# Damaged images.


@pytest.mark.parametrize(
    ("max_rejected", "num_photos", "allowed"),
    [
        (0.0, 10, 0),
        (0.001, 999, 0),
        (0.001, 1000, 1),
        (0.001, 1999, 1),
        (0.5, 3, 1),
        (0.29, 100, 29),  # 0.29 * 100 is 28.999999999999996
        (1.0, 4, 4),
    ],
)
def test_exactly_the_share_may_be_damaged(max_rejected, num_photos, allowed):
    audit = make_audit(train=num_photos, max_rejected=max_rejected)
    for index in range(allowed):
        audit.add("train", damaged(f"train/{index}"))
    if allowed < num_photos:
        with pytest.raises(AuditStop):
            audit.add("train", damaged(f"train/{allowed}"))
    assert len(audit.rejected) == min(allowed + 1, num_photos)


def test_the_share_is_of_all_splits_and_examples():
    photos = [Photo(str(i), (Example(f"{i}#0", (1,)), Example(f"{i}#1", (1,)))) for i in range(3)]
    source = Source(("any",), {"train": photos[:2], "test": photos[2:]})
    audit = Audit("some_data", source, 0.5, False, False)
    audit.add("train", report("0", rejected=[("0#0", "empty"), ("0#1", "empty")]))
    audit.add("train", report("1", rejected=[("1#0", "empty")]))  # 3 of 6
    with pytest.raises(AuditStop):
        audit.add("test", report("2", rejected=[("2#1", "empty")]))


def test_the_message_about_damaged_images():
    audit = make_audit(train=1000, max_rejected=0.001)
    audit.add("train", damaged("train/7"))
    with pytest.raises(InputError) as error:
        audit.add("train", damaged("train/9"))
    assert str(error.value) == (
        "At most 0.10% of the 1,000 images of some_data may be damaged. Received: 2 damaged so far, "
        "the first train/7 (train/7 must be an image.). Replace them, or raise --max_rejected."
    )


def test_a_split_of_damaged_images_is_an_error():
    audit = make_audit(max_rejected=1.0)
    for index in range(3):
        audit.add("train", report(f"train/{index}"))
    for index in range(2):
        audit.add("test", damaged(f"test/{index}"))
    with pytest.raises(
        AuditStop, match="^Split test of some_data must keep at least one image. Received: only damaged"
    ):
        audit.finish()


def test_the_list_of_damaged_images(tmp_path):
    audit = make_audit(max_rejected=1.0)
    audit.add("train", damaged("train/1"))
    audit.add("test", report("test/0", rejected=[("test/0#3", 'a "box", empty'), ("test/0#4", "été")]))
    assert audit.write_lists(epath.Path(tmp_path)) == [epath.Path(tmp_path / "rejected.csv")]
    assert (tmp_path / "rejected.csv").read_bytes().decode() == (
        "split,path,reason\n"
        "train,train/1,train/1 must be an image.\n"
        'test,test/0#3,"a ""box"", empty"\n'
        "test,test/0#4,été\n"
    )


def test_nothing_found_leaves_no_list(tmp_path):
    audit = make_audit()
    audit.add("train", report("train/0"))
    assert audit.write_lists(epath.Path(tmp_path)) == [] and list(tmp_path.iterdir()) == []
