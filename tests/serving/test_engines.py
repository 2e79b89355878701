"""Every engine gives the rows that TensorFlow gives, refuses the same files, and is missed in plain words."""

import importlib.util
import json
import re
import sys

import numpy as np
import pytest

from srn_tf.errors import ImageError, InputError
from srn_tf.prediction.predict import Summary, predict_files
from srn_tf.serving import engines
from srn_tf.serving.export import export
from srn_tf.serving.predictor import Predictor
from tests.prediction.pictures import DAMAGED, damage, read_csv
from tests.serving.asking import IMAGES, picture

PACKAGES = {"openvino": ("openvino",), "onnxruntime": ("tf2onnx", "onnxruntime")}


def are_installed(engine):
    return all(importlib.util.find_spec(package) for package in PACKAGES[engine])


@pytest.fixture(scope="module")
def folder(main_net, tmp_path_factory):
    """A small main net, exported for all engines whose packages are there."""
    path = tmp_path_factory.mktemp("engines") / "1"
    openvino = "float32" if are_installed("openvino") else "none"
    export(
        main_net,
        ["a", "b"],
        path,
        np.array([0.5, 0.4999]),
        is_onnx_wanted=are_installed("onnxruntime"),
        openvino=openvino,
    )
    return path


@pytest.fixture(scope="module", params=["openvino", pytest.param("onnxruntime", marks=pytest.mark.slow)])
def other(request):
    """An engine that is not TensorFlow."""
    if not are_installed(request.param):
        pytest.skip(f"{' and '.join(PACKAGES[request.param])}, which are optional, are not installed")
    return request.param


def test_rows_are_those_of_tensorflow(other, folder, tmp_path):
    paths = [tmp_path / f"{place:02d}.jpg" for place in range(12)]
    for place, path in enumerate(paths):
        path.write_bytes(picture(40 + 7 * place, 90 - 5 * place, ("JPEG", "PNG", "BMP", "GIF")[place % 4]))
    for kind, path in zip(DAMAGED, paths[1::2]):
        damage(path, kind)
    paths = list(map(str, paths))
    rows, identities = {}, set()
    for name in ("tensorflow", other):
        predictor = Predictor(folder, name)
        identities.add(predictor.identity)
        output = str(tmp_path / f"{name}.csv")
        assert predict_files(predictor, paths, output, batch_size=5) == Summary(12, 6)
        rows[name] = read_csv(output)
    ours, others = rows["tensorflow"], rows[other]
    assert [(path, error) for path, _, _, error in ours] == [(path, error) for path, _, _, error in others]
    assert [row[0] for row in others[1:]] == paths and sum(bool(row[3]) for row in others[1:]) == 6
    expected, received = (
        np.array([row[1:3] for row in table[1:] if not row[3]], np.float64) for table in (ours, others)
    )
    np.testing.assert_allclose(received, expected, rtol=0, atol=1e-4)
    assert np.ptp(expected, axis=0).min() > 1e-3  # rows that were swapped would be noticed
    assert len(identities) == 2


def test_answers_refusals_and_no_images(other, folder):
    predictor, ours = Predictor(folder, other), Predictor(folder)
    for images in (IMAGES, IMAGES[:1], []):
        received, expected = predictor.answer(images), ours.answer(images)
        assert received["probabilities"].dtype == np.float32 and received["predicted"].dtype == bool
        np.testing.assert_allclose(received["probabilities"], expected["probabilities"], rtol=0, atol=1e-4)
        np.testing.assert_array_equal(received["predicted"], received["probabilities"] > predictor.thresholds)
    for bad in (b"no image", IMAGES[0][: len(IMAGES[0]) // 2]):
        messages = []
        for one in (predictor, ours):
            with pytest.raises(ImageError) as error:
                one.answer([IMAGES[1], bad])
            messages.append(str(error.value))
        assert messages[0] == messages[1] and "1 (from 0) of 2" in messages[0]
    with pytest.raises(InputError, match=f"asked by the engine {other}, which gives .* Use the engine tensorflow"):
        predictor.embed(IMAGES)


def test_export_without_the_file(main_net_folder):
    with pytest.raises(
        InputError, match="needs an export with assets.extra/openvino/model.xml[.] .* --openvino=float32"
    ):
        Predictor(main_net_folder, "openvino")
    with pytest.raises(InputError, match="needs an export with assets.extra/model.onnx[.] .* --onnx"):
        Predictor(main_net_folder, "onnxruntime")
    with pytest.raises(InputError, match="engine must be one of tensorflow, openvino, onnxruntime. Received: 'torch'"):
        Predictor(main_net_folder, "torch")


@pytest.mark.parametrize("engine", PACKAGES)
def test_packages_that_are_missing(tmp_path, monkeypatch, engine):
    for file in ("openvino/model.xml", "model.onnx", "reader/saved_model.pb"):
        (tmp_path / "assets.extra" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "assets.extra" / file).touch()
    monkeypatch.setitem(sys.modules, engine, None)
    with pytest.raises(
        InputError, match=f"need further packages. Received: no package {engine}. Install them: pip install -r req"
    ):
        engines.open_engine(engine, str(tmp_path))


@pytest.mark.parametrize(
    "rates, quantization, expected",
    [
        (
            {"tensorflow": 10.0, "openvino": 25.0},
            {},
            "--engine=openvino answers faster: .* 2.50 times .* of 8, CPU X\\).$",
        ),
        (
            {"tensorflow": 10.0, "onnxruntime": 11.5, "openvino": 40.0},
            {"quantization": {"float32": {"mAP": 80.0}, "int8": {"mAP": 79.75}}},
            "--engine=openvino .* 4.00 times .*; in int8, at a loss of 0.25 mAP on the validation images.$",
        ),
        ({"tensorflow": 10.0, "openvino": 10.5}, {}, None),
        (None, {}, None),
    ],
)
def test_what_is_said_of_a_faster_engine_was_measured(tmp_path, caplog, rates, quantization, expected):
    caplog.set_level("INFO", "srn_tf")
    (tmp_path / "assets.extra").mkdir()
    speed = {} if rates is None else {"speed": {"images_per_s": rates, "batch_size": 8, "processor": "CPU X"}}
    (tmp_path / "assets.extra" / "export.json").write_text(json.dumps({**speed, **quantization}))
    engines.say_what_is_faster(tmp_path)
    said = [record.getMessage() for record in caplog.records]
    assert said == [] if expected is None else len(said) == 1
    if expected:
        assert re.match(expected, said[0])
