"""Test-time augmentation: the views of an image over which answers are averaged.

Every view is cut from one square, the image squashed to it and rounded to whole grey levels. So the model in memory and
a served one, which takes views as uint8 pixels, see the same.
"""

import tensorflow as tf

from srn_tf.choices import TTA
from srn_tf.data.augmentation import resized_px
from srn_tf.data.crops import Crops
from srn_tf.errors import InputError


class Views:
    """The views that one of `choices.TTA` names.

    flip: the whole image, plain and mirrored. 5crop: four corners and the centre of a square whose side is 256 / 224 of
    the network's, as training crops from. flip,5crop: these plain and mirrored.

    Args:
        tta: one of `choices.TTA`.
        image_size: side S of the network's input, pixels.

    Attributes:
        count: V, number of views.
        square_px: side R of the square that they are cut from, pixels.

    Raises:
        InputError: no such augmentation.
    """

    def __init__(self, tta, image_size):
        if tta not in TTA:
            raise InputError(f"tta must be one of {'; '.join(TTA)}. Received: {tta!r}.")
        self._image_size = image_size
        self._are_flipped = "flip" in tta
        self.square_px = resized_px(image_size) if "5crop" in tta else image_size
        positions = Crops(places=5).positions if "5crop" in tta else ((0.0, 0.0),)
        room = self.square_px - image_size
        self._origins = [[round(top * room), round(left * room)] for top, left in positions]
        self.count = len(self._origins) * (1 + self._are_flipped)

    def rounded(self, squares):
        """Whole grey levels: float32 (B, R, R, 3) -> the same, 0 to 255."""
        return tf.clip_by_value(tf.round(squares), 0.0, 255.0)

    def cut(self, squares, index):
        """Cuts one view of every image.

        Args:
            squares: float32 or uint8 (B, R, R, 3).
            index: int32 scalar, in 0..V-1.
        Returns:
            (B, S, S, 3) of the same type.
        """
        index = tf.convert_to_tensor(index, tf.int32)
        place, is_flipped = (index // 2, index % 2 == 1) if self._are_flipped else (index, False)
        top, left = tf.unstack(tf.gather(self._origins, place))
        size = self._image_size
        view = tf.ensure_shape(squares[:, top : top + size, left : left + size], (None, size, size, 3))
        return tf.cond(is_flipped, lambda: tf.reverse(view, axis=[2]), lambda: view) if self._are_flipped else view

    def mean(self, answer, squares):
        """The mean of an answer over all views, one after the other: in the memory that one view takes.

        Args:
            answer: function, float32 (B, S, S, 3) -> dict of float32 (B, C).
            squares: float32 (B, R, R, 3), see `rounded`.
        Returns:
            dict of float32 (B, C).
        """
        total = answer(self.cut(squares, 0))
        if self.count > 1:
            _, total = tf.while_loop(
                lambda index, _: index < self.count,
                lambda index, total: (index + 1, _sum(total, answer(self.cut(squares, index)))),
                (1, total),
                parallel_iterations=1,
            )
        return {name: values / self.count for name, values in total.items()}


def _sum(one, other):
    return {name: values + other[name] for name, values in one.items()}
