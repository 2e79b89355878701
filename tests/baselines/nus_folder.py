"""A tiny NUS-WIDE: official lists, label files, images and low-level features."""

import numpy as np
from PIL import Image

from srn_tf.data.nus_wide_features import BLOCKS, WIDTH
from srn_tf.data.nus_wide_lists import LABEL_NAMES

NUM_TRAIN, NUM_TEST = 21, 5
SKY, CLOUDS = LABEL_NAMES.index("sky"), LABEL_NAMES.index("clouds")


def names(split):
    """Names of a split's images in the order of the list."""
    return [f"Flickr/tag/{split}_{number}.jpg" for number in range(NUM_TRAIN if split == "train" else NUM_TEST)]


def truth(split):
    """int8 (N, 81): sky on every second image from the first, clouds on all."""
    matrix = np.zeros((len(names(split)), 81), np.int8)
    matrix[::2, SKY] = 1
    matrix[:, CLOUDS] = 1
    return matrix


def features(split):
    """float64 (N, 1134), as in the files: the first column tells sky, the last is one value a split."""
    matrix = np.random.default_rng(split == "test").integers(0, 9, (len(names(split)), WIDTH)) / 4
    matrix[:, 0] = np.where(truth(split)[:, SKY] == 1, 100.0, 0.0)
    matrix[:, -1] = 7 if split == "train" else 8
    return matrix


def write(folder):
    """Writes NUS, the lists and labels, images and features, and returns the folder."""
    _write(folder / "ConceptsList" / "Concepts81.txt", LABEL_NAMES)
    for split, suffix in (("train", "Train"), ("test", "Test")):
        listed = [name.removeprefix("Flickr/").replace("/", "\\") for name in names(split)]
        _write(folder / "ImageList" / f"{suffix}Imagelist.txt", listed)
        for label, column in zip(LABEL_NAMES, truth(split).T, strict=True):
            _write(folder / "Groundtruth" / "TrainTestLabels" / f"Labels_{label}_{suffix}.txt", map(str, column))
        columns = np.split(features(split), np.cumsum([block.width for block in BLOCKS])[:-1], axis=1)
        for block, part in zip(BLOCKS, columns, strict=True):
            lines = (" ".join(f"{value:g}" for value in row) + " " for row in part)
            _write(folder / "Low_Level_Features" / block.file.format(suffix), lines)
    return folder


def write_images(folder):
    """Writes the images, all different."""
    (folder / "Flickr" / "tag").mkdir(parents=True)
    for number, name in enumerate(names("train") + names("test")):
        Image.new("RGB", (8, 8), (8 * number, 0, 0)).save(folder / name)


def _write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
