"""Draws "scenes": small pictures whose labels are partly decided by where things stand to each other.

A scene holds up to `MAX_OBJECTS` shapes on a noisy background with clutter. Four *anchors* and four
*free* shapes each have a label of their own: to see the shape is to know the label. Four *satellites*
have none: a star is "star_above_disk" or "star_below_disk" by its place relative to the disk, and
nothing at all when no disk is there. Every object's place, size, angle and colour is drawn without a
look at the labels, and the labels are read off the finished layout.
"""

import dataclasses
import math

import numpy as np
from PIL import Image, ImageDraw

SCENE_PX = 56  # side of a scene
MAX_OBJECTS = 7
MIN_OFFSET_PX = 8.0  # a satellite stands at least this far off its anchor along the deciding axis

ANCHORS = ("disk", "square", "cross", "ring")
FREE = ("hourglass", "bars", "tee", "ell")


@dataclasses.dataclass(frozen=True)
class Relation:
    """A satellite, its anchor, the axis that decides (0: y, down; 1: x, right) and the two labels."""

    satellite: str
    anchor: str
    axis: int
    before: str  # label when the satellite's coordinate is the smaller one
    after: str


RELATIONS = (
    Relation("star", "disk", 0, "star_above_disk", "star_below_disk"),
    Relation("moon", "square", 0, "moon_above_square", "moon_below_square"),
    Relation("triangle", "cross", 1, "triangle_left_of_cross", "triangle_right_of_cross"),
    Relation("diamond", "ring", 1, "diamond_left_of_ring", "diamond_right_of_ring"),
)

APPEARANCE_LABELS = (*ANCHORS, *FREE)
POSITION_LABELS = tuple(label for relation in RELATIONS for label in (relation.before, relation.after))
LABELS = APPEARANCE_LABELS + POSITION_LABELS

# How often a relation's two shapes are in a scene: neither, anchor alone, satellite alone, both.
_PRESENCE = (0.35, 0.15, 0.15, 0.35)
_FREE_PROBABILITY = 0.25
_SUPERSAMPLING = 3


@dataclasses.dataclass(frozen=True)
class SceneObject:
    """One drawn shape; centre and radius in pixels, angle in radians, colour RGB 0 to 255."""

    shape: str
    y: float
    x: float
    radius: float
    angle: float
    colour: tuple


def draw_scene(rng):
    """Draws one scene.

    Args:
        rng: numpy Generator; the scene is a function of its state.
    Returns:
        (image, objects): uint8 (SCENE_PX, SCENE_PX, 3) RGB, and the list of SceneObject in it.
    """
    background, canvas = _draw_background(rng)
    objects = _lay_out(rng, background)
    draw = ImageDraw.Draw(canvas)
    for item in objects:
        _draw_object(draw, item, background)
    canvas = canvas.resize((SCENE_PX, SCENE_PX), Image.Resampling.BOX)
    noise = rng.normal(0.0, rng.uniform(2.0, 14.0), (SCENE_PX, SCENE_PX, 3))
    return np.clip(np.asarray(canvas, np.float32) + noise, 0, 255).round().astype(np.uint8), objects


def label_scene(objects):
    """Reads the labels off a layout.

    Args:
        objects: list of SceneObject, each shape at most once.
    Returns:
        dict: label -> the SceneObject that carries it (for a position label, the satellite).
    """
    by_shape = {item.shape: item for item in objects}
    carriers = {shape: by_shape[shape] for shape in APPEARANCE_LABELS if shape in by_shape}
    for relation in RELATIONS:
        satellite, anchor = by_shape.get(relation.satellite), by_shape.get(relation.anchor)
        if satellite is not None and anchor is not None:
            offset = (satellite.y - anchor.y, satellite.x - anchor.x)[relation.axis]
            carriers[relation.before if offset < 0 else relation.after] = satellite
    return carriers


def object_box(item):
    """The square around an object, as (ymin, xmin, ymax, xmax) in fractions of the image, inside [0, 1]."""
    corners = (item.y - item.radius, item.x - item.radius, item.y + item.radius, item.x + item.radius)
    return tuple(min(max(corner / SCENE_PX, 0.0), 1.0) for corner in corners)


def _choose_shapes(rng):
    while True:
        shapes = [shape for shape in FREE if rng.random() < _FREE_PROBABILITY]
        for relation in RELATIONS:
            has_anchor, has_satellite = ((0, 0), (1, 0), (0, 1), (1, 1))[rng.choice(4, p=_PRESENCE)]
            shapes += [relation.anchor] * has_anchor + [relation.satellite] * has_satellite
        if 2 <= len(shapes) <= MAX_OBJECTS:
            return shapes


def _lay_out(rng, background):
    """Places the chosen shapes at random until none overlap and no relation is a near tie."""
    shapes = _choose_shapes(rng)
    radii = rng.uniform(4.5, 7.0, len(shapes))
    while True:
        centres = rng.uniform(radii[:, None], SCENE_PX - radii[:, None], (len(shapes), 2))
        distances = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
        apart = distances > (radii[:, None] + radii[None]) * 1.05
        np.fill_diagonal(apart, True)
        if apart.all() and not _has_near_tie(shapes, centres):
            break
    order = rng.permutation(len(shapes))  # what is drawn last lies on top of the clutter, never of a label's secret
    return [
        SceneObject(
            shapes[i],
            float(centres[i, 0]),
            float(centres[i, 1]),
            float(radii[i]),
            float(rng.uniform(-0.25, 0.25)),
            _contrasting_colour(rng, background),
        )
        for i in order
    ]


def _has_near_tie(shapes, centres):
    for relation in RELATIONS:
        if relation.satellite in shapes and relation.anchor in shapes:
            offset = centres[shapes.index(relation.satellite)] - centres[shapes.index(relation.anchor)]
            if abs(offset[relation.axis]) < MIN_OFFSET_PX:
                return True
    return False


def _contrasting_colour(rng, background):
    while True:
        colour = rng.integers(0, 256, 3)
        if np.abs(colour - background).sum() > 200:
            return tuple(int(value) for value in colour)


def _draw_background(rng):
    """A plain colour with clutter: thin strokes and specks. Returns the colour and the enlarged canvas."""
    background = rng.integers(0, 256, 3)
    side = SCENE_PX * _SUPERSAMPLING
    canvas = Image.new("RGB", (side, side), tuple(int(value) for value in background))
    draw = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(3, 9)):
        start, length, angle = rng.uniform(0, side, 2), rng.uniform(0.02, 0.2) * side, rng.uniform(0, 2 * math.pi)
        end = start + length * np.array([math.cos(angle), math.sin(angle)])
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        draw.line([tuple(start), tuple(end)], fill=colour, width=int(rng.integers(2, 5)))
    return background, canvas


def _draw_object(draw, item, background):
    y, x, r = (value * _SUPERSAMPLING for value in (item.y, item.x, item.radius))
    hole = tuple(int(value) for value in background)
    if item.shape in ("disk", "ring", "moon"):
        draw.ellipse([x - r, y - r, x + r, y + r], fill=item.colour)
        if item.shape == "ring":
            draw.ellipse([x - 0.55 * r, y - 0.55 * r, x + 0.55 * r, y + 0.55 * r], fill=hole)
        if item.shape == "moon":
            cx, cy = x + 0.55 * r * math.cos(item.angle), y + 0.55 * r * math.sin(item.angle)
            draw.ellipse([cx - 0.8 * r, cy - 0.8 * r, cx + 0.8 * r, cy + 0.8 * r], fill=hole)
        return
    for outline in _OUTLINES[item.shape]:
        cos, sin = math.cos(item.angle), math.sin(item.angle)
        points = [(x + r * (px * cos - py * sin), y + r * (px * sin + py * cos)) for px, py in outline]
        draw.polygon(points, fill=item.colour)


def _rectangle(left, top, right, bottom):
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


# Outlines in units of the radius, x to the right, y down.
_OUTLINES = {
    "square": [_rectangle(-0.78, -0.78, 0.78, 0.78)],
    "cross": [_rectangle(-0.3, -1, 0.3, 1), _rectangle(-1, -0.3, 1, 0.3)],
    "star": [
        [
            (math.sin(k * math.pi / 5) * (1.0, 0.42)[k % 2], -math.cos(k * math.pi / 5) * (1.0, 0.42)[k % 2])
            for k in range(10)
        ]
    ],
    "triangle": [[(0, -1), (0.9, 0.75), (-0.9, 0.75)]],
    "diamond": [[(0, -1), (0.75, 0), (0, 1), (-0.75, 0)]],
    "hourglass": [[(-0.8, -0.9), (0.8, -0.9), (-0.8, 0.9), (0.8, 0.9)]],
    "bars": [_rectangle(left, -0.9, left + 0.36, 0.9) for left in (-0.9, -0.18, 0.54)],
    "tee": [_rectangle(-0.9, -0.9, 0.9, -0.35), _rectangle(-0.28, -0.9, 0.28, 0.9)],
    "ell": [_rectangle(-0.8, -0.9, -0.25, 0.9), _rectangle(-0.8, 0.35, 0.8, 0.9)],
}
