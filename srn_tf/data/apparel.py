"""Apparel as prepared records: photographs of clothes, in a folder for each colour and type."""

import os

import tensorflow_datasets as tfds

from srn_tf.data.builder import SourceBuilder
from srn_tf.data.image_files import EXTENSIONS
from srn_tf.data.source import Count, Example, Photo, Source, check_source_dir
from srn_tf.data.splitting import split_photos
from srn_tf.errors import InputError

COLOURS = ("black", "blue", "brown", "green", "red", "white")
TYPES = ("dress", "pants", "shirt", "shoes", "shorts")
LABEL_NAMES = COLOURS + TYPES
"""11 names in MSRN's order; their position is the label's index."""

PUBLISHED = {
    **{"black_dress": 450, "black_pants": 871, "black_shirt": 715, "black_shoes": 766, "black_shorts": 328},
    **{"blue_dress": 502, "blue_pants": 798, "blue_shirt": 741, "blue_shoes": 523, "blue_shorts": 299},
    **{"brown_pants": 311, "brown_shoes": 464, "brown_shorts": 40},
    **{"green_pants": 227, "green_shirt": 230, "green_shoes": 455, "green_shorts": 135},
    **{"red_dress": 800, "red_pants": 308, "red_shoes": 610},
    **{"white_dress": 818, "white_pants": 274, "white_shoes": 600, "white_shorts": 120},
}
"""Folder -> images: 24 folders, 11,385 images."""

LAYOUT = "a folder <colour>_<type> for each kind, such as black_dress, with its photographs"
"""The files of a source folder, for messages."""

_DESCRIPTION = """\
Apparel for multi-label classification: 11,385 photographs of clothes, 6 colours and 5 types, each with one label of \
both (1 positive, 0 negative). Training and test images are halves of every folder. MSRN (Qu et al., 2023) reports on \
other halves: those of a shuffled list whose order is not published.
"""

_CITATION = """\
@article{qu2023msrn,
  title   = {Multi-layered Semantic Representation Network for Multi-label Image Classification},
  author  = {Qu, Xiwen and Che, Hao and Huang, Jun and Xu, Linchuan and Zheng, Xiao},
  journal = {International Journal of Machine Learning and Cybernetics},
  volume  = {14},
  number  = {10},
  pages   = {3427--3435},
  year    = {2023}
}
"""


class Apparel(SourceBuilder):
    """Apparel: splits `train` and `test`, records as in `examples.features`.

    Differs from MSRN's code: there, an image is known by its file name alone, so that two folders' images of one name
    are one (11,384 are left), and the list is shuffled with seed 10 and cut in half. The list's order is not
    published, so this is a split of our own: every folder is divided, hence every label and every pair of them.

    Options:
        test_fraction: share of the images to test on.
        split_seed: seed of the split.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    From https://www.kaggle.com/datasets/trolukovich/apparel-images-dataset take the archive and unpack it, so that
    the source folder directly holds the 24 folders, 11,385 images in all:
      black_dress/ (450 images), black_pants/ (871), ... white_shorts/ (120)
    """
    DESCRIPTION = _DESCRIPTION
    CITATION = _CITATION
    HOMEPAGE = "https://www.kaggle.com/datasets/trolukovich/apparel-images-dataset"
    OPTIONS = {"test_fraction": 0.5, "split_seed": 10}
    LABELS = LABEL_NAMES

    @staticmethod
    def read(source_dir, options):
        """The splits of the source, as `SourceBuilder` describes it."""
        check_source_dir(source_dir, LAYOUT)
        folders, num_passed_over = _list_folders(source_dir)
        photos, folder_of = [], []
        for folder in folders:
            paths, others = _list_photos(source_dir, folder)
            num_passed_over += others
            labels = tuple(int(name in folder.split("_")) for name in LABEL_NAMES)
            photos += [Photo(path, (Example(path, labels),)) for path in paths]
            folder_of += [folder] * len(paths)
        if not photos:
            raise InputError(
                f"{source_dir} must have {LAYOUT}. Received: {len(folders)} such folder(s) without any image. Unpack "
                "the archive there."
            )
        one_hot = [[int(folder == other) for other in folders] for folder in folder_of]
        splits = split_photos(photos, one_hot, options["split_seed"], options["test_fraction"])
        found = {folder: folder_of.count(folder) for folder in sorted({*PUBLISHED, *folders})}
        counts = [Count(f"images of {folder}", number, PUBLISHED.get(folder, 0)) for folder, number in found.items()]
        counts.append(Count("images", len(photos), sum(PUBLISHED.values())))
        notes = (f"{num_passed_over} entries that are not images were passed over.",) if num_passed_over else ()
        return Source(LABEL_NAMES, splits, tuple(counts), notes)


def _list_folders(source_dir):
    """Returns the names of the folders, sorted, and the number of other entries; hidden ones do not count.

    Raises:
        InputError: a folder's name is not a known colour and type.
    """
    entries = [entry for entry in os.scandir(source_dir) if not entry.name.startswith(".")]
    folders = sorted(entry.name for entry in entries if entry.is_dir())
    for folder in folders:
        colour, _, kind = folder.partition("_")
        if colour not in COLOURS or kind not in TYPES:
            raise InputError(
                f"Folders of {source_dir} must be named <colour>_<type>, with a colour of {', '.join(COLOURS)} and a "
                f"type of {', '.join(TYPES)}. Received: {folder!r}. Rename or remove it."
            )
    return folders, len(entries) - len(folders)


def _list_photos(source_dir, folder):
    """Returns the paths of a folder's images, sorted, and the number of its other entries; hidden ones do not count.

    Raises:
        InputError: the folder cannot be read, or the name of an image is not UTF-8.
    """
    path = os.path.join(source_dir, folder)
    try:
        names = sorted(name for name in os.listdir(path) if not name.startswith("."))
    except OSError as error:
        raise InputError(f"{path} must be readable. Received: {error.strerror}. Check its permissions.") from None
    images = [name for name in names if name.lower().endswith(EXTENSIONS)]
    for name in images:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"Names of images must be UTF-8. Received: {os.fsencode(name)!r} in {path}. Rename the file."
            ) from None
    return [f"{folder}/{name}" for name in images], len(names) - len(images)
