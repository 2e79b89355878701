"""Draws "scenes": small pictures whose labels are mostly decided by where things stand to each other.

A scene holds one to three *anchors* and a few *satellites* on a noisy background with clutter. An
anchor's label is its shape. A satellite's label is where it stands: a star close above any anchor is
"star_above", close below one "star_below", and beside one, or away from all of them, it is nothing.
Every object's place, size, angle and colour is drawn without a look at the labels, and the labels are
read off the finished layout.
"""

import dataclasses
import math

import numpy as np
from PIL import Image, ImageDraw

SCENE_PX = 56  # side of a scene
MAX_OBJECTS = 7
NEAR_PX = 3.0  # a satellite this far or nearer, edge to edge, stands at an anchor
FAR_PX = 6.5  # everything else is at least this far from an anchor

ANCHORS = ("disk", "square", "cross", "ring")


@dataclasses.dataclass(frozen=True)
class Satellite:
    """A shape, the axis along which its place counts (0: y, down; 1: x, right) and its two labels."""

    shape: str
    axis: int
    before: str  # label when it stands on the anchor's side of smaller coordinates
    after: str


SATELLITES = (
    Satellite("star", 0, "star_above", "star_below"),
    Satellite("moon", 0, "moon_above", "moon_below"),
    Satellite("hourglass", 0, "hourglass_above", "hourglass_below"),
    Satellite("triangle", 1, "triangle_left", "triangle_right"),
    Satellite("diamond", 1, "diamond_left", "diamond_right"),
    Satellite("tee", 1, "tee_left", "tee_right"),
)

APPEARANCE_LABELS = ANCHORS
POSITION_LABELS = tuple(label for satellite in SATELLITES for label in (satellite.before, satellite.after))
LABELS = APPEARANCE_LABELS + POSITION_LABELS

_NUM_ANCHORS = (0.35, 0.4, 0.25)  # probabilities of one, two and three anchors
_SATELLITE_PRESENT = 0.45
_SATELLITE_ALONE = 0.15  # share of satellites that stand at no anchor
_ON_OWN_AXIS = 0.7  # share of the others that stand where it counts
_RADIUS_PX = (3.8, 5.6)
_LARGEST_SLANT = 0.45  # of a satellite off its direction from the anchor, radians
_PLACE_ATTEMPTS = 30  # places tried for one object before the layout starts again
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
    carriers = {item.shape: item for item in objects if item.shape in ANCHORS}
    anchors = list(carriers.values())
    for satellite in SATELLITES:
        for item in (item for item in objects if item.shape == satellite.shape):
            for anchor in anchors:
                offset = (item.y - anchor.y, item.x - anchor.x)
                is_near = math.hypot(*offset) - item.radius - anchor.radius <= NEAR_PX
                if is_near and abs(offset[satellite.axis]) > abs(offset[1 - satellite.axis]):
                    carriers[satellite.before if offset[satellite.axis] < 0 else satellite.after] = item
    return carriers


def object_box(item):
    """The square around an object, as (ymin, xmin, ymax, xmax) in fractions of the image, inside [0, 1]."""
    corners = (item.y - item.radius, item.x - item.radius, item.y + item.radius, item.x + item.radius)
    return tuple(min(max(corner / SCENE_PX, 0.0), 1.0) for corner in corners)


def _choose_shapes(rng):
    """One to three different anchors and some of the satellites: names, anchors first, and how many are anchors."""
    while True:
        num_anchors = 1 + rng.choice(3, p=_NUM_ANCHORS)
        shapes = [ANCHORS[i] for i in rng.permutation(len(ANCHORS))[:num_anchors]]
        shapes += [satellite.shape for satellite in SATELLITES if rng.random() < _SATELLITE_PRESENT]
        if len(shapes) <= MAX_OBJECTS:
            return shapes, num_anchors


def _lay_out(rng, background):
    """Places the chosen shapes one by one; a layout that gets stuck starts again."""
    shapes, num_anchors = _choose_shapes(rng)
    centres = None
    while centres is None:
        radii = rng.uniform(*_RADIUS_PX, len(shapes))
        centres = _place(rng, shapes, radii, num_anchors)
    return [
        SceneObject(
            shapes[i],
            float(centres[i][0]),
            float(centres[i][1]),
            float(radii[i]),
            float(rng.uniform(-0.25, 0.25)),
            _contrasting_colour(rng, background),
        )
        for i in rng.permutation(len(shapes))
    ]


def _place(rng, shapes, radii, num_anchors):
    """Centres (y, x) of all shapes, or None if one finds no place."""
    axes = {satellite.shape: satellite.axis for satellite in SATELLITES}
    centres = []
    for index, shape in enumerate(shapes):
        for _ in range(_PLACE_ATTEMPTS):
            own = None  # the anchor this object stands at
            if index < num_anchors or rng.random() < _SATELLITE_ALONE:
                centre = rng.uniform(radii[index], SCENE_PX - radii[index], 2)
            else:
                own = int(rng.integers(num_anchors))
                distance = radii[index] + radii[own] + rng.uniform(0.3, NEAR_PX)
                centre = centres[own] + distance * _direction(rng, axes[shape])
            if _is_free(centre, index, own, centres, radii, num_anchors):
                centres.append(centre)
                break
        else:
            return None
    return centres


def _direction(rng, axis):
    """A unit vector (y, x) to one of four sides, more often along `axis`, a little slanted."""
    axis = axis if rng.random() < _ON_OWN_AXIS else 1 - axis
    slant = rng.uniform(-_LARGEST_SLANT, _LARGEST_SLANT)
    vector = np.empty(2)
    vector[axis] = (2 * rng.integers(2) - 1) * math.cos(slant)
    vector[1 - axis] = math.sin(slant)
    return vector


def _is_free(centre, index, own, centres, radii, num_anchors):
    """Inside the scene, overlapping nothing, and far from every anchor but its own."""
    if min(centre) < radii[index] or max(centre) > SCENE_PX - radii[index]:
        return False
    for other, other_centre in enumerate(centres):
        gap = math.hypot(*(centre - other_centre)) - radii[index] - radii[other]
        is_stranger = other != own and (other < num_anchors or index < num_anchors)
        if gap < (FAR_PX if is_stranger else 0.0):
            return False
    return True


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
    "tee": [_rectangle(-0.9, -0.9, 0.9, -0.35), _rectangle(-0.28, -0.9, 0.28, 0.9)],
}
