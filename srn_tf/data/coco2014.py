"""COCO 2014 as prepared records: official train2014 to train on, official val2014 to test on."""

import tensorflow_datasets as tfds

from srn_tf.data.builder import SourceBuilder
from srn_tf.data.coco_annotations import FOLDERS, LABEL_NAMES, read_annotations
from srn_tf.data.source import Count, Example, Photo, Source
from srn_tf.errors import InputError

_PUBLISHED = {"train": (82_783, 702), "test": (40_504, 367)}
"""Split -> images, and how many of them have no annotation."""

_DESCRIPTION = """\
Microsoft COCO 2014 for multi-label classification: 82,783 training images (train2014) and 40,504 test images (the \
official val2014, on which Zhu et al., CVPR 2017, and all later papers evaluate), 80 labels by ascending category id. \
A label is positive (1) if any annotation of the image has its category, crowds included, else negative (0). Images \
without annotations (702 and 367) are kept. `objects` are the boxes of single instances: crowds are left out.
"""

_CITATION = """\
@inproceedings{lin2014coco,
  title     = {Microsoft {COCO}: Common Objects in Context},
  author    = {Lin, Tsung-Yi and Maire, Michael and Belongie, Serge and Hays, James and Perona, Pietro and
               Ramanan, Deva and Doll{\\'a}r, Piotr and Zitnick, C. Lawrence},
  booktitle = {European Conference on Computer Vision (ECCV)},
  pages     = {740--755},
  year      = {2014}
}
"""


class Coco2014(SourceBuilder):
    """COCO 2014: splits `train` (train2014) and `test` (val2014), records as in `examples.features`.

    Options:
        keep_unlabelled: keep images without annotations, as the paper's authors do; most later code drops them.
        label_order: "category_id" (ascending), or "alphabetical" as ML-GCN and MSRN have it.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    From https://cocodataset.org/#download take train2014.zip, val2014.zip and annotations_trainval2014.zip, and
    unpack them into one folder:
      annotations/instances_train2014.json
      annotations/instances_val2014.json
      train2014/COCO_train2014_000000000009.jpg ... (82,783 files)
      val2014/COCO_val2014_000000000042.jpg ... (40,504 files)
    """
    DESCRIPTION = _DESCRIPTION
    CITATION = _CITATION
    HOMEPAGE = "https://cocodataset.org"
    OPTIONS = {"keep_unlabelled": True, "label_order": "category_id"}

    @classmethod
    def label_names(cls, options):
        """The 80 label names in the order that label_order names; InputError for another order."""
        if options["label_order"] not in ("category_id", "alphabetical"):
            raise InputError(
                f"label_order must be one of category_id, alphabetical. Received: {options['label_order']!r}."
            )
        return LABEL_NAMES if options["label_order"] == "category_id" else tuple(sorted(LABEL_NAMES))

    @staticmethod
    def read(source_dir, options):
        """The splits of the source, as `SourceBuilder` describes it."""
        names = Coco2014.label_names(options)
        position = [names.index(name) for name in LABEL_NAMES]
        splits, counts, notes = {}, [], []
        for split in FOLDERS:
            images = read_annotations(source_dir, split)
            unlabelled = sum(not image.labels for image in images)
            for what, found, published in zip(
                ("images", "images without annotation"), (len(images), unlabelled), _PUBLISHED[split]
            ):
                counts.append(Count(f"{split} {what}", found, published))
            if not options["keep_unlabelled"]:
                images = [image for image in images if image.labels]
                notes.append(f"{split}: {unlabelled} images without annotation left out (--nokeep_unlabelled).")
            splits[split] = [_photo(image, position) for image in images]
        return Source(names, splits, tuple(counts), tuple(notes))


def _photo(image, position):
    """CocoImage -> Photo; position: index of a label by ascending id -> index in the records' order."""
    present = {position[label] for label in image.labels}
    labels = tuple(int(index in present) for index in range(len(position)))
    objects = tuple((box, position[label]) for box, label in image.objects)
    return Photo(image.name, (Example(image.name, labels, objects),))
