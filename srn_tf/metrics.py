"""Exact mAP for `compile`: `model.compile(metrics=[srn_tf.metrics.MeanAveragePrecision()])`."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from srn_tf.errors import InputError
from srn_tf.evaluation.metrics import AP_DEFINITIONS, average_precision


class _Held:
    """Scores and truths of the images seen, which Keras is not to look into."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, np.ndarray, np.ndarray]] = []  # (images seen with it, scores, truth) of each batch
        self.images = self.images_then = 0  # seen now, and when `value` was computed
        self.value = float("nan")


@keras.saving.register_keras_serializable(package="srn_tf")
class MeanAveragePrecision(keras.metrics.Metric):
    """The mean of the labels' average precision, over all images since the last reset: in [0, 1].

    Not an approximation by thresholds, nor a mean over batches: all scores are kept (4 bytes per image and label) and
    ranked. Labels without a positive are left out of the mean; without any positive it is NaN. Equal scores are ranked
    in the order in which they came. Values are those of `srn_tf.evaluation.metrics.average_precision`.

    Keras asks for the value after every batch, to show it. Inside such a step (any tf.function) it is computed anew
    each time the images have doubled. Called eagerly, as Keras does at the end of an epoch and of `evaluate`, the value
    is exact. XLA cannot compile a step with this metric: with Keras 3 and a model that is not of
    `srn_tf.create_model`, pass `jit_compile=False` to `compile`.

    y_true: (B, C), 1 where a label is true, 0 where it is not, -1 where it is not known, which is left out.
    y_pred: (B, C), logits or probabilities.

    Args:
        definition: of average precision: "voc_all_points", "rank", "sklearn" or "voc_11_point", see
            `srn_tf.evaluation.metrics.average_precisions`.
        name, **kwargs: as of keras.metrics.Metric.
    Raises:
        InputError: there is no such definition.
    """

    def __init__(self, definition: str = "voc_all_points", name: str = "mAP", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        if definition not in AP_DEFINITIONS:
            raise InputError(f"definition must be one of {', '.join(AP_DEFINITIONS)}. Received: {definition!r}.")
        self.definition = definition
        self._held = _Held()
        # Orders the batches, which TensorFlow may hand over side by side.
        self.seen = self.add_weight(name="seen", shape=(), initializer="zeros", dtype="int64")

    @tf.autograph.experimental.do_not_convert  # which would make another error of what is refused
    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes in a batch: (B, C) twice.

        Raises:
            InputError: with weights of images, which average precision does not have.
        """
        if sample_weight is not None:
            raise InputError(
                "The mAP metric does not support sample_weight. Received: sample_weight. Pass the metric to compile "
                "as metrics, not as weighted_metrics."
            )
        self.seen.assign_add(tf.cast(tf.shape(y_pred)[0], tf.int64))
        arguments = [tf.convert_to_tensor(self.seen), tf.cast(y_true, tf.float32), tf.cast(y_pred, tf.float32)]
        tf.numpy_function(self._add, arguments, tf.int64)

    def result(self) -> Any:
        """float32 scalar, see the class."""
        if not tf.inside_function():
            return tf.constant(self._exact(), tf.float32)
        value = tf.numpy_function(self._as_of_late, [tf.convert_to_tensor(self.seen)], tf.float32)
        value.set_shape([])
        return value

    def reset_state(self) -> None:
        """Forgets all images."""
        self._held = _Held()
        self.seen.assign(0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "definition": self.definition}

    def _add(self, seen: Any, truth: np.ndarray, scores: np.ndarray) -> Any:
        held = self._held
        held.parts.append((int(seen), scores.copy(), truth.astype(np.int8)))
        held.images += len(scores)
        return seen

    def _as_of_late(self, seen: Any) -> np.float32:
        if self._held.images >= 2 * self._held.images_then:
            self._exact()
        return np.float32(self._held.value)

    def _exact(self) -> float:
        held = self._held
        if held.images > held.images_then:
            _, scores, truth = zip(*sorted(held.parts, key=lambda part: part[0]), strict=True)
            scores, truth = np.concatenate(scores), np.concatenate(truth)
            ap = average_precision(scores, truth == 1, truth != -1, self.definition)
            known = ap[~np.isnan(ap)]
            held.value = float(known.mean()) if known.size else float("nan")
            held.images_then = held.images
        return held.value
