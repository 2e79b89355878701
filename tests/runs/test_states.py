"""The last states of a run: whole ones only, the newest that can be read, and not more than wanted."""

import os
from pathlib import Path

import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.runs import checkpoint
from srn_tf.runs.states import States
from tests.training import small


def arrays_of(number):
    return {"w": np.full((50, 40), number, np.float32), "steps": np.int64(number)}


def save(states, *numbers):
    for number in numbers:
        states.save(arrays_of(number), {"labels": ["a"], "number": number})


def names(folder):
    return sorted(os.listdir(folder))


def assert_newest(states, number):
    arrays, meta = states.newest()
    small.assert_bit_equal(arrays, arrays_of(number))
    assert meta == {"labels": ["a"], "number": number}


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def not_finite(path):
    arrays, meta = checkpoint.load_arrays(path)
    arrays["w"][7, 7] = np.nan
    checkpoint.save_arrays(path, arrays, meta)


def empty(path):
    path.write_bytes(b"")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run[1]" / "state"  # brackets, which glob gives a meaning


def test_no_state_yet(folder):
    states = States(folder, 3)
    assert states.newest() is None and states.metas() == []
    assert not folder.exists()
    folder.mkdir(parents=True)
    assert states.newest() is None and states.metas() == []


@pytest.mark.parametrize("keep, kept", [(1, [12]), (3, [10, 11, 12]), (20, range(1, 13))])
def test_the_last_ones_are_kept(folder, keep, kept):
    """Past nine, too, where the order of names is not that of numbers."""
    states = States(folder, keep)
    save(states, *range(1, 13))
    assert names(folder) == sorted(f"state-{number}.npz" for number in kept)
    assert [meta["number"] for meta in states.metas()] == list(kept)
    assert_newest(states, 12)


def test_another_process_goes_on_counting(folder):
    save(States(folder, 2), 1, 2, 3)
    again = States(folder, 2)
    assert_newest(again, 3)
    save(again, 4)
    assert names(folder) == ["state-3.npz", "state-4.npz"]


@pytest.mark.parametrize("damage", [flip, cut, empty, not_finite])
def test_a_damaged_newest_is_left_out_and_told(folder, caplog, damage):
    save(States(folder, 3), 1, 2, 3)
    damage(folder / "state-3.npz")
    states = States(folder, 3)
    with caplog.at_level("WARNING", "srn_tf"):
        assert_newest(states, 2)
    (message,) = caplog.messages
    reason = "must be finite numbers" if damage is not_finite else "must be an undamaged weight file"
    assert f"{folder}/state-3.npz {reason}" in message and f"{folder}/state-2.npz is used instead" in message
    assert "\n" not in message
    assert [meta["number"] for meta in states.metas()] == ([1, 2, 3] if damage in (flip, not_finite) else [1, 2])
    save(states, 4)  # the damaged one goes, and counts for none of the three
    assert names(folder) == ["state-1.npz", "state-2.npz", "state-4.npz"]
    caplog.clear()
    assert_newest(states, 4)
    assert not caplog.messages


def test_two_damaged_ones(folder, caplog):
    save(States(folder, 3), 1, 2, 3)
    flip(folder / "state-3.npz")
    cut(folder / "state-2.npz")
    with caplog.at_level("WARNING", "srn_tf"):
        assert_newest(States(folder, 3), 1)
    assert len(caplog.messages) == 2


def test_nothing_but_damage(folder):
    save(States(folder, 2), 1, 2)
    flip(folder / "state-1.npz")
    flip(folder / "state-2.npz")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match="Received: 2, all damaged. The newest: .*state-2.npz.*--restart") as raised:
        States(folder, 2).newest()
    assert "\n" not in str(raised.value)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_what_a_killed_write_left_is_removed(folder):
    states = States(folder, 2)
    save(states, 1)
    (folder / "state-2.npz.writing").write_bytes(b"half")
    (folder / "notes.txt").write_text("mine")
    assert_newest(states, 1)
    assert names(folder) == ["notes.txt", "state-1.npz"]


def test_a_full_disk_costs_no_state(folder, monkeypatch):
    states = States(folder, 1)
    save(states, 1)

    def fill(file, arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "_write_archive", fill)
    with pytest.raises(InputError, match=r"state-2.npz could not be written. Received: No space left on device"):
        save(states, 2)
    assert names(folder) == ["state-1.npz"]
    monkeypatch.undo()
    assert_newest(states, 1)
    save(states, 2)
    assert_newest(States(folder, 1), 2)


def test_states_hold_what_a_run_has_of_numbers(folder):
    arrays = {
        "float16": np.float16([1.5, -0.0]),
        "bool": np.array([True, False]),
        "uint8": np.zeros((0, 3), np.uint8),
        "a/b:0": np.float64([[1e-300]]),
    }
    meta = {"labels": ["ä", "b"], "best": None, "rate": 0.1, "sums": {"y": 1.25}}
    states = States(Path(folder), 1)
    states.save(arrays, meta)
    read, read_meta = states.newest()
    assert read_meta == meta
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
