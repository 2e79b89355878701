"""From paths to answers: order, reading ahead, and what becomes of images that cannot be used."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srn_tf.errors import InputError
from srn_tf.prediction import answers
from srn_tf.prediction.answers import Picture, answer_files, answer_pictures, read_picture
from tests.prediction.pictures import DAMAGED, ColourPredictor, colour_of, encode, write_pictures

WAIT_S = 10


def batches_of(predictor, paths, batch_size, start=0):
    return list(answer_files(predictor, paths, batch_size, start))


def test_order_is_kept_and_batches_do_not_depend_on_the_start(tmp_path):
    paths = write_pictures(tmp_path, 23)
    # Every second call takes longer than the one after it.
    predictor = ColourPredictor(lambda call: time.sleep(0.03 * (call % 2 == 0)))
    batches = batches_of(predictor, paths, 4)
    assert [len(batch) for batch in batches] == [4, 4, 4, 4, 4, 3] and sorted(predictor.asked) == [3, 4, 4, 4, 4, 4]
    flat = [answer for batch in batches for answer in batch]
    assert [answer.path for answer in flat] == paths
    np.testing.assert_allclose([a.probabilities for a in flat], [np.array(colour_of(i)) / 255 for i in range(23)])
    later = batches_of(ColourPredictor(), paths, 4, start=12)
    assert [[answer.path for answer in batch] for batch in later] == [paths[12:16], paths[16:20], paths[20:]]


def test_files_are_read_while_the_model_is_busy_but_only_so_far(tmp_path, monkeypatch):
    paths = write_pictures(tmp_path, 80)
    read = []
    enough = threading.Event()

    def watched(path):
        read.append(path)
        if len(read) == 16:
            enough.set()
        return read_picture(path)

    monkeypatch.setattr(answers, "read_picture", watched)
    ahead = []

    def busy(call):
        if call < 2:
            assert enough.wait(WAIT_S)  # the files of all four batches, while none has an answer
            time.sleep(0.2)  # a fifth would be read by now
            ahead.append(len(read))

    assert len(batches_of(ColourPredictor(busy), paths, 4)) == 20
    assert ahead[0] == 16 and len(read) == 80


def test_two_batches_are_in_flight(tmp_path):
    both = threading.Barrier(2, timeout=WAIT_S)
    batches_of(ColourPredictor(lambda call: both.wait()), write_pictures(tmp_path, 8), 2)  # breaks if one comes alone


@pytest.mark.parametrize("kind", DAMAGED)
def test_image_that_cannot_be_used_has_a_reason_and_the_others_their_answers(tmp_path, kind):
    good = write_pictures(tmp_path, 2)
    data, reason = DAMAGED[kind]
    bad = tmp_path / "bad.jpg"
    if data is not None:
        bad.write_bytes(data)
    first, failed, last = answer_pictures(ColourPredictor(), [read_picture(str(p)) for p in (good[0], bad, good[1])])
    assert (failed.path, failed.probabilities, failed.predicted) == (str(bad), None, None)
    assert reason in failed.error and str(bad) in failed.error and "\n" not in failed.error
    for index, answer in enumerate((first, last)):
        assert answer.error is None and answer.predicted.tolist() == [False, False, True]
        np.testing.assert_allclose(answer.probabilities, np.array(colour_of(index)) / 255, rtol=1e-6)


def test_folder_as_an_image(tmp_path):
    assert "must be a readable image file. Received: Is a directory" in read_picture(str(tmp_path)).error


def test_damaged_jpeg_costs_its_batch_one_more_call(tmp_path):
    paths = write_pictures(tmp_path, 8)
    (tmp_path / "00003.png").write_bytes(DAMAGED["spoilt_jpeg"][0])
    predictor = ColourPredictor()
    answers_there = answer_pictures(predictor, [read_picture(path) for path in paths])
    assert [bool(answer.error) for answer in answers_there] == [index == 3 for index in range(8)]
    assert predictor.asked == [8, 7]


def test_images_that_only_the_model_refuses(tmp_path):
    """TensorFlow's decoder is the stricter one: Pillow shows some JPEGs that lack their end."""
    paths = write_pictures(tmp_path, 8)
    strange = [Path(path).read_bytes() for path in (paths[1], paths[6])]

    class Strict(ColourPredictor):
        def answer(self, images):
            return super().answer([b"" if image in strange else image for image in images])

    answers_there = answer_pictures(Strict(), [read_picture(path) for path in paths])
    for index, answer in enumerate(answers_there):
        assert answer.path == paths[index]
        if index in (1, 6):
            assert answer.error == f"{paths[index]} must be an image that the model's graph reads. It is odd."
        else:
            np.testing.assert_allclose(answer.probabilities, np.array(colour_of(index)) / 255, rtol=1e-6)


def test_predictor_that_answers_nothing_is_not_the_fault_of_an_image(tmp_path):
    def gone(call):
        raise InputError(f"A server must answer. Received: call {call}.")

    predictor = ColourPredictor(gone)
    with pytest.raises(InputError, match="^A server must answer. Received: call"):
        batches_of(predictor, write_pictures(tmp_path, 64), 4)
    assert len(predictor.asked) <= 2  # the batches in flight


def test_no_picture_that_can_be_read_is_no_call():
    predictor = ColourPredictor()
    (answer,) = answer_pictures(predictor, [read_picture("none.jpg")])
    assert answer.error and predictor.asked == []


def test_ordinary_jpeg_is_passed_on_undecoded(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(Image.new("RGB", (30, 20), (9, 9, 9)), "JPEG"))
    monkeypatch.setattr(Image.Image, "load", None)
    assert read_picture(str(path)) == Picture(str(path), path.read_bytes(), None)
