"""Boxes: anchors, their coding, how much they overlap, which of them stay, and what a map holds inside them.

A box is ymin, xmin, ymax, xmax in fractions of the image. Axes: B batch, H W grid, D channels, A anchors, R regions.
"""

import numpy as np
import tensorflow as tf

# Width and height of a cell's anchors for an image of longest side 720, pixels: Johnson et al., "DenseCap", CVPR 2016,
# in the authors' repository jcjohnson/densecap.
ANCHORS_PX = (
    *((45, 90), (90, 45), (64, 64), (90, 180), (180, 90), (128, 128)),
    *((181, 362), (362, 181), (256, 256), (362, 724), (724, 362), (512, 512)),
)
_IMAGE_PX = 720
PER_CELL = len(ANCHORS_PX)
LARGEST_OFFSET = 10.0  # beyond which a coded box is not used


def make_anchors(height, width):
    """The anchors of a grid: the same shapes in the middle of every cell, as large a share of the image as of 720 px.

    Args:
        height, width: H and W of the grid.
    Returns:
        float32 array (A, 4), A = H * W * 12: row by row, cell by cell. Those at the edges reach beyond the image.
    """
    rows, columns = ((np.arange(count) + 0.5) / count for count in (height, width))
    centres = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)[:, :, None]  # (H, W, 1, 2)
    halves = np.array(ANCHORS_PX)[:, ::-1] / _IMAGE_PX / 2.0  # (12, 2): height and width
    return np.concatenate([centres - halves, centres + halves], axis=-1).reshape(-1, 4).astype(np.float32)


def encode(boxes, anchors):
    """Codes boxes by their anchors: ((y - ya) / ha, (x - xa) / wa, log(h / ha), log(w / wa)), y and x of the centres.

    Args:
        boxes: float32 (..., 4), of positive height and width.
        anchors: float32, of a shape that broadcasts with it, likewise.
    Returns:
        offsets, float32 (..., 4).
    """
    (centre, size), (anchor_centre, anchor_size) = _centre_and_size(boxes), _centre_and_size(anchors)
    return tf.concat([(centre - anchor_centre) / anchor_size, tf.math.log(size / anchor_size)], axis=-1)


def decode(offsets, anchors):
    """The boxes that `encode` coded: float32 (..., 4) offsets, anchors -> float32 (..., 4)."""
    anchor_centre, anchor_size = _centre_and_size(anchors)
    centre = anchor_centre + offsets[..., :2] * anchor_size
    half = tf.exp(offsets[..., 2:]) * anchor_size / 2.0
    return tf.concat([centre - half, centre + half], axis=-1)


def _centre_and_size(boxes):
    """(..., 2) each: y and x, height and width."""
    first, last = boxes[..., :2], boxes[..., 2:]
    return (first + last) / 2.0, last - first


def overlap(boxes, others):
    """Intersection over union of every box with every other one; 0 of a box without area.

    Args:
        boxes: float32 (..., N, 4).
        others: float32 (..., K, 4).
    Returns:
        float32 (..., N, K), in [0, 1].
    """
    boxes, others = boxes[..., :, None, :], others[..., None, :, :]
    sides = tf.minimum(boxes[..., 2:], others[..., 2:]) - tf.maximum(boxes[..., :2], others[..., :2])
    shared = tf.reduce_prod(tf.maximum(sides, 0.0), axis=-1)
    areas = (tf.reduce_prod(tf.maximum(some[..., 2:] - some[..., :2], 0.0), axis=-1) for some in (boxes, others))
    return tf.math.divide_no_nan(shared, sum(areas) - shared)


def suppress(boxes, scores, is_candidate, count, threshold):
    """Non-maximum suppression: from the highest score on, keeps what overlaps with nothing kept by more than that.

    Args:
        boxes: float32 (B, A, 4).
        scores: float32 (B, A); of equal ones the first comes first.
        is_candidate: bool (B, A), False for what is never kept.
        count: R, at most A.
        threshold: intersection over union.
    Returns:
        (kept, is_real): int32 (B, R), the places of those that are kept, in ascending order, so that rounding of scores
        does not change it; bool (B, R), False where fewer than R are, which is at the end; 0 stands there.
    """

    def of_image(inputs):
        kept, number = tf.raw_ops.NonMaxSuppressionV4(
            boxes=inputs[0],
            scores=inputs[1],
            max_output_size=count,
            iou_threshold=threshold,
            score_threshold=-np.inf,
            pad_to_max_output_size=True,
        )
        return tf.where(tf.range(count) < number, kept, num_anchors)

    num_anchors = boxes.shape[1]
    scores = tf.where(is_candidate, scores, -np.inf)
    places = tf.map_fn(
        of_image, (tf.stop_gradient(boxes), scores), fn_output_signature=tf.TensorSpec([count], tf.int32)
    )
    places = tf.sort(places, axis=1)
    is_real = places < num_anchors
    return tf.where(is_real, places, 0), is_real


def sample(features, boxes, side):
    """Bilinear samples of a map at side x side points of each box, evenly from edge to edge.

    The image's corners are the middles of the map's corner cells, so that the whole image gives the map itself, resized
    with aligned corners. Gradients reach the map and the boxes. Source: bilinear pooling of DenseCap, whose pixels
    counted from 1 shift a box by 1 / (S - 1) of its distance from the middle; Jaderberg et al., "Spatial transformer
    networks", NIPS 2015.

    Args:
        features: float (B, H, W, D).
        boxes: float32 (B, R, 4), within the image.
        side: G.
    Returns:
        (B, R, G, G, D), of the features' type.
    """
    height, width, channels = features.shape[1:]
    at = np.linspace(0.0, 1.0, side, dtype=np.float32) if side > 1 else np.float32([0.5])
    flat = tf.reshape(features, [-1, height * width, channels])
    corners = []  # along each axis: the two cells around every point, int32 (B, R, G), and what each weighs
    for axis, cells in enumerate((height, width)):
        first, last = boxes[..., axis, None], boxes[..., axis + 2, None]
        points = (first + (last - first) * at) * (cells - 1.0)  # (B, R, G)
        lower = tf.clip_by_value(tf.floor(points), 0.0, max(cells - 2.0, 0.0))
        share = points - tf.stop_gradient(lower)
        lower = tf.cast(lower, tf.int32)
        corners.append(((lower, 1.0 - share), (tf.minimum(lower + 1, cells - 1), share)))
    num_points = boxes.shape[1] * side * side
    total = 0.0
    for row, row_weight in corners[0]:
        for column, column_weight in corners[1]:
            places = tf.reshape(row[..., :, None] * width + column[..., None, :], [-1, num_points])
            weights = tf.reshape(row_weight[..., :, None] * column_weight[..., None, :], [-1, num_points, 1])
            total += tf.cast(weights, flat.dtype) * tf.gather(flat, places, batch_dims=1)
    return tf.reshape(total, [-1, boxes.shape[1], side, side, channels])
