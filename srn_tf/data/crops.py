"""Which crops of the training images are drawn: SRN's by default. `augmentation.py` draws them."""

import dataclasses

from srn_tf.errors import InputError

_CORNERS = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))
_EDGES = ((0.5, 0.0), (0.5, 1.0), (1.0, 0.5), (0.0, 0.5))
_QUARTERS = ((0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75))
# (top, left) of a crop as a share of the free room. 5: SRN, section 3.4; 13: temporal segment networks (Wang et al.,
# ECCV 2016), from which ML-GCN and MSRN have theirs.
_PLACES = {5: (*_CORNERS, (0.5, 0.5)), 13: (*_CORNERS, (0.5, 0.5), *_EDGES, *_QUARTERS)}
PLACES = tuple(_PLACES)


@dataclasses.dataclass(frozen=True)
class Crops:
    """A crop's height and width are each drawn of a list, and its place of another.

    Attributes:
        scales: shares of the side of the image before cropping, in (0, 1]. SRN's are 256, 224, 192, 168 and 128 of 256.
        places: 5, the corners and the centre; 13, also the middles of the edges and of the quarters.
        max_distortion: how many steps height and width may lie apart in `scales`; None sets no limit (SRN's text), 1 is
            the limit of its source (temporal segment networks).
    Raises:
        InputError: a scale or a number of places that cannot be.
    """

    scales: tuple = (1.0, 0.875, 0.75, 0.65625, 0.5)
    places: int = 5
    max_distortion: int | None = None

    def __post_init__(self):
        if not self.scales or not all(0 < scale <= 1 for scale in self.scales):
            received = ",".join(f"{scale:g}" for scale in self.scales)
            raise InputError(f"crop_scales must be numbers above 0 and at most 1. Received: {received!r}.")
        if self.places not in _PLACES:
            raise InputError(f"crop_places must be one of {', '.join(map(str, PLACES))}. Received: {self.places}.")

    @property
    def pairs(self):
        """(height, width) that may be drawn, shares of the side."""
        reach = len(self.scales) if self.max_distortion is None else self.max_distortion
        steps = list(enumerate(self.scales))
        return tuple((height, width) for i, height in steps for j, width in steps if abs(i - j) <= reach)

    @property
    def positions(self):
        """(top, left) that may be drawn, shares of the free room."""
        return _PLACES[self.places]


MULTI_SCALE = Crops((1.0, 0.875, 0.75, 0.66, 0.5), 13, 2)
"""The multi-scale crop of ML-GCN and ADD-GCN, of an image resized to 512 for 448."""


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop:
    """A crop of random area and shape anywhere in the image.

    Source: Szegedy et al., "Going deeper with convolutions", CVPR 2015, section 6, as torchvision has it.

    Attributes:
        min_area: smallest area, a share of the image's, in (0, 1]. CSRA: 0.7; for ImageNet usually 0.08.
        max_ratio: largest ratio of width to height, and of height to width.
    """

    min_area: float = 0.7
    max_ratio: float = 4 / 3
