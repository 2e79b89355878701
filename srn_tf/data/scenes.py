"""The embedded data set "scenes" as a tensorflow-datasets builder; `scene_drawing` draws it."""

import numpy as np
import tensorflow_datasets as tfds

from srn_tf.data import examples
from srn_tf.data.scene_drawing import LABELS, draw_scene, label_scene, object_box

SPLIT_SIZES = {"train": 3000, "validation": 1000, "test": 2000}
SEED = 2017


class Scenes(tfds.core.GeneratorBasedBuilder):
    """Procedural multi-label scenes whose labels are mostly decided by relative position."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=(
                "Scenes of up to seven shapes on a noisy background. Four labels name a shape; the twelve others "
                "are decided by where a shape stands relative to another one."
            ),
            features=examples.features(LABELS),
            metadata=examples.metadata(LABELS),
        )

    def _download_and_prepare(self, dl_manager, download_config=None):
        self._counts = {label: dict.fromkeys(SPLIT_SIZES, 0) for label in LABELS}
        super()._download_and_prepare(dl_manager, download_config)
        self.info.metadata["label_counts"] = self._counts

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing is downloaded
        return {split: self._generate_examples(split) for split in SPLIT_SIZES}

    def _generate_examples(self, split):
        for index in range(SPLIT_SIZES[split]):
            rng = np.random.default_rng([SEED, list(SPLIT_SIZES).index(split), index])
            image, objects = draw_scene(rng)
            carriers = label_scene(objects)
            for label in carriers:
                self._counts[label][split] += 1
            name = f"{split}/{index:05d}"
            yield (
                name,
                {
                    "image": image,
                    "name": name,
                    "labels": np.array([label in carriers for label in LABELS], np.int8),
                    "objects": [
                        {"bbox": tfds.features.BBox(*object_box(item)), "label": label}
                        for label, item in carriers.items()
                    ],
                },
            )
