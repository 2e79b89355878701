"""A user's own photographs as prepared records, with labels in any of the forms that people have them in.

Each form is a reader in a module of its own that yields a `listing.Listing`; all else is shared. A table is read by
`csv_file.CsvFile`.
"""

import tensorflow_datasets as tfds

from srn_tf.data import listing
from srn_tf.data.builder import SourceBuilder
from srn_tf.data.coco_json import read_coco_json
from srn_tf.data.cvat import read_cvat
from srn_tf.data.folders import read_folders
from srn_tf.data.huggingface import read_huggingface
from srn_tf.data.label_studio import read_label_studio
from srn_tf.data.source import check_source_dir
from srn_tf.data.voc_xml import read_voc_folder

LAYOUT = "the photographs, in any subfolders"
"""The files of a source folder, for messages."""


class OwnPhotos(SourceBuilder, skip_registration=True):
    """Photographs of one's own: splits `train`, `test` and perhaps `validation`, records as in `examples.features`.

    Photographs are split as the form says it; else by file, if there is one for each split; else by iterative
    stratification, see `splitting.stratified_split`. Label names are taken as written, but cleaned, see
    `label_names.clean_name`. `photo_finder.PhotoFinder` finds the files.

    Options:
        labels_file: path, from the working directory or else from the source folder, of a text file with one label name
            per line: the labels and their order. Without it, the order is that of the form, or the alphabet.
        skip_missing: leave out images whose file is missing; by default they are an error.
        group_similar: keep equal and nearly equal images together in a stratified split, see `similar_images`.
        test_fraction: share of the photographs that a stratified split tests on.
        validation_fraction: likewise for validation; 0 makes no such split, and training holds out its own.
        split_seed: seed of the stratified split.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"The source folder holds {LAYOUT}, see docs/data.md."
    DESCRIPTION = "Photographs and labels of the user. A label is positive (1) or negative (0)."
    OPTIONS = listing.OPTIONS
    FILE_OPTIONS = ("labels_file",)
    SOURCE_FLAGS = "--source_dir=PHOTOS"

    @classmethod
    def read(cls, source_dir, options):
        """The splits of the source, as `SourceBuilder` describes it."""
        check_source_dir(source_dir, LAYOUT)
        listed = listing.read_labels_file(options, source_dir)
        return listing.to_source(cls.list_photos(source_dir, options, listed), source_dir, options, listed)

    @staticmethod
    def list_photos(source_dir, options, listed):
        """Reads the form: source_dir str, options dict, listed names of the labels or None -> list of Listings."""
        raise NotImplementedError


class OwnAnnotations(OwnPhotos, skip_registration=True):
    """Photographs listed in a file, or in a file for each split.

    Options, beside those of `OwnPhotos`:
        annotations: path of the file, from the working directory or else from the source folder.
        test_annotations, validation_annotations: likewise, files of the test and of the validation photographs; "" for
            none.
    """

    OPTIONS = {"annotations": "", "test_annotations": "", "validation_annotations": "", **listing.OPTIONS}
    FILE_OPTIONS = ("annotations", "test_annotations", "validation_annotations", "labels_file")
    SOURCE_FLAGS = "--source_dir=PHOTOS --annotations=FILE"


class CocoJson(OwnAnnotations):
    """Photographs with boxes in COCO's detection JSON, see `coco_json.read_coco_json`."""

    @staticmethod
    def list_photos(source_dir, options, listed):
        """Reads the form, as `OwnPhotos` describes it."""
        return listing.read_files(source_dir, options, "annotations", read_coco_json)


class LabelStudio(OwnAnnotations):
    """Photographs with choices made in Label Studio, see `label_studio.read_label_studio`."""

    @staticmethod
    def list_photos(source_dir, options, listed):
        """Reads the form, as `OwnPhotos` describes it."""
        return listing.read_files(source_dir, options, "annotations", lambda path: read_label_studio(path, listed))


class Cvat(OwnAnnotations):
    """Photographs with tags made in CVAT, see `cvat.read_cvat`."""

    @staticmethod
    def list_photos(source_dir, options, listed):
        """Reads the form, as `OwnPhotos` describes it."""
        return listing.read_files(source_dir, options, "annotations", read_cvat)


class VocFolder(OwnPhotos):
    """Photographs with an XML file for each, see `voc_xml.read_voc_folder`."""

    @staticmethod
    def list_photos(source_dir, options, listed):
        """Reads the form, as `OwnPhotos` describes it."""
        return [read_voc_folder(source_dir)]


class Folders(OwnPhotos):
    """Photographs in a folder for each label, see `folders.read_folders`."""

    @staticmethod
    def list_photos(source_dir, options, listed):
        """Reads the form, as `OwnPhotos` describes it."""
        return [read_folders(source_dir)]


class HuggingFace(OwnPhotos):
    """An image folder with metadata, see `huggingface.read_huggingface`."""

    name = "huggingface"

    @staticmethod
    def list_photos(source_dir, options, listed):
        """Reads the form, as `OwnPhotos` describes it."""
        return read_huggingface(source_dir, listed)
