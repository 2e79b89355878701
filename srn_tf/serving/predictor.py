"""Asks an exported SavedModel for predictions. Needs TensorFlow and the folder, no model code."""

import os

import tensorflow as tf

from srn_tf.errors import InputError


class Predictor:
    """A SavedModel of `export.export`, loaded.

    Args:
        saved_model_dir: the folder of one version, e.g. RUN/export/1.

    Attributes:
        labels: list of C str, the label names in order.

    Raises:
        InputError: the folder is missing, holds no SavedModel, a damaged one or one of another project.
    """

    def __init__(self, saved_model_dir):
        self._path = os.fspath(saved_model_dir)
        self._loaded = _load(self._path)  # kept: the signatures do not keep the variables alive
        self._serving = self._loaded.signatures["serving_default"]
        self._explain = self._loaded.signatures.get("explain")
        # The names are in the graph, a row for each image: one black pixel is asked for its row.
        pixel = tf.io.encode_png(tf.zeros([1, 1, 3], tf.uint8))
        names = self._serving(image_bytes=pixel[tf.newaxis])["labels"].numpy()[0]
        self.labels = [name.decode("utf-8") for name in names]

    def predict(self, images):
        """Gives every label's probability in every image.

        EXIF orientation is not applied here; `data.image_files.read_image_file` gives bytes that stand upright.

        Args:
            images: list of N bytes, files of JPEG, PNG, BMP or GIF (first frame), of any sizes. All of them
                are held in memory at once, so many images are better given in batches.
        Returns:
            float32 (N, C), in [0, 1].
        Raises:
            InputError: not a list of bytes, or an image that cannot be decoded.
        """
        return self._ask(self._serving, images)["probabilities"]

    def predict_labels(self, images):
        """Names the labels whose probability exceeds the threshold they were exported with.

        Args:
            images: as for `predict`.
        Returns:
            list of N lists of str, in the order of `labels`.
        Raises:
            InputError: as for `predict`.
        """
        return [
            [label for label, is_predicted in zip(self.labels, row, strict=True) if is_predicted]
            for row in self._ask(self._serving, images)["predicted"]
        ]

    def explain(self, images):
        """Gives the probabilities together with the maps that led to them.

        Args:
            images: as for `predict`.
        Returns:
            dict: "probabilities" float32 (N, C); "predicted" bool (N, C), whether they exceed their thresholds; and
            each map under its name, float32 (N, H, W, C), e.g. "A" (attention, each label sums to 1 over the grid)
            and "U" (attention weighted by confidence).
        Raises:
            InputError: as for `predict`, or the model has no maps.
        """
        if self._explain is None:
            raise InputError(
                f"Only a model with maps can explain its answer. Received: {self._path}, which has none. "
                "Export an SRN, or use predict."
            )
        return self._ask(self._explain, images)

    def _ask(self, signature, images):
        """Calls a signature; returns its outputs as arrays, without the label names."""
        if not isinstance(images, (list, tuple)) or not all(isinstance(image, bytes) for image in images):
            raise InputError(f"Images must be a list of bytes, one image file each. Received: {repr(images)[:80]}.")
        if images:
            try:
                outputs = signature(image_bytes=tf.constant(images))
            except tf.errors.InvalidArgumentError as error:
                raise InputError(
                    "Every image must be a JPEG, PNG, BMP or GIF that can be decoded. "
                    f"Received: one that cannot, {self._find_undecodable(images)} (from 0) of {len(images)}."
                ) from error
        else:  # some of TensorFlow's convolutions refuse a batch of none
            specs = signature.structured_outputs
            outputs = {name: tf.zeros([0, *spec.shape[1:]], spec.dtype) for name, spec in specs.items()}
        arrays = {name: values.numpy() for name, values in outputs.items() if name != "labels"}
        arrays.setdefault("predicted", arrays["probabilities"] > 0.5)  # exports of earlier versions have none
        return arrays

    def _find_undecodable(self, images):
        """Returns the position of the first image that has no answer, or "?"."""
        for position, image in enumerate(images):
            try:
                self._serving(image_bytes=tf.constant([image]))
            except tf.errors.InvalidArgumentError:
                return position
        return "?"


def _load(path):
    """Loads a SavedModel and checks that it is one of this project's; InputError otherwise."""
    expected = "An exported model is a SavedModel folder such as RUN/export/1."
    if not os.path.isdir(path):
        raise InputError(f"{expected} Received: {path}, which is not a folder. Make one with tools/export.py.")
    if not tf.saved_model.contains_saved_model(path):
        raise InputError(f"{expected} Received: {path}, which has no saved_model.pb. Check the path.")
    try:
        loaded = tf.saved_model.load(path)
        signature = loaded.signatures.get("serving_default")
    except Exception as error:  # damaged files surface as nearly any type
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{expected} Received: {path}, which cannot be loaded ({reason}). Export it again.") from error
    inputs = signature.structured_input_signature[1] if signature else {}
    outputs = signature.structured_outputs if signature else {}
    if set(inputs) != {"image_bytes"} or not {"probabilities", "labels"} <= set(outputs):
        raise InputError(
            f"{expected} Received: {path}, a SavedModel of another kind (its serving_default must take image_bytes "
            "and give probabilities and labels). Make one with tools/export.py."
        )
    return loaded
