"""Weight files: stable addresses, everything or nothing, one message for whatever does not fit."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

import srn_tf
from srn_tf.errors import InputError
from srn_tf.models.variables import variable_of
from srn_tf.runs import checkpoint
from tests.training import small

LABELS = ["a", "b", "c"]

ADDRESSES = [  # a sample; a change of any of these makes older files useless
    "trunk/cnn_stem_conv/kernel",
    "trunk/cnn_stage1_block1_pre_bn/moving_variance",
    "classifier/cls_logits/bias",
    "f_neck/neck_block1_2_conv/kernel",
    "f_att/att_1_bn/gamma",
    "f_att/att_3_conv/kernel",
    "f_conf/conf_2_conv/bias",
    "f_sr/sr_conv4/kernel",
    "f_sr/sr_logits/kernel",
]


@pytest.fixture(scope="module")
def model():
    return small.build_small_srn()


@pytest.fixture
def saved(model, tmp_path):
    path = str(tmp_path / "runs" / "w.npz")
    checkpoint.save_weights(path, model, {"labels": LABELS, "stage": "all"})
    return path


def assert_refused(path, model, match, labels=LABELS):
    """One line that names the file, and not one weight assigned."""
    before = small.weights_of(model)
    with pytest.raises(InputError, match=match) as raised:
        checkpoint.load_weights(path, model, labels)
    assert "\n" not in str(raised.value)
    assert path in str(raised.value)
    small.assert_bit_equal(small.weights_of(model), before)


def test_addresses_are_unique_and_stable(model):
    named = model.weights
    assert len(named) == len(model.network.weights)
    assert {id(weight) for weight in named.values()} == {id(variable_of(weight)) for weight in model.network.weights}
    assert set(ADDRESSES) <= set(named)
    assert list(small.small_srn().weights) == list(named)
    learned = small.small_srn("paper", learn_alpha=True).weights
    assert "mix/alpha_logit" in learned and not any(name.startswith("f_neck/") for name in learned)


def test_save_and_load_are_bit_equal(model, saved):
    expected = small.weights_of(model)
    other = small.small_srn()
    small.randomize(other, seed=5)
    checkpoint.load_weights(saved, other, tuple(LABELS))
    small.assert_bit_equal(small.weights_of(other), expected)
    arrays, meta = checkpoint.load_arrays(saved)
    assert meta == {"labels": LABELS, "stage": "all"}
    assert list(arrays) == list(expected)


def test_other_labels(model, saved):
    assert_refused(saved, model, r"Expected at position 1: 'x'. Received: 'b'", ["a", "x", "c"])
    shorter = r"Expected at position 2: .\(no more\).. Received: .c. \(2 labels against 3\)"
    assert_refused(saved, model, shorter, ["a", "b"])


@pytest.fixture(scope="module")
def wide():
    return small.small_model("srn", 3, head_channels=12)


def test_another_architecture(model, saved, wide):
    paper = small.small_srn("paper", learn_alpha=True)
    assert_refused(saved, paper, r"weights are missing \(first f_att/att_1_conv/bias\).*unknown \(first f_att/att_1_bn")
    assert_refused(
        saved,
        wide,
        r"must fit the model.*have another shape \(first f_att/att_1_conv/kernel: expected \(1, 1, 64, 12\), "
        r"received \(1, 1, 64, 8\)\)",
    )


def test_one_misshapen_array_is_enough(model, saved):
    """The last address is the faulty one: none of those before it may have been assigned."""
    arrays, meta = checkpoint.load_arrays(saved)
    arrays = {name: value + 1.0 for name, value in arrays.items()}
    last = list(arrays)[-1]
    arrays[last] = arrays[last][..., None]
    checkpoint.save_arrays(saved, arrays, meta)
    assert_refused(saved, model, re.escape(f"1 weights have another shape (first {last}") + "|1 have another shape")


def test_parts_that_fit(model, saved, wide):
    """Every part of the same labels; of others those that know none; never one whose weights are others."""
    taken, left, untrained = checkpoint.load_fitting_parts(saved, wide, LABELS)
    assert set(taken) == {"trunk", "classifier", "f_neck"} and not untrained
    assert set(left) == {"f_att", "f_conf", "f_sr"} and "have another shape" in left["f_att"]
    for name, value in small.weights_of(wide).items():
        assert np.array_equal(value, model.weights[name].numpy()) == (name.split("/")[0] in taken), name
    main_net = small.small_model("main_net", 5)
    taken, left, _ = checkpoint.load_fitting_parts(saved, main_net, list("abcde"))
    assert (taken, left) == (["trunk"], {"classifier": "other labels"})
    other = small.small_model("main_net", 3)
    assert checkpoint.load_fitting_parts(saved, other, ["a", "c", "b"])[0] == ["trunk"]


def test_weights_of_another_version(model, saved, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 1)
    checkpoint.save_weights(saved, model, {"labels": LABELS})
    assert_refused(
        saved, model, r"must have format 3, of this version of srn_tf\. Received: format 1\. Train the run again"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(model, saved, value):
    """By name, whoever reads them: a run's final weights, --init_from, states (which then take the one before)."""
    arrays, meta = checkpoint.load_arrays(saved)
    name = "f_att/att_3_conv/kernel"
    arrays[name] = arrays[name].copy()
    arrays[name].flat[[1, 5]] = value
    checkpoint.save_arrays(saved, arrays, meta)
    message = rf"must be finite numbers. Received: NaN or infinity in 2 of {arrays[name].size} values of {name}\. "
    assert_refused(saved, model, message)
    with pytest.raises(InputError, match=message):
        checkpoint.load_fitting_parts(saved, model, LABELS)
    arrays["f_sr/sr_logits/bias"] = np.full(3, value, np.float32)
    checkpoint.save_arrays(saved, arrays, meta)
    assert_refused(saved, model, rf"{name}, and in 1 more arrays\. ")


def test_a_missing_file(model, tmp_path):
    assert_refused(str(tmp_path / "none.npz"), model, r"Weights must be a file \(.npz\) written by srn_tf")
    assert_refused(str(tmp_path), model, "not a file")


def array_file(path):
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))


def foreign_archive(path):
    np.savez(path, kernel=np.zeros(3))


def pickled_archive(path):
    np.savez(path, weights=np.array([{"a": 1}], dtype=object))


def without_labels(path):
    checkpoint.save_arrays(str(path), {}, {"stage": "all"})


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text("not weights at all\n"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\x03\x04 and no more"),
        array_file,
        foreign_archive,
        pickled_archive,
        without_labels,
    ],
    ids=["text", "empty", "broken archive", "one array", "foreign archive", "pickled archive", "no labels"],
)
def test_a_file_of_something_else(model, tmp_path, write):
    path = tmp_path / "w.npz"
    write(path)
    assert_refused(str(path), model, "must be an undamaged weight file")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_truncated_file(model, saved, share):
    content = Path(saved).read_bytes()
    Path(saved).write_bytes(content[: int(share * len(content))])
    assert_refused(saved, model, "must be an undamaged weight file")


def test_a_flipped_byte(model, saved):
    content = bytearray(Path(saved).read_bytes())
    content[len(content) // 2] ^= 0xFF
    Path(saved).write_bytes(content)
    assert_refused(saved, model, "must be an undamaged weight file")


@pytest.mark.slow
def test_no_flipped_bit_changes_what_is_read(tmp_path):
    """Of every byte of a small file, headers and directory too, one bit; what is not refused was of no meaning."""
    path = str(tmp_path / "w.npz")
    arrays = {"a/b": np.arange(12, dtype=np.float32).reshape(3, 4), "c": np.int64(7)}
    checkpoint.save_arrays(path, arrays, {"labels": LABELS})
    content = Path(path).read_bytes()
    refused = 0
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        Path(path).write_bytes(damaged)
        try:
            read, meta = checkpoint.load_arrays(path)
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            small.assert_bit_equal(read, arrays)
            assert meta == {"labels": LABELS}
    assert refused > len(content) / 2


def test_the_file_is_numpys_own(saved):
    with np.load(saved) as file:
        names, meta = file.files, str(file["__meta__"])
        arrays = {name: file[name] for name in names if name != "__meta__"}
    assert json.loads(meta) == {"labels": LABELS, "stage": "all", "format": 3}
    small.assert_bit_equal(arrays, checkpoint.load_arrays(saved)[0])


def test_the_meta_dict_alone(saved):
    expected = {"labels": LABELS, "stage": "all"}
    assert checkpoint.load_meta(saved) == expected
    content = bytearray(Path(saved).read_bytes())
    content[len(content) // 2] ^= 0xFF  # in an array
    Path(saved).write_bytes(content)
    assert checkpoint.load_meta(saved) == expected
    Path(saved).write_bytes(content[:100])
    with pytest.raises(InputError, match="must be an undamaged weight file"):
        checkpoint.load_meta(saved)


def fill_the_disk(file, *_):
    file.write(b"half")
    raise OSError(28, "No space left on device")


def interrupt(file, *_):
    file.write(b"half")
    raise KeyboardInterrupt


def test_a_write_that_fails_leaves_the_old_file_alone(model, saved, monkeypatch):
    content = Path(saved).read_bytes()
    for write, exception in ((fill_the_disk, InputError), (interrupt, KeyboardInterrupt)):
        monkeypatch.setattr(checkpoint, "_write_archive", write)
        with pytest.raises(exception) as raised:
            checkpoint.save_weights(saved, model, {"labels": LABELS})
        if exception is InputError:
            message = str(raised.value)
            assert f"{saved} could not be written. Received: No space left on device" in message and "\n" not in message
        assert Path(saved).read_bytes() == content
        assert os.listdir(os.path.dirname(saved)) == ["w.npz"]


def test_what_reads_otherwise_than_it_was_written_never_gets_the_name(model, saved, monkeypatch):
    content = Path(saved).read_bytes()

    def write(file, arrays):
        original(file, arrays)
        file.seek(1000)
        file.write(b"\xff\x00\xff\x00")

    original = checkpoint._write_archive
    monkeypatch.setattr(checkpoint, "_write_archive", write)
    with pytest.raises(InputError, match=r"could not be written. Received: it reads back differently"):
        checkpoint.save_weights(saved, model, {"labels": LABELS})
    assert Path(saved).read_bytes() == content
    assert os.listdir(os.path.dirname(saved)) == ["w.npz"]


def test_a_folder_that_cannot_be_written(model, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="could not be written"):
        checkpoint.save_weights(str(tmp_path / "file" / "w.npz"), model, {"labels": LABELS})


def test_no_code_in_weight_files():
    """Pickles can run code: one module reads them, with an unpickler that admits tensors alone."""
    readers = []
    for path in Path(srn_tf.__file__).parent.rglob("*.py"):
        text = path.read_text()
        assert "allow_pickle=True" not in text and not re.search(r"\bpickle\.(load|loads)\b", text), path
        if re.search(r"^\s*(import|from)\s+pickle\b", text, re.M):
            readers.append(path.name)
    assert readers == ["torch_file.py"]
