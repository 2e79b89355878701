"""The pointing game: does the maximum of a label's attention map fall inside one of that label's boxes?

Source: Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016, here on the grid of the
attention maps instead of on pixels. Axes: H W the grid, C labels, K the boxes of one image.
"""

import numpy as np

from srn_tf.errors import InputError


def box_mask(boxes, box_labels, grid_height, grid_width, num_labels):
    """Marks, label by label, the grid cells that lie in one of the label's boxes.

    A cell lies in a box if the cell's centre does, edges included. A box that contains no cell's centre is
    given the one cell its own centre falls into, so that no box is impossible to hit.

    Args:
        boxes: float (K, 4), ymin xmin ymax xmax as fractions of the image; K may be 0.
        box_labels: int (K,), each 0 to C-1.
        grid_height: int, H.
        grid_width: int, W.
        num_labels: int, C.
    Returns:
        bool (H, W, C); all false for a label without a box.
    Raises:
        InputError: a shape does not fit, a box is not finite or has a maximum below its minimum, or a box's
            label is not in 0..C-1.
    """
    boxes, box_labels = _checked_boxes(boxes, box_labels, num_labels)
    y_min, x_min, y_max, x_max = boxes.T[:, :, np.newaxis]  # (K, 1) each
    y_centre = (np.arange(grid_height) + 0.5) / grid_height  # (H,)
    x_centre = (np.arange(grid_width) + 0.5) / grid_width  # (W,)
    is_row_inside = (y_min <= y_centre) & (y_centre <= y_max)  # (K, H)
    is_column_inside = (x_min <= x_centre) & (x_centre <= x_max)  # (K, W)
    is_inside = is_row_inside[:, :, np.newaxis] & is_column_inside[:, np.newaxis, :]  # (K, H, W)

    without_cell = np.flatnonzero(~is_inside.any(axis=(1, 2)))
    own_row = np.clip((y_min + y_max)[:, 0] / 2 * grid_height, 0, grid_height - 1).astype(np.int64)  # (K,)
    own_column = np.clip((x_min + x_max)[:, 0] / 2 * grid_width, 0, grid_width - 1).astype(np.int64)
    is_inside[without_cell, own_row[without_cell], own_column[without_cell]] = True

    mask = np.zeros((num_labels, grid_height, grid_width), dtype=bool)
    np.logical_or.at(mask, box_labels, is_inside)
    return mask.transpose(1, 2, 0)


class PointingGame:
    """Counts, over images, the true labels whose attention maximum falls inside one of their boxes.

    A pair is an image and a label that is true in it and has at least one box there; other labels do not count.
    """

    def __init__(self, grid_height, grid_width, num_labels):
        """Starts with no pairs, for attention maps of (grid_height, grid_width) cells and num_labels labels."""
        self.grid_height = grid_height
        self.grid_width = grid_width
        self.num_labels = num_labels
        self._hits = np.zeros(num_labels, dtype=np.int64)
        self._pairs = np.zeros(num_labels, dtype=np.int64)
        self._share_sum = np.zeros(num_labels)  # sum over pairs of the share of cells inside the boxes

    def update(self, argmax_cells, boxes, box_labels, positives):
        """Counts one image.

        Args:
            argmax_cells: int (C,), where each label's attention is highest: row * W + column.
            boxes: float (K, 4), ymin xmin ymax xmax as fractions of the image; K may be 0.
            box_labels: int (K,), each 0 to C-1.
            positives: bool (C,), or labels of which 1 is true.
        Raises:
            InputError: a shape does not fit, a cell is not in the grid, or as box_mask.
        """
        argmax_cells, positives = np.asarray(argmax_cells), np.asarray(positives)
        num_cells = self.grid_height * self.grid_width
        if argmax_cells.shape != (self.num_labels,) or positives.shape != (self.num_labels,):
            raise InputError(
                f"argmax_cells and positives must have shape ({self.num_labels},), one value per label. Received: "
                f"argmax_cells {argmax_cells.shape}, positives {positives.shape}."
            )
        if argmax_cells.dtype.kind not in "iu" or argmax_cells.min() < 0 or argmax_cells.max() >= num_cells:
            raise InputError(
                f"argmax_cells must be integers from 0 to {num_cells - 1}, cells of the {self.grid_height} x "
                f"{self.grid_width} grid. Received: {argmax_cells.min()} to {argmax_cells.max()}, {argmax_cells.dtype}."
            )
        mask = box_mask(boxes, box_labels, self.grid_height, self.grid_width, self.num_labels)
        mask = mask.reshape(num_cells, self.num_labels)
        is_pair = (positives == 1) & mask.any(axis=0)
        is_hit = is_pair & mask[argmax_cells, np.arange(self.num_labels)]
        self._pairs += is_pair
        self._hits += is_hit
        self._share_sum += np.where(is_pair, mask.mean(axis=0), 0.0)  # mean over cells

    def result(self):
        """The game so far.

        Returns:
            dict, ready for JSON: "hits" and "pairs" (counts), "accuracy" (percent of pairs hit), "chance"
            (percent: the mean over pairs of the share of cells inside the boxes, what a cell drawn at random
            would score) and "per_label", C dicts of the same four. Without pairs both percents are None.
        """
        per_label = [_summary(*counts) for counts in zip(self._hits, self._pairs, self._share_sum, strict=True)]
        total = _summary(self._hits.sum(), self._pairs.sum(), self._share_sum.sum())  # sum over labels
        return {**total, "per_label": per_label}


def _summary(hits, pairs, share_sum):
    return {
        "hits": int(hits),
        "pairs": int(pairs),
        "accuracy": float(100 * hits / pairs) if pairs else None,
        "chance": float(100 * share_sum / pairs) if pairs else None,
    }


def _checked_boxes(boxes, box_labels, num_labels):
    boxes, box_labels = np.asarray(boxes, dtype=np.float64), np.asarray(box_labels)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or box_labels.shape != boxes.shape[:1]:
        raise InputError(
            f"boxes must have shape (K, 4) and box_labels shape (K,). Received: boxes {boxes.shape}, box_labels "
            f"{box_labels.shape}."
        )
    is_bad_box = ~(np.isfinite(boxes).all(axis=1) & (boxes[:, :2] <= boxes[:, 2:]).all(axis=1))
    if is_bad_box.any():
        first = boxes[is_bad_box][0].tolist()
        raise InputError(
            f"Boxes must be finite ymin, xmin, ymax, xmax, each maximum at least its minimum. Received: {first}."
        )
    # An empty list of labels arrives as float64: its type says nothing.
    is_bad_label = (box_labels < 0) | (box_labels >= num_labels)
    if box_labels.size and (box_labels.dtype.kind not in "iu" or is_bad_label.any()):
        raise InputError(f"box_labels must be integers from 0 to {num_labels - 1}. Received: {box_labels.tolist()}.")
    return boxes, box_labels.astype(np.int64)
