"""The losses of a run, for `compile`: `model.compile(loss=srn_tf.losses.AsymmetricLoss())`.

    y_true: (B, C), 1 where a label is true, 0 where it is not, -1 where it is not known, which is left out.
        SigmoidLoss, FocalLoss and AsymmetricLoss also take values between 0 and 1, as of Mixup or label smoothing.
    y_pred: (B, C), logits, or with from_logits=False probabilities.

A loss is a number per image, a sum over its labels (or pairs of labels), and for a batch their mean over images. The
equations are those of `srn_tf.training.losses`; learning rates and weight decay fit sums over labels, not means. The
ranking losses (SoftmaxLoss, PairwiseLoss, WARP) compare the labels of an image and do not say where a probability of
0.5 lies.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from srn_tf.errors import InputError
from srn_tf.training import losses as equations

_EPSILON = 1e-7  # probabilities are kept so far from 0 and 1, as Keras does


class MultiLabelLoss(keras.losses.Loss):
    """Base of these losses; it is no loss itself.

    Args:
        from_logits: whether y_pred holds logits.
        **kwargs: name and reduction, as of keras.losses.Loss; by default the mean over images.
    """

    def __init__(self, from_logits: bool = True, **kwargs: Any) -> None:
        super().__init__(**{"reduction": "sum_over_batch_size", "name": type(self).__name__, **kwargs})
        self.from_logits = from_logits

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each image: (B, C) twice -> float32 (B,)."""
        truth, logits = tf.cast(y_true, tf.float32), tf.cast(y_pred, tf.float32)
        if not self.from_logits:
            p = tf.clip_by_value(logits, _EPSILON, 1.0 - _EPSILON)
            logits = tf.math.log(p) - tf.math.log1p(-p)
        counted = tf.cast(truth != -1.0, tf.float32)
        return self.of_logits(truth * counted, logits, counted)

    def of_logits(self, y: Any, logits: Any, counted: Any) -> Any:
        """The loss as `srn_tf.training.losses` describes it: y in {0, 1}, counted 0 for what is left out."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "from_logits": self.from_logits}


@keras.saving.register_keras_serializable(package="srn_tf")
class SigmoidLoss(MultiLabelLoss):
    """Sigmoid cross-entropy, the paper's loss: see `srn_tf.training.losses.sigmoid_loss`.

    Args:
        positive_weights: C factors of the labels' positive terms; None is 1 for all.
        from_logits, **kwargs: see `MultiLabelLoss`.
    """

    def __init__(self, positive_weights: Sequence[float] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.positive_weights = None if positive_weights is None else [float(weight) for weight in positive_weights]

    def of_logits(self, y: Any, logits: Any, counted: Any) -> Any:
        weights = None if self.positive_weights is None else tf.constant(list(self.positive_weights), tf.float32)
        return equations.sigmoid_loss(y, logits, counted, positive_weights=weights)

    def get_config(self) -> dict[str, Any]:
        weights = None if self.positive_weights is None else list(self.positive_weights)
        return {**super().get_config(), "positive_weights": weights}


@keras.saving.register_keras_serializable(package="srn_tf")
class FocalLoss(MultiLabelLoss):
    """Focal loss without alpha: see `srn_tf.training.losses.focal_loss`.

    Args:
        gamma: >= 0; 0 is the sigmoid loss.
        from_logits, **kwargs: see `MultiLabelLoss`.
    Raises:
        InputError: gamma is below 0.
    """

    def __init__(self, gamma: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _check_not_negative(gamma=gamma)
        self.gamma = gamma

    def of_logits(self, y: Any, logits: Any, counted: Any) -> Any:
        return equations.focal_loss(y, logits, counted, gamma=self.gamma)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gamma": self.gamma}


@keras.saving.register_keras_serializable(package="srn_tf")
class AsymmetricLoss(MultiLabelLoss):
    """ASL, focal loss with a gamma for each side and a margin: see `srn_tf.training.losses.asymmetric_loss`.

    Args:
        gamma_pos, gamma_neg: >= 0, exponents of positives and of negatives.
        margin: in [0, 1); negatives below this probability cost nothing.
        focal_gradient: let the gradient pass through the powers, as in the paper's formulas; its authors' training
            scripts stop it there.
        from_logits, **kwargs: see `MultiLabelLoss`.
    Raises:
        InputError: a value out of its range.
    """

    def __init__(
        self,
        gamma_pos: float = 0.0,
        gamma_neg: float = 4.0,
        margin: float = 0.05,
        focal_gradient: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check_not_negative(gamma_pos=gamma_pos, gamma_neg=gamma_neg)
        if not 0 <= margin < 1:
            raise InputError(f"margin must be in [0, 1). Received: {margin!r}.")
        self.gamma_pos, self.gamma_neg, self.margin = gamma_pos, gamma_neg, margin
        self.focal_gradient = focal_gradient

    def of_logits(self, y: Any, logits: Any, counted: Any) -> Any:
        return equations.asymmetric_loss(y, logits, counted, **self._own())

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._own()}

    def _own(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("gamma_pos", "gamma_neg", "margin", "focal_gradient")}


@keras.saving.register_keras_serializable(package="srn_tf")
class SoftmaxLoss(MultiLabelLoss):
    """Cross-entropy of a softmax over an image's labels: see `srn_tf.training.losses.softmax_loss`."""

    def of_logits(self, y: Any, logits: Any, counted: Any) -> Any:
        return equations.softmax_loss(y, logits, counted)


@keras.saving.register_keras_serializable(package="srn_tf")
class PairwiseLoss(MultiLabelLoss):
    """Hinges of all pairs of a positive and a negative label: see `srn_tf.training.losses.pairwise_loss`."""

    def of_logits(self, y: Any, logits: Any, counted: Any) -> Any:
        return equations.pairwise_loss(y, logits, counted)


@keras.saving.register_keras_serializable(package="srn_tf")
class WARP(MultiLabelLoss):
    """WARP: see `srn_tf.training.losses.warp_loss`, and with `exact` `warp_exact_loss`.

    Args:
        exact: look at every negative instead of drawing some.
        seed: int, for draws that are the same in every program; None follows `keras.utils.set_random_seed`.
        from_logits, **kwargs: see `MultiLabelLoss`.
    """

    def __init__(self, exact: bool = False, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.exact, self.seed = exact, seed

    def of_logits(self, y: Any, logits: Any, counted: Any) -> Any:
        if self.exact:
            return equations.warp_exact_loss(y, logits, counted)
        seed = tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32, seed=self.seed)
        return equations.warp_loss(y, logits, counted, seed)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "exact": self.exact, "seed": self.seed}


def _check_not_negative(**values: float) -> None:
    for name, value in values.items():
        if not value >= 0:
            raise InputError(f"{name} must be at least 0. Received: {value!r}.")
