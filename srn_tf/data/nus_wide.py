"""NUS-WIDE as prepared records: the official split of its 269,648 images, or a usual choice from it."""

import os

import tensorflow_datasets as tfds

from srn_tf.data.builder import SourceBuilder
from srn_tf.data.nus_wide_lists import CSV_LAYOUT, CSV_NAME, LABEL_NAMES, LAYOUT, read_csv, read_list, read_official
from srn_tf.data.source import Count, Example, Photo, Source, check_photos, check_source_dir, option_file
from srn_tf.errors import InputError

VARIANTS = ("official", "labelled", "available", "list", "csv")

_LABELLED = {"train": 125_449, "test": 83_898}
_SRN_AUTHORS = {"train": 119_986, "test": 80_283}

_MISSING = {
    "official": "Unpack the official images there, or prepare those you have with --variant=available.",
    "labelled": "Unpack the official images there, or prepare those you have with --variant=available "
    "--nokeep_unlabelled.",
    "list": "Add the images, or take their lines out of the list.",
    "csv": "Unpack the images where the table names them.",
}
"""Variant -> what to do about missing images."""

_DESCRIPTION = """\
NUS-WIDE (Chua et al., CIVR 2009) for multi-label classification: images from Flickr, officially 161,789 for training \
and 107,859 for test, with 81 concepts in alphabetical order: 1 present, 0 not. 36,340 and 23,961 of them have none of \
the 81; without those, 125,449 and 83,898 are left. The SRN paper (Zhu et al., CVPR 2017) states the official split, \
while its authors' code used 119,986 and 80,283 images: those that have a label and could be downloaded.
"""

_CITATION = """\
@inproceedings{chua2009nuswide,
  title     = {{NUS-WIDE}: A Real-World Web Image Database from National University of Singapore},
  author    = {Chua, Tat-Seng and Tang, Jinhui and Hong, Richang and Li, Haojie and Luo, Zhiping and Zheng, Yantao},
  booktitle = {ACM International Conference on Image and Video Retrieval (CIVR)},
  year      = {2009}
}
"""


class NusWide(SourceBuilder):
    """NUS-WIDE: splits `train` and `test`, records as in `examples.features`.

    Options:
        variant: which rows. All but csv keep the split and the labels of the official files.
            official: all of them; a missing image is an error.
            labelled: those with at least one label: official without keep_unlabelled.
            available: those whose image is there. Without keep_unlabelled this is the way SRN's authors came to
                their images, with what can be downloaded today.
            list: those of list_file; for the authors' own images.
            csv: the table csv_file with the random 70/30 split of ASL (Ridnik et al., ICCV 2021), which others use;
                not comparable with the official split.
        keep_unlabelled: keep rows without any label.
        list_file: file of image paths, one per line, see `nus_wide_lists.read_list`.
        csv_file: see `nus_wide_lists.read_csv`; "" takes nus_wid_data.csv of the source folder.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    From https://lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide/NUS-WIDE.html take Groundtruth.zip,
    ConceptsList.zip and ImageList.zip, ask there for the images, and unpack all into one folder:
      ConceptsList/Concepts81.txt
      ImageList/TrainImagelist.txt, ImageList/TestImagelist.txt (161,789 and 107,859 lines)
      Groundtruth/TrainTestLabels/Labels_airport_Train.txt, Labels_airport_Test.txt ... (81 of each)
      Flickr/actor/0001_2124494179.jpg ... (269,648 files, fewer with --variant=available)
    NUS_WID_Tags/ is not needed: user tags are not the ground truth. For --variant=list, a list of image paths: that
    of SRN's authors is linked from https://github.com/zhufengx/SRN_multilabel (of nus_wide_test_imglist.txt, only the
    lines whose entry of idx_final_test in nus_test_accessible.mat is 1). For --variant=csv, only nus_wid_data.csv,
    linked from MODEL_ZOO.md of https://github.com/Alibaba-MIIL/ASL, and its images/*.jpg.
    """
    DESCRIPTION = _DESCRIPTION
    CITATION = _CITATION
    HOMEPAGE = "https://lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide/NUS-WIDE.html"
    OPTIONS = {"variant": "official", "keep_unlabelled": True, "list_file": "", "csv_file": ""}
    FILE_OPTIONS = ("list_file", "csv_file")
    LABELS = LABEL_NAMES

    @staticmethod
    def read(source_dir, options):
        """The splits of the source, as `SourceBuilder` describes it."""
        _check_options(options)
        variant = options["variant"]
        labels_of, counts, notes, listed_in = _read_rows(source_dir, options)
        if variant == "labelled" or not options["keep_unlabelled"]:
            labels_of = _keep(labels_of, lambda path, labels: 1 in labels, "without any label", notes)
        if variant == "labelled":
            counts += _compare("images with a label", labels_of, _LABELLED)
        if variant == "available":
            labels_of = _keep(
                labels_of,
                lambda path, labels: os.path.isfile(os.path.join(source_dir, path)),
                "without an image file",
                notes,
            )
        else:
            paths = [path for rows in labels_of.values() for path in rows]
            check_photos(source_dir, paths, listed_in, _MISSING[variant])
        splits = {
            split: [Photo(path, (Example(path, labels),)) for path, labels in rows.items()]
            for split, rows in labels_of.items()
        }
        return Source(LABEL_NAMES, splits, tuple(counts), tuple(notes))


def _check_options(options):
    variant = options["variant"]
    if variant not in VARIANTS:
        raise InputError(f"variant must be one of {', '.join(VARIANTS)}. Received: {variant!r}.")
    for name, needed_by in (("list_file", "list"), ("csv_file", "csv")):
        if options[name] and variant != needed_by:
            raise InputError(
                f"{name} is for variant {needed_by}. Received: {name} with variant {variant}. Remove one of them."
            )
    if variant == "list" and not options["list_file"]:
        raise InputError(
            "variant list needs list_file, a file with one image path per line. Received: no list_file. Give "
            "--list_file=FILE."
        )


def _read_rows(source_dir, options):
    """Reads the rows a variant starts from: split -> dict path -> labels; counts; notes; the file that lists them."""
    if options["variant"] == "csv":
        check_source_dir(source_dir, CSV_LAYOUT)
        path = os.path.join(source_dir, CSV_NAME)
        if options["csv_file"]:
            path = option_file(options["csv_file"], source_dir)
        labels_of, notes = read_csv(path)
        notes.append("csv: its split is random, not the official one; results cannot be compared with those on that.")
        return labels_of, [], notes, path
    check_source_dir(source_dir, LAYOUT)
    labels_of, counts, notes = read_official(source_dir)
    if options["variant"] != "list":
        return labels_of, counts, notes, "ImageList/TrainImagelist.txt and TestImagelist.txt"
    path = option_file(options["list_file"], source_dir)
    chosen = read_list(path, labels_of)
    labels_of = _keep(labels_of, lambda path, labels: path in chosen, "not in the list", notes)
    counts += _compare("images of the list (published: that of SRN's authors)", labels_of, _SRN_AUTHORS)
    return labels_of, counts, notes, path


def _keep(labels_of, is_kept, what, notes):
    """Leaves rows out: those for which is_kept(path, labels) is False. Notes how many, and what they are."""
    kept = {}
    for split, rows in labels_of.items():
        kept[split] = {path: labels for path, labels in rows.items() if is_kept(path, labels)}
        if not kept[split]:
            raise InputError(
                f"Split {split} must keep at least one image. Received: {len(rows):,} rows, all {what}. "
                "Check the source folder and the options."
            )
        notes.append(f"{split}: {len(rows) - len(kept[split]):,} of {len(rows):,} rows left out, {what}.")
    return kept


def _compare(what, labels_of, published):
    return [Count(f"{split} {what}", len(rows), published[split]) for split, rows in labels_of.items()]
