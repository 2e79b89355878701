"""COCO 2014 as prepared records: official train2014 to train on, official val2014 to test on."""

import numpy as np
import tensorflow_datasets as tfds

from srn_tf.data.coco_annotations import FOLDERS, LABEL_NAMES, read_annotations
from srn_tf.data.examples import features, metadata
from srn_tf.data.image_files import read_image_file

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


class Coco2014(tfds.core.GeneratorBasedBuilder):
    """COCO 2014: splits `train` (train2014) and `test` (val2014), records as in `examples.features`.

    The order of the records is that of a hash of their names: mixed, and the same every time.
    Image bytes are those of the files (see `image_files.read_image_file` for the exceptions).
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

    # Checksums of downloads: none. tfds would look for them beside this file, by way of a package
    # (importlib_resources) that it does not install.
    url_infos = None

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            citation=_CITATION,
            homepage="https://cocodataset.org",
            features=features(LABEL_NAMES),
            metadata=metadata(LABEL_NAMES),
        )

    def _split_generators(self, dl_manager):
        source_dir = dl_manager.manual_dir
        # Both splits are read and checked before the first record of either is written.
        images = {split: read_annotations(source_dir, split) for split in FOLDERS}
        return {split: self._generate_examples(source_dir, images[split]) for split in FOLDERS}

    def _generate_examples(self, source_dir, images):
        """Yields (name, record) for each CocoImage."""
        for image in images:
            labels = np.zeros(len(LABEL_NAMES), np.int8)
            labels[list(image.labels)] = 1
            yield (
                image.name,
                {
                    "image": read_image_file(source_dir / image.name),
                    "name": image.name,
                    "labels": labels,
                    "objects": [{"bbox": tfds.features.BBox(*box), "label": label} for box, label in image.objects],
                },
            )
