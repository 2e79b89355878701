"""NUS-WIDE's feature files: what is read is what was written, wherever they lie, and each fault is one message."""

import numpy as np
import pytest

from srn_tf.data.nus_wide_features import BLOCKS, WIDTH, find_files, read_features
from srn_tf.errors import InputError

NUM_IMAGES = 3
FILES = {
    "Train_Normalized_CH.dat": 64,
    "Train_Normalized_CORR.dat": 144,
    "Train_Normalized_EDH.dat": 73,
    "Train_Normalized_WT.dat": 128,
    "Train_Normalized_CM55.dat": 225,
    "BoW_Train_int.dat": 500,
}


def value(column, image):
    """What stands in the files: the first column of the first file is 0, the last of the last 1133."""
    return -(column + image / 4) if column % 2 else column + image / 4


def lines_of(file):
    """Lines as distributed, with a blank at the end."""
    start = [*FILES].index(file)
    start = sum([*FILES.values()][:start])
    columns = range(start, start + FILES[file])
    return ["".join(f"{value(column, image):g} " for column in columns) for image in range(NUM_IMAGES)]


@pytest.fixture
def folder(tmp_path):
    """The files of the training images, and empty ones for test."""
    for file in FILES:
        (tmp_path / file).write_text("".join(f"{line}\n" for line in lines_of(file)))
        (tmp_path / file.replace("Train", "Test")).write_text("")
    return tmp_path


def test_widths():
    assert [block.width for block in BLOCKS] == [*FILES.values()]
    assert WIDTH == 1134


def test_values(folder):
    features = read_features(find_files(folder)["train"], NUM_IMAGES)
    assert features.dtype == np.float32 and features.shape == (3, 1134)
    assert features.tolist() == [[value(column, image) for column in range(1134)] for image in range(3)]


def test_an_empty_list_has_no_features(folder):
    assert read_features(find_files(folder)["test"], 0).shape == (0, 1134)


def test_files_may_lie_in_the_official_folder(folder):
    (folder / "Low_Level_Features").mkdir()
    for path in list(folder.glob("*Normalized*.dat")):
        path.rename(folder / "Low_Level_Features" / path.name)
    found = find_files(folder)
    assert found["train"][0] == str(folder / "Low_Level_Features" / "Train_Normalized_CH.dat")
    assert found["test"][5] == str(folder / "BoW_Test_int.dat")


def test_line_ends_and_blank_lines_after_the_last_image(folder):
    path = folder / "Train_Normalized_EDH.dat"
    expected = read_features(find_files(folder)["train"], NUM_IMAGES)
    path.write_bytes("\r\n".join([*lines_of(path.name), " ", ""]).replace(" ", "\t").encode())
    np.testing.assert_array_equal(read_features(find_files(folder)["train"], NUM_IMAGES), expected)


def changed(line, entry, text):
    """The lines of CM55 with one entry replaced, both counted from 1."""
    lines = lines_of("Train_Normalized_CM55.dat")
    entries = lines[line - 1].split()
    entries[entry - 1 : entry] = text.split()
    lines[line - 1] = " ".join(entries)
    return lines


BAD = {
    "too few entries": (changed(2, 7, ""), "line 2: a line must have 225 numbers. Received: 224."),
    "too many entries": (changed(3, 7, "1 2"), "line 3: a line must have 225 numbers. Received: 226."),
    "blank line": (
        [*lines_of("Train_Normalized_CM55.dat")[:1], "", *lines_of("Train_Normalized_CM55.dat")[1:]],
        "line 2: a line must have 225 numbers. Received: 0.",
    ),
    "a word": (changed(1, 225, "abc"), "line 1: every entry must be a finite number. Received: 'abc'."),
    "commas": (changed(1, 5, "0,5"), "line 1: every entry must be a finite number. Received: '0,5'."),
    "not a number": (changed(2, 1, "NaN"), "line 2: every entry must be a finite number. Received: 'NaN'."),
    "beyond float32": (changed(2, 1, "-1e39"), "line 2: every entry must be a finite number. Received: '-1e39'."),
    "too few lines": (lines_of("Train_Normalized_CM55.dat")[:2], "one line per image of the official list, 3. "),
    "too many lines": (lines_of("Train_Normalized_CM55.dat") * 2, "official list, 3. Received: 6 lines."),
    "nothing": ([], "official list, 3. Received: 0 lines."),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files(folder, kind):
    lines, message = BAD[kind]
    path = folder / "Train_Normalized_CM55.dat"
    path.write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(InputError) as error:
        read_features(find_files(folder)["train"], NUM_IMAGES)
    assert str(error.value).startswith(str(path)) and message in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_not_text(folder):
    (folder / "BoW_Train_int.dat").write_bytes(b"\xff\xfe" + b" 1" * 499 + b"\n")
    with pytest.raises(InputError, match="BoW_Train_int.dat, line 1: every entry must be a finite number"):
        read_features(find_files(folder)["train"], NUM_IMAGES)


def test_missing_files(folder):
    (folder / "Train_Normalized_WT.dat").unlink()
    (folder / "BoW_Test_int.dat").unlink()
    message = f"{folder} or its folder Low_Level_Features must hold .* 2 missing, the first Train_Normalized_WT.dat."
    with pytest.raises(InputError, match=message):
        find_files(folder)
    with pytest.raises(InputError, match="features_dir must be a folder. Received: .*nowhere"):
        find_files(folder / "nowhere")
